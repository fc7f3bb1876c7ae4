#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/names.h"
#include "cli/text.h"

namespace idunno::cli {

std::string eta_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "-";
  const auto s = static_cast<std::uint64_t>(std::llround(seconds));
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} m {} s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{} h {} m", s / 3600, s % 3600 / 60);
  return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
}

std::string bar_text(double fraction, std::size_t width) {
  if (width < 3) return "";
  const std::size_t inner = width - 2;
  const auto full = static_cast<std::size_t>(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(inner));
  std::string bar(full, '=');
  if (full < inner) bar += '>';
  bar.resize(inner, ' ');
  return "[" + bar + "]";
}

std::size_t terminal_width(int fd) {
  winsize size{};
  if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

namespace {

std::string amount(const ProgressState& state) {
  if (state.bytes) {
    return state.total == 0 ? format_size(state.done) : format_size(state.done) + " of " + format_size(state.total);
  }
  return state.total == 0 ? fmt::format("{} {}", state.done, state.unit)
                          : fmt::format("{}/{} {}", state.done, state.total, state.unit);
}

std::string rate_text(const ProgressState& state) {
  if (!(state.rate > 0)) return "";
  return state.bytes ? format_size(static_cast<std::uint64_t>(state.rate)) + "/s" : fmt::format("{:.1f}/s", state.rate);
}

}  // namespace

std::string progress_text(const ProgressState& state, std::size_t width) {
  const double fraction =
      state.total == 0 ? 0 : static_cast<double>(std::min(state.done, state.total)) / static_cast<double>(state.total);
  std::string tail;
  if (state.total > 0) tail += fmt::format("{:3.0f}%  ", std::floor(fraction * 100));
  tail += amount(state);
  const std::string rate = rate_text(state);
  if (!rate.empty()) tail += "  " + rate;
  if (state.total > 0 && state.done >= state.total) {
    tail += "  in " + eta_text(std::chrono::duration<double>(state.elapsed).count());
  } else if (state.total > 0 && state.rate > 0) {
    tail += "  ETA " + eta_text(static_cast<double>(state.total - state.done) / state.rate);
  }
  std::string line = state.what + "  ";
  static constexpr std::size_t kBarMin = 10;
  static constexpr std::size_t kBarMax = 30;
  const std::size_t used = display_width(line) + display_width(tail) + 2;
  if (state.total > 0 && width >= used + kBarMin) line += bar_text(fraction, std::min(width - used, kBarMax)) + "  ";
  line += tail;
  if (width > 0 && line.size() > width) line.resize(width);
  return line;
}

struct ProgressBar::Impl {
  static constexpr Duration kRedraw = std::chrono::milliseconds(100);
  static constexpr Duration kPlainLine = std::chrono::seconds(5);
  static constexpr Duration kRateWindow = std::chrono::seconds(5);
  static constexpr std::size_t kSamplesMax = 64;

  ProgressState state;
  bool quiet = false;
  bool terminal = false;
  bool ended = false;
  bool drawn = false;
  Time started;
  Time last_drawn;
  std::deque<std::pair<Time, std::uint64_t>> samples;

  void measure(Time now) {
    state.elapsed = now - started;
    while (samples.size() > 2 && (samples.size() >= kSamplesMax || now - samples[1].first > kRateWindow)) samples.pop_front();
    const double seconds = std::chrono::duration<double>(now - samples.front().first).count();
    if (seconds > 0.2 && state.done >= samples.front().second) {
      state.rate = static_cast<double>(state.done - samples.front().second) / seconds;
    }
    if (samples.size() < 2 || now - samples.back().first >= kRedraw) samples.emplace_back(now, state.done);
  }

  void draw(Time now) {
    last_drawn = now;
    drawn = true;
    std::string line = printable(progress_text(state, terminal ? terminal_width(STDERR_FILENO) - 1 : 0));
    line = terminal ? "\r" + line + "\x1b[K" : line + "\n";
    std::fputs(line.c_str(), stderr);
    std::fflush(stderr);
  }
};

ProgressBar::ProgressBar(const Globals& globals, std::string what, std::string unit, std::uint64_t total, bool bytes)
    : impl_(std::make_unique<Impl>()) {
  impl_->state.what = std::move(what);
  impl_->state.unit = std::move(unit);
  impl_->state.total = total;
  impl_->state.bytes = bytes;
  impl_->quiet = globals.quiet;
  impl_->terminal = stderr_is_terminal();
  impl_->started = monotonic_now();
  impl_->last_drawn = impl_->started;
  impl_->samples.emplace_back(impl_->started, 0);
}

ProgressBar::~ProgressBar() {
  if (!impl_->ended && impl_->drawn && impl_->terminal) std::fputs("\n", stderr);
}

void ProgressBar::update(std::uint64_t done) {
  if (impl_->quiet || impl_->ended) return;
  impl_->state.done = done;
  const Time now = monotonic_now();
  impl_->measure(now);
  if (now - impl_->last_drawn >= (impl_->terminal ? Impl::kRedraw : Impl::kPlainLine)) impl_->draw(now);
}

void ProgressBar::set_total(std::uint64_t total) { impl_->state.total = total; }

void ProgressBar::finish() {
  if (impl_->quiet || impl_->ended) return;
  impl_->ended = true;
  const Time now = monotonic_now();
  impl_->state.elapsed = now - impl_->started;
  // The last line tells the mean rate of the whole, which is what people compare.
  const double seconds = std::chrono::duration<double>(impl_->state.elapsed).count();
  impl_->state.rate = seconds > 0 ? static_cast<double>(impl_->state.done) / seconds : 0;
  // Something that was over at once needs no line in a log.
  if (impl_->terminal || impl_->drawn) impl_->draw(now);
  if (impl_->terminal) std::fputs("\n", stderr);
}

}  // namespace idunno::cli

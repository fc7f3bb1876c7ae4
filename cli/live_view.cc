#include "cli/live_view.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/names.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

constexpr std::size_t kEventsKept = 100;
constexpr std::size_t kEventsBeside = 10;  ///< shown below jobs and nodes
constexpr std::size_t kBarWidth = 20;

/// Splits a rendered table into lines.
void append_lines(std::vector<std::string>& lines, const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
}

std::string ms_text(const LatencySummary& latency, std::uint64_t us) {
  return latency.count == 0 ? "-" : fmt::format("{:.1f}", static_cast<double>(us) / 1000);
}

void append_jobs(std::vector<std::string>& lines, const JobReportsReply& stats) {
  const std::vector<Column> columns{{"", "JOB"},        {"", "NAME"},         {"", "STATE"},        {"", "PROGRESS"},
                                    {"", "DONE", true}, {"", "ERRORS", true}, {"", "RATE/s", true}, {"", "MEDIAN ms", true},
                                    {"", "P90", true},  {"", "P99", true},    {"", "NODES", true},  {"", "ETA", true}};
  // Running jobs first, then the newest of the others.
  std::vector<const JobReport*> jobs;
  for (const JobReport& job : stats.jobs) jobs.push_back(&job);
  std::stable_sort(jobs.begin(), jobs.end(), [](const JobReport* a, const JobReport* b) {
    if (is_over(a->state) != is_over(b->state)) return !is_over(a->state);
    return is_over(a->state) ? a->id > b->id : a->id < b->id;
  });
  static constexpr std::size_t kJobsMax = 20;
  if (jobs.size() > kJobsMax) jobs.resize(kJobsMax);
  std::vector<std::vector<Listing::Cell>> rows;
  for (const JobReport* job : jobs) {
    const double fraction = job->spec.queries == 0 ? 1 : static_cast<double>(job->done) / static_cast<double>(job->spec.queries);
    const LatencySummary& l = job->window_latency.count > 0 ? job->window_latency : job->latency;
    std::vector<Listing::Cell> row;
    for (const std::string& text : {to_string(job->id), job->spec.name, to_string(job->state),
                                    fmt::format("{} {:3.0f}%", bar_text(fraction, kBarWidth), fraction * 100),
                                    fmt::format("{}/{}", job->done, job->spec.queries), fmt::format("{}", job->errors),
                                    fmt::format("{:.1f}", from_milli(job->rate_milli_qps)), ms_text(l, l.median_us),
                                    ms_text(l, l.p90_us), ms_text(l, l.p99_us), fmt::format("{}", job->nodes.size()),
                                    is_over(job->state) ? std::string("-") : eta_text(eta_seconds(*job))}) {
      row.push_back({nullptr, text.empty() ? " " : text});
    }
    rows.push_back(std::move(row));
  }
  append_lines(lines, render_table(columns, rows));
  if (jobs.empty()) lines.emplace_back("no jobs yet");
  const std::string fairness = fairness_text(stats.fairness);
  if (!fairness.empty()) lines.push_back(fairness);
}

void append_nodes(std::vector<std::string>& lines, const std::vector<NodeReport>& nodes, NodeId coordinator) {
  const std::vector<Column> columns{{"", "NODE"},         {"", "STATE"},        {"", "RUNNING", true},
                                    {"", "LEASED", true}, {"", "BLOCKS", true}, {"", "STORED", true},
                                    {"", "FREE", true},   {"", "RSS", true},    {"", "SINCE"}};
  std::vector<std::vector<Listing::Cell>> rows;
  for (const NodeReport& node : nodes) {
    std::vector<Listing::Cell> row;
    for (const std::string& text :
         {to_string(node.id) + (node.id == coordinator ? " *" : ""), to_string(node.state),
          fmt::format("{}/{}", node.running, node.slots), fmt::format("{}", node.leased), fmt::format("{}", node.blocks),
          format_size(node.block_bytes), format_size(node.free_bytes), format_size(node.rss_bytes), rfc3339(node.since_ms)}) {
      row.push_back({nullptr, text.empty() ? "-" : text});
    }
    rows.push_back(std::move(row));
  }
  append_lines(lines, render_table(columns, rows));
}

void append_events(std::vector<std::string>& lines, const std::deque<Event>& events, std::size_t count) {
  count = std::min(count, events.size());
  for (auto at = events.end() - static_cast<std::ptrdiff_t>(count); at != events.end(); ++at) {
    const std::string time = rfc3339(at->at_ms);
    const std::string what = !at->job        ? ""
                             : at->batch < 0 ? to_string(at->job)
                                             : batch_name(at->job, static_cast<BatchIndex>(at->batch));
    static constexpr std::size_t kClock = 11;  // the day of an event is today's
    lines.push_back(fmt::format("{}  {:<4} {:<16} {:<8} {}", time.size() > kClock ? time.substr(kClock) : time,
                                to_string(at->node), at->type, what, at->text));
  }
}

/// Cuts to `width` columns without breaking a UTF-8 character.
std::string fit(const std::string& line, std::size_t width) {
  std::string out;
  std::size_t columns = 0;
  for (const char c : printable(line)) {
    if ((static_cast<unsigned char>(c) & 0xC0U) != 0x80U && ++columns > width) break;
    out += c;
  }
  return out;
}

}  // namespace

std::vector<std::string> live_screen(const std::string& what, const StatsNotice& stats, NodeId coordinator,
                                     const std::deque<Event>& events, std::size_t width, std::size_t height) {
  std::vector<std::string> lines;
  const std::string time = rfc3339(stats.at_ms);
  lines.push_back(fmt::format("idunno watch {}   {}   coordinator {}   Ctrl-C leaves; jobs go on", what,
                              time.empty() ? "waiting for the first numbers" : time,
                              coordinator ? to_string(coordinator) : "none"));
  lines.emplace_back();
  if (what == "all" || what == "jobs") {
    append_jobs(lines, stats.stats);
    lines.emplace_back();
  }
  if (what == "all" || what == "nodes") {
    append_nodes(lines, stats.nodes, coordinator);
    lines.emplace_back();
  }
  const std::size_t room = height > lines.size() ? height - lines.size() : 0;
  append_events(lines, events, what == "events" ? room : std::min(room, kEventsBeside));
  if (lines.size() > height) lines.resize(height);
  for (std::string& line : lines) line = fit(line, width);
  return lines;
}

LiveView::LiveView(std::string what, const StatusReply& status) : what_(std::move(what)), coordinator_(status.coordinator) {
  stats_.nodes = status.nodes;
  std::fputs("\x1b[?1049h\x1b[?25l", stdout);  // alternate screen, no cursor
}

LiveView::~LiveView() {
  std::fputs("\x1b[?25h\x1b[?1049l", stdout);
  std::fflush(stdout);
}

void LiveView::add(const Event& event) {
  events_.push_back(event);
  if (events_.size() > kEventsKept) events_.pop_front();
  if (event.type == "coordinator_changed") coordinator_ = event.node;
  changed_ = true;
}

void LiveView::add(const StatsNotice& notice) {
  stats_ = notice;
  for (const NodeReport& node : notice.nodes) {
    if (node.coordinator) coordinator_ = node.id;
  }
  changed_ = true;
}

void LiveView::draw() {
  if (!changed_) return;
  changed_ = false;
  winsize size{};
  const bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 && size.ws_col > 0;
  static constexpr std::size_t kRowsUnknown = 24;
  const auto lines =
      live_screen(what_, stats_, coordinator_, events_, terminal_width(STDOUT_FILENO), known ? size.ws_row : kRowsUnknown);
  std::string out = "\x1b[H";
  for (std::size_t i = 0; i < lines.size(); ++i) out += lines[i] + "\x1b[K" + (i + 1 < lines.size() ? "\r\n" : "");
  out += "\x1b[J";
  std::fwrite(out.data(), 1, out.size(), stdout);
  std::fflush(stdout);
}

}  // namespace idunno::cli

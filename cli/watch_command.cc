#include <fmt/core.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <map>
#include <optional>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/reports.h"
#include "cli/text.h"
#include "cli/watch_feed.h"
#include "cli/watch_frame.h"
#include "cli/watch_keys.h"
#include "cli/watch_terminal.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "watch";

struct Options {
  std::string what = "all";
  std::string duration;
};

bool ends(int signal) { return signal == SIGINT || signal == SIGTERM || signal == SIGHUP; }

/// The signals of a terminal as a descriptor for the loop. Made before any other thread runs.
class SignalFd {
 public:
  SignalFd() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP, SIGCONT}) sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~SignalFd() { close(fd_); }
  SignalFd(const SignalFd&) = delete;
  SignalFd& operator=(const SignalFd&) = delete;
  [[nodiscard]] int fd() const { return fd_; }
  /// 0 when there is none.
  [[nodiscard]] int next() const {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof info) == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  int fd_;
};

bool wanted(const std::string& what, const Event& event) {
  if (what == "jobs") return static_cast<bool>(event.job);
  if (what == "nodes") return !event.job;
  return true;
}

void print_line(const Json& object) {
  const std::string line = dump(object) + "\n";
  std::fwrite(line.data(), 1, line.size(), stdout);
  std::fflush(stdout);
}

/// One JSON object a line, until the deadline or a signal.
void stream(App& app, Session& session, const std::string& what, Time deadline, const SignalFd& signals) {
  NodeId coordinator;
  ClusterFeed::Hooks hooks;
  hooks.on_event = [&](const Event& event) {
    if (wanted(what, event)) print_line(event_json(event));
  };
  hooks.on_stats = [&](const StatsNotice& notice) {
    for (const NodeReport& node : notice.nodes) coordinator = node.coordinator ? node.id : coordinator;
    if (what != "events") print_line(stats_event_json(notice, coordinator));
  };
  auto feed = ClusterFeed::start(session, std::move(hooks));
  if (!feed) return app.fail(feed.error(), kDoing);
  bool leave = false;
  session.loop().add_fd(signals.fd(), [&] {
    for (int number = signals.next(); number != 0; number = signals.next()) leave = leave || ends(number);
  });
  (void)session.loop().run_until([&] { return leave || std::ferror(stdout) != 0; }, deadline);
  session.loop().remove_fd(signals.fd());
}

/// The full-screen view: what came is drawn at most this often, and so often even when nothing comes (times go on).
constexpr Duration kRedraw = std::chrono::milliseconds(100);
constexpr Duration kRedrawIdle = std::chrono::milliseconds(250);

class View {
 public:
  View(Session& session, Pane pane) : session_(session) { ui_.pane = pane; }

  Status run(Time deadline, const SignalFd& signals) {
    ClusterFeed::Hooks hooks;
    hooks.on_event = [this](const Event&) { changed_ = true; };
    hooks.on_stats = [this](const StatsNotice&) { changed_ = true; };
    hooks.on_status = [this] { changed_ = true; };
    auto feed = ClusterFeed::start(session_, std::move(hooks));
    if (!feed) return feed.error();
    FullScreen screen;
    EventLoop& loop = session_.loop();
    loop.add_fd(signals.fd(), [&] { take_signals(signals, screen); });
    if (screen.has_keys()) {
      loop.add_fd(STDIN_FILENO, [&] { type(screen); });
      listening_ = true;
    }
    Time drawn{};
    while (!leave_ && monotonic_now() < deadline) {
      const Time now = monotonic_now();
      if (typed_ || now - drawn >= (changed_ ? kRedraw : kRedrawIdle)) {
        leave_ = leave_ || !draw((*feed)->picture(), screen);
        drawn = now;
      }
      const Time next = std::min(deadline, drawn + (changed_ ? kRedraw : kRedrawIdle));
      (void)loop.run_until([this] { return leave_ || typed_; }, next);
    }
    stop_listening();
    loop.remove_fd(signals.fd());
    return {};
  }

 private:
  bool draw(const ClusterPicture& picture, FullScreen& screen) {
    const TerminalSize size = FullScreen::size();
    if (!ui_.paused || !frozen_) {
      frozen_ = ui_.paused ? std::optional<Frozen>({picture, monotonic_now(), wall_now_ms()}) : std::nullopt;
    }
    const ClusterPicture& shown = frozen_ ? frozen_->picture : picture;
    const Frame frame = render_frame({shown, ui_, frozen_ ? frozen_->now : monotonic_now(),
                                      frozen_ ? frozen_->wall : wall_now_ms(), size.width, size.height, screen.glyphs()});
    scroll_max_ = frame.scroll_max;
    page_ = frame.page;
    ui_.scroll = std::min(ui_.scroll, scroll_max_);
    changed_ = false;
    typed_ = false;
    return screen.show(frame.lines);
  }

  void take_signals(const SignalFd& signals, FullScreen& screen) {
    for (int number = signals.next(); number != 0; number = signals.next()) {
      if (ends(number)) leave_ = true;
      if (number == SIGTSTP) {
        screen.leave();
        (void)raise(SIGSTOP);  // and here it goes on
        screen.enter();
      }
      screen.forget();
      typed_ = true;
    }
  }

  void type(FullScreen& screen) {
    bool closed = false;
    for (const Key key : screen.read_keys(closed)) {
      if (key == Key::quit) leave_ = true;
      if (key == Key::redraw) screen.forget();
      press(key, ui_, scroll_max_, page_);
      typed_ = true;
    }
    if (closed) stop_listening();
  }

  void stop_listening() {
    if (listening_) session_.loop().remove_fd(STDIN_FILENO);
    listening_ = false;
  }

  struct Frozen {
    ClusterPicture picture;
    Time now;
    WallMs wall;
  };

  Session& session_;
  WatchUi ui_;
  std::optional<Frozen> frozen_;
  std::size_t scroll_max_ = 0;
  std::size_t page_ = 1;
  bool changed_ = true;
  bool typed_ = true;
  bool leave_ = false;
  bool listening_ = false;
};

void watch(App& app, const Options& options) {
  Time deadline = kNever;
  if (!options.duration.empty()) {
    auto duration = parse_duration(options.duration);
    if (!duration) return app.fail(duration.error(), "watch --for");
    deadline = monotonic_now() + *duration;
  }
  const SignalFd signals;
  Session* session = app.session();
  if (session == nullptr) return;
  if (!stdout_is_terminal() || app.globals.format != Format::table || !FullScreen::possible())
    return stream(app, *session, options.what, deadline, signals);
  static const std::map<std::string, Pane> kPaneOf{
      {"all", Pane::overview}, {"jobs", Pane::jobs}, {"nodes", Pane::nodes}, {"events", Pane::events}};
  View view(*session, kPaneOf.at(options.what));
  if (auto shown = view.run(deadline, signals); !shown) app.fail(shown.error(), kDoing);
}

}  // namespace

void add_watch_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("watch", "live view on a terminal; one JSON object a line when piped");
  command->add_option("what", options->what, "jobs, nodes, events or all (default all)")
      ->check(CLI::IsMember({"jobs", "nodes", "events", "all"}))
      ->type_name("WHAT");
  command->add_option("--for", options->duration, "leave after this time (default: at Ctrl-C)")->type_name("TIME");
  command->callback([&app, options] { watch(app, *options); });
  command->footer(
      "On a terminal: jobs with progress, rates and processing times, nodes with their load, fairness, events, in any size of "
      "window;\n"
      "keys: q leaves, tab and 1 to 4 change the view, arrows scroll, p pauses, ? explains. A change of coordinator is shown and "
      "survived.\nWhen piped, or with -o jsonl: one JSON object a line.\n\nExample:\n  idunno watch\n  idunno watch events | jq "
      "-c 'select(.type == \"node_dead\")'");
}

}  // namespace idunno::cli

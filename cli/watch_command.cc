#include <fmt/core.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <deque>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/live_view.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

struct Options {
  std::string what = "all";
  std::string duration;
};

/// SIGINT, SIGTERM and SIGWINCH as a descriptor for the loop. Made before any other thread runs.
class SignalFd {
 public:
  SignalFd() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGWINCH}) sigaddset(&set, number);
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

void watch(App& app, const Options& options) {
  static constexpr char kDoing[] = "watch";
  Time deadline = kNever;
  if (!options.duration.empty()) {
    auto duration = parse_duration(options.duration);
    if (!duration) return app.fail(duration.error(), "watch --for");
    deadline = monotonic_now() + *duration;
  }
  const SignalFd signals;
  Session* session = app.session();
  if (session == nullptr) return;
  // A publisher that is not there can not be told from one with nothing to say, so ask first.
  auto status = session->metadata().call_and_wait(StatusRequest{});
  if (!status) return app.fail(status.error(), kDoing);
  const NodeId coordinator = status->coordinator;

  std::unique_ptr<LiveView> view;
  if (stdout_is_terminal() && app.globals.format == Format::table) view = std::make_unique<LiveView>(options.what, *status);
  const auto on_notice = [&](const Envelope& envelope) {
    if (envelope.header.type == MessageType::event_notice) {
      auto notice = envelope.body<EventNotice>();
      if (!notice || !wanted(options.what, notice->event)) return;
      if (view) return view->add(notice->event);
      print_line(event_json(notice->event));
    } else if (envelope.header.type == MessageType::stats_notice) {
      auto notice = envelope.body<StatsNotice>();
      if (!notice) return;
      if (view) return view->add(*notice);
      if (options.what != "events") print_line(stats_event_json(*notice, coordinator));
    }
  };
  auto subscriber = Subscriber::create(session->loop(), session->zmq(), session->keys(), session->config().cluster_hash(),
                                       session->rpc().peers(), on_notice);
  if (!subscriber) return app.fail(subscriber.error(), kDoing);
  (*subscriber)->subscribe(kEventTopic);
  (*subscriber)->subscribe(kStatsTopic);

  bool leave = false;
  session->loop().add_fd(signals.fd(), [&] {
    for (int number = signals.next(); number != 0; number = signals.next()) {
      if (number != SIGWINCH) leave = true;
      if (view) view->resized();
    }
  });
  // Events can come by the thousand; a screen is drawn at most this often.
  static constexpr Duration kRedraw = std::chrono::milliseconds(100);
  while (!leave && monotonic_now() < deadline) {
    (void)session->loop().run_until([&] { return leave; }, std::min(deadline, view ? monotonic_now() + kRedraw : kNever));
    if (view) view->draw();
  }
  session->loop().remove_fd(signals.fd());
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
  command->footer("Example:\n  idunno watch\n  idunno watch events | jq -c 'select(.type == \"node_dead\")'");
}

}  // namespace idunno::cli

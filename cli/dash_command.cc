#include <fmt/core.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <future>
#include <map>
#include <thread>

#include "bus/clock.h"
#include "bus/names.h"
#include "bus/security.h"
#include "cli/dash_history.h"
#include "cli/dash_server.h"
#include "cli/jobs.h"
#include "cli/names.h"
#include "cli/roles.h"
#include "cli/text.h"
#include "cli/watch_feed.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "dash";
constexpr Duration kNews = std::chrono::milliseconds(250);  ///< events and batches are told at most this often
constexpr std::size_t kWorkMax = 16;                        ///< requests of pages that wait for the cluster
constexpr Duration kPatience = std::chrono::seconds(60);    ///< of a page for its answer

struct Options {
  std::uint16_t port = 8080;
  std::string listen = "127.0.0.1";
  bool no_open = false;
  bool read_only = false;
  bool remote_actions = false;
};

class SignalFd {
 public:
  SignalFd() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    (void)std::signal(SIGPIPE, SIG_IGN);  // a browser that has gone is found by the write that fails
  }
  ~SignalFd() { close(fd_); }
  SignalFd(const SignalFd&) = delete;
  SignalFd& operator=(const SignalFd&) = delete;
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
};

std::string text_of(const Json& request, const char* name, const std::string& otherwise = "") {
  const auto found = request.find(name);
  if (found == request.end() || found->is_null()) return otherwise;
  if (found->is_string()) return found->get<std::string>().empty() ? otherwise : found->get<std::string>();
  return found->is_number() ? dump(*found) : otherwise;
}

Result<Json> submit(Session& session, const Json& request) {
  SubmitOptions options;
  options.model = text_of(request, "model");
  options.data = text_of(request, "data");
  options.batch = text_of(request, "batch", "1");
  options.weight = text_of(request, "weight", "1");
  options.rate = text_of(request, "rate");
  options.name = text_of(request, "name");
  options.id = text_of(request, "id");
  auto repeat = parse_repeat(text_of(request, "repeat", "1"));
  if (!repeat) return repeat.error();
  options.repeat = *repeat;
  const std::string priority = text_of(request, "priority", "0");
  char* end = nullptr;
  const long value = std::strtol(priority.c_str(), &end, 10);
  if (*end != '\0' || value < -1000000 || value > 1000000)
    return Error{Errc::invalid, fmt::format("priority {}: a whole number is wanted", priority)};
  options.priority = static_cast<std::int32_t>(value);
  if (options.model.empty()) return Error{Errc::invalid, "no model is named"};
  auto job = submit_job(session, options);
  if (!job) return job.error();
  return Json{{"id", to_string(*job)}};
}

Result<Json> control(Session& session, const Json& request) {
  static const std::map<std::string, JobAction> kActions{
      {"stop", JobAction::stop}, {"pause", JobAction::pause}, {"resume", JobAction::resume}};
  const auto action = kActions.find(text_of(request, "action"));
  const std::string job = text_of(request, "job");
  if (action == kActions.end()) return Error{Errc::invalid, "stop, pause or resume is wanted"};
  auto id = match_job(job, {});
  if (!id) return id.error();
  auto reply = session.metadata().call_and_wait(JobControlRequest{*id, action->second});
  if (!reply) return reply.error();
  return Json{{"id", to_string(*id)}, {"state", to_string(reply->state)}};
}

Result<Json> choices(Session& session) {
  auto models = session.metadata().call_and_wait(ModelListRequest{});
  if (!models) return models.error();
  Json out = Json::object();
  out["models"] = Json::array();
  for (const ModelVersion& model : models->models) out["models"].push_back(model.name);
  out["data"] = Json::array();
  FsListRequest request;
  request.path = "/";
  auto listed = session.metadata().call_and_wait(request);
  if (!listed) return out;  // nothing stored yet
  for (const std::string& folder : listed->folders) {
    if (folder != "/jobs" && folder != "/models") out["data"].push_back(folder);  // the cluster's own
  }
  for (const FileVersion& file : listed->files) out["data"].push_back(file.path);
  return out;
}

void open_browser(const std::string& url) {
  if (std::getenv("DISPLAY") == nullptr && std::getenv("WAYLAND_DISPLAY") == nullptr) return;
  std::string program = "xdg-open";
  std::string argument = url;
  char* arguments[] = {program.data(), argument.data(), nullptr};
  pid_t child = 0;
  (void)posix_spawnp(&child, program.c_str(), nullptr, nullptr, arguments, environ);
}

/// The session's thread: feeds the pages, and does what they ask for, one after another.
class Dash {
 public:
  Dash(Session& session, const Options& options) : session_(session), options_(options) {
    const bool near = is_loopback(options.listen);
    actions_ = role_allows(session.keys().role, Role::submit) && !options.read_only && (near || options.remote_actions);
  }

  Status run(App& app, const SignalFd& signals);

 private:
  struct Work {
    std::function<Result<Json>()> what;
    std::promise<Result<Json>> answer;
  };

  /// From a thread of the server: waits until the session's thread has done it.
  Result<Json> in_session(std::function<Result<Json>()> what);
  std::shared_ptr<DashHub::Client> join();
  DashServer::Backend backend();
  void on_stats();
  void tell_news();
  Json page_rights() const;

  Session& session_;
  const Options& options_;
  bool actions_ = false;
  DashHub hub_;
  DashHistory history_;
  std::unique_ptr<ClusterFeed> feed_;
  std::deque<std::shared_ptr<Work>> work_;
  bool leave_ = false;
};

Result<Json> Dash::in_session(std::function<Result<Json>()> what) {
  auto work = std::make_shared<Work>();
  work->what = std::move(what);
  auto answer = work->answer.get_future();
  session_.loop().post([this, work] {
    if (leave_ || work_.size() >= kWorkMax) {
      work->answer.set_value(Error{Errc::unavailable, "too many requests wait already; try again"});
    } else {
      work_.push_back(work);
    }
  });
  if (answer.wait_for(kPatience) != std::future_status::ready)
    return Error{Errc::timeout, "the cluster has not answered in time"};
  return answer.get();
}

Json Dash::page_rights() const {
  Json out = Json::object();
  out["key"] = session_.keys().name;
  out["role"] = to_string(session_.keys().role);
  out["actions"] = actions_;
  return out;
}

/// In the session's thread, so that nothing is told between the history and the first news.
std::shared_ptr<DashHub::Client> Dash::join() {
  auto joined = std::make_shared<std::promise<std::shared_ptr<DashHub::Client>>>();
  auto answer = joined->get_future();
  session_.loop().post([this, joined] {
    if (leave_) return joined->set_value(nullptr);
    Json first = history_.whole(feed_->picture(), monotonic_now(), wall_now_ms());
    first["rights"] = page_rights();
    joined->set_value(hub_.join("retry: 1000\n" + sse_message("whole", dump(first))));
  });
  return answer.wait_for(kPatience) == std::future_status::ready ? answer.get() : nullptr;
}

DashServer::Backend Dash::backend() {
  DashServer::Backend out;
  out.join = [this] { return join(); };
  out.act = [this](const std::string& action, const Json& request) {
    return in_session(
        [this, action, request] { return action == "submit" ? submit(session_, request) : control(session_, request); });
  };
  out.choices = [this] { return in_session([this] { return choices(session_); }); };
  return out;
}

void Dash::on_stats() {
  const WallMs wall = wall_now_ms();
  for (const BatchSpan& span : feed_->picture().take_spans()) history_.add(span);
  history_.sample(feed_->picture(), wall);
  hub_.publish(sse_message("tick", dump(history_.tick(feed_->picture(), monotonic_now(), wall))));
}

void Dash::tell_news() {
  for (const BatchSpan& span : feed_->picture().take_spans()) history_.add(span);
  const Json news = history_.take_news(feed_->picture(), monotonic_now());
  if (!news.is_null()) hub_.publish(sse_message("news", dump(news)));
}

Status Dash::run(App& app, const SignalFd& signals) {
  ClusterFeed::Hooks hooks;
  hooks.on_event = [this](const Event& event) { history_.add(event); };
  hooks.on_stats = [this](const StatsNotice&) { on_stats(); };
  auto feed = ClusterFeed::start(session_, std::move(hooks));
  if (!feed) return feed.error();
  feed_ = std::move(*feed);
  auto server = DashServer::start({options_.listen, options_.port, actions_}, hub_, backend());
  if (!server) return server.error();
  const std::string url = (*server)->url();
  if (app.globals.format == Format::table) {
    fmt::print("{}\n", url);
  } else {
    print_object(app.globals, "idunno.dash.v1", Json{{"url", url}, {"port", (*server)->port()}, {"actions", actions_}});
  }
  std::fflush(stdout);
  app.note(actions_
               ? fmt::format("jobs can be submitted and stopped there with the key '{}'; Ctrl-C ends the dashboard, jobs go on",
                             session_.keys().name)
               : "it shows and changes nothing; Ctrl-C ends the dashboard, jobs go on");
  if (!options_.no_open && stdout_is_terminal()) open_browser(url);

  EventLoop& loop = session_.loop();
  loop.add_fd(signals.fd(), [this, &signals] {
    signalfd_siginfo info{};
    while (read(signals.fd(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) leave_ = true;
  });
  Time news_due = monotonic_now();
  while (!leave_) {
    const Time now = monotonic_now();
    if (now >= news_due) {
      tell_news();
      news_due = now + kNews;
    }
    (void)loop.run_until([this] { return leave_ || !work_.empty(); }, news_due);
    if (work_.empty()) continue;
    // Here and not in the loop's own call: it runs the loop again while it waits for the cluster.
    const std::shared_ptr<Work> work = work_.front();
    work_.pop_front();
    work->answer.set_value(work->what());
  }
  loop.remove_fd(signals.fd());
  for (const auto& work : work_) work->answer.set_value(Error{Errc::unavailable, "the dashboard is being ended"});
  work_.clear();
  // Its threads may wait for something posted to the loop: it goes on until they have ended.
  std::atomic<bool> ended = false;
  std::thread ending([&] {
    server->reset();
    ended = true;
    loop.post([] {});
  });
  (void)loop.run_until([&] { return ended.load(); }, kNever);
  ending.join();
  return {};
}

void dash(App& app, const Options& options) {
  const SignalFd signals;  // before there are other threads
  Session* session = app.session();
  if (session == nullptr) return;
  Dash dash(*session, options);
  if (auto ran = dash.run(app, signals); !ran) app.fail(ran.error(), kDoing);
}

}  // namespace

void add_dash_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("dash", "web dashboard of the cluster, served on this machine; prints its address");
  command->add_option("--port", options->port, "TCP port; 0 takes any free one (default 8080)")->type_name("PORT");
  command->add_option("--listen", options->listen, "address to listen on (default 127.0.0.1: this machine only)")
      ->type_name("ADDR");
  command->add_flag("--no-open", options->no_open, "do not open a browser");
  command->add_flag("--read-only", options->read_only, "show only, whatever the key may do");
  command->add_flag("--allow-remote-actions", options->remote_actions,
                    "with --listen: everybody who reaches the port may submit and stop jobs with this key");
  command->callback([&app, options] { dash(app, *options); });
  command->footer(
      "The page is pushed by the dashboard (server-sent events) and follows a change of coordinator. Everything it needs is "
      "inside this\n"
      "program; it asks no other address. Jobs can be submitted, paused and stopped when --key has the role submit or admin; "
      "the\n"
      "cluster's nodes check every request. Other web sites cannot use it: requests that change something need a random token "
      "that\n"
      "only the page has, and the right Host and Origin. Traffic is not encrypted: for another machine use\n"
      "`ssh -L 8080:127.0.0.1:8080` rather than --listen; with --listen on another address than loopback the page only shows, "
      "unless\n"
      "--allow-remote-actions.\n\nExample:\n  idunno dash --port 8080");
}

}  // namespace idunno::cli

#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "cli/local_cluster.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

/// The one temporary cluster there is, for the thread that waits for signals.
std::mutex current_mutex;
const LocalCluster* current_cluster = nullptr;

constexpr Duration kGrace = std::chrono::seconds(5);

void discard(const LocalCluster& cluster) {
  (void)cluster.stop(kGrace);
  (void)cluster.purge();
}

}  // namespace

void clean_up_when_interrupted() {
  static bool started = false;
  if (started) return;
  started = true;
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) sigaddset(&set, number);
  // Threads made from here on inherit the mask, so only this one sees the signals.
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  std::thread([set] {
    int number = 0;
    while (sigwait(&set, &number) != 0) {
    }
    const std::lock_guard lock(current_mutex);
    if (current_cluster != nullptr) discard(*current_cluster);
    std::_Exit(128 + number);
  }).detach();
}

Result<std::unique_ptr<TemporaryCluster>> TemporaryCluster::up(const LocalCluster::Options& options, Duration limit) {
  clean_up_when_interrupted();
  std::error_code error;
  std::string name = (fs::temp_directory_path(error) / "idunno-bench-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) {
    return Error{Errc::internal, fmt::format("making a temporary folder {}: {}", name, std::strerror(errno))};
  }
  std::unique_ptr<TemporaryCluster> temporary(new TemporaryCluster());
  temporary->folder_ = name;
  auto made = LocalCluster::make(name, options);
  if (!made) {
    fs::remove_all(name, error);
    return made.error();
  }
  temporary->cluster_ = std::make_unique<LocalCluster>(std::move(made).value());
  {
    const std::lock_guard lock(current_mutex);
    current_cluster = temporary->cluster_.get();
  }
  std::map<NodeId, pid_t> started;
  for (const NodeConfig& node : temporary->cluster_->config().nodes) {
    auto pid = temporary->cluster_->start(node.id);
    if (!pid) return pid.error();
    started[node.id] = *pid;
  }
  temporary->globals_.dir = name;
  temporary->globals_.config = temporary->cluster_->config().file;
  temporary->globals_.timeout = limit;
  temporary->globals_.quiet = true;
  auto session = Session::open(temporary->globals_);
  if (!session) return session.error();
  temporary->session_ = std::move(session).value();
  auto status = wait_until_up(*temporary->cluster_, *temporary->session_, started, limit);
  if (!status) return status.error();
  return temporary;
}

TemporaryCluster::~TemporaryCluster() {
  session_.reset();
  const std::lock_guard lock(current_mutex);
  if (cluster_) discard(*cluster_);
  current_cluster = nullptr;
}

}  // namespace idunno::cli

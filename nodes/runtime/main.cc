// idunnod: one node of an IDunno cluster.

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "bus/clock.h"
#include "nodes/runtime/logging.h"
#include "nodes/runtime/node_shell.h"

namespace idunno {
namespace {

constexpr rlim_t kOpenFiles = 65536;

int refuse(const Error& error) {
  fmt::print(stderr, "idunnod: {}\n", error.detail);
  return error.code == Errc::invalid || error.code == Errc::not_found ? 2 : 1;
}

void block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) sigdelset(&all, signal);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void set_limits() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = std::min<rlim_t>(kOpenFiles, files.rlim_max);
    setrlimit(RLIMIT_NOFILE, &files);
  }
  // The kernel should kill executors before the node that holds data; only a privileged process may ask for that.
  std::ofstream("/proc/self/oom_score_adj") << "-500";
}

/// Held as long as the process lives: two nodes must never share a folder.
Status lock_folder(const std::filesystem::path& data_dir) {
  std::error_code error;
  std::filesystem::create_directories(data_dir, error);
  if (error) return Error{Errc::internal, fmt::format("making the data folder {}: {}", data_dir.string(), error.message())};
  const auto file = data_dir / "lock";
  const int descriptor = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (descriptor < 0) return Error{Errc::internal, fmt::format("opening {}: {}", file.string(), strerror(errno))};
  if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    close(descriptor);
    return Error{Errc::conflict, fmt::format("{} is in use: another idunnod runs on this folder", data_dir.string())};
  }
  return {};
}

int run(const std::filesystem::path& config_file, std::uint32_t node) {
  auto config = ClusterConfig::load(config_file);
  if (!config) return refuse(config.error());
  const NodeConfig* self = config->node(NodeId{node});
  if (self == nullptr)
    return refuse({Errc::not_found, fmt::format("n{} is not in {}; add it there as a [[node]]", node, config_file.string())});
  const auto data_dir = self->data_dir;
  if (Status locked = lock_folder(data_dir); !locked) return refuse(locked.error());
  const Tuning& tuning = config->tuning;
  LogFiles::Options log{data_dir / "log", tuning.log_file_bytes, tuning.log_file_age, tuning.log_files, wall_now_ms};
  if (Status opened = open_log(self->id, std::move(log)); !opened) return refuse(opened.error());
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "idunno-executor";
  auto shell = NodeShell::create(std::move(*config), NodeId{node}, program);
  if (!shell) {
    spdlog::critical("cannot start: {}", shell.error().detail);
    return refuse(shell.error());
  }
  std::ofstream(data_dir / "idunnod.pid") << getpid() << '\n';
  const int exit_code = (*shell)->run();
  std::filesystem::remove(data_dir / "idunnod.pid", error);
  spdlog::info("stopped");
  shell->reset();
  spdlog::shutdown();
  return exit_code;
}

}  // namespace
}  // namespace idunno

int main(int argc, char** argv) {
  CLI::App app{
      "idunnod - a node of an IDunno cluster: stores blocks, runs batches; one of the first nine nodes coordinates.\n"
      "Usually started by `idunno up` or a service manager."};
  std::string config_file;
  std::uint32_t node = 0;
  app.add_option("--config", config_file, "the cluster's configuration, the same file on all machines")->required();
  app.add_option("--node", node, "number of this node in the configuration: 3 for n3")->required();
  app.set_version_flag("--version", IDUNNO_VERSION);
  app.footer("Example:\n  idunnod --config lab-10.toml --node 3");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  idunno::block_signals();
  idunno::set_limits();
  return idunno::run(config_file, node);
}

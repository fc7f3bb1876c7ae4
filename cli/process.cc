#include "cli/process.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>

#include "bus/clock.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX asks programs to declare it

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

std::string read_small(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string text;
  char buffer[4096];
  static constexpr std::size_t kBytesMax = 64U << 10U;
  while (text.size() < kBytesMax && (in.read(buffer, sizeof buffer), in.gcount() > 0)) {
    text.append(buffer, static_cast<std::size_t>(in.gcount()));
  }
  return text;
}

/// Fields of /proc/<pid>/stat after the program's name: state, parent.
bool stat_of(pid_t pid, char& state, pid_t& parent) {
  const std::string text = read_small(fmt::format("/proc/{}/stat", pid));
  const auto end = text.rfind(')');
  if (end == std::string::npos || end + 4 > text.size()) return false;
  state = text[end + 2];
  parent = static_cast<pid_t>(std::atol(text.c_str() + end + 4));
  return true;
}

bool running(pid_t pid) {
  char state = 'X';
  pid_t parent = 0;
  return stat_of(pid, state, parent) && state != 'Z' && state != 'X';
}

std::string end_text(int status) {
  if (WIFEXITED(status)) return fmt::format("exit code {}", WEXITSTATUS(status));
  return fmt::format("killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));  // NOLINT: posix_spawn does not write
  out.push_back(nullptr);
  return out;
}

/// A child gets the signal settings of a fresh process and none of our descriptors.
class SpawnSetup {
 public:
  explicit SpawnSetup(short more_flags) {
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, static_cast<short>(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | more_flags));
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  }
  ~SpawnSetup() {
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
  }
  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  posix_spawn_file_actions_t actions{};
  posix_spawnattr_t attributes{};
};

}  // namespace

std::vector<std::string> command_line(pid_t pid) {
  std::vector<std::string> arguments;
  if (pid <= 0 || !running(pid)) return arguments;
  const std::string text = read_small(fmt::format("/proc/{}/cmdline", pid));
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\0', at), text.size());
    arguments.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return arguments;
}

pid_t read_pid_file(const fs::path& file) {
  const long pid = std::atol(read_small(file).c_str());
  return pid > 0 && pid < (1L << 30) ? static_cast<pid_t>(pid) : 0;
}

std::vector<pid_t> children_of(pid_t parent, const std::string& program) {
  std::vector<pid_t> found;
  std::error_code error;
  for (fs::directory_iterator it("/proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto pid = static_cast<pid_t>(std::atol(name.c_str()));
    char state = 'X';
    pid_t its_parent = 0;
    if (!stat_of(pid, state, its_parent) || its_parent != parent) continue;
    const auto arguments = command_line(pid);
    if (!arguments.empty() && fs::path(arguments.front()).filename() == program) found.push_back(pid);
  }
  return found;
}

bool is_node_process(const std::vector<std::string>& arguments, const fs::path& config, std::uint32_t node) {
  if (arguments.empty() || fs::path(arguments.front()).filename() != "idunnod") return false;
  bool same_config = false;
  bool same_node = false;
  for (std::size_t i = 1; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == "--config") same_config = fs::path(arguments[i + 1]).lexically_normal() == config.lexically_normal();
    if (arguments[i] == "--node")
      same_node = arguments[i + 1] == std::to_string(node) || arguments[i + 1] == "n" + std::to_string(node);
  }
  return same_config && same_node;
}

Result<fs::path> program_beside_us(const std::string& name) {
  std::error_code error;
  const fs::path self = fs::read_symlink("/proc/self/exe", error);
  if (error) return Error{Errc::internal, "reading /proc/self/exe: " + error.message()};
  const fs::path program = self.parent_path() / name;
  if (access(program.c_str(), X_OK) != 0) {
    return Error{Errc::not_found, fmt::format("the program {} is not there ({}); it belongs beside {}", program.string(),
                                              std::strerror(errno), self.string())};
  }
  return program;
}

Result<pid_t> spawn_detached(const std::vector<std::string>& arguments, const fs::path& output) {
  SpawnSetup setup(POSIX_SPAWN_SETSID);
  posix_spawn_file_actions_addopen(&setup.actions, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&setup.actions, STDOUT_FILENO, STDERR_FILENO);
  posix_spawn_file_actions_addclosefrom_np(&setup.actions, STDERR_FILENO + 1);
  auto argv = pointers(arguments);
  pid_t pid = 0;
  if (const int error = posix_spawn(&pid, arguments.front().c_str(), &setup.actions, &setup.attributes, argv.data(), environ);
      error != 0) {
    return Error{Errc::internal, fmt::format("starting {}: {}", arguments.front(), std::strerror(error))};
  }
  return pid;
}

std::string Finished::text() const {
  return signal != 0 ? fmt::format("killed by signal {} ({})", signal, strsignal(signal))
                     : fmt::format("exit code {}", exit_code);
}

Result<std::vector<Finished>> run_together(const std::vector<std::vector<std::string>>& commands,
                                           const std::vector<std::string>& environment) {
  std::vector<std::string> variables = environment;
  for (char** at = environ; *at != nullptr; ++at) variables.emplace_back(*at);
  auto envp = pointers(variables);
  std::vector<pid_t> pids;
  std::vector<int> pipes;
  Status failed;
  for (const auto& command : commands) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
      failed = Error{Errc::internal, fmt::format("making a pipe: {}", std::strerror(errno))};
      break;
    }
    SpawnSetup setup(0);
    posix_spawn_file_actions_adddup2(&setup.actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&setup.actions, STDERR_FILENO + 1);
    auto argv = pointers(command);
    pid_t pid = 0;
    const int error = posix_spawn(&pid, command.front().c_str(), &setup.actions, &setup.attributes, argv.data(), envp.data());
    close(ends[1]);
    pipes.push_back(ends[0]);
    if (error != 0) {
      failed = Error{Errc::internal, fmt::format("starting {}: {}", command.front(), std::strerror(error))};
      break;
    }
    pids.push_back(pid);
  }
  std::vector<Finished> finished(pids.size());
  // Programs measured here print a line or two at their end, so reading them one after the other cannot hold one up.
  for (std::size_t i = 0; i < pids.size(); ++i) {
    char buffer[4096];
    for (ssize_t n = 0; (n = read(pipes[i], buffer, sizeof buffer)) > 0 || (n < 0 && errno == EINTR);) {
      if (n > 0) finished[i].out.append(buffer, static_cast<std::size_t>(n));
    }
    int status = 0;
    while (waitpid(pids[i], &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(status)) finished[i].exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) finished[i].signal = WTERMSIG(status);
  }
  for (const int end : pipes) close(end);
  if (!failed) return failed.error();
  return finished;
}

std::string child_end(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, WNOHANG) != pid) return "";
  return end_text(status);
}

bool wait_gone(const std::vector<pid_t>& pids, Duration limit) {
  const Time deadline = monotonic_now() + limit;
  for (const pid_t pid : pids) {
    // A child of ours must be reaped; for all others the pidfd becomes readable at the end.
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0U));
    while (running(pid)) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - monotonic_now());
      if (left.count() <= 0) {
        if (fd >= 0) close(fd);
        return false;
      }
      pollfd wait{fd, POLLIN, 0};
      static constexpr int kWithoutPidfdMs = 20;
      (void)poll(&wait, fd >= 0 ? 1U : 0U, fd >= 0 ? static_cast<int>(left.count()) : kWithoutPidfdMs);
      (void)child_end(pid);
    }
    if (fd >= 0) close(fd);
    (void)child_end(pid);
  }
  return true;
}

std::vector<std::string> tail_of(const fs::path& file, std::size_t lines) {
  static constexpr std::streamoff kBytes = 16 << 10;
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  const std::streamoff size = in ? static_cast<std::streamoff>(in.tellg()) : 0;
  const std::streamoff from = std::max<std::streamoff>(0, size - kBytes);
  in.seekg(from);
  std::vector<std::string> found;
  std::string line;
  while (std::getline(in, line)) found.push_back(line);
  if (from > 0 && !found.empty()) found.erase(found.begin());
  if (found.size() > lines) found.erase(found.begin(), found.end() - static_cast<std::ptrdiff_t>(lines));
  return found;
}

}  // namespace idunno::cli

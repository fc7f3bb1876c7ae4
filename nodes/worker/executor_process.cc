#include "nodes/worker/executor_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <string_view>
#include <thread>
#include <vector>

#include "nodes/worker/executor_channel.h"
#include "nodes/worker/executor_environment.h"

namespace idunno {
namespace {

constexpr std::uintmax_t kLogBytesMax = 1U << 20U;
constexpr int kSocketBufferBytes = 1 << 20;
constexpr int kLowestFd = 10;  // keeps our ends clear of the numbers 0..3 that the child's descriptors get

/// Ours, with the settings of kExecutorEnvironment instead of what stands there.
std::vector<std::string> child_environment() {
  std::vector<std::string> variables;
  for (const auto& [name, value] : kExecutorEnvironment) variables.push_back(fmt::format("{}={}", name, value));
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text(*variable);
    bool replaced = false;
    for (const auto& [name, value] : kExecutorEnvironment) {
      const std::string_view key(name);
      replaced |= text.size() > key.size() && text[key.size()] == '=' && text.substr(0, key.size()) == key;
    }
    if (!replaced) variables.emplace_back(text);
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> out;
  out.reserve(strings.size() + 1);
  for (std::string& text : strings) out.push_back(text.data());
  out.push_back(nullptr);
  return out;
}

/// posix_spawn's two objects, released in every case.
struct SpawnPlan {
  SpawnPlan() {
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
  }
  ~SpawnPlan() {
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
  }
  SpawnPlan(const SpawnPlan&) = delete;
  SpawnPlan& operator=(const SpawnPlan&) = delete;

  /// stdin from nowhere, stdout and stderr to the log, the socket as 3, nothing else.
  void set_files(const std::string& log_file, int socket) {
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDERR_FILENO, log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, socket, kExecutorFd);
    posix_spawn_file_actions_addclosefrom_np(&files, kExecutorFd + 1);
  }

  /// Our threads block signals; the child starts with none blocked and all at their defaults. A session of its own keeps Ctrl-C
  /// at a terminal from ending executors under a node that still needs them; and where the kernel shares the processors between
  /// sessions (autogroup), the node's own threads need not wait behind the computing of their executors.
  void set_signals() {
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
  }

  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};
};

/// A socket pair out of the way of low numbers; both close on exec.
bool make_sockets(int (&ends)[2]) {
  int made[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, made) != 0) return false;
  for (int i = 0; i < 2; ++i) {
    ends[i] = fcntl(made[i], F_DUPFD_CLOEXEC, kLowestFd);
    close(made[i]);
    // Larger buffers let requests be written ahead; without permission for them the default works too.
    if (ends[i] >= 0) setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &kSocketBufferBytes, sizeof(kSocketBufferBytes));
  }
  if (ends[0] >= 0 && ends[1] >= 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0) return true;
  for (const int end : ends) {
    if (end >= 0) close(end);
  }
  return false;
}

/// The kernel shares processors between sessions first: nice values of processes count only inside one.
bool shares_by_session() {
  static const bool shares = [] {
    char enabled = '0';
    const int file = open("/proc/sys/kernel/sched_autogroup_enabled", O_RDONLY | O_CLOEXEC);
    if (file < 0) return false;
    const bool known = read(file, &enabled, 1) == 1;
    close(file);
    return known && enabled == '1';
  }();
  return shares;
}

std::string describe(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("ended with status {}", WEXITSTATUS(status));
}

}  // namespace

Result<std::unique_ptr<ExecutorProcess>> ExecutorProcess::start(const Options& options) {
  std::error_code ignored;
  if (std::filesystem::file_size(options.log_file, ignored) > kLogBytesMax && !ignored) {
    std::filesystem::resize_file(options.log_file, 0, ignored);
  }
  int ends[2];
  if (!make_sockets(ends))
    return Error{Errc::internal, fmt::format("cannot make a socket pair for an executor: {}", std::strerror(errno))};

  SpawnPlan plan;
  plan.set_files(options.log_file.string(), ends[1]);
  plan.set_signals();
  std::vector<std::string> arguments{
      options.program.string(),   "serve", "--memory", fmt::format("{}", options.memory_bytes), "--parent",
      fmt::format("{}", getpid())};
  std::vector<std::string> environment = child_environment();
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, options.program.c_str(), &plan.files, &plan.attributes, pointers(arguments).data(),
                                 pointers(environment).data());
  close(ends[1]);
  if (failed != 0) {
    close(ends[0]);
    return Error{Errc::unavailable, fmt::format("cannot start the executor {} (log {}): {}", options.program.string(),
                                                options.log_file.string(), std::strerror(failed))};
  }
  return std::unique_ptr<ExecutorProcess>(new ExecutorProcess(pid, ends[0]));
}

ExecutorProcess::~ExecutorProcess() { end(Duration::zero()); }

std::uint64_t ExecutorProcess::cpu_us() const {
  clockid_t clock{};
  timespec time{};
  if (pid_ <= 0 || clock_getcpuclockid(pid_, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 + static_cast<std::uint64_t>(time.tv_nsec) / 1000;
}

void ExecutorProcess::set_nice(int nice) {
  if (pid_ <= 0) return;
  const auto who = static_cast<id_t>(pid_);
  if (renice_ != Renice::forbidden) setpriority(PRIO_PROCESS, who, nice);
  if (renice_ == Renice::unknown) {
    // Nicer is always allowed; a step back tells whether that is, too.
    const bool allowed = setpriority(PRIO_PROCESS, who, nice - 1) == 0 && setpriority(PRIO_PROCESS, who, nice) == 0;
    renice_ = allowed ? Renice::allowed : Renice::forbidden;
  }
  const std::string session = fmt::format("/proc/{}/autogroup", pid_);
  const int file = open(session.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return;
  const std::string text = std::to_string(nice);
  session_refused_ = write(file, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || session_refused_;
  close(file);
}

void ExecutorProcess::set_stopped(bool stopped) {
  if (pid_ > 0) kill(pid_, stopped ? SIGSTOP : SIGCONT);
}

bool ExecutorProcess::may_renice() const { return shares_by_session() ? !session_refused_ : renice_ != Renice::forbidden; }

std::string ExecutorProcess::end(Duration patience) {
  constexpr auto kPollEvery = std::chrono::milliseconds(2);
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
  if (pid_ <= 0) return "had ended";
  set_stopped(false);
  const auto deadline = std::chrono::steady_clock::now() + patience;
  int status = 0;
  pid_t reaped = waitpid(pid_, &status, WNOHANG);
  while (reaped == 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(kPollEvery);
    reaped = waitpid(pid_, &status, WNOHANG);
  }
  if (reaped == 0) {
    kill(pid_, SIGKILL);
    do {
      reaped = waitpid(pid_, &status, 0);
    } while (reaped < 0 && errno == EINTR);
  }
  const bool known = reaped == pid_;
  pid_ = 0;
  return known ? describe(status) : "is gone";
}

}  // namespace idunno

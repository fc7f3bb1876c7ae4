#include "cli/model_executor.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "bus/clock.h"
#include "cli/names.h"
#include "cli/process.h"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX asks programs to declare it

namespace idunno::cli {
namespace {

constexpr std::size_t kErrBytesKept = 4096;

struct Pipe {
  int read = -1;
  int write = -1;
  Pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return;
    read = ends[0];
    write = ends[1];
  }
  ~Pipe() {
    close_write();
    if (read >= 0) ::close(read);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_write() {
    if (write >= 0) ::close(write);
    write = -1;
  }
};

Result<pid_t> spawn(const std::vector<std::string>& arguments, const Pipe& out, const Pipe& err) {
  std::vector<char*> pointers;
  for (const auto& argument : arguments)
    pointers.push_back(const_cast<char*>(argument.c_str()));  // NOLINT: posix_spawn does not write
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, err.write, STDERR_FILENO);
  sigset_t all;
  sigset_t none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
  pid_t pid = 0;
  const int error = posix_spawn(&pid, arguments.front().c_str(), &actions, &attributes, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return Error{Errc::internal, fmt::format("starting {}: {}", arguments.front(), std::strerror(error))};
  return pid;
}

/// False at the end of the stream.
bool read_some(int descriptor, std::string& text) {
  std::array<char, 16384> buffer{};
  const ssize_t n = ::read(descriptor, buffer.data(), buffer.size());
  if (n > 0) text.append(buffer.data(), static_cast<std::size_t>(n));
  return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/// Reads both streams to their ends; false when time or space is up.
bool read_all(Pipe& out, Pipe& err, Time until, std::size_t out_max, ChildOutput& child) {
  std::array<pollfd, 2> watched{pollfd{out.read, POLLIN, 0}, pollfd{err.read, POLLIN, 0}};
  while (watched[0].fd >= 0 || watched[1].fd >= 0) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - monotonic_now()).count();
    if (left <= 0) return false;
    const int ready = ::poll(watched.data(), watched.size(), static_cast<int>(std::min<std::int64_t>(left + 1, 60'000)));
    if (ready < 0 && errno != EINTR) return false;
    if (ready <= 0) continue;
    if (watched[0].fd >= 0 && watched[0].revents != 0 && !read_some(out.read, child.out)) watched[0].fd = -1;
    if (watched[1].fd >= 0 && watched[1].revents != 0 && !read_some(err.read, child.err)) watched[1].fd = -1;
    if (child.err.size() > 2 * kErrBytesKept) child.err.erase(0, child.err.size() - kErrBytesKept);
    if (child.out.size() > out_max) return false;
  }
  return true;
}

std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of("\r\n ");
  if (end == std::string::npos) return "";
  const auto begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - (begin == std::string::npos ? 0 : begin + 1) + 1);
}

}  // namespace

Result<ChildOutput> run_captured(const std::vector<std::string>& arguments, Duration limit, std::size_t out_max) {
  Pipe out;
  Pipe err;
  if (out.read < 0 || err.read < 0) return Error{Errc::internal, fmt::format("making a pipe: {}", std::strerror(errno))};
  const auto pid = spawn(arguments, out, err);
  if (!pid) return pid.error();
  out.close_write();
  err.close_write();
  ChildOutput child;
  const bool complete = read_all(out, err, monotonic_now() + limit, out_max, child);
  if (!complete) ::kill(*pid, SIGKILL);
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!complete) {
    const bool large = child.out.size() > out_max;
    return Error{large ? Errc::too_large : Errc::timeout,
                 fmt::format("{} {} and was stopped", std::filesystem::path(arguments.front()).filename().string(),
                             large ? std::string("wrote too much")
                                   : fmt::format("was not done in {} s",
                                                 std::chrono::duration_cast<std::chrono::seconds>(limit).count()))};
  }
  if (WIFEXITED(status)) child.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) child.signal = WTERMSIG(status);
  return child;
}

Result<Json> check_in_executor(const ExecutorCheck& check) {
  const auto program = program_beside_us("idunno-executor");
  if (!program) return program.error();
  std::string batches;
  for (const auto batch : check.batches) batches += (batches.empty() ? "" : ",") + std::to_string(batch);
  std::vector<std::string> arguments{program->string(),   "check",   "--onnx", check.onnx.string(), "--spec",
                                     check.spec.string(), "--batch", batches};
  if (!check.labels.empty()) arguments.insert(arguments.end(), {"--labels", check.labels.string()});
  const auto child = run_captured(arguments, check.limit);
  if (!child) return annotate(child.error(), "loading the model in an executor");
  Json report = Json::parse(child->out, nullptr, /*allow_exceptions=*/false);
  if (report.is_object() && report.contains("ok") && report["ok"].is_boolean()) return report;
  const std::string end = child->signal != 0
                              ? fmt::format("was killed by signal {} ({})", child->signal, strsignal(child->signal))
                              : fmt::format("ended with code {}", child->exit_code);
  const std::string why = last_line(child->err);
  return Error{Errc::invalid,
               fmt::format("the executor {} while it loaded the model{}{}", end, why.empty() ? "" : ": ", printable(why))};
}

std::string problems_of(const Json& report) {
  std::string text;
  if (report.contains("problems") && report["problems"].is_array()) {
    for (const auto& problem : report["problems"]) {
      if (problem.is_string()) text += (text.empty() ? "" : "; ") + problem.get<std::string>();
    }
  }
  return printable(text);
}

}  // namespace idunno::cli

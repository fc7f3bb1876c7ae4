#pragma once
/// One running idunno-executor as its parent sees it: started with posix_spawn, since a process with ZeroMQ threads must not
/// fork. It has a socket pair on descriptor 3, its stderr in a file, and no other descriptor of ours. Whatever happens to the
/// parent, the child ends: by PR_SET_PDEATHSIG, which follows the *thread* that started it, so that thread must live as long as
/// the object.

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "bus/base/result.h"
#include "bus/base/time.h"

namespace idunno {

class ExecutorProcess {
 public:
  struct Options {
    std::filesystem::path program;
    std::uint64_t memory_bytes = 0;
    std::filesystem::path log_file;  ///< appended to; truncated first when it is over 1 MiB
  };
  /// Errors name the program and why it cannot be started.
  [[nodiscard]] static Result<std::unique_ptr<ExecutorProcess>> start(const Options& options);
  ~ExecutorProcess();  ///< kills and reaps
  ExecutorProcess(const ExecutorProcess&) = delete;
  ExecutorProcess& operator=(const ExecutorProcess&) = delete;

  [[nodiscard]] int fd() const { return fd_; }  ///< non-blocking
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Processor time of the child so far, in microseconds; 0 = not known.
  [[nodiscard]] std::uint64_t cpu_us() const;
  /// How nice it is to be, from now on: by setpriority, and where the kernel shares processors between sessions (autogroup: nice
  /// counts only inside one) by that of its session. Where this process may not make a child less nice again (no CAP_SYS_NICE,
  /// RLIMIT_NICE too low), only the first call has an effect on the process itself.
  void set_nice(int nice);
  /// Stops it where it is (SIGSTOP), or lets it go on (SIGCONT).
  void set_stopped(bool stopped);
  /// False: not, or (sessions, without CAP_SYS_ADMIN) only a few times a second on the whole machine.
  [[nodiscard]] bool may_renice() const;
  /// Lets it go on, closes the socket, at which an idle child ends by itself, waits up to `patience`, kills it then, and reaps
  /// it. Returns how it ended: "was killed by signal 11 (Segmentation fault)", "ended with status 3".
  std::string end(Duration patience);

 private:
  ExecutorProcess(pid_t pid, int fd) : pid_(pid), fd_(fd) {}
  enum class Renice : std::uint8_t { unknown, allowed, forbidden };
  pid_t pid_;
  Renice renice_ = Renice::unknown;
  bool session_refused_ = false;
  int fd_;
};

}  // namespace idunno

#pragma once
/// Processes of a local cluster: found by pid file, proved by /proc, started in a session of their own, signalled. Linux only.

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/base/time.h"

namespace idunno::cli {

/// The arguments of a process; empty when it is gone, a zombie, or not ours to see.
[[nodiscard]] std::vector<std::string> command_line(pid_t pid);
/// The first number in a pid file; 0 when there is none.
[[nodiscard]] pid_t read_pid_file(const std::filesystem::path& file);
/// Direct children whose program is called `program`.
[[nodiscard]] std::vector<pid_t> children_of(pid_t parent, const std::string& program);

/// Whether `arguments` are those of `idunnod --config <config> --node <node>` (in any order; paths compared after normalising).
[[nodiscard]] bool is_node_process(const std::vector<std::string>& arguments, const std::filesystem::path& config,
                                   std::uint32_t node);

/// A program beside this one; not_found says where it was looked for.
[[nodiscard]] Result<std::filesystem::path> program_beside_us(const std::string& name);

/// Starts a program in a session of its own, without our descriptors and signal settings; stdin is /dev/null, stdout and stderr
/// are appended to `output`.
[[nodiscard]] Result<pid_t> spawn_detached(const std::vector<std::string>& arguments, const std::filesystem::path& output);

/// How a program ended that was waited for.
struct Finished {
  int exit_code = -1;  ///< -1 = by a signal
  int signal = 0;
  std::string out;           ///< what it wrote to stdout
  std::string text() const;  ///< "exit code 3", "killed by signal 11 (Segmentation fault)"
};
/// Runs programs at the same time, each with its stdout read, and waits for all. stderr is ours. `environment` is added to ours.
[[nodiscard]] Result<std::vector<Finished>> run_together(const std::vector<std::vector<std::string>>& commands,
                                                         const std::vector<std::string>& environment = {});

/// "exit code 1" or "" while a child of ours runs (reaps it when it is over).
[[nodiscard]] std::string child_end(pid_t pid);

/// True when all are gone (not running, or zombies) before `limit` has passed.
[[nodiscard]] bool wait_gone(const std::vector<pid_t>& pids, Duration limit);

/// The last lines of a file, at most `lines`, read from its last 16 KiB.
[[nodiscard]] std::vector<std::string> tail_of(const std::filesystem::path& file, std::size_t lines);

}  // namespace idunno::cli

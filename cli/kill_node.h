#pragma once
/// `kill-node`: signals to the processes of a local cluster, and how long the cluster took to notice.

#include "cli/app.h"

namespace idunno::cli {

void add_kill_node_command(CLI::App& root, App& app);

/// A signal by its name, "KILL" or "SIGKILL", of those that make sense here; 0 otherwise.
[[nodiscard]] int signal_by_name(const std::string& name);

}  // namespace idunno::cli

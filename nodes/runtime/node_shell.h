#pragma once
/// A running node: sockets, threads and parts, put together and run until it is told to stop. The control thread is the caller of
/// `run`: control messages, job log, scheduling (on the coordinator), worker and executors. Blocks have a thread of their own
/// (data_service.h).

#include <filesystem>
#include <memory>

#include "bus/cluster_config.h"

namespace idunno {

class NodeShell {
 public:
  /// Everything is bound and restored when this returns; nothing has been sent yet. The data folder must be locked by the caller.
  [[nodiscard]] static Result<std::unique_ptr<NodeShell>> create(ClusterConfig config, NodeId self,
                                                                 const std::filesystem::path& executor_program);
  ~NodeShell();

  /// Until SIGTERM, SIGINT or a failure that the node cannot survive; returns the exit code of the process. SIGHUP reads the
  /// admitted keys again. All signals must be blocked in the process.
  [[nodiscard]] int run();

 private:
  NodeShell();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

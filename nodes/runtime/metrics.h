#pragma once
/// What a node tells Prometheus: the figures of its parts (`NodeFigures`) as metric families. The table in
/// nodes/runtime/README.md lists all of them; a test compares it with what a real node serves. No secrets, no contents of files.

#include <prometheus/metric_family.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bus/messages.h"
#include "nodes/raft/raft_log.h"
#include "nodes/runtime/process_usage.h"
#include "nodes/swim/swim.h"
#include "nodes/worker/executor_pool.h"
#include "storage/block_store.h"

namespace idunno {

/// Jobs with figures of their own: those that are not over, and those that ended at most so long ago; the newest.
inline constexpr std::size_t kMetricJobsMax = 64;
inline constexpr WallMs kMetricJobsKeepMs = 5 * 60 * 1000;

struct NodeFigures {
  NodeId self;
  WallMs now_ms = 0;
  WallMs started_ms = 0;
  std::uint32_t slots = 0;
  std::uint32_t running = 0;  ///< batches in executors
  ExecutorPool::Usage executors;
  ProcessUsage::Sample processes;
  BlockStoreUsage store;
  std::vector<MemberInfo> members;
  std::uint32_t awareness = 0;  ///< Lifeguard's local health of this node
  struct Socket {
    std::string service;  ///< "rpc"
    std::uint64_t messages = 0;
    std::uint64_t refused = 0;
  };
  std::vector<Socket> sockets;
  std::uint64_t refused_keys = 0;
  std::optional<RaftStatus> raft;  ///< none on a node without a log
  struct Cluster {
    StatusReply status;
    JobReportsReply reports;
  };
  std::optional<Cluster> cluster;  ///< on the coordinator
};

/// Every family, also those without samples on this node.
[[nodiscard]] std::vector<prometheus::MetricFamily> metric_families(const NodeFigures& figures);
/// What a scrape gets when the node did not answer in time.
[[nodiscard]] std::vector<prometheus::MetricFamily> incomplete_scrape();

}  // namespace idunno

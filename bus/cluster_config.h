#pragma once
/// The configuration of a cluster, one TOML file that all nodes and clients share (configs/local.toml, configs/lab-10.toml).
/// Unknown keys are errors that name the key and the nearest known one.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/rpc.h"
#include "bus/schedule_policy.h"
#include "bus/security.h"

namespace idunno {

struct NodeConfig {
  NodeId id;
  std::string host;             ///< what others connect to, and what the node binds unless `bind` says otherwise
  std::string bind;             ///< empty = host
  std::uint16_t base_port = 0;  ///< kPortsPerNode ports from here
  std::filesystem::path data_dir;
};

/// Tunables, the same for all nodes. Each says its trade-off in configs/lab-10.toml.
struct Tuning {
  std::uint32_t replication = 4;                      ///< copies of a block: min(this, nodes)
  std::uint32_t slots = 0;                            ///< executors a node; 0 = one for each core
  std::uint64_t executor_memory_bytes = 2ULL << 30U;  ///< limit of one executor; models are evicted to stay under half of it
  std::uint64_t block_cache_bytes = 8ULL << 20U;      ///< RocksDB's, a node
  std::uint64_t input_cache_bytes = 64ULL << 20U;     ///< prefetched inputs, a node
  std::uint32_t prefetch_models = 4;                  ///< brought to a node that joins ahead of need; 0 = to none at all
  std::uint64_t disk_reserve_bytes = 256ULL << 20U;   ///< a node with less free space takes no more blocks
  Duration heartbeat_interval = std::chrono::milliseconds(500);
  Duration dead_after = std::chrono::milliseconds(3000);     ///< silence after which a node is dead
  Duration batch_timeout = std::chrono::seconds(300);        ///< an executor that needs longer for a batch is killed
  Duration lease_horizon = std::chrono::milliseconds(1000);  ///< how much work a worker holds ahead
  std::uint32_t attempts_max = 3;               ///< executor deaths of one batch before its queries become error rows
  std::uint64_t log_file_bytes = 16ULL << 20U;  ///< size at which a node's log file is rotated
  std::uint32_t log_files = 5;
  Duration log_file_age = std::chrono::hours(24);                  ///< age at which it is rotated
  std::uint64_t log_tail_bytes = 8ULL << 20U;                      ///< of the log of each other machine whose end a node keeps
  std::uint32_t versions_max = 8;                                  ///< of a file that are kept
  Duration log_heartbeat = std::chrono::milliseconds(50);          ///< of the coordinator to the other servers of the job log
  Duration election_timeout_min = std::chrono::milliseconds(250);  ///< silence after which they look for another, drawn between
  Duration election_timeout_max = std::chrono::milliseconds(500);
  Duration voter_replace_after = std::chrono::seconds(30);   ///< a voter dead for so long gives its place to a spare
  Duration probe_interval = std::chrono::milliseconds(250);  ///< membership: one node is probed each time
  std::uint64_t scrub_bytes_per_s = 4ULL << 20U;             ///< of blocks read again to find damaged ones; 0 = off
  // [scheduler]
  SchedulePolicy policy = SchedulePolicy::fair_rate;
  Duration split_period = std::chrono::seconds(30);      ///< static-split: so often one worker changes its job
  Duration reload_lag = std::chrono::milliseconds(300);  ///< a job may lag so far behind where its model is not loaded
};

/// [metrics]: where each node answers Prometheus, in plain HTTP (nodes/runtime/README.md). It shows no secrets and changes
/// nothing, but everybody who reaches the port can read it.
struct MetricsConfig {
  bool on = true;
  std::uint16_t port = 0;  ///< the same on every node; 0 = the last of each node's ports
  bool operator==(const MetricsConfig&) const = default;
};

inline constexpr std::size_t kLogNodesInConfigMax = 9;  ///< the first so many nodes keep the job log

struct ClusterConfig {
  std::string id;                  ///< also keeps two clusters apart on the wire
  std::filesystem::path file;      ///< where it was read from
  std::filesystem::path keys_dir;  ///< absolute; admitted.toml and the secrets
  std::vector<NodeConfig> nodes;   ///< by id; the first ones keep the job log, and any of those may coordinate
  Tuning tuning;
  MetricsConfig metrics;

  /// Relative paths in the file are relative to the file's folder.
  [[nodiscard]] static Result<ClusterConfig> load(const std::filesystem::path& file);
  [[nodiscard]] std::string to_toml() const;  ///< load(to_toml()) gives the same
  /// Sets one key of [tuning] from text, "disk_reserve=16M": the same keys, values and limits as in a file.
  [[nodiscard]] Status set_tuning(const std::string& assignment);
  [[nodiscard]] const NodeConfig* node(NodeId id) const;
  /// "10.0.0.11:7405", bound to what the node binds; empty when metrics are off.
  [[nodiscard]] std::string metrics_address(const NodeConfig& node) const;
  /// Those that keep the job log: voters and spares. In the order of the configuration.
  [[nodiscard]] std::vector<NodeId> log_nodes() const;
  [[nodiscard]] std::uint64_t cluster_hash() const;
};

/// Addresses with the public keys of `admitted` (a node's key is named like the node, "n3"). not_found names the key that is
/// missing.
[[nodiscard]] Result<AddressBook> address_book(const ClusterConfig& config, const AdmittedKeys& admitted);

}  // namespace idunno

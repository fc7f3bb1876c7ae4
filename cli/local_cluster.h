#pragma once
/// A cluster of N nodes on this machine's loopback under one folder: cluster.toml, keys/, and n1/, n2/, ... for the nodes' data
/// (elsewhere with a data root, all of them side by side).
/// Security is on as everywhere. The nodes outlive the command that started them.

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/cluster_config.h"
#include "cli/app.h"

namespace idunno::cli {

inline constexpr unsigned kLocalNodesMax = 64;

class LocalCluster {
 public:
  struct Options {
    unsigned nodes = 5;
    std::uint16_t port = 0;                ///< first port; 0 = a free range is looked for
    std::uint32_t slots = 0;               ///< executors a node; 0 = the cores divided by the nodes, at least 1
    std::filesystem::path data_root = {};  ///< the nodes' folders are made here; empty = beside cluster.toml
    std::vector<std::string> tuning = {};  ///< "KEY=VALUE" of [tuning]
  };
  /// Writes the configuration and keys: admin, submit, read and one for each node. conflict when the folder holds a cluster
  /// already.
  [[nodiscard]] static Result<LocalCluster> make(const std::filesystem::path& folder, const Options& options);
  /// not_found when there is none; conflict when the configuration's nodes are not of this machine and folder.
  [[nodiscard]] static Result<LocalCluster> open(const std::filesystem::path& config_file);

  [[nodiscard]] const ClusterConfig& config() const { return config_; }
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  /// The node's running idunnod, proved by its command line; 0 when it does not run.
  [[nodiscard]] pid_t pid(NodeId node) const;
  [[nodiscard]] std::map<NodeId, pid_t> running() const;

  [[nodiscard]] Result<pid_t> start(NodeId node) const;
  /// The node and its executors get the signal; which processes did.
  [[nodiscard]] Result<std::vector<pid_t>> signal(NodeId node, int number) const;
  /// The same for several nodes in one moment: all processes are found first, then `at_once` is called, then all get the signal.
  [[nodiscard]] Result<std::map<NodeId, std::vector<pid_t>>> signal_together(const std::vector<NodeId>& nodes, int number,
                                                                             const std::function<void()>& at_once = {}) const;
  /// SIGTERM, and SIGKILL for what is there after `grace`. Number of nodes stopped.
  [[nodiscard]] Result<unsigned> stop(Duration grace) const;
  /// Removes data, keys and configuration, and the folder when nothing else is in it. Only after stop.
  [[nodiscard]] Status purge() const;
  /// What the node printed or logged last, for a person to see why it does not run.
  [[nodiscard]] std::vector<std::string> last_words(NodeId node) const;

 private:
  LocalCluster(ClusterConfig config, std::filesystem::path folder) : config_(std::move(config)), folder_(std::move(folder)) {}
  ClusterConfig config_;
  std::filesystem::path folder_;
};

/// Until every node is alive in the eyes of the coordinator; `started` are nodes this process has just started (their end is
/// noticed at once). The error names the node and ends with its last words.
[[nodiscard]] Result<StatusReply> wait_until_up(const LocalCluster& cluster, Session& session,
                                                const std::map<NodeId, pid_t>& started, Duration limit);
/// The same, but only the nodes of `started` must be alive, each in its new process.
[[nodiscard]] Result<StatusReply> wait_until_nodes_alive(const LocalCluster& cluster, Session& session,
                                                         const std::map<NodeId, pid_t>& started, Duration limit);

/// A free range of `count` ports on 127.0.0.1, tried from `first` upwards; 0 = none.
[[nodiscard]] std::uint16_t free_port_range(std::uint16_t first, unsigned count);

/// Makes the keys that a configuration needs and that are not there: one for each node, admin, and with `clients` also submit and
/// read. Names of the keys made.
[[nodiscard]] Result<std::vector<std::string>> make_missing_keys(const ClusterConfig& config, bool clients);

/// A local cluster in a fresh folder that is gone with this object, and also when the process is ended by SIGINT, SIGTERM, SIGHUP
/// or SIGPIPE. One at a time. For measurements.
class TemporaryCluster {
 public:
  [[nodiscard]] static Result<std::unique_ptr<TemporaryCluster>> up(const LocalCluster::Options& options, Duration limit);
  ~TemporaryCluster();
  [[nodiscard]] Session& session() { return *session_; }
  [[nodiscard]] const LocalCluster& cluster() const { return *cluster_; }
  [[nodiscard]] const Globals& globals() const { return globals_; }

 private:
  TemporaryCluster() = default;
  Globals globals_;
  std::filesystem::path folder_;
  std::unique_ptr<LocalCluster> cluster_;
  std::unique_ptr<Session> session_;
};

/// Before the first TemporaryCluster, and before any other thread runs: from here on the signals above end the process by way of
/// `interrupted_cleanup`'s thread.
void clean_up_when_interrupted();

}  // namespace idunno::cli

#pragma once
/// A cluster of "machines" to hurt: each node runs in a network namespace of its own behind one bridge, with real processes,
/// sockets and disks. Faults: signals, one-way and two-way cuts, packet loss, slow and failing disks (strace), full disks (small
/// tmpfs), flipped bits, cut files, wiped folders, clock jumps (libfaketime), busy processors, and a relay that tears
/// connections. Needs root and the right to make network namespaces; Lab::permitted() tells, and tests skip without.

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/cluster/harness.h"

namespace idunno::testing {

/// Runs a line of shell to its end; false when it fails.
bool shell(const std::string& line);

class Lab {
 public:
  struct Options {
    int nodes = 7;
    std::vector<std::string> tuning;  ///< lines of [tuning], "disk_reserve = \"16M\""
    int tmpfs_mib = 0;                ///< each node's data on a tmpfs of this size; 0 = a plain folder
    bool fake_clock = false;          ///< nodes run under libfaketime: jump_clock works
    [[nodiscard]] static Options of(int nodes) {
      Options options;
      options.nodes = nodes;
      return options;
    }
  };

  [[nodiscard]] static bool permitted();
  explicit Lab(const Options& options);
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  /// Starts all nodes and waits until the cluster is healthy.
  [[nodiscard]] bool up();
  void start(int node);
  [[nodiscard]] bool running(int node);   ///< its process is there (reaps it when it has ended)
  [[nodiscard]] int exit_code(int node);  ///< of a node that ended by itself; -1 while it runs or when a signal ended it
  /// To the node and its executors.
  void signal(int node, int number);
  void kill(int node) { kill(std::vector<int>{node}); }
  void kill(const std::vector<int>& nodes);  ///< SIGKILL to all in one go, then waits until they are gone

  // -- the network --
  void cut_one_way(int from, int to);  ///< packets of `from` do not reach `to`
  void cut(int a, int b);
  void isolate(int node);                       ///< from all other nodes; clients still reach it
  void isolate(const std::vector<int>& group);  ///< a partition: the group talks among itself only
  void lose_packets(int node, int percent);     ///< of those that arrive there
  void heal();

  // -- disks --
  void slow_disk(int node, int milliseconds);  ///< each fsync and fdatasync takes so much longer
  void failing_disk(int node);                 ///< each fsync and fdatasync fails with EIO
  void mend_disk(int node);                    ///< ends both
  void fill_disk(int node);                    ///< needs tmpfs_mib
  void free_disk(int node);
  void wipe(int node);  ///< the node must not run
  /// Flips one bit in each of `count` files chosen by the seed below `folder` ("blocks", "joblog") whose name ends in `ending`.
  int flip_bits(int node, const std::string& folder, const std::string& ending, int count, unsigned seed);
  /// Cuts the last `bytes` off the newest write-ahead log below `folder`.
  bool cut_log(int node, const std::string& folder, std::uintmax_t bytes);

  // -- time and processors --
  void jump_clock(int node, int seconds);
  void burn(int processes);  ///< busy loops, until calm()
  void calm();

  // -- the user's side --
  CommandResult idunno(std::vector<std::string> arguments, std::chrono::seconds limit = std::chrono::seconds(120)) const;
  CommandResult expect(int exit_code, std::vector<std::string> arguments,
                       std::chrono::seconds limit = std::chrono::seconds(120)) const;
  [[nodiscard]] std::string submit(std::vector<std::string> arguments) const;
  [[nodiscard]] nlohmann::json job(const std::string& id) const;
  [[nodiscard]] nlohmann::json status() const;
  [[nodiscard]] bool healthy() const;
  [[nodiscard]] int coordinator() const;  ///< 0 = none
  [[nodiscard]] std::string node_state(int node) const;
  /// Waits for the end of the job and verifies it; returns its digest.
  [[nodiscard]] std::string finish(const std::string& id) const;
  [[nodiscard]] std::filesystem::path make_images(const std::string& name, int count, int side, int seed = 1) const;

  [[nodiscard]] int nodes() const { return options_.nodes; }
  [[nodiscard]] std::string address(int node) const;
  [[nodiscard]] std::string bridge_address() const;
  [[nodiscard]] int port() const;
  [[nodiscard]] std::string netns(int node) const;
  [[nodiscard]] std::filesystem::path data_dir(int node) const;
  [[nodiscard]] const std::filesystem::path& scratch() const { return temp_.path(); }
  [[nodiscard]] std::filesystem::path config_file() const { return temp_.path() / "cluster.toml"; }
  [[nodiscard]] std::string node_log(int node) const;
  [[nodiscard]] std::size_t times_in_log(int node, const std::string& text) const;

 private:
  void make_network() const;
  void write_config() const;
  void in_ns(int node, const std::string& command) const;
  void trace(int node, const std::string& injection);

  Options options_;
  TempDir temp_;
  int tag_;  ///< tells this lab's namespaces, bridge and addresses from others'
  std::map<int, pid_t> pids_;
  std::map<int, int> ended_;  ///< exit codes of nodes that ended by themselves
  std::map<int, pid_t> tracers_;
  std::vector<pid_t> burners_;
};

/// Skips where nobody may make networks. ChaosShort runs in CI, ChaosLong and ChaosRandom in `make chaos`.
class ChaosTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Lab::permitted()) GTEST_SKIP() << "needs root and network namespaces";
  }
};
class ChaosShort : public ChaosTest {};
class ChaosLong : public ChaosTest {};
class ChaosRandom : public ChaosTest {};

}  // namespace idunno::testing

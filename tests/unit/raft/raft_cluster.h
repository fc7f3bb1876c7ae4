#pragma once
/// Several RaftLogs over disks in memory and a network that loses, holds, doubles and reorders on demand, in virtual time. Every
/// step is checked: what Raft promises (one leader an epoch, log matching, what is committed never changes, one vote an epoch)
/// and that nothing is said before it is on disk. A broken promise is remembered in `violations`.

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/raft_messages.h"
#include "nodes/raft/raft_log.h"

namespace idunno::raft_test {

enum class WriteFault { none, crash_before, crash_after, error };

/// What outlives the process: the log, and what is to happen at its next write.
struct Disk {
  LoadedLog log;
  WriteFault next = WriteFault::none;
  bool crashed = false;
  std::size_t writes = 0;
  [[nodiscard]] LogIndex base() const { return log.snapshot ? log.snapshot->index : LogIndex{}; }
  [[nodiscard]] LogIndex last() const { return LogIndex{base().value + log.entries.size()}; }
};

class Promises {
 public:
  std::vector<std::string> broken;

  void leads(NodeId node, std::uint64_t log_id, Epoch epoch);
  void on_disk(const LogEntry& entry, Epoch before);
  void voted(std::uint64_t log_id, const HardState& hard);
  void committed(const LogEntry& entry);
  void said(const Disk& disk, const RaftMessage& message, NodeId to);

  std::map<LogIndex, LogEntry> committed_entries;

 private:
  void break_if(bool bad, const std::string& what);
  std::map<Epoch, std::pair<NodeId, std::uint64_t>> leaders_;
  std::map<std::pair<LogIndex, Epoch>, std::pair<Epoch, Bytes>> entries_;  ///< the epoch before, and the command
  std::map<std::pair<std::uint64_t, Epoch>, NodeId> votes_;
};

struct Packet {
  NodeId from;
  NodeId to;
  Bytes bytes;
  Time due;
};

struct Server {
  NodeId id;
  std::shared_ptr<Disk> disk;
  std::unique_ptr<RaftLog> raft;  ///< null: down
  bool paused = false;
  std::vector<std::string> applied;  ///< commands handed out, without those of the log itself
  LogIndex applied_index;
  std::vector<ReadBarrier> reads;
  std::string failure;
};

class RaftCluster {
 public:
  /// `nodes` log nodes 1..n. They find each other by themselves (bootstrap) once time goes on.
  RaftCluster(std::uint32_t nodes, std::uint64_t seed, std::uint32_t voters = 0);

  Server& at(std::uint32_t node) { return servers_.at(NodeId{node}); }
  std::map<NodeId, Server>& servers() { return servers_; }
  [[nodiscard]] Time now() const { return now_; }
  Promises promises;

  /// Time goes on in steps of 1 ms: nodes tick, messages arrive after 1 ms (or `delay`).
  void run(Duration time);
  bool run_until(const std::function<bool()>& done, Duration most);
  /// Only this node's clock ticks, the others answer: it wins if the others let it.
  bool elect(std::uint32_t node, Duration most);
  [[nodiscard]] NodeId leader() const;          ///< the one with the highest epoch; 0 = none
  [[nodiscard]] NodeId serving_leader() const;  ///< that serves

  Result<LogIndex> propose(std::uint32_t node, const std::string& command);
  void flush(std::uint32_t node) { turn_end(servers_.at(NodeId{node})); }
  void crash(std::uint32_t node, bool tell_others = false);
  void restart(std::uint32_t node);
  void wipe(std::uint32_t node);
  void tell_connection_lost(std::uint32_t to, std::uint32_t lost);

  void cut(std::uint32_t from, std::uint32_t to) { cut_.insert({NodeId{from}, NodeId{to}}); }
  void hold(std::uint32_t from, std::uint32_t to) { held_links_.insert({NodeId{from}, NodeId{to}}); }
  void heal() { cut_.clear(); }
  /// What was held arrives, in order or the newest first.
  std::size_t release(bool reversed);
  void drop_held();

  std::function<bool(const Packet&, const RaftMessage&)> filter;  ///< false: lost
  std::function<void(RaftMessage&)> rewrite;                      ///< changes what is sent
  std::function<Duration(const Packet&)> delay;                   ///< default 1 ms
  std::uint32_t duplicate_percent = 0;
  std::size_t messages = 0;
  std::size_t appends_with_entries = 0;
  Random random;
  std::size_t compact_every = 0;  ///< entries; 0 = never

  [[nodiscard]] std::string describe(std::uint32_t node) const;
  void deliver_raw(NodeId from, NodeId to, const Bytes& bytes);

 private:
  void start(Server& server);
  void turn_end(Server& server);
  void step(NodeId only);
  void post(NodeId from, NodeId to, Bytes bytes);
  void apply(Server& server);

  RaftConfig config_;
  std::map<NodeId, Server> servers_;
  std::multimap<Time, Packet> wire_;
  std::vector<Packet> held_;
  std::set<std::pair<NodeId, NodeId>> cut_;
  std::set<std::pair<NodeId, NodeId>> held_links_;
  Time now_{std::chrono::seconds(1)};
  std::uint64_t next_log_id_ = 1;
};

}  // namespace idunno::raft_test

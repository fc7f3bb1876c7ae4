#pragma once
/// The job log, kept by several nodes: Raft after Ongaro, "Consensus: Bridging Theory and Practice" (2014; sections are cited
/// where a rule is applied), with pre-vote (9.6), check-quorum (6.2), leadership transfer (3.10), single-server configuration
/// changes (4.1 to 4.4), learners (4.2.1), chunked snapshots (5.1) and linearizable reads by a round of heartbeats (6.4). A log
/// with a single voter is the same thing with one member. The order within a turn is that of ReplicatedLog. One thread, no clock,
/// no socket: the same arguments and inputs give the same outputs.
///
/// Where each safety rule lives: election.cc (one vote an epoch, up-to-date logs only, leases), acceptor.cc (what a follower
/// takes and acknowledges), replication.cc (what is committed), raft_log.cc (persist before send, a failed write is final),
/// membership.cc (log ids, configuration changes).

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "nodes/raft/replicated_log.h"

namespace idunno {

inline constexpr std::uint32_t kLogNodesMax = 9;              ///< nodes that keep a log: voters and spares
inline constexpr std::uint32_t kVotersMax = 7;                ///< any three of seven may die
inline constexpr std::size_t kUncommittedEntriesMax = 65536;  ///< of a leader; more proposals are refused (full)
inline constexpr std::size_t kUncommittedBytesMax = 64U << 20U;
inline constexpr std::size_t kReadBarriersMax = 65536;  ///< that wait; more are answered "not passed"
inline constexpr std::size_t kKeepEntries = 4096;       ///< kept after a compaction for slow followers
inline constexpr std::size_t kKeepBytes = 8U << 20U;    ///< ... and no more than this

/// What a node must know to take part. All nodes of a cluster have the same but for `self`.
struct RaftConfig {
  NodeId self;
  std::vector<NodeId> log_nodes;    ///< in the order of the cluster's configuration; the first one bootstraps the log
  std::uint32_t voters_wanted = 1;  ///< voters_wanted_for(nodes)
  /// The leader's sign of life. Shorter: a silent leader is missed earlier, for more messages.
  Duration heartbeat = std::chrono::milliseconds(50);
  /// A follower that hears nothing for a random time between these looks for a new leader. Shorter: faster takeover from a silent
  /// failure; too short: a busy machine or disk is taken for a dead one.
  Duration election_timeout_min = std::chrono::milliseconds(250);
  Duration election_timeout_max = std::chrono::milliseconds(500);
  Duration rank_step = std::chrono::milliseconds(30);        ///< between the voters' attempts after a lost connection
  Duration announce_every = std::chrono::milliseconds(200);  ///< of a node that hears no leader
  Duration voter_replace_after = std::chrono::seconds(30);   ///< a voter dead for so long gives its place to a spare
  std::function<Bytes(Epoch)> begin_command;                 ///< the first command of an epoch (the no-op); null: an empty one
};

/// The largest odd number up to min(nodes, kVotersMax); 1 for 1 and 2 nodes (no failover).
[[nodiscard]] std::uint32_t voters_wanted_for(std::size_t nodes);
/// The nodes that keep the log: the first kLogNodesMax of `nodes`.
[[nodiscard]] std::vector<NodeId> log_nodes_of(const std::vector<NodeId>& nodes);

enum class RaftRole : std::uint8_t { follower = 0, pre_candidate = 1, candidate = 2, leader = 3 };

/// For people, metrics and checkers.
struct RaftStatus {
  struct Peer {
    NodeId node;
    LogIndex match;       ///< known to be on its disk
    bool active = false;  ///< heard within an election timeout
    bool in_snapshot = false;
  };
  RaftRole role = RaftRole::follower;
  Epoch epoch;
  NodeId voted_for;
  NodeId leader;
  std::uint64_t log_id = 0;
  LogIndex committed;
  LogIndex applied;  ///< handed out by take_committed
  LogIndex durable;
  LogIndex last;
  LogIndex snapshot;
  std::vector<LogMember> members;
  std::vector<Peer> peers;  ///< of a leader
  std::uint64_t elections_started = 0;
  std::uint64_t pre_votes_started = 0;
  std::uint64_t snapshots_sent = 0;
  std::uint64_t snapshots_installed = 0;
  std::uint64_t messages_refused = 0;      ///< malformed, of strangers, or contradicting what is committed
  std::uint64_t messages_misdirected = 0;  ///< meant for an earlier life of this node's log
};

class RaftLog final : public ReplicatedLog {
 public:
  /// Loads the store. What a snapshot holds comes out of take_snapshot; entries after it come out of take_committed when they are
  /// known to be committed again. damaged when the store's content cannot be a log; else the store's error.
  [[nodiscard]] static Result<std::unique_ptr<RaftLog>> open(RaftConfig config, std::unique_ptr<LogStore> store, Random random,
                                                             Time now);
  ~RaftLog() override;

  /// not_leader also while leadership is being handed over; too_large over codec::kCommandBytesMax; unavailable after a failed
  /// write.
  [[nodiscard]] Result<LogIndex> propose(Bytes command) override;
  void receive(NodeId from, ByteView message, Time now) override;
  void tick(Time now) override;
  [[nodiscard]] Time wake_at() const override;
  void connection_lost(NodeId node, Time now) override;
  void node_alive(NodeId node, bool alive, Time now) override;
  [[nodiscard]] Status transfer(NodeId to, Time now) override;
  void read_barrier(std::uint64_t ticket, Time now) override;
  [[nodiscard]] Status flush(Time now) override;
  [[nodiscard]] std::optional<Snapshot> take_snapshot() override;
  [[nodiscard]] std::vector<LogEntry> take_committed() override;
  [[nodiscard]] std::vector<std::pair<NodeId, Bytes>> take_messages() override;
  [[nodiscard]] std::vector<ReadBarrier> take_reads() override;
  [[nodiscard]] bool leading() const override;
  [[nodiscard]] bool serving() const override;
  [[nodiscard]] Epoch epoch() const override;
  [[nodiscard]] NodeId leader() const override;
  [[nodiscard]] NodeId standby() const override;
  [[nodiscard]] std::vector<LogMember> members() const override;
  [[nodiscard]] std::uint64_t log_id() const override;
  [[nodiscard]] LogIndex committed_index() const override;
  [[nodiscard]] LogIndex last_index() const override;
  [[nodiscard]] Status compact(LogIndex index, Bytes state) override;

  [[nodiscard]] RaftStatus status() const;
  /// ASSERTs what must hold between any two calls (after LogCabin's RaftConsensusInvariants). For tests and the simulator: it
  /// walks the whole log.
  void check_invariants() const;

 private:
  struct Impl;
  explicit RaftLog(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

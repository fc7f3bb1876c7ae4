#pragma once
/// The inside of RaftLog. Include from nodes/raft/*.cc only.

#include <deque>
#include <limits>
#include <map>
#include <set>

#include "bus/raft_messages.h"
#include "nodes/raft/log_view.h"
#include "nodes/raft/raft_log.h"

namespace idunno {

/// Earlier than any time, and safe to subtract.
inline constexpr Time kLongAgo{Duration{-(std::int64_t{1} << 60U)}};

/// What a leader knows of one other member.
struct Progress {
  enum class State : std::uint8_t {
    probe,      ///< where the logs agree is being looked for: one message, then wait for its answer or the next heartbeat
    replicate,  ///< messages follow each other without waiting, up to kAppendsInFlightMax
    snapshot,   ///< needs entries that are gone: gets the snapshot, chunk by chunk
  };
  std::uint64_t log_id = 0;
  State state = State::probe;
  LogIndex match;                  ///< on its disk, as it has acknowledged
  LogIndex next;                   ///< the next entry to send
  bool waiting = false;            ///< in probe: for the answer
  std::deque<LogIndex> in_flight;  ///< the last entry of each message without an answer
  LogIndex match_at_beat;          ///< at the last heartbeat: no progress since means that something may be lost
  Time heard = kLongAgo;
  std::uint64_t acked_sequence = 0;  ///< the newest message that it has answered in this epoch
  std::uint64_t reset_sequence = 0;  ///< refusals of earlier messages say nothing new
  LogIndex snapshot_index;           ///< the snapshot being sent, and how far
  std::uint64_t snapshot_offset = 0;
  std::uint64_t chunk_sequence = 0;  ///< of the chunk without an answer; 0 = none
};

struct RaftLog::Impl {
  Impl(RaftConfig config_, std::unique_ptr<LogStore> store_, Random random_, LogView log_, std::uint64_t log_id_, HardState hard_,
       Time now_);

  // ---- raft_log.cc: the turn
  void receive(NodeId from, ByteView bytes);
  void dispatch(const RaftMessage& message);
  void tick();
  [[nodiscard]] Time wake_at() const;
  [[nodiscard]] Status flush();
  [[nodiscard]] Status persist();
  [[nodiscard]] Result<LogIndex> propose(Bytes command);
  [[nodiscard]] std::vector<LogEntry> take_committed();
  [[nodiscard]] Status compact(LogIndex index, Bytes state);
  /// Time goes on; a leader that no majority has answered for an election timeout stops being one before it does anything else.
  void observe(Time t);
  void send(NodeId to, std::uint64_t to_log, RaftMessage message);

  // ---- election.cc
  [[nodiscard]] bool may_campaign() const;
  [[nodiscard]] bool in_lease() const;
  [[nodiscard]] Duration random_timeout();
  [[nodiscard]] bool is_up_to_date(const VoteRequest& request) const;
  void adopt_epoch(Epoch newer);
  void become_follower(NodeId new_leader);
  void start_pre_vote();
  void campaign(bool for_transfer);
  void ask_for_votes();
  void retry_votes();
  void on_vote_request(const RaftMessage& message, const VoteRequest& request);
  void on_vote_reply(const RaftMessage& message, const VoteReply& reply);
  void count_votes();
  void become_leader();
  void connection_lost(NodeId node);
  [[nodiscard]] std::size_t own_rank() const;
  void on_timeout_now(const RaftMessage& message);
  [[nodiscard]] Status transfer(NodeId to);
  void end_transfer();

  // ---- acceptor.cc: the follower's side of replication
  void follow(NodeId who);
  void on_append(const RaftMessage& message, const AppendRequest& request);
  [[nodiscard]] bool is_well_formed(const RaftMessage& message, const AppendRequest& request) const;
  [[nodiscard]] bool accept_entries(const AppendRequest& request);
  void refuse_append(const RaftMessage& message, const AppendRequest& request);
  void learn_commit(LogIndex index);

  // ---- replication.cc: the leader's side
  [[nodiscard]] Progress* peer_of(const RaftMessage& message);
  void heard_from(Progress& peer, std::uint64_t answered);
  void on_append_reply(const RaftMessage& message, const AppendReply& reply);
  void on_accepted(Progress& peer, LogIndex index);
  void on_refused(Progress& peer, const AppendReply& reply);
  void advance_commit();
  void send_appends();
  void send_to(NodeId node, Progress& peer, bool beat);
  void send_entries(NodeId node, Progress& peer);
  void send_heartbeat(NodeId node, Progress& peer);
  void order_successors();
  [[nodiscard]] bool is_active(NodeId node, const Progress& peer) const;
  [[nodiscard]] bool hears_majority() const;

  // ---- reads.cc
  void read_barrier(std::uint64_t ticket);
  void confirm_reads();
  void fail_reads();

  // ---- snapshot_transfer.cc
  void send_chunk(NodeId node, Progress& peer);
  void on_snapshot_reply(const RaftMessage& message, const SnapshotReply& reply);
  void on_chunk(const RaftMessage& message, const SnapshotChunk& chunk);
  [[nodiscard]] bool install_incoming();

  // ---- membership.cc
  void on_announce(const RaftMessage& message, const Announce& announce);
  void announce_if_alone();
  [[nodiscard]] Time announce_due() const;
  void bootstrap_if_ready();
  void sync_peers();
  void reconfigure();
  [[nodiscard]] std::optional<LogConfiguration> next_configuration() const;
  [[nodiscard]] bool is_replaced(const LogMember& member) const;
  [[nodiscard]] bool is_caught_up(const LogMember& member) const;
  [[nodiscard]] bool is_dead_for_long(NodeId node) const;
  [[nodiscard]] NodeId voter_to_demote() const;
  [[nodiscard]] bool has_active_majority(const LogConfiguration& configuration) const;

  [[nodiscard]] const LogConfiguration& configuration() const { return log.configuration(); }
  [[nodiscard]] bool is_log_node(NodeId node) const;
  void check_invariants() const;  // invariants.cc
  void check_leader() const;

  RaftConfig config;
  std::unique_ptr<LogStore> store;
  Random random;
  std::uint64_t log_id;
  LogView log;
  HardState hard;
  bool hard_dirty = false;
  Status failure;  ///< of the store: final
  Time now;        ///< the newest that was told

  LogIndex commit;
  LogIndex applied;  ///< handed out

  RaftRole role = RaftRole::follower;
  NodeId leader;
  Time leader_contact = kLongAgo;
  Time election_deadline;
  std::vector<NodeId> successors;  ///< as told by the leader, or made by this one

  // a candidate's
  std::set<NodeId> grants;  ///< of others
  bool own_vote_durable = false;
  bool transferred = false;  ///< this election was ordered by the leader
  Time retry_at = kNever;
  Duration retry_step{};

  // a leader's
  std::map<NodeId, Progress> peers;
  LogIndex begin_index;  ///< of its first entry
  Time beat_at = kNever;
  bool beat_due = false;
  bool beat_timed = false;  ///< and not only for a read
  std::uint64_t sequence = 0;
  LogIndex commit_at_beat;  ///< who has this is caught up
  std::size_t uncommitted_bytes = 0;
  NodeId transfer_to;
  Time transfer_deadline = kNever;
  bool transfer_told = false;  ///< since the last heartbeat
  struct Barrier {
    std::uint64_t ticket = 0;
    std::uint64_t sequence = 0;  ///< messages after this one were sent after the read was asked for
    LogIndex index;              ///< to be handed out before it may pass
  };
  std::deque<Barrier> barriers;
  std::vector<ReadBarrier> reads;

  // snapshots from a leader
  struct Incoming {
    LogIndex index;
    Epoch entry_epoch;
    std::uint64_t size = 0;
    Hash128 hash;
    Bytes bytes;
  };
  std::optional<Incoming> incoming;
  std::optional<bool> install_drops_tail;  ///< one is in memory and not on disk yet
  std::optional<Snapshot> restored;        ///< for take_snapshot

  // who is there
  struct Announced {
    std::uint64_t log_id = 0;
    Time at = kLongAgo;
    bool empty_now = false;  ///< said to this very life of our log that it has none
    Epoch epoch;
  };
  std::map<NodeId, Announced> announced;
  std::map<NodeId, Time> dead_since;
  Time announce_at;
  bool bootstrap_stopped = false;   ///< somebody has a log
  Time initial_voters_at = kNever;  ///< when all initial voters had announced

  std::vector<std::pair<NodeId, Bytes>> unsent;    ///< wait for the next flush
  std::vector<std::pair<NodeId, Bytes>> outgoing;  ///< may be sent
  std::uint64_t elections_started = 0;
  std::uint64_t pre_votes_started = 0;
  std::uint64_t snapshots_sent = 0;
  std::uint64_t snapshots_installed = 0;
  std::uint64_t messages_refused = 0;
  std::uint64_t messages_misdirected = 0;
};

}  // namespace idunno

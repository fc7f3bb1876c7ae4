#pragma once
/// The job log as the rest of the node sees it, whatever keeps it (nodes/raft/raft_log.h: Raft). The order within one turn of the
/// loop: receive / propose / tick / hints any number of times, then `flush` once (one synced write), then obey take_snapshot,
/// take_committed, take_messages, take_reads, then answer clients. Nothing is sent and nothing is answered before flush has
/// returned ok. One thread; no clock, no socket: messages are opaque bytes that the shell carries (bus/log_link.h).

#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "storage/log_store.h"

namespace idunno {

/// One server of the log's configuration. `log_id` tells one life of a node's log from the next: a wiped node has another.
struct LogMember {
  NodeId node;
  std::uint64_t log_id = 0;
  bool voter = false;  ///< else a learner: gets the log, does not count
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.log_id, s.voter);
  }
  bool operator==(const LogMember&) const = default;
};

/// What became of a read_barrier.
struct ReadBarrier {
  std::uint64_t ticket = 0;
  bool passed = false;  ///< false: this node no longer leads; ask whoever does
};

class ReplicatedLog {
 public:
  virtual ~ReplicatedLog() = default;

  /// Puts a command at the end. not_leader when this node does not lead, full when too much waits. The index it would get is
  /// returned; whether it gets there is known when it comes out of take_committed, or never.
  [[nodiscard]] virtual Result<LogIndex> propose(Bytes command) = 0;
  /// A message of another log node. Garbage is ignored and counted.
  virtual void receive(NodeId from, ByteView message, Time now) = 0;
  /// Lets time pass. To be called no later than wake_at().
  virtual void tick(Time now) = 0;
  [[nodiscard]] virtual Time wake_at() const = 0;
  /// The connection to a node closed: a hint that makes voters look for a new leader at once (never a proof).
  virtual void connection_lost(NodeId node, Time now) = 0;
  /// What membership thinks of a node; for the replacement of voters that are gone for good.
  virtual void node_alive(NodeId node, bool alive, Time now) = 0;
  /// Hands leadership to a voter that has caught up (Raft dissertation 3.10). not_leader / invalid.
  [[nodiscard]] virtual Status transfer(NodeId to, Time now) = 0;
  /// Asks for a linearizable read (Raft dissertation 6.4): the answer comes from take_reads when a majority has confirmed, after
  /// this moment, that this node leads, and everything committed before has been handed out by take_committed.
  virtual void read_barrier(std::uint64_t ticket, Time now) = 0;

  /// Makes everything of this turn durable, in one synced write. An error is final: the node stops.
  [[nodiscard]] virtual Status flush(Time now) = 0;

  /// A snapshot came from the leader: it replaces the state, before anything of take_committed is applied.
  [[nodiscard]] virtual std::optional<Snapshot> take_snapshot() = 0;
  /// Entries committed since the last call, in order, each exactly once; entries that are the log's own business (its
  /// configuration) have an empty command.
  [[nodiscard]] virtual std::vector<LogEntry> take_committed() = 0;
  [[nodiscard]] virtual std::vector<std::pair<NodeId, Bytes>> take_messages() = 0;
  [[nodiscard]] virtual std::vector<ReadBarrier> take_reads() = 0;

  [[nodiscard]] virtual bool leading() const = 0;
  [[nodiscard]] virtual bool serving() const = 0;  ///< leads, and its own first entry has come out of take_committed
  [[nodiscard]] virtual Epoch epoch() const = 0;
  [[nodiscard]] virtual NodeId leader() const = 0;   ///< 0 = unknown
  [[nodiscard]] virtual NodeId standby() const = 0;  ///< the voter that leads next; 0 = unknown or no failover
  [[nodiscard]] virtual std::vector<LogMember> members() const = 0;
  [[nodiscard]] virtual std::uint64_t log_id() const = 0;  ///< of this node's log, as in LogMember
  [[nodiscard]] virtual LogIndex committed_index() const = 0;
  [[nodiscard]] virtual LogIndex last_index() const = 0;
  /// The state up to and including `index` (<= what take_committed gave) is in `state`: the log before may go.
  [[nodiscard]] virtual Status compact(LogIndex index, Bytes state) = 0;
};

}  // namespace idunno

#pragma once
/// The job log as the rest of the node sees it, whatever keeps it: one voter (nodes/raft/solo_log.h) or, later, Raft. The order
/// within one loop turn: propose / receive / tick any number of times, then flush once (one synced write), then take_committed
/// and apply, then answer clients. Nothing is answered before flush has returned ok.

#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "storage/log_store.h"

namespace idunno {

class ReplicatedLog {
 public:
  virtual ~ReplicatedLog() = default;

  /// Puts a command at the end. not_leader / no_coordinator when this node does not lead. The index it would get is returned;
  /// whether it gets there is known when it comes out of take_committed.
  [[nodiscard]] virtual Result<LogIndex> propose(Bytes command) = 0;
  /// A message of another voter.
  virtual void receive(NodeId from, ByteView message, Time now) = 0;
  /// Lets time pass; returns when it wants to be called next.
  [[nodiscard]] virtual Time tick(Time now) = 0;
  /// Makes everything of this turn durable, then sends. An error is final: the node stops.
  [[nodiscard]] virtual Status flush() = 0;
  /// Entries committed since the last call, in order, each exactly once.
  [[nodiscard]] virtual std::vector<LogEntry> take_committed() = 0;

  [[nodiscard]] virtual bool serving() const = 0;  ///< leads, and its own first entry is committed
  [[nodiscard]] virtual Epoch epoch() const = 0;
  [[nodiscard]] virtual NodeId leader() const = 0;  ///< 0 = unknown
  [[nodiscard]] virtual std::vector<NodeId> voters() const = 0;
  /// The state up to and including `index` is in `state`: the log before may go.
  [[nodiscard]] virtual Status compact(LogIndex index, Bytes state) = 0;
};

}  // namespace idunno

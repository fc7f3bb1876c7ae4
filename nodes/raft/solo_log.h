#pragma once
/// The job log of a cluster with a single voter: what is written and synced here is committed. Each start is a new reign (epoch),
/// made durable before the log serves, so that leases and answers of an earlier life are told apart. One thread.

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "nodes/raft/replicated_log.h"

namespace idunno {

inline constexpr std::size_t kPendingEntriesMax = 65536;  ///< proposed and not flushed yet
inline constexpr std::size_t kPendingBytesMax = 64U << 20U;

class SoloLog final : public ReplicatedLog {
 public:
  /// Loads the store, begins the next epoch and makes that durable. `loaded` gets what was there: all of it is committed, and the
  /// caller restores its state from the snapshot and then the entries; take_committed gives only what is proposed from now on.
  [[nodiscard]] static Result<std::unique_ptr<SoloLog>> open(std::unique_ptr<LogStore> store, NodeId self, LoadedLog& loaded);

  /// full when a bound is reached; unavailable after a failed write.
  [[nodiscard]] Result<LogIndex> propose(Bytes command) override;
  void receive(NodeId /*from*/, ByteView /*message*/, Time /*now*/) override {}  // there is nobody who could say anything
  [[nodiscard]] Time tick(Time /*now*/) override { return kNever; }
  /// One synced write of all that was proposed. After an error every later flush returns the same error.
  [[nodiscard]] Status flush() override;
  [[nodiscard]] std::vector<LogEntry> take_committed() override;

  [[nodiscard]] bool serving() const override { return failure_.ok(); }
  [[nodiscard]] Epoch epoch() const override { return epoch_; }
  [[nodiscard]] NodeId leader() const override { return self_; }
  [[nodiscard]] std::vector<NodeId> voters() const override { return {self_}; }
  /// invalid for an entry that is not committed or that an earlier snapshot contains.
  [[nodiscard]] Status compact(LogIndex index, Bytes state) override;

 private:
  SoloLog(std::unique_ptr<LogStore> store, NodeId self, Epoch epoch, const LoadedLog& loaded);
  [[nodiscard]] Epoch epoch_of(LogIndex index) const;

  std::unique_ptr<LogStore> store_;
  NodeId self_;
  Epoch epoch_;
  LogIndex last_;      ///< the newest proposed
  LogIndex flushed_;   ///< the newest durable, so committed
  LogIndex snapshot_;  ///< everything up to here is in the snapshot
  std::map<LogIndex, Epoch>
      reigns_;  ///< the first index of each epoch after the snapshot: the epoch of an entry that is no longer in memory
  std::vector<LogEntry> pending_;
  std::size_t pending_bytes_ = 0;
  std::vector<LogEntry> committed_;
  Status failure_;  ///< of the store: final
};

}  // namespace idunno

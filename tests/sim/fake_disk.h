#pragma once
/// The disk of one node: its log, its outbox and its blocks. It outlives the processes that use it. What was synced survives
/// everything but a wipe; what was not may be lost by a power cut; a write of the log that is under way when the process dies is
/// there as a whole or not at all (RocksDB writes a batch with one checksum), whatever the code believed.
///
/// A write happens at once, and its time is counted: the node is busy for so long and hands nothing out before (take_time). Until
/// `settle` a crash may still undo it.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "bus/base/random.h"
#include "bus/base/time.h"
#include "storage/log_store.h"
#include "storage/outbox_store.h"

namespace idunno::sim {

/// Told of everything that happens to a log on disk, before it happens.
class LogWatcher {
 public:
  virtual ~LogWatcher() = default;
  virtual void hard_state_changes(NodeId node, std::uint64_t log_id, const HardState& from, const HardState& to) = 0;
  virtual void entries_go(NodeId node, std::uint64_t log_id, LogIndex from, LogIndex to) = 0;
};

struct DiskOptions {
  NodeId node;
  Duration flush_min{};
  Duration flush_max{};
};

struct StoredBlock {
  std::shared_ptr<const Bytes> bytes;
  Hash128 hash;  ///< as it was put
  WallMs stored_ms = 0;
  bool damaged = false;
};

class FakeDisk {
 public:
  FakeDisk(DiskOptions options, std::uint64_t seed, LogWatcher* watcher);

  // -- for the process --
  [[nodiscard]] std::unique_ptr<LogStore> open_log();
  [[nodiscard]] std::unique_ptr<OutboxStore> open_outbox();
  [[nodiscard]] std::uint64_t store_id() const { return store_id_; }
  /// nullptr when it is not there.
  [[nodiscard]] const StoredBlock* block(BlockId id) const;
  void put_block(BlockId id, std::shared_ptr<const Bytes> bytes, Hash128 hash, WallMs now);  ///< synced
  void remove_block(BlockId id);                                                             ///< not synced
  [[nodiscard]] const std::map<BlockId, StoredBlock>& blocks() const { return blocks_; }

  /// Time that writes of the log have taken since the last call.
  [[nodiscard]] Duration take_time();
  /// What was written is safe.
  void settle() { undo_.clear(); }

  // -- for faults --
  void process_died(bool power_cut);
  void wipe();
  void slow(Duration more) { slowness_ = more; }
  /// Takes no more blocks; the log, which is small, still has room.
  void full(bool is_full) { full_ = is_full; }
  [[nodiscard]] bool full() const { return full_; }
  void fail_next_write() { fails_next_ = true; }
  void fail_no_write() { fails_next_ = false; }
  [[nodiscard]] Duration slowness() const { return slowness_; }
  void damage_block(BlockId id);

  // -- for checkers --
  [[nodiscard]] std::uint64_t log_id() const { return log_.log_id; }
  [[nodiscard]] const LoadedLog& log() const { return log_; }
  /// Also one that a snapshot has replaced since, if it was here.
  [[nodiscard]] const LogEntry* entry(LogIndex index) const;
  [[nodiscard]] LogIndex first_index() const;  ///< of the entries, or where the next would go
  [[nodiscard]] LogIndex last_index() const;
  [[nodiscard]] std::uint64_t failed_writes() const { return failed_writes_; }

 private:
  class SimLogStore;
  class SimOutboxStore;
  struct Undo {
    HardState hard_state;
    std::optional<Snapshot> snapshot;  ///< as it was, when has_snapshot
    bool has_snapshot = false;
    std::uint64_t keep_until = 0;     ///< entries up to this index stay
    std::vector<LogEntry> put_front;  ///< a snapshot removed these
    std::vector<LogEntry> put_back;   ///< removed at the end
  };

  void new_ids();
  [[nodiscard]] Status write_log(const LogWrite& write);
  [[nodiscard]] Status save_snapshot(const Snapshot& snapshot, bool drop_tail);
  [[nodiscard]] Status failed_write();
  void undo_last();

  DiskOptions options_;
  Random random_;
  LogWatcher* watcher_;
  LoadedLog log_;
  std::vector<Undo> undo_;
  std::map<LogIndex, LogEntry> replaced_;  ///< entries that are in the snapshot now, for checkers
  Duration spent_{};
  Duration slowness_{};
  bool fails_next_ = false;
  bool full_ = false;
  std::uint64_t failed_writes_ = 0;

  using OutboxKey = std::tuple<JobId, BatchIndex, std::uint32_t>;
  std::map<OutboxKey, OutboxRecord> outbox_;
  std::deque<OutboxWrite> outbox_unsynced_;  ///< not in outbox_ yet

  std::uint64_t store_id_ = 0;
  std::map<BlockId, StoredBlock> blocks_;
  std::vector<std::pair<BlockId, StoredBlock>> removed_unsynced_;
};

}  // namespace idunno::sim

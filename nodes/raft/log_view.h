#pragma once
/// The part of the log that is in memory: the entries after `base`, what of them is on disk, the newest snapshot, and the
/// configurations that the entries hold. Decides nothing about consensus. Pure.

#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include "nodes/raft/replicated_log.h"

namespace idunno {

/// What an entry is, as the last byte of its command on disk and on the wire.
enum class EntryKind : char { command = 0, configuration = 1 };

[[nodiscard]] Bytes mark_entry(Bytes command, EntryKind kind);
/// Nothing when the mark is missing or unknown, or a configuration does not decode: such an entry is refused.
[[nodiscard]] std::optional<EntryKind> kind_of_entry(ByteView marked);

/// Who keeps the log: ascending by node, each once, at most kLogNodesMax.
struct LogConfiguration {
  std::vector<LogMember> members;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.members);
  }
  bool operator==(const LogConfiguration&) const = default;

  [[nodiscard]] bool empty() const { return members.empty(); }
  [[nodiscard]] const LogMember* find(NodeId node) const;
  [[nodiscard]] std::size_t voters() const;
  [[nodiscard]] bool is_voter(NodeId node, std::uint64_t log_id) const;
};

/// A snapshot on disk and on the wire is the state with the configuration behind it: state, encoded configuration, its length (4
/// bytes, little-endian).
[[nodiscard]] Bytes wrap_state(Bytes state, const LogConfiguration& configuration);
struct UnwrappedState {
  std::size_t state_bytes = 0;
  LogConfiguration configuration;
};
[[nodiscard]] Result<UnwrappedState> unwrap_state(ByteView wrapped);

class LogView {
 public:
  /// damaged when `loaded` has a hole, epochs that go down, or entries that do not decode.
  [[nodiscard]] static Result<LogView> restore(LoadedLog loaded);

  [[nodiscard]] LogIndex base() const { return base_; }  ///< entries up to here are no longer in memory
  [[nodiscard]] LogIndex last() const { return LogIndex{base_.value + entries_.size()}; }
  [[nodiscard]] Epoch last_epoch() const { return epoch_at(last()); }
  [[nodiscard]] Epoch epoch_at(LogIndex index) const;      ///< base <= index <= last
  [[nodiscard]] const LogEntry& at(LogIndex index) const;  ///< base < index <= last
  /// The highest index <= `index` whose epoch is not above `epoch` (and not below base): where two logs may agree (Raft 5.3).
  [[nodiscard]] LogIndex agreement_before(LogIndex index, Epoch epoch) const;

  void append(Epoch epoch, Bytes marked);
  void truncate_from(LogIndex index);  ///< base < index

  [[nodiscard]] LogIndex durable() const { return durable_; }  ///< entries up to here are on disk
  [[nodiscard]] bool dirty() const { return durable_ < last() || truncate_from_.has_value(); }
  void fill(LogWrite& write) const;  ///< what is not on disk yet
  void written();                    ///< it is now

  [[nodiscard]] const LogConfiguration& configuration() const { return configurations_.back().second; }
  [[nodiscard]] LogIndex configuration_index() const { return configurations_.back().first; }
  [[nodiscard]] const LogConfiguration& configuration_at(LogIndex index) const;

  [[nodiscard]] const std::optional<Snapshot>& snapshot() const { return snapshot_; }  ///< wrapped
  [[nodiscard]] LogIndex snapshot_index() const { return snapshot_ ? snapshot_->index : LogIndex{}; }
  [[nodiscard]] const Hash128& snapshot_hash() const { return snapshot_hash_; }
  /// A snapshot of our own: the entries before it go, but for a tail for slow followers (kKeepEntries, kKeepBytes).
  void compacted(Snapshot wrapped);
  /// One of the leader's: entries after it stay only when they continue it. The log must not be dirty. True when the entries
  /// after it are gone (to be dropped on disk, too).
  [[nodiscard]] bool install(Snapshot wrapped, LogConfiguration configuration);

 private:
  LogView() = default;
  void drop_front();
  void set_snapshot(Snapshot wrapped);

  LogIndex base_;
  Epoch base_epoch_;
  std::deque<LogEntry> entries_;
  std::size_t covered_bytes_ = 0;  ///< of the entries in memory that the snapshot contains
  LogIndex durable_;
  std::optional<LogIndex> truncate_from_;                              ///< on disk, not done yet
  std::vector<std::pair<LogIndex, LogConfiguration>> configurations_;  ///< ascending; the first one holds at base or snapshot
  std::optional<Snapshot> snapshot_;
  Hash128 snapshot_hash_;
};

}  // namespace idunno

#pragma once
/// Where a voter keeps its log, its vote and its snapshot. Memory and RocksDB implementations pass one contract suite.
/// One thread. A failed write or sync is final: the caller stops the node (style.md 5).

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"

namespace idunno {

struct LogEntry {
  LogIndex index;
  Epoch epoch;
  Bytes command;
  bool operator==(const LogEntry&) const = default;
};

/// What must survive besides the entries (Raft figure 2, "persistent state").
struct HardState {
  Epoch epoch;
  NodeId voted_for;
  bool operator==(const HardState&) const = default;
};

struct Snapshot {
  LogIndex index;  ///< the last entry it contains
  Epoch epoch;     ///< of that entry
  Bytes state;
  bool operator==(const Snapshot&) const = default;
};

struct LogWrite {
  std::optional<HardState> hard_state;
  std::optional<LogIndex> truncate_from;  ///< remove entries >= this first
  std::vector<LogEntry> append;           ///< consecutive, right after what is there
};

struct LoadedLog {
  std::uint64_t log_id = 0;  ///< random, made with the store and durable before load returns: a wiped log is another log
  HardState hard_state;
  std::optional<Snapshot> snapshot;
  std::vector<LogEntry> entries;  ///< after the snapshot
};

class LogStore {
 public:
  virtual ~LogStore() = default;
  /// Everything, in order. damaged when there is a hole or an entry fails its checksum.
  [[nodiscard]] virtual Result<LoadedLog> load() = 0;
  /// All of it in one synced write, or nothing.
  [[nodiscard]] virtual Status write(const LogWrite& write) = 0;
  /// Makes the snapshot durable, then removes the entries that it contains; with `drop_tail` also those after it, which another
  /// leader's log contradicts (a snapshot that was installed). In one synced write as far as the log's contents go.
  [[nodiscard]] virtual Status save_snapshot(const Snapshot& snapshot, bool drop_tail = false) = 0;
};

/// A store that does not open, or of which something cannot be read, is put aside as `<folder>.broken-<n>` and a new, empty one
/// with another log_id takes its place: the node then comes back as a new, empty log server and can never vote twice. Disk errors
/// that may pass (no space, no permission) are errors instead.
struct OpenedLogStore {
  std::unique_ptr<LogStore> store;
  bool was_replaced = false;
  std::string why_replaced;
};
[[nodiscard]] Result<OpenedLogStore> open_rocks_log_store(const std::filesystem::path& folder);
[[nodiscard]] std::unique_ptr<LogStore> make_memory_log_store(std::uint64_t log_id = 1);

}  // namespace idunno

#pragma once
/// Where a worker keeps the commits of batches whose results are stored but which no coordinator has taken yet. They survive the
/// death of the process (RocksDB's write-ahead log, not synced: after a power cut a lost record costs one batch computed again,
/// never a wrong result). One thread.

#include <filesystem>
#include <memory>
#include <vector>

#include "bus/base/result.h"
#include "bus/types.h"

namespace idunno {

struct OutboxRecord {
  WallMs stored_ms = 0;  ///< for the age limit at the next start
  BatchCommit commit;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.stored_ms, s.commit);
  }
  bool operator==(const OutboxRecord&) const = default;
};

struct OutboxWrite {
  std::vector<OutboxRecord> add;    ///< an equal (job, batch, attempt) is replaced
  std::vector<BatchCommit> remove;  ///< by (job, batch, attempt), after `add`; unknown ones are no error
  [[nodiscard]] bool empty() const { return add.empty() && remove.empty(); }
};

class OutboxStore {
 public:
  virtual ~OutboxStore() = default;
  /// What an earlier life left, in the order (job, batch, attempt). Damaged records are left out (and removed).
  [[nodiscard]] virtual Result<std::vector<OutboxRecord>> load() = 0;
  [[nodiscard]] virtual Status write(const OutboxWrite& write) = 0;
};

/// A store that does not open is put aside as `<folder>.broken-<n>` and an empty one takes its place.
[[nodiscard]] Result<std::unique_ptr<OutboxStore>> open_rocks_outbox_store(const std::filesystem::path& folder);
[[nodiscard]] std::unique_ptr<OutboxStore> make_memory_outbox_store();

}  // namespace idunno

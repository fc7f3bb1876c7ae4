/// A log in memory, with the behaviour of the one on disk: for tests and the simulator.

#include <algorithm>

#include "storage/log_rules.h"
#include "storage/log_store.h"

namespace idunno {
namespace {

class MemoryLogStore final : public LogStore {
 public:
  explicit MemoryLogStore(std::uint64_t log_id) { log_.log_id = log_id; }

  Result<LoadedLog> load() override { return log_; }

  Status write(const LogWrite& write) override {
    std::uint64_t last = base() + log_.entries.size();
    if (auto allowed = check_log_write(write, base(), last); !allowed) return allowed;
    if (write.hard_state) log_.hard_state = *write.hard_state;
    if (write.truncate_from) {
      std::erase_if(log_.entries, [&](const LogEntry& entry) { return entry.index >= *write.truncate_from; });
    }
    log_.entries.insert(log_.entries.end(), write.append.begin(), write.append.end());
    return {};
  }

  Status save_snapshot(const Snapshot& snapshot, bool drop_tail) override {
    if (auto allowed = check_snapshot(snapshot, base()); !allowed) return allowed;
    log_.snapshot = snapshot;
    std::erase_if(log_.entries, [&](const LogEntry& entry) { return drop_tail || entry.index <= snapshot.index; });
    return {};
  }

 private:
  [[nodiscard]] std::uint64_t base() const { return log_.snapshot ? log_.snapshot->index.value : 0; }

  LoadedLog log_;
};

}  // namespace

std::unique_ptr<LogStore> make_memory_log_store(std::uint64_t log_id) { return std::make_unique<MemoryLogStore>(log_id); }

}  // namespace idunno

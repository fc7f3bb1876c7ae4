/// An outbox in memory, with the behaviour of the one on disk: for tests.

#include <map>
#include <tuple>

#include "storage/outbox_store.h"

namespace idunno {
namespace {

using Key = std::tuple<JobId, BatchIndex, std::uint32_t>;

Key key_of(const BatchCommit& commit) { return {commit.job, commit.batch, commit.attempt}; }

class MemoryOutboxStore final : public OutboxStore {
 public:
  Result<std::vector<OutboxRecord>> load() override {
    std::vector<OutboxRecord> records;
    for (const auto& [key, record] : records_) records.push_back(record);
    return records;
  }

  Status write(const OutboxWrite& write) override {
    for (const OutboxRecord& record : write.add) records_.insert_or_assign(key_of(record.commit), record);
    for (const BatchCommit& commit : write.remove) records_.erase(key_of(commit));
    return {};
  }

 private:
  std::map<Key, OutboxRecord> records_;
};

}  // namespace

std::unique_ptr<OutboxStore> make_memory_outbox_store() { return std::make_unique<MemoryOutboxStore>(); }

}  // namespace idunno

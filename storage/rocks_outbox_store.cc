/// A worker's outbox in RocksDB. Keys and values are described in storage/FORMAT.md. Records stand each for itself: a lost one
/// costs a batch computed again, one that comes back is refused by the coordinator, so nothing here is synced, and after a power
/// cut whatever lies before the first bad record is taken.

#include <fmt/format.h>
#include <rocksdb/cache.h>

#include "bus/codec.h"
#include "storage/outbox_store.h"
#include "storage/rocks_common.h"

namespace idunno {
namespace {

using rocks::to_error;
using rocks::to_view;

constexpr char kCommitPrefix = 'c';
constexpr char kFormatKey[] = "!format";
constexpr char kFormat[] = "idunno outbox 1";
constexpr std::uint64_t kWriteBufferBytes = 1ULL << 20U;
constexpr int kWriteBuffers = 2;
constexpr std::size_t kCacheBytes = 1U << 20U;

std::string key_of(const BatchCommit& commit) {
  std::string key(1, kCommitPrefix);
  rocks::append_u64(key, commit.job.value);
  rocks::append_u32(key, commit.batch);
  rocks::append_u32(key, commit.attempt);
  return key;
}

class RocksOutboxStore final : public OutboxStore {
 public:
  explicit RocksOutboxStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  Status open() {
    if (rocks::lost_its_manifest(folder_)) return Error{Errc::damaged, name() + " has lost its file CURRENT"};
    rocksdb::Options options = rocks::base_options(kWriteBufferBytes, kWriteBuffers, rocksdb::NewLRUCache(kCacheBytes));
    options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
    rocksdb::DB* database = nullptr;
    const auto status = rocksdb::DB::Open(options, folder_.string(), &database);
    if (!status.ok()) return rocks::opening_error(status, "opening " + name());
    database_.reset(database);
    std::string format;
    const auto known = database_->Get(rocksdb::ReadOptions(), kFormatKey, &format);
    if (known.IsNotFound()) {
      const auto made = database_->Put(rocksdb::WriteOptions(), kFormatKey, kFormat);
      if (!made.ok()) return to_error(made, "making " + name());
    } else if (!known.ok()) {
      return rocks::opening_error(known, "reading " + name());
    } else if (format != kFormat) {
      return Error{Errc::damaged, fmt::format("{} is of the unknown format '{}'", name(), format)};
    }
    const auto readable = load();
    if (!readable) return readable.error();
    return {};
  }

  Result<std::vector<OutboxRecord>> load() override {
    std::vector<OutboxRecord> records;
    rocksdb::WriteBatch damaged;
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    std::unique_ptr<rocksdb::Iterator> it(database_->NewIterator(options));
    for (it->Seek(std::string(1, kCommitPrefix)); it->Valid() && it->key()[0] == kCommitPrefix; it->Next()) {
      auto record = decode_record(to_view(it->value()));
      if (record && key_of(record->commit) == to_view(it->key())) {
        records.push_back(std::move(record).value());
      } else {
        (void)damaged.Delete(it->key());
      }
    }
    if (!it->status().ok()) return rocks::opening_error(it->status(), "reading " + name());
    if (damaged.Count() > 0) {
      const auto status = database_->Write(rocksdb::WriteOptions(), &damaged);
      if (!status.ok()) return to_error(status, "removing damaged records from " + name());
    }
    return records;
  }

  Status write(const OutboxWrite& write) override {
    if (write.empty()) return {};
    rocksdb::WriteBatch batch;
    for (const OutboxRecord& record : write.add) {
      std::string value = encode(record);
      (void)rocks::seal(value);
      (void)batch.Put(key_of(record.commit), value);
    }
    for (const BatchCommit& commit : write.remove) (void)batch.Delete(key_of(commit));
    const auto status = database_->Write(rocksdb::WriteOptions(), &batch);
    if (!status.ok()) {
      return to_error(status,
                      fmt::format("writing {} and removing {} commits in {}", write.add.size(), write.remove.size(), name()));
    }
    return {};
  }

 private:
  [[nodiscard]] std::string name() const { return "the outbox " + folder_.string(); }

  static Result<OutboxRecord> decode_record(ByteView value) {
    const auto body = rocks::unseal(value, 1, "a commit in the outbox");
    if (!body) return body.error();
    return decode<OutboxRecord>(*body);
  }

  const std::filesystem::path folder_;
  std::unique_ptr<rocksdb::DB> database_;
};

}  // namespace

Result<std::unique_ptr<OutboxStore>> open_rocks_outbox_store(const std::filesystem::path& folder) {
  if (auto made = rocks::make_folder(folder); !made) return made.error();
  auto store = std::make_unique<RocksOutboxStore>(folder);
  auto status = store->open();
  if (!status && status.error().code == Errc::damaged) {
    store.reset();
    auto aside = rocks::set_aside(folder);
    if (!aside) return annotate(aside.error(), status.error().detail);
    if (auto made = rocks::make_folder(folder); !made) return made.error();
    store = std::make_unique<RocksOutboxStore>(folder);
    status = store->open();
  }
  if (!status) return status.error();
  return std::unique_ptr<OutboxStore>(std::move(store));
}

}  // namespace idunno

/// The log of a voter in RocksDB. Keys and values are described in storage/FORMAT.md; every value ends in the xxh3-128 of what
/// stands before it, because RocksDB's 32 bits are not enough for what everything else hangs on.

#include <fmt/format.h>
#include <rocksdb/cache.h>

#include "bus/hash.h"
#include "storage/log_rules.h"
#include "storage/log_store.h"
#include "storage/rocks_common.h"

namespace idunno {
namespace {

using rocks::to_error;
using rocks::to_view;

constexpr char kEntryPrefix = 'e';
constexpr char kHardStateKey[] = "hard_state";
constexpr char kSnapshotKey[] = "snapshot";
constexpr char kFormatKey[] = "!format";
constexpr char kFormat[] = "idunno log 1";
constexpr std::size_t kHashBytes = 16;
constexpr std::uint64_t kWriteBufferBytes = 4ULL << 20U;
constexpr int kWriteBuffers = 2;
constexpr std::size_t kCacheBytes = 1U << 20U;
constexpr std::uint64_t kDeletesPerBatch = 4096;

std::string entry_key(std::uint64_t index) {
  std::string key(1, kEntryPrefix);
  rocks::append_u64(key, index);
  return key;
}

void seal(std::string& value) {
  const Hash128 hash = hash128(value);
  rocks::append_u64(value, hash.hi);
  rocks::append_u64(value, hash.lo);
}

/// What stands before the checksum; damaged when it does not match or is shorter than `least`.
Result<ByteView> unseal(ByteView value, std::size_t least, const std::string& what) {
  if (value.size() < least + kHashBytes) return Error{Errc::damaged, fmt::format("reading {}: it is cut short", what)};
  const ByteView body = value.substr(0, value.size() - kHashBytes);
  const Hash128 hash{rocks::read_u64(value, body.size()), rocks::read_u64(value, body.size() + 8)};
  if (hash128(body) != hash) return Error{Errc::damaged, fmt::format("reading {}: its checksum does not match", what)};
  return body;
}

class RocksLogStore final : public LogStore {
 public:
  explicit RocksLogStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

  Status open() {
    rocksdb::Options options = rocks::base_options(kWriteBufferBytes, kWriteBuffers, rocksdb::NewLRUCache(kCacheBytes));
    rocksdb::DB* database = nullptr;
    const auto status = rocksdb::DB::Open(options, folder_.string(), &database);
    if (!status.ok()) return to_error(status, "opening the log " + folder_.string());
    database_.reset(database);
    std::string format;
    const auto known = database_->Get(rocksdb::ReadOptions(), kFormatKey, &format);
    if (known.IsNotFound()) {
      const auto made = database_->Put(rocks::synced(), kFormatKey, kFormat);
      if (!made.ok()) return to_error(made, "making the log " + folder_.string());
    } else if (!known.ok()) {
      return to_error(known, "reading the log " + folder_.string());
    } else if (format != kFormat) {
      return Error{Errc::damaged, fmt::format("the log {} is of the unknown format '{}'", folder_.string(), format)};
    }
    auto loaded = load();
    if (!loaded) return loaded.error();
    return {};
  }

  Result<LoadedLog> load() override {
    LoadedLog log;
    if (auto status = load_hard_state(log); !status) return status.error();
    if (auto status = load_snapshot(log); !status) return status.error();
    base_ = log.snapshot ? log.snapshot->index.value : 0;
    if (auto status = load_entries(log); !status) return status.error();
    last_ = base_ + log.entries.size();
    return log;
  }

  Status write(const LogWrite& write) override {
    std::uint64_t last = last_;
    if (auto allowed = check_log_write(write, base_, last); !allowed) return allowed;
    rocksdb::WriteBatch batch;
    if (write.hard_state) {
      std::string value;
      rocks::append_u64(value, write.hard_state->epoch.value);
      rocks::append_u32(value, write.hard_state->voted_for.value);
      seal(value);
      (void)batch.Put(kHardStateKey, value);
    }
    if (write.truncate_from) {
      for (std::uint64_t index = write.truncate_from->value; index <= last_; ++index) (void)batch.Delete(entry_key(index));
    }
    for (const LogEntry& entry : write.append) {
      std::string value;
      value.reserve(8 + entry.command.size() + kHashBytes);
      rocks::append_u64(value, entry.epoch.value);
      value += entry.command;
      seal(value);
      (void)batch.Put(entry_key(entry.index.value), value);
    }
    const auto status = database_->Write(rocks::synced(), &batch);
    if (!status.ok())
      return to_error(status, fmt::format("writing {} entries to the log {}", write.append.size(), folder_.string()));
    last_ = last;
    return {};
  }

  Status save_snapshot(const Snapshot& snapshot) override {
    if (auto allowed = check_snapshot(snapshot, base_); !allowed) return allowed;
    std::string value;
    value.reserve(16 + snapshot.state.size() + kHashBytes);
    rocks::append_u64(value, snapshot.index.value);
    rocks::append_u64(value, snapshot.epoch.value);
    value += snapshot.state;
    seal(value);
    const auto status = database_->Put(rocks::synced(), kSnapshotKey, value);
    if (!status.ok()) return to_error(status, fmt::format("writing a snapshot to {}", folder_.string()));
    const std::uint64_t first = base_ + 1;
    base_ = snapshot.index.value;
    const std::uint64_t end = std::min(last_, base_);
    last_ = std::max(last_, base_);
    return forget(first, end);
  }

 private:
  /// Entries that a snapshot contains. Not synced: load() does not mind those that come back.
  Status forget(std::uint64_t first, std::uint64_t last) {
    while (first <= last) {
      rocksdb::WriteBatch batch;
      const std::uint64_t end = std::min(last, first + kDeletesPerBatch - 1);
      for (; first <= end; ++first) (void)batch.Delete(entry_key(first));
      const auto status = database_->Write(rocksdb::WriteOptions(), &batch);
      if (!status.ok()) return to_error(status, fmt::format("removing old entries from the log {}", folder_.string()));
    }
    return {};
  }

  Status load_hard_state(LoadedLog& log) {
    rocksdb::PinnableSlice value;
    const auto status = database_->Get(rocksdb::ReadOptions(), database_->DefaultColumnFamily(), kHardStateKey, &value);
    if (status.IsNotFound()) return {};
    if (!status.ok()) return to_error(status, "reading the vote in " + folder_.string());
    const auto body = unseal(to_view(value), 12, "the vote in " + folder_.string());
    if (!body) return body.error();
    log.hard_state = HardState{Epoch{rocks::read_u64(*body, 0)}, NodeId{rocks::read_u32(*body, 8)}};
    return {};
  }

  Status load_snapshot(LoadedLog& log) {
    rocksdb::PinnableSlice value;
    const auto status = database_->Get(rocksdb::ReadOptions(), database_->DefaultColumnFamily(), kSnapshotKey, &value);
    if (status.IsNotFound()) return {};
    if (!status.ok()) return to_error(status, "reading the snapshot in " + folder_.string());
    const auto body = unseal(to_view(value), 16, "the snapshot in " + folder_.string());
    if (!body) return body.error();
    log.snapshot = Snapshot{LogIndex{rocks::read_u64(*body, 0)}, Epoch{rocks::read_u64(*body, 8)}, Bytes(body->substr(16))};
    return {};
  }

  Status load_entries(LoadedLog& log) {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    std::unique_ptr<rocksdb::Iterator> it(database_->NewIterator(options));
    std::uint64_t expected = base_ + 1;
    // Entries up to the snapshot may have survived a crash right after it.
    for (it->Seek(entry_key(expected)); it->Valid() && it->key()[0] == kEntryPrefix; it->Next(), ++expected) {
      const std::string what = fmt::format("entry {} of the log {}", expected, folder_.string());
      if (it->key().size() != 9 || rocks::read_u64(to_view(it->key()), 1) != expected) {
        return Error{Errc::damaged, fmt::format("reading {}: it is missing", what)};
      }
      const auto body = unseal(to_view(it->value()), 8, what);
      if (!body) return body.error();
      log.entries.push_back(LogEntry{LogIndex{expected}, Epoch{rocks::read_u64(*body, 0)}, Bytes(body->substr(8))});
    }
    if (!it->status().ok()) return to_error(it->status(), "reading the log " + folder_.string());
    return {};
  }

  const std::filesystem::path folder_;
  std::unique_ptr<rocksdb::DB> database_;
  std::uint64_t base_ = 0;  ///< the snapshot's index
  std::uint64_t last_ = 0;
};

}  // namespace

Result<std::unique_ptr<LogStore>> open_rocks_log_store(const std::filesystem::path& folder) {
  if (auto made = rocks::make_folder(folder); !made) return made.error();
  auto store = std::make_unique<RocksLogStore>(folder);
  if (auto status = store->open(); !status) return status.error();
  return std::unique_ptr<LogStore>(std::move(store));
}

}  // namespace idunno

/// The log of a voter in RocksDB. Keys and values are described in storage/FORMAT.md. Nothing that was acknowledged can be lost
/// unseen: each entry's checksum covers that of the entry before it, each write renews one record (`state`) that pins the vote,
/// the snapshot and the end of that chain, and a mark beside the database (storage/log_mark.h) says how many writes there were.

#include <fmt/format.h>
#include <rocksdb/cache.h>

#include <algorithm>
#include <deque>

#include "bus/entropy.h"
#include "bus/hash.h"
#include "storage/log_mark.h"
#include "storage/log_rules.h"
#include "storage/log_store.h"
#include "storage/rocks_common.h"

namespace idunno {
namespace {

using rocks::to_error;
using rocks::to_view;

constexpr char kEntryPrefix = 'e';
constexpr char kStateKey[] = "state";
constexpr char kSnapshotKey[] = "snapshot";
constexpr char kLogIdKey[] = "!log_id";
constexpr char kFormatKey[] = "!format";
constexpr char kFormat[] = "idunno log 2";
constexpr char kMarkFile[] = "mark";
constexpr std::uint64_t kWriteBufferBytes = 4ULL << 20U;
constexpr int kWriteBuffers = 2;
constexpr std::size_t kCacheBytes = 1U << 20U;
constexpr std::uint64_t kDeletesPerBatch = 4096;

std::string entry_key(std::uint64_t index) {
  std::string key(1, kEntryPrefix);
  rocks::append_u64(key, index);
  return key;
}

/// The record that every write renews.
struct State {
  std::uint64_t writes = 0;  ///< counts the writes
  HardState hard_state;
  std::uint64_t base = 0;  ///< index of the snapshot, 0 without
  Hash128 snapshot;        ///< its seal
  Hash128 base_seal;       ///< where the chain of entries starts
  std::uint64_t last = 0;
  Hash128 last_seal;  ///< of the last entry; base_seal when there is none
};
constexpr std::size_t kStateBytes = 8 + 8 + 4 + 8 + 16 + 16 + 8 + 16;

std::string encode_state(const State& state) {
  std::string value;
  value.reserve(kStateBytes + rocks::kSealBytes);
  rocks::append_u64(value, state.writes);
  rocks::append_u64(value, state.hard_state.epoch.value);
  rocks::append_u32(value, state.hard_state.voted_for.value);
  rocks::append_u64(value, state.base);
  rocks::append_hash(value, state.snapshot);
  rocks::append_hash(value, state.base_seal);
  rocks::append_u64(value, state.last);
  rocks::append_hash(value, state.last_seal);
  (void)rocks::seal(value);
  return value;
}

State decode_state(ByteView body) {
  State state;
  state.writes = rocks::read_u64(body, 0);
  state.hard_state = HardState{Epoch{rocks::read_u64(body, 8)}, NodeId{rocks::read_u32(body, 16)}};
  state.base = rocks::read_u64(body, 20);
  state.snapshot = rocks::read_hash(body, 28);
  state.base_seal = rocks::read_hash(body, 44);
  state.last = rocks::read_u64(body, 60);
  state.last_seal = rocks::read_hash(body, 68);
  return state;
}

/// The value of an entry; `before` is the seal of the entry before it and becomes this one's.
std::string encode_entry(const LogEntry& entry, Hash128& before) {
  std::string value;
  value.reserve(rocks::kSealBytes + 8 + entry.command.size() + rocks::kSealBytes);
  rocks::append_hash(value, before);
  rocks::append_u64(value, entry.epoch.value);
  value += entry.command;
  before = rocks::seal(value);
  return value;
}

class RocksLogStore final : public LogStore {
 public:
  explicit RocksLogStore(std::filesystem::path folder) : folder_(std::move(folder)), mark_(folder_ / kMarkFile) {}

  /// Opens, makes or checks everything; damaged when the store can not be trusted.
  Status open() {
    if (rocks::lost_its_manifest(folder_)) return Error{Errc::damaged, fmt::format("{} has lost its file CURRENT", name())};
    const rocksdb::Options options = rocks::base_options(kWriteBufferBytes, kWriteBuffers, rocksdb::NewLRUCache(kCacheBytes));
    rocksdb::DB* database = nullptr;
    const auto status = rocksdb::DB::Open(options, folder_.string(), &database);
    if (!status.ok()) return rocks::opening_error(status, "opening " + name());
    database_.reset(database);
    if (auto known = check_format(); !known) return known;
    auto loaded = read_all();
    if (!loaded) return loaded.error();
    if (auto complete = check_mark(); !complete) return complete;
    mark_.write({log_id_, state_.writes});
    loaded_ = std::move(loaded).value();
    return {};
  }

  Result<LoadedLog> load() override {
    if (!loaded_) return read_all();
    LoadedLog log = std::move(*loaded_);
    loaded_.reset();
    return log;
  }

  Status write(const LogWrite& write) override {
    State next = state_;
    if (auto allowed = check_log_write(write, state_.base, next.last); !allowed) return allowed;
    if (write.hard_state) next.hard_state = *write.hard_state;
    const std::uint64_t kept = next.last - write.append.size();
    std::vector<Hash128> seals;
    seals.reserve(write.append.size());
    next.last_seal = seal_of(kept);
    rocksdb::WriteBatch batch;
    for (std::uint64_t index = kept + 1; index <= state_.last; ++index) (void)batch.Delete(entry_key(index));
    for (const LogEntry& entry : write.append) {
      (void)batch.Put(entry_key(entry.index.value), encode_entry(entry, next.last_seal));
      seals.push_back(next.last_seal);
    }
    const std::string what = fmt::format("writing {} entries to {}", write.append.size(), name());
    if (auto written = commit(batch, next, what); !written) return written;
    seals_.resize(kept - state_.base);
    seals_.insert(seals_.end(), seals.begin(), seals.end());
    return {};
  }

  Status save_snapshot(const Snapshot& snapshot, bool drop_tail) override {
    if (auto allowed = check_snapshot(snapshot, state_.base); !allowed) return allowed;
    const State before = state_;
    const std::uint64_t index = snapshot.index.value;
    const bool known = index <= before.last;
    std::string value;
    value.reserve(16 + snapshot.state.size() + rocks::kSealBytes);
    rocks::append_u64(value, index);
    rocks::append_u64(value, snapshot.epoch.value);
    value += snapshot.state;
    State next = before;
    next.base = index;
    next.snapshot = rocks::seal(value);
    next.base_seal = known ? seal_of(index) : Hash128{};
    if (drop_tail || !known) {
      next.last = index;
      next.last_seal = next.base_seal;
    }
    rocksdb::WriteBatch batch;
    (void)batch.Put(kSnapshotKey, value);
    // In the same write: entries behind the snapshot that lasted would be taken for its continuation.
    for (std::uint64_t doomed = next.last + 1; doomed <= before.last; ++doomed) (void)batch.Delete(entry_key(doomed));
    if (auto written = commit(batch, next, "writing a snapshot to " + name()); !written) return written;
    const auto gone = static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(index - before.base, seals_.size()));
    seals_.erase(seals_.begin(), seals_.begin() + gone);
    seals_.resize(next.last - next.base);
    return forget(before.base + 1, std::min(before.last, index));
  }

 private:
  [[nodiscard]] std::string name() const { return "the log " + folder_.string(); }

  /// Of an entry from the base on; the base itself has the seal that the chain starts with.
  [[nodiscard]] Hash128 seal_of(std::uint64_t index) const {
    return index == state_.base ? state_.base_seal : seals_[index - state_.base - 1];
  }

  /// One synced write, with the record that pins everything.
  Status commit(rocksdb::WriteBatch& batch, State& next, const std::string& doing) {
    if (failed_) return Error{Errc::internal, doing + ": a write failed before"};
    loaded_.reset();
    ++next.writes;
    (void)batch.Put(kStateKey, encode_state(next));
    const auto status = database_->Write(rocks::synced(), &batch);
    if (!status.ok()) {
      failed_ = true;
      return to_error(status, doing);
    }
    state_ = next;
    mark_.write({log_id_, state_.writes});
    return {};
  }

  /// Entries that a snapshot contains. Not synced: load() does not read those that come back.
  Status forget(std::uint64_t first, std::uint64_t last) {
    while (first <= last) {
      rocksdb::WriteBatch batch;
      const std::uint64_t end = std::min(last, first + kDeletesPerBatch - 1);
      for (; first <= end; ++first) (void)batch.Delete(entry_key(first));
      const auto status = database_->Write(rocksdb::WriteOptions(), &batch);
      if (!status.ok()) {
        failed_ = true;
        return to_error(status, "removing old entries from " + name());
      }
    }
    return {};
  }

  /// Empty when the key is not there: no value of ours is.
  Result<Bytes> get(const char* key) {
    Bytes value;
    const auto status = database_->Get(rocksdb::ReadOptions(), key, &value);
    if (!status.ok() && !status.IsNotFound()) {
      return rocks::opening_error(status, fmt::format("reading '{}' in {}", key, name()));
    }
    return value;
  }

  Status check_format() {
    const auto format = get(kFormatKey);
    if (!format) return format.error();
    if (format->empty()) return initialise();
    if (*format != kFormat) {
      return Error{Errc::damaged, fmt::format("{} is of the format '{}', which this release does not read (it reads '{}')",
                                              name(), *format, kFormat)};
    }
    const auto id = get(kLogIdKey);
    if (!id) return id.error();
    const auto body = rocks::unseal(*id, 8, "the id of " + name());
    if (!body) return body.error();
    log_id_ = rocks::read_u64(*body, 0);
    return {};
  }

  Status initialise() {
    std::unique_ptr<rocksdb::Iterator> any(database_->NewIterator(rocksdb::ReadOptions()));
    any->SeekToFirst();
    if (any->Valid()) return Error{Errc::damaged, fmt::format("{} has lost what it begins with", name())};
    if (!any->status().ok()) return rocks::opening_error(any->status(), "reading " + name());
    log_id_ = random_nonzero();
    if (mark_.read().writes > 0) return Error{Errc::damaged, fmt::format("{} has lost everything", name())};
    std::string id;
    rocks::append_u64(id, log_id_);
    (void)rocks::seal(id);
    rocksdb::WriteBatch batch;
    (void)batch.Put(kFormatKey, kFormat);
    (void)batch.Put(kLogIdKey, id);
    State first;
    return commit(batch, first, "making " + name());
  }

  /// Writes that were acknowledged and are not there.
  Status check_mark() const {
    const LogMark::Value mark = mark_.read();
    if (mark.log_id != log_id_ || mark.writes <= state_.writes) return {};
    return Error{Errc::damaged,
                 fmt::format("{} has lost acknowledged writes: it holds {} of {}", name(), state_.writes, mark.writes)};
  }

  Result<LoadedLog> read_all() {
    const auto found = get(kStateKey);
    if (!found) return found.error();
    const auto body = rocks::unseal(*found, kStateBytes, "the state of " + name());
    if (!body) return body.error();
    state_ = decode_state(*body);
    LoadedLog log;
    log.log_id = log_id_;
    log.hard_state = state_.hard_state;
    if (auto status = read_snapshot(log); !status) return status.error();
    if (auto status = read_entries(log); !status) return status.error();
    return log;
  }

  Status read_snapshot(LoadedLog& log) {
    const std::string what = "the snapshot of " + name();
    const auto value = get(kSnapshotKey);
    if (!value) return value.error();
    if (value->empty() && state_.base == 0) return {};
    const auto body = rocks::unseal(*value, 16, what);
    if (!body) return body.error();
    log.snapshot = Snapshot{LogIndex{rocks::read_u64(*body, 0)}, Epoch{rocks::read_u64(*body, 8)}, Bytes(body->substr(16))};
    if (log.snapshot->index.value != state_.base || rocks::read_hash(*value, body->size()) != state_.snapshot) {
      return Error{Errc::damaged, fmt::format("reading {}: it is of entry {} and not the newest, which is of entry {}", what,
                                              log.snapshot->index.value, state_.base)};
    }
    return {};
  }

  Status read_entries(LoadedLog& log) {
    seals_.clear();
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    std::unique_ptr<rocksdb::Iterator> it(database_->NewIterator(options));
    std::uint64_t expected = state_.base + 1;
    Hash128 before = state_.base_seal;
    // Entries up to the snapshot may have survived a crash right after it.
    for (it->Seek(entry_key(expected)); it->Valid() && it->key()[0] == kEntryPrefix; it->Next(), ++expected) {
      const std::string what = fmt::format("entry {} of {}", expected, name());
      if (it->key().size() != 9 || rocks::read_u64(to_view(it->key()), 1) != expected) {
        return Error{Errc::damaged, fmt::format("reading {}: it is missing", what)};
      }
      const auto body = rocks::unseal(to_view(it->value()), rocks::kSealBytes + 8, what);
      if (!body) return body.error();
      if (rocks::read_hash(*body, 0) != before) {
        return Error{Errc::damaged, fmt::format("reading {}: it does not follow the entry before it", what)};
      }
      before = rocks::read_hash(to_view(it->value()), body->size());
      seals_.push_back(before);
      log.entries.push_back(LogEntry{LogIndex{expected}, Epoch{rocks::read_u64(*body, 16)}, Bytes(body->substr(24))});
    }
    if (!it->status().ok()) return rocks::opening_error(it->status(), "reading " + name());
    if (expected != state_.last + 1 || before != state_.last_seal) {
      return Error{Errc::damaged, fmt::format("reading {}: it ends with entry {} and should end with another entry {}", name(),
                                              expected - 1, state_.last)};
    }
    return {};
  }

  const std::filesystem::path folder_;
  LogMark mark_;
  std::unique_ptr<rocksdb::DB> database_;
  std::uint64_t log_id_ = 0;
  State state_;
  std::deque<Hash128> seals_;        ///< of the entries base + 1 to last
  std::optional<LoadedLog> loaded_;  ///< what open() read, until it is asked for or changed
  bool failed_ = false;
};

}  // namespace

Result<OpenedLogStore> open_rocks_log_store(const std::filesystem::path& folder) {
  if (auto made = rocks::make_folder(folder); !made) return made.error();
  OpenedLogStore opened;
  auto store = std::make_unique<RocksLogStore>(folder);
  auto status = store->open();
  if (!status && status.error().code == Errc::damaged) {
    store.reset();
    auto aside = rocks::set_aside(folder);
    if (!aside) return aside.error();
    opened.was_replaced = true;
    opened.why_replaced = fmt::format("{}; put aside as {}", status.error().detail, aside->string());
    if (auto made = rocks::make_folder(folder); !made) return made.error();
    store = std::make_unique<RocksLogStore>(folder);
    status = store->open();
  }
  if (!status) return status.error();
  opened.store = std::move(store);
  return opened;
}

}  // namespace idunno

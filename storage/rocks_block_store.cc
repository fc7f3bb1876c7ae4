/// Blocks in RocksDB. Keys and values are described in storage/FORMAT.md. A block's bytes lie in blob files; the small facts that
/// `list` and `put` need lie under keys of their own, so that neither reads a block.

#include <fmt/format.h>
#include <rocksdb/cache.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>

#include "bus/entropy.h"
#include "bus/hash.h"
#include "storage/block_store.h"
#include "storage/disk_space.h"
#include "storage/rocks_common.h"
#include "storage/rocks_reclaimer.h"

namespace idunno {
namespace {

using rocks::to_error;
using rocks::to_slice;
using rocks::to_view;

constexpr char kFactsPrefix = 'm';
constexpr char kBytesPrefix = 'b';
constexpr char kFormatKey[] = "!format";
constexpr char kStoreIdKey[] = "!store_id";
constexpr char kFormat[] = "idunno blocks 1";
constexpr char kAsideMark[] = "DAMAGED";  ///< a file that says: put this store aside at the next start
constexpr std::size_t kFactsBytes = 4 + 16 + 8;
constexpr std::uint64_t kBlobBytesMin = 4096;     ///< smaller values stay in the tables
constexpr int kWriteBuffers = 3;                  ///< one fills while two are flushed: 1.5 x the MB/s of two
constexpr std::size_t kBatchOverheadBytes = 128;  ///< of one block in a WriteBatch

struct Facts {
  std::uint32_t length = 0;
  Hash128 hash;
  WallMs stored_ms = 0;
};

std::string key_of(char prefix, BlockId id) {
  std::string key(1, prefix);
  rocks::append_u64(key, id.hi);
  rocks::append_u64(key, id.lo);
  return key;
}

BlockId id_of(ByteView key) { return BlockId{rocks::read_u64(key, 1), rocks::read_u64(key, 9)}; }

std::string encode_facts(const BlockKey& key, WallMs stored_ms) {
  std::string value;
  value.reserve(kFactsBytes);
  rocks::append_u32(value, key.length);
  rocks::append_u64(value, key.hash.hi);
  rocks::append_u64(value, key.hash.lo);
  rocks::append_u64(value, stored_ms);
  return value;
}

std::optional<Facts> decode_facts(ByteView value) {
  if (value.size() != kFactsBytes) return std::nullopt;
  return Facts{rocks::read_u32(value, 0), Hash128{rocks::read_u64(value, 4), rocks::read_u64(value, 12)},
               rocks::read_u64(value, 20)};
}

bool matches(const BlockKey& key, ByteView bytes) { return bytes.size() == key.length && hash128(bytes) == key.hash; }

rocksdb::Options block_options(const RocksStoreOptions& options, std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::Options out = rocks::base_options(options.write_buffer_bytes, kWriteBuffers, std::move(cache));
  out.enable_blob_files = true;
  out.min_blob_size = kBlobBytesMin;
  out.blob_compression_type = rocksdb::kNoCompression;  // blocks are images and the like
  out.enable_blob_garbage_collection = false;           // storage/rocks_reclaimer.h
  return out;
}

/// Keeps the bytes of a read alive. Only for values in blob files: those own their memory and outlive the database.
struct Pinned {
  std::shared_ptr<rocksdb::Cache> cache;  // outlives the slice, should that be pinned there
  rocksdb::PinnableSlice slice;
};

class RocksBlockStore final : public BlockStore {
 public:
  explicit RocksBlockStore(const RocksStoreOptions& options)
      : options_(options), cache_(rocksdb::NewLRUCache(options.cache_bytes)), space_(options.folder, options.reserve_bytes) {}

  ~RocksBlockStore() override { close(); }

  /// Opens, makes or checks the format and the store id, and counts what is there.
  Status open() {
    const std::filesystem::path mark = options_.folder / kAsideMark;
    std::error_code error;
    if (std::filesystem::exists(mark, error)) return Error{Errc::damaged, "the store was found damaged when it last ran"};
    if (rocks::lost_its_manifest(options_.folder))
      return Error{Errc::damaged, fmt::format("{} has lost its file CURRENT", options_.folder.string())};
    if (auto opened = open_database(); !opened) return opened;
    if (auto known = check_format(); !known) return known;
    if (auto counted = count(); !counted) return counted;
    space_.ensure_ballast();
    (void)space_.has_room(0);
    return {};
  }

  Result<std::vector<BlockStatus>> put(const std::vector<BlockWrite>& blocks, WallMs now) override {
    const std::lock_guard write_lock(write_mutex_);
    if (failed_) return Error{Errc::internal, fmt::format("writing to {}: the store failed before", options_.folder.string())};
    if (auto ready = reopen_if_closed(); !ready) {
      if (ready.error().code == Errc::damaged) return give_up(ready.error());  // waiting for space would not help
      return std::vector<BlockStatus>(blocks.size(), BlockStatus::full);
    }
    Plan plan;
    plan.statuses.reserve(blocks.size());
    for (const BlockWrite& block : blocks) {
      auto status = judge(block, plan);
      if (!status) return give_up(status.error());
      plan.statuses.push_back(*status);
      if (plan.take) plan.write.push_back(&block);
      if (plan.take) plan.ids.insert(block.key.id);
      if (plan.take) plan.bytes += block.bytes.size();
    }
    if (plan.write.empty()) return plan.statuses;
    if (!space_.has_room(plan.bytes)) return refuse_full(blocks, plan);
    return write(blocks, plan, now);
  }

  Result<Payload> get(const BlockKey& key) override {
    const std::shared_lock lock(database_mutex_);
    if (!database_)
      return Error{Errc::unavailable, fmt::format("reading block {}: the disk is full and the store closed", to_string(key.id))};
    return read(key);
  }

  Status verify(BlockId id) override {
    const std::shared_lock lock(database_mutex_);
    if (!database_)
      return Error{Errc::unavailable, fmt::format("reading block {}: the disk is full and the store closed", to_string(id))};
    const auto facts = facts_of(id);
    if (!facts) return facts.error();
    if (!facts->has_value()) return Error{Errc::not_found, fmt::format("block {} is not in this store", to_string(id))};
    const auto bytes = read(BlockKey{id, (*facts)->length, (*facts)->hash});
    if (bytes) return {};
    // The facts are there and the bytes are not: half a block is a damaged one.
    if (bytes.error().code == Errc::not_found) return Error{Errc::damaged, bytes.error().detail};
    return bytes.error();
  }

  Status remove(const std::vector<BlockId>& ids) override {
    const std::lock_guard write_lock(write_mutex_);
    if (failed_) return Error{Errc::internal, fmt::format("deleting from {}: the store failed before", options_.folder.string())};
    if (auto ready = reopen_if_closed(); !ready) return ready;
    rocksdb::WriteBatch batch;
    std::uint64_t bytes = 0;
    const std::set<BlockId> unique(ids.begin(), ids.end());
    std::uint64_t found = 0;
    for (const BlockId id : unique) {
      const auto facts = facts_of(id);
      if (!facts) return give_up(facts.error());
      if (!facts->has_value()) continue;
      ++found;
      bytes += (*facts)->length;
      (void)batch.Delete(key_of(kFactsPrefix, id));
      (void)batch.Delete(key_of(kBytesPrefix, id));
    }
    if (found == 0) return {};
    // Not synced: a deletion lost in a power cut is found again by the next inventory.
    if (const auto status = database_->Write(rocksdb::WriteOptions(), &batch); !status.ok()) {
      if (status.IsNoSpace()) return reopen_after_full(status);
      return give_up(to_error(status, fmt::format("deleting {} blocks from {}", found, options_.folder.string())));
    }
    blocks_ -= found;
    bytes_ -= bytes;
    reclaimer_.deleted(database_.get(), bytes, bytes_.load(), space_.read_only());
    return {};
  }

  Result<std::vector<HeldBlock>> list(BlockId after, std::size_t limit) override {
    const std::shared_lock lock(database_mutex_);
    if (!database_) return Error{Errc::unavailable, "listing blocks: the disk is full and the store closed"};
    std::vector<HeldBlock> held;
    auto status = scan(after, [&](BlockId id, const Facts& facts) {
      if (held.size() >= limit) return false;
      held.push_back(HeldBlock{id, facts.length, facts.stored_ms});
      return held.size() < limit;
    });
    if (!status) return status.error();
    return held;
  }

  BlockStoreUsage usage() override {
    if (closed_.load()) {
      // Nobody may write to a node that is full, so recovery can not wait for a write.
      const std::lock_guard write_lock(write_mutex_);
      (void)reopen_if_closed();
    }
    BlockStoreUsage usage;
    usage.blocks = blocks_.load();
    usage.bytes = bytes_.load();
    if (const auto figures = space_.figures()) {
      usage.capacity_bytes = figures->capacity_bytes;
      usage.free_bytes = figures->free_bytes;
    }
    usage.read_only = !space_.has_room(0) || closed_.load();
    return usage;
  }

  std::uint64_t store_id() const override { return store_id_; }

  void close() {
    reclaimer_.stop();
    const std::unique_lock lock(database_mutex_);
    database_.reset();
  }

 private:
  struct Plan {
    std::vector<BlockStatus> statuses;
    std::vector<const BlockWrite*> write;
    std::set<BlockId> ids;
    std::uint64_t bytes = 0;
    std::uint64_t replaced = 0;  ///< damaged copies that are overwritten
    std::uint64_t replaced_bytes = 0;
    bool take = false;  ///< whether the block judged last is to be written
  };

  Status open_database() {
    rocksdb::DB* database = nullptr;
    const auto status = rocksdb::DB::Open(block_options(options_, cache_), options_.folder.string(), &database);
    if (!status.ok()) return rocks::opening_error(status, fmt::format("opening the block store {}", options_.folder.string()));
    const std::unique_lock lock(database_mutex_);
    database_.reset(database);
    closed_ = false;
    return {};
  }

  Status check_format() {
    std::string value;
    const auto status = database_->Get(rocksdb::ReadOptions(), kFormatKey, &value);
    if (status.IsNotFound()) return initialise();
    if (!status.ok()) return to_error(status, fmt::format("reading the format of {}", options_.folder.string()));
    if (value != kFormat)
      return Error{Errc::damaged, fmt::format("{} is of the unknown format '{}'", options_.folder.string(), value)};
    const auto id = database_->Get(rocksdb::ReadOptions(), kStoreIdKey, &value);
    if (!id.ok() || value.size() != 8) return Error{Errc::damaged, fmt::format("{} has lost its id", options_.folder.string())};
    store_id_ = rocks::read_u64(value, 0);
    return {};
  }

  Status initialise() {
    std::unique_ptr<rocksdb::Iterator> any(database_->NewIterator(rocksdb::ReadOptions()));
    any->SeekToFirst();
    if (any->Valid()) return Error{Errc::damaged, fmt::format("{} holds data of something else", options_.folder.string())};
    if (!any->status().ok()) return to_error(any->status(), fmt::format("reading {}", options_.folder.string()));
    store_id_ = random_nonzero();
    std::string id;
    rocks::append_u64(id, store_id_);
    rocksdb::WriteBatch batch;
    (void)batch.Put(kFormatKey, kFormat);
    (void)batch.Put(kStoreIdKey, id);
    const auto status = database_->Write(rocks::synced(), &batch);
    if (!status.ok()) return to_error(status, fmt::format("making the block store {}", options_.folder.string()));
    return {};
  }

  Status count() {
    std::uint64_t blocks = 0;
    std::uint64_t bytes = 0;
    auto status = scan(std::nullopt, [&](BlockId, const Facts& facts) {
      ++blocks;
      bytes += facts.length;
      return true;
    });
    blocks_ = blocks;
    bytes_ = bytes;
    return status;
  }

  /// Calls `visit` with the blocks behind `after` in id order until it returns false.
  template <class Visit>
  Status scan(std::optional<BlockId> after, Visit visit) {
    rocksdb::ReadOptions options;
    options.fill_cache = false;
    const std::string end(1, kFactsPrefix + 1);
    const rocksdb::Slice upper(end);
    options.iterate_upper_bound = &upper;
    std::unique_ptr<rocksdb::Iterator> it(database_->NewIterator(options));
    // The first key behind the one of `after` is that key with a zero byte appended.
    const std::string start = after ? key_of(kFactsPrefix, *after) + '\0' : std::string(1, kFactsPrefix);
    for (it->Seek(start); it->Valid(); it->Next()) {
      const auto facts = decode_facts(to_view(it->value()));
      if (!facts || it->key().size() != 17) {
        return Error{Errc::damaged, fmt::format("listing the blocks of {}: an entry is malformed", options_.folder.string())};
      }
      if (!visit(id_of(to_view(it->key())), *facts)) break;
    }
    if (!it->status().ok()) return to_error(it->status(), fmt::format("listing the blocks of {}", options_.folder.string()));
    return {};
  }

  /// Nothing when the block is not held.
  Result<std::optional<Facts>> facts_of(BlockId id) {
    rocksdb::PinnableSlice value;
    const auto status =
        database_->Get(rocksdb::ReadOptions(), database_->DefaultColumnFamily(), key_of(kFactsPrefix, id), &value);
    if (status.IsNotFound()) return std::optional<Facts>();
    if (!status.ok()) return to_error(status, fmt::format("looking for block {}", to_string(id)));
    const auto facts = decode_facts(to_view(value));
    if (!facts) return Error{Errc::damaged, fmt::format("looking for block {}: its entry is malformed", to_string(id))};
    return facts;
  }

  Result<Payload> read(const BlockKey& key) {
    auto pinned = std::make_shared<Pinned>();
    pinned->cache = cache_;
    const auto status =
        database_->Get(rocksdb::ReadOptions(), database_->DefaultColumnFamily(), key_of(kBytesPrefix, key.id), &pinned->slice);
    if (status.IsNotFound()) return Error{Errc::not_found, fmt::format("block {} is not in this store", to_string(key.id))};
    if (!status.ok() && !status.IsCorruption()) return to_error(status, fmt::format("reading block {}", to_string(key.id)));
    if (!status.ok() || !matches(key, to_view(pinned->slice))) {
      return Error{Errc::damaged,
                   fmt::format("block {} does not match its checksum in {}", to_string(key.id), options_.folder.string())};
    }
    // A small value may be pinned in the cache, where it would keep a whole table block from being evicted.
    if (pinned->slice.size() < kBlobBytesMin) return Payload(Bytes(to_view(pinned->slice)));
    const ByteView view = to_view(pinned->slice);
    return Payload(std::move(pinned), view);
  }

  /// What is to be done with one block; sets plan.take. An error is one of the store.
  Result<BlockStatus> judge(const BlockWrite& block, Plan& plan) {
    plan.take = false;
    if (!matches(block.key, block.bytes)) return BlockStatus::damaged;
    if (plan.ids.contains(block.key.id)) return same_in_plan(block, plan);
    const auto facts = facts_of(block.key.id);
    if (!facts) return facts.error();
    if (facts->has_value()) {
      const Facts& held = **facts;
      const auto stored = read(BlockKey{block.key.id, held.length, held.hash});
      if (stored.ok()) {
        const bool same = held.length == block.key.length && held.hash == block.key.hash;
        return same ? BlockStatus::ok : BlockStatus::failed;  // an id is never used for two contents
      }
      if (stored.error().code != Errc::damaged && stored.error().code != Errc::not_found) return stored.error();
      ++plan.replaced;
      plan.replaced_bytes += held.length;
    }
    plan.take = true;
    return BlockStatus::ok;
  }

  static BlockStatus same_in_plan(const BlockWrite& block, const Plan& plan) {
    const auto first = std::find_if(plan.write.begin(), plan.write.end(),
                                    [&](const BlockWrite* other) { return other->key.id == block.key.id; });
    return (*first)->key == block.key ? BlockStatus::ok : BlockStatus::failed;
  }

  Result<std::vector<BlockStatus>> write(const std::vector<BlockWrite>& blocks, Plan& plan, WallMs now) {
    space_.ensure_ballast();
    // Sized at once: growing would copy the blocks again.
    rocksdb::WriteBatch batch(static_cast<std::size_t>(plan.bytes) + plan.write.size() * kBatchOverheadBytes);
    for (const BlockWrite* block : plan.write) {
      (void)batch.Put(key_of(kBytesPrefix, block->key.id), to_slice(block->bytes));
      (void)batch.Put(key_of(kFactsPrefix, block->key.id), encode_facts(block->key, now));
    }
    const auto status = database_->Write(rocks::synced(), &batch);
    if (status.IsNoSpace()) {
      if (auto reopened = reopen_after_full(status); !reopened && reopened.error().code != Errc::full)
        return give_up(reopened.error());
      return refuse_full(blocks, plan);
    }
    if (!status.ok()) {
      return give_up(to_error(status, fmt::format("writing {} blocks to {}", plan.write.size(), options_.folder.string())));
    }
    blocks_ += plan.write.size() - plan.replaced;
    bytes_ += plan.bytes - plan.replaced_bytes;
    return plan.statuses;
  }

  static std::vector<BlockStatus> refuse_full(const std::vector<BlockWrite>& blocks, Plan& plan) {
    std::vector<BlockStatus> statuses = std::move(plan.statuses);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      if (plan.ids.contains(blocks[i].key.id) && statuses[i] == BlockStatus::ok) statuses[i] = BlockStatus::full;
    }
    return statuses;
  }

  /// RocksDB does not write again after a full disk, whatever Resume() says: close, give up the ballast, open again.
  Status reopen_after_full(const rocksdb::Status& why) {
    closed_ = true;
    close();
    space_.release_ballast();
    if (auto opened = reopen_if_closed(); !opened) return opened;
    return to_error(why, fmt::format("writing to {}", options_.folder.string()));
  }

  Status reopen_if_closed() {
    if (!closed_.load()) return {};
    if (auto opened = open_database(); !opened) return opened;
    return count();
  }

  /// The store has failed for good. When its files are damaged the next start must not go on with them.
  Error give_up(const Error& error) {
    failed_ = true;
    if (error.code == Errc::damaged) std::ofstream(options_.folder / kAsideMark) << error.detail << "\n";
    return error.code == Errc::full ? Error{Errc::internal, error.detail} : error;
  }

  const RocksStoreOptions options_;
  const std::shared_ptr<rocksdb::Cache> cache_;
  DiskSpace space_;
  std::mutex write_mutex_;            ///< put, remove, closing and opening again
  std::shared_mutex database_mutex_;  ///< shared while database_ is used outside write_mutex_; taken after it
  std::unique_ptr<rocksdb::DB> database_;
  rocks::Reclaimer reclaimer_;       ///< uses *database_
  std::atomic<bool> closed_{false};  ///< by a full disk
  bool failed_ = false;
  std::uint64_t store_id_ = 0;
  std::atomic<std::uint64_t> blocks_{0};
  std::atomic<std::uint64_t> bytes_{0};
};

}  // namespace

Result<OpenedBlockStore> open_rocks_block_store(const RocksStoreOptions& options) {
  if (auto made = rocks::make_folder(options.folder); !made) return made.error();
  OpenedBlockStore opened;
  auto store = std::make_unique<RocksBlockStore>(options);
  auto status = store->open();
  // A full disk, a store that another process holds, or missing rights are no damage.
  if (!status && status.error().code == Errc::damaged) {
    opened.was_replaced = true;
    opened.why_replaced = status.error().detail;
    store->close();
    auto aside = rocks::set_aside(options.folder);
    if (!aside) return aside.error();
    opened.why_replaced += fmt::format("; put aside as {}", aside->string());
    if (auto made = rocks::make_folder(options.folder); !made) return made.error();
    store = std::make_unique<RocksBlockStore>(options);
    status = store->open();
  }
  if (!status) return status.error();
  opened.store = std::move(store);
  return opened;
}

}  // namespace idunno

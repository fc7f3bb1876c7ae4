/// Blocks in memory, with the behaviour of the store on disk: for tests and the simulator.

#include <fmt/format.h>

#include <map>
#include <mutex>

#include "bus/hash.h"
#include "storage/block_store.h"

namespace idunno {
namespace {

class MemoryBlockStore final : public BlockStore {
 public:
  MemoryBlockStore(std::uint64_t store_id, std::uint64_t capacity_bytes) : store_id_(store_id), capacity_bytes_(capacity_bytes) {}

  Result<std::vector<BlockStatus>> put(const std::vector<BlockWrite>& blocks, WallMs now) override {
    const std::lock_guard lock(mutex_);
    std::vector<BlockStatus> statuses;
    statuses.reserve(blocks.size());
    for (const BlockWrite& block : blocks) statuses.push_back(put_one(block, now));
    return statuses;
  }

  Result<Payload> get(const BlockKey& key) override {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(key.id);
    if (found == blocks_.end()) return Error{Errc::not_found, fmt::format("block {} is not in this store", to_string(key.id))};
    const Payload& bytes = found->second.bytes;
    if (bytes.size() != key.length || hash128(bytes.view()) != key.hash) {
      return Error{Errc::damaged, fmt::format("block {} does not match its checksum in memory", to_string(key.id))};
    }
    return bytes;
  }

  Status verify(BlockId id) override {
    const std::lock_guard lock(mutex_);
    const auto found = blocks_.find(id);
    if (found == blocks_.end()) return Error{Errc::not_found, fmt::format("block {} is not in this store", to_string(id))};
    const Held& held = found->second;
    if (held.bytes.size() == held.key.length && hash128(held.bytes.view()) == held.key.hash) return {};
    return Error{Errc::damaged, fmt::format("block {} does not match its checksum in memory", to_string(id))};
  }

  Status remove(const std::vector<BlockId>& ids) override {
    const std::lock_guard lock(mutex_);
    for (const BlockId id : ids) {
      const auto found = blocks_.find(id);
      if (found == blocks_.end()) continue;
      bytes_ -= found->second.bytes.size();
      blocks_.erase(found);
    }
    return {};
  }

  Result<std::vector<HeldBlock>> list(BlockId after, std::size_t limit) override {
    const std::lock_guard lock(mutex_);
    std::vector<HeldBlock> held;
    for (auto it = blocks_.upper_bound(after); it != blocks_.end() && held.size() < limit; ++it) {
      held.push_back(HeldBlock{it->first, it->second.key.length, it->second.stored_ms});
    }
    return held;
  }

  BlockStoreUsage usage() override {
    const std::lock_guard lock(mutex_);
    return BlockStoreUsage{blocks_.size(), bytes_, capacity_bytes_, capacity_bytes_ - bytes_, bytes_ >= capacity_bytes_};
  }

  std::uint64_t store_id() const override { return store_id_; }

 private:
  struct Held {
    BlockKey key;
    Payload bytes;
    WallMs stored_ms = 0;
  };

  BlockStatus put_one(const BlockWrite& block, WallMs now) {
    if (block.bytes.size() != block.key.length || hash128(block.bytes) != block.key.hash) return BlockStatus::damaged;
    if (const auto found = blocks_.find(block.key.id); found != blocks_.end()) {
      return found->second.key == block.key ? BlockStatus::ok : BlockStatus::failed;  // memory does not rot
    }
    if (bytes_ + block.bytes.size() > capacity_bytes_) return BlockStatus::full;
    bytes_ += block.bytes.size();
    blocks_.emplace(block.key.id, Held{block.key, Payload(Bytes(block.bytes)), now});
    return BlockStatus::ok;
  }

  const std::uint64_t store_id_;
  const std::uint64_t capacity_bytes_;
  std::mutex mutex_;
  std::map<BlockId, Held> blocks_;
  std::uint64_t bytes_ = 0;
};

}  // namespace

std::unique_ptr<BlockStore> make_memory_block_store(std::uint64_t store_id, std::uint64_t capacity_bytes) {
  return std::make_unique<MemoryBlockStore>(store_id, capacity_bytes);
}

}  // namespace idunno

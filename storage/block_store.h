#pragma once
/// Where a node keeps its blocks. Two implementations pass one contract suite: memory (tests, simulator) and RocksDB
/// (storage/rocks_block_store.cc; layout in storage/FORMAT.md).
///
/// Both are thread-safe: reads do not wait for a put that is being synced. Values are immutable: putting an id that
/// exists with the same content succeeds and changes nothing; with other content it replaces a damaged copy and is otherwise
/// refused.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/messages.h"

namespace idunno {

struct BlockWrite {
  BlockKey key;
  ByteView bytes;  ///< borrowed for the call
};

struct BlockStoreUsage {
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;           ///< sum of the lengths
  std::uint64_t capacity_bytes = 0;  ///< of the file system
  std::uint64_t free_bytes = 0;      ///< of the file system
  bool read_only = false;            ///< free space below the reserve: puts answer `full`
};

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  /// Verifies length and hash of each, then writes all good ones in one synced batch. On return the ok ones survive a power cut.
  /// An I/O error is returned as `damaged` or `internal`: the store must not be used again, and the node stops (fail-stop).
  [[nodiscard]] virtual Result<std::vector<BlockStatus>> put(const std::vector<BlockWrite>& blocks, WallMs now) = 0;

  /// The bytes, verified against `key`; errors not_found and damaged.
  [[nodiscard]] virtual Result<Payload> get(const BlockKey& key) = 0;

  /// Reads a block and checks it against the length and hash that were stored with it: for those who have no key to expect.
  /// Errors not_found and damaged.
  [[nodiscard]] virtual Status verify(BlockId id) = 0;

  /// Unknown ids are no error.
  [[nodiscard]] virtual Status remove(const std::vector<BlockId>& ids) = 0;

  /// At most `limit` blocks with id > after, in id order.
  [[nodiscard]] virtual Result<std::vector<HeldBlock>> list(BlockId after, std::size_t limit) = 0;

  [[nodiscard]] virtual BlockStoreUsage usage() = 0;

  /// Random, made with the store: a node whose folder was wiped has another one.
  [[nodiscard]] virtual std::uint64_t store_id() const = 0;
};

struct RocksStoreOptions {
  std::filesystem::path folder;  ///< made when absent
  std::uint64_t cache_bytes = 8ULL << 20U;
  std::uint64_t write_buffer_bytes = 8ULL << 20U;
  std::uint64_t reserve_bytes = 256ULL << 20U;  ///< free space to leave on the disk
};

/// A store that does not open is put aside as `<folder>.broken-<n>` and a new, empty one (another store_id) takes its place;
/// `was_replaced` tells.
struct OpenedBlockStore {
  std::unique_ptr<BlockStore> store;
  bool was_replaced = false;
  std::string why_replaced;
};
[[nodiscard]] Result<OpenedBlockStore> open_rocks_block_store(const RocksStoreOptions& options);
[[nodiscard]] std::unique_ptr<BlockStore> make_memory_block_store(std::uint64_t store_id, std::uint64_t capacity_bytes);

}  // namespace idunno

#pragma once
/// The inputs of a job, as a worker reads them: batches of queries by number. Reads the manifest's chunks and the input blocks
/// through a BlockClient and keeps what is likely to be needed again: a few decoded chunks, and blocks that several items share
/// (containers).
///
/// Belongs to the loop's thread. Callbacks run exactly once, from the loop, never from within fetch_batch; not any more once the
/// reader is gone. An item that lies in one block is handed out without being copied and keeps that block's bytes alive.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/event_loop.h"
#include "bus/types.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/manifest.h"

namespace idunno {

struct BatchItem {
  std::string query;
  Payload bytes;
};

class ManifestReader {
 public:
  struct Options {
    std::size_t chunks_max = 4;                ///< decoded chunks kept
    std::size_t block_bytes_max = 16U << 20U;  ///< input blocks kept that several items share
    std::size_t batches_max = 1024;            ///< under way at once; more are answered with full
  };
  /// Asks the coordinator where a block lies now; the answer comes exactly once. Used when none of the listed replicas had it.
  using Relocate = std::function<void(const std::string& path, std::uint32_t version, std::uint64_t block_index,
                                      std::function<void(Result<BlockRef>)> done)>;

  /// `manifest` with its blocks; `items_per_chunk` > 0.
  ManifestReader(EventLoop& loop, BlockClient& blocks, FileVersion manifest, std::uint32_t items_per_chunk, Relocate relocate,
                 Options options);
  ~ManifestReader();
  ManifestReader(const ManifestReader&) = delete;
  ManifestReader& operator=(const ManifestReader&) = delete;

  /// Queries [first_query, first_query + count). All or an error: invalid when the manifest has no such queries, otherwise what
  /// the BlockClient says of the block that could not be read.
  void fetch_batch(std::uint64_t first_query, std::uint32_t count, std::function<void(Result<std::vector<BatchItem>>)> done);
  /// The same without the bytes: for a batch that is given up because they are nowhere.
  void fetch_names(std::uint64_t first_query, std::uint32_t count, std::function<void(Result<std::vector<BatchItem>>)> done);

 private:
  struct Impl;
  void fetch(std::uint64_t first_query, std::uint32_t count, bool names_only,
             std::function<void(Result<std::vector<BatchItem>>)> done);
  std::shared_ptr<Impl> impl_;
};

}  // namespace idunno

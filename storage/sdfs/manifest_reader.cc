#include "storage/sdfs/manifest_reader.h"

#include <algorithm>
#include <list>
#include <map>
#include <optional>
#include <utility>

#include "bus/base/assert.h"
#include "bus/codec.h"
#include "storage/sdfs/block_cache.h"

namespace idunno {
namespace {

using ChunkPtr = std::shared_ptr<const ManifestChunk>;

/// A chunk comes from the cluster's own disks, but what indexes memory is checked all the same.
Status check_chunk(const ManifestChunk& chunk) {
  const std::size_t blocks = chunk.blocks.size();
  const bool aligned =
      chunk.block_files.size() == blocks && chunk.block_versions.size() == blocks && chunk.block_indexes.size() == blocks;
  if (!aligned) return Error{Errc::damaged, "the lists of the chunk do not match"};
  for (const ManifestItem& item : chunk.items) {
    for (const Extent& extent : item.extents) {
      const bool inside = extent.block < blocks && extent.offset <= chunk.blocks[extent.block].length &&
                          extent.length <= chunk.blocks[extent.block].length - extent.offset;
      if (!inside) return Error{Errc::damaged, "'" + item.query + "' lies outside of its blocks"};
    }
  }
  return {};
}

/// One fetch_batch.
struct Batch {
  std::uint64_t first = 0;
  std::uint32_t count = 0;
  bool names_only = false;
  std::function<void(Result<std::vector<BatchItem>>)> done;
  std::map<std::uint64_t, ChunkPtr> chunks;
  std::vector<std::vector<Payload>> parts;  ///< of each item, in the order of its extents
  std::vector<std::string> queries;
  std::size_t waits_for = 0;
  std::optional<Error> error;
};

}  // namespace

struct ManifestReader::Impl : std::enable_shared_from_this<ManifestReader::Impl> {
  using BatchPtr = std::shared_ptr<Batch>;
  using ChunkDone = std::function<void(const Result<ChunkPtr>&)>;

  Impl(EventLoop& event_loop, BlockClient& blocks, FileVersion file, std::uint32_t per_chunk, Relocate relocate, Options opts)
      : loop(event_loop),
        manifest(std::move(file)),
        items_per_chunk(per_chunk),
        options(opts),
        cache(std::make_shared<BlockCache>(blocks, std::move(relocate), opts.block_bytes_max)) {
    ASSERT(items_per_chunk > 0);
  }

  void start(const BatchPtr& batch) {
    const std::uint64_t first_chunk = batch->first / items_per_chunk;
    const std::uint64_t last_chunk = (batch->first + batch->count - 1) / items_per_chunk;
    batch->waits_for = 1;  // this function itself: chunks that are there answer at once
    for (std::uint64_t index = first_chunk; index <= last_chunk; ++index) {
      ++batch->waits_for;
      load_chunk(index, [weak = weak_from_this(), batch, index](const Result<ChunkPtr>& chunk) {
        const auto self = weak.lock();
        if (!self) return;
        if (chunk) {
          batch->chunks[index] = *chunk;
        } else if (!batch->error) {
          batch->error = chunk.error();
        }
        if (--batch->waits_for == 0) self->read_items(batch);
      });
    }
    if (--batch->waits_for == 0) read_items(batch);
  }

  void load_chunk(std::uint64_t index, ChunkDone done) {
    const auto known = std::find_if(chunks.begin(), chunks.end(), [&](const auto& entry) { return entry.first == index; });
    if (known != chunks.end()) {
      chunks.splice(chunks.begin(), chunks, known);
      const Result<ChunkPtr> chunk = chunks.front().second;
      return done(chunk);
    }
    if (index >= manifest.blocks.size()) {
      return done(Error{Errc::invalid, "the manifest '" + manifest.path + "' has no chunk " + std::to_string(index)});
    }
    auto& waiting = chunk_waits[index];
    waiting.push_back(std::move(done));
    if (waiting.size() > 1) return;
    cache->read(PlacedBlock{manifest.blocks[index], manifest.path, manifest.version, index}, false,
                [weak = weak_from_this(), index](const Result<Payload>& bytes) {
                  if (const auto self = weak.lock()) self->chunk_read(index, bytes);
                });
  }

  void chunk_read(std::uint64_t index, const Result<Payload>& bytes) {
    Result<ChunkPtr> chunk = decode_chunk(index, bytes);
    if (chunk) {
      chunks.emplace_front(index, *chunk);
      if (chunks.size() > std::max<std::size_t>(options.chunks_max, 1)) chunks.pop_back();
    }
    const auto waiting = chunk_waits.extract(index);
    for (const ChunkDone& done : waiting.mapped()) done(chunk);
  }

  [[nodiscard]] Result<ChunkPtr> decode_chunk(std::uint64_t index, const Result<Payload>& bytes) const {
    const std::string doing = "read chunk " + std::to_string(index) + " of the manifest '" + manifest.path + "'";
    if (!bytes) return annotate(bytes.error(), doing);
    auto chunk = decode<ManifestChunk>(bytes->view(), kBlockBytesMax);
    if (!chunk) return Error{Errc::damaged, doing + ": " + chunk.error().detail};
    if (auto status = check_chunk(*chunk); !status) return annotate(status.error(), doing);
    return ChunkPtr(std::make_shared<const ManifestChunk>(std::move(chunk).value()));
  }

  void read_items(const BatchPtr& batch) {
    if (batch->error) return finish(batch);
    batch->parts.resize(batch->count);
    batch->queries.resize(batch->count);
    batch->waits_for = 1;
    for (std::uint32_t i = 0; i < batch->count && !batch->error; ++i) {
      const std::uint64_t query = batch->first + i;
      const ChunkPtr& chunk = batch->chunks.at(query / items_per_chunk);
      const std::uint64_t in_chunk = query % items_per_chunk;
      if (in_chunk >= chunk->items.size()) {
        batch->error = Error{Errc::invalid, "the manifest '" + manifest.path + "' has no query " + std::to_string(query)};
        break;
      }
      const ManifestItem& item = chunk->items[in_chunk];
      batch->queries[i] = item.query;
      if (batch->names_only) continue;
      batch->parts[i].resize(item.extents.size());
      for (std::size_t part = 0; part < item.extents.size(); ++part) read_part(batch, *chunk, item.extents[part], i, part);
    }
    if (--batch->waits_for == 0) finish(batch);
  }

  void read_part(const BatchPtr& batch, const ManifestChunk& chunk, const Extent& extent, std::uint32_t item, std::size_t part) {
    const PlacedBlock block{chunk.blocks[extent.block], chunk.block_files[extent.block], chunk.block_versions[extent.block],
                            chunk.block_indexes[extent.block]};
    const bool shared = extent.length < block.block.length;
    ++batch->waits_for;
    cache->read(block, shared, [weak = weak_from_this(), batch, extent, item, part](const Result<Payload>& bytes) {
      const auto self = weak.lock();
      if (!self) return;
      if (!bytes) {
        if (!batch->error) batch->error = annotate(bytes.error(), "read the input '" + batch->queries[item] + "'");
      } else {
        batch->parts[item][part] = bytes->slice(extent.offset, extent.length);
      }
      if (--batch->waits_for == 0) self->finish(batch);
    });
  }

  void finish(const BatchPtr& batch) {
    --under_way;
    const auto done = std::move(batch->done);
    if (batch->error) return done(*batch->error);
    std::vector<BatchItem> items(batch->count);
    for (std::uint32_t i = 0; i < batch->count; ++i) {
      items[i].query = std::move(batch->queries[i]);
      std::vector<Payload>& parts = batch->parts[i];
      if (parts.size() == 1) {
        items[i].bytes = std::move(parts.front());
      } else if (parts.size() > 1) {
        Bytes joined;
        for (const Payload& bytes : parts) joined += bytes.view();
        items[i].bytes = Payload(std::move(joined));
      }
    }
    done(std::move(items));
  }

  EventLoop& loop;
  FileVersion manifest;
  std::uint32_t items_per_chunk;
  Options options;
  std::shared_ptr<BlockCache> cache;
  std::list<std::pair<std::uint64_t, ChunkPtr>> chunks;  ///< most recently used first
  std::map<std::uint64_t, std::vector<ChunkDone>> chunk_waits;
  std::size_t under_way = 0;
};

ManifestReader::ManifestReader(EventLoop& loop, BlockClient& blocks, FileVersion manifest, std::uint32_t items_per_chunk,
                               Relocate relocate, Options options)
    : impl_(std::make_shared<Impl>(loop, blocks, std::move(manifest), items_per_chunk, std::move(relocate), options)) {}
ManifestReader::~ManifestReader() = default;

void ManifestReader::fetch_batch(std::uint64_t first_query, std::uint32_t count,
                                 std::function<void(Result<std::vector<BatchItem>>)> done) {
  fetch(first_query, count, false, std::move(done));
}

void ManifestReader::fetch_names(std::uint64_t first_query, std::uint32_t count,
                                 std::function<void(Result<std::vector<BatchItem>>)> done) {
  fetch(first_query, count, true, std::move(done));
}

void ManifestReader::fetch(std::uint64_t first_query, std::uint32_t count, bool names_only,
                           std::function<void(Result<std::vector<BatchItem>>)> done) {
  auto batch = std::make_shared<Batch>();
  batch->first = first_query;
  batch->count = count;
  batch->names_only = names_only;
  batch->done = std::move(done);
  const bool full = impl_->under_way >= impl_->options.batches_max;
  ++impl_->under_way;
  impl_->loop.post([weak = std::weak_ptr<Impl>(impl_), batch, full] {
    const auto self = weak.lock();
    if (!self) return;
    if (full) batch->error = Error{Errc::full, "read inputs: too many batches are being read already"};
    if (batch->count == 0 || batch->error) return self->finish(batch);
    self->start(batch);
  });
}

}  // namespace idunno

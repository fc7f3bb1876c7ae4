#include "storage/sdfs/datasets.h"

#include <algorithm>
#include <map>
#include <utility>

#include "bus/codec.h"
#include "storage/sdfs/dataset_formats.h"
#include "storage/sdfs/sdfs_byte_source.h"

namespace idunno {
namespace {

constexpr std::size_t kHeadBytes = 512;

struct Wrapping {
  const char* magic;
  std::size_t length;
  const char* what;
  const char* advice;
};
constexpr Wrapping kWrappings[] = {
    {"\x1F\x8B", 2, "gzip", "decompress it first: gunzip "},
    {"\xFD"
     "7zXZ",
     5, "xz", "decompress it first: unxz "},
    {"BZh", 3, "bzip2", "decompress it first: bunzip2 "},
    {"\x28\xB5\x2F\xFD", 4, "zstd", "decompress it first: unzstd "},
    {"PK\x03\x04", 4, "zip", "unpack it first and put the folder: unzip "},
};

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

Status refuse_compressed(const std::string& path, ByteView head) {
  for (const Wrapping& wrapping : kWrappings) {
    if (head.substr(0, wrapping.length) != ByteView(wrapping.magic, wrapping.length)) continue;
    return Error{Errc::invalid, "the data set '" + path + "' is compressed (" + wrapping.what + "): " + wrapping.advice +
                                    base_name(path) + ", then put it again"};
  }
  return {};
}

Result<DatasetIndex> index_container(SdfsClient& sdfs, FileVersion file) {
  DatasetIndex index;
  index.path = file.path;
  if (file.open) return Error{Errc::conflict, "the data set '" + file.path + "' is the result of a job that is still running"};
  SdfsByteSource source(sdfs, std::move(file));
  const auto head = source.read(0, kHeadBytes);
  if (!head) return head.error();
  if (auto status = refuse_compressed(index.path, *head); !status) return status.error();
  for (const auto& format : dataset_formats()) {
    if (!format->recognises(index.path, *head)) continue;
    index.format = format->name();
    if (auto status = format->index(source, index.path, index); !status) return status.error();
    index.files.push_back(source.file());
    return index;
  }
  return Error{Errc::invalid,
               "the data set '" + index.path +
                   "' is of no known format: name a folder of .jpg, .jpeg and .png files, or one .tar, IDX or .csv file"};
}

/// Puts together one chunk: its items with the blocks they need, each block once.
class ChunkBuilder {
 public:
  explicit ChunkBuilder(const DatasetIndex& index) : index_(index) {}

  ManifestChunk build(std::size_t first, std::size_t count) {
    ManifestChunk chunk;
    chunk.path = index_.path;
    numbers_.clear();
    chunk.items.reserve(count);
    for (std::size_t i = first; i < first + count; ++i) chunk.items.push_back(item(chunk, index_.items[i]));
    return chunk;
  }

 private:
  ManifestItem item(ManifestChunk& chunk, const DatasetItem& from) {
    ManifestItem item;
    item.query = from.query;
    const FileVersion& file = index_.files[from.file];
    look_at(from.file);
    std::uint64_t at = from.offset;
    const std::uint64_t end = from.offset + from.length;
    auto block = static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), at) - starts_.begin());
    block = block > 0 ? block - 1 : 0;
    for (; at < end && block < file.blocks.size(); ++block) {
      const std::uint64_t skip = at - starts_[block];
      const std::uint64_t take = std::min(end - at, file.blocks[block].length - skip);
      if (take == 0) continue;
      item.extents.push_back(
          Extent{number_of(chunk, from.file, block), static_cast<std::uint32_t>(skip), static_cast<std::uint32_t>(take)});
      at += take;
    }
    return item;
  }

  std::uint32_t number_of(ManifestChunk& chunk, std::uint32_t file, std::size_t block) {
    const auto [it, fresh] = numbers_.emplace(std::make_pair(file, block), static_cast<std::uint32_t>(chunk.blocks.size()));
    if (fresh) {
      const FileVersion& from = index_.files[file];
      chunk.blocks.push_back(from.blocks[block]);
      chunk.block_files.push_back(from.path);
      chunk.block_versions.push_back(from.version);
      chunk.block_indexes.push_back(block);
    }
    return it->second;
  }

  /// Items come grouped by file, so the block borders of one file are enough.
  void look_at(std::uint32_t file) {
    if (file_ == file) return;
    file_ = file;
    starts_.clear();
    std::uint64_t at = 0;
    for (const BlockRef& block : index_.files[file].blocks) {
      starts_.push_back(at);
      at += block.length;
    }
  }

  const DatasetIndex& index_;
  std::map<std::pair<std::uint32_t, std::size_t>, std::uint32_t> numbers_;
  std::uint32_t file_ = UINT32_MAX;
  std::vector<std::uint64_t> starts_;
};

}  // namespace

const std::vector<std::unique_ptr<DatasetFormat>>& dataset_formats() {
  static const auto formats = [] {
    std::vector<std::unique_ptr<DatasetFormat>> all;
    all.push_back(make_tar_format());
    all.push_back(make_idx_format());
    all.push_back(make_csv_format());
    return all;
  }();
  return formats;
}

Result<DatasetIndex> index_dataset(SdfsClient& sdfs, const std::string& path) {
  FsStatRequest request;
  request.path = path;
  request.max_blocks = 0;
  const auto what = sdfs.metadata().call_and_wait(request);
  if (!what) return what.error();
  if (what->is_folder || has_image_name(path)) {
    DatasetIndex index;
    index.path = path;
    auto files = sdfs.list_all(path, true);
    if (!files) return files.error();
    if (auto status = index_images(std::move(files).value(), index); !status) return status.error();
    return index;
  }
  auto file = sdfs.stat(path, what->file.version);
  if (!file) return file.error();
  return index_container(sdfs, std::move(file).value());
}

std::vector<Bytes> build_manifest(const DatasetIndex& index, std::uint32_t& items_per_chunk) {
  items_per_chunk = kItemsPerChunk;
  std::vector<Bytes> chunks;
  ChunkBuilder builder(index);
  for (std::size_t first = 0; first < index.items.size();) {
    const std::size_t count = std::min<std::size_t>(items_per_chunk, index.items.size() - first);
    Bytes encoded = encode(builder.build(first, count));
    if (encoded.size() > kBlockBytesMax && items_per_chunk > 1) {
      items_per_chunk /= 2;  // all chunks but the last have the same number of items, so begin again
      chunks.clear();
      first = 0;
      continue;
    }
    chunks.push_back(std::move(encoded));
    first += count;
  }
  return chunks;
}

}  // namespace idunno

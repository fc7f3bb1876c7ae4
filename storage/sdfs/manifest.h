#pragma once
/// The fixed list of a job's queries: query k is item k. Written once at submit as an SDFS file, read by workers a chunk at a
/// time. Block i of the file is one encoded ManifestChunk with items [i * items_per_chunk, (i+1) * items_per_chunk). An item
/// names the bytes it consists of, so that reading a query needs no metadata server: block references are immutable, and their
/// replica lists are hints (a reader that finds none of them asks for the present ones).

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/types.h"

namespace idunno {

inline constexpr std::uint32_t kItemsPerChunk = 512;  ///< fewer when a chunk would be over kBlockBytesMax

/// A piece of a block, by index into ManifestChunk::blocks.
struct Extent {
  std::uint32_t block = 0;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.block, s.offset, s.length);
  }
  bool operator==(const Extent&) const = default;
};

struct ManifestItem {
  std::string query;            ///< what result rows call it: "/data/a.jpg", "/data/t10k.idx#17", "/data/pets.tar#cat/1.jpg"
  std::vector<Extent> extents;  ///< its bytes, one after the other
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.query, s.extents);
  }
  bool operator==(const ManifestItem&) const = default;
};

struct ManifestChunk {
  std::string path;  ///< data path, for asking anew where blocks are
  std::vector<BlockRef> blocks;
  std::vector<std::string> block_files;  ///< for each block: path of its file
  std::vector<std::uint32_t> block_versions;
  std::vector<std::uint64_t> block_indexes;  ///< index of the block in its file
  std::vector<ManifestItem> items;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.blocks, s.block_files, s.block_versions, s.block_indexes, s.items);
  }
  bool operator==(const ManifestChunk&) const = default;
};

}  // namespace idunno

#include <gtest/gtest.h>

#include "bus/codec.h"
#include "storage/sdfs/datasets.h"

namespace idunno {
namespace {

/// A file of blocks of the given lengths.
FileVersion file_of(const std::string& path, const std::vector<std::uint32_t>& lengths, std::uint64_t hi) {
  FileVersion file{path, 3, 0, 0, false, {}};
  for (const std::uint32_t length : lengths) {
    file.blocks.push_back(BlockRef{BlockId{hi, file.blocks.size() + 1}, length, Hash128{hi, length}, {NodeId{1}, NodeId{2}}});
    file.size += length;
  }
  return file;
}

std::vector<ManifestChunk> decoded(const std::vector<Bytes>& chunks) {
  std::vector<ManifestChunk> all;
  for (const Bytes& bytes : chunks) {
    EXPECT_LE(bytes.size(), kBlockBytesMax);
    auto chunk = decode<ManifestChunk>(bytes, kBlockBytesMax);
    EXPECT_TRUE(chunk.ok()) << (chunk.ok() ? "" : chunk.error().detail);
    if (chunk) all.push_back(std::move(chunk).value());
  }
  return all;
}

TEST(Manifest, GivesEveryItemItsPiecesOfBlocks) {
  DatasetIndex index;
  index.path = "/d.tar";
  index.files.push_back(file_of("/d.tar", {100, 50, 100}, 9));
  index.items = {{"q0", 0, 100, 0}, {"q1", 90, 70, 0}, {"q2", 150, 100, 0}, {"q3", 120, 0, 0}, {"q4", 249, 1, 0}};
  std::uint32_t per_chunk = 0;
  const auto chunks = decoded(build_manifest(index, per_chunk));
  EXPECT_EQ(per_chunk, kItemsPerChunk);
  ASSERT_EQ(chunks.size(), 1U);
  const ManifestChunk& chunk = chunks[0];
  EXPECT_EQ(chunk.path, "/d.tar");
  EXPECT_EQ(chunk.blocks, index.files[0].blocks);
  EXPECT_EQ(chunk.block_files, std::vector<std::string>(3, "/d.tar"));
  EXPECT_EQ(chunk.block_versions, std::vector<std::uint32_t>(3, 3));
  EXPECT_EQ(chunk.block_indexes, (std::vector<std::uint64_t>{0, 1, 2}));
  ASSERT_EQ(chunk.items.size(), 5U);
  EXPECT_EQ(chunk.items[0].extents, (std::vector<Extent>{{0, 0, 100}}));
  EXPECT_EQ(chunk.items[1].extents, (std::vector<Extent>{{0, 90, 10}, {1, 0, 50}, {2, 0, 10}}));
  EXPECT_EQ(chunk.items[2].extents, (std::vector<Extent>{{2, 0, 100}}));
  EXPECT_TRUE(chunk.items[3].extents.empty());
  EXPECT_EQ(chunk.items[4].extents, (std::vector<Extent>{{2, 99, 1}}));
}

TEST(Manifest, SplitsIntoChunksOfEqualNumbersOfItems) {
  DatasetIndex index;
  index.path = "/d";
  for (std::uint32_t i = 0; i < kItemsPerChunk * 2 + 7; ++i) {
    index.files.push_back(file_of("/d/" + std::to_string(i) + ".jpg", {10, 20}, i + 1));
    index.items.push_back({index.files.back().path, 0, 30, i});
  }
  std::uint32_t per_chunk = 0;
  const auto chunks = decoded(build_manifest(index, per_chunk));
  ASSERT_EQ(chunks.size(), 3U);
  EXPECT_EQ(per_chunk, kItemsPerChunk);
  EXPECT_EQ(chunks[2].items.size(), 7U);
  EXPECT_EQ(chunks[1].items[5].query, "/d/" + std::to_string(kItemsPerChunk + 5) + ".jpg");
  EXPECT_EQ(chunks[1].blocks[chunks[1].items[5].extents[1].block].id, (BlockId{kItemsPerChunk + 6, 2}));
  EXPECT_EQ(chunks[1].blocks.size(), kItemsPerChunk * 2U);
}

TEST(Manifest, HalvesItsChunksUntilEachFitsABlock) {
  DatasetIndex index;
  index.path = "/d";
  const std::vector<std::uint32_t> blocks(40, 1);
  for (std::uint32_t i = 0; i < 300; ++i) {
    const std::string number = std::to_string(i);
    index.files.push_back(file_of("/d/" + std::string(900 - number.size(), 'x') + number, blocks, i + 1));
    index.items.push_back({index.files.back().path, 0, 40, i});
  }
  std::uint32_t per_chunk = 0;
  const auto chunks = decoded(build_manifest(index, per_chunk));
  EXPECT_LT(per_chunk, kItemsPerChunk);
  std::size_t items = 0;
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    if (i + 1 < chunks.size()) {
      EXPECT_EQ(chunks[i].items.size(), per_chunk);
    }
    items += chunks[i].items.size();
  }
  EXPECT_EQ(items, 300U);
}

}  // namespace
}  // namespace idunno

// Files of models on the local disk, out of a cluster of data services with memory stores.

#include "nodes/runtime/model_cache.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "bus/hash.h"
#include "tests/unit/sdfs/fake_cluster.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno::test {
namespace {

constexpr std::size_t kBlocks = 12;
constexpr std::size_t kBlockBytes = 1000;

class ModelCacheTest : public FakeClusterFixture {
 protected:
  void SetUp() override {
    start(3);
    make();
  }
  void make(std::uint64_t bytes_max = kModelCacheBytesMax, std::uint64_t disk_spare_bytes = 0) {
    cache = std::make_shared<ModelCache>(
        *blocks, ModelCache::Options{folder.path() / "models", bytes_max, disk_spare_bytes, [this] { return used; }});
  }
  FileVersion file(const std::string& path, char fill) {
    FileVersion version;
    version.path = path;
    version.version = 1;
    for (std::size_t i = 0; i < kBlocks; ++i) {
      const Bytes piece(kBlockBytes, static_cast<char>(fill + static_cast<char>(i)));
      version.blocks.push_back(write(piece).value());
      version.size += piece.size();
    }
    return version;
  }
  /// Wants it and waits.
  Status get(const FileVersion& version) {
    std::optional<Status> status;
    if (cache->want(version, [&](const Status& told) { status = told; })) return {};
    EXPECT_TRUE(run_until([&] { return status.has_value(); }));
    return status.value_or(Error{Errc::timeout, "never told"});
  }
  bool on_disk(const FileVersion& version) const { return std::filesystem::exists(cache->path_of(version)); }
  std::string content(const FileVersion& version) const {
    std::ifstream in(cache->path_of(version), std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
  }
  std::uint32_t reads() const {  // of blocks
    std::uint32_t sum = 0;
    for (const auto& [id, node] : nodes) sum += node.blocks_read;
    return sum;
  }

  TempFolder folder;
  std::set<std::string> used;
  std::shared_ptr<ModelCache> cache;
};

TEST_F(ModelCacheTest, BringsAFileOnceHoweverManyWantIt) {
  const FileVersion model = file("/models/net/net.onnx", 'a');
  int told = 0;
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(cache->want(model, [&](const Status& status) { told += status ? 1 : 100; }));
  ASSERT_TRUE(run_until([&] { return told == 3; }));
  EXPECT_EQ(reads(), kBlocks);
  EXPECT_EQ(content(model).substr(0, kBlockBytes), std::string(kBlockBytes, 'a'));
  EXPECT_EQ(content(model).size(), kBlocks * kBlockBytes);
  EXPECT_TRUE(cache->want(model, [](const Status&) { FAIL(); }));
  FileVersion copy = model;
  copy.path = "/models/other/other.onnx";
  for (BlockRef& block : copy.blocks) {
    block.id.lo += 1000;
    block.replicas = {NodeId{9}};
  }
  EXPECT_TRUE(cache->want(copy, [](const Status&) { FAIL(); })) << "the same content, wherever its blocks lie now";
}

TEST_F(ModelCacheTest, FilesOfAnEarlierLifeAreLookedInto) {
  const FileVersion good = file("/models/net/net.onnx", 'a');
  const FileVersion bad = file("/models/bad/bad.onnx", 'b');
  ASSERT_TRUE(get(good));
  ASSERT_TRUE(get(bad));
  std::fstream(cache->path_of(bad), std::ios::in | std::ios::out | std::ios::binary).put('x');
  make();
  const std::uint32_t before = reads();
  ASSERT_TRUE(get(good));
  EXPECT_EQ(reads(), before);
  ASSERT_TRUE(get(bad));
  EXPECT_EQ(reads(), before + kBlocks);
  EXPECT_EQ(content(bad).front(), 'b');
}

TEST_F(ModelCacheTest, AFileThatSomebodyChangedIsFetchedAnew) {
  const FileVersion model = file("/models/net/net.onnx", 'a');
  ASSERT_TRUE(get(model));
  std::fstream(cache->path_of(model), std::ios::in | std::ios::out | std::ios::binary).put('x');
  ASSERT_TRUE(get(model));
  EXPECT_EQ(content(model).front(), 'a');
}

TEST_F(ModelCacheTest, WhatCannotBeReadIsToldAndLeavesNothing) {
  FileVersion model = file("/models/net/net.onnx", 'a');
  model.blocks[7].id = BlockId{77, 77};
  const Status status = get(model);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().detail.find("/models/net/net.onnx"), std::string::npos) << status.error().detail;
  EXPECT_TRUE(std::filesystem::is_empty(folder.path() / "models"));
}

TEST_F(ModelCacheTest, FetchesAheadOneFileAfterTheOther) {
  const FileVersion first = file("/models/net/net.onnx", 'a');
  const FileVersion second = file("/models/net/labels.txt", 'b');
  cache->prefetch(first);
  cache->prefetch(second);
  cache->prefetch(first);
  cache->prefetch(FileVersion{});
  ASSERT_TRUE(run_until([&] { return on_disk(second); }));
  EXPECT_TRUE(on_disk(first));
  const std::uint32_t before = reads();
  EXPECT_EQ(before, 2 * kBlocks);
  EXPECT_TRUE(cache->want(first, [](const Status&) { FAIL(); }));
  EXPECT_EQ(reads(), before);
}

TEST_F(ModelCacheTest, AJobJoinsWhatIsFetchedAhead) {
  const FileVersion model = file("/models/net/net.onnx", 'a');
  cache->prefetch(model);
  ASSERT_TRUE(get(model));
  EXPECT_EQ(reads(), kBlocks);
}

TEST_F(ModelCacheTest, WhatCannotBeFetchedAheadDoesNotHoldUpTheNext) {
  FileVersion gone = file("/models/gone/gone.onnx", 'a');
  gone.blocks[0].id = BlockId{77, 77};
  const FileVersion model = file("/models/net/net.onnx", 'b');
  cache->prefetch(gone);
  cache->prefetch(model);
  ASSERT_TRUE(run_until([&] { return on_disk(model); }));
  EXPECT_FALSE(on_disk(gone));
}

TEST_F(ModelCacheTest, NothingGoesForWhatIsFetchedAhead) {
  const FileVersion here = file("/models/here/here.onnx", 'a');
  const FileVersion ahead = file("/models/ahead/ahead.onnx", 'b');
  make(kBlocks * kBlockBytes + 100);
  ASSERT_TRUE(get(here));
  const std::uint32_t before = reads();
  cache->prefetch(ahead);
  EXPECT_TRUE(get(here));
  EXPECT_EQ(reads(), before);
  ASSERT_TRUE(get(ahead)) << "but for a job it does";
  EXPECT_FALSE(on_disk(here));
  used = {cache->path_of(ahead)};
  ASSERT_TRUE(get(here));
  EXPECT_TRUE(on_disk(ahead)) << "in use: rather too much than not at all";
}

TEST_F(ModelCacheTest, WhatIsOnItsWayIsNotRemovedForAnother) {
  const FileVersion first = file("/models/a/a.onnx", 'a');
  const FileVersion second = file("/models/b/b.onnx", 'b');
  make(kBlocks * kBlockBytes + 100);
  std::optional<Status> status;
  ASSERT_FALSE(cache->want(first, [&](const Status& told) { status = told; }));
  const auto written = [&] {
    std::uintmax_t bytes = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "models")) bytes += entry.file_size();
    return bytes;
  };
  ASSERT_TRUE(run_until([&] { return written() > 100; }));
  ASSERT_FALSE(status.has_value());
  ASSERT_TRUE(get(second));
  ASSERT_TRUE(run_until([&] { return status.has_value(); }));
  EXPECT_TRUE(*status) << status->error().detail;
}

TEST_F(ModelCacheTest, NothingIsFetchedAheadOntoADiskThatIsNearlyFull) {
  const FileVersion model = file("/models/net/net.onnx", 'a');
  make(kModelCacheBytesMax, std::filesystem::space(folder.path()).capacity);
  cache->prefetch(model);
  const FileVersion other = file("/models/other/other.onnx", 'b');  // runs the loop
  EXPECT_EQ(reads(), 0U);
  EXPECT_TRUE(get(other));
  EXPECT_FALSE(on_disk(model));
}

}  // namespace
}  // namespace idunno::test

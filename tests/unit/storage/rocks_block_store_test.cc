/// What only the store on disk can show: survival, damage, broken files.

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "storage/block_store.h"
#include "tests/unit/storage/blocks.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

namespace fs = std::filesystem;
using Statuses = std::vector<BlockStatus>;

class RocksBlockStoreTest : public ::testing::Test {
 protected:
  RocksBlockStoreTest() {
    options_.folder = folder_.path() / "blocks";
    options_.reserve_bytes = 1U << 20U;
    options_.write_buffer_bytes = 1U << 20U;
  }

  void open() {
    store_.reset();
    auto opened = open_rocks_block_store(options_);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    was_replaced_ = opened->was_replaced;
    why_replaced_ = opened->why_replaced;
    store_ = std::move(opened->store);
  }

  Statuses put(const TestBlock& block) {
    auto statuses = store_->put({write_of(block)}, 1);
    if (!statuses) ADD_FAILURE() << statuses.error().detail;
    return statuses ? *statuses : Statuses();
  }

  /// All bytes of the files with this extension that hold `needle`, with one bit of it flipped. Returns how many places.
  int flip(const std::string& extension, ByteView needle) {
    int flipped = 0;
    for (const auto& entry : fs::directory_iterator(options_.folder)) {
      if (entry.path().extension() != extension) continue;
      std::ifstream in(entry.path(), std::ios::binary);
      std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
      const auto at = content.find(needle);
      if (at == std::string::npos) continue;
      content[at + 5] = static_cast<char>(content[at + 5] ^ 4);
      std::ofstream(entry.path(), std::ios::binary) << content;
      ++flipped;
    }
    return flipped;
  }

  /// Enough new blocks that everything put before lies in blob files, not in the log.
  void push_out() {
    for (std::uint64_t i = 1000; i < 1012; ++i) ASSERT_EQ(put(make_block(i, 1U << 20U)), Statuses{BlockStatus::ok});
  }

  TempFolder folder_;
  RocksStoreOptions options_;
  std::unique_ptr<BlockStore> store_;
  bool was_replaced_ = false;
  std::string why_replaced_;
};

TEST_F(RocksBlockStoreTest, KeepsEverythingOverAReopen) {
  open();
  const std::uint64_t id = store_->store_id();
  std::vector<TestBlock> blocks;
  for (std::uint64_t i = 1; i <= 20; ++i) blocks.push_back(make_block(i, i * 20'000));
  std::uint64_t bytes = 0;
  for (const TestBlock& block : blocks) {
    ASSERT_EQ(put(block), Statuses{BlockStatus::ok});
    bytes += block.bytes.size();
  }
  ASSERT_TRUE(store_->remove({blocks[3].key.id}).ok());
  bytes -= blocks[3].bytes.size();
  open();
  EXPECT_FALSE(was_replaced_);
  EXPECT_EQ(store_->store_id(), id);
  EXPECT_EQ(store_->usage().blocks, 19U);
  EXPECT_EQ(store_->usage().bytes, bytes);
  for (const TestBlock& block : blocks) EXPECT_EQ(store_->get(block.key).ok(), block.key.id != blocks[3].key.id);
}

TEST_F(RocksBlockStoreTest, HasAnotherIdAfterAWipe) {
  open();
  const std::uint64_t id = store_->store_id();
  EXPECT_NE(id, 0U);
  store_.reset();
  fs::remove_all(options_.folder);
  open();
  EXPECT_FALSE(was_replaced_);
  EXPECT_NE(store_->store_id(), id);
}

TEST_F(RocksBlockStoreTest, AFlippedBitIsDamagedAndGoodBytesReplaceIt) {
  open();
  const TestBlock block = make_block(1, 300'000);
  ASSERT_EQ(put(block), Statuses{BlockStatus::ok});
  push_out();
  store_.reset();
  ASSERT_EQ(flip(".blob", ByteView(block.bytes).substr(1000, 40)), 1);
  open();
  ASSERT_FALSE(was_replaced_) << why_replaced_;
  auto got = store_->get(block.key);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, Errc::damaged);
  EXPECT_EQ(store_->verify(block.key.id).error().code, Errc::damaged);
  const BlockStoreUsage before = store_->usage();
  EXPECT_EQ(put(block), Statuses{BlockStatus::ok});
  EXPECT_TRUE(store_->get(block.key).ok());
  EXPECT_TRUE(store_->verify(block.key.id).ok());
  EXPECT_EQ(store_->usage().blocks, before.blocks);
  EXPECT_EQ(store_->usage().bytes, before.bytes);
  open();
  EXPECT_TRUE(store_->get(block.key).ok());
}

TEST_F(RocksBlockStoreTest, OpensWithATornLogTailAndKeepsWhatWasSyncedBefore) {
  open();
  const TestBlock first = make_block(1, 5000);
  const TestBlock second = make_block(2, 5000);
  ASSERT_EQ(put(first), Statuses{BlockStatus::ok});
  ASSERT_EQ(put(second), Statuses{BlockStatus::ok});
  store_.reset();
  fs::path log;
  for (const auto& entry : fs::directory_iterator(options_.folder)) {
    if (entry.path().extension() == ".log" && entry.file_size() > 0) log = entry.path();
  }
  ASSERT_FALSE(log.empty());
  fs::resize_file(log, fs::file_size(log) - 2000);
  open();
  EXPECT_FALSE(was_replaced_) << why_replaced_;
  EXPECT_TRUE(store_->get(first.key).ok());
  EXPECT_EQ(store_->get(second.key).error().code, Errc::not_found);
}

TEST_F(RocksBlockStoreTest, ADamagedLogMiddleIsNotSilentlyDropped) {
  open();
  const TestBlock first = make_block(1, 5000);
  ASSERT_EQ(put(first), Statuses{BlockStatus::ok});
  ASSERT_EQ(put(make_block(2, 100'000)), Statuses{BlockStatus::ok});
  store_.reset();
  ASSERT_EQ(flip(".log", ByteView(first.bytes).substr(1000, 40)), 1);
  open();
  EXPECT_TRUE(was_replaced_);
}

TEST_F(RocksBlockStoreTest, PutsABrokenStoreAside) {
  for (int round = 1; round <= 2; ++round) {
    open();
    const std::uint64_t id = store_->store_id();
    ASSERT_EQ(put(make_block(1, 5000)), Statuses{BlockStatus::ok});
    store_.reset();
    for (const auto& entry : fs::directory_iterator(options_.folder)) {
      if (entry.path().filename().string().starts_with("MANIFEST")) std::ofstream(entry.path()) << "nonsense";
    }
    open();
    EXPECT_TRUE(was_replaced_);
    EXPECT_NE(why_replaced_.find(".broken-" + std::to_string(round)), std::string::npos) << why_replaced_;
    EXPECT_TRUE(fs::exists(options_.folder.string() + ".broken-" + std::to_string(round)));
    EXPECT_NE(store_->store_id(), id);
    EXPECT_EQ(store_->usage().blocks, 0U);
    EXPECT_EQ(put(make_block(1, 5000)), Statuses{BlockStatus::ok});
  }
}

TEST_F(RocksBlockStoreTest, AStoreWithoutItsCurrentFileIsPutAsideNotOverwritten) {
  open();
  push_out();
  store_.reset();
  fs::remove(options_.folder / "CURRENT");
  open();
  EXPECT_TRUE(was_replaced_);
  EXPECT_TRUE(fs::exists(options_.folder.string() + ".broken-1"));
}

TEST_F(RocksBlockStoreTest, AStoreInUseIsNotPutAside) {
  open();
  auto second = open_rocks_block_store(options_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::conflict) << second.error().detail;
  EXPECT_FALSE(fs::exists(options_.folder.string() + ".broken-1"));
}

TEST_F(RocksBlockStoreTest, BelowTheReserveItTakesNothingAndStillReads) {
  open();
  const TestBlock block = make_block(1, 5000);
  ASSERT_EQ(put(block), Statuses{BlockStatus::ok});
  const std::uint64_t id = store_->store_id();
  options_.reserve_bytes = store_->usage().free_bytes * 2;
  open();
  EXPECT_EQ(store_->store_id(), id);
  EXPECT_TRUE(store_->usage().read_only);
  EXPECT_EQ(put(make_block(2, 5000)), Statuses{BlockStatus::full});
  EXPECT_EQ(put(block), Statuses{BlockStatus::ok});  // it is there already
  EXPECT_TRUE(store_->get(block.key).ok());
  options_.reserve_bytes = 1U << 20U;
  open();
  EXPECT_FALSE(store_->usage().read_only);
  EXPECT_EQ(put(make_block(2, 5000)), Statuses{BlockStatus::ok});
}

TEST_F(RocksBlockStoreTest, GivesTheSpaceOfDeletedBlocksBack) {
  open();
  std::vector<BlockId> doomed;
  for (std::uint64_t i = 1; i <= 100; ++i) {
    const TestBlock block = make_block(i, 1U << 20U);
    ASSERT_EQ(put(block), Statuses{BlockStatus::ok});
    if (i % 10 != 0) doomed.push_back(block.key.id);  // one of ten stays, so no blob file dies by itself
  }
  ASSERT_TRUE(store_->remove(doomed).ok());
  const auto on_disk = [&] {
    std::uint64_t bytes = 0;
    std::error_code gone;
    for (const auto& entry : fs::directory_iterator(options_.folder, gone)) {
      if (entry.path().extension() == ".blob") bytes += fs::file_size(entry.path(), gone);
    }
    return bytes;
  };
  // The work is done in the background: wait for it, at most 30 s.
  for (int i = 0; i < 3000 && on_disk() > (50U << 20U); ++i) ::usleep(10'000);
  EXPECT_LE(on_disk(), 50U << 20U);
  EXPECT_TRUE(store_->get(make_block(10, 1U << 20U).key).ok());
}

}  // namespace
}  // namespace idunno

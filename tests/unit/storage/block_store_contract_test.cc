/// What every BlockStore promises (storage/block_store.h), for memory and RocksDB alike.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

#include "storage/block_store.h"
#include "tests/unit/storage/blocks.h"
#include "tests/unit/storage/temp_folder.h"

namespace idunno {
namespace {

constexpr WallMs kNow = 1'700'000'000'000;

enum class Kind { memory, rocks };

class BlockStoreContract : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (GetParam() == Kind::memory) {
      store_ = make_memory_block_store(42, 64U << 20U);
      return;
    }
    RocksStoreOptions options;
    options.folder = folder_.path() / "blocks";
    options.reserve_bytes = 1U << 20U;
    auto opened = open_rocks_block_store(options);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    store_ = std::move(opened->store);
  }

  std::vector<BlockStatus> put(const std::vector<TestBlock>& blocks, WallMs now = kNow) {
    std::vector<BlockWrite> writes;
    for (const TestBlock& block : blocks) writes.push_back(write_of(block));
    auto statuses = store_->put(writes, now);
    if (!statuses) ADD_FAILURE() << statuses.error().detail;
    return statuses ? *statuses : std::vector<BlockStatus>();
  }

  TempFolder folder_;
  std::unique_ptr<BlockStore> store_;
};

using Statuses = std::vector<BlockStatus>;

TEST_P(BlockStoreContract, GivesBackWhatWasPut) {
  for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{1} << 20U}) {
    const TestBlock block = make_block(length + 1, length);
    ASSERT_EQ(put({block}), Statuses{BlockStatus::ok});
    auto got = store_->get(block.key);
    ASSERT_TRUE(got.ok()) << got.error().detail;
    EXPECT_TRUE(got->view() == block.bytes) << length;
  }
}

TEST_P(BlockStoreContract, SaysNotFoundForWhatItDoesNotHold) {
  auto got = store_->get(make_block(1, 10).key);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, Errc::not_found);
}

TEST_P(BlockStoreContract, RefusesBytesThatDoNotMatchTheirKeyAndTakesTheOthers) {
  const TestBlock good = make_block(1, 100);
  TestBlock wrong = make_block(2, 100);
  wrong.bytes[50] = static_cast<char>(wrong.bytes[50] ^ 1);
  TestBlock cut = make_block(3, 100);
  cut.bytes.pop_back();
  EXPECT_EQ(put({wrong, good, cut}), (Statuses{BlockStatus::damaged, BlockStatus::ok, BlockStatus::damaged}));
  EXPECT_TRUE(store_->get(good.key).ok());
  EXPECT_EQ(store_->get(wrong.key).error().code, Errc::not_found);
  EXPECT_EQ(store_->usage().blocks, 1U);
}

TEST_P(BlockStoreContract, PuttingTheSameAgainChangesNothing) {
  const TestBlock block = make_block(1, 5000);
  EXPECT_EQ(put({block, block}), (Statuses{BlockStatus::ok, BlockStatus::ok}));
  EXPECT_EQ(put({block}, kNow + 5), Statuses{BlockStatus::ok});
  EXPECT_EQ(store_->usage().blocks, 1U);
  EXPECT_EQ(store_->usage().bytes, 5000U);
  auto held = store_->list({}, 10);
  ASSERT_TRUE(held.ok());
  EXPECT_EQ(*held, (std::vector<HeldBlock>{{block.key.id, 5000, kNow}}));
}

TEST_P(BlockStoreContract, AnIdNeverGetsOtherContent) {
  const TestBlock block = make_block(1, 5000);
  TestBlock other = make_block(2, 6000);
  other.key.id = block.key.id;
  EXPECT_EQ(put({block}), Statuses{BlockStatus::ok});
  EXPECT_EQ(put({other}), Statuses{BlockStatus::failed});
  EXPECT_TRUE(store_->get(block.key).ok());
  EXPECT_EQ(store_->get(other.key).error().code, Errc::damaged);
}

TEST_P(BlockStoreContract, TwoContentsForOneIdInOneCallKeepTheFirst) {
  const TestBlock block = make_block(1, 50);
  TestBlock other = make_block(2, 60);
  other.key.id = block.key.id;
  const Statuses statuses = put({block, other});
  EXPECT_EQ(statuses, (Statuses{BlockStatus::ok, BlockStatus::failed}));
  EXPECT_TRUE(store_->get(block.key).ok());
}

TEST_P(BlockStoreContract, AReaderThatExpectsOtherBytesIsToldDamaged) {
  const TestBlock block = make_block(1, 5000);
  ASSERT_EQ(put({block}), Statuses{BlockStatus::ok});
  BlockKey shorter = block.key;
  shorter.length = 4999;
  BlockKey other = block.key;
  other.hash.lo ^= 1U;
  EXPECT_EQ(store_->get(shorter).error().code, Errc::damaged);
  EXPECT_EQ(store_->get(other).error().code, Errc::damaged);
}

TEST_P(BlockStoreContract, VerifiesWithoutAKey) {
  const TestBlock block = make_block(1, 5000);
  ASSERT_EQ(put({block}), Statuses{BlockStatus::ok});
  EXPECT_TRUE(store_->verify(block.key.id).ok());
  EXPECT_EQ(store_->verify(make_block(2, 10).key.id).error().code, Errc::not_found);
}

TEST_P(BlockStoreContract, RemovesAndDoesNotMindUnknownIds) {
  const TestBlock first = make_block(1, 5000);
  const TestBlock second = make_block(2, 5000);
  ASSERT_EQ(put({first, second}), (Statuses{BlockStatus::ok, BlockStatus::ok}));
  EXPECT_TRUE(store_->remove({first.key.id, BlockId{9, 9}, first.key.id}).ok());
  EXPECT_EQ(store_->get(first.key).error().code, Errc::not_found);
  EXPECT_TRUE(store_->get(second.key).ok());
  EXPECT_EQ(store_->usage().blocks, 1U);
  EXPECT_EQ(store_->usage().bytes, 5000U);
  EXPECT_EQ(put({first}), Statuses{BlockStatus::ok});
  EXPECT_TRUE(store_->get(first.key).ok());
}

TEST_P(BlockStoreContract, ListsInIdOrderPageByPage) {
  std::vector<TestBlock> blocks;
  // Ids whose order as little-endian bytes or as text would differ.
  for (const std::uint64_t number :
       {std::uint64_t{300}, std::uint64_t{2}, std::uint64_t{255}, std::uint64_t{1}, ~std::uint64_t{0}}) {
    blocks.push_back(make_block(number, 20));
  }
  blocks.push_back(make_block(4, 30));
  blocks.back().key.id = BlockId{1, 99};
  put(blocks);
  std::vector<HeldBlock> all;
  BlockId after;
  for (int page = 0; page < 10; ++page) {
    auto held = store_->list(after, 2);
    ASSERT_TRUE(held.ok());
    ASSERT_LE(held->size(), 2U);
    if (held->empty()) break;
    all.insert(all.end(), held->begin(), held->end());
    after = all.back().id;
  }
  ASSERT_EQ(all.size(), blocks.size());
  EXPECT_TRUE(std::is_sorted(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.id < b.id; }));
  EXPECT_EQ(all.front(), (HeldBlock{BlockId{1, 99}, 30, kNow}));
  EXPECT_EQ(all.back().id, (BlockId{7, ~std::uint64_t{0}}));
}

TEST_P(BlockStoreContract, APayloadOutlivesRemovalAndTheStore) {
  const TestBlock large = make_block(1, 1U << 20U);
  const TestBlock small = make_block(2, 100);
  put({large, small});
  auto got_large = store_->get(large.key);
  auto got_small = store_->get(small.key);
  ASSERT_TRUE(got_large.ok());
  ASSERT_TRUE(got_small.ok());
  ASSERT_TRUE(store_->remove({large.key.id, small.key.id}).ok());
  store_.reset();
  EXPECT_TRUE(got_large->view() == large.bytes);
  EXPECT_TRUE(got_small->view() == small.bytes);
}

TEST_P(BlockStoreContract, ReadsWhileItWrites) {
  std::vector<TestBlock> blocks;
  for (std::uint64_t i = 1; i <= 16; ++i) blocks.push_back(make_block(i, 100'000));
  put(blocks);
  std::thread reader([&] {
    for (int round = 0; round < 20; ++round) {
      for (const TestBlock& block : blocks) {
        auto got = store_->get(block.key);
        if (!got || got->view() != block.bytes) ADD_FAILURE() << "round " << round;
      }
    }
  });
  for (std::uint64_t i = 17; i <= 48; ++i) EXPECT_EQ(put({make_block(i, 200'000)}), Statuses{BlockStatus::ok});
  reader.join();
}

INSTANTIATE_TEST_SUITE_P(Stores, BlockStoreContract, ::testing::Values(Kind::memory, Kind::rocks),
                         [](const auto& store) { return store.param == Kind::memory ? "memory" : "rocks"; });

}  // namespace
}  // namespace idunno

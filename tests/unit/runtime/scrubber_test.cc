#include "nodes/runtime/scrubber.h"

#include <gtest/gtest.h>

#include <set>

#include "bus/clock.h"
#include "tests/unit/storage/blocks.h"

namespace idunno {
namespace {

constexpr Duration kLimit = std::chrono::seconds(20);

/// A store of made-up blocks: nothing but what the scrubber asks for.
class FakeStore final : public BlockStore {
 public:
  Result<std::vector<BlockStatus>> put(const std::vector<BlockWrite>&, WallMs) override { return std::vector<BlockStatus>(); }
  Result<Payload> get(const BlockKey&) override { return Error{Errc::not_found, "not here"}; }
  Status verify(BlockId id) override {
    verified.push_back(id);
    if (blocks.count(id) == 0) return Error{Errc::not_found, "gone"};
    if (rotten.count(id) != 0) return Error{Errc::damaged, "rotten"};
    return {};
  }
  Status remove(const std::vector<BlockId>&) override { return {}; }
  Result<std::vector<HeldBlock>> list(BlockId after, std::size_t limit) override {
    std::vector<HeldBlock> held;
    for (auto it = blocks.upper_bound(after); it != blocks.end() && held.size() < limit; ++it)
      held.push_back(HeldBlock{*it, 1000, 1});
    return held;
  }
  BlockStoreUsage usage() override { return {}; }
  std::uint64_t store_id() const override { return 1; }

  std::set<BlockId> blocks;
  std::set<BlockId> rotten;
  std::vector<BlockId> verified;
};

class ScrubberTest : public ::testing::Test {
 protected:
  void start(Scrubber::Options options) {
    scrubber = std::make_unique<Scrubber>(
        loop, store, options,
        [this](std::vector<BlockId> ids, std::function<void(bool)> done) {
          removed.insert(removed.end(), ids.begin(), ids.end());
          done(removals_work);
        },
        [this](const std::vector<BlockId>& ids) { told.insert(told.end(), ids.begin(), ids.end()); });
  }
  bool run_until(const std::function<bool()>& done) { return loop.run_until(done, monotonic_now() + kLimit); }

  EventLoop loop;
  FakeStore store;
  std::vector<BlockId> removed;
  std::vector<BlockId> told;
  bool removals_work = true;
  std::unique_ptr<Scrubber> scrubber;
};

constexpr std::uint64_t kFast = 1ULL << 40U;

TEST_F(ScrubberTest, ReadsEveryBlockOnceARoundAndReportsTheBadOnes) {
  for (std::uint64_t i = 1; i <= 1000; ++i) store.blocks.insert(BlockId{i % 7, i});
  const std::set<BlockId> bad{BlockId{1, 1}, BlockId{3, 500 - 500 % 7 + 3}, *store.blocks.rbegin()};
  for (const BlockId id : bad) {
    ASSERT_EQ(store.blocks.count(id), 1U);
    store.rotten.insert(id);
  }
  start({kFast, std::chrono::minutes(5)});
  ASSERT_TRUE(run_until([&] { return scrubber->totals().rounds == 1; }));
  EXPECT_EQ(store.verified, std::vector<BlockId>(store.blocks.begin(), store.blocks.end()));
  EXPECT_EQ(std::set<BlockId>(told.begin(), told.end()), bad);
  EXPECT_EQ(removed, told);
  EXPECT_EQ(scrubber->totals().blocks, 1000 - bad.size());
  EXPECT_EQ(scrubber->totals().damaged, bad.size());
}

TEST_F(ScrubberTest, BeginsAgainAfterAPause) {
  store.blocks = {BlockId{1, 1}, BlockId{1, 2}};
  start({kFast, std::chrono::milliseconds(1)});
  ASSERT_TRUE(run_until([&] { return scrubber->totals().rounds == 3; }));
  EXPECT_EQ(store.verified.size(), 6U);
}

TEST_F(ScrubberTest, KeepsToItsRate) {
  for (std::uint64_t i = 1; i <= 10000; ++i) store.blocks.insert(BlockId{1, i});
  const Time began = monotonic_now();
  static constexpr std::uint64_t kRate = 5U << 20U;
  start({kRate, std::chrono::minutes(5)});
  ASSERT_TRUE(run_until([&] { return store.verified.size() >= 400; }));
  // 400 blocks of 1,000 bytes and their cost; the first step is free. More time may always pass, less never.
  const double seconds = std::chrono::duration<double>(monotonic_now() - began).count();
  EXPECT_GE(seconds, 0.8 * 300 * 1000 / kRate);
  EXPECT_LT(store.verified.size(), 10000U);
}

TEST_F(ScrubberTest, DoesNotWalkWhenItIsOffButLooksAtSuspects) {
  store.blocks = {BlockId{1, 1}, BlockId{1, 2}, BlockId{1, 3}};
  store.rotten = {BlockId{1, 2}, BlockId{1, 3}};
  start({0, std::chrono::minutes(5), std::chrono::milliseconds(1)});
  scrubber->suspect(BlockId{1, 1});
  scrubber->suspect(BlockId{1, 2});
  scrubber->suspect(BlockId{1, 2});
  scrubber->suspect(BlockId{9, 9});
  ASSERT_TRUE(run_until([&] { return store.verified.size() == 3; }));
  EXPECT_EQ(told, std::vector<BlockId>{(BlockId{1, 2})});
  EXPECT_EQ(scrubber->totals().rounds, 0U);
}

TEST_F(ScrubberTest, ASuspectThatWasMendedMeanwhileStays) {
  store.blocks = {BlockId{1, 1}};
  store.rotten = {BlockId{1, 1}};
  start({0, std::chrono::minutes(5), std::chrono::milliseconds(1)});
  scrubber->suspect(BlockId{1, 1});
  store.rotten.clear();
  ASSERT_TRUE(run_until([&] { return store.verified.size() == 1; }));
  EXPECT_TRUE(told.empty());
}

TEST_F(ScrubberTest, SaysNothingOfACopyThatCouldNotBeDeleted) {
  store.blocks = {BlockId{1, 1}};
  store.rotten = {BlockId{1, 1}};
  removals_work = false;
  start({0, std::chrono::minutes(5), std::chrono::milliseconds(1)});
  scrubber->suspect(BlockId{1, 1});
  ASSERT_TRUE(run_until([&] { return !removed.empty(); }));
  EXPECT_TRUE(told.empty());
}

}  // namespace
}  // namespace idunno

#include "nodes/worker/engine_cache.h"

#include <gtest/gtest.h>

#include "nodes/worker/executor_service.h"
#include "tests/unit/worker/engine_fixture.h"

namespace idunno {
namespace {

using testing::request;

class EngineCacheTest : public testing::EngineFiles {
 protected:
  EngineCacheTest() : onnx_(write("model.onnx", testing::small_gemm())) {}

  ExecuteBatch batch_of(const std::string& key) {
    ExecuteBatch batch = request(ItemKind::numbers, {"1,2"}, 1).batch;
    batch.model_key = key;
    batch.onnx_file = onnx_;
    batch.spec_toml = "[input]\nshape = [2]\n";
    return batch;
  }

  std::string onnx_;
};

TEST_F(EngineCacheTest, LoadsAModelOnce) {
  EngineCache cache(1U << 30U);
  std::uint64_t load_us = 0;
  const auto first = cache.get(batch_of("m:1"), load_us);
  ASSERT_TRUE(first.ok()) << first.error().detail;
  EXPECT_GT(load_us, 0U);
  const auto again = cache.get(batch_of("m:1"), load_us);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(load_us, 0U);
  EXPECT_EQ(*first, *again);
  ASSERT_TRUE(cache.get(batch_of("m:2"), load_us).ok());
  EXPECT_EQ(cache.size(), 2U);
}

TEST_F(EngineCacheTest, DropsTheModelUnusedForLongestWhenThereIsNoRoom) {
  EngineCache cache(2);  // one byte for models: no two fit
  std::uint64_t load_us = 0;
  ASSERT_TRUE(cache.get(batch_of("m:1"), load_us).ok());
  ASSERT_TRUE(cache.get(batch_of("m:2"), load_us).ok());
  EXPECT_EQ(cache.size(), 1U);
  ASSERT_TRUE(cache.get(batch_of("m:2"), load_us).ok());
  EXPECT_EQ(load_us, 0U);
  ASSERT_TRUE(cache.get(batch_of("m:1"), load_us).ok());
  EXPECT_GT(load_us, 0U);
}

TEST_F(EngineCacheTest, AModelThatDoesNotLoadIsNotKept) {
  EngineCache cache(1U << 30U);
  std::uint64_t load_us = 0;
  ExecuteBatch batch = batch_of("m:1");
  batch.onnx_file = "/nonexistent.onnx";
  const auto missing = cache.get(batch, load_us);
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().detail.find("model m:1 cannot be used: cannot read /nonexistent.onnx"), std::string::npos)
      << missing.error().detail;
  batch = batch_of("m:1");
  batch.spec_toml = "[input]\n";
  EXPECT_FALSE(cache.get(batch, load_us).ok());
  EXPECT_EQ(cache.size(), 0U);
}

TEST_F(EngineCacheTest, TheEngineThatDoesNothingGivesEmptyRows) {
  EngineCache cache(1U << 30U);
  auto nothing = request(ItemKind::nothing, {"", ""}, 2, 10);
  nothing.batch.spec_toml = "[engine]\nkind = \"nothing\"\n";
  std::string rows;
  const BatchExecuted done = execute(cache, nothing.batch, "", rows);
  EXPECT_TRUE(done.ok) << done.detail;
  EXPECT_EQ(rows, "{\"index\":10,\"query\":\"/q10\",\"top\":[]}\n{\"index\":11,\"query\":\"/q11\",\"top\":[]}\n");
}

TEST_F(EngineCacheTest, TheEngineThatDoesNothingTakesItsTime) {
  EngineCache cache(1U << 30U);
  auto nothing = request(ItemKind::nothing, {"", ""}, 2);
  nothing.batch.spec_toml = "[engine]\nkind = \"nothing\"\nnothing_us = 5000\n";
  std::string rows;
  EXPECT_GE(execute(cache, nothing.batch, "", rows).infer_us, 10000U);
}

TEST_F(EngineCacheTest, MalformedRequestsAreRefused) {
  EngineCache cache(1U << 30U);
  std::string rows;
  auto good = request(ItemKind::numbers, {"1,2", "3,4"}, 2);
  EXPECT_FALSE(execute(cache, good.batch, "short", rows).ok);
  auto lengths = good;
  lengths.batch.item_lengths.pop_back();
  EXPECT_FALSE(execute(cache, lengths.batch, lengths.payload, rows).ok);
  auto too_many = good;
  too_many.batch.batch_size = 1;
  EXPECT_FALSE(execute(cache, too_many.batch, too_many.payload, rows).ok);
  auto none = request(ItemKind::numbers, {}, 2);
  EXPECT_FALSE(execute(cache, none.batch, "", rows).ok);
}

TEST_F(EngineCacheTest, MaskedPlacesMustBePlacesInOrder) {
  EngineCache cache(1U << 30U);
  std::string rows;
  auto two = request(ItemKind::nothing, {"", ""}, 2);
  two.batch.spec_toml = "[engine]\nkind = \"nothing\"\n";
  for (const auto& [masked, good] : std::vector<std::pair<std::vector<std::uint32_t>, bool>>{
           {{}, true}, {{0, 1}, true}, {{1}, true}, {{2}, false}, {{1, 0}, false}, {{0, 0}, false}}) {
    two.batch.masked = masked;
    EXPECT_EQ(execute(cache, two.batch, "", rows).ok, good);
  }
}

TEST_F(EngineCacheTest, LackOfMemoryIsTheExecutorsEndButForZerosOnly) {
  EngineCache cache(1U << 30U);
  std::string rows;
  auto greedy = request(ItemKind::nothing, {"", ""}, 2);
  greedy.batch.spec_toml = "[engine]\nkind = \"nothing\"\nnothing_memory_on = \"q1\"\n";
  BatchExecuted done = execute(cache, greedy.batch, "", rows);
  EXPECT_FALSE(done.ok);
  EXPECT_EQ(done.why, BatchFailure::executor_died);
  EXPECT_EQ(done.detail, "ran out of its memory");
  EXPECT_TRUE(rows.empty());
  greedy.batch.masked = {1};
  done = execute(cache, greedy.batch, "", rows);
  EXPECT_TRUE(done.ok);
  EXPECT_EQ(done.errors, 1U);
}

TEST_F(EngineCacheTest, RowsOverTheLimitFailTheBatch) {
  EngineCache cache(1U << 30U);
  auto huge = request(ItemKind::nothing, {}, 100);
  for (int i = 0; i < 100; ++i) {
    huge.batch.queries.emplace_back(60000, 'q');
    huge.batch.item_lengths.push_back(0);
  }
  huge.batch.spec_toml = "[engine]\nkind = \"nothing\"\n";
  std::string rows;
  const BatchExecuted done = execute(cache, huge.batch, "", rows);
  EXPECT_FALSE(done.ok);
  EXPECT_EQ(done.why, BatchFailure::result_too_large);
  EXPECT_TRUE(rows.empty());
}

}  // namespace
}  // namespace idunno

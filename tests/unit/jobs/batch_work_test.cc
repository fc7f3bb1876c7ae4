// How the work on a batch was spread over its time.

#include "nodes/jobs/batch_work.h"

#include <gtest/gtest.h>

#include "bus/done_steps.h"
#include "bus/types.h"

namespace idunno {
namespace {

constexpr std::uint64_t kBefore = 7'000'000;  // of processor time, when the batch began

Time at_ms(std::int64_t ms) { return Time{} + std::chrono::seconds(100) + std::chrono::milliseconds(ms); }

TEST(BatchWork, IsOnlyWhatTheExecutorHadSinceItBegan) {
  BatchWork work;
  work.begin(at_ms(0), kBefore);
  EXPECT_EQ(work.cpu_us(), 0U);
  EXPECT_FALSE(work.computed());
  work.sample(at_ms(100), kBefore + 40'000);
  EXPECT_EQ(work.cpu_us(), 40'000U);
  EXPECT_EQ(work.pace_milli(), 400U);
  work.sample(at_ms(200), kBefore + 140'000);
  EXPECT_EQ(work.pace_milli(), 1000U) << "of the last span alone";
  work.sample(at_ms(150), kBefore + 200'000);
  work.sample(at_ms(300), kBefore + 100'000);
  EXPECT_EQ(work.cpu_us(), 140'000U) << "what goes back is ignored";
}

TEST(BatchWork, LoadingTheModelIsNone) {
  BatchWork work;
  work.begin(at_ms(0), kBefore);
  work.sample(at_ms(400), kBefore + 300'000);
  work.loaded(at_ms(500), kBefore + 400'000);
  EXPECT_EQ(work.cpu_us(), 0U);
  work.sample(at_ms(1000), kBefore + 600'000);
  EXPECT_EQ(work.cpu_us(), 200'000U);
  const auto done = work.done_milli(std::chrono::milliseconds(1000));
  ASSERT_EQ(done.size(), std::chrono::milliseconds(1000) / kDoneStep);
  for (std::size_t i = 0; i < done.size(); ++i) {
    const double ms = 1000.0 * static_cast<double>(i + 1) / static_cast<double>(done.size() + 1);
    EXPECT_NEAR(done[i], ms < 500 ? 0 : 2 * (ms - 500), 1) << ms;
  }
}

TEST(BatchWork, AnEngineThatSleepsTellsNothing) {
  BatchWork work;
  work.begin(at_ms(0), kBefore);
  work.sample(at_ms(1000), kBefore + 500);
  EXPECT_FALSE(work.computed());
  EXPECT_TRUE(work.done_milli(std::chrono::milliseconds(1000)).empty());
}

TEST(BatchWork, StepsFollowThePaceAndStayAtTheEndWhileTheResultIsStored) {
  BatchWork work;
  work.begin(at_ms(0), kBefore);
  work.sample(at_ms(1000), kBefore + 100'000);
  work.sample(at_ms(2000), kBefore + 1'000'000);
  const auto done = work.done_milli(std::chrono::milliseconds(2500));
  ASSERT_EQ(done.size(), std::chrono::milliseconds(2500) / kDoneStep);
  for (std::size_t i = 0; i < done.size(); ++i) {
    const double ms = 2500.0 * static_cast<double>(i + 1) / static_cast<double>(done.size() + 1);
    const double expected = ms < 1000 ? 0.1 * ms : ms < 2000 ? 100 + 0.9 * (ms - 1000) : 1000;
    EXPECT_NEAR(done[i], expected, 1) << ms;
  }
}

TEST(BatchWork, ALongBatchTakesNoMoreMemoryThanAShortOne) {
  BatchWork work;
  work.begin(at_ms(0), kBefore);
  for (std::uint64_t i = 1; i <= 100'000; ++i) work.sample(at_ms(static_cast<std::int64_t>(100 * i)), kBefore + 50'000 * i);
  const auto done = work.done_milli(std::chrono::seconds(10'000));
  ASSERT_EQ(done.size(), kDoneStepsMax);
  for (std::size_t i = 0; i < done.size(); ++i) EXPECT_NEAR(done[i], 1000.0 * static_cast<double>(i + 1) / 32, 2);
}

TEST(DoneSteps, WithoutStepsABatchGoesEvenly) {
  EXPECT_EQ(done_millionths({}, 0, 4000), 0);
  EXPECT_EQ(done_millionths({}, 1000, 4000), 250'000);
  EXPECT_EQ(done_millionths({}, 4000, 4000), 1'000'000);
  EXPECT_DOUBLE_EQ(done_part({}, 1000, 4000), 0.25);
  EXPECT_EQ(done_part({500}, -1, 4000), 0) << "not begun";
  EXPECT_EQ(done_part({500}, 4001, 4000), 1) << "over";
  EXPECT_EQ(done_part({}, 1, 0), 1) << "a batch without length is done at once";
}

TEST(DoneSteps, BetweenTwoStepsItGoesEvenly) {
  const std::vector<std::uint16_t> steps{100, 100, 900};  // after 1, 2, 3 of 4
  EXPECT_EQ(done_millionths(steps, 500, 4000), 50'000);
  EXPECT_EQ(done_millionths(steps, 1500, 4000), 100'000);
  EXPECT_EQ(done_millionths(steps, 2500, 4000), 500'000);
  EXPECT_EQ(done_millionths(steps, 3500, 4000), 950'000);
  EXPECT_EQ(done_millionths(steps, 4000, 4000), 1'000'000);
}

TEST(DoneSteps, ALiarGetsNoMoreThanAWhole) {
  const std::vector<std::uint16_t> steps(1000, 65535);
  for (std::int64_t after = 0; after <= 4000; after += 100) {
    EXPECT_GE(done_millionths(steps, after, 4000), 0);
    EXPECT_LE(done_millionths(steps, after, 4000), 1'000'000);
  }
}

}  // namespace
}  // namespace idunno

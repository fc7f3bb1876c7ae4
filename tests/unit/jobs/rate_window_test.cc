#include "nodes/jobs/rate_window.h"

#include <gtest/gtest.h>

namespace idunno {
namespace {

Time at_ms(std::int64_t ms) { return Time{} + std::chrono::milliseconds(1'000'000 + ms); }

TEST(RateWindow, CountsQueriesPerSecond) {
  RateWindow rates;
  for (int i = 0; i < 200; ++i) rates.add(at_ms(i * 100), 5, 1000);  // 50 a second for 20 s
  EXPECT_EQ(rates.count(1010, 1019), 500U);
  EXPECT_NEAR(static_cast<double>(rates.rate_milli(10, std::chrono::seconds(20), at_ms(20'000))), 50'000, 600);
  EXPECT_NEAR(static_cast<double>(rates.rate_milli(1, std::chrono::seconds(20), at_ms(20'000))), 50'000, 600);
}

TEST(RateWindow, AYoungJobUsesItsAge) {
  RateWindow rates;
  for (int i = 0; i < 20; ++i) rates.add(at_ms(i * 100), 5, 1000);
  EXPECT_EQ(rates.rate_milli(10, std::chrono::seconds(2), at_ms(2000)), 50'000U);
}

TEST(RateWindow, ForgetsWhatIsTooOld) {
  RateWindow rates;
  rates.add(at_ms(0), 1000, 1000);
  EXPECT_EQ(rates.rate_milli(10, std::chrono::seconds(100), at_ms(15'000)), 0U);
  EXPECT_EQ(rates.latency(10, at_ms(15'000)).count(), 0U);
  rates.add(at_ms(64'000), 1, 1000);  // the same slot of the ring
  EXPECT_EQ(rates.count(1064, 1064), 1U);
  EXPECT_EQ(rates.count(0, 1064), 1U);
  rates.clear();
  EXPECT_EQ(rates.count(0, 1064), 0U);
}

TEST(RateWindow, CountsABatchForTheTimeInWhichItWasComputed) {
  RateWindow rates;
  rates.add(at_ms(5'500), 16, 4'000'000);  // computed from 1.5 to 5.5
  EXPECT_EQ(rates.count(1005, 1005), 16U);
  EXPECT_EQ(rates.processed_milli(1001, 1001), 2'000U);
  for (std::int64_t second = 1002; second <= 1004; ++second) EXPECT_EQ(rates.processed_milli(second, second), 4'000U);
  EXPECT_EQ(rates.processed_milli(1005, 1005), 2'000U);
  EXPECT_EQ(rates.processed_milli(1000, 1010), 16'000U);  // nothing lost, nothing twice
  EXPECT_EQ(rates.longest_us(1005), 4'000'000U);
  EXPECT_EQ(rates.longest_us(1006), 0U);
}

TEST(RateWindow, CountsABatchAsUnevenlyAsItWasComputed) {
  RateWindow rates;
  rates.add(at_ms(5'000), 16, 4'000'000, {500, 500, 750});  // half of it in its first second, nothing in the second one
  EXPECT_EQ(rates.processed_milli(1001, 1001), 8'000U);
  EXPECT_EQ(rates.processed_milli(1002, 1002), 0U);
  EXPECT_EQ(rates.processed_milli(1003, 1003), 4'000U);
  EXPECT_EQ(rates.processed_milli(1004, 1004), 4'000U);
}

TEST(RateWindow, StepsThatCannotBeTrueChangeNothingOfTheSum) {
  RateWindow rates;
  rates.add(at_ms(5'000), 16, 4'000'000, {900, 100, 65535});
  EXPECT_EQ(rates.processed_milli(1001, 1004), 16'000U);
}

TEST(RateWindow, MergesLatenciesOfTheWindow) {
  RateWindow rates;
  rates.add(at_ms(0), 10, 1'000'000);  // outside
  for (int i = 0; i < 10; ++i) rates.add(at_ms(20'000 + i * 1000), 1, 5000);
  const LatencySummary summary = rates.latency(10, at_ms(29'500)).summary();
  EXPECT_EQ(summary.count, 10U);
  EXPECT_EQ(summary.mean_us, 5000U);
}

class Fairness : public ::testing::Test {
 protected:
  /// One second in which the jobs commit these queries, then the judgement.
  void second(std::uint64_t a, std::uint64_t b, bool b_competes = true) {
    const Time now = at_ms(seconds * 1000 + 500);
    if (a > 0) rates_a.add(now, a, 1000);
    if (b > 0) rates_b.add(now, b, 1000);
    ++seconds;
    monitor.second(1000 + seconds, {{JobId{1}, &rates_a, weight_a, true}, {JobId{2}, &rates_b, 1000, b_competes}});
  }
  std::uint32_t weight_a = 1000;
  std::int64_t seconds = 0;
  RateWindow rates_a;
  RateWindow rates_b;
  FairnessMonitor monitor;
};

TEST_F(Fairness, JudgesOnlyWholeWindows) {
  for (int i = 0; i < 10; ++i) second(100, 100);
  EXPECT_EQ(monitor.report().windows, 0U);
  second(100, 100);
  EXPECT_EQ(monitor.report().jobs, 2U);
  EXPECT_EQ(monitor.report().windows, 1U);
  EXPECT_EQ(monitor.report().max_min_milli, 1000U);
}

TEST_F(Fairness, CountsWindowsWithinTenAndTwentyPercent) {
  for (int i = 0; i < 11; ++i) second(115, 100);
  EXPECT_EQ(monitor.report().max_min_milli, 1150U);
  EXPECT_EQ(monitor.report().in10_windows, 0U);
  EXPECT_EQ(monitor.report().in20_windows, 1U);
}

TEST_F(Fairness, CountsWindowsWithinFivePercent) {
  for (int i = 0; i < 11; ++i) second(105, 100);
  EXPECT_EQ(monitor.report().in5_windows, 1U);
  second(108, 100);
  EXPECT_EQ(monitor.report().windows, 2U);
  EXPECT_EQ(monitor.report().in5_windows, 1U) << "1.053";
}

TEST_F(Fairness, NamesTheWorstWindowAndWhatHappenedInIt) {
  for (int i = 0; i < 12; ++i) second(100, 100);
  EXPECT_EQ(monitor.report().worst_cause, "nothing known");
  monitor.happened(1000 + seconds - 30, "too long ago");
  monitor.happened(1000 + seconds, "n3 died");
  monitor.happened(1000 + seconds + 1, "j4 was submitted");
  for (int i = 0; i < 4; ++i) second(150, 100);
  const FairnessReport report = monitor.report();
  EXPECT_EQ(report.worst_max_min_milli, 1200U);
  EXPECT_EQ(report.worst_cause, "n3 died, j4 was submitted");
  for (int i = 0; i < 30; ++i) second(100, 100);
  EXPECT_EQ(monitor.report().worst_max_min_milli, 1200U) << "kept";
}

TEST_F(Fairness, SaysWhenTheWorstWindowEnded) {
  for (int i = 0; i < 11; ++i) {
    rates_a.add(at_ms(seconds * 1000 + 500), 100, 1000);
    rates_b.add(at_ms(seconds * 1000 + 500), 100, 1000);
    ++seconds;
    monitor.second(1000 + seconds, {{JobId{1}, &rates_a, 1000, true}, {JobId{2}, &rates_b, 1000, true}},
                   5'000'000 + static_cast<WallMs>(seconds) * 1000);
  }
  EXPECT_EQ(monitor.report().worst_at_ms, 5'011'000U);
}

TEST_F(Fairness, DividesByTheWeights) {
  weight_a = 3000;
  for (int i = 0; i < 12; ++i) second(300, 100);
  EXPECT_EQ(monitor.report().max_min_milli, 1000U);
  EXPECT_EQ(monitor.report().in10_windows, 2U);
}

TEST_F(Fairness, AJobThatDidNotCompeteStartsItsWindowAnew) {
  for (int i = 0; i < 11; ++i) second(100, 100);
  second(100, 0, false);
  for (int i = 0; i < 10; ++i) second(100, 100);
  EXPECT_EQ(monitor.report().windows, 1U);
  EXPECT_EQ(monitor.report().max_min_milli, 0U);
  EXPECT_EQ(monitor.report().last_max_min_milli, 1000U) << "kept after the end";
  second(100, 100);
  EXPECT_EQ(monitor.report().windows, 2U);
}

}  // namespace
}  // namespace idunno

#include "nodes/jobs/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "bus/base/random.h"
#include "bus/codec.h"

namespace idunno {
namespace {

std::uint64_t distance(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : b - a; }

/// Of the sorted values, by the definition in the header.
std::uint64_t exact_percentile(const std::vector<std::uint64_t>& sorted, std::uint64_t thousandths) {
  const std::uint64_t rank = std::max<std::uint64_t>(1, (sorted.size() * thousandths + 999) / 1000);
  return sorted[rank - 1];
}

TEST(LatencyHistogram, IsAllZeroWhenEmpty) {
  const LatencyHistogram empty;
  EXPECT_EQ(empty.summary(), LatencySummary{});
  EXPECT_TRUE(empty.valid());
}

TEST(LatencyHistogram, KeepsSmallValuesExactly) {
  for (std::uint64_t value = 1; value < 256; ++value) {
    LatencyHistogram histogram;
    histogram.record(value);
    EXPECT_EQ(histogram.percentile_us(500), value);
    EXPECT_EQ(histogram.mean_us(), value);
    EXPECT_EQ(histogram.sd_us(), 0U);
  }
}

TEST(LatencyHistogram, BucketsFollowEachOtherWithoutHoleOrOverlap) {
  for (std::uint16_t index = 1; index + 1U < kLatencyBuckets; ++index) {
    const std::uint64_t low = LatencyHistogram::bucket_low_us(index);
    if (low > kLatencyMaxUs) break;
    EXPECT_EQ(LatencyHistogram::bucket_of(low), index);
    EXPECT_EQ(LatencyHistogram::bucket_of(low - 1), index == 1 ? 1 : index - 1);
    const std::uint64_t middle = LatencyHistogram::bucket_middle_us(index);
    EXPECT_EQ(LatencyHistogram::bucket_of(std::min(middle, kLatencyMaxUs)), LatencyHistogram::bucket_of(low));
  }
  EXPECT_LT(LatencyHistogram::bucket_of(std::numeric_limits<std::uint64_t>::max()), kLatencyBuckets);
}

TEST(LatencyHistogram, IsOffByAtMostOneIn256) {
  Random random(1);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = 1 + (random.next() >> (32 + random.below(32))) % kLatencyMaxUs;
    LatencyHistogram histogram;
    histogram.record(value);
    ASSERT_LE(distance(histogram.percentile_us(500), value) * 256, value) << value;
  }
}

TEST(LatencyHistogram, CountsZeroAsOneAndClampsAboveAnHour) {
  LatencyHistogram histogram;
  histogram.record(0);
  EXPECT_EQ(histogram.mean_us(), 1U);
  EXPECT_EQ(histogram.clamped(), 0U);
  histogram.record(kLatencyMaxUs);
  EXPECT_EQ(histogram.clamped(), 0U);
  histogram.record(kLatencyMaxUs + 1, 3);
  EXPECT_EQ(histogram.clamped(), 3U);
  EXPECT_EQ(histogram.count(), 5U);
  EXPECT_EQ(histogram.mean_us(), (1 + 4 * kLatencyMaxUs + 2) / 5);
}

TEST(LatencyHistogram, RecordsNothingForCountZero) {
  LatencyHistogram histogram;
  histogram.record(17, 0);
  EXPECT_EQ(histogram, LatencyHistogram{});
}

TEST(LatencyHistogram, AgreesWithExactStatistics) {
  Random random(7);
  LatencyHistogram histogram;
  std::vector<std::uint64_t> values;
  double sum = 0;
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t value = 200 + random.below(1000) * random.below(1000);
    values.push_back(value);
    histogram.record(value);
    sum += static_cast<double>(value);
  }
  std::sort(values.begin(), values.end());
  const double mean = sum / static_cast<double>(values.size());
  double squares = 0;
  for (const std::uint64_t value : values) squares += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
  const double sd = std::sqrt(squares / static_cast<double>(values.size()));

  EXPECT_EQ(histogram.count(), values.size());
  EXPECT_NEAR(static_cast<double>(histogram.mean_us()), mean, 0.51);
  EXPECT_NEAR(static_cast<double>(histogram.sd_us()), sd, sd / 256 + 1);
  for (const std::uint32_t thousandths : {0U, 1U, 100U, 500U, 900U, 950U, 990U, 999U, 1000U}) {
    const std::uint64_t exact = exact_percentile(values, thousandths);
    EXPECT_LE(distance(histogram.percentile_us(thousandths), exact) * 256, exact) << thousandths;
  }
}

TEST(LatencyHistogram, WeighsEveryValueWithItsCount) {
  LatencyHistogram histogram;
  histogram.record(10, 90);
  histogram.record(100, 10);
  EXPECT_EQ(histogram.percentile_us(900), 10U);
  EXPECT_EQ(histogram.percentile_us(901), 100U);
  EXPECT_EQ(histogram.mean_us(), 19U);
  EXPECT_EQ(histogram.sd_us(), 27U);
}

TEST(LatencyHistogram, MergesIntoWhatRecordingAllWouldGive) {
  Random random(3);
  LatencyHistogram all;
  std::vector<LatencyHistogram> parts(5);
  for (int i = 0; i < 5'000; ++i) {
    const std::uint64_t value = random.below(1U << 20U) * random.below(8000);  // some over an hour
    const std::uint64_t count = 1 + random.below(16);
    all.record(value, count);
    parts[random.below(parts.size())].record(value, count);
  }
  LatencyHistogram merged;
  for (const LatencyHistogram& part : parts) merged.merge(part);
  EXPECT_EQ(merged, all);
  EXPECT_GT(merged.clamped(), 0U);
  EXPECT_TRUE(merged.valid());
}

TEST(LatencyHistogram, CanBeMergedIntoItself) {
  LatencyHistogram histogram;
  histogram.record(5, 2);
  histogram.record(5000, 1);
  LatencyHistogram twice = histogram;
  twice.merge(histogram);
  histogram.merge(histogram);
  EXPECT_EQ(histogram, twice);
  EXPECT_EQ(histogram.count(), 6U);
}

TEST(LatencyHistogram, StaysBoundedWhateverIsRecorded) {
  Random random(5);
  LatencyHistogram histogram;
  for (int i = 0; i < 300'000; ++i) histogram.record(random.next() >> random.below(64));
  EXPECT_EQ(histogram.count(), 300'000U);
  EXPECT_LE(encode(histogram).size(), kLatencyBuckets * 13U + 64);
  EXPECT_TRUE(histogram.valid());
}

TEST(LatencyHistogram, StopsAtTheLargestSumInsteadOfWrapping) {
  LatencyHistogram histogram;
  const std::uint64_t many = std::numeric_limits<std::uint64_t>::max() / kLatencyMaxUs + 1000;
  histogram.record(kLatencyMaxUs, many);
  const std::uint64_t mean = histogram.mean_us();
  EXPECT_GT(mean, kLatencyMaxUs / 2);
  histogram.record(kLatencyMaxUs, 1);
  EXPECT_LE(histogram.mean_us(), mean);
  EXPECT_GE(histogram.mean_us() + 10, mean);
}

TEST(LatencyHistogram, SurvivesTheCodec) {
  Random random(11);
  LatencyHistogram histogram;
  for (int i = 0; i < 1'000; ++i) histogram.record(random.below(10'000'000), 1 + random.below(64));
  const Result<LatencyHistogram> back = decode<LatencyHistogram>(encode(histogram));
  ASSERT_TRUE(back.ok()) << back.error().detail;
  EXPECT_EQ(*back, histogram);
  EXPECT_EQ(back->summary(), histogram.summary());
  EXPECT_EQ(encode(*back), encode(histogram));
}

/// The same members as a histogram, to forge one.
struct Forged {
  std::vector<LatencyHistogram::Bucket> buckets;
  std::uint64_t count = 0;
  std::uint64_t clamped = 0;
  std::uint64_t sum_us = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.buckets, s.count, s.clamped, s.sum_us);
  }
};

bool is_valid(const Forged& forged) {
  const Result<LatencyHistogram> histogram = decode<LatencyHistogram>(encode(forged));
  return histogram.ok() && histogram->valid();
}

TEST(LatencyHistogram, KnowsBrokenBytesOfItself) {
  EXPECT_TRUE(is_valid({{{3, 1}, {5, 2}}, 3, 0, 13}));
  EXPECT_FALSE(is_valid({{{5, 1}, {3, 2}}, 3, 0, 13}));                // out of order
  EXPECT_FALSE(is_valid({{{3, 1}, {3, 2}}, 3, 0, 13}));                // twice
  EXPECT_FALSE(is_valid({{{3, 1}, {5, 0}}, 1, 0, 13}));                // empty bucket
  EXPECT_FALSE(is_valid({{{3, 1}, {kLatencyBuckets, 2}}, 3, 0, 13}));  // out of range
  EXPECT_FALSE(is_valid({{{3, 1}, {5, 2}}, 4, 0, 13}));                // wrong sum
  EXPECT_FALSE(is_valid({{{3, 1}, {5, 2}}, 3, 4, 13}));                // more clamped than there are
}

}  // namespace
}  // namespace idunno

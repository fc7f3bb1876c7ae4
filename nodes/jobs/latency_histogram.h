#pragma once
/// A bounded log-linear histogram of durations, after HdrHistogram (Gil Tene, http://hdrhistogram.org): every power of two is cut
/// into 128 equal buckets, values below 128 have a bucket each. Integers only, so that it may be part of the replicated state. At
/// most kLatencyBuckets buckets exist, kept sparsely and in order, whatever is recorded. Two histograms merge exactly, so those
/// of nodes and of time windows add up.
///
/// Error: a bucket is at most 1/128 of its values wide and a percentile is the middle of its bucket, so percentiles are at most
/// 1/256 (0.4 %) off. The mean is exact; the standard deviation is taken from the middles.

#include <cstdint>
#include <tuple>
#include <vector>

#include "bus/types.h"

namespace idunno {

inline constexpr std::uint64_t kLatencyMaxUs = 3'600'000'000;  ///< one hour; longer ones count as this (see clamped())
inline constexpr std::uint32_t kLatencyBuckets = 3328;         ///< 26 x 128: values up to 2^32 - 1

class LatencyHistogram {
 public:
  struct Bucket {
    std::uint16_t index = 0;
    std::uint64_t count = 0;
    template <class Self>
    static auto tie(Self& s) {
      return std::tie(s.index, s.count);
    }
    bool operator==(const Bucket&) const = default;
  };

  /// `count` values of `value_us` each. 0 us counts as 1 us.
  void record(std::uint64_t value_us, std::uint64_t count = 1);
  void merge(const LatencyHistogram& other);

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t clamped() const { return clamped_; }  ///< of those, longer than kLatencyMaxUs
  [[nodiscard]] std::uint64_t mean_us() const;                      ///< rounded; 0 when empty, as all below
  [[nodiscard]] std::uint64_t sd_us() const;
  /// The smallest recorded value (but for the error) that at least `thousandths` of 1000 of all values do not exceed; 500 =
  /// median.
  [[nodiscard]] std::uint64_t percentile_us(std::uint32_t thousandths) const;
  [[nodiscard]] LatencySummary summary() const;

  /// Of a decoded histogram: buckets in order, in range and not empty, counts that add up.
  [[nodiscard]] bool valid() const;

  /// The buckets of values, for tests and plots: index of a value, lowest value and middle of a bucket.
  [[nodiscard]] static std::uint16_t bucket_of(std::uint64_t value_us);
  [[nodiscard]] static std::uint64_t bucket_low_us(std::uint16_t index);
  [[nodiscard]] static std::uint64_t bucket_middle_us(std::uint16_t index);

  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.buckets_, s.count_, s.clamped_, s.sum_us_);
  }
  bool operator==(const LatencyHistogram&) const = default;

 private:
  std::vector<Bucket> buckets_;  ///< by index, none empty
  std::uint64_t count_ = 0;
  std::uint64_t clamped_ = 0;
  std::uint64_t sum_us_ = 0;  ///< stops at its maximum (585,000 years) instead of wrapping round
};

}  // namespace idunno

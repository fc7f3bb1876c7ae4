#include "nodes/jobs/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "bus/base/assert.h"

namespace idunno {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr unsigned kSubBits = 7;  // 128 buckets to a power of two
constexpr std::uint64_t kSubBuckets = 1U << kSubBits;
constexpr std::uint64_t kMax64 = std::numeric_limits<std::uint64_t>::max();

std::uint64_t saturate(Wide value) { return value > kMax64 ? kMax64 : static_cast<std::uint64_t>(value); }

/// How many values share the bucket.
std::uint64_t width_of(std::uint16_t index) { return index < kSubBuckets ? 1U : 1ULL << (index / kSubBuckets - 1); }

/// Largest root with root * root <= value, bit by bit.
std::uint64_t integer_root(std::uint64_t value) {
  std::uint64_t root = 0;
  for (std::uint64_t bit = 1ULL << 31U; bit != 0; bit >>= 1U) {
    const std::uint64_t trial = root | bit;
    if (trial * trial <= value) root = trial;
  }
  return root;
}

}  // namespace

std::uint16_t LatencyHistogram::bucket_of(std::uint64_t value_us) {
  const std::uint64_t value = std::clamp<std::uint64_t>(value_us, 1, kLatencyMaxUs);
  if (value < kSubBuckets) return static_cast<std::uint16_t>(value);
  const auto power = static_cast<unsigned>(std::bit_width(value)) - 1;  // 7 to 31
  const std::uint64_t sub = (value >> (power - kSubBits)) - kSubBuckets;
  return static_cast<std::uint16_t>((power - kSubBits + 1) * kSubBuckets + sub);
}

std::uint64_t LatencyHistogram::bucket_low_us(std::uint16_t index) {
  ASSERT(index < kLatencyBuckets);
  if (index < kSubBuckets) return index;
  return (kSubBuckets + index % kSubBuckets) * width_of(index);
}

std::uint64_t LatencyHistogram::bucket_middle_us(std::uint16_t index) { return bucket_low_us(index) + (width_of(index) - 1) / 2; }

void LatencyHistogram::record(std::uint64_t value_us, std::uint64_t count) {
  if (count == 0) return;
  if (value_us > kLatencyMaxUs) clamped_ += count;
  const std::uint64_t value = std::clamp<std::uint64_t>(value_us, 1, kLatencyMaxUs);
  const std::uint16_t index = bucket_of(value);
  auto at =
      std::lower_bound(buckets_.begin(), buckets_.end(), index, [](const Bucket& b, std::uint16_t i) { return b.index < i; });
  if (at == buckets_.end() || at->index != index) at = buckets_.insert(at, Bucket{index, 0});
  at->count += count;
  count_ += count;
  sum_us_ = saturate(Wide{sum_us_} + Wide{value} * count);
}

void LatencyHistogram::merge(const LatencyHistogram& other) {
  std::vector<Bucket> merged;
  merged.reserve(buckets_.size() + other.buckets_.size());
  auto mine = buckets_.begin();
  auto theirs = other.buckets_.begin();
  while (mine != buckets_.end() || theirs != other.buckets_.end()) {
    if (theirs == other.buckets_.end() || (mine != buckets_.end() && mine->index < theirs->index)) {
      merged.push_back(*mine++);
    } else if (mine == buckets_.end() || theirs->index < mine->index) {
      merged.push_back(*theirs++);
    } else {
      merged.push_back(Bucket{mine->index, mine->count + theirs->count});
      ++mine;
      ++theirs;
    }
  }
  // All sums are taken before anything is stored, so that a histogram can be merged into itself.
  const std::uint64_t sum = saturate(Wide{sum_us_} + other.sum_us_);
  const std::uint64_t total = count_ + other.count_;
  const std::uint64_t over = clamped_ + other.clamped_;
  buckets_ = std::move(merged);
  sum_us_ = sum;
  count_ = total;
  clamped_ = over;
}

std::uint64_t LatencyHistogram::mean_us() const {
  if (count_ == 0) return 0;
  return static_cast<std::uint64_t>((Wide{sum_us_} + count_ / 2) / count_);
}

std::uint64_t LatencyHistogram::sd_us() const {
  if (count_ == 0) return 0;
  const std::uint64_t mean = mean_us();
  Wide squares = 0;
  for (const Bucket& bucket : buckets_) {
    const std::uint64_t middle = bucket_middle_us(bucket.index);
    const std::uint64_t distance = middle > mean ? middle - mean : mean - middle;
    squares += Wide{distance} * distance * bucket.count;
  }
  return integer_root(saturate(squares / count_));
}

std::uint64_t LatencyHistogram::percentile_us(std::uint32_t thousandths) const {
  if (count_ == 0) return 0;
  const Wide wanted = (Wide{count_} * std::min<std::uint32_t>(thousandths, 1000) + 999) / 1000;
  Wide seen = 0;
  for (const Bucket& bucket : buckets_) {
    seen += bucket.count;
    if (seen >= wanted) return bucket_middle_us(bucket.index);
  }
  return bucket_middle_us(buckets_.back().index);
}

LatencySummary LatencyHistogram::summary() const {
  return LatencySummary{
      count_, mean_us(), sd_us(), percentile_us(500), percentile_us(900), percentile_us(950), percentile_us(990)};
}

bool LatencyHistogram::valid() const {
  Wide total = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i].index >= kLatencyBuckets || buckets_[i].count == 0) return false;
    if (i > 0 && buckets_[i].index <= buckets_[i - 1].index) return false;
    total += buckets_[i].count;
  }
  return total == count_ && clamped_ <= count_;
}

}  // namespace idunno

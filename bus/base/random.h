#pragma once
/// Randomness is an argument: a seeded 64-bit generator (splitmix64; Steele, Lea, Flood, OOPSLA 2014) with our own
/// distributions, because those of the standard library differ between implementations and would break replay by seed.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "bus/base/assert.h"

namespace idunno {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
  }
  /// Uniform in [0, n); n > 0. Multiply-shift (Lemire 2019); the bias, below n / 2^64, is of no consequence here.
  std::uint64_t below(std::uint64_t n) {
    ASSERT(n > 0);
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * n) >> 64U);
  }
  /// Uniform in [0, 1), 53 bits.
  double unit() { return static_cast<double>(next() >> 11U) * 0x1.0p-53; }
  bool chance(double probability) { return unit() < probability; }
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[below(i)]);
  }

 private:
  std::uint64_t state_;
};

}  // namespace idunno

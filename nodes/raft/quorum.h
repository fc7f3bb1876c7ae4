#pragma once
/// Majorities. Pure arithmetic over what each voter has.

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

#include "bus/base/assert.h"

namespace idunno {

[[nodiscard]] constexpr std::size_t majority_of(std::size_t voters) { return voters / 2 + 1; }

/// The highest value that a majority has reached, given what each voter has reached. `reached` is not empty.
template <class T>
[[nodiscard]] T majority_value(std::vector<T> reached) {
  ASSERT(!reached.empty());
  std::sort(reached.begin(), reached.end(), std::greater<T>());
  return reached[majority_of(reached.size()) - 1];
}

}  // namespace idunno

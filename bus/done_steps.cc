#include "bus/done_steps.h"

#include <algorithm>

#include "bus/types.h"

namespace idunno {

std::int64_t done_millionths(const std::vector<std::uint16_t>& steps, std::int64_t after, std::int64_t length) {
  const auto count = static_cast<std::int64_t>(std::min(steps.size(), kDoneStepsMax));
  const std::int64_t place = after * (count + 1);
  const std::int64_t step = std::clamp<std::int64_t>(place / length, 0, count);
  const auto at = [&](std::int64_t k) -> std::int64_t {
    if (k == 0) return 0;
    return k > count ? 1000 : std::min<std::int64_t>(steps[static_cast<std::size_t>(k - 1)], 1000);
  };
  return at(step) * 1000 + (at(step + 1) - at(step)) * 1000 * (place - step * length) / length;
}

double done_part(const std::vector<std::uint16_t>& steps, std::int64_t after, std::int64_t length) {
  const std::int64_t whole = std::max<std::int64_t>(length, 1);
  return static_cast<double>(done_millionths(steps, std::clamp<std::int64_t>(after, 0, whole), whole)) / 1e6;
}

}  // namespace idunno

#include "nodes/swim/suspicion.h"

#include <algorithm>
#include <cmath>

namespace idunno {
namespace {

constexpr double kRetransmitMultiplier = 4;

Duration scaled(Duration duration, double factor) {
  return Duration(std::llround(static_cast<double>(duration.count()) * factor));
}

}  // namespace

Duration suspicion_min(const SwimConfig& config, std::size_t members) {
  const double scale = std::log10(static_cast<double>(std::max<std::size_t>(10, members)));
  return scaled(config.probe_interval, scale * config.suspicion_multiplier);
}

Duration suspicion_max(const SwimConfig& config, std::size_t members) {
  return suspicion_min(config, members) * config.suspicion_max_factor;
}

Duration remaining_suspicion(std::uint32_t confirmations, std::uint32_t k, Duration elapsed, Duration min, Duration max) {
  if (k == 0) return min - elapsed;
  const double share = std::log(confirmations + 1.0) / std::log(k + 1.0);
  return std::max(min, max - scaled(max - min, share)) - elapsed;
}

std::uint32_t retransmissions(std::size_t members) {
  return static_cast<std::uint32_t>(std::ceil(kRetransmitMultiplier * std::log10(static_cast<double>(members) + 1)));
}

}  // namespace idunno

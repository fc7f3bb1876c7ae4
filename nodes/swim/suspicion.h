#pragma once
/// The settings of the membership and the two formulas that follow from them. Pure functions, table-tested.

#include <cstddef>
#include <cstdint>

#include "bus/base/time.h"

namespace idunno {

/// The defaults suit a cluster of about 10 machines in one network: a silent machine is dead within 3 s, a load of 100 % kills
/// nobody.
struct SwimConfig {
  Duration probe_interval = std::chrono::milliseconds(250);      ///< one member is probed each time
  Duration probe_timeout = std::chrono::milliseconds(250);       ///< for the direct answer; then others are asked
  Duration indirect_timeout = std::chrono::milliseconds(250);    ///< more, for their answers; then it is suspected
  Duration hint_probe_timeout = std::chrono::milliseconds(120);  ///< of a member whose connection was closed
  std::uint32_t indirect_probes = 3;
  std::uint32_t confirmations = 3;         ///< of others that bring a suspicion's timeout down to its minimum (Lifeguard's K)
  std::uint32_t suspicion_multiplier = 4;  ///< minimum = so many probe intervals x log10(members)
  std::uint32_t suspicion_max_factor = 4;  ///< maximum = so many minimums
  std::uint32_t awareness_max = 8;
  Duration gossip_interval = std::chrono::milliseconds(100);  ///< while there is news
  std::uint32_t gossip_fanout = 3;
  std::uint32_t checks_of_suspicion = 8;             ///< so many nodes (expected) probe a suspect at once when they hear of it
  Duration contact_fresh = std::chrono::seconds(5);  ///< a claimed death of a member heard from in this time is checked first
  Duration greet_interval = std::chrono::milliseconds(500);  ///< some of the dead and unknown are pinged each time
  Duration sync_interval = std::chrono::seconds(30);
};

/// min = multiplier x log10(max(10, members)) x probe_interval.
[[nodiscard]] Duration suspicion_min(const SwimConfig& config, std::size_t members);
[[nodiscard]] Duration suspicion_max(const SwimConfig& config, std::size_t members);

/// What is left of a suspicion's timeout, <= 0 when it is over: max(min, max - (max - min) log(c + 1) / log(k + 1)) - elapsed
/// (Lifeguard, section IV.B). `confirmations`: accusers beyond the first. With k = 0 the timeout is min.
[[nodiscard]] Duration remaining_suspicion(std::uint32_t confirmations, std::uint32_t k, Duration elapsed, Duration min,
                                           Duration max);

/// How often one piece of news is told: 4 log10(n + 1), rounded up (SWIM, section 4.1, needs a multiple of log n).
[[nodiscard]] std::uint32_t retransmissions(std::size_t members);

}  // namespace idunno

#pragma once
/// Time is an argument. `Time` is a point on a clock that has no `now()`, so pure code that tries to read a clock does not
/// compile; the shells read `monotonic_now()` (bus/clock.h) and pass it in. Wall time (`WallMs`) is for people only: it is
/// stamped by the coordinator into log entries and shown, never compared to decide anything.

#include <chrono>
#include <cstdint>

namespace idunno {

using Duration = std::chrono::microseconds;

struct NodeClock {
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<NodeClock, Duration>;
  static constexpr bool is_steady = true;
};

using Time = NodeClock::time_point;
inline constexpr Time kNever = Time::max();

/// Milliseconds since 1970 UTC.
using WallMs = std::uint64_t;

}  // namespace idunno

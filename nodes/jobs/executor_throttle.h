#pragma once
/// Keeps an executor from running away with a processor while its job is ahead. Nice values settle who gets a processor that
/// several want, but the kernel evens out the queues of its processors slowly when what runs there weighs little: an executor of
/// nice 19 that finds itself alone on a processor keeps it for 100 ms and more, and that is a twentieth of what one job of ten
/// gets in 10 s on two processors. Such an executor is stopped until it is back at the common pace; the processor then takes
/// somebody from the other's queue at once. A leaky bucket that stops nothing unless others wait for a processor, so none idles
/// for it. Pure.

#include <cstdint>
#include <optional>

#include "bus/base/time.h"

namespace idunno {

/// Of the machine, when the executors were looked at.
struct ProcessorLoad {
  std::uint32_t runnable = 0;  ///< threads that run or wait for a processor, the one that looks among them; 0 = not known
  std::uint32_t processors = 0;
};

/// What an executor is to have of its processor.
struct ExecutorShare {
  int nice = 0;
  bool stopped = false;
  friend bool operator==(const ExecutorShare&, const ExecutorShare&) = default;
};

inline constexpr Duration kThrottleLead = std::chrono::milliseconds(50);      ///< jobs that are less ahead are left alone
inline constexpr Duration kThrottleBurst = std::chrono::milliseconds(50);     ///< what an executor may gain on the common pace
inline constexpr Duration kThrottleCredit = std::chrono::milliseconds(20);    ///< from when it was slower, at most
inline constexpr Duration kThrottleTimeMax = std::chrono::milliseconds(200);  ///< no stop is longer

class ExecutorThrottle {
 public:
  /// The executor has been looked at: since the look before, its job's lead, now `lead`, has grown by `gained` (< 0: shrunk)
  /// through this executor.
  void look(Duration lead, Duration gained, ProcessorLoad load, Time now);
  /// Nothing is known of its pace: it goes on.
  void reset() { *this = ExecutorThrottle{}; }
  [[nodiscard]] bool stopped() const { return stopped_at_.has_value(); }

 private:
  Duration burst_{};
  std::optional<Time> stopped_at_;
};

}  // namespace idunno

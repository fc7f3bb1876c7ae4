#include "nodes/jobs/executor_throttle.h"

#include <algorithm>

namespace idunno {
namespace {

/// Without this executor there is a thread for each processor, beside the one that counts them.
bool others_fill(ProcessorLoad load, bool stopped) {
  const std::uint32_t self = stopped ? 0 : 1;
  return load.processors > 0 && load.runnable >= load.processors + 1 + self;
}

}  // namespace

void ExecutorThrottle::look(Duration lead, Duration gained, ProcessorLoad load, Time now) {
  burst_ = std::clamp(burst_ + gained, -kThrottleCredit, 2 * kThrottleBurst);
  if (lead <= kThrottleLead || !others_fill(load, stopped())) return stopped_at_.reset();
  if (!stopped_at_) {
    if (burst_ > kThrottleBurst) stopped_at_ = now;
    return;
  }
  if (burst_ > Duration::zero() && now - *stopped_at_ < kThrottleTimeMax) return;
  burst_ = std::min(burst_, Duration::zero());
  stopped_at_.reset();
}

}  // namespace idunno

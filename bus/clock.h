#pragma once
/// The only place where shells read clocks. Pure code takes `Time` as an argument instead (bus/base/time.h).

#include <string>

#include "bus/base/time.h"

namespace idunno {

/// CLOCK_MONOTONIC: for every time-out and every measured duration.
[[nodiscard]] Time monotonic_now();
/// CLOCK_REALTIME in milliseconds: only for stamps that people read.
[[nodiscard]] WallMs wall_now_ms();
/// "2026-01-02T03:04:05.678Z"; "" for 0.
[[nodiscard]] std::string rfc3339(WallMs at);

}  // namespace idunno

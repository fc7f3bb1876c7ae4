#include "bus/clock.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>

namespace idunno {

Time monotonic_now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return Time(std::chrono::seconds(now.tv_sec) + Duration(now.tv_nsec / 1000));
}

WallMs wall_now_ms() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<WallMs>(now.tv_sec) * 1000 + static_cast<WallMs>(now.tv_nsec / 1'000'000);
}

std::string rfc3339(WallMs at) {
  if (at == 0) return "";
  const auto seconds = static_cast<std::time_t>(at / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", parts, at % 1000);
}

}  // namespace idunno

#pragma once
/// Which job gets the next lease, and which worker gets it: the choice of a cluster (`[scheduler] policy`). All but fair_rate are
/// there for comparison.

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

namespace idunno {

enum class SchedulePolicy : std::uint8_t {
  fair_rate = 0,             ///< rates in the ratio of the weights, whatever a batch costs
  round_robin = 1,           ///< one batch of each job in turn
  weighted_round_robin = 2,  ///< as many batches of each job in turn as its weight says
  random = 3,                ///< a job by lot, to any worker with room
  least_load = 4,            ///< the job that waits longest, to the worker that holds the least
  static_split = 5,          ///< each worker belongs to one job; once a period one moves from the fastest job to the slowest
};

inline constexpr std::array<std::pair<SchedulePolicy, std::string_view>, 6> kSchedulePolicies{{
    {SchedulePolicy::fair_rate, "fair-rate"},
    {SchedulePolicy::round_robin, "round-robin"},
    {SchedulePolicy::weighted_round_robin, "weighted-round-robin"},
    {SchedulePolicy::random, "random"},
    {SchedulePolicy::least_load, "least-load"},
    {SchedulePolicy::static_split, "static-split"},
}};

[[nodiscard]] constexpr std::string_view to_string(SchedulePolicy policy) {
  for (const auto& [known, name] : kSchedulePolicies) {
    if (known == policy) return name;
  }
  return "unknown";
}

[[nodiscard]] constexpr std::optional<SchedulePolicy> parse_schedule_policy(std::string_view text) {
  for (const auto& [policy, name] : kSchedulePolicies) {
    if (name == text) return policy;
  }
  return std::nullopt;
}

}  // namespace idunno

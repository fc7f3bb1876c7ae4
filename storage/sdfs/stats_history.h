#pragma once
/// The history of statistics that the coordinator keeps in SDFS (nodes/runtime/history_shell.h) and `idunno stats --history`
/// reads: one file for about an hour in which something ran, one JSON object a line, a sample each. The names of the files say
/// when they begin. Pure.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/result.h"
#include "bus/types.h"

namespace idunno {

inline constexpr char kHistoryFolder[] = "/system/history";  ///< reserved: nothing else is to be put there
inline constexpr std::size_t kHistoryJobsMax = 64;           ///< in one sample, the newest
inline constexpr std::size_t kHistoryNodesMax = 1024;
inline constexpr std::size_t kHistoryLineBytesMax = 512U << 10U;

/// One job, at the time of the sample; rate and latency over the 10 s before.
struct HistoryJob {
  std::string id;  ///< "j12"
  std::string name;
  std::string model;
  std::string state;
  std::uint64_t done = 0;
  std::uint64_t errors = 0;
  std::uint64_t rate_milli_qps = 0;
  std::uint32_t weight_milli = 1000;
  std::uint32_t nodes = 0;
  LatencySummary latency;
  bool operator==(const HistoryJob&) const = default;
};
struct HistoryNode {
  std::string id;
  std::string state;
  std::uint32_t cpu_milli = 0;
  std::uint32_t running = 0;
  std::uint64_t rss_bytes = 0;  ///< executors included
  std::uint64_t block_bytes = 0;
  std::uint64_t free_bytes = 0;
  bool operator==(const HistoryNode&) const = default;
};
struct HistorySample {
  WallMs at_ms = 0;
  std::string coordinator;
  std::uint64_t max_min_milli = 0;  ///< of rate/weight; 0 = fewer than two jobs ran
  std::vector<HistoryJob> jobs;
  std::vector<HistoryNode> nodes;
  bool operator==(const HistorySample&) const = default;
};

[[nodiscard]] std::string history_line(const HistorySample& sample);  ///< ends in a line break
/// damaged: not a line of this form. Unknown fields are left aside: a later version may write more.
[[nodiscard]] Result<HistorySample> parse_history_line(std::string_view line);

/// "/system/history/00001764000000000-e7.jsonl": sorts by the time at which it begins.
[[nodiscard]] std::string history_path(WallMs begins, Epoch epoch);
/// When it begins; none for another file.
[[nodiscard]] std::optional<WallMs> history_begin(std::string_view path);

}  // namespace idunno

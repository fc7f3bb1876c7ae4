#pragma once
/// `stats --history`: the samples that coordinators have left in SDFS (storage/sdfs/stats_history.h), as rows for scripts and as
/// a summary with small curves for people. Pure but for read_history.

#include <string>
#include <vector>

#include "bus/messages.h"
#include "cli/app.h"
#include "storage/sdfs/stats_history.h"

namespace idunno::cli {

inline constexpr std::size_t kSparklineWidth = 40;

/// The samples taken since then, oldest first. Lines that cannot be read are counted in `damaged`.
struct History {
  std::vector<HistorySample> samples;
  std::uint64_t files = 0;
  std::uint64_t damaged = 0;
};
[[nodiscard]] Result<History> read_history(SdfsClient& sdfs, WallMs since);
/// Adds the lines of one file; those before `since` are left out.
void add_lines(std::string_view text, WallMs since, History& history);

/// Values from 0 to their maximum as a row of blocks of eight heights, `width` characters at most (neighbours are averaged).
/// Without `unicode`: " .:-=+*#".
[[nodiscard]] std::string sparkline(const std::vector<double>& values, std::size_t width, bool unicode);

/// One row a job and sample, or (`nodes`) a node and sample. `jobs`: only these ids; empty = all.
[[nodiscard]] Listing history_rows(const History& history, const std::vector<std::string>& jobs, bool nodes);
/// One row a job, or a node, with its curve.
[[nodiscard]] Listing history_summary(const History& history, const std::vector<std::string>& jobs, bool nodes, bool unicode);

}  // namespace idunno::cli

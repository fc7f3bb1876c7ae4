#pragma once
/// The life of one batch, put together from what the nodes remember and from their logs, and drawn as a small timeline. Pure.

#include <optional>
#include <string>
#include <vector>

#include "bus/log_messages.h"
#include "cli/app.h"
#include "cli/log_merge.h"

namespace idunno::cli {

/// What a line of a log says of a batch ("[j3/b17] event=batch_leased j3/b17 to n2"); nothing when it says none of what belongs
/// to its life.
[[nodiscard]] std::optional<BatchStep> step_of(const MergedLine& line);

/// Steps of all nodes by time. Those of logs are added where no node remembers the same: after a failover the new coordinator
/// does not know what the last one decided, but its log, or the end of it that others keep, does.
[[nodiscard]] std::vector<BatchStep> whole_life(std::vector<BatchStep> remembered, const std::vector<BatchStep>& logged);

/// "committed by n2; 231 ms after it was leased, at the second attempt"
[[nodiscard]] std::string life_text(const std::vector<BatchStep>& steps);
/// Begin and end of each step on a line of `width` columns: "   ====     ".
[[nodiscard]] std::vector<std::string> life_bars(const std::vector<BatchStep>& steps, std::size_t width);

[[nodiscard]] Json step_json(const BatchStep& step);

}  // namespace idunno::cli

#pragma once
/// Names that people type, turned into ids, and text made safe to print. Pure but for resolve_job (cli/app.h).

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/cluster_config.h"

namespace idunno::cli {

/// "j12" and "12" are that job, there or not; otherwise the one job with that name, or whose name begins so. not_found names what
/// is there; invalid when several match.
[[nodiscard]] Result<JobId> match_job(const std::string& text, const std::vector<std::pair<JobId, std::string>>& jobs);

/// The number of "j12", "12" (prefix 'j'); 0 when `text` has another form or does not fit.
[[nodiscard]] std::uint64_t numbered(std::string_view text, char prefix);

/// Control characters (terminal commands, line breaks) replaced by '?'.
[[nodiscard]] std::string printable(std::string_view text);

/// "n1 127.0.0.1:7400, n2 127.0.0.1:7405"; at most eight, then "and 3 more".
[[nodiscard]] std::string addresses_of(const ClusterConfig& config);

}  // namespace idunno::cli

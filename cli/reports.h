#pragma once
/// What the cluster reports, as the JSON of cli.md and as text for tables. Pure.

#include <string>

#include "bus/messages.h"
#include "bus/names.h"
#include "cli/app.h"
#include "cli/fairness_report.h"

namespace idunno::cli {

/// Thousandths as a number: 1500 -> 1.5.
[[nodiscard]] double from_milli(std::uint64_t milli);
/// Queries of the whole job as far as they are known; 0 = it has no end.
[[nodiscard]] std::uint64_t total_of(const JobReport& job);
/// Seconds to the end of a job at its present rate; negative when it can not be told.
[[nodiscard]] double eta_seconds(const JobReport& job);
/// Of `--wait` and `job wait`: done 0 (8 with error rows), failed 6, stopped 7.
[[nodiscard]] ExitCode exit_code_of(const JobReport& job);

/// cli.md `stats`: one of `jobs[]`.
[[nodiscard]] Json job_json(const JobReport& job);
/// cli.md `job show`: the above and the rest.
[[nodiscard]] Json job_detail_json(const JobReport& job);
/// cli.md `status`: one of `nodes[]`.
[[nodiscard]] Json node_json(const NodeReport& node, const StatusReply& status);
[[nodiscard]] Json status_json(const StatusReply& status);
/// Coordinator there, no node dead or suspect, nothing under-replicated, no alarm.
[[nodiscard]] bool healthy(const StatusReply& status);
/// cli.md `events`.
[[nodiscard]] Json event_json(const Event& event);
/// A line of `watch` with the numbers of all jobs and nodes, once a second.
[[nodiscard]] Json stats_event_json(const StatsNotice& notice, NodeId from);

/// The table of `stats` (and of `submit --wait` at the end): everything of requirement R25 in one line a job.
[[nodiscard]] Listing stats_listing(const JobReportsReply& reports);
[[nodiscard]] Listing nodes_listing(const StatusReply& status, const std::string& schema);

}  // namespace idunno::cli

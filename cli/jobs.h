#pragma once
/// What submit, job, stats and the benchmarks do with jobs in common.

#include <functional>

#include "bus/messages.h"
#include "cli/app.h"

namespace idunno::cli {

/// One job; not_found when there is none.
[[nodiscard]] Result<JobReport> job_report(Session& session, JobId job, std::uint32_t window_s = 10);

/// What a user asks for; the text of the options is checked by `submit_job` before anything is changed.
struct SubmitOptions {
  std::string model;  ///< NAME or NAME:VERSION
  std::string data;
  std::string name;
  std::string batch = "1";
  std::string weight = "1";
  std::string rate;  ///< "" = no limit
  std::string id;    ///< "" = a new job each time
  std::int32_t priority = 0;
  std::uint32_t top = 0;
  std::uint32_t repeat = 1;  ///< times the whole data set; 0 = until it is stopped
  bool follow = false;       ///< files that come to the folder become queries, until it is stopped
  bool urgent = false;       ///< ahead of batch work
  std::string nodes;         ///< "2..4", "2..", "..4", "3"; "" = as the scheduler likes
};
struct NodeLimits {
  std::uint32_t least = 0;  ///< 0 = none of its own
  std::uint32_t most = 0;   ///< 0 = all
};
/// What --nodes takes; "any" is no limit.
[[nodiscard]] Result<NodeLimits> parse_node_limits(const std::string& text);
/// What --repeat takes: a number, or "forever" = 0.
[[nodiscard]] Result<std::uint32_t> parse_repeat(const std::string& text);
/// "any", "2..4", "2..", "..4"
[[nodiscard]] std::string node_limits_text(const NodeLimits& limits);
/// Thousandths of what --weight and --rate take; invalid says what would be right. "none" is no limit: 0.
[[nodiscard]] Result<std::uint32_t> parse_weight(const std::string& text);
[[nodiscard]] Result<std::uint32_t> parse_rate_limit(const std::string& text);
/// Indexes the data, writes the manifest, submits. A failed call leaves no manifest behind.
[[nodiscard]] Result<JobId> submit_job(Session& session, const SubmitOptions& options);

/// Waits until the job is over, with a progress bar. timeout when `limit` passes first (the job goes on).
[[nodiscard]] Result<JobReport> wait_for_job(const Globals& globals, Session& session, JobId job, std::optional<Duration> limit);

/// Waits, tells how it ended on stderr, sets the exit code. The report when it is over, whatever way.
std::optional<JobReport> wait_and_tell(App& app, Session& session, JobId job, const std::string& doing);

/// One block of a job's result: the rows of batch `batch`, as stored.
struct ResultBlock {
  std::uint64_t batch = 0;
  BlockRef ref;
  Payload rows;
};
struct ResultTotals {
  JobState state = JobState::queued;
  std::uint64_t batches = 0;  ///< of the whole job
  std::uint64_t delivered = 0;
};
/// Reads result blocks in batch order, several at once, and hands each to `sink`, which may end it with an error. `follow`: waits
/// for batches that are not there until the job is over; else skips them.
[[nodiscard]] Result<ResultTotals> read_results(Session& session, JobId job, bool follow,
                                                const std::function<Status(const ResultBlock&)>& sink);

}  // namespace idunno::cli

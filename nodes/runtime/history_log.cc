#include "nodes/runtime/history_log.h"

#include <algorithm>
#include <utility>

#include "bus/names.h"

namespace idunno {
namespace {

/// A job with a rate limit has no lease out between its batches, and runs all the same.
bool runs(const JobReport& job) { return job.state == JobState::running && (job.leased > 0 || job.window_done > 0); }

HistoryJob job_of(const JobReport& report) {
  HistoryJob job;
  job.id = to_string(report.id);
  job.name = report.spec.name;
  job.model = report.spec.model;
  job.state = to_string(report.state);
  job.done = report.done;
  job.errors = report.errors;
  job.rate_milli_qps = report.rate_milli_qps;
  job.weight_milli = report.spec.weight_milli;
  job.nodes = static_cast<std::uint32_t>(report.nodes.size());
  job.latency = report.window_latency;
  return job;
}

HistoryNode node_of(const NodeReport& report) {
  HistoryNode node;
  node.id = to_string(report.id);
  node.state = to_string(report.state);
  node.cpu_milli = report.cpu_milli;
  node.running = report.running;
  node.rss_bytes = report.rss_bytes + report.executor_rss_bytes;
  node.block_bytes = report.block_bytes;
  node.free_bytes = report.free_bytes;
  return node;
}

}  // namespace

void HistoryLog::stats(const StatsNotice& notice, NodeId coordinator, Time now) {
  const bool active = std::ranges::any_of(notice.stats.jobs, runs);
  const bool ended = was_active_ && !active;
  was_active_ = active;
  if (active && !sampled_at_) sampled_at_ = now;  // the first sample is due when there is something to tell
  if (!ended && (!active || now < *sampled_at_ + kHistorySampleEvery)) return;
  add(notice, coordinator, now);
  sampled_at_ = active ? std::optional<Time>(now) : std::nullopt;
  if (ended) write_at_ = std::min(write_at_, now);
}

void HistoryLog::add(const StatsNotice& notice, NodeId coordinator, Time now) {
  HistorySample sample;
  sample.at_ms = notice.at_ms;
  sample.coordinator = to_string(coordinator);
  sample.max_min_milli = notice.stats.fairness.max_min_milli;
  for (auto job = notice.stats.jobs.rbegin(); job != notice.stats.jobs.rend(); ++job) {
    // One that has ended is told once more: its last batches fall into these ten seconds.
    const bool recent =
        job->finished_ms != 0 && job->finished_ms + 2 * kHistorySampleEvery / std::chrono::milliseconds(1) > notice.at_ms;
    if (is_over(job->state) && !recent) continue;
    if (sample.jobs.size() == kHistoryJobsMax) break;
    sample.jobs.push_back(job_of(*job));
  }
  std::ranges::reverse(sample.jobs);
  for (const NodeReport& node : notice.nodes) {
    if (sample.nodes.size() < kHistoryNodesMax) sample.nodes.push_back(node_of(node));
  }
  const std::string line = history_line(sample);
  if (line.size() > kHistoryLineBytesMax) return;
  if (full_ && written_bytes_ < bytes_.size()) return;  // left out while the end of a file cannot be written
  if (full_ || path_.empty()) {
    path_ = history_path(notice.at_ms, epoch_);
    bytes_.clear();
    written_bytes_ = 0;
    begins_ = now;
    write_at_ = now + kHistoryWriteEvery;
  }
  bytes_ += line;
  full_ = now >= begins_ + kHistoryFileSpan || bytes_.size() + kHistoryLineBytesMax > kHistoryFileBytesMax;
}

std::optional<HistoryLog::Write> HistoryLog::take_write(Time now) {
  if (writing_ || written_bytes_ == bytes_.size()) return std::nullopt;
  if (now < write_at_ && (!full_ || failures_ > 0)) return std::nullopt;
  writing_ = true;
  writing_bytes_ = bytes_.size();
  return Write{path_, bytes_, written_bytes_ == 0};
}

void HistoryLog::written(bool ok, Time now) {
  writing_ = false;
  write_at_ = now + kHistoryWriteEvery;
  failures_ = ok ? 0 : failures_ + 1;
  if (ok) written_bytes_ = writing_bytes_;
  if (failures_ <= kHistoryRetriesMax) return;
  failures_ = 0;
  full_ = false;
  path_.clear();
  bytes_.clear();
  written_bytes_ = 0;
}

}  // namespace idunno

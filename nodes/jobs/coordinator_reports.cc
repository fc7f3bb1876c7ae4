// What people see: jobs, nodes, the state of the cluster.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

namespace {

std::size_t size_of(const JobReport& report) {
  return 512 + report.spec.name.size() + report.spec.model.size() + report.spec.data_path.size() +
         report.spec.manifest_path.size() + report.reason.size() + report.result_path.size() + report.nodes.size() * 5;
}

}  // namespace

JobReport Coordinator::Impl::report(const Job& job, std::uint32_t window_s, Time now) const {
  JobReport report;
  report.id = job.id;
  report.spec = job.spec;
  report.state = job.state;
  report.reason = job.reason;
  report.done = job.queries_done;
  report.errors = job.errors;
  report.batches_done = job.batches_done;
  report.latency = job.latency.summary();
  report.submitted_ms = job.submitted_ms;
  report.first_batch_ms = job.first_batch_ms;
  report.finished_ms = job.finished_ms;
  report.result_path = job.result_path;
  report.digest = job.digest;
  report.duplicate_commits = job.duplicate_commits;
  report.conflicting_commits = job.conflicting_commits;
  if (job.first_batch_ms != 0) {
    const WallMs until = job.finished_ms != 0 ? job.finished_ms : wall_at(now);
    const WallMs age_ms = std::max<WallMs>(until > job.first_batch_ms ? until - job.first_batch_ms : 0, 1);
    report.rate_all_milli_qps = job.queries_done * 1'000'000U / age_ms;
    if (const auto entry = jobs_.find(job.id); entry != jobs_.end()) {
      const WallMs present = wall_at(now);
      const Duration age = std::chrono::milliseconds(present > job.first_batch_ms ? present - job.first_batch_ms : 0);
      report.rate_milli_qps = entry->second.rates.rate_milli(window_s, age, now);
      report.window_latency = entry->second.rates.latency(window_s, now).summary();
    }
  }
  if (job.active()) {
    report.leased = scheduler_.leased_of(job.id);
    report.nodes = scheduler_.nodes_of(job.id);
    report.retried = scheduler_.retried(job.id);
    const bool workers = std::any_of(nodes_.begin(), nodes_.end(), [](const auto& node) {
      return node.second.session && node.second.state == NodeState::alive && node.second.hello.slots > 0;
    });
    if (report.reason.empty() && !workers) report.reason = "waits: no node with compute slots is alive";
  } else if (const auto entry = jobs_.find(job.id); entry != jobs_.end()) {
    report.retried = entry->second.retried;
  }
  return report;
}

JobReportsReply Coordinator::Impl::reports(const std::vector<JobId>& ids, std::uint32_t window_s, Time now) const {
  JobReportsReply reply;
  reply.fairness = fairness_.report(window_s);
  std::size_t bytes = 0;
  // From the newest back, so that what does not fit is the oldest.
  std::vector<JobId> wanted = ids;
  if (wanted.empty()) {
    for (const auto& [id, job] : state_.jobs()) wanted.push_back(id);
  }
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  for (auto id = wanted.rbegin(); id != wanted.rend() && reply.jobs.size() < kListPageMax; ++id) {
    const Job* job = state_.job(*id);
    if (job == nullptr) continue;
    JobReport one = report(*job, window_s, now);
    bytes += size_of(one);
    if (bytes > kReportBytesMax) break;
    reply.jobs.push_back(std::move(one));
  }
  std::reverse(reply.jobs.begin(), reply.jobs.end());
  return reply;
}

std::vector<NodeReport> Coordinator::Impl::node_reports() const {
  std::vector<NodeReport> reports;
  for (const auto& [id, node] : nodes_) {
    NodeReport& report = reports.emplace_back();
    report.id = id;
    report.state = node.state;
    report.coordinator = id == config_.self;
    report.host = node.member.host;
    report.base_port = node.member.base_port;
    report.pid = node.hello.pid;
    report.data_dir = node.hello.data_dir;
    report.incarnation = node.incarnation;
    report.since_ms = node.since_ms;
    report.slots = node.hello.slots;
    report.leased = scheduler_.leased_at(id);
    report.running = node.heartbeat.running;
    report.capacity_bytes = node.heartbeat.capacity_bytes;
    report.free_bytes = node.heartbeat.free_bytes;
    report.blocks = node.heartbeat.blocks;
    report.block_bytes = node.heartbeat.block_bytes;
    report.rss_bytes = node.heartbeat.rss_bytes;
    report.read_only = node.heartbeat.read_only;
  }
  return reports;
}

StatusReply Coordinator::Impl::status() const {
  StatusReply reply;
  reply.answered_by = config_.self;
  reply.coordinator = config_.self;
  reply.epoch = epoch_;
  reply.voters = config_.voters;
  reply.phase = "inference";
  reply.nodes = node_reports();
  // Counted now, not at the last repair step: it is never hidden.
  (void)state_.files().misplaced(repair_view().live, replication_, 0, reply.under_replicated_blocks);
  reply.files = state_.files().files();
  reply.blocks = state_.files().blocks();
  reply.logical_bytes = state_.files().logical_bytes();
  reply.jobs_running = static_cast<std::uint32_t>(std::count_if(
      state_.jobs().begin(), state_.jobs().end(), [](const auto& job) { return job.second.state == JobState::running; }));
  reply.log_index = state_.applied_index().value;
  reply.alarms.assign(alarms_.begin(), alarms_.end());
  return reply;
}

}  // namespace idunno

// What people see: jobs, nodes, the state of the cluster.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

JobReport Coordinator::Impl::report(const Job& job, std::uint32_t window_s, Time now) const {
  JobReport report = report_of(state_, job);
  if (job.first_batch_ms != 0) {
    const WallMs until = job.finished_ms != 0 ? job.finished_ms : wall_at(now);
    const WallMs age_ms = std::max<WallMs>(until > job.first_batch_ms ? until - job.first_batch_ms : 0, 1);
    report.rate_all_milli_qps = job.queries_done * 1'000'000U / age_ms;
    if (const auto entry = jobs_.find(job.id); entry != jobs_.end()) {
      const WallMs present = wall_at(now);
      const Duration age = std::chrono::milliseconds(present > job.first_batch_ms ? present - job.first_batch_ms : 0);
      report.rate_milli_qps = entry->second.rates.rate_milli(window_s, age, now);
      const auto window = static_cast<std::int64_t>(std::clamp(window_s, 1U, kRateWindowMaxS));
      report.window_done = entry->second.rates.count(second_of(now) - window, second_of(now));
      report.window_latency = entry->second.rates.latency(window_s, now).summary();
    }
  }
  if (job.active()) {
    report.leased = scheduler_.leased_of(job.id);
    report.nodes = scheduler_.nodes_of(job.id);
    report.retried = scheduler_.retried(job.id);
    report.hedged = scheduler_.hedged(job.id);
    const bool workers = std::any_of(nodes_.begin(), nodes_.end(), [](const auto& node) {
      return node.second.session && node.second.state == NodeState::alive && node.second.hello.slots > 0;
    });
    if (report.reason.empty() && !workers) report.reason = "waits: no node with compute slots is alive";
  } else if (const auto entry = jobs_.find(job.id); entry != jobs_.end()) {
    report.retried = entry->second.retried;
    report.hedged = entry->second.hedged;
  }
  return report;
}

JobReportsReply Coordinator::Impl::reports(const std::vector<JobId>& ids, std::uint32_t window_s, Time now) const {
  JobReportsReply reply;
  reply.fairness = fairness_.report(window_s);
  std::size_t bytes = 0;
  // From the newest back, so that what does not fit is the oldest.
  for (const Job* job : jobs_to_report(state_, ids)) {
    JobReport one = report(*job, window_s, now);
    bytes += report_bytes(one);
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
    if (node.state != NodeState::alive && node.state != NodeState::suspect) continue;  // what follows is of the present
    report.cpu_milli = node.heartbeat.cpu_milli;
    report.executor_rss_bytes = node.heartbeat.executor_rss_bytes;
    report.models = node.heartbeat.models;
    report.model_loads = node.heartbeat.model_loads;
    report.running_batches = node.heartbeat.running_batches;
  }
  return reports;
}

StatusReply Coordinator::Impl::status() const {
  StatusReply reply;
  reply.answered_by = config_.self;
  reply.coordinator = config_.self;
  reply.standby = log_.standby;
  reply.epoch = epoch_;
  reply.voters = log_.voters;
  reply.learners = log_.learners;
  reply.nodes = node_reports();
  // Counted now, not at the last repair step: it is never hidden.
  (void)state_.files().misplaced(repair_view().live, replication_, 0, reply.under_replicated_blocks);
  fill_status(state_, reply);
  reply.alarms.assign(alarms_.begin(), alarms_.end());
  return reply;
}

}  // namespace idunno

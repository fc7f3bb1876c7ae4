// The policies for comparison. Which job is next follows from what StrideOrder counts under the policy; here is the rest.

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

std::optional<Assignment> Scheduler::next_by_policy(Time now) {
  if (config_.policy == SchedulePolicy::static_split) split_nodes(now);
  std::vector<JobId> jobs;  // the more urgent ones first
  for (const StrideOrder::Key& key : order_.order()) jobs.push_back(key.job);
  if (config_.policy == SchedulePolicy::random && !jobs.empty()) {
    const std::int64_t head = order_.order().begin()->priority_down;
    const auto level = std::count_if(order_.order().begin(), order_.order().end(),
                                     [head](const StrideOrder::Key& key) { return key.priority_down == head; });
    std::swap(jobs.front(), jobs[random_.below(static_cast<std::uint64_t>(level))]);
  }
  for (const JobId id : jobs) {
    JobEntry& job = *jobs_.at(id);
    if (held_back(job, now)) continue;
    auto choice = choose_batch(job, false, now);
    if (!choice) continue;
    if (config_.policy == SchedulePolicy::random && !choice->redo) {
      auto node = free_.begin();
      std::advance(node, static_cast<std::ptrdiff_t>(random_.below(free_.size())));
      if (may_use(job, *nodes_.at(node->node))) choice->node = node->node;
    }
    return lease(job, *choice, now);
  }
  return redo_beyond_credit(now);
}

/// Each node belongs to one job: dealt out in turn when the jobs or the nodes change; once a period one node moves from the job
/// that got the most done by weight to the one that got the least.
void Scheduler::split_nodes(Time now) {
  std::set<JobId> jobs;
  for (const StrideOrder::Key& key : order_.order()) jobs.insert(key.job);
  if (jobs.empty()) return;
  const auto begin_period = [&] {
    split_at_ = now + config_.split_period;
    for (auto& [id, job] : jobs_) job->split_served = 0;
  };
  if (jobs != split_between_) {
    split_between_ = jobs;
    auto job = jobs.begin();
    for (auto& [id, node] : nodes_) {
      node->kept_for = *job;
      if (++job == jobs.end()) job = jobs.begin();
    }
    return begin_period();
  }
  if (now < split_at_) return;
  const auto share = [&](JobId id) {
    const JobEntry& job = *jobs_.at(id);
    return job.split_served * 1000 / std::max(job.spec.weight_milli, 1U);
  };
  std::map<JobId, std::vector<NodeEntry*>> nodes;
  for (auto& [id, node] : nodes_) nodes[node->kept_for].push_back(node.get());
  JobId fastest;
  JobId slowest;
  for (const JobId id : jobs) {
    if (!slowest || share(id) < share(slowest)) slowest = id;
    if (nodes[id].size() > 1 && (!fastest || share(id) > share(fastest))) fastest = id;
  }
  if (fastest && fastest != slowest) nodes[fastest].back()->kept_for = slowest;
  begin_period();
}

}  // namespace idunno

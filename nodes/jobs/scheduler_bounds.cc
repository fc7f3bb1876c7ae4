// Which nodes a job may use: nodes_min, nodes_max.

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

void Scheduler::set_nodes(JobId id, std::uint32_t nodes_min, std::uint32_t nodes_max) {
  JobEntry* job = find(id);
  if (job == nullptr || (job->spec.nodes_min == nodes_min && job->spec.nodes_max == nodes_max)) return;
  job->arriving = true;  // it has no claim, and no debt, from before
  job->spec.nodes_min = nodes_min;
  job->spec.nodes_max = nodes_max;
  reserve_again_ = true;
  for (const auto& [node_id, node] : nodes_) may_miss_choice(node_id);
}

bool Scheduler::may_use(const JobEntry& job, const NodeEntry& node) const {
  if (node.kept_for && node.kept_for != job.spec.id) return false;
  if (job.spec.nodes_max == 0 || job.holders < job.spec.nodes_max) return true;
  if (held_at(job, node) == 0) return false;
  // Under a maximum that was lowered, leases end on the others.
  std::uint32_t before = 0;
  for (auto other = nodes_.begin(); other != nodes_.end() && other->first < node.id; ++other)
    before += held_at(job, *other->second) > 0 ? 1U : 0U;
  return before < job.spec.nodes_max;
}

/// Who has a node keeps it; who has too few gets those first where it holds leases already, then those that hold the least. When
/// there are not enough nodes, urgent jobs and higher priorities go first, then older ones.
void Scheduler::reserve_nodes() {
  if (config_.policy == SchedulePolicy::static_split) return;  // the nodes are divided already
  bounded_ = std::any_of(jobs_.begin(), jobs_.end(),
                         [](const auto& job) { return job.second->spec.nodes_min > 0 || job.second->spec.nodes_max > 0; });
  std::vector<JobEntry*> wanting;
  for (auto& [id, job] : jobs_) {
    job->reserved = 0;
    if (job->spec.nodes_min > 0 && job->enabled && job->has_work()) wanting.push_back(job.get());
  }
  std::stable_sort(wanting.begin(), wanting.end(), [](const JobEntry* a, const JobEntry* b) {
    return std::pair(!a->spec.urgent, -std::int64_t{a->spec.priority}) <
           std::pair(!b->spec.urgent, -std::int64_t{b->spec.priority});
  });
  std::set<NodeId> taken;
  for (JobEntry* job : wanting) {
    const std::uint32_t most =
        job->spec.nodes_max == 0 ? job->spec.nodes_min : std::min(job->spec.nodes_min, job->spec.nodes_max);
    std::vector<std::pair<std::pair<int, std::uint32_t>, NodeId>> offers;
    for (const auto& [id, node] : nodes_) {
      if (!node->open || taken.contains(id)) continue;
      const int rank = node->kept_for == job->spec.id ? 0 : (held_at(*job, *node) > 0 ? 1 : 2);
      offers.push_back({{rank, node->leased}, id});
    }
    std::sort(offers.begin(), offers.end());
    for (const auto& [rank, id] : offers) {
      if (job->reserved == most) break;
      taken.insert(id);
      nodes_.at(id)->kept_for = job->spec.id;
      ++job->reserved;
    }
  }
  for (auto& [id, node] : nodes_) {
    if (node->kept_for && !taken.contains(id)) node->kept_for = JobId{};
    may_miss_choice(id);
  }
}

}  // namespace idunno

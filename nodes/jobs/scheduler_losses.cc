// Leases that came to nothing, batches that end their executors, and second leases of stragglers.

#include <utility>

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

// ---- leases that are lost ---------------------------------------------------------------------------------------------

bool Scheduler::lost(JobId id, BatchIndex batch, std::uint32_t attempt, NodeId node, LeaseLoss why) {
  JobEntry* job = find(id);
  if (job == nullptr) return false;
  const auto out = job->out.find(batch);
  if (out == job->out.end()) return false;
  const auto& holders = out->second.holders;
  const bool is_out = std::any_of(holders.begin(), holders.end(), [&](const JobEntry::Holder& holder) {
    return holder.attempt == attempt && holder.node == node;
  });
  if (!is_out) return false;
  lose(*job, batch, node, why);
  refresh_runnable(*job, false);
  return true;
}

/// The lease of `batch` at `node` is over. Another one that is out goes on; without one the batch is to be done again.
void Scheduler::lose(JobEntry& job, BatchIndex batch, NodeId node, LeaseLoss why) {
  JobEntry::Out& out = job.out.at(batch);
  const auto holder =
      std::find_if(out.holders.begin(), out.holders.end(), [&](const JobEntry::Holder& one) { return one.node == node; });
  ASSERT(holder != out.holders.end());
  Trouble& trouble = job.trouble[batch];
  trouble.attempted(holder->attempt);
  NodeEntry& entry = *nodes_.at(node);
  std::uint64_t& local = job.shares[entry.index].local;
  local -= std::min(local, holder->local_cost);
  end_run(job, entry, {job.spec.id, batch, holder->attempt});
  const bool redo = holder->redo;
  out.holders.erase(holder);
  give_back_to_node(job, node, redo);
  news_ = true;
  count_failure(job, batch, trouble, node, why);
  if (!out.holders.empty()) return;
  to_redo(job, batch);
  if (why == LeaseLoss::input_missing) wait_for_input(job, batch, trouble);
}

void Scheduler::to_redo(JobEntry& job, BatchIndex batch) {
  const auto out = job.out.find(batch);
  if (job.spec.rate_limit_milli > 0) job.tokens_nano += out->second.tokens_nano;
  order_.lost(job.spec.id, job.queries_of(batch));
  job.out.erase(out);
  job.to_redo.insert(batch);
}

/// Nobody could read it: the nodes that hold it are down, as it seems, and may be back in a moment. Rows that say "missing" would
/// be there for ever.
void Scheduler::wait_for_input(JobEntry& job, BatchIndex batch, Trouble& trouble) {
  const std::size_t nodes = std::max<std::size_t>(nodes_.size(), 1);
  if (trouble.inputs_missing % nodes != 0 && !gives_up(trouble)) return;
  const std::size_t rounds = std::clamp<std::size_t>(trouble.inputs_missing / nodes, 1, 16);
  const Time at = now_ + std::min(kInputWaitMin * (1 << (rounds - 1)), kInputWaitMax);
  job.to_redo.erase(batch);
  job.waiting.emplace(at, batch);
  waiting_.emplace(at, job.spec.id);
}

void Scheduler::release_waiting(Time now) {
  now_ = std::max(now_, now);
  while (!waiting_.empty() && waiting_.begin()->first <= now) {
    const JobId id = waiting_.begin()->second;
    waiting_.erase(waiting_.begin());
    JobEntry* job = find(id);
    if (job == nullptr) continue;
    while (!job->waiting.empty() && job->waiting.begin()->first <= now) {
      const BatchIndex batch = job->waiting.begin()->second;
      job->waiting.erase(job->waiting.begin());
      if (!job->is_committed(batch) && !job->out.contains(batch)) job->to_redo.insert(batch);
    }
    refresh_runnable(*job, false);
  }
}

void Scheduler::count_failure(JobEntry& job, BatchIndex batch, Trouble& trouble, NodeId node, LeaseLoss why) {
  if (why == LeaseLoss::executor_died || why == LeaseLoss::trial_passed) isolate(job, batch, trouble, why);
  if (why == LeaseLoss::returned || why == LeaseLoss::trial_passed) return;
  ++job.retried;
  if (why == LeaseLoss::node_lost) return;  // a node that returns is as good as any
  if (why == LeaseLoss::input_missing) {
    if (trouble.inputs_missing++ == 0) trouble.input_missing_since = now_;
  }
  if (trouble.isolation) trouble.failed_at.clear();  // trials only keep off the node of the last failure
  trouble.failed_at.insert(node);
  const bool everywhere = std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    return !entry.second->open || trouble.failed_at.contains(entry.first);
  });
  if (everywhere) trouble.failed_at = {node};  // another round
}

bool Scheduler::gives_up(const Trouble& trouble) const {
  const std::uint64_t inputs_max = std::uint64_t{kInputRoundsMax} * std::max<std::size_t>(nodes_.size(), 1);
  return (trouble.inputs_missing >= inputs_max && now_ - trouble.input_missing_since >= kInputPatience) ||
         (trouble.isolation && trouble.isolation->step() == BatchIsolation::Step::give_up);
}

bool Scheduler::allowed(const JobEntry& job, BatchIndex batch, NodeId node) const {
  const auto found = job.trouble.find(batch);
  if (found == job.trouble.end() || !found->second.failed_at.contains(node) || gives_up(found->second)) return true;
  // Only when there is no other.
  return std::none_of(nodes_.begin(), nodes_.end(),
                      [&](const auto& entry) { return entry.second->open && !found->second.failed_at.contains(entry.first); });
}

// ---- batches that end their executors ---------------------------------------------------------------------------------

void Scheduler::isolate(JobEntry& job, BatchIndex batch, Trouble& trouble, LeaseLoss why) {
  if (!trouble.isolation) {
    // A trial that an earlier coordinator gave tells nothing here.
    if (why == LeaseLoss::trial_passed || ++trouble.deaths < config_.attempts_max) return;
    trouble.isolation.emplace(job.queries_of(batch));
    return note(IsolationNote::Kind::isolated, job, batch);
  }
  BatchIsolation& isolation = *trouble.isolation;
  if (isolation.step() == BatchIsolation::Step::give_up) return;
  if (why == LeaseLoss::trial_passed) {
    isolation.passed();
  } else if (isolation.died()) {
    note(IsolationNote::Kind::quarantined, job, batch, isolation.last_quarantined());
  }
  if (isolation.step() == BatchIsolation::Step::give_up) note(IsolationNote::Kind::given_up, job, batch);
}

void Scheduler::note(IsolationNote::Kind kind, const JobEntry& job, BatchIndex batch, std::uint32_t place) {
  if (notes_.size() >= kIsolationNotesMax) return;
  notes_.push_back({kind, job.spec.id, batch, job.place(batch).first_query + place});
}

std::vector<IsolationNote> Scheduler::take_notes() { return std::exchange(notes_, {}); }

// ---- leases that are told or given once more --------------------------------------------------------------------------

std::vector<Assignment> Scheduler::unanswered(Time now, Duration age, std::size_t max) {
  std::vector<Assignment> found;
  for (auto& [id, job] : jobs_) {
    if (!job->enabled) continue;
    for (auto& [batch, out] : job->out) {
      for (JobEntry::Holder& holder : out.holders) {
        if (found.size() >= max) return found;
        if (now < holder.told + age || !nodes_.at(holder.node)->open) continue;
        holder.told = now;
        found.push_back({holder.node, job->lease_of(batch, out, holder)});
      }
    }
  }
  return found;
}

std::vector<Assignment> Scheduler::unstarted(JobId id, std::size_t max) {
  std::vector<Assignment> found;
  JobEntry* job = find(id);
  if (job == nullptr) return found;
  for (const auto& [batch, out] : job->out) {
    for (const JobEntry::Holder& holder : out.holders) {
      if (found.size() >= max) return found;
      if (!nodes_.at(holder.node)->runs.contains({id, batch, holder.attempt}))
        found.push_back({holder.node, job->lease_of(batch, out, holder)});
    }
  }
  return found;
}

std::optional<Assignment> Scheduler::hedge(NodeId node, const LeaseKey& key, Time now) {
  JobEntry* job = find(key.job);
  if (job == nullptr || !job->enabled || job->hedged > job->batches_done / kBatchesPerHedge) return std::nullopt;
  const auto found = job->out.find(key.batch);
  if (found == job->out.end()) return std::nullopt;
  JobEntry::Out& out = found->second;
  const JobEntry::Holder& first = out.holders.front();
  if (out.holders.size() > 1 || first.node != node || first.attempt != key.attempt || key.attempt >= kGiveUpAttempt)
    return std::nullopt;
  if (const auto trouble = job->trouble.find(key.batch); trouble != job->trouble.end() && trouble->second.deaths > 0)
    return std::nullopt;
  NodeEntry* best = nullptr;
  for (const auto& [id, other] : nodes_) {
    if (id == node || !other->open || other->leased >= other->credit || !may_use(*job, *other)) continue;
    const auto share = [](const NodeEntry& entry) { return std::uint64_t{entry.leased} * 1000 / entry.slots; };
    if (best == nullptr || share(*other) < share(*best)) best = other.get();
  }
  if (best == nullptr) return std::nullopt;
  Trouble& trouble = job->trouble[key.batch];
  trouble.attempted(key.attempt);
  const JobEntry::Holder second{best->id, trouble.attempt, 0, now, false};
  trouble.attempted(second.attempt);
  out.holders.push_back(second);
  ++job->hedged;
  take_from_node(*job, *best);
  return Assignment{best->id, job->lease_of(key.batch, out, second)};
}

}  // namespace idunno

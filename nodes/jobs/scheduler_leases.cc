// The decisions of the scheduler: which batch goes where, and what becomes of a lease that is lost.

#include "nodes/jobs/scheduler_impl.h"
#include "nodes/jobs/worker_queue.h"

namespace idunno {

namespace {
constexpr std::uint64_t kNano = 1'000'000'000;
}

// ---- leases that are lost ---------------------------------------------------------------------------------------------

bool Scheduler::lost(JobId id, BatchIndex batch, std::uint32_t attempt, NodeId node, LeaseLoss why) {
  JobEntry* job = find(id);
  if (job == nullptr) return false;
  const auto out = job->out.find(batch);
  if (out == job->out.end() || out->second.attempt != attempt || out->second.node != node) return false;
  redo(*job, batch, node, why);
  refresh_runnable(*job, false);
  return true;
}

void Scheduler::redo(JobEntry& job, BatchIndex batch, NodeId node, LeaseLoss why) {
  job.out.erase(batch);
  job.to_redo.insert(batch);
  const std::uint32_t queries = job.queries_of(batch);
  order_.lost(job.spec.id, queries);
  if (const auto local = job.local.find(node); local != job.local.end()) {
    local->second -= std::min(local->second, order_.cost(job.spec.id, queries));
  }
  job.tokens_nano += std::uint64_t{queries} * (job.spec.rate_limit_milli > 0 ? kNano : 0);
  give_back_to_node(job, node);

  Trouble& trouble = job.trouble[batch];
  trouble.attempt = std::min(trouble.attempt + 1, kGiveUpAttempt - 1);
  if (why == LeaseLoss::returned) return;
  ++job.retried;
  if (why == LeaseLoss::node_lost) return;  // a node that returns is as good as any
  if (why == LeaseLoss::executor_died) ++trouble.deaths;
  if (why == LeaseLoss::input_missing) ++trouble.inputs_missing;
  trouble.failed_at.insert(node);
  const bool everywhere = std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& entry) {
    return !entry.second->open || trouble.failed_at.contains(entry.first);
  });
  if (everywhere) trouble.failed_at = {node};  // another round
}

bool Scheduler::gives_up(const Trouble& trouble) const {
  const std::uint64_t inputs_max = std::uint64_t{kInputRoundsMax} * std::max<std::size_t>(nodes_.size(), 1);
  return trouble.deaths >= config_.attempts_max || trouble.inputs_missing >= inputs_max;
}

bool Scheduler::allowed(const JobEntry& job, BatchIndex batch, NodeId node) const {
  const auto found = job.trouble.find(batch);
  if (found == job.trouble.end() || !found->second.failed_at.contains(node) || gives_up(found->second)) return true;
  // Only when there is no other.
  return std::none_of(nodes_.begin(), nodes_.end(),
                      [&](const auto& entry) { return entry.second->open && !found->second.failed_at.contains(entry.first); });
}

std::vector<Assignment> Scheduler::unanswered(Time now, Duration age, std::size_t max) {
  std::vector<Assignment> found;
  for (auto& [id, job] : jobs_) {
    if (!job->enabled) continue;
    for (auto& [batch, out] : job->out) {
      if (found.size() >= max) return found;
      if (now < out.told + age || !nodes_.at(out.node)->open) continue;
      out.told = now;
      const std::uint64_t first = std::uint64_t{batch} * job->spec.batch;
      found.push_back({out.node, Lease{id, batch, out.attempt, first, job->queries_of(batch), out.pass, job->spec.priority}});
    }
  }
  return found;
}

// ---- a node's share ---------------------------------------------------------------------------------------------------

void Scheduler::take_from_node(JobEntry& job, NodeEntry& node) {
  ++node.leased;
  node.turn = ++turn_;
  if (node.last_model != job.spec.model) node.last_model = job.spec.model;
  if (++job.held[node.id] >= node.slots) job.room.erase(node.id);
  refresh_free(node);
}

void Scheduler::give_back_to_node(JobEntry& job, NodeId node_id) {
  const auto held = job.held.find(node_id);
  ASSERT(held != job.held.end());
  NodeEntry& node = *nodes_.at(node_id);
  if (--held->second < node.slots) job.room.insert(node_id);
  if (held->second == 0) job.held.erase(held);
  --node.leased;
  refresh_free(node);
}

// ---- decisions --------------------------------------------------------------------------------------------------------

std::optional<NodeId> Scheduler::free_node(const JobEntry& job, const BatchIndex* batch) const {
  for (const FreeKey& key : free_) {
    if (batch == nullptr || allowed(job, *batch, key.node)) return key.node;
  }
  return std::nullopt;
}

std::optional<NodeId> Scheduler::overdraft_node(const JobEntry& job, const BatchIndex* batch) const {
  for (const NodeId node : job.room) {
    if (nodes_.at(node)->open && (batch == nullptr || allowed(job, *batch, node))) return node;
  }
  return std::nullopt;
}

std::optional<Scheduler::Choice> Scheduler::choose_batch(const JobEntry& job, bool overdraft) const {
  std::size_t looked = 0;
  for (const BatchIndex batch : job.to_redo) {
    if (++looked > kRedoLook) break;
    if (const auto node = free_node(job, &batch)) return Choice{batch, *node, true};
    if (!overdraft) continue;
    if (const auto node = overdraft_node(job, &batch)) return Choice{batch, *node, true};
  }
  if (job.next >= job.batches) return std::nullopt;
  const auto batch = static_cast<BatchIndex>(job.next);
  if (const auto node = free_node(job, nullptr)) return Choice{batch, *node, false};
  if (!overdraft) return std::nullopt;
  if (const auto node = overdraft_node(job, nullptr)) return Choice{batch, *node, false};
  return std::nullopt;
}

std::uint64_t Scheduler::local_pass(const JobEntry& job, const NodeEntry& node) {
  const auto found = job.local.find(node.id);
  return std::max(found == job.local.end() ? 0 : found->second, node.local_floor);
}

/// Which job a free node serves. Order over the whole cluster alone would be fair in the long run, but what the nodes compute at
/// one moment would drift: five leases of the dear job and one of the cheap here, the reverse a second later, which shows in
/// windows of seconds. So among the jobs that are level with the first, to within a batch a node, each node takes turns on its
/// own account: the one that it has served least by weight, and among equals the one whose model it used last. Only jobs without
/// a rate limit and with new batches: the others take the plain way.
Scheduler::JobEntry* Scheduler::take_turns(JobEntry& first, NodeId node_id) {
  const NodeEntry& node = *nodes_.at(node_id);
  const auto plain = [](const JobEntry& job) { return job.to_redo.empty() && job.spec.rate_limit_milli == 0; };
  if (!plain(first)) return &first;
  const std::uint64_t tolerance = order_.cost(first.spec.id, first.spec.batch) * (nodes_.size() + 1);
  JobEntry* best = &first;
  std::uint64_t lowest = local_pass(first, node);
  std::size_t looked = 0;
  const StrideOrder::Key& head = *order_.order().begin();
  for (const StrideOrder::Key& key : order_.order()) {
    if (++looked > kTurnsLook || key.priority_down != head.priority_down || key.pass - head.pass > tolerance) break;
    JobEntry& job = *jobs_.at(key.job);
    if (&job == best || !plain(job)) continue;
    const std::uint64_t pass = local_pass(job, node);
    const bool loaded = job.spec.model == node.last_model && best->spec.model != node.last_model;
    if (pass < lowest || (pass == lowest && loaded)) {
      best = &job;
      lowest = pass;
    }
  }
  return best;
}

std::optional<Assignment> Scheduler::next(Time now) {
  release_limited(now);
  bool first = true;
  for (auto key = order_.order().begin(); key != order_.order().end();) {
    JobEntry& job = *jobs_.at(key->job);
    ++key;  // the job may leave the order below
    const std::uint64_t need = std::uint64_t{job.spec.batch} * kNano;
    if (job.spec.rate_limit_milli > 0) {
      refill(job, now);
      if (job.tokens_nano < need) {
        const std::uint64_t wait_us = (need - job.tokens_nano + job.spec.rate_limit_milli - 1) / job.spec.rate_limit_milli;
        job.limited = true;
        job.limited_until = now + Duration(static_cast<Duration::rep>(wait_us));
        limited_.emplace(job.limited_until, job.spec.id);
        refresh_runnable(job, true);
        continue;
      }
    }
    if (auto choice = choose_batch(job, first)) {
      JobEntry* chosen = &job;
      if (first && !choice->redo && !free_.empty()) chosen = take_turns(job, choice->node);
      if (chosen != &job) choice->batch = static_cast<BatchIndex>(chosen->next);
      return lease(*chosen, *choice, now);
    }
    if (free_.empty()) break;  // the others may not go beyond the credit
    first = false;
  }
  return std::nullopt;
}

Assignment Scheduler::lease(JobEntry& job, const Choice& choice, Time now) {
  Assignment given;
  given.node = choice.node;
  Lease& lease = given.lease;
  lease.job = job.spec.id;
  lease.batch = choice.batch;
  lease.first_query = std::uint64_t{choice.batch} * job.spec.batch;
  lease.queries = job.queries_of(choice.batch);
  lease.pass = order_.pass(job.spec.id);
  lease.priority = job.spec.priority;
  if (const auto trouble = job.trouble.find(choice.batch); trouble != job.trouble.end()) {
    lease.attempt = trouble->second.attempt + (gives_up(trouble->second) ? kGiveUpAttempt : 0);
  }
  if (job.spec.rate_limit_milli > 0) job.tokens_nano -= std::uint64_t{lease.queries} * kNano;
  if (choice.redo) {
    job.to_redo.erase(choice.batch);
  } else {
    ++job.next;
    job.skip_committed();
  }
  job.out.emplace(choice.batch, JobEntry::Out{choice.node, lease.attempt, lease.pass, now});
  order_.leased(job.spec.id, lease.queries);
  NodeEntry& node = *nodes_.at(choice.node);
  const std::uint64_t local = local_pass(job, node);
  node.local_floor = std::max(node.local_floor, local - std::min(local, order_.cost(job.spec.id, job.spec.batch)));
  job.local[node.id] = local + order_.cost(job.spec.id, lease.queries);
  take_from_node(job, node);
  refresh_runnable(job, false);
  return given;
}

}  // namespace idunno

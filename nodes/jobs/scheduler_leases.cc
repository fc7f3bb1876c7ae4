// The decisions of the scheduler: which batch goes where.

#include <utility>

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {
constexpr std::uint64_t kNano = 1'000'000'000;
constexpr std::size_t kRoomLook = 64;  // nodes that are looked at for the one with the next free slot
}  // namespace

// ---- decisions --------------------------------------------------------------------------------------------------------

std::optional<NodeId> Scheduler::free_node(const JobEntry& job, const BatchIndex* batch) const {
  for (const FreeKey& key : free_) {
    if (bounded_ && !may_use(job, *nodes_.at(key.node))) continue;
    if (batch == nullptr || allowed(job, *batch, key.node)) return key.node;
  }
  return std::nullopt;
}

/// Of kRoomLook nodes, others each time, that which holds the least beyond its credit, and whose next slot is free soonest.
std::optional<NodeId> Scheduler::overdraft_node(const JobEntry& job, const BatchIndex* batch, Time now) const {
  if (nodes_.empty()) return std::nullopt;
  std::optional<NodeId> best;
  std::pair<std::uint32_t, Duration> least{};
  auto at = nodes_.lower_bound(NodeId{static_cast<std::uint32_t>(turn_ * kRoomLook % (nodes_.rbegin()->first.value + 1ULL))});
  std::size_t looked = 0;
  for (std::size_t passed = 0; passed < nodes_.size() && looked < kRoomLook; ++passed, ++at) {
    if (at == nodes_.end()) at = nodes_.begin();
    const NodeEntry& node = *at->second;
    if (!job.shares[node.index].room) continue;
    ++looked;
    if (!node.open || !may_use(job, node) || (batch != nullptr && !allowed(job, *batch, node.id))) continue;
    const std::pair cost{(node.leased - std::min(node.leased, node.credit)) / node.slots, node.next_slot(now)};
    if (best && cost >= least) continue;
    best = node.id;
    least = cost;
  }
  return best;
}

std::optional<Scheduler::Choice> Scheduler::choose_batch(const JobEntry& job, bool overdraft, Time now) const {
  std::size_t looked = 0;
  for (const BatchIndex batch : job.to_redo) {
    if (++looked > kRedoLook) break;
    if (const auto node = free_node(job, &batch)) return Choice{batch, *node, true};
    if (!overdraft) continue;
    if (const auto node = overdraft_node(job, &batch, now)) return Choice{batch, *node, true};
  }
  if (job.next >= job.batches) return std::nullopt;
  const auto batch = static_cast<BatchIndex>(job.next);
  if (const auto node = free_node(job, nullptr)) return Choice{batch, *node, false};
  if (!overdraft) return std::nullopt;
  if (const auto node = overdraft_node(job, nullptr, now)) return Choice{batch, *node, false};
  return std::nullopt;
}

std::uint64_t Scheduler::local_pass(const JobEntry& job, const NodeEntry& node) {
  return std::max(job.shares[node.index].local, node.local_floor);
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
  const std::uint64_t tolerance = order_.cost(first.spec.id, first.spec.batch) * (2 * nodes_.size() / order_.order().size() + 1);
  JobEntry* best = &first;
  std::uint64_t lowest = local_pass(first, node);
  std::size_t looked = 0;
  const StrideOrder::Key& head = *order_.order().begin();
  for (const StrideOrder::Key& key : order_.order()) {
    if (++looked > kTurnsLook || key.priority_down != head.priority_down || key.pass - head.pass > tolerance) break;
    JobEntry& job = *jobs_.at(key.job);
    if (&job == best || !plain(job) || (bounded_ && !may_use(job, node))) continue;
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
  release_waiting(now);
  if (std::exchange(reserve_again_, false)) reserve_nodes();
  return config_.policy == SchedulePolicy::fair_rate ? next_fair(now) : next_by_policy(now);
}

/// A job that arrives shall start at the next batch border, on as many nodes as are its share and once more; and one with a rate
/// limit must not wait for credit that others use.
bool Scheduler::may_overdraw(const JobEntry& job) const {
  if (job.spec.urgent) return true;
  if (!job.arriving && job.holders > 0 && job.spec.rate_limit_milli == 0) return false;
  const std::size_t jobs = std::max<std::size_t>(order_.order().size(), 1);
  return job.holders < 2 * ((nodes_.size() + jobs - 1) / jobs);
}

std::optional<Assignment> Scheduler::next_fair(Time now) {
  const bool urgent = !order_.order().empty() && jobs_.at(order_.order().begin()->job)->spec.urgent;
  if (!redoing_.empty() && !urgent) {
    if (auto given = redo_beyond_credit(now)) return given;  // what was lost goes before what is new
  }
  bool first = true;
  for (auto key = order_.order().begin(); key != order_.order().end();) {
    JobEntry& job = *jobs_.at(key->job);
    ++key;  // the job may leave the order below
    if (held_back(job, now)) continue;
    const bool overdraft = first && may_overdraw(job);
    if (auto choice = choose_batch(job, overdraft, now)) {
      JobEntry* chosen = &job;
      if (first && !choice->redo && !free_.empty() && !job.spec.urgent) chosen = take_turns(job, choice->node);
      if (chosen != &job) choice->batch = static_cast<BatchIndex>(chosen->next);
      return lease(*chosen, *choice, now);
    }
    if (free_.empty()) break;  // the others may not go beyond the credit
    first = false;
  }
  if (auto given = redo_beyond_credit(now)) return given;
  return give_choice(now);
}

/// Beyond the credit: each job that competes is to have batches waiting at each node, so that the node has the choice.
std::optional<Assignment> Scheduler::give_choice(Time now) {
  if (!ordering_ || order_.order().size() < 2) return std::nullopt;
  const auto plain = [](const JobEntry& job) { return job.to_redo.empty() && job.spec.rate_limit_milli == 0; };
  while (!choice_.empty()) {
    NodeEntry& node = *nodes_.at(*choice_.begin());
    const bool takes = node.open && node.mean_us >= static_cast<std::uint64_t>(kChoiceBatchMin.count()) &&
                       node.leased < node.credit + node.slots * kChoiceJobsMax;
    std::size_t looked = 0;
    const std::int64_t head = order_.order().begin()->priority_down;
    for (const StrideOrder::Key& key : order_.order()) {
      if (!takes || ++looked > kChoiceJobsMax || key.priority_down != head) break;
      JobEntry& job = *jobs_.at(key.job);
      // The last batches of a job go where they are computed first.
      if (!job.shares[node.index].room || !plain(job) || job.batches - job.next <= nodes_.size() || !may_use(job, node)) continue;
      return lease(job, {static_cast<BatchIndex>(job.next), node.id, false}, now);
    }
    choice_.erase(choice_.begin());  // until something changes there
  }
  return std::nullopt;
}

/// What a dead node held shall not wait until batches of the others end.
std::optional<Assignment> Scheduler::redo_beyond_credit(Time now) {
  if (spare_.empty()) return std::nullopt;
  for (const JobId id : redoing_) {
    JobEntry& job = *jobs_.at(id);
    if (job.spec.rate_limit_milli > 0 && job.tokens_nano < std::uint64_t{job.spec.batch} * kNano) continue;
    std::size_t looked = 0;
    for (const BatchIndex batch : job.to_redo) {
      if (++looked > kRedoLook) break;
      for (const FreeKey& key : spare_) {
        if (bounded_ && !may_use(job, *nodes_.at(key.node))) continue;
        if (allowed(job, batch, key.node)) return lease(job, {batch, key.node, true}, now);
      }
    }
  }
  return std::nullopt;
}

/// What a lease costs the job on that node; to be given back when it comes to nothing.
std::uint64_t Scheduler::charge_node(JobEntry& job, NodeEntry& node, std::uint32_t queries) {
  const std::uint64_t local = local_pass(job, node);
  const std::uint64_t cost = order_.cost(job.spec.id, queries);
  node.local_floor = std::max(node.local_floor, local - std::min(local, order_.cost(job.spec.id, job.spec.batch)));
  job.shares[node.index].local = local + cost;
  return cost;
}

Lease Scheduler::JobEntry::lease_of(BatchIndex batch, const Out& given, const Holder& holder) const {
  Lease lease;
  lease.job = spec.id;
  lease.batch = batch;
  lease.attempt = holder.attempt;
  const BatchPlace at = place(batch);
  lease.first_query = at.first_query;
  lease.queries = at.queries;
  lease.item = at.item;
  lease.segment = at.segment;
  lease.pass = given.pass;
  lease.priority = spec.priority;
  lease.trial_from = given.trial.from;
  lease.trial_to = given.trial.to;
  if (const auto found = trouble.find(batch); found != trouble.end() && found->second.isolation)
    lease.quarantined = found->second.isolation->masked();
  return lease;
}

Assignment Scheduler::lease(JobEntry& job, const Choice& choice, Time now) {
  NodeEntry& node = *nodes_.at(choice.node);
  const std::uint32_t queries = job.queries_of(choice.batch);
  JobEntry::Out out;
  JobEntry::Holder holder;
  holder.node = node.id;
  holder.told = now;
  out.pass = config_.policy == SchedulePolicy::fair_rate ? order_.pass(job.spec.id) : turn_;
  if (const auto found = job.trouble.find(choice.batch); found != job.trouble.end()) {
    Trouble& trouble = found->second;
    holder.attempt = trouble.attempt + (gives_up(trouble) ? kGiveUpAttempt : 0);
    trouble.attempted(holder.attempt);
    if (trouble.isolation) out.trial = trouble.isolation->trial();
  }
  if (job.spec.rate_limit_milli > 0) out.tokens_nano = std::uint64_t{queries} * kNano;
  job.tokens_nano -= out.tokens_nano;
  order_.leased(job.spec.id, queries);
  holder.local_cost = charge_node(job, node, queries);
  holder.redo = choice.redo;
  if (choice.redo) ++node.redo;
  out.holders.push_back(holder);
  if (choice.redo) job.to_redo.erase(choice.batch);
  const JobEntry::Out& given = job.out.emplace(choice.batch, std::move(out)).first->second;
  job.skip_taken();
  take_from_node(job, node);
  refresh_runnable(job, false);
  return {node.id, job.lease_of(choice.batch, given, given.holders.front())};
}

}  // namespace idunno

#include "nodes/jobs/scheduler.h"

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kNano = 1'000'000'000;
constexpr std::uint32_t kBurstMs = 250;    // what a rate limit lets through at once after a pause
constexpr std::uint32_t kRefillPart = 16;  // a node is filled up when this part of its credit is free
constexpr std::uint32_t kSmoothing = 8;    // of batch times: one part in so many is new

std::uint32_t credit_for(std::uint32_t slots, std::uint32_t mean_us, Duration horizon) {
  std::uint64_t per_slot = kCreditPerSlotMin;
  if (mean_us > 0) {
    const auto horizon_us = static_cast<std::uint64_t>(std::max<Duration::rep>(horizon.count(), 0));
    per_slot = std::clamp<std::uint64_t>(1 + (horizon_us + mean_us - 1) / mean_us, kCreditPerSlotMin, kCreditPerSlotMax);
  }
  return static_cast<std::uint32_t>(slots * per_slot);
}

}  // namespace

Scheduler::Scheduler(SchedulerConfig config) : config_(config) {}
Scheduler::~Scheduler() = default;

Scheduler::JobEntry* Scheduler::find(JobId job) {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : found->second.get();
}
const Scheduler::JobEntry* Scheduler::find(JobId job) const {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : found->second.get();
}

// ---- jobs -------------------------------------------------------------------------------------------------------------

void Scheduler::add_job(const SchedulerJob& spec, std::vector<bool> committed, bool enabled, Time now) {
  if (jobs_.contains(spec.id) || spec.batch == 0) return;
  auto entry = std::make_unique<JobEntry>();
  entry->spec = spec;
  entry->batches = (spec.queries + spec.batch - 1) / spec.batch;
  entry->committed = std::move(committed);
  entry->committed.resize(entry->batches, false);
  entry->skip_committed();
  entry->enabled = enabled;
  entry->tokens_nano = std::uint64_t{spec.batch} * kNano;
  entry->refilled = now;
  for (const auto& [id, node] : nodes_) entry->room.insert(id);
  JobEntry& job = *entry;
  jobs_.emplace(spec.id, std::move(entry));
  order_.add(spec.id, spec.weight_milli, spec.priority);
  refresh_runnable(job, false);
}

void Scheduler::remove_job(JobId id) {
  JobEntry* job = find(id);
  if (job == nullptr) return;
  for (const auto& [node_id, count] : job->held) {
    NodeEntry& node = *nodes_.at(node_id);
    node.leased -= count;
    refresh_free(node);
  }
  if (job->limited) limited_.erase({job->limited_until, id});
  order_.remove(id);
  jobs_.erase(id);
}

void Scheduler::set_enabled(JobId id, bool enabled) {
  JobEntry* job = find(id);
  if (job == nullptr || job->enabled == enabled) return;
  job->enabled = enabled;
  refresh_runnable(*job, true);
}

void Scheduler::change_job(JobId id, std::uint32_t weight_milli, std::uint32_t rate_limit_milli, std::int32_t priority,
                           Time now) {
  JobEntry* job = find(id);
  if (job == nullptr) return;
  order_.change(id, weight_milli, priority);
  refill(*job, now);
  job->spec.weight_milli = weight_milli;
  job->spec.priority = priority;
  if (job->spec.rate_limit_milli == rate_limit_milli) return;
  job->spec.rate_limit_milli = rate_limit_milli;
  if (job->limited) limited_.erase({job->limited_until, id});
  job->limited = false;
  refresh_runnable(*job, true);
}

void Scheduler::refresh_runnable(JobEntry& job, bool arrives) {
  order_.set_runnable(job.spec.id, job.enabled && !job.limited && job.has_work(), arrives);
}

// ---- rate limits ------------------------------------------------------------------------------------------------------

void Scheduler::refill(JobEntry& job, Time now) {
  if (now <= job.refilled) return;
  const auto elapsed_us = static_cast<std::uint64_t>((now - job.refilled).count());
  job.refilled = now;
  const Wide burst = static_cast<Wide>(job.spec.rate_limit_milli) * kBurstMs * 1000U;
  const Wide most = std::max(static_cast<Wide>(job.spec.batch) * kNano, burst);
  const Wide tokens = job.tokens_nano + static_cast<Wide>(elapsed_us) * job.spec.rate_limit_milli;
  job.tokens_nano = static_cast<std::uint64_t>(std::min(tokens, most));
}

void Scheduler::release_limited(Time now) {
  while (!limited_.empty() && limited_.begin()->first <= now) {
    JobEntry& job = *jobs_.at(limited_.begin()->second);
    limited_.erase(limited_.begin());
    job.limited = false;
    refresh_runnable(job, true);
  }
}

Time Scheduler::wake_at() const { return limited_.empty() ? kNever : limited_.begin()->first; }

// ---- nodes ------------------------------------------------------------------------------------------------------------

void Scheduler::add_node(NodeId id, std::uint32_t slots) {
  remove_node(id);
  if (slots == 0) return;
  auto node = std::make_unique<NodeEntry>();
  node->id = id;
  node->slots = slots;
  node->credit = credit_for(slots, 0, config_.lease_horizon);
  NodeEntry& entry = *node;
  nodes_.emplace(id, std::move(node));
  for (auto& [job_id, job] : jobs_) job->room.insert(id);
  refresh_free(entry);
}

std::size_t Scheduler::remove_node(NodeId id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return 0;
  std::size_t count = 0;
  for (auto& [job_id, job] : jobs_) {
    if (!job->held.contains(id)) continue;
    std::vector<BatchIndex> batches;
    for (const auto& [batch, out] : job->out) {
      if (out.node == id) batches.push_back(batch);
    }
    count += batches.size();
    for (const BatchIndex batch : batches) redo(*job, batch, id, LeaseLoss::node_lost);
    refresh_runnable(*job, false);
  }
  if (found->second->listed) free_.erase(found->second->key);
  nodes_.erase(found);
  for (auto& [job_id, job] : jobs_) {
    job->room.erase(id);
    job->local.erase(id);
  }
  return count;
}

void Scheduler::set_open(NodeId id, bool open) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return;
  found->second->open = open;
  refresh_free(*found->second);
}

void Scheduler::batch_time(NodeId id, std::uint32_t mean_us) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || mean_us == 0) return;
  NodeEntry& node = *found->second;
  node.measured = true;
  node.mean_us = mean_us;
  node.credit = credit_for(node.slots, mean_us, config_.lease_horizon);
  refresh_free(node);
}

void Scheduler::refresh_free(NodeEntry& node) {
  if (node.listed) free_.erase(node.key);
  if (node.leased >= node.credit) {
    node.refilling = false;
  } else if (node.credit - node.leased >= std::max(node.credit / kRefillPart, 1U)) {
    node.refilling = true;
  }
  node.listed = node.open && node.refilling;
  if (!node.listed) return;
  const std::int64_t free_per_mille = (std::int64_t{node.credit} - node.leased) * 1000 / node.slots;
  node.key = FreeKey{-free_per_mille, node.turn, node.id};
  free_.insert(node.key);
}

/// What commits tell of batch times: everything until the node itself says it, then only that batches have become longer (the
/// engine's time is a lower bound), because a queue that is too deep is worse than one that is too short.
static std::uint32_t smoothed(std::uint32_t mean_us, std::uint64_t sample_us) {
  const std::uint64_t sample = std::clamp<std::uint64_t>(sample_us, 1, 0x7FFFFFFF);
  if (mean_us == 0) return static_cast<std::uint32_t>(sample);
  return static_cast<std::uint32_t>(
      std::max<std::uint64_t>(1, (std::uint64_t{mean_us} * (kSmoothing - 1) + sample) / kSmoothing));
}

bool Scheduler::committed(const BatchCommit& commit) {
  JobEntry* job = find(commit.job);
  if (job == nullptr || commit.batch >= job->batches || job->committed[commit.batch]) return false;
  job->committed[commit.batch] = true;
  job->trouble.erase(commit.batch);
  job->skip_committed();
  const std::uint32_t queries = job->queries_of(commit.batch);
  if (const auto out = job->out.find(commit.batch); out != job->out.end()) {
    const NodeId holder = out->second.node;
    job->out.erase(out);
    order_.served(commit.job, queries);
    give_back_to_node(*job, holder);
  } else {
    job->to_redo.erase(commit.batch);
    order_.served_unleased(commit.job, queries);
  }
  refresh_runnable(*job, false);
  if (const auto found = nodes_.find(commit.node); found != nodes_.end()) {
    NodeEntry& node = *found->second;
    const std::uint64_t sample = node.measured ? commit.infer_us : commit.duration_us;
    if (!node.measured || sample > node.mean_us) {
      node.mean_us = smoothed(node.mean_us, sample);
      node.credit = credit_for(node.slots, node.mean_us, config_.lease_horizon);
      refresh_free(node);
    }
  }
  return true;
}

// ---- for reports ------------------------------------------------------------------------------------------------------

std::uint32_t Scheduler::leased_of(JobId job) const {
  const JobEntry* entry = find(job);
  return entry == nullptr ? 0 : static_cast<std::uint32_t>(entry->out.size());
}

std::uint32_t Scheduler::leased_at(NodeId node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? 0 : found->second->leased;
}

std::uint32_t Scheduler::leased_at(NodeId node, JobId job) const {
  const JobEntry* entry = find(job);
  if (entry == nullptr) return 0;
  const auto held = entry->held.find(node);
  return held == entry->held.end() ? 0 : held->second;
}

std::uint32_t Scheduler::credit_of(NodeId node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? 0 : found->second->credit;
}

std::vector<NodeId> Scheduler::nodes_of(JobId job) const {
  std::vector<NodeId> nodes;
  const JobEntry* entry = find(job);
  if (entry == nullptr) return nodes;
  for (const auto& [node, count] : entry->held) nodes.push_back(node);
  return nodes;
}

std::uint64_t Scheduler::retried(JobId job) const {
  const JobEntry* entry = find(job);
  return entry == nullptr ? 0 : entry->retried;
}

bool Scheduler::competes(JobId job) const {
  const JobEntry* entry = find(job);
  return entry != nullptr && entry->enabled && !entry->limited && entry->has_work();
}

}  // namespace idunno

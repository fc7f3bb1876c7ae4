#include "nodes/jobs/scheduler.h"

#include <utility>

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {

__extension__ using Wide = unsigned __int128;

constexpr std::uint64_t kNano = 1'000'000'000;
constexpr std::uint32_t kBurstMs = 250;  // what a rate limit lets through at once after a pause
constexpr std::uint32_t kSmoothing = 8;  // of batch times: one part in so many is new

}  // namespace

Scheduler::Scheduler(SchedulerConfig config) : config_(config), order_(config.policy), random_(config.seed) {
  bounded_ = config.policy == SchedulePolicy::static_split;
}
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
  entry->batches = batches_of(JobShape{spec.queries, spec.batch, spec.repeat}, spec.segments);
  if (spec.repeat == 0) entry->batches = std::min<std::uint64_t>(entry->batches, spec.first_batch + committed.size());
  entry->first = spec.first_batch;
  entry->next = spec.first_batch;
  entry->committed.assign(committed.begin(), committed.end());
  entry->committed.resize(entry->batches - entry->first, false);
  entry->batches_done =
      entry->first + static_cast<std::uint64_t>(std::count(entry->committed.begin(), entry->committed.end(), true));
  entry->skip_taken();
  entry->enabled = enabled;
  entry->tokens_nano = std::uint64_t{spec.batch} * kNano;
  entry->refilled = now;
  entry->shares.resize(indices_end_);
  JobEntry& job = *entry;
  jobs_.emplace(spec.id, std::move(entry));
  order_.add(spec.id, spec.weight_milli, spec.priority, spec.urgent);
  for (const auto& [id, node] : nodes_) may_miss_choice(id);
  reserve_again_ = true;
  refresh_runnable(job, false);
  news(now);
}

void Scheduler::remove_job(JobId id) {
  JobEntry* job = find(id);
  if (job == nullptr) return;
  for (const auto& [batch, out] : job->out) {
    for (const JobEntry::Holder& holder : out.holders) nodes_.at(holder.node)->redo -= holder.redo ? 1 : 0;
  }
  for (const auto& [node_id, entry] : nodes_) {
    NodeEntry& node = *entry;
    if (held_at(*job, node) == 0) continue;
    node.leased -= held_at(*job, node);
    std::erase_if(node.runs, [id](const auto& run) { return run.first.job == id; });
    if (node.kept_for == id) node.kept_for = JobId{};
    refresh_free(node);
  }
  reserve_again_ = true;
  if (job->limited) limited_.erase({job->limited_until, id});
  redoing_.erase(id);
  order_.remove(id);
  jobs_.erase(id);
}

void Scheduler::set_window(JobId id, std::uint64_t first, std::uint64_t end) {
  JobEntry* job = find(id);
  if (job == nullptr) return;
  for (; job->first < first && !job->committed.empty(); ++job->first) job->committed.pop_front();
  job->batches = std::max(job->batches, end);
  job->committed.resize(job->batches - job->first, false);
  refresh_runnable(*job, false);
}

void Scheduler::add_segment(JobId id, const JobSegment& segment) {
  JobEntry* job = find(id);
  if (job == nullptr) return;
  const bool idle = !job->has_work();
  if (job->spec.segments.empty()) job->spec.queries = segment.first_query;  // of the job's own manifest
  job->spec.segments.push_back(segment);
  job->batches = batches_of(JobShape{job->spec.queries, job->spec.batch, 1}, job->spec.segments);
  job->committed.resize(job->batches - job->first, false);
  refresh_runnable(*job, idle);
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
  if (job->spec.priority != priority) job->arriving = true;
  news(now);
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
  if (arrives) job.arriving = true;
  if (std::exchange(job.wants_nodes, job.enabled && job.has_work()) != job.wants_nodes) reserve_again_ = true;
  order_.set_runnable(job.spec.id, job.enabled && !job.limited && job.has_work(), arrives);
  if (job.enabled && !job.limited && !job.to_redo.empty()) {
    redoing_.insert(job.spec.id);
  } else {
    redoing_.erase(job.spec.id);
  }
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

Time Scheduler::wake_at() const {
  Time at = limited_.empty() ? kNever : limited_.begin()->first;
  if (config_.policy == SchedulePolicy::static_split && order_.order().size() > 1) at = std::min(at, split_at_);
  if (!waiting_.empty()) at = std::min(at, waiting_.begin()->first);
  return std::min(at, order_at_);
}

/// By its rate limit, from now on.
bool Scheduler::held_back(JobEntry& job, Time now) {
  if (job.spec.rate_limit_milli == 0) return false;
  const std::uint64_t need = std::uint64_t{job.spec.batch} * kNano;
  refill(job, now);
  if (job.tokens_nano >= need) return false;
  const std::uint64_t wait_us = (need - job.tokens_nano + job.spec.rate_limit_milli - 1) / job.spec.rate_limit_milli;
  job.limited = true;
  job.limited_until = now + Duration(static_cast<Duration::rep>(wait_us));
  limited_.emplace(job.limited_until, job.spec.id);
  refresh_runnable(job, true);
  return true;
}

// ---- commits ----------------------------------------------------------------------------------------------------------

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
  if (job == nullptr || commit.batch >= job->batches || job->is_committed(commit.batch)) return false;
  job->committed[commit.batch - job->first] = true;
  ++job->batches_done;
  job->trouble.erase(commit.batch);
  const std::uint32_t queries = job->queries_of(commit.batch);
  const bool arrived = std::exchange(job->arriving, false);
  job->split_served += queries;
  news_ = true;
  if (const auto out = job->out.find(commit.batch); out != job->out.end()) {
    const std::vector<JobEntry::Holder> holders = std::move(out->second.holders);
    job->out.erase(out);
    order_.served(commit.job, queries);
    for (const JobEntry::Holder& holder : holders) {
      end_run(*job, *nodes_.at(holder.node), {commit.job, commit.batch, holder.attempt});
      give_back_to_node(*job, holder.node, holder.redo);
    }
  } else if (job->to_redo.erase(commit.batch) > 0) {
    order_.served_unleased(commit.job, queries);
  }  // else it is from before a failover, and its job has no claim or debt from there
  if (note_took(*job, commit) && arrived) job->settles = true;
  job->skip_taken();
  refresh_runnable(*job, false);
  if (const auto found = nodes_.find(commit.node); found != nodes_.end()) {
    NodeEntry& node = *found->second;
    const std::uint64_t sample = node.measured ? commit.infer_us : commit.duration_us;
    if (!node.measured || sample > node.mean_us) set_batch_time(node, smoothed(node.mean_us, sample));
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
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? 0 : held_at(*entry, *found->second);
}

std::uint32_t Scheduler::credit_of(NodeId node) const {
  const auto found = nodes_.find(node);
  return found == nodes_.end() ? 0 : found->second->credit;
}

std::vector<NodeId> Scheduler::nodes_of(JobId job) const {
  std::vector<NodeId> nodes;
  const JobEntry* entry = find(job);
  if (entry == nullptr) return nodes;
  for (const auto& [id, node] : nodes_) {
    if (held_at(*entry, *node) > 0) nodes.push_back(id);
  }
  return nodes;
}

std::uint64_t Scheduler::retried(JobId job) const {
  const JobEntry* entry = find(job);
  return entry == nullptr ? 0 : entry->retried;
}

std::uint64_t Scheduler::hedged(JobId job) const {
  const JobEntry* entry = find(job);
  return entry == nullptr ? 0 : entry->hedged;
}

bool Scheduler::rate_limited(JobId job) const {
  const JobEntry* entry = find(job);
  return entry != nullptr && entry->limited;
}

std::uint32_t Scheduler::nodes_kept_from(JobId job) const {
  if (config_.policy == SchedulePolicy::static_split) return 0;  // there all nodes belong to somebody
  return static_cast<std::uint32_t>(std::count_if(
      nodes_.begin(), nodes_.end(), [job](const auto& node) { return node.second->kept_for && node.second->kept_for != job; }));
}

bool Scheduler::competes(JobId job) const {
  const JobEntry* entry = find(job);
  if (entry == nullptr || !entry->enabled || entry->limited || !entry->has_work()) return false;
  const bool at_most =
      entry->spec.nodes_max > 0 && entry->holders >= entry->spec.nodes_max && nodes_.size() > entry->spec.nodes_max;
  return !at_most && entry->reserved == 0;
}

}  // namespace idunno

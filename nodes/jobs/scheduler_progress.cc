// What is in work, and the order that nodes are told (bus/messages.h, JobOrder).

#include <utility>

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {

constexpr std::uint64_t kWhole = 1000;       // thousandths of a batch
constexpr std::uint64_t kAlmost = 980;       // of one that takes longer than expected
constexpr std::uint32_t kSmoothing = 8;      // of batch times: one part in so many is new
constexpr std::uint32_t kNodeSmoothing = 4;  // likewise of those on one node
constexpr std::uint64_t kUnknownUs = 1'000'000;

std::uint32_t average(std::uint32_t mean, std::uint64_t sample, std::uint32_t smoothing) {
  const std::uint64_t bounded = std::clamp<std::uint64_t>(sample, 1, INT32_MAX);
  if (mean == 0) return static_cast<std::uint32_t>(bounded);
  return static_cast<std::uint32_t>(std::max<std::uint64_t>((std::uint64_t{mean} * (smoothing - 1) + bounded) / smoothing, 1));
}

}  // namespace

// ---- what is in work --------------------------------------------------------------------------------------------------

std::uint64_t Scheduler::Run::done_milli(Time at) const {
  if (ended) return kWhole;
  if (loading) return 0;
  const auto elapsed_us = static_cast<std::uint64_t>(std::max<Duration::rep>((at - since).count(), 0));
  if (by_processor()) {
    const auto since_told = static_cast<std::uint64_t>(std::max<Duration::rep>((at - told).count(), 0));
    return std::min((cpu_us + since_told * pace_milli / 1000) * kWhole / expected_cpu_us, kAlmost);
  }
  const std::uint64_t expected = expected_us != 0 ? expected_us : std::max(kUnknownUs, 2 * elapsed_us);
  return std::min(elapsed_us * kWhole / expected, kAlmost);
}

double Scheduler::Run::done(Time at) const { return static_cast<double>(done_milli(at)) / static_cast<double>(kWhole); }

double Scheduler::Run::part_per_us() const {
  if (by_processor()) return static_cast<double>(pace_milli) / 1000 / static_cast<double>(expected_cpu_us);
  return 1 / static_cast<double>(expected_us != 0 ? expected_us : kUnknownUs);
}

/// Of the last span that was told, halved into what was known: the kernel hands out a processor in slices.
void Scheduler::note_pace(Run& run, const RunningBatch& told, Time now) {
  if (told.cpu_us <= run.cpu_us) return;
  if (told.elapsed_ms <= run.told_elapsed_ms) return;
  const std::uint64_t elapsed_ms = told.elapsed_ms - run.told_elapsed_ms;
  const std::uint64_t pace = std::min<std::uint64_t>((told.cpu_us - run.cpu_us) / elapsed_ms, 1000);
  run.pace_milli =
      static_cast<std::uint32_t>(std::max<std::uint64_t>(run.pace_milli == 0 ? pace : (run.pace_milli + pace) / 2, 1));
  run.cpu_us = told.cpu_us;
  run.told_elapsed_ms = told.elapsed_ms;
  run.told = now;
}

void Scheduler::progress(NodeId id, const std::vector<RunningBatch>& running, Time now) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return;
  NodeEntry& node = *found->second;
  std::set<LeaseKey> named;
  for (const RunningBatch& batch : running) named.insert(batch.lease);
  for (auto& [lease, run] : node.runs) {
    if (run.ended || named.contains(lease)) continue;
    run.ended = true;
    news(now);
  }
  for (const RunningBatch& told : running) {
    const LeaseKey& lease = told.lease;
    if (const auto known = node.runs.find(lease); known != node.runs.end()) {
      if (known->second.ended) continue;
      if (std::exchange(known->second.loading, told.loading) && !told.loading) {
        known->second.since = known->second.told = now;  // what it is to take begins here
        known->second.told_elapsed_ms = told.elapsed_ms;
        news(now);
      }
      if (told.cpu_us == known->second.cpu_us) continue;
      note_pace(known->second, told, now);
      news(now);
      continue;
    }
    JobEntry* job = find(lease.job);
    if (job == nullptr) continue;
    const auto out = job->out.find(lease.batch);
    if (out == job->out.end()) continue;
    const auto holder =
        std::find_if(out->second.holders.begin(), out->second.holders.end(),
                     [&, attempt = lease.attempt](const auto& one) { return one.node == id && one.attempt == attempt; });
    if (holder == out->second.holders.end()) continue;
    Run run;
    run.since = now - std::chrono::milliseconds(told.elapsed_ms);
    const JobEntry::Share& here = job->shares[node.index];
    run.expected_us = here.took_us != 0 ? here.took_us : job->took_us;
    run.expected_cpu_us = here.cpu_us != 0 ? here.cpu_us : job->cpu_us;
    run.told = run.since;
    run.loading = told.loading;
    // Until its node tells more: as others of the job did.
    if (run.expected_us != 0)
      run.pace_milli = static_cast<std::uint32_t>(std::min<std::uint64_t>(run.expected_cpu_us * 1000 / run.expected_us, 1000));
    note_pace(run, told, now);
    run.second = holder != out->second.holders.begin();
    if (holder->adopted && !run.second) {  // what was computed before this coordinator counted
      const std::uint64_t cost = order_.cost(lease.job, job->queries_of(lease.batch));
      order_.shift(lease.job, -static_cast<std::int64_t>(cost * run.done_milli(now) / kWhole));
    }
    node.runs.emplace(lease, run);
    ++job->shares[node.index].begun;
    ++job->runs;
    refresh_room(*job, node);
    may_miss_choice(id);
    news(now);
  }
}

/// The lease is over, whatever came of it.
void Scheduler::end_run(JobEntry& job, NodeEntry& node, const LeaseKey& lease) {
  if (node.runs.erase(lease) == 0) return;
  std::uint32_t& begun = job.shares[node.index].begun;
  ASSERT(begun > 0);
  --begun;
  --job.runs;
}

/// True: what its batches take has become known only now, and some of them run.
bool Scheduler::note_took(JobEntry& job, const BatchCommit& commit) {
  const std::uint64_t computed = commit.duration_us - std::min(commit.duration_us, commit.store_us);
  const std::uint64_t took = computed - std::min(computed, commit.load_us);  // loading a model is no part of the next batch
  const bool news = job.took_us == 0 || (job.cpu_us == 0 && commit.cpu_us != 0);
  job.took_us = average(job.took_us, took, kSmoothing);
  if (commit.cpu_us != 0) job.cpu_us = average(job.cpu_us, commit.cpu_us, kSmoothing);
  if (const auto node = nodes_.find(commit.node); node != nodes_.end()) {
    JobEntry::Share& here = job.shares[node->second->index];
    here.took_us = average(here.took_us, took, kNodeSmoothing);
    if (commit.cpu_us != 0) here.cpu_us = average(here.cpu_us, commit.cpu_us, kNodeSmoothing);
  }
  return news && expect_more(job);
}

/// Its batches that began when nobody knew what they take.
bool Scheduler::expect_more(const JobEntry& job) {
  bool any = false;
  for (auto& [id, node] : nodes_) {
    if (job.shares[node->index].begun == 0) continue;
    for (auto& [lease, run] : node->runs) {
      if (lease.job != job.spec.id) continue;
      any = any || run.expected_us == 0;
      if (run.expected_us == 0) run.expected_us = job.took_us;
      if (run.expected_cpu_us == 0) run.expected_cpu_us = job.cpu_us;
    }
  }
  return any;
}

/// So many leases of a job that are not begun are to wait at a node.
std::uint32_t Scheduler::waiting_wanted(const JobEntry& job, const NodeEntry& node) const {
  const std::uint32_t took_here_us = job.shares[node.index].took_us;
  const std::uint32_t took_us = took_here_us != 0 ? took_here_us : job.took_us;
  if (took_us == 0) return node.slots;
  return node.slots * static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
                          static_cast<std::uint64_t>(kChoiceTime.count()) / took_us, 1, kChoiceBatchesMax));
}

void Scheduler::refresh_room(JobEntry& job, const NodeEntry& node) {
  JobEntry::Share& share = job.shares[node.index];
  share.room = share.held < share.begun + waiting_wanted(job, node);
}

// ---- the order --------------------------------------------------------------------------------------------------------

Duration Scheduler::order_interval() const { return kOrderIntervalMin * (1 + nodes_.size() / kOrderNodesPerInterval); }

void Scheduler::news(Time now) {
  if (config_.policy != SchedulePolicy::fair_rate || order_.order().size() < 2) return;
  order_at_ = std::min(order_at_, std::max(now, ordered_at_ + order_interval()));
}

/// Batches of milliseconds are fair enough in the order in which they were leased. And in a cluster of so many nodes that each
/// starts several batches between two orders they would all follow the same old one; there the order of the leases is fair by
/// the law of large numbers.
bool Scheduler::order_matters() const {
  if (config_.policy != SchedulePolicy::fair_rate || order_.order().size() < 2 || nodes_.size() > kOrderNodesMax) return false;
  return std::any_of(order_.order().begin(), order_.order().end(), [&](const StrideOrder::Key& key) {
    return jobs_.at(key.job)->took_us >= static_cast<std::uint64_t>(kChoiceBatchMin.count());
  });
}

/// Results, and what is in work as far as it is done.
std::map<JobId, std::uint64_t> Scheduler::levels_now(Time now) const {
  std::map<JobId, std::uint64_t> levels;
  for (const auto& [id, job] : jobs_) {
    if (job->enabled && (job->has_work() || !job->out.empty())) levels[id] = order_.served_pass(id);
  }
  for (const auto& [id, node] : nodes_) {
    for (const auto& [lease, run] : node->runs) {
      const auto level = levels.find(lease.job);
      if (level == levels.end() || run.second) continue;
      const std::uint64_t cost = order_.cost(lease.job, jobs_.at(lease.job)->queries_of(lease.batch));
      level->second += cost * run.done_milli(now) / kWhole;
    }
  }
  return levels;
}

void Scheduler::move_level(JobId job, std::uint64_t& level, std::int64_t passes) {
  order_.shift(job, passes);
  level += static_cast<std::uint64_t>(passes);
}

/// A job that arrives has no claim to the time before its first result, and no debt from it: from its first start until then it
/// is as far as the others are.
void Scheduler::level_new_jobs(std::map<JobId, std::uint64_t>& levels) {
  for (auto& [id, level] : levels) {
    JobEntry& job = *jobs_.at(id);
    if (!job.is_new() || (job.arriving && job.runs == 0)) continue;
    std::optional<std::uint64_t> lowest;
    for (const auto& [other_id, other] : levels) {
      const JobEntry& competitor = *jobs_.at(other_id);
      if (competitor.is_new() || competitor.priority_down() != job.priority_down()) continue;
      lowest = std::min(lowest.value_or(other), other);
    }
    if (lowest) move_level(id, level, static_cast<std::int64_t>(*lowest - level));
    job.settles = false;
  }
}

/// What a job was ahead, or behind, counts up to kDebtRounds rounds of all slots. A job that held all slots when others came
/// would otherwise wait until each of them has done as much: the more have come, the longer. (EEVDF bounds lags for the same
/// reason; Stoica and Abdel-Wahab 1995.)
void Scheduler::bound_debts(std::map<JobId, std::uint64_t>& levels) {
  struct Peers {
    double level = 0;  // from that of the first job
    double jobs = 0;
    double batch_cost = 0;  // the largest
  };
  std::map<std::int64_t, Peers> peers;
  const std::uint64_t first = levels.empty() ? 0 : levels.begin()->second;
  const auto from_first = [first](std::uint64_t level) { return static_cast<double>(static_cast<std::int64_t>(level - first)); };
  const auto counts = [this](JobId id) { return !jobs_.at(id)->is_new() && competes(id); };
  for (const auto& [id, level] : levels) {
    if (!counts(id)) continue;
    const JobEntry& job = *jobs_.at(id);
    Peers& mine = peers[job.priority_down()];
    mine.level += from_first(level);
    mine.jobs += 1;
    mine.batch_cost = std::max(mine.batch_cost, static_cast<double>(order_.cost(id, job.spec.batch)));
  }
  double slots = 0;
  for (const auto& [id, node] : nodes_) slots += node->open ? node->slots : 0;
  for (auto& [id, level] : levels) {
    if (!counts(id)) continue;
    const Peers& mine = peers[jobs_.at(id)->priority_down()];
    const double lead = from_first(level) - mine.level / mine.jobs;
    const double most = kDebtRounds * std::max(1.0, slots / mine.jobs) * mine.batch_cost;
    if (std::abs(lead) > most) move_level(id, level, static_cast<std::int64_t>(std::clamp(lead, -most, most) - lead));
  }
}

std::vector<std::pair<NodeId, JobOrder>> Scheduler::order_due(Time now) {
  if (std::exchange(news_, false)) news(now);
  if (now < order_at_) return {};
  ordered_at_ = now;
  order_at_ = kNever;
  const bool ordered = std::exchange(ordering_, order_matters());
  if (!ordering_) return {};
  if (!ordered) {
    for (const auto& [id, node] : nodes_) choice_.insert(id);
  }
  order_at_ = now + std::max(kOrderIntervalMax, order_interval());
  std::map<JobId, std::uint64_t> levels = levels_now(now);
  bound_debts(levels);
  level_new_jobs(levels);
  return make_plan(levels, now);
}

}  // namespace idunno

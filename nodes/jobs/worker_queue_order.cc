// Which of the ready batches starts next: what lags behind in the whole cluster, as the coordinator last told it.

#include <algorithm>

#include "nodes/jobs/worker_queue.h"

namespace idunno {

namespace {

constexpr std::size_t kTiesLookedAtMax = 64;
constexpr std::size_t kModelsRememberedMax = 64;  // of a slot
constexpr std::size_t kStartsRememberedMax = 64;
constexpr Duration kOrderDelay = std::chrono::milliseconds(50);  // an order may have been made before it knew of younger starts
constexpr std::uint32_t kWatchedBatchUs = 100'000;
constexpr std::uint32_t kOwnProcessorMilli = 900;
constexpr Duration kSharedFor =
    std::chrono::seconds(1);                // an executor that has a processor for itself for a moment still shares it
constexpr std::int64_t kRateSmoothing = 8;  // one part in so many is new
constexpr Duration kThrottleOrderAgeMax = std::chrono::milliseconds(300);  // without news nobody is held back

}  // namespace

// -- the order ----------------------------------------------------------------------------------------------------------

void WorkerQueue::ordered(const JobOrder& order, Time now) {
  now_ = std::max(now_, now);
  measure_pass_rate(order);
  order_.clear();
  for (const JobPass& job : order.jobs) {
    if (order_.size() >= kJobsOrderedMax) break;
    order_[job.job] = Standing{job.pass, job.per_query, job.pass, job.lead_ms, job.lead_per_cpu_milli, job.executors};
  }
  ordered_at_ = now_;
  for (const LeaseKey& key : computing_) held_.at(key).lead_counts_from_here();
  next_ = order.next;
  if (next_.size() > kStartsPlannedMax) next_.resize(kStartsPlannedMax);
  while (!recent_starts_.empty() && recent_starts_.front().at + kOrderDelay < now_) recent_starts_.pop_front();
  for (const RecentStart& start : recent_starts_) {
    if (const auto job = order_.find(start.job); job != order_.end()) job->second.pass += job->second.per_query * start.queries;
  }
}

/// How fast the jobs that are in both orders go on, on average: what a lag in time is in passes.
void WorkerQueue::measure_pass_rate(const JobOrder& order) {
  const std::int64_t elapsed_ms = (now_ - ordered_at_).count() / 1000;
  if (elapsed_ms <= 0 || now_ - ordered_at_ > kJobOrderAgeMax) return;
  std::int64_t advance = 0;
  std::int64_t jobs = 0;
  for (const JobPass& job : order.jobs) {
    const auto before = order_.find(job.job);
    if (before == order_.end()) continue;
    advance += static_cast<std::int64_t>(job.pass - before->second.told);
    ++jobs;
  }
  if (jobs == 0) return;
  const std::int64_t per_s = std::max<std::int64_t>(advance, 0) / jobs * 1000 / elapsed_ms;
  pass_per_s_ = pass_per_s_ == 0 ? per_s : pass_per_s_ + (per_s - pass_per_s_) / kRateSmoothing;
}

bool WorkerQueue::has_order() const { return !order_.empty() && now_ - ordered_at_ <= kJobOrderAgeMax; }

/// Where the job would stand if this batch started, but for half of the batch: so the job that is chosen ends up as near to the
/// others as can be, whether batches are small or large.
std::uint64_t WorkerQueue::standing(const Lease& lease) const {
  const auto job = order_.find(lease.job);
  if (job == order_.end()) return lease.pass;  // so new that no order names it yet
  return job->second.pass + job->second.per_query * lease.queries / 2;
}

void WorkerQueue::note_start(const Slot& slot, const Lease& lease) {
  if (const auto planned = planned_for(slot); planned != next_.end()) next_.erase(planned);
  const auto job = order_.find(lease.job);
  if (job == order_.end()) return;
  job->second.pass += job->second.per_query * lease.queries;
  if (recent_starts_.size() >= kStartsRememberedMax) recent_starts_.pop_front();
  recent_starts_.push_back({now_, lease.job, lease.queries});
}

// -- shares of a processor ----------------------------------------------------------------------------------------------

/// Also what is stopped, however short other batches have become: only a look lets it go on.
bool WorkerQueue::computes_long() const {
  const auto stopped = [this](const LeaseKey& key) { return held_.at(key).throttle.stopped(); };
  return !computing_.empty() && (mean_batch_us_ >= kWatchedBatchUs || std::ranges::any_of(computing_, stopped));
}

bool WorkerQueue::shares_processors() const { return !computing_.empty() && shared_at_ && now_ - *shared_at_ <= kSharedFor; }

/// As told, and what has come to it since: orders come late, and an executor that happens to have a processor for itself is far
/// ahead before the next one. The job's other executors are taken to go on at the common pace.
std::int64_t WorkerQueue::lead_us_of(const Standing& standing, const Held& held) {
  std::int64_t lead_us = std::int64_t{standing.lead_ms} * 1000;
  if (held.loading) return lead_us;
  return lead_us + gained_us(standing, held.work.cpu_us() - held.lead_from_cpu_us, held.work.sampled_at() - held.lead_from);
}

/// What the lead of a job grows by when one of its executors has had so much of a processor in that time.
std::int64_t WorkerQueue::gained_us(const Standing& standing, std::uint64_t cpu_us, Duration passed) {
  if (standing.lead_per_cpu_milli == 0) return 0;
  const double worked_us = static_cast<double>(cpu_us) * standing.lead_per_cpu_milli / 1000;
  return static_cast<std::int64_t>(worked_us - static_cast<double>(passed.count()) / std::max(standing.executors, 1U));
}

ExecutorShare WorkerQueue::executor_share(std::uint32_t slot, Time now) const {
  if (order_.empty() || now - ordered_at_ > kJobOrderAgeMax) return {kExecutorNice, false};
  for (const LeaseKey& key : computing_) {
    const Held& held = held_.at(key);
    if (held.slot != slot) continue;
    const auto job = order_.find(key.job);
    if (jobs_.at(key.job).urgent) return {kExecutorNiceMin, false};
    if (job == order_.end()) break;
    const std::int64_t nice = kExecutorNice + lead_us_of(job->second, held) / kNiceStep.count();
    return {static_cast<int>(std::clamp<std::int64_t>(nice, kExecutorNiceMin, kExecutorNiceMax)),
            held.throttle.stopped() && now - ordered_at_ <= kThrottleOrderAgeMax};
  }
  return {kExecutorNice, false};
}

void WorkerQueue::executor_time(std::uint32_t slot, std::uint64_t cpu_us, ProcessorLoad load, Time now) {
  now_ = std::max(now_, now);
  for (const LeaseKey& key : computing_) {
    Held& held = held_.at(key);
    if (held.slot != slot) continue;
    if (cpu_us == 0) {
      held.throttle.reset();
      continue;
    }
    const Time from = held.work.sampled_at();
    const std::uint64_t from_cpu_us = held.work.cpu_us();
    held.work.sample(now, cpu_us);
    if (held.work.computed() && held.work.pace_milli() < kOwnProcessorMilli) shared_at_ = now_;
    const auto job = order_.find(key.job);
    if (job == order_.end() || held.loading || !shares_processors()) {
      held.throttle.reset();
      continue;
    }
    const std::int64_t gained = gained_us(job->second, held.work.cpu_us() - from_cpu_us, held.work.sampled_at() - from);
    held.throttle.look(Duration(lead_us_of(job->second, held)), Duration(gained), load, now);
  }
}

// -- which models are loaded --------------------------------------------------------------------------------------------

/// How many other models the slot has computed since it last computed this one.
std::size_t WorkerQueue::models_since(const Slot& slot, const std::string& model) {
  const auto found = std::ranges::find(slot.models, model);
  return found == slot.models.end() ? kNeverLoaded : static_cast<std::size_t>(found - slot.models.begin());
}

bool WorkerQueue::is_loaded(const Slot& slot, const std::string& model) const { return models_since(slot, model) < models_fit_; }

void WorkerQueue::note_model(Slot& slot, const std::string& model) {
  if (!slot.models.empty() && slot.models.front() == model) return;
  const auto found = std::ranges::find(slot.models, model);
  if (found != slot.models.end()) slot.models.erase(found);
  slot.models.insert(slot.models.begin(), model);
  if (slot.models.size() > kModelsRememberedMax) slot.models.pop_back();
}

/// How many models an executor keeps is seen from what it had to load again.
void WorkerQueue::learn_models_fit(std::size_t since, bool loaded_again) {
  if (since == kNeverLoaded) return;
  if (loaded_again) {
    models_fit_ = std::min(models_fit_, std::max<std::size_t>(since, 1));
  } else if (models_fit_ != kNeverLoaded && since >= models_fit_) {
    models_fit_ = since + 1;
  }
}

// -- the choice ---------------------------------------------------------------------------------------------------------

std::optional<std::uint32_t> WorkerQueue::emptiest_slot(const JobInfo& job) const {
  std::optional<std::uint32_t> emptiest;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    if (!has_room(slots_[i], job)) continue;
    if (!emptiest || slots_[i].batches < slots_[*emptiest].batches) emptiest = i;
  }
  return emptiest;
}

std::vector<PlannedStart>::const_iterator WorkerQueue::planned_for(const Slot& slot) const {
  const auto planned = std::ranges::find(next_, slot.last, &PlannedStart::after);
  return planned != next_.end() ? planned : std::ranges::find(next_, LeaseKey{}, &PlannedStart::after);
}

/// A slot that is empty, and the job it is to start.
std::optional<std::pair<std::uint32_t, JobId>> WorkerQueue::planned_start() const {
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].batches != 0) continue;
    if (const auto planned = planned_for(slots_[i]); planned != next_.end()) return std::pair{i, planned->job};
  }
  return std::nullopt;
}

/// When the batch that is chosen fits nowhere nothing else starts, or short batches of others would keep the slots from ever
/// becoming empty.
std::optional<std::pair<std::uint32_t, WorkerQueue::Rank>> WorkerQueue::choose_start() const {
  if (ready_.empty()) return std::nullopt;
  return has_order() && ready_of_.size() > 1 ? choose_by_order() : choose_by_rank();
}

std::optional<std::pair<std::uint32_t, WorkerQueue::Rank>> WorkerQueue::choose_by_order() const {
  std::vector<Candidate> candidates;  // one for each job: its first batch
  const std::int64_t urgency = ready_.begin()->urgency;
  std::size_t best = 0;
  for (const auto& [id, ready] : ready_of_) {
    if (ready.begin()->first != urgency) continue;
    const Lease& lease = held_.at(ready.begin()->second).lease;
    candidates.push_back({standing(lease), &lease, &jobs_.at(id)});
    if (candidates.back().standing < candidates[best].standing) best = candidates.size() - 1;
  }
  std::optional<std::uint32_t> slot;
  if (const auto planned = planned_start()) {
    const auto ready = std::ranges::find(candidates, planned->second, [](const Candidate& one) { return one.lease->job; });
    if (ready != candidates.end()) {
      best = static_cast<std::size_t>(ready - candidates.begin());
      slot = planned->first;
    }
  }
  if (!slot) slot = emptiest_slot(*candidates[best].job);
  if (!slot) return std::nullopt;
  // Loading a model again takes time from everybody, so a job that lags less than reload_lag waits for a slot that has it.
  if (models_fit_ != kNeverLoaded && !is_loaded(slots_[*slot], candidates[best].job->model)) {
    if (const auto loaded = choose_loaded(candidates, candidates[best].standing, slots_[*slot].batches)) return loaded;
  }
  return std::pair{*slot, rank_of(*candidates[best].lease)};
}

/// The one of those that lag less than reload_lag behind `lowest` whose model a slot with so many batches has loaded.
std::optional<std::pair<std::uint32_t, WorkerQueue::Rank>> WorkerQueue::choose_loaded(const std::vector<Candidate>& candidates,
                                                                                      std::uint64_t lowest,
                                                                                      std::size_t batches) const {
  const std::uint64_t bound = lowest + static_cast<std::uint64_t>(reload_lag_ms_ * pass_per_s_ / 1000);
  std::optional<std::pair<std::uint32_t, Rank>> chosen;
  std::uint64_t standing = 0;
  for (const Candidate& candidate : candidates) {
    if (candidate.standing > bound || (chosen && candidate.standing >= standing)) continue;
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].batches != batches || !is_loaded(slots_[i], candidate.job->model) || !has_room(slots_[i], *candidate.job))
        continue;
      chosen = std::pair{i, rank_of(*candidate.lease)};
      standing = candidate.standing;
      break;
    }
  }
  return chosen;
}

/// The order of the leases themselves. Among those that rank the same, one whose model a slot has just computed goes first.
std::optional<std::pair<std::uint32_t, WorkerQueue::Rank>> WorkerQueue::choose_by_rank() const {
  const Rank& first = *ready_.begin();
  const auto emptiest = emptiest_slot(jobs_.at(first.key.job));
  if (!emptiest) return std::nullopt;
  const std::size_t batches = slots_[*emptiest].batches;
  std::size_t looked_at = 0;
  for (auto at = ready_.begin(); at != ready_.end() && looked_at < kTiesLookedAtMax; ++at, ++looked_at) {
    if (at->urgency != first.urgency || at->pass != first.pass) break;
    const JobInfo& candidate = jobs_.at(at->key.job);
    for (std::uint32_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].batches == batches && slots_[i].model == candidate.model && has_room(slots_[i], candidate))
        return std::pair{i, *at};
    }
  }
  return std::pair{*emptiest, first};
}

}  // namespace idunno

#include "nodes/jobs/worker_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "bus/base/assert.h"

namespace idunno {
namespace {

constexpr std::size_t kTiesLookedAtMax = 64;

/// An exponential average with weight 1/8, at least 1 once there is a value.
std::uint32_t average(std::uint32_t mean, std::uint64_t value) {
  const auto bounded = static_cast<std::int64_t>(std::clamp<std::uint64_t>(value, 1, std::numeric_limits<std::uint32_t>::max()));
  if (mean == 0) return static_cast<std::uint32_t>(bounded);
  return static_cast<std::uint32_t>(std::max<std::int64_t>(1, mean + (bounded - mean) / 8));
}

std::uint64_t micros(Duration duration) { return duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0; }

}  // namespace

WorkerQueue::WorkerQueue(std::uint32_t slots, std::uint64_t input_bytes_max, Duration pipeline)
    : input_bytes_max_(input_bytes_max), pipeline_us_(micros(pipeline)), slots_(slots) {
  ASSERT(slots >= 1);
}

// -- leases come and go -----------------------------------------------------------------------------------------------

void WorkerQueue::new_session(Epoch epoch, WorkerOutput& out) {
  epoch_ = epoch;
  ++session_;
  lost_.clear();
  for (auto at = held_.begin(); at != held_.end();) {
    const Stage stage = at->second.stage;
    if (stage == Stage::queued || stage == Stage::fetching || stage == Stage::ready) {
      at = end(at, out);
      continue;
    }
    if (stage == Stage::offered) out.offer.push_back(at->second.commit);
    ++at;
  }
  // The end of a job may have been told while nobody listened. What was not described in the whole last session is not waited
  // for.
  std::vector<JobId> stale;
  for (const auto& [id, job] : jobs_) {
    if (job.leases == 0 && job.session + 1 < session_) stale.push_back(id);
  }
  for (const JobId id : stale) forget_job(id, out);
}

void WorkerQueue::granted(const LeaseGrant& grant, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  for (const JobDescription& description : grant.descriptions) {
    JobInfo& job = jobs_[description.job];
    job.description = description;
    job.model = fmt::format("{}:{}", description.model.name, description.model.version);
    job.session = session_;
    job.over = false;
  }
  for (const Lease& lease : grant.leases) add(lease, out);
  go_on(out);
}

void WorkerQueue::add(const Lease& lease, WorkerOutput& out) {
  const LeaseKey key = key_of(lease);
  if (const auto same = held_.find(key); same != held_.end()) {
    // Leased again by a coordinator that did not know of it: what is there already goes on, and is wanted.
    same->second.unwanted = false;
    return;
  }
  const auto job = jobs_.find(lease.job);
  if (job == jobs_.end() || job->second.over) {
    return fail(lease, BatchFailure::input_missing,
                fmt::format("lease of {}: this worker has no description of the job", batch_name(lease.job, lease.batch)), out);
  }
  if (held_.size() >= kLeasesHeldMax) {
    return fail(lease, BatchFailure::returned,
                fmt::format("lease of {}: this worker holds {} leases and takes no more", batch_name(lease.job, lease.batch),
                            held_.size()),
                out);
  }
  Held held;
  held.lease = lease;
  held_.emplace(key, std::move(held));
  queued_.insert(rank_of(lease));
  ++job->second.leases;
}

void WorkerQueue::dropped(const LeaseDrop& drop, WorkerOutput& out) {
  const auto known = jobs_.find(drop.job);
  if (known == jobs_.end()) return;
  for (auto at = held_.lower_bound(LeaseKey{drop.job, 0, 0}); at != held_.end() && at->first.job == drop.job;) {
    Held& held = at->second;
    const bool unstarted = held.stage == Stage::queued || held.stage == Stage::fetching || held.stage == Stage::ready;
    if (unstarted && drop.paused) fail(held.lease, BatchFailure::returned, "the job is paused", out);
    if (unstarted || (held.stage == Stage::offered && !drop.paused)) {
      at = end(at, out);
      continue;
    }
    // An executor cannot be interrupted without costing its other work, so the batch ends and its result is dropped.
    if (!drop.paused) held.unwanted = true;
    ++at;
  }
  if (!drop.paused) {
    known->second.over = true;
    if (known->second.leases == 0) forget_job(drop.job, out);
  }
  go_on(out);
}

void WorkerQueue::fail(const Lease& lease, BatchFailure why, const std::string& detail, WorkerOutput& out) {
  out.failures.push_back(BatchFailed{lease.job, lease.batch, lease.attempt, why, detail});
}

/// Takes the lease out of what its stage keeps of it.
void WorkerQueue::leave_stage(Held& held) {
  switch (held.stage) {
    case Stage::queued:
      queued_.erase(rank_of(held.lease));
      break;
    case Stage::fetching:
      fetching_.erase(rank_of(held.lease));
      fetching_bytes_ -= held.reserved_bytes;
      --jobs_.at(held.lease.job).fetching;
      break;
    case Stage::ready:
      ready_.erase(rank_of(held.lease));
      input_bytes_ -= held.bytes.value_or(0);
      break;
    case Stage::running: {
      Slot& slot = slots_[held.slot];
      --slot.batches;
      slot.expected_us -= held.expected_us;
      --running_;
      break;
    }
    case Stage::storing:
      break;
    case Stage::offered:
      lost_.erase(key_of(held.lease));
      break;
  }
}

WorkerQueue::HeldMap::iterator WorkerQueue::end(HeldMap::iterator at, WorkerOutput& out) {
  leave_stage(at->second);
  out.discard.push_back(at->first);
  const JobId id = at->first.job;
  const auto next = held_.erase(at);
  JobInfo& job = jobs_.at(id);
  --job.leases;
  if (job.over && job.leases == 0) forget_job(id, out);
  return next;
}

void WorkerQueue::forget_job(JobId job, WorkerOutput& out) {
  out.forget_jobs.push_back(job);
  jobs_.erase(job);
}

WorkerQueue::Held* WorkerQueue::find(const LeaseKey& key, Stage stage) {
  const auto found = held_.find(key);
  return found == held_.end() || found->second.stage != stage ? nullptr : &found->second;
}

// -- inputs -----------------------------------------------------------------------------------------------------------

void WorkerQueue::input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::fetching);
  if (held == nullptr) {
    // The lease ended or made room while its inputs were on their way: nobody else would free them. Inputs of a lease that is
    // further on (fetched twice, over two sessions) go when it ends.
    if (!held_.contains(lease) || find(lease, Stage::queued) != nullptr) out.discard.push_back(lease);
    return;
  }
  leave_stage(*held);
  held->bytes = bytes;
  held->stage = Stage::ready;
  ready_.insert(rank_of(held->lease));
  input_bytes_ += bytes;
  JobInfo& job = jobs_.at(lease.job);
  // Rounded up, so that it reaches the size of equal batches.
  job.mean_bytes = job.bytes_known ? job.mean_bytes - job.mean_bytes / 4 + (bytes + 3) / 4 : bytes;
  job.bytes_known = true;
  go_on(out);
}

void WorkerQueue::input_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out) {
  const Held* held = find(lease, Stage::fetching);
  if (held == nullptr) return;
  fail(held->lease, BatchFailure::input_missing, why, out);
  end(held_.find(lease), out);
  go_on(out);
}

std::uint64_t WorkerQueue::expected_bytes(const Held& held) const {
  if (held.bytes) return *held.bytes;
  const JobInfo& job = jobs_.at(held.lease.job);
  return job.bytes_known ? job.mean_bytes : input_bytes_max_ / (4 * slots_.size()) + 1;
}

/// Whether fewer leases than there are slots start before it: its inputs are needed soon, whatever the limit says.
bool WorkerQueue::is_next_up(const Rank& rank) const {
  std::size_t before = 0;
  for (const std::set<Rank>* waiting : {&ready_, &fetching_}) {
    for (auto at = waiting->begin(); at != waiting->end() && *at < rank && before < slots_.size(); ++at) ++before;
  }
  return before < slots_.size();
}

/// Gives up inputs of the leases that start last, until so many bytes fit.
void WorkerQueue::make_room(const Rank& urgent, std::uint64_t bytes, std::set<Rank>& evicted, WorkerOutput& out) {
  while (input_bytes_ + fetching_bytes_ + bytes > input_bytes_max_) {
    if (ready_.empty() || ready_.size() + fetching_.size() < slots_.size()) return;
    const Rank last = *ready_.rbegin();
    if (last < urgent) return;
    Held& held = held_.at(last.key);
    leave_stage(held);
    held.stage = Stage::queued;
    queued_.insert(last);
    evicted.insert(last);
    out.discard.push_back(last.key);
  }
}

void WorkerQueue::fetch_more(WorkerOutput& out) {
  std::set<Rank> evicted;
  while (!queued_.empty() && fetching_.size() < kFetchesInFlightMax) {
    const Rank rank = *queued_.begin();
    if (evicted.contains(rank)) return;
    Held& held = held_.at(rank.key);
    const std::uint64_t bytes = expected_bytes(held);
    JobInfo& job = jobs_.at(rank.key.job);
    // How large the batches of a job are is seen from its first ones, before there are many under way.
    if (!job.bytes_known && job.fetching >= slots_.size()) return;
    if (input_bytes_ + fetching_bytes_ + bytes > input_bytes_max_) {
      // Over the limit only what is needed next, and only as much at once as there are slots.
      if (fetching_.size() >= slots_.size() || !is_next_up(rank)) return;
      make_room(rank, bytes, evicted, out);
    }
    leave_stage(held);
    held.stage = Stage::fetching;
    held.since = now_;
    held.reserved_bytes = bytes;
    fetching_.insert(rank);
    fetching_bytes_ += bytes;
    ++job.fetching;
    out.fetch.push_back(held.lease);
  }
}

// -- running ----------------------------------------------------------------------------------------------------------

void WorkerQueue::go_on(WorkerOutput& out) {
  start_ready(out);
  fetch_more(out);
}

/// An empty slot takes any batch; more only as long as all in it are known to be short.
bool WorkerQueue::has_room(const Slot& slot, const JobInfo& job) const {
  if (slot.batches == 0) return true;
  return slot.batches < kPipelineMax && job.mean_us != 0 && slot.expected_us + job.mean_us <= pipeline_us_;
}

/// The first ready lease goes to an emptiest slot. When it fits nowhere nothing behind it starts, or short batches of others
/// would keep the slots from ever becoming empty. Among leases that rank the same, one whose model a slot has just computed goes
/// first.
std::optional<std::pair<std::uint32_t, WorkerQueue::Rank>> WorkerQueue::choose_start() const {
  if (ready_.empty()) return std::nullopt;
  const Rank& first = *ready_.begin();
  const JobInfo& job = jobs_.at(first.key.job);
  std::optional<std::uint32_t> emptiest;
  for (std::uint32_t i = 0; i < slots_.size(); ++i) {
    if (!has_room(slots_[i], job)) continue;
    if (!emptiest || slots_[i].batches < slots_[*emptiest].batches) emptiest = i;
  }
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

void WorkerQueue::start_ready(WorkerOutput& out) {
  while (const auto choice = choose_start()) {
    const auto& [index, rank] = *choice;
    Held& held = held_.at(rank.key);
    const JobInfo& job = jobs_.at(rank.key.job);
    Slot& slot = slots_[index];
    leave_stage(held);
    held.stage = Stage::running;
    held.slot = index;
    // Of unknown length: nothing is handed over behind it.
    held.expected_us = job.mean_us != 0 ? job.mean_us : pipeline_us_ + 1;
    held.started_at = now_;
    ++slot.batches;
    slot.expected_us += held.expected_us;
    slot.model = job.model;
    ++running_;
    out.start.push_back(WorkerOutput::Start{index, held.lease});
  }
}

void WorkerQueue::started(std::uint32_t slot, const LeaseKey& lease, Time now, WallMs wall) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return;
  held->began = true;
  held->started_at = now;
  held->started_ms = wall;
}

/// Takes the time of a finished batch, and where it was not told when the executor began, takes the end of the batch before it.
void WorkerQueue::measured(Held& held, Time now) {
  Slot& slot = slots_[held.slot];
  if (!held.began) held.started_at = std::max(held.started_at, slot.last_finished);
  slot.last_finished = now;
  if (held.lease.attempt >= kGiveUpAttempt) return;  // not computed, so no measure of the job
  const std::uint64_t took = micros(now - held.started_at);
  mean_batch_us_ = average(mean_batch_us_, took);
  JobInfo& job = jobs_.at(held.lease.job);
  job.mean_us = average(job.mean_us, took);
}

bool WorkerQueue::finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now,
                           WorkerOutput& out) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return false;
  measured(*held, now);
  const bool wanted = !held->unwanted;
  if (wanted) {
    leave_stage(*held);
    held->stage = Stage::storing;
    held->since = now_;
    held->errors = errors;
    held->infer_us = infer_us;
  } else {
    end(held_.find(lease), out);
  }
  go_on(out);
  return wanted;
}

void WorkerQueue::failed(std::uint32_t slot, const LeaseKey& lease, BatchFailure why, const std::string& detail, Time now,
                         WorkerOutput& out) {
  now_ = std::max(now_, now);
  const Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return;
  slots_[slot].last_finished = now;
  if (!held->unwanted) fail(held->lease, why, detail, out);
  end(held_.find(lease), out);
  go_on(out);
}

// -- results ----------------------------------------------------------------------------------------------------------

void WorkerQueue::stored(const LeaseKey& lease, const BlockRef& block, NodeId self, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::storing);
  if (held == nullptr) return;
  if (held->unwanted) {
    end(held_.find(lease), out);
    return;
  }
  held->stage = Stage::offered;
  held->commit = BatchCommit{lease.job,
                             lease.batch,
                             lease.attempt,
                             self,
                             block,
                             held->lease.queries,
                             held->errors,
                             held->started_ms,
                             micros(now - held->started_at),
                             held->infer_us};
  out.offer.push_back(held->commit);
}

void WorkerQueue::store_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out) {
  const Held* held = find(lease, Stage::storing);
  if (held == nullptr) return;
  if (!held->unwanted) fail(held->lease, BatchFailure::not_stored, why, out);
  end(held_.find(lease), out);
}

void WorkerQueue::tick(Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  for (auto at = held_.begin(); at != held_.end();) {
    const Held& held = at->second;
    const bool waits = held.stage == Stage::fetching || held.stage == Stage::storing;
    if (!waits || now_ < held.since + kStageTimeMax) {
      ++at;
      continue;
    }
    const bool fetching = held.stage == Stage::fetching;
    if (!held.unwanted) {
      fail(held.lease, fetching ? BatchFailure::input_missing : BatchFailure::not_stored,
           fmt::format("{} within {} s", fetching ? "its input did not come" : "its result was not stored",
                       std::chrono::duration_cast<std::chrono::seconds>(kStageTimeMax).count()),
           out);
    }
    at = end(at, out);
  }
  go_on(out);
}

void WorkerQueue::offered_answer(const std::vector<LeaseKey>& leases, WorkerOutput& out) {
  for (const LeaseKey& lease : leases) {
    if (find(lease, Stage::offered) != nullptr) end(held_.find(lease), out);
  }
}

void WorkerQueue::offer_lost(const std::vector<LeaseKey>& leases) {
  for (const LeaseKey& lease : leases) {
    if (find(lease, Stage::offered) != nullptr) lost_.insert(lease);
  }
}

const JobDescription* WorkerQueue::description(JobId job) const {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : &found->second.description;
}

}  // namespace idunno

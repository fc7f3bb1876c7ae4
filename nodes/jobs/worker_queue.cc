// Leases come and go, sessions change.

#include "nodes/jobs/worker_queue.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "bus/base/assert.h"

namespace idunno {

WorkerQueue::WorkerQueue(std::uint32_t slots, std::uint64_t input_bytes_max, Duration pipeline, Duration reload_lag)
    : input_bytes_max_(input_bytes_max),
      pipeline_us_(duration_us(pipeline)),
      slots_(slots),
      reload_lag_ms_(static_cast<std::int64_t>(duration_us(reload_lag)) / 1000) {
  ASSERT(slots >= 1);
}

void WorkerQueue::new_session(Epoch epoch, const std::vector<LeaseKey>& dropped, WorkerOutput& out) {
  epoch_ = epoch;
  ++session_;
  for (const LeaseKey& key : dropped) {
    const auto found = held_.find(key);
    if (found == held_.end()) continue;
    Held& held = found->second;
    if (held.stage == Stage::running || held.stage == Stage::storing) held.unwanted = true;
    if (waiting_set(held.stage) != nullptr) end(found, out);
  }
  for (const auto& [key, held] : held_) {
    if (held.stage == Stage::offered) out.offer.push_back(held.commit);
  }
  forget_stale_jobs(out);
  go_on(out);
}

/// The end of a job may have been told while nobody listened. What was not described in the whole last session is not waited for.
void WorkerQueue::forget_stale_jobs(WorkerOutput& out) {
  std::vector<JobId> stale;
  for (const auto& [id, job] : jobs_) {
    if (job.leases == 0 && job.session + 1 < session_) stale.push_back(id);
  }
  for (const JobId id : stale) forget_job(id, out);
}

std::vector<HeldLease> WorkerQueue::held(WorkerOutput& out, std::size_t max) {
  std::vector<HeldLease> named;
  for (const auto& [key, held] : held_) {
    const bool runs = held.stage == Stage::running || held.stage == Stage::storing;
    if (runs && !held.unwanted && named.size() < max) named.push_back({key, HeldStage::running});
  }
  for (const auto& [key, held] : held_) {
    if (held.stage == Stage::offered && named.size() < max) named.push_back({key, HeldStage::finished});
  }
  std::set<Rank> waiting;
  for (const std::set<Rank>* some : {&queued_, &fetching_, &ready_}) waiting.insert(some->begin(), some->end());
  for (const Rank& rank : waiting) {
    if (named.size() < max)
      named.push_back({rank.key, HeldStage::waiting});
    else
      end(held_.find(rank.key), out);
  }
  return named;
}

void WorkerQueue::granted(const LeaseGrant& grant, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  for (const JobDescription& description : grant.descriptions) {
    JobInfo& job = jobs_[description.job];
    if (job.leases == 0) job.urgent = description.spec.urgent;  // the leases are ranked by it
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
    give_again(same->second, lease);
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
  held.arrived = now_;
  held_.emplace(key, std::move(held));
  queued_.insert(rank_of(lease));
  ++job->second.leases;
}

/// Leased again by a coordinator that did not know of it: what is there already goes on, and is wanted. What has not started
/// takes its place in the order, and what is to be computed, from the new lease.
void WorkerQueue::give_again(Held& held, const Lease& lease) {
  held.unwanted = false;
  std::set<Rank>* waiting = waiting_set(held.stage);
  if (waiting == nullptr) return;
  if (held.stage == Stage::ready) {
    remove_ready(held.lease);
    held.lease = lease;
    return add_ready(lease);
  }
  waiting->erase(rank_of(held.lease));
  held.lease = lease;
  waiting->insert(rank_of(lease));
}

void WorkerQueue::add_ready(const Lease& lease) {
  const Rank rank = rank_of(lease);
  ready_.insert(rank);
  ready_of_[lease.job].emplace(rank.urgency, rank.key);
}

void WorkerQueue::remove_ready(const Lease& lease) {
  const Rank rank = rank_of(lease);
  ready_.erase(rank);
  const auto of_job = ready_of_.find(lease.job);
  of_job->second.erase({rank.urgency, rank.key});
  if (of_job->second.empty()) ready_of_.erase(of_job);
}

/// The set that holds leases of this stage; none once they run.
std::set<WorkerQueue::Rank>* WorkerQueue::waiting_set(Stage stage) {
  switch (stage) {
    case Stage::queued:
      return &queued_;
    case Stage::fetching:
      return &fetching_;
    case Stage::ready:
      return &ready_;
    default:
      return nullptr;
  }
}

void WorkerQueue::dropped(const LeaseDrop& drop, WorkerOutput& out) {
  const auto known = jobs_.find(drop.job);
  if (known == jobs_.end()) return;
  for (auto at = held_.lower_bound(LeaseKey{drop.job, 0, 0}); at != held_.end() && at->first.job == drop.job;) {
    Held& held = at->second;
    const bool unstarted = waiting_set(held.stage) != nullptr;
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
      remove_ready(held.lease);
      input_bytes_ -= held.bytes.value_or(0);
      break;
    case Stage::running: {
      Slot& slot = slots_[held.slot];
      --slot.batches;
      slot.last = key_of(held.lease);
      slot.expected_us -= held.expected_us;
      --running_;
      computing_.erase(key_of(held.lease));
      break;
    }
    case Stage::storing:
    case Stage::offered:
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

const JobDescription* WorkerQueue::description(JobId job) const {
  const auto found = jobs_.find(job);
  return found == jobs_.end() ? nullptr : &found->second.description;
}

}  // namespace idunno

// Which slot runs what, and what becomes of the results.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <utility>

#include "nodes/jobs/worker_queue.h"

namespace idunno {
namespace {

/// An exponential average with weight 1/8, at least 1 once there is a value.
std::uint32_t average(std::uint32_t mean, std::uint64_t value) {
  const auto bounded = static_cast<std::int64_t>(std::clamp<std::uint64_t>(value, 1, std::numeric_limits<std::uint32_t>::max()));
  if (mean == 0) return static_cast<std::uint32_t>(bounded);
  return static_cast<std::uint32_t>(std::max<std::int64_t>(1, mean + (bounded - mean) / 8));
}

}  // namespace

void WorkerQueue::go_on(WorkerOutput& out) {
  start_ready(out);
  fetch_more(out);
}

/// An empty slot takes any batch; more only as long as all in it are known to be short.
bool WorkerQueue::has_room(const Slot& slot, const JobInfo& job) const {
  if (slot.batches == 0) return true;
  return slot.batches < kPipelineMax && job.mean_us != 0 && slot.expected_us + job.mean_us <= pipeline_us_;
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
    held.models_since = models_since(slot, job.model);
    note_model(slot, job.model);
    note_start(slot, held.lease);
    ++running_;
    out.start.push_back(WorkerOutput::Start{index, held.lease});
  }
}

void WorkerQueue::started(std::uint32_t slot, const LeaseKey& lease, Time now, WallMs wall, std::uint64_t cpu_us) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return;
  held->began = true;
  computing_.insert(lease);
  held->started_at = now;
  held->started_ms = wall;
  held->work.begin(now, cpu_us);
  held->lead_counts_from_here();
  held->loading = held->models_since >= models_fit_;
}

void WorkerQueue::loaded(std::uint32_t slot, const LeaseKey& lease, Time now, std::uint64_t cpu_us) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return;
  held->loading = false;
  held->work.loaded(now, cpu_us);
  held->lead_counts_from_here();
}

/// Takes the time of a finished batch, and where it was not told when the executor began, takes the end of the batch before it.
void WorkerQueue::measured(Held& held, Time now) {
  Slot& slot = slots_[held.slot];
  if (!held.began) held.started_at = std::max(held.started_at, slot.last_finished);
  slot.last_finished = now;
  // Not computed, or only in part: no measure of the job.
  if (held.lease.attempt >= kGiveUpAttempt || held.lease.is_trial()) return;
  const std::uint64_t took = duration_us(now - held.started_at);
  mean_batch_us_ = average(mean_batch_us_, took);
  JobInfo& job = jobs_.at(held.lease.job);
  job.mean_us = average(job.mean_us, took);
}

bool WorkerQueue::finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now,
                           WorkerOutput& out, std::uint64_t load_us, std::uint64_t cpu_us) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::running);
  if (held == nullptr || held->slot != slot) return false;
  measured(*held, now);
  const bool trial = held->lease.is_trial();
  if (held->lease.attempt < kGiveUpAttempt) learn_models_fit(held->models_since, load_us != 0);
  const bool wanted = !held->unwanted && !trial;
  if (wanted) {
    leave_stage(*held);
    held->stage = Stage::storing;
    held->since = now_;
    held->errors = errors;
    held->infer_us = infer_us;
    held->commit.load_us = load_us;
    if (cpu_us != 0) held->work.sample(now, cpu_us);
    if (held->work.computed()) held->commit.cpu_us = held->work.cpu_us();
  } else {
    if (trial && !held->unwanted) fail(held->lease, BatchFailure::trial_passed, {}, out);
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

std::vector<RunningBatch> WorkerQueue::running_batches(Time now) const {
  std::vector<RunningBatch> batches;
  for (const LeaseKey& key : computing_) {
    const Held& held = held_.at(key);
    if (held.unwanted) continue;
    const std::uint64_t elapsed_ms = duration_us(now - held.started_at) / 1000;
    batches.push_back({key, static_cast<std::uint32_t>(std::min<std::uint64_t>(elapsed_ms, ~std::uint32_t{0})),
                       held.loading ? 0 : held.work.cpu_us(), held.loading});
  }
  std::ranges::stable_sort(batches, std::ranges::greater{}, &RunningBatch::elapsed_ms);
  if (batches.size() > slots_.size()) batches.resize(slots_.size());
  return batches;
}

// -- results ---------------------------------------------------------------------------------------------------------

void WorkerQueue::stored(const LeaseKey& lease, const BlockRef& block, NodeId self, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::storing);
  if (held == nullptr) return;
  if (held->unwanted) {
    end(held_.find(lease), out);
    return;
  }
  held->stage = Stage::offered;
  BatchCommit& commit = held->commit;
  commit.job = lease.job;
  commit.batch = lease.batch;
  commit.attempt = lease.attempt;
  commit.node = self;
  commit.block = block;
  commit.queries = held->lease.queries;
  commit.errors = held->errors;
  commit.started_ms = held->started_ms;
  commit.duration_us = duration_us(now - held->started_at);
  commit.infer_us = held->infer_us;
  commit.quarantined = held->lease.quarantined;
  commit.phase = held->lease.phase;
  commit.fetch_us = duration_us(held->fetched - held->arrived);
  commit.ready_us = duration_us(held->started_at - held->fetched);
  commit.store_us = duration_us(now - held->since);
  commit.done_milli = held->work.done_milli(now - held->started_at);
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

}  // namespace idunno

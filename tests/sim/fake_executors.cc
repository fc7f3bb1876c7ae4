#include "tests/sim/fake_executors.h"

#include <algorithm>

#include "nodes/jobs/worker_queue.h"

namespace idunno::sim {
namespace {

constexpr std::int64_t kStragglerFactor = 10;
constexpr Duration kHangDeadline = std::chrono::seconds(2);  ///< after which the node kills an executor that says nothing
constexpr std::uint32_t kCrashesMax = 2;  ///< of a healthy batch: a third one would make the cluster look for a poison query

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

}  // namespace

void FakeExecutors::start(std::uint32_t slot, const Lease& lease, const std::string& job, std::weak_ptr<Process> life) {
  slots_.at(slot).queue.push_back(Task{lease, job});
  if (!slots_[slot].busy) next(slot, life);
}

void FakeExecutors::cancel(const LeaseKey& lease) {
  for (Slot& slot : slots_) {
    // The first of a busy slot runs: it goes on.
    const auto first = slot.queue.begin() + (slot.busy && !slot.queue.empty() ? 1 : 0);
    slot.queue.erase(std::remove_if(first, slot.queue.end(), [&](const Task& task) { return key_of(task.lease) == lease; }),
                     slot.queue.end());
  }
}

void FakeExecutors::next(std::uint32_t number, const std::weak_ptr<Process>& life) {
  Slot& slot = slots_[number];
  slot.busy = !slot.queue.empty();
  if (!slot.busy) return;
  Duration takes{};
  ExecutorOutcome outcome = compute(number, slot.queue.front(), takes);
  handlers_.started(number, outcome.lease);
  env_.agenda.after(takes, [this, number, life, outcome = std::move(outcome)] {
    if (life.expired()) return;  // executors die with their node
    slots_[number].queue.pop_front();
    handlers_.ended(outcome);
    next(number, life);
  });
}

ExecutorOutcome FakeExecutors::compute(std::uint32_t slot, const Task& task, Duration& takes) {
  const Lease& lease = task.lease;
  JobPlan& plan = truth_.jobs.at(task.job);
  ExecutorOutcome outcome;
  outcome.slot = slot;
  outcome.lease = key_of(lease);
  if (lease.attempt >= kGiveUpAttempt) {
    outcome.rows = "given up";
    outcome.errors = lease.queries;
    return outcome;
  }
  takes = plan.batch_time * static_cast<std::int64_t>(70 + random_.below(61)) / 100;
  if (env_.swarm.straggler > 0 && random_.chance(env_.swarm.straggler)) takes *= kStragglerFactor;
  outcome.infer_us = static_cast<std::uint64_t>(takes.count());

  const auto computed = [&](std::uint32_t place) {
    if (std::binary_search(lease.quarantined.begin(), lease.quarantined.end(), place)) return false;
    return !lease.is_trial() || (place >= lease.trial_from && place < lease.trial_to);
  };
  const std::vector<std::uint32_t> poison = plan.poison_of(lease.batch);
  bool dies = std::any_of(poison.begin(), poison.end(), computed);
  if (!dies && !lease.is_trial() && env_.swarm.executor_crash > 0 && random_.chance(env_.swarm.executor_crash))
    dies = ++plan.crashes[lease.batch] <= kCrashesMax;
  if (dies) {
    takes =
        random_.chance(env_.swarm.executor_hang) ? kHangDeadline : takes * static_cast<std::int64_t>(random_.below(100)) / 100;
    return outcome;
  }
  if (lease.is_trial()) {
    outcome.rows = "a trial: never stored";
    return outcome;
  }
  outcome.rows = rows_of(task.job, lease.batch, lease.queries, lease.quarantined);
  outcome.errors = static_cast<std::uint32_t>(lease.quarantined.size());
  return outcome;
}

}  // namespace idunno::sim

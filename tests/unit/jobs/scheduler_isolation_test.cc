// Batches that end their executors: how isolation (isolation.h) is leased.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "bus/base/random.h"
#include "nodes/jobs/worker_queue.h"
#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

/// The places that a lease lets an executor compute.
std::vector<std::uint32_t> computed(const Lease& lease) {
  std::vector<std::uint32_t> places;
  for (std::uint32_t place = 0; place < lease.queries; ++place) {
    const bool tried = !lease.is_trial() || (place >= lease.trial_from && place < lease.trial_to);
    if (tried && !std::binary_search(lease.quarantined.begin(), lease.quarantined.end(), place)) places.push_back(place);
  }
  return places;
}

bool kills(const Lease& lease, const std::set<std::uint64_t>& poison) {
  const auto places = computed(lease);
  return std::any_of(places.begin(), places.end(),
                     [&](std::uint32_t place) { return poison.contains(lease.first_query + place); });
}

struct Trace {
  std::vector<Assignment> leases;  ///< of the batch that is looked at
  std::map<BatchIndex, Assignment> committed;
  std::vector<IsolationNote> notes;
};

/// Runs a job of 40 queries in batches of 8 to its end. `also_fails` may lose a lease for another reason.
Trace run(Scheduler& scheduler, const std::set<std::uint64_t>& poison, BatchIndex watched,
          const std::function<std::optional<LeaseLoss>(const Assignment&)>& also_fails = {}) {
  Trace trace;
  scheduler.add_job(job_of(1, 40, 8), {}, true, kStart);
  for (int turn = 0; turn < 1000 && trace.committed.size() < 5; ++turn) {
    for (const Assignment& given : all_next(scheduler)) {
      if (given.lease.batch == watched) trace.leases.push_back(given);
      const auto other = also_fails ? also_fails(given) : std::nullopt;
      if (other) {
        EXPECT_TRUE(lose(scheduler, given, *other));
      } else if (given.lease.attempt < kGiveUpAttempt && kills(given.lease, poison)) {
        EXPECT_TRUE(lose(scheduler, given, LeaseLoss::executor_died));
      } else if (given.lease.is_trial()) {
        EXPECT_TRUE(lose(scheduler, given, LeaseLoss::trial_passed));
      } else {
        EXPECT_TRUE(scheduler.committed(commit_of(given)));
        trace.committed[given.lease.batch] = given;
      }
      for (const IsolationNote& note : scheduler.take_notes()) trace.notes.push_back(note);
    }
  }
  EXPECT_EQ(trace.committed.size(), 5U);
  for (std::uint32_t node = 1; node <= 4; ++node) EXPECT_EQ(scheduler.leased_at(NodeId{node}), 0U);
  return trace;
}

void add_nodes(Scheduler& scheduler, std::uint32_t count) {
  for (std::uint32_t node = 1; node <= count; ++node) scheduler.add_node(NodeId{node}, 1);
}

TEST(SchedulerIsolation, FindsTheQueryAndComputesTheRest) {
  Scheduler scheduler({});
  add_nodes(scheduler, 4);
  const Trace trace = run(scheduler, {21}, 2);
  for (BatchIndex batch = 0; batch < 5; ++batch) {
    EXPECT_EQ(trace.committed.at(batch).lease.quarantined,
              batch == 2 ? std::vector<std::uint32_t>{5} : std::vector<std::uint32_t>{});
    EXPECT_LT(trace.committed.at(batch).lease.attempt, kGiveUpAttempt);
  }
  // Three as they come, the control, three halves, twice alone, the rest.
  ASSERT_EQ(trace.leases.size(), 3 + 1 + 3 + 2 + 1U);
  for (std::size_t i = 0; i < trace.leases.size(); ++i) {
    EXPECT_EQ(trace.leases[i].lease.attempt, i) << "numbers of their own";
    EXPECT_EQ(trace.leases[i].lease.is_trial(), i >= 3 && i < 9);
  }
  std::set<NodeId> first;
  for (std::size_t i = 0; i < 3; ++i) first.insert(trace.leases[i].node);
  EXPECT_EQ(first.size(), 3U) << "on different nodes";
  EXPECT_EQ(trace.leases[8].lease.trial_from, 5U);
  EXPECT_EQ(trace.leases[8].lease.trial_to, 6U);
  ASSERT_EQ(trace.notes.size(), 2U);
  EXPECT_EQ(trace.notes[0].kind, IsolationNote::Kind::isolated);
  EXPECT_EQ(trace.notes[1].kind, IsolationNote::Kind::quarantined);
  EXPECT_EQ(trace.notes[1].query, 21U);
}

TEST(SchedulerIsolation, ATrialKeepsOffTheNodeOfTheLastDeath) {
  Scheduler scheduler({});
  add_nodes(scheduler, 2);
  const Trace trace = run(scheduler, {16}, 2);
  for (std::size_t i = 3; i < trace.leases.size(); ++i) {
    if (kills(trace.leases[i - 1].lease, {16})) {
      EXPECT_NE(trace.leases[i].node, trace.leases[i - 1].node) << i;
    }
  }
}

TEST(SchedulerIsolation, ATrialGoesToABusierNodeRatherThanToThatOfTheLastDeath) {
  Scheduler scheduler({});
  add_nodes(scheduler, 2);
  scheduler.add_job(job_of(2, 8, 8), {}, true, kStart);
  const Assignment other = scheduler.next(kStart).value();  // one node is always the busier one
  scheduler.add_job(job_of(1, 8, 8), {}, true, kStart);
  for (int death = 0; death < 3; ++death) ASSERT_TRUE(lose(scheduler, scheduler.next(kStart).value(), LeaseLoss::executor_died));
  Assignment trial = scheduler.next(kStart).value();
  ASSERT_TRUE(lose(scheduler, trial, LeaseLoss::trial_passed));  // the control
  for (int death = 0; death < 4; ++death) {
    trial = scheduler.next(kStart).value();
    ASSERT_TRUE(lose(scheduler, trial, LeaseLoss::executor_died));
    const Assignment next = scheduler.next(kStart).value();
    EXPECT_NE(next.node, trial.node) << death;
    ASSERT_TRUE(lose(scheduler, next, LeaseLoss::returned));
  }
  EXPECT_EQ(scheduler.leased_at(other.node), 1U);
}

TEST(SchedulerIsolation, OneNodeIsEnough) {
  Scheduler scheduler({});
  add_nodes(scheduler, 1);
  const Trace trace = run(scheduler, {16, 17, 23}, 2);
  EXPECT_EQ(trace.committed.at(2).lease.quarantined, (std::vector<std::uint32_t>{0, 1, 7}));
}

TEST(SchedulerIsolation, WhateverElseFailsTheSameQueriesAreFound) {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Random random(seed);
    Scheduler scheduler({});
    add_nodes(scheduler, 4);
    int accidents = 12;
    const Trace trace = run(scheduler, {3, 18, 20, 39}, 2, [&](const Assignment&) -> std::optional<LeaseLoss> {
      if (accidents == 0 || random.below(3) != 0) return std::nullopt;
      --accidents;
      const LeaseLoss why[] = {LeaseLoss::not_stored, LeaseLoss::returned, LeaseLoss::node_lost};
      return why[random.below(3)];
    });
    EXPECT_EQ(trace.committed.at(0).lease.quarantined, std::vector<std::uint32_t>{3});
    EXPECT_EQ(trace.committed.at(1).lease.quarantined, std::vector<std::uint32_t>{});
    EXPECT_EQ(trace.committed.at(2).lease.quarantined, (std::vector<std::uint32_t>{2, 4}));
    EXPECT_EQ(trace.committed.at(4).lease.quarantined, std::vector<std::uint32_t>{7});
  }
}

TEST(SchedulerIsolation, ALostNodeIsNoDeathOfAnExecutor) {
  Scheduler scheduler({});
  add_nodes(scheduler, 2);
  scheduler.add_job(job_of(1, 8, 8), {}, true, kStart);
  for (int death = 0; death < 3; ++death) ASSERT_TRUE(lose(scheduler, scheduler.next(kStart).value(), LeaseLoss::executor_died));
  const Assignment trial = scheduler.next(kStart).value();
  ASSERT_TRUE(trial.lease.is_trial());
  EXPECT_FALSE(scheduler.next(kStart)) << "one at a time";
  ASSERT_EQ(scheduler.remove_node(trial.node), 1U);
  const Assignment again = scheduler.next(kStart).value();
  EXPECT_EQ(again.lease.trial_from, trial.lease.trial_from);
  EXPECT_EQ(again.lease.trial_to, trial.lease.trial_to);
  EXPECT_EQ(again.lease.quarantined, trial.lease.quarantined);
  EXPECT_NE(again.lease.attempt, trial.lease.attempt);
  // The node comes back and still holds the trial: it is not wanted any more.
  scheduler.add_node(trial.node, 1);
  EXPECT_FALSE(scheduler.adopt(trial.node, key_of(trial), HeldStage::running, kStart));
  EXPECT_TRUE(scheduler.adopt(again.node, key_of(again), HeldStage::running, kStart)) << "this one is";
}

TEST(SchedulerIsolation, AnIsolatedBatchIsNotAdopted) {
  Scheduler scheduler({});
  add_nodes(scheduler, 1);
  scheduler.add_job(job_of(1, 8, 8), {}, true, kStart);
  for (int death = 0; death < 3; ++death) ASSERT_TRUE(lose(scheduler, scheduler.next(kStart).value(), LeaseLoss::executor_died));
  EXPECT_FALSE(scheduler.adopt(NodeId{1}, {JobId{1}, 0, 0}, HeldStage::running, kStart));
}

TEST(SchedulerIsolation, AModelThatAlwaysEndsItsExecutorIsGivenUpBatchByBatch) {
  Scheduler scheduler({});
  add_nodes(scheduler, 2);
  scheduler.add_job(job_of(1, 8, 8), {}, true, kStart);
  Assignment given;
  std::uint32_t deaths = 0;
  for (given = scheduler.next(kStart).value(); given.lease.attempt < kGiveUpAttempt; given = scheduler.next(kStart).value()) {
    ASSERT_LT(++deaths, 10U);
    ASSERT_TRUE(lose(scheduler, given, LeaseLoss::executor_died));
  }
  EXPECT_EQ(deaths, 5U);
  EXPECT_FALSE(given.lease.is_trial());
  const auto notes = scheduler.take_notes();
  ASSERT_EQ(notes.size(), 2U);
  EXPECT_EQ(notes[1].kind, IsolationNote::Kind::given_up);
  EXPECT_TRUE(scheduler.committed(commit_of(given)));
}

TEST(SchedulerIsolation, AnUnknownTrialThatPassesIsNoFailure) {
  Scheduler scheduler({});
  add_nodes(scheduler, 1);
  scheduler.add_job(job_of(1, 8, 8), {}, true, kStart);
  ASSERT_TRUE(scheduler.adopt(NodeId{1}, {JobId{1}, 0, 4}, HeldStage::running, kStart));
  ASSERT_TRUE(scheduler.lost(JobId{1}, 0, 4, NodeId{1}, LeaseLoss::trial_passed));
  const Assignment given = scheduler.next(kStart).value();
  EXPECT_EQ(given.lease.attempt, 5U);
  EXPECT_FALSE(given.lease.is_trial());
  EXPECT_EQ(scheduler.retried(JobId{1}), 0U);
}

}  // namespace
}  // namespace idunno

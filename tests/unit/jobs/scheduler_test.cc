#include "nodes/jobs/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>

#include "nodes/jobs/worker_queue.h"
#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

TEST(Scheduler, GivesNothingWithoutNodesOrJobs) {
  Scheduler scheduler({});
  EXPECT_FALSE(scheduler.next(kStart));
  scheduler.add_job(job_of(1, 100, 10), {}, true, kStart);
  EXPECT_FALSE(scheduler.next(kStart));
  EXPECT_EQ(scheduler.wake_at(), kNever);
}

TEST(Scheduler, GivesTwoLeasesASlotBeforeItKnowsTheBatchTime) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 3);
  scheduler.add_job(job_of(1, 1000, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 6U);
  for (std::size_t i = 0; i < given.size(); ++i) {
    EXPECT_EQ(given[i].lease.batch, i);
    EXPECT_EQ(given[i].lease.first_query, i * 10);
    EXPECT_EQ(given[i].lease.queries, 10U);
    EXPECT_EQ(given[i].lease.attempt, 0U);
  }
}

TEST(Scheduler, CreditFollowsTheBatchTimeWithinItsBounds) {
  Scheduler scheduler({std::chrono::milliseconds(1000), 3});
  scheduler.add_node(NodeId{1}, 2);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 4U);
  scheduler.batch_time(NodeId{1}, 100'000);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 22U);  // 2 * (1 + 10)
  scheduler.batch_time(NodeId{1}, 10'000'000);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 4U);
  scheduler.batch_time(NodeId{1}, 50);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 2U * kCreditPerSlotMax);
}

TEST(Scheduler, WhereThereAreNoOrdersFewerLeasesWaitAtANode) {
  Scheduler scheduler({std::chrono::milliseconds(1000), 3});
  for (std::uint32_t node = 1; node <= kOrderNodesMax; ++node) scheduler.add_node(NodeId{node}, 2);
  scheduler.batch_time(NodeId{1}, 100'000);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 22U);
  scheduler.add_node(NodeId{kOrderNodesMax + 1}, 2);
  scheduler.batch_time(NodeId{1}, 100'000);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 12U);  // 2 * (1 + 5)
  scheduler.remove_node(NodeId{kOrderNodesMax + 1});
  scheduler.batch_time(NodeId{1}, 100'000);
  EXPECT_EQ(scheduler.credit_of(NodeId{1}), 22U);
}

TEST(Scheduler, FillsANodeInGrantsOfMany) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.batch_time(NodeId{1}, 50);
  scheduler.add_job(job_of(1, 1'000'000, 1), {}, true, kStart);
  auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), kCreditPerSlotMax);
  // 1/16 of 1024 leases must be free before new ones go out.
  for (std::size_t i = 0; i < 63; ++i) {
    scheduler.committed(commit_of(given[i], 1));
    EXPECT_FALSE(scheduler.next(kStart)) << i;
  }
  scheduler.committed(commit_of(given[63], 1));
  EXPECT_EQ(all_next(scheduler).size(), 64U);
}

TEST(Scheduler, SpreadsEvenlyOverNodesBySlots) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_node(NodeId{2}, 1);
  scheduler.add_node(NodeId{3}, 2);
  scheduler.add_job(job_of(1, 4, 1), {}, true, kStart);
  all_next(scheduler);
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), 1U);
  EXPECT_EQ(scheduler.leased_at(NodeId{2}), 1U);
  EXPECT_EQ(scheduler.leased_at(NodeId{3}), 2U);
}

TEST(Scheduler, TheLastBatchMayBeSmaller) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 4);
  scheduler.add_job(job_of(1, 25, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 3U);
  EXPECT_EQ(given[2].lease.queries, 5U);
}

/// One node, one lease done after the other in order of pass: what a worker with one slot does.
std::map<JobId, std::uint64_t> serve(Scheduler& scheduler, std::size_t batches, Time now = kStart) {
  std::map<JobId, std::uint64_t> served;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Assignment> queue;
  for (std::size_t i = 0; i < batches; ++i) {
    for (const Assignment& given : all_next(scheduler, now)) {
      queue.emplace(std::make_pair(given.lease.pass, given.lease.job.value * 1'000'000 + given.lease.batch), given);
    }
    if (queue.empty()) break;
    const Assignment done = queue.begin()->second;
    queue.erase(queue.begin());
    served[done.lease.job] += done.lease.queries;
    scheduler.committed(commit_of(done));
  }
  return served;
}

TEST(Scheduler, SharesByWeightWhateverTheBatchSizes) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 1'000'000, 16, 3000), {}, true, kStart);
  scheduler.add_job(job_of(2, 1'000'000, 10, 1000), {}, true, kStart);
  const auto served = serve(scheduler, 4000);
  const double ratio = static_cast<double>(served.at(JobId{1})) / static_cast<double>(served.at(JobId{2}));
  EXPECT_NEAR(ratio, 3.0, 0.03);
}

TEST(Scheduler, EachNodeTakesTurnsBetweenLevelJobs) {
  // One node is much slower: its commits come seldom, so turns over the whole cluster would leave it with either job at random.
  Scheduler scheduler({});
  for (std::uint32_t node = 1; node <= 3; ++node) scheduler.add_node(NodeId{node}, 1);
  for (std::uint64_t job = 1; job <= 2; ++job) scheduler.add_job(job_of(job, 100'000, 10), {}, true, kStart);
  std::map<NodeId, std::deque<Assignment>> held;
  std::map<NodeId, std::map<JobId, int>> served;
  for (int round = 0; round < 300; ++round) {
    for (const Assignment& given : all_next(scheduler)) held[given.node].push_back(given);
    for (auto& [node, leases] : held) {
      if (leases.empty() || (node == NodeId{3} && round % 7 != 0)) continue;
      ++served[node][leases.front().lease.job];
      EXPECT_LE(std::abs(served[node][JobId{1}] - served[node][JobId{2}]), 2) << to_string(node) << " in round " << round;
      ASSERT_TRUE(scheduler.committed(commit_of(leases.front(), 1'000'000)));
      leases.pop_front();
    }
  }
}

TEST(Scheduler, HigherPriorityGoesFirst) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 4);
  scheduler.add_job(job_of(1, 1000, 1), {}, true, kStart);
  SchedulerJob urgent = job_of(2, 3, 1);
  urgent.priority = 5;
  scheduler.add_job(urgent, {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_GE(given.size(), 4U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(given[i].lease.job, JobId{2}) << i;
  EXPECT_EQ(given[3].lease.job, JobId{1});
}

TEST(Scheduler, ANewJobGoesBeyondTheCreditUpToItsSlotsAndStartsFirst) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  scheduler.add_job(job_of(1, 100'000, 10), {}, true, kStart);
  auto before = all_next(scheduler);
  ASSERT_EQ(before.size(), 4U);
  for (int i = 0; i < 20; ++i) {  // the old job gets far ahead
    scheduler.committed(commit_of(before.front()));
    before.erase(before.begin());
    for (const Assignment& given : all_next(scheduler)) before.push_back(given);
  }
  scheduler.add_job(job_of(2, 100'000, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2U);  // as many as slots, although the credit is used up
  for (const Assignment& one : given) EXPECT_EQ(one.lease.job, JobId{2});
  // Of the old job's leases two run; the new job goes before the others, or level with the first of them.
  EXPECT_LE(given[0].lease.pass, before[0].lease.pass);
  EXPECT_LE(given[1].lease.pass, before[2].lease.pass);
}

TEST(Scheduler, LeasesOfANodeStayBounded) {
  constexpr std::uint32_t kJobs = 50;
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  for (std::uint64_t i = 1; i <= kJobs; ++i) scheduler.add_job(job_of(i, 100'000, 1), {}, true, kStart);
  std::deque<Assignment> out;
  for (int i = 0; i < 3000; ++i) {
    for (const Assignment& given : all_next(scheduler)) out.push_back(given);
    ASSERT_LE(scheduler.leased_at(NodeId{1}), scheduler.credit_of(NodeId{1}) + kJobs * 2);
    ASSERT_EQ(scheduler.leased_at(NodeId{1}), out.size());
    scheduler.committed(commit_of(out.front()));
    out.pop_front();
  }
}

TEST(Scheduler, LevelJobsFollowTheModelThatIsLoaded) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 4);
  scheduler.add_job(job_of(1, 1000, 10), {}, true, kStart);
  scheduler.add_job(job_of(2, 1000, 10), {}, true, kStart);
  std::string order;
  for (const Assignment& given : all_next(scheduler)) order += std::to_string(given.lease.job.value);
  EXPECT_EQ(order, "12211221");
}

TEST(Scheduler, ALostLeaseGoesFirstWithAnotherAttemptToAnotherNode) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_node(NodeId{2}, 1);
  scheduler.add_job(job_of(1, 1000, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 4U);
  const Assignment& first = given[0];
  EXPECT_FALSE(scheduler.lost(JobId{1}, 0, 1, first.node, LeaseLoss::executor_died)) << "another attempt";
  EXPECT_FALSE(scheduler.lost(JobId{1}, 0, 0, NodeId{9}, LeaseLoss::executor_died)) << "another node";
  ASSERT_TRUE(scheduler.lost(JobId{1}, 0, 0, first.node, LeaseLoss::executor_died));
  EXPECT_FALSE(scheduler.lost(JobId{1}, 0, 0, first.node, LeaseLoss::executor_died)) << "lost already";
  // The other node is full, so it goes there beyond its credit or when that has room, and never back meanwhile.
  std::vector<Assignment> again = all_next(scheduler);
  for (const Assignment& one : given) {
    if (one.node != first.node) scheduler.committed(commit_of(one));
  }
  for (const Assignment& one : all_next(scheduler)) again.push_back(one);
  const auto redone = std::find_if(again.begin(), again.end(), [](const Assignment& one) { return one.lease.batch == 0; });
  ASSERT_NE(redone, again.end());
  EXPECT_EQ(redone->lease.attempt, 1U);
  EXPECT_NE(redone->node, first.node);
  EXPECT_EQ(scheduler.retried(JobId{1}), 1U);
}

TEST(Scheduler, WithOneNodeARetryGoesBackToIt) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 10, 10), {}, true, kStart);
  ASSERT_EQ(all_next(scheduler).size(), 1U);
  ASSERT_TRUE(scheduler.lost(JobId{1}, 0, 0, NodeId{1}, LeaseLoss::not_stored));
  const auto again = all_next(scheduler);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_EQ(again[0].lease.attempt, 1U);
}

TEST(Scheduler, AJobThatLostLeasesCatchesUp) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  scheduler.add_node(NodeId{2}, 2);
  scheduler.add_job(job_of(1, 10'000, 10), {}, true, kStart);
  scheduler.add_job(job_of(2, 10'000, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  std::size_t lost = 0;
  for (const Assignment& one : given) {
    if (one.lease.job == JobId{1})
      lost += scheduler.lost(one.lease.job, one.lease.batch, 0, one.node, LeaseLoss::not_stored) ? 1U : 0U;
  }
  const auto again = all_next(scheduler);
  ASSERT_GE(again.size(), 4U);
  for (std::size_t i = 0; i < std::min(lost, again.size()); ++i) EXPECT_EQ(again[i].lease.job, JobId{1}) << i;
}

TEST(Scheduler, OtherLossesDoNotCountAsDeaths) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 10, 10), {}, true, kStart);
  for (std::uint32_t attempt = 0; attempt < 20; ++attempt) {
    const auto given = all_next(scheduler);
    ASSERT_EQ(given.size(), 1U);
    ASSERT_EQ(given[0].lease.attempt, attempt);
    ASSERT_TRUE(scheduler.lost(JobId{1}, 0, attempt, NodeId{1}, attempt % 2 == 0 ? LeaseLoss::not_stored : LeaseLoss::returned));
  }
  EXPECT_EQ(scheduler.retried(JobId{1}), 10U);
}

TEST(Scheduler, MissingInputIsTriedOnAllNodesThenAgainLaterAndGivenUpInTheEnd) {
  // The nodes that hold it may be down for a moment, all of them: an error row would be for ever.
  Scheduler scheduler({});
  for (std::uint32_t i = 1; i <= 3; ++i) scheduler.add_node(NodeId{i}, 1);
  scheduler.add_job(job_of(1, 10, 10), {}, true, kStart);
  Time now = kStart;
  std::uint32_t attempts = 0;
  Duration wait = kInputWaitMin;
  for (;;) {
    std::set<NodeId> tried;
    for (int i = 0; i < 3; ++i) {
      const auto given = all_next(scheduler, now);
      ASSERT_EQ(given.size(), 1U);
      if (given[0].lease.attempt >= kGiveUpAttempt) {
        EXPECT_GE(now - kStart, kInputPatience);
        EXPECT_LE(now - kStart, kInputPatience + 2 * kInputWaitMax);
        EXPECT_LT(attempts, 300U) << "it does not ask all the time";
        return;
      }
      tried.insert(given[0].node);
      ASSERT_TRUE(scheduler.lost(JobId{1}, 0, attempts++, given[0].node, LeaseLoss::input_missing));
    }
    EXPECT_EQ(tried.size(), 3U) << "another node each time";
    EXPECT_FALSE(scheduler.next(now + wait - Duration{1}));
    EXPECT_EQ(scheduler.wake_at(), now + wait);
    now += wait;
    wait = std::min(2 * wait, kInputWaitMax);
    ASSERT_LE(now - kStart, 2 * kInputPatience);
  }
}

TEST(Scheduler, ABatchThatWaitsForItsInputHoldsUpNoOther) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 30, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2U);
  ASSERT_TRUE(lose(scheduler, given[0], LeaseLoss::input_missing));
  const auto other = all_next(scheduler);
  ASSERT_EQ(other.size(), 1U);
  EXPECT_EQ(other[0].lease.batch, 2U);
  // Somebody else had it after all, in the meantime.
  ASSERT_TRUE(scheduler.committed(commit_of(given[0])));
  ASSERT_TRUE(scheduler.committed(commit_of(given[1])));
  ASSERT_TRUE(scheduler.committed(commit_of(other[0])));
  EXPECT_TRUE(all_next(scheduler, kStart + kInputWaitMax).empty());
  EXPECT_EQ(scheduler.leased_of(JobId{1}), 0U);
}

TEST(Scheduler, ADeadNodesLeasesGoToOthers) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  scheduler.add_node(NodeId{2}, 2);
  scheduler.add_job(job_of(1, 80, 10), {}, true, kStart);
  ASSERT_EQ(all_next(scheduler).size(), 8U);
  EXPECT_EQ(scheduler.remove_node(NodeId{1}), 4U);
  EXPECT_EQ(scheduler.leased_of(JobId{1}), 4U);
  for (const Assignment& given : all_next(scheduler)) EXPECT_EQ(given.node, NodeId{2});
  scheduler.add_node(NodeId{1}, 2);
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), 0U);
  // The returned node has credit again; it takes what is left over.
  all_next(scheduler);
  EXPECT_EQ(scheduler.leased_of(JobId{1}), 8U);
}

TEST(Scheduler, WhatADeadNodeHeldGoesOutAtOnceBeyondTheCreditOfTheOthers) {
  Scheduler scheduler({});
  for (std::uint32_t node = 1; node <= 6; ++node) scheduler.add_node(NodeId{node}, 1);
  scheduler.add_job(job_of(1, 10'000, 10), {}, true, kStart);
  scheduler.add_job(job_of(2, 10'000, 10), {}, true, kStart);
  (void)all_next(scheduler);
  ASSERT_FALSE(scheduler.next(kStart)) << "all credit is used";
  const std::uint32_t before = scheduler.leased_at(NodeId{1});
  std::size_t lost = scheduler.remove_node(NodeId{6});
  auto given = all_next(scheduler);
  EXPECT_EQ(given.size(), lost) << "all of it at once";
  for (const Assignment& one : given) EXPECT_EQ(one.lease.attempt, 1U) << "a batch of the dead node";
  ASSERT_GE(given.size(), 2U);
  EXPECT_NE(given[0].node, given[1].node);
  for (std::uint32_t node = 2; node <= 5; ++node) lost += scheduler.remove_node(NodeId{node});
  ASSERT_GT(lost, kRedoLeasesPerSlot);
  given = all_next(scheduler);
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), before + kRedoLeasesPerSlot) << "but within bounds";
  ASSERT_FALSE(given.empty());
  ASSERT_TRUE(scheduler.committed(commit_of(given[0])));
  const auto next = all_next(scheduler);
  ASSERT_FALSE(next.empty());
  EXPECT_EQ(next[0].lease.attempt, 1U) << "what was lost goes before what is new";
}

TEST(Scheduler, AJobThatEndsLeavesTheRoomForBatchesToRedo) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  for (std::uint64_t job = 1; job <= kRedoLeasesPerSlot; ++job) {
    scheduler.add_node(NodeId{2}, 1);
    scheduler.add_job(job_of(job, 10'000, 10), {}, true, kStart);
    (void)all_next(scheduler);
    const std::size_t lost = scheduler.remove_node(NodeId{2});
    ASSERT_GE(lost, 2U);
    EXPECT_EQ(all_next(scheduler).size(), lost) << "after " << job - 1 << " jobs";
    scheduler.remove_job(JobId{job});
    ASSERT_EQ(scheduler.leased_at(NodeId{1}), 0U);
  }
}

TEST(Scheduler, ASuspectNodeGetsNothingNew) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  scheduler.set_open(NodeId{1}, false);
  scheduler.add_job(job_of(1, 80, 10), {}, true, kStart);
  EXPECT_FALSE(scheduler.next(kStart));
  scheduler.set_open(NodeId{1}, true);
  EXPECT_EQ(all_next(scheduler).size(), 4U);
}

TEST(Scheduler, SkipsWhatIsCommitted) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 4);
  scheduler.add_job(job_of(1, 50, 10), {true, false, true, false, true}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2U);
  EXPECT_EQ(given[0].lease.batch, 1U);
  EXPECT_EQ(given[1].lease.batch, 3U);
}

TEST(Scheduler, ACommitBySomebodyElseEndsTheLeaseAndTheRedo) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 20, 10), {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2U);
  ASSERT_TRUE(scheduler.lost(JobId{1}, 0, 0, NodeId{1}, LeaseLoss::not_stored));
  EXPECT_TRUE(scheduler.committed(commit_of(given[0])));
  EXPECT_FALSE(scheduler.committed(commit_of(given[0]))) << "once only";
  EXPECT_TRUE(all_next(scheduler).empty()) << "nothing is left to do";
  EXPECT_TRUE(scheduler.committed(commit_of(given[1])));
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), 0U);
}

TEST(Scheduler, KeepsARateLimitAndSaysWhenToLookAgain) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.batch_time(NodeId{1}, 1000);
  SchedulerJob job = job_of(1, 100'000, 10);
  job.rate_limit_milli = 100'000;  // 100 queries/s = 10 batches/s
  scheduler.add_job(job, {}, true, kStart);
  Time now = kStart;
  std::uint64_t queries = 0;
  while (now < kStart + std::chrono::seconds(20)) {
    for (const Assignment& given : all_next(scheduler, now)) {
      queries += given.lease.queries;
      scheduler.committed(commit_of(given, 1000));
    }
    ASSERT_GT(scheduler.wake_at(), now);
    ASSERT_NE(scheduler.wake_at(), kNever);
    now = scheduler.wake_at();
  }
  EXPECT_GE(queries, 1990U);
  EXPECT_LE(queries, 2040U);
}

TEST(Scheduler, AJobComesOutOfItsRateLimitWithoutAClaimOnThePast) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  SchedulerJob slow = job_of(1, 100'000, 10);
  slow.rate_limit_milli = 1000;
  scheduler.add_job(slow, {}, true, kStart);
  scheduler.add_job(job_of(2, 100'000, 10), {}, true, kStart);
  auto served = serve(scheduler, 500);
  EXPECT_GT(served[JobId{2}], 4900U);
  scheduler.change_job(JobId{1}, 1000, 0, 0, kStart);
  served = serve(scheduler, 200);
  EXPECT_NEAR(static_cast<double>(served[JobId{1}]), 1000.0, 60.0);
}

TEST(Scheduler, APausedJobComesBackWithoutAClaimOnThePast) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 1);
  scheduler.add_job(job_of(1, 100'000, 10), {}, true, kStart);
  scheduler.add_job(job_of(2, 100'000, 10), {}, true, kStart);
  serve(scheduler, 100);
  scheduler.set_enabled(JobId{1}, false);
  serve(scheduler, 500);
  scheduler.set_enabled(JobId{1}, true);
  auto served = serve(scheduler, 200);
  EXPECT_NEAR(static_cast<double>(served[JobId{1}]), 1000.0, 60.0);
}

TEST(Scheduler, ARemovedJobFreesItsCredit) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 2);
  scheduler.add_job(job_of(1, 1000, 10), {}, true, kStart);
  ASSERT_EQ(all_next(scheduler).size(), 4U);
  scheduler.remove_job(JobId{1});
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), 0U);
  scheduler.add_job(job_of(2, 1000, 10), {}, true, kStart);
  EXPECT_EQ(all_next(scheduler).size(), 4U);
}

}  // namespace
}  // namespace idunno

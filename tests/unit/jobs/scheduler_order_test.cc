// What is in work, the order that the nodes are told, and the leases that give them a choice.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

constexpr std::uint64_t kBatchUs = 2'000'000;

Time at_ms(std::int64_t ms) { return kStart + std::chrono::milliseconds(ms); }

/// Nodes with one slot, long batches, and jobs 1, 2, ... of ten queries a batch, all measured.
class Order : public testing::Test {
 protected:
  void world(std::uint32_t nodes, std::uint64_t jobs) {
    for (std::uint32_t node = 1; node <= nodes; ++node) scheduler.add_node(NodeId{node}, 1);
    for (std::uint64_t job = 1; job <= jobs; ++job) scheduler.add_job(job_of(job, 100'000, 10), {}, true, kStart);
    for (const Assignment& given : all_next(scheduler)) held[{given.node, given.lease.job}].push_back(given);
    for (std::uint32_t node = 1; node <= nodes; ++node) scheduler.batch_time(NodeId{node}, kBatchUs);
    for (std::uint64_t job = 1; job <= jobs; ++job) commit(any_of(JobId{job}));
    (void)scheduler.order_due(kStart);
    refill();
  }
  void refill() {
    for (const Assignment& given : all_next(scheduler)) held[{given.node, given.lease.job}].push_back(given);
  }
  Assignment any_of(JobId job) {
    for (auto& [key, leases] : held) {
      if (key.second != job || leases.empty()) continue;
      const Assignment one = leases.front();
      leases.erase(leases.begin());
      return one;
    }
    ADD_FAILURE() << "no lease of " << to_string(job) << " is out";
    return {};
  }
  Assignment take(std::uint32_t node, std::uint64_t job) {
    auto& leases = held[{NodeId{node}, JobId{job}}];
    EXPECT_FALSE(leases.empty());
    const Assignment one = leases.front();
    leases.erase(leases.begin());
    return one;
  }
  void commit(const Assignment& given) { ASSERT_TRUE(scheduler.committed(commit_of(given, kBatchUs))); }
  void runs(const Assignment& given, std::uint32_t elapsed_ms, std::int64_t now_ms) {
    scheduler.progress(given.node, {{key_of(given), elapsed_ms}}, at_ms(now_ms));
  }
  /// By job, as that node is told.
  std::map<JobId, std::uint64_t> told(std::uint32_t node, std::int64_t ms) {
    std::map<JobId, std::uint64_t> passes;
    for (const auto& [id, order] : scheduler.order_due(at_ms(ms))) {
      if (id != NodeId{node}) continue;
      for (const JobPass& job : order.jobs) passes[job.job] = job.pass;
    }
    return passes;
  }
  Scheduler scheduler{SchedulerConfig{}};
  std::map<std::pair<NodeId, JobId>, std::vector<Assignment>> held;
};

TEST_F(Order, EachNodeHasABatchOfEachJobWaiting) {
  world(3, 2);
  for (std::uint32_t node = 1; node <= 3; ++node) {
    for (std::uint64_t job = 1; job <= 2; ++job) {
      EXPECT_GE(scheduler.leased_at(NodeId{node}, JobId{job}), 1U) << "n" << node << " j" << job;
    }
  }
}

TEST_F(Order, AStartMakesRoomForAnotherBatchOfThatJob) {
  world(2, 2);
  const std::uint32_t before = scheduler.leased_at(NodeId{1});
  EXPECT_FALSE(scheduler.next(kStart));
  const Assignment begun = take(1, 1);
  runs(begun, 0, 0);
  refill();
  EXPECT_EQ(scheduler.leased_at(NodeId{1}), before + 1);
  EXPECT_FALSE(held[std::pair(NodeId{1}, JobId{1})].empty());
}

TEST_F(Order, WhatWaitsAtANodeIsBounded) {
  world(2, 40);
  for (int round = 0; round < 200; ++round) {
    const std::uint32_t node = 1 + static_cast<std::uint32_t>(round % 2);
    for (std::uint64_t job = 1; job <= 40; ++job) {
      auto& leases = held[{NodeId{node}, JobId{job}}];
      if (leases.empty()) continue;
      runs(leases.front(), 0, round);
      commit(take(node, job));
      break;
    }
    refill();
    ASSERT_LE(scheduler.leased_at(NodeId{node}), scheduler.credit_of(NodeId{node}) + kChoiceJobsMax + 40);
  }
}

TEST_F(Order, TheLastBatchesOfAJobAreNotSpreadOverFullNodes) {
  world(3, 1);
  scheduler.add_job(job_of(2, 30, 10), {}, true, kStart);
  refill();
  commit(any_of(JobId{2}));
  EXPECT_LE(scheduler.leased_of(JobId{2}), 2U);
}

TEST_F(Order, IsToldOnlyWhileSeveralJobsOfLongBatchesCompete) {
  world(2, 1);
  EXPECT_TRUE(scheduler.order_due(at_ms(10'000)).empty()) << "one job";
  EXPECT_EQ(scheduler.wake_at(), kNever);
  scheduler.add_job(job_of(2, 100'000, 10), {}, true, at_ms(10'000));
  EXPECT_EQ(scheduler.order_due(at_ms(10'001)).size(), 2U);
}

TEST_F(Order, InALargeClusterThereIsNone) {
  world(kOrderNodesMax, 2);
  EXPECT_EQ(scheduler.order_due(at_ms(10'000)).size(), kOrderNodesMax);
  scheduler.add_node(NodeId{kOrderNodesMax + 1}, 1);
  EXPECT_TRUE(scheduler.order_due(at_ms(20'000)).empty());
}

TEST_F(Order, ShortBatchesNeedNone) {
  scheduler.add_node(NodeId{1}, 1);
  for (std::uint64_t job = 1; job <= 2; ++job) scheduler.add_job(job_of(job, 100'000, 10), {}, true, kStart);
  for (const Assignment& given : all_next(scheduler)) ASSERT_TRUE(scheduler.committed(commit_of(given, 2'000)));
  EXPECT_TRUE(scheduler.order_due(at_ms(10'000)).empty());
}

TEST_F(Order, ComesWithNewsButNotTooOftenAndNowAndThenWithout) {
  world(2, 2);
  ASSERT_FALSE(scheduler.order_due(at_ms(1000)).empty());
  EXPECT_TRUE(scheduler.order_due(at_ms(1100)).empty()) << "no news";
  runs(take(1, 1), 0, 1101);
  EXPECT_FALSE(scheduler.order_due(at_ms(1101)).empty());
  runs(take(2, 2), 0, 1110);
  EXPECT_TRUE(scheduler.order_due(at_ms(1110)).empty()) << "too soon after the last";
  const Time wake = scheduler.wake_at();
  EXPECT_EQ(wake, at_ms(1101) + kOrderIntervalMin * 1);
  EXPECT_FALSE(scheduler.order_due(wake).empty());
  EXPECT_FALSE(scheduler.order_due(wake + kOrderIntervalMax).empty());
}

TEST_F(Order, WhatIsInWorkCountsAsFarAsItIsAndSoonWillBe) {
  world(2, 2);
  const auto before = told(1, 1000);  // the first to start
  ASSERT_EQ(before.size(), 2U);
  runs(take(1, 1), 0, 1100);
  const auto begun = told(2, 1100);
  EXPECT_EQ(begun.at(JobId{2}), before.at(JobId{2}));
  // kLookAhead is longer than the batch takes, so all of it counts.
  EXPECT_EQ(begun.at(JobId{1}), before.at(JobId{1}) + 10 * kPassPerQuery);
}

TEST_F(Order, AResultCountsAsMuchAsItsBatchInWork) {
  world(2, 2);
  const Assignment given = take(1, 1);
  runs(given, 0, 1000);
  const auto in_work = told(2, 1000);
  scheduler.progress(NodeId{1}, {}, at_ms(3000));  // computed, its commit is on the way
  EXPECT_EQ(told(1, 3000), in_work);
  commit(given);
  EXPECT_EQ(told(1, 4000), in_work);
}

TEST_F(Order, AWorkersDeathTakesBackWhatWasInWork) {
  world(2, 2);
  const auto before = told(1, 1000);
  runs(take(1, 1), 500, 1000);
  scheduler.remove_node(NodeId{1});
  const auto after = told(2, 2000);
  EXPECT_EQ(after.at(JobId{1}), before.at(JobId{1}));
}

TEST_F(Order, WhatADeadNodeHeldGoesOutAtOnceThoughTheOthersHaveTheirChoice) {
  world(4, 2);
  for (std::uint32_t node = 1; node <= 4; ++node) runs(take(node, 1), 0, 0);
  refill();
  ASSERT_GT(scheduler.leased_at(NodeId{1}), scheduler.credit_of(NodeId{1}));
  const std::size_t lost = scheduler.remove_node(NodeId{4});
  ASSERT_GE(lost, 2U);
  const auto given = all_next(scheduler);
  EXPECT_EQ(std::count_if(given.begin(), given.end(), [](const Assignment& one) { return one.lease.attempt == 1; }),
            static_cast<std::ptrdiff_t>(lost));
}

TEST_F(Order, TwoThatBecomeFreeTogetherAreNotToldTheSame) {
  world(2, 2);
  runs(take(1, 1), 0, 1000);
  runs(take(2, 1), 0, 1000);
  std::map<NodeId, JobId> first;
  for (const auto& [node, order] : scheduler.order_due(at_ms(2990))) first[node] = order.jobs.front().job;
  ASSERT_EQ(first.size(), 2U);
  EXPECT_EQ(first.at(NodeId{1}), JobId{2});
  // Level after that: the second one must not make good the same lag again.
  const auto orders = scheduler.order_due(at_ms(3500));
  ASSERT_EQ(orders.size(), 2U);
  const auto gap = [](const JobOrder& order) { return order.jobs.back().pass - order.jobs.front().pass; };
  EXPECT_LT(gap(orders[1].second), gap(orders[0].second));
}

TEST_F(Order, ANewJobStandsWithTheOthersUntilItsFirstResult) {
  world(2, 2);
  for (int i = 0; i < 20; ++i) {
    commit(any_of(JobId{1}));
    commit(any_of(JobId{2}));
    refill();
  }
  scheduler.add_job(job_of(3, 100'000, 10), {}, true, at_ms(1000));
  refill();
  const auto arrived = told(1, 1500);
  EXPECT_LT(arrived.at(JobId{3}), std::min(arrived.at(JobId{1}), arrived.at(JobId{2}))) << "it starts next";
  const Assignment first = take(1, 3);
  runs(first, 0, 2000);
  std::map<JobId, std::uint64_t> passes;
  for (std::int64_t ms = 2600; ms < 5000; ms += 600) {
    commit(any_of(JobId{1}));
    commit(any_of(JobId{2}));
    refill();
    passes = told(2, ms);
    // What it has in work is about to come on top: all of it, which is longer than what is left.
    EXPECT_GT(passes.at(JobId{3}), std::min(passes.at(JobId{1}), passes.at(JobId{2}))) << ms;
    EXPECT_LE(passes.at(JobId{3}), std::min(passes.at(JobId{1}), passes.at(JobId{2})) + 10 * kPassPerQuery) << ms;
  }
  commit(first);
  const auto result = told(1, 6000);
  EXPECT_GE(result.at(JobId{3}), passes.at(JobId{3})) << "from now on it counts like the others";
  EXPECT_LE(result.at(JobId{3}), passes.at(JobId{3}) + 10 * kPassPerQuery);
}

TEST_F(Order, ALeadIsMadeUpForUpToABound) {
  world(2, 2);  // a round is a batch of each
  const auto ahead = [&](int batches, std::int64_t ms) {
    for (int i = 0; i < batches; ++i) {
      commit(any_of(JobId{1}));
      refill();
    }
    const auto passes = told(1, ms);
    return (passes.at(JobId{1}) - passes.at(JobId{2})) / (10 * kPassPerQuery);
  };
  EXPECT_EQ(ahead(3, 100), 3U) << "as it is";
  EXPECT_EQ(ahead(7, 200), 4U) << "two before the mean and two behind it";
}

TEST_F(Order, WhatRanBeforeTheTakeoverCountsFromThenOn) {
  Scheduler other{SchedulerConfig{}};
  for (std::uint32_t node = 1; node <= 2; ++node) other.add_node(NodeId{node}, 1);
  for (std::uint64_t job = 1; job <= 2; ++job) other.add_job(job_of(job, 100'000, 10), {}, true, kStart);
  const LeaseKey running{JobId{1}, 5, 0};
  const LeaseKey finished{JobId{2}, 6, 0};
  ASSERT_TRUE(other.adopt(NodeId{1}, running, HeldStage::running, kStart));
  ASSERT_TRUE(other.adopt(NodeId{2}, finished, HeldStage::finished, kStart));
  other.progress(NodeId{1}, {{running, 500}}, kStart);  // of a second, as far as is known
  BatchCommit commit;
  commit.job = JobId{2};
  commit.batch = 6;
  commit.node = NodeId{2};
  commit.duration_us = 1'000'000;
  ASSERT_TRUE(other.committed(commit));
  commit.job = JobId{1};
  commit.batch = 5;
  commit.node = NodeId{1};
  ASSERT_TRUE(other.committed(commit));
  std::map<JobId, std::uint64_t> passes;
  const auto orders = other.order_due(at_ms(1000));
  ASSERT_FALSE(orders.empty());
  for (const JobPass& job : orders[0].second.jobs) passes[job.job] = job.pass;
  EXPECT_EQ(passes.at(JobId{1}) - passes.at(JobId{2}), 5 * kPassPerQuery) << "half of one batch, and nothing of the other";
}

// ---- by processor time ----

/// Two nodes; a batch takes a second of a processor and, since these are shared, two seconds.
class ProcessorOrder : public Order {
 protected:
  ProcessorOrder() {
    world(2, 2);
    for (std::uint64_t job = 1; job <= 2; ++job) {
      for (int i = 0; i < 2; ++i) {
        BatchCommit commit = commit_of(any_of(JobId{job}), kBatchUs);
        commit.cpu_us = 1'000'000;
        EXPECT_TRUE(scheduler.committed(commit));
      }
    }
    refill();
  }
  std::map<JobId, JobPass> passes(std::int64_t ms) {
    std::map<JobId, JobPass> told;
    const auto orders = scheduler.order_due(at_ms(ms));
    EXPECT_FALSE(orders.empty());
    for (const auto& [id, order] : orders) {
      for (const JobPass& job : order.jobs) told[job.job] = job;
    }
    return told;
  }
  void tell(const Assignment& given, std::uint32_t elapsed_ms, std::uint64_t cpu_us, bool loading = false) {
    scheduler.progress(given.node, {{key_of(given), elapsed_ms, cpu_us, loading}}, at_ms(10'000 + elapsed_ms));
  }
};

TEST_F(ProcessorOrder, AJobIsAheadByWhatItsExecutorsHad) {
  const Assignment first = take(1, 1);
  const Assignment second = take(2, 2);
  tell(first, 0, 0);
  tell(second, 0, 0);
  tell(first, 1000, 700'000);
  tell(second, 1000, 300'000);
  const auto told = passes(11'000);
  // 7 and 3 of 10 queries are done, 5 is the mean; together they go on by ten in a second, each by five.
  EXPECT_NEAR(told.at(JobId{1}).lead_ms, 400, 40);
  EXPECT_NEAR(told.at(JobId{2}).lead_ms, -400, 40);
  // Ten queries for a second of a processor, and the common pace is five queries in a second.
  EXPECT_NEAR(told.at(JobId{1}).lead_per_cpu_milli, 2000, 50);
  EXPECT_EQ(told.at(JobId{1}).executors, 1U);
}

TEST_F(ProcessorOrder, ABatchThatWaitsForItsModelIsNoWorkDone) {
  const Assignment first = take(1, 1);
  const Assignment second = take(2, 2);
  tell(first, 0, 0, true);
  tell(second, 0, 0);
  tell(first, 900, 0, true);
  tell(second, 900, 500'000);
  const auto told = passes(10'900);
  // None and half of the ten queries are done.
  EXPECT_LT(told.at(JobId{1}).lead_ms, -300);
  EXPECT_EQ(told.at(JobId{1}).lead_ms, -told.at(JobId{2}).lead_ms);
}

TEST_F(ProcessorOrder, AJobThatIsHeldBackByItsLimitHasNoLead) {
  scheduler.change_job(JobId{2}, 1000, 1, 0, at_ms(10'000));  // a query in a thousand seconds
  for (int i = 0; i < 10; ++i) (void)all_next(scheduler, at_ms(10'000));
  const Assignment first = take(1, 1);
  tell(first, 0, 0);
  tell(first, 1000, 700'000);
  const auto told = passes(11'000);
  EXPECT_EQ(told.at(JobId{1}).lead_ms, 0) << "nobody to compare with";
}

TEST_F(ProcessorOrder, AJobWithoutASlotGoesBeforeOneThatHasSomeUnlessItIsFarAhead) {
  const auto first_planned = [&](std::int64_t elapsed_ms) {
    const auto orders = scheduler.order_due(at_ms(10'000 + elapsed_ms));
    EXPECT_EQ(orders.size(), 2U);
    return orders.at(0).second.next.at(0).job;
  };
  const auto ahead_by = [&](int batches) {
    for (int i = 0; i < batches; ++i) commit(any_of(JobId{2}));
    refill();
  };
  const Assignment first = take(1, 1);
  const Assignment second = take(2, 1);
  tell(first, 0, 0);
  tell(second, 0, 0);
  tell(first, 1000, 500'000);  // half of a processor
  tell(second, 1000, 200'000);
  ahead_by(2);  // as much as job 1 has in work
  EXPECT_EQ(first_planned(1100), JobId{2});
  ahead_by(2);
  tell(first, 1200, 600'000);
  EXPECT_EQ(first_planned(1300), JobId{1});
}

TEST_F(ProcessorOrder, ASecondLeaseOfABatchIsNoWorkOfItsJob) {
  // As node 2 is told, whose slot is free: nothing is planned before its turn.
  const auto told = [&](std::int64_t ms) {
    for (const auto& [id, order] : scheduler.order_due(at_ms(ms))) {
      const auto job = std::ranges::find(order.jobs, JobId{1}, &JobPass::job);
      if (id == NodeId{2} && job != order.jobs.end()) return *job;
    }
    ADD_FAILURE() << "node 2 is told nothing";
    return JobPass{};
  };
  const Assignment first = take(1, 1);
  const auto goes_on = [&](std::uint32_t from_ms, std::uint32_t to_ms) {  // with a tenth of a processor; a batch needs a second
    for (std::uint32_t ms = from_ms; ms <= to_ms; ms += 100) tell(first, ms, std::uint64_t{ms} * 100);
  };
  goes_on(0, 1000);
  const JobPass before = told(11'000);
  scheduler.add_node(NodeId{3}, 1);  // the others are full
  const auto second = scheduler.hedge(NodeId{1}, key_of(first), at_ms(11'000));
  ASSERT_TRUE(second);
  scheduler.progress(NodeId{3}, {{key_of(*second), 0, 0, false}}, at_ms(11'000));
  scheduler.progress(NodeId{3}, {{key_of(*second), 1000, 500'000, false}}, at_ms(12'000));
  goes_on(1100, 2000);
  const JobPass after = told(12'000);
  EXPECT_NEAR(static_cast<double>(after.pass - before.pass), kPassPerQuery, 0.1 * kPassPerQuery) << "a tenth of a batch";
  EXPECT_NEAR(after.lead_ms, before.lead_ms + 1000, 50);
}

// ---- what is planned ----

TEST_F(Order, NodesThatBecomeFreeTogetherArePlannedDifferentJobs) {
  world(2, 2);
  const Assignment first = take(1, 1);
  const Assignment second = take(2, 2);
  runs(first, 0, 1000);
  runs(second, 0, 1000);
  std::map<NodeId, std::vector<PlannedStart>> next;
  for (const auto& [node, order] : scheduler.order_due(at_ms(2900))) next[node] = order.next;
  ASSERT_EQ(next.size(), 2U);
  ASSERT_EQ(next[NodeId{1}].size(), 1U);
  ASSERT_EQ(next[NodeId{2}].size(), 1U);
  EXPECT_EQ(next[NodeId{1}][0].after, key_of(first));
  EXPECT_EQ(next[NodeId{2}][0].after, key_of(second));
  EXPECT_NE(next[NodeId{1}][0].job, next[NodeId{2}][0].job);
}

TEST_F(Order, WhatIsPlannedForAMomentFromNowStays) {
  world(2, 2);
  runs(take(1, 1), 0, 1000);
  const Assignment second = take(2, 2);
  runs(second, 0, 1000);
  const auto planned = [&](std::int64_t ms) {
    std::map<NodeId, std::vector<PlannedStart>> next;
    for (const auto& [node, order] : scheduler.order_due(at_ms(ms))) next[node] = order.next;
    return next;
  };
  const auto before = planned(2900);
  ASSERT_NE(before.at(NodeId{1}), before.at(NodeId{2}));
  // Node 2 is done first after all. It may have started what it was told: node 1 must not be told the same now.
  scheduler.progress(NodeId{2}, {}, at_ms(2950));
  EXPECT_EQ(planned(2960), before);
  commit(second);  // and its result comes before the news of what it started
  EXPECT_EQ(planned(3020), before);
}

TEST_F(Order, AStartIsOffThePlan) {
  world(1, 2);
  const Assignment one = take(1, 1);
  runs(one, 0, 1000);
  const auto first = scheduler.order_due(at_ms(2900));
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].second.next, (std::vector<PlannedStart>{{key_of(one), JobId{2}}}));
  const Assignment second = take(1, 2);
  scheduler.progress(NodeId{1}, {{key_of(second), 0}}, at_ms(3000));
  const auto then = scheduler.order_due(at_ms(4900));
  ASSERT_EQ(then.size(), 1U);
  EXPECT_EQ(then[0].second.next, (std::vector<PlannedStart>{{key_of(second), JobId{1}}}));
}

TEST_F(Order, ANewJobIsNotKeptOutByThePlan) {
  world(1, 2);
  runs(take(1, 1), 0, 1000);
  ASSERT_FALSE(scheduler.order_due(at_ms(2900)).empty());
  scheduler.add_job(job_of(3, 100'000, 10), {}, true, at_ms(2950));
  refill();
  const auto then = scheduler.order_due(at_ms(2960));
  ASSERT_EQ(then.size(), 1U);
  ASSERT_EQ(then[0].second.next.size(), 1U);
  EXPECT_EQ(then[0].second.next[0].job, JobId{3});
}

TEST_F(Order, UnstartedLeasesAreGivenAgainWithTheNewPriority) {
  world(2, 2);
  const Assignment begun = take(1, 1);
  runs(begun, 0, 1000);
  scheduler.change_job(JobId{1}, 1000, 0, 5, at_ms(1000));
  const auto again = scheduler.unstarted(JobId{1}, 100);
  EXPECT_EQ(again.size() + 1, scheduler.leased_of(JobId{1}));
  for (const Assignment& one : again) {
    EXPECT_EQ(one.lease.priority, 5);
    EXPECT_NE(key_of(one), key_of(begun));
  }
}

}  // namespace
}  // namespace idunno

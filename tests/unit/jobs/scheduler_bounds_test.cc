// nodes_min, nodes_max, urgent jobs, and the policies for comparison.

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <set>

#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

Time at_s(std::int64_t s) { return kStart + std::chrono::seconds(s); }

/// Gives out what it can, and takes results back in the order in which leases went out, one a node and turn.
class Served {
 public:
  explicit Served(Scheduler& scheduler) : scheduler_(scheduler) {}
  void give(Time now = kStart) {
    for (const Assignment& given : all_next(scheduler_, now)) out_[given.node].push_back(given);
  }
  void turns(std::size_t count, Time now = kStart) {
    for (std::size_t i = 0; i < count; ++i) {
      give(now);
      for (auto& [node, leases] : out_) {
        if (leases.empty()) continue;
        const Assignment done = leases.front();
        leases.pop_front();
        EXPECT_TRUE(scheduler_.committed(commit_of(done)));
        queries[done.lease.job] += done.lease.queries;
        nodes[done.lease.job].insert(node);
      }
    }
    give(now);
  }
  void forget() {
    queries.clear();
    nodes.clear();
  }
  std::map<JobId, std::uint64_t> queries;
  std::map<JobId, std::set<NodeId>> nodes;

 private:
  Scheduler& scheduler_;
  std::map<NodeId, std::deque<Assignment>> out_;
};

void add_nodes(Scheduler& scheduler, std::uint32_t count) {
  for (std::uint32_t i = 1; i <= count; ++i) scheduler.add_node(NodeId{i}, 1);
}

TEST(SchedulerBounds, SaysWhatHoldsAJobBack) {
  Scheduler scheduler({});
  add_nodes(scheduler, 6);
  SchedulerJob demanding = job_of(1, 1'000'000, 10);
  demanding.nodes_min = 4;
  scheduler.add_job(demanding, {}, true, kStart);
  SchedulerJob limited = job_of(2, 1'000'000, 10);
  limited.rate_limit_milli = 1000;
  scheduler.add_job(limited, {}, true, kStart);
  (void)all_next(scheduler, kStart);
  EXPECT_EQ(scheduler.nodes_kept_from(JobId{1}), 0U);
  EXPECT_EQ(scheduler.nodes_kept_from(JobId{2}), 4U);
  EXPECT_FALSE(scheduler.rate_limited(JobId{1}));
  EXPECT_TRUE(scheduler.rate_limited(JobId{2}));
  scheduler.remove_job(JobId{1});
  (void)all_next(scheduler, at_s(60));
  EXPECT_EQ(scheduler.nodes_kept_from(JobId{2}), 0U);
}

TEST(SchedulerBounds, AJobWithAMaximumHoldsLeasesOnSoManyNodesOnly) {
  Scheduler scheduler({});
  add_nodes(scheduler, 6);
  SchedulerJob job = job_of(1, 1'000'000, 10);
  job.nodes_max = 2;
  scheduler.add_job(job, {}, true, kStart);
  Served served(scheduler);
  for (int i = 0; i < 50; ++i) {
    served.turns(1);
    ASSERT_LE(scheduler.nodes_of(JobId{1}).size(), 2U);
    ASSERT_GE(scheduler.leased_of(JobId{1}), 2U);
  }
  EXPECT_FALSE(scheduler.competes(JobId{1})) << "its bound decides, not its share";
  scheduler.set_nodes(JobId{1}, 0, 4);
  served.turns(1);
  EXPECT_EQ(scheduler.nodes_of(JobId{1}).size(), 4U);
  scheduler.set_nodes(JobId{1}, 0, 0);
  served.turns(1);
  EXPECT_EQ(scheduler.nodes_of(JobId{1}).size(), 6U);
  EXPECT_TRUE(scheduler.competes(JobId{1}));
}

TEST(SchedulerBounds, ALowerMaximumIsReachedAsLeasesEnd) {
  Scheduler scheduler({});
  add_nodes(scheduler, 6);
  scheduler.add_job(job_of(1, 1'000'000, 10), {}, true, kStart);
  Served served(scheduler);
  served.turns(2);
  scheduler.set_nodes(JobId{1}, 0, 3);
  served.turns(30);
  EXPECT_EQ(scheduler.nodes_of(JobId{1}).size(), 3U);
}

TEST(SchedulerBounds, NodesAreKeptForAJobWithAMinimum) {
  Scheduler scheduler({});
  add_nodes(scheduler, 6);
  SchedulerJob job = job_of(1, 1'000'000, 10, 100);  // its share by weight is a 31st
  job.nodes_min = 4;
  scheduler.add_job(job, {}, true, kStart);
  scheduler.add_job(job_of(2, 1'000'000, 10, 3000), {}, true, kStart);
  Served served(scheduler);
  served.turns(5);
  served.forget();
  served.turns(30);
  EXPECT_GE(served.nodes[JobId{1}].size(), 4U);
  EXPECT_GE(served.queries[JobId{1}], 30U * 4 * 10);
  EXPECT_EQ(served.nodes[JobId{2}].size(), 2U) << "what is left";
  scheduler.set_nodes(JobId{1}, 0, 0);
  served.turns(10);
  served.forget();
  served.turns(30);
  EXPECT_EQ(served.nodes[JobId{2}].size(), 6U);
  EXPECT_GT(served.queries[JobId{2}], served.queries[JobId{1}] * 10);
}

TEST(SchedulerBounds, AMinimumIsGivenUpWhenTheJobHasNoWork) {
  Scheduler scheduler({});
  add_nodes(scheduler, 4);
  SchedulerJob job = job_of(1, 100, 10);
  job.nodes_min = 3;
  scheduler.add_job(job, {}, true, kStart);
  scheduler.add_job(job_of(2, 1'000'000, 10), {}, true, kStart);
  Served served(scheduler);
  served.turns(20);
  EXPECT_EQ(served.queries[JobId{1}], 100U);
  served.forget();
  served.turns(5);
  EXPECT_EQ(served.nodes[JobId{2}].size(), 4U);
}

TEST(SchedulerBounds, ADeadNodeThatWasKeptIsReplaced) {
  Scheduler scheduler({});
  add_nodes(scheduler, 4);
  SchedulerJob job = job_of(1, 1'000'000, 10, 1);
  job.nodes_min = 2;
  scheduler.add_job(job, {}, true, kStart);
  scheduler.add_job(job_of(2, 1'000'000, 10, 100'000), {}, true, kStart);
  all_next(scheduler);
  const auto kept = scheduler.nodes_of(JobId{1});
  ASSERT_GE(kept.size(), 2U);
  scheduler.remove_node(kept[0]);
  Served served(scheduler);
  served.turns(10);
  EXPECT_GE(scheduler.nodes_of(JobId{1}).size(), 2U);
}

TEST(SchedulerBounds, AnUrgentJobGoesBeforeEveryPriorityAndBeyondTheCredit) {
  Scheduler scheduler({});
  add_nodes(scheduler, 2);
  SchedulerJob high = job_of(1, 1'000'000, 10);
  high.priority = INT32_MAX;
  scheduler.add_job(high, {}, true, kStart);
  all_next(scheduler);
  SchedulerJob query = job_of(2, 3, 1);
  query.urgent = true;
  query.priority = -100;
  scheduler.add_job(query, {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_GE(given.size(), 2U);
  EXPECT_EQ(given[0].lease.job, JobId{2});
  EXPECT_EQ(given[1].lease.job, JobId{2});
  EXPECT_NE(given[0].node, given[1].node);
}

TEST(SchedulerBounds, AnUrgentBatchGoesWhereASlotIsFreeSoonest) {
  Scheduler scheduler({});
  add_nodes(scheduler, 3);
  scheduler.add_job(job_of(1, 1'000'000, 10), {}, true, kStart);
  std::map<NodeId, Assignment> first;
  for (const Assignment& given : all_next(scheduler)) first.emplace(given.node, given);
  ASSERT_TRUE(scheduler.committed(commit_of(all_next(scheduler).empty() ? first.at(NodeId{1}) : first.at(NodeId{1}), 2'000'000)));
  const auto refilled = all_next(scheduler);
  ASSERT_FALSE(refilled.empty());
  for (const auto& [node, elapsed_ms] : {std::pair(NodeId{2}, 1500U), std::pair(NodeId{3}, 300U)})
    scheduler.progress(node, {{key_of(first.at(node)), elapsed_ms}}, kStart);
  scheduler.progress(NodeId{1}, {{key_of(refilled[0]), 100}}, kStart);
  SchedulerJob query = job_of(2, 1, 1);
  query.urgent = true;
  scheduler.add_job(query, {}, true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_FALSE(given.empty());
  EXPECT_EQ(given[0].lease.job, JobId{2});
  EXPECT_EQ(given[0].node, NodeId{2});
}

// -- policies -----------------------------------------------------------------------------------------------------------

struct Shares {
  std::uint64_t first = 0;
  std::uint64_t second = 0;
};

/// Job 1: batches of 10 and weight 3; job 2: batches of 40 and weight 1.
Shares shares(SchedulePolicy policy) {
  SchedulerConfig config;
  config.policy = policy;
  config.split_period = std::chrono::seconds(10);
  Scheduler scheduler(config);
  add_nodes(scheduler, 4);
  scheduler.add_job(job_of(1, 10'000'000, 10, 3000), {}, true, kStart);
  scheduler.add_job(job_of(2, 10'000'000, 40, 1000), {}, true, kStart);
  Served served(scheduler);
  served.turns(300);
  return {served.queries[JobId{1}], served.queries[JobId{2}]};
}

double ratio(const Shares& got) { return static_cast<double>(got.first) / static_cast<double>(got.second); }

TEST(SchedulerPolicies, FairRateCountsQueriesByWeight) { EXPECT_NEAR(ratio(shares(SchedulePolicy::fair_rate)), 3.0, 0.15); }
TEST(SchedulerPolicies, RoundRobinCountsBatches) { EXPECT_NEAR(ratio(shares(SchedulePolicy::round_robin)), 0.25, 0.02); }
TEST(SchedulerPolicies, WeightedRoundRobinCountsBatchesByWeight) {
  EXPECT_NEAR(ratio(shares(SchedulePolicy::weighted_round_robin)), 0.75, 0.06);
}
TEST(SchedulerPolicies, RandomGivesEachJobAsManyBatches) { EXPECT_NEAR(ratio(shares(SchedulePolicy::random)), 0.25, 0.05); }
TEST(SchedulerPolicies, LeastLoadLooksAtWhatIsOut) {
  const Shares got = shares(SchedulePolicy::least_load);
  EXPECT_GT(got.first, 0U);
  EXPECT_GT(got.second, 0U);
}

TEST(SchedulerPolicies, StaticSplitGivesEachJobItsNodesAndMovesOneAPeriod) {
  SchedulerConfig config;
  config.policy = SchedulePolicy::static_split;
  config.split_period = std::chrono::seconds(10);
  Scheduler scheduler(config);
  add_nodes(scheduler, 4);
  scheduler.add_job(job_of(1, 10'000'000, 10), {}, true, kStart);
  scheduler.add_job(job_of(2, 10'000'000, 40), {}, true, kStart);
  Served served(scheduler);
  served.turns(10);
  EXPECT_EQ(served.nodes[JobId{1}].size(), 2U);
  EXPECT_EQ(served.nodes[JobId{2}].size(), 2U);
  EXPECT_EQ(scheduler.wake_at(), at_s(10));
  served.turns(40, at_s(10));  // job 2 has four times the rate: one of its nodes goes to job 1
  served.forget();
  served.turns(5, at_s(11));
  EXPECT_EQ(served.nodes[JobId{1}].size(), 3U);
  EXPECT_EQ(served.nodes[JobId{2}].size(), 1U);
}

TEST(SchedulerPolicies, AllKeepPriority) {
  for (const auto& [policy, name] : kSchedulePolicies) {
    SchedulerConfig config;
    config.policy = policy;
    Scheduler scheduler(config);
    add_nodes(scheduler, 1);
    scheduler.add_job(job_of(1, 1000, 10), {}, true, kStart);
    SchedulerJob high = job_of(2, 1000, 10);
    high.priority = 1;
    scheduler.add_job(high, {}, true, kStart);
    const auto given = all_next(scheduler);
    ASSERT_FALSE(given.empty()) << name;
    if (policy == SchedulePolicy::static_split) continue;
    EXPECT_EQ(given[0].lease.job, JobId{2}) << name;
  }
}

TEST(SchedulerPolicies, AllFinishTheirJobsAfterADeath) {
  for (const auto& [policy, name] : kSchedulePolicies) {
    SchedulerConfig config;
    config.policy = policy;
    Scheduler scheduler(config);
    add_nodes(scheduler, 3);
    for (std::uint64_t job = 1; job <= 2; ++job) scheduler.add_job(job_of(job, 500, 10), {}, true, kStart);
    std::deque<Assignment> out;
    std::map<JobId, std::uint64_t> queries;
    for (int i = 0; i < 300; ++i) {
      for (const Assignment& given : all_next(scheduler, kStart)) out.push_back(given);
      if (i == 10) {
        scheduler.remove_node(NodeId{2});
        std::erase_if(out, [](const Assignment& one) { return one.node == NodeId{2}; });
        continue;
      }
      if (out.empty()) break;
      EXPECT_TRUE(scheduler.committed(commit_of(out.front())));
      queries[out.front().lease.job] += out.front().lease.queries;
      out.pop_front();
    }
    EXPECT_EQ(queries[JobId{1}], 500U) << name;
    EXPECT_EQ(queries[JobId{2}], 500U) << name;
  }
}

}  // namespace
}  // namespace idunno

// Second leases of stragglers.

#include <gtest/gtest.h>

#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

/// A job of which `committed` batches are done and two are left; the node that holds the first one is slow.
class SchedulerHedging : public ::testing::Test {
 protected:
  void set_up(std::size_t committed, std::uint32_t nodes = 3) {
    for (std::uint32_t node = 1; node <= nodes; ++node) scheduler_.add_node(NodeId{node}, 1);
    std::vector<bool> done(committed, true);
    scheduler_.add_job(job_of(1, (committed + 2) * 10, 10), done, true, kStart);
    given_ = all_next(scheduler_);
    ASSERT_EQ(given_.size(), 2U);
    slow_ = given_[0];
  }
  void lose_one(bool first_goes) {
    set_up(20);
    const auto second = scheduler_.hedge(slow_.node, key_of(slow_), kStart);
    ASSERT_TRUE(second);
    const Assignment& goes = first_goes ? slow_ : *second;
    const Assignment& stays = first_goes ? *second : slow_;
    EXPECT_GE(scheduler_.remove_node(goes.node), 1U);
    EXPECT_GE(scheduler_.leased_at(stays.node, JobId{1}), 1U);
    for (const Assignment& given : all_next(scheduler_)) EXPECT_NE(given.lease.batch, stays.lease.batch);
    ASSERT_TRUE(lose(scheduler_, stays, LeaseLoss::not_stored));
    const auto again = all_next(scheduler_);
    ASSERT_EQ(again.size(), 1U);
    EXPECT_EQ(again[0].lease.batch, stays.lease.batch);
    EXPECT_EQ(again[0].lease.attempt, 2U) << "a number of its own";
  }

  Scheduler scheduler_{{}};
  std::vector<Assignment> given_;
  Assignment slow_;
};

TEST_F(SchedulerHedging, GoesToAnotherNodeUnderAnotherNumber) {
  set_up(200);
  const auto second = scheduler_.hedge(slow_.node, key_of(slow_), kStart);
  ASSERT_TRUE(second);
  EXPECT_NE(second->node, slow_.node);
  EXPECT_EQ(second->lease.batch, slow_.lease.batch);
  EXPECT_EQ(second->lease.attempt, slow_.lease.attempt + 1);
  EXPECT_EQ(second->lease.first_query, slow_.lease.first_query);
  EXPECT_EQ(second->lease.queries, slow_.lease.queries);
  EXPECT_EQ(second->lease.pass, slow_.lease.pass) << "it starts before what is leased later";
  EXPECT_EQ(scheduler_.leased_at(second->node, JobId{1}), second->node == given_[1].node ? 2U : 1U);
  EXPECT_EQ(scheduler_.leased_of(JobId{1}), 2U) << "batches, not leases";
  EXPECT_EQ(scheduler_.hedged(JobId{1}), 1U);
  EXPECT_EQ(scheduler_.retried(JobId{1}), 0U);
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key_of(slow_), kStart)) << "once";
  EXPECT_FALSE(scheduler_.hedge(second->node, key_of(*second), kStart)) << "nor the second";
}

TEST_F(SchedulerHedging, NeedsAnOpenNodeWithFreeCredit) {
  set_up(20, 1);
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key_of(slow_), kStart)) << "only the slow one is there";
  scheduler_.add_node(NodeId{2}, 1);
  scheduler_.set_open(NodeId{2}, false);
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key_of(slow_), kStart)) << "suspect";
  scheduler_.set_open(NodeId{2}, true);
  scheduler_.add_job(job_of(2, 1000, 10), {}, true, kStart);
  all_next(scheduler_);
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key_of(slow_), kStart)) << "full";
  scheduler_.remove_job(JobId{2});
  EXPECT_TRUE(scheduler_.hedge(slow_.node, key_of(slow_), kStart));
}

TEST_F(SchedulerHedging, NeverGoesWhereItRuns) {
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 8);
  scheduler.add_job(job_of(1, 220, 10), std::vector<bool>(20, true), true, kStart);
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2U);
  ASSERT_LT(scheduler.leased_at(NodeId{1}), scheduler.credit_of(NodeId{1}));
  EXPECT_FALSE(scheduler.hedge(NodeId{1}, key_of(given[0]), kStart)) << "although there is credit";
}

TEST_F(SchedulerHedging, TheFirstCommitFreesBoth) {
  set_up(20);
  const auto second = scheduler_.hedge(slow_.node, key_of(slow_), kStart);
  ASSERT_TRUE(second);
  EXPECT_TRUE(scheduler_.committed(commit_of(*second)));
  EXPECT_TRUE(scheduler_.committed(commit_of(given_[1])));
  for (std::uint32_t node = 1; node <= 3; ++node) EXPECT_EQ(scheduler_.leased_at(NodeId{node}), 0U);
  EXPECT_FALSE(scheduler_.committed(commit_of(slow_)));
  EXPECT_FALSE(lose(scheduler_, slow_, LeaseLoss::executor_died)) << "nothing of it is out";
  EXPECT_TRUE(all_next(scheduler_).empty());
}

TEST_F(SchedulerHedging, WhenTheFirstIsLostTheSecondStays) { lose_one(true); }
TEST_F(SchedulerHedging, WhenTheSecondIsLostTheFirstStays) { lose_one(false); }

TEST_F(SchedulerHedging, KeepsToItsBudget) {
  // 100 committed batches allow 2 hedges, and one.
  Scheduler scheduler({});
  scheduler.add_node(NodeId{1}, 8);
  scheduler.add_node(NodeId{2}, 8);
  scheduler.add_job(job_of(1, 1080, 10), std::vector<bool>(100, true), true, kStart);
  std::size_t hedged = 0;
  for (const Assignment& given : all_next(scheduler)) {
    if (scheduler.hedge(given.node, key_of(given), kStart)) ++hedged;
  }
  EXPECT_EQ(hedged, 3U);
  EXPECT_EQ(scheduler.hedged(JobId{1}), 3U);
}

TEST_F(SchedulerHedging, OnlyWhatRunsWhereItIsSaidTo) {
  set_up(20);
  const NodeId other{slow_.node.value % 3 + 1};
  EXPECT_FALSE(scheduler_.hedge(other, key_of(slow_), kStart)) << "another node";
  LeaseKey key = key_of(slow_);
  ++key.attempt;
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key, kStart)) << "another attempt";
  key = key_of(slow_);
  key.batch = 0;
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key, kStart)) << "committed";
  key.job = JobId{7};
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key, kStart)) << "unknown";
  scheduler_.set_enabled(JobId{1}, false);
  EXPECT_FALSE(scheduler_.hedge(slow_.node, key_of(slow_), kStart)) << "paused";
}

TEST_F(SchedulerHedging, ABatchThatEndedAnExecutorIsNotHedged) {
  set_up(20);
  ASSERT_TRUE(lose(scheduler_, slow_, LeaseLoss::executor_died));
  const auto again = all_next(scheduler_);
  ASSERT_EQ(again.size(), 1U);
  EXPECT_FALSE(scheduler_.hedge(again[0].node, key_of(again[0]), kStart));
}

TEST_F(SchedulerHedging, BothAreReminded) {
  set_up(20);
  const auto second = scheduler_.hedge(slow_.node, key_of(slow_), kStart);
  ASSERT_TRUE(second);
  const auto reminded = scheduler_.unanswered(kStart + std::chrono::seconds(31), std::chrono::seconds(30), 10);
  EXPECT_EQ(reminded.size(), 3U);
  std::set<LeaseKey> keys;
  for (const Assignment& one : reminded) keys.insert(key_of(one));
  EXPECT_TRUE(keys.contains(key_of(slow_)));
  EXPECT_TRUE(keys.contains(key_of(*second)));
}

}  // namespace
}  // namespace idunno

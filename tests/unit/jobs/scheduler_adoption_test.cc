// What a node says it holds: kept, dropped, or given to others.

#include <gtest/gtest.h>

#include <algorithm>

#include "bus/base/random.h"
#include "nodes/jobs/worker_queue.h"
#include "tests/unit/jobs/scheduler_helpers.h"

namespace idunno {
namespace {

constexpr HeldStage kWaiting = HeldStage::waiting;
constexpr HeldStage kRunning = HeldStage::running;

/// As its worker would commit it.
BatchCommit commit_of(NodeId node, const LeaseKey& key) {
  Assignment given;
  given.node = node;
  given.lease.job = key.job;
  given.lease.batch = key.batch;
  given.lease.attempt = key.attempt;
  given.lease.queries = 10;
  return idunno::commit_of(given);
}

LeaseKey key(std::uint64_t job, BatchIndex batch, std::uint32_t attempt = 0) { return {JobId{job}, batch, attempt}; }

class SchedulerAdoption : public ::testing::Test {
 protected:
  SchedulerAdoption() {
    for (std::uint32_t node = 1; node <= 3; ++node) scheduler_.add_node(NodeId{node}, 1);
    scheduler_.add_job(job_of(1, 80, 10), {}, true, kStart);  // 8 batches
  }
  Scheduler scheduler_{{}};
};

TEST_F(SchedulerAdoption, AnAdoptedLeaseIsOutAtThatNodeAndNotGivenAgain) {
  ASSERT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 0, 2), kRunning, kStart));
  ASSERT_TRUE(scheduler_.adopt(NodeId{2}, key(1, 5), kWaiting, kStart));
  EXPECT_EQ(scheduler_.leased_of(JobId{1}), 2U);
  EXPECT_EQ(scheduler_.leased_at(NodeId{1}, JobId{1}), 1U);
  std::set<BatchIndex> given;
  for (const Assignment& one : all_next(scheduler_)) {
    given.insert(one.lease.batch);
    scheduler_.committed(idunno::commit_of(one));
    for (const Assignment& more : all_next(scheduler_)) {
      given.insert(more.lease.batch);
      scheduler_.committed(idunno::commit_of(more));
    }
  }
  EXPECT_EQ(given, (std::set<BatchIndex>{1, 2, 3, 4, 6, 7}));
  EXPECT_FALSE(scheduler_.competes(JobId{1})) << "nothing is left to lease";
  EXPECT_TRUE(scheduler_.committed(commit_of(NodeId{1}, key(1, 0, 2))));
  EXPECT_EQ(scheduler_.leased_at(NodeId{1}), 0U);
}

TEST_F(SchedulerAdoption, WhatTheOldCoordinatorHeldIsGivenAtOnceThoughEverybodyIsFull) {
  Scheduler scheduler({});
  for (std::uint32_t node = 1; node <= 2; ++node) scheduler.add_node(NodeId{node}, 1);
  scheduler.add_job(job_of(1, 1000, 10), {true, false, true}, true, kStart);  // 100 batches
  for (BatchIndex batch = 4; batch < 40; batch += 2) {
    ASSERT_TRUE(scheduler.adopt(NodeId{1 + batch / 2 % 2}, key(1, batch), kWaiting, kStart));
  }
  for (std::uint32_t node = 1; node <= 2; ++node) {
    scheduler.batch_time(NodeId{node}, 2'000'000);
    ASSERT_GE(scheduler.leased_at(NodeId{node}), scheduler.credit_of(NodeId{node}));
  }
  EXPECT_TRUE(all_next(scheduler).empty()) << "no credit";
  EXPECT_EQ(scheduler.redo_gaps(), 19U);  // 1 and 3 to 37, without those that are out or done
  const auto given = all_next(scheduler);
  ASSERT_EQ(given.size(), 2 * kRedoLeasesPerSlot);
  EXPECT_EQ(given[0].lease.batch, 1U);
  EXPECT_EQ(given[1].lease.batch, 3U);
  EXPECT_EQ(scheduler.redo_gaps(), 0U) << "once";
}

TEST_F(SchedulerAdoption, WithoutGapsNothingIsGivenAgain) {
  ASSERT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 0), kRunning, kStart));
  ASSERT_TRUE(scheduler_.adopt(NodeId{2}, key(1, 1), kWaiting, kStart));
  EXPECT_EQ(scheduler_.redo_gaps(), 0U);
}

TEST_F(SchedulerAdoption, ABatchIsAdoptedOnce) {
  ASSERT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 0), kRunning, kStart));
  EXPECT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 0), kRunning, kStart)) << "the same lease, said again";
  EXPECT_EQ(scheduler_.leased_at(NodeId{1}), 1U);
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(1, 0, 1), kRunning, kStart)) << "another key";
  EXPECT_FALSE(scheduler_.adopt(NodeId{2}, key(1, 0), kRunning, kStart)) << "out elsewhere under the same number";
  EXPECT_FALSE(scheduler_.adopt(NodeId{2}, key(1, 0, 1), kRunning, kStart)) << "out elsewhere";
  EXPECT_EQ(scheduler_.leased_of(JobId{1}), 1U);
  EXPECT_EQ(scheduler_.leased_at(NodeId{2}), 0U);
}

TEST_F(SchedulerAdoption, WhatNobodyWantsIsRefused) {
  scheduler_.add_job(job_of(2, 20, 10), {true, false}, true, kStart);
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(2, 0), kRunning, kStart)) << "committed";
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(2, 2), kRunning, kStart)) << "no such batch";
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(9, 0), kRunning, kStart)) << "no such job";
  EXPECT_FALSE(scheduler_.adopt(NodeId{9}, key(2, 1), kRunning, kStart)) << "no such node";
  scheduler_.remove_job(JobId{2});
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(2, 1), kRunning, kStart)) << "over";
}

TEST_F(SchedulerAdoption, APausedJobKeepsWhatRuns) {
  scheduler_.set_enabled(JobId{1}, false);
  EXPECT_FALSE(scheduler_.adopt(NodeId{1}, key(1, 0), kWaiting, kStart));
  EXPECT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 1), kRunning, kStart));
  EXPECT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 2), HeldStage::finished, kStart));
}

TEST_F(SchedulerAdoption, LaterAttemptsHaveHigherNumbers) {
  ASSERT_TRUE(scheduler_.adopt(NodeId{1}, key(1, 3, 4), kRunning, kStart));
  ASSERT_TRUE(scheduler_.lost(JobId{1}, 3, 4, NodeId{1}, LeaseLoss::not_stored));
  const auto given = all_next(scheduler_);
  const auto again = std::find_if(given.begin(), given.end(), [](const Assignment& one) { return one.lease.batch == 3; });
  ASSERT_NE(again, given.end());
  EXPECT_EQ(again->lease.attempt, 5U);
  // Of a batch that was given up, whose number stands apart; and of one with a number no coordinator gave.
  for (const auto& [batch, attempt] : {std::pair<BatchIndex, std::uint32_t>{6, kGiveUpAttempt + 3}, {7, 0xFFFFFFFF}}) {
    Scheduler fresh({});
    fresh.add_node(NodeId{1}, 1);
    fresh.add_job(job_of(1, 80, 10), {true, true, true, true, true, true, batch != 6, batch != 7}, true, kStart);
    ASSERT_TRUE(fresh.adopt(NodeId{1}, key(1, batch, attempt), kRunning, kStart));
    EXPECT_EQ(fresh.remove_node(NodeId{1}), 1U);
    fresh.add_node(NodeId{1}, 1);
    const auto next = fresh.next(kStart);
    ASSERT_TRUE(next);
    EXPECT_NE(next->lease.attempt, attempt);
    EXPECT_LT(next->lease.attempt, kGiveUpAttempt);
  }
}

TEST_F(SchedulerAdoption, OfWhatWasToBeRedoneNothingIsGivenTwice) {
  const auto given = all_next(scheduler_);
  const auto first = std::find_if(given.begin(), given.end(), [](const Assignment& one) { return one.lease.batch == 0; });
  ASSERT_EQ(scheduler_.remove_node(first->node), 2U);
  scheduler_.add_node(first->node, 1);
  ASSERT_TRUE(scheduler_.adopt(first->node, key_of(*first), kRunning, kStart));
  for (const Assignment& one : all_next(scheduler_)) EXPECT_NE(one.lease.batch, 0U);
}

TEST_F(SchedulerAdoption, ASessionOfTheSameLifeLosesNoLeases) {
  const auto given = all_next(scheduler_);
  ASSERT_EQ(scheduler_.leased_at(NodeId{1}), 2U);
  scheduler_.set_open(NodeId{1}, false);
  scheduler_.add_node(NodeId{1}, 2);
  EXPECT_EQ(scheduler_.leased_at(NodeId{1}), 2U);
  EXPECT_EQ(scheduler_.credit_of(NodeId{1}), 4U) << "with more slots";
  EXPECT_FALSE(all_next(scheduler_).empty()) << "it is open again";
  for (const Assignment& one : given) EXPECT_TRUE(scheduler_.committed(idunno::commit_of(one)));
}

TEST_F(SchedulerAdoption, WhatANodeDoesNotHoldAnyMoreIsGivenAgain) {
  const auto given = all_next(scheduler_);
  std::vector<Assignment> at_one;
  std::copy_if(given.begin(), given.end(), std::back_inserter(at_one), [](const auto& one) { return one.node == NodeId{1}; });
  ASSERT_EQ(at_one.size(), 2U);
  EXPECT_EQ(scheduler_.reconcile(NodeId{1}, {key_of(at_one[0])}), 1U);
  EXPECT_EQ(scheduler_.leased_at(NodeId{1}), 1U);
  EXPECT_EQ(scheduler_.reconcile(NodeId{1}, {key_of(at_one[0])}), 0U);
  const auto again = all_next(scheduler_);
  ASSERT_FALSE(again.empty());
  EXPECT_EQ(again[0].lease.batch, at_one[1].lease.batch);
  EXPECT_EQ(again[0].node, NodeId{1}) << "no failure of that node";
  EXPECT_EQ(again[0].lease.attempt, 1U);
  EXPECT_EQ(scheduler_.reconcile(NodeId{7}, {}), 0U);
}

TEST_F(SchedulerAdoption, SharesStayRightThroughAdoptionAndLoss) {
  // All counts come back to nothing whatever order things happen in.
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    Scheduler scheduler({});
    std::vector<bool> there(4, true);
    for (std::uint32_t node = 1; node <= 3; ++node) scheduler.add_node(NodeId{node}, 1 + node % 2);
    for (std::uint64_t job = 1; job <= 2; ++job) scheduler.add_job(job_of(job, 95, 10), {}, true, kStart);
    std::map<LeaseKey, NodeId> out;
    std::set<std::pair<JobId, BatchIndex>> done;
    const auto busy = [&](const LeaseKey& lease) {
      return std::any_of(out.begin(), out.end(),
                         [&](const auto& one) { return one.first.job == lease.job && one.first.batch == lease.batch; });
    };
    for (int step = 0; step < 400 && done.size() < 20; ++step) {
      const NodeId node{static_cast<std::uint32_t>(1 + random.below(3))};
      switch (random.below(6)) {
        case 0: {
          const LeaseKey lease{JobId{1 + random.below(2)}, static_cast<BatchIndex>(random.below(10)),
                               static_cast<std::uint32_t>(random.below(5))};
          const bool wanted =
              there[node.value] && !done.contains({lease.job, lease.batch}) && (!busy(lease) || out.contains(lease));
          const bool same = out.contains(lease) && out.at(lease) == node;
          const bool kept = scheduler.adopt(node, lease, kRunning, kStart);
          ASSERT_EQ(kept, wanted && (same || !busy(lease)));
          if (kept) out[lease] = node;
          break;
        }
        case 1: {
          std::set<LeaseKey> held;
          std::size_t gone = 0;
          for (auto at = out.begin(); at != out.end();) {
            if (at->second != node || random.below(2) == 0) {
              if (at->second == node) held.insert(at->first);
              ++at;
              continue;
            }
            ++gone;
            at = out.erase(at);
          }
          ASSERT_EQ(scheduler.reconcile(node, held), gone);
          break;
        }
        case 2:
          if (random.below(4) != 0) break;
          scheduler.remove_node(node);
          std::erase_if(out, [&](const auto& one) { return one.second == node; });
          there[node.value] = false;
          break;
        case 3:
          scheduler.add_node(node, 1 + node.value % 2);
          there[node.value] = true;
          break;
        case 4:
          if (const auto given = scheduler.next(kStart)) {
            ASSERT_TRUE(there[given->node.value]);
            ASSERT_FALSE(busy(key_of(*given)));
            ASSERT_FALSE(done.contains({given->lease.job, given->lease.batch}));
            out[key_of(*given)] = given->node;
          }
          break;
        default:
          if (out.empty()) break;
          auto at = std::next(out.begin(), static_cast<std::ptrdiff_t>(random.below(out.size())));
          ASSERT_TRUE(scheduler.committed(commit_of(at->second, at->first)));
          done.insert({at->first.job, at->first.batch});
          out.erase(at);
      }
      for (std::uint32_t id = 1; id <= 3; ++id) {
        const auto count = std::count_if(out.begin(), out.end(), [&](const auto& one) { return one.second == NodeId{id}; });
        ASSERT_EQ(scheduler.leased_at(NodeId{id}), static_cast<std::uint32_t>(count));
      }
    }
    for (std::uint32_t node = 1; node <= 3; ++node) scheduler.add_node(NodeId{node}, 1);
    for (int turn = 0; turn < 100 && done.size() < 20; ++turn) {
      for (const Assignment& given : all_next(scheduler)) out[key_of(given)] = given.node;
      for (const auto& [lease, node] : out) {
        ASSERT_TRUE(scheduler.committed(commit_of(node, lease)));
        done.insert({lease.job, lease.batch});
      }
      out.clear();
    }
    ASSERT_EQ(done.size(), 20U) << "every batch is done once";
    for (std::uint32_t node = 1; node <= 3; ++node) ASSERT_EQ(scheduler.leased_at(NodeId{node}), 0U);
  }
}

}  // namespace
}  // namespace idunno

// What a worker starts next while the coordinator tells it how far the jobs are.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "bus/done_steps.h"
#include "nodes/jobs/worker_queue.h"

namespace idunno {
namespace {

constexpr Time kStart{std::chrono::seconds(100)};

Time at_ms(std::int64_t ms) { return kStart + std::chrono::milliseconds(ms); }

Lease lease(std::uint64_t job, BatchIndex batch, std::uint64_t pass, std::uint32_t queries = 16) {
  Lease made;
  made.job = JobId{job};
  made.batch = batch;
  made.queries = queries;
  made.pass = pass;
  return made;
}

/// Three jobs of models m1 to m3, with a batch of job 1 running in the first slot.
class WorkerOrder : public testing::Test {
 protected:
  explicit WorkerOrder(std::uint32_t slots = 1) : queue(slots, 1'000'000) {
    give({lease(1, 0, 0)});
    EXPECT_EQ(running, "j1/b0");
  }
  void give(const std::vector<Lease>& leases, bool urgent_third = false) {
    LeaseGrant grant;
    for (std::uint64_t job = 1; job <= 3; ++job) {
      JobDescription description;
      description.job = JobId{job};
      description.model.name = "m" + std::to_string(job);
      description.spec.urgent = job == 3 && urgent_third;
      grant.descriptions.push_back(description);
    }
    grant.leases = leases;
    WorkerOutput out;
    queue.granted(grant, now, out);
    while (!out.fetch.empty()) {
      WorkerOutput next;
      for (const Lease& each : out.fetch) queue.input_ready({each.job, each.batch, each.attempt}, 1000, now, next);
      note(next);
      out = std::move(next);
    }
  }
  void note(const WorkerOutput& out) {
    ASSERT_LE(out.start.size(), 1U);
    if (out.start.empty()) return;
    computing = {out.start[0].lease.job, out.start[0].lease.batch, out.start[0].lease.attempt};
    running = batch_name(computing.job, computing.batch);
  }
  /// The running batch ends; what starts then.
  std::string finish(std::int64_t ms, bool loaded_model = false) {
    now = at_ms(ms);
    WorkerOutput out;
    running.clear();
    (void)queue.finished(0, computing, 0, 0, now, out, loaded_model ? 100'000 : 0);
    note(out);
    return running;
  }
  void order(std::vector<JobPass> jobs) { queue.ordered(JobOrder{std::move(jobs), {}}, now); }

  WorkerQueue queue;
  Time now = kStart;
  LeaseKey computing;
  std::string running;
};

TEST_F(WorkerOrder, WhatLagsInTheClusterStartsFirstWhateverTheLeasesSay) {
  give({lease(1, 1, 10), lease(2, 0, 99), lease(2, 1, 99)});
  order({{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}});
  EXPECT_EQ(finish(1000), "j2/b0");
}

TEST_F(WorkerOrder, CountsWhatItStartedItself) {
  give({lease(1, 1, 10), lease(2, 0, 99), lease(2, 1, 99)});
  order({{JobId{2}, 1000, 10}, {JobId{1}, 1100, 10}});
  EXPECT_EQ(finish(1000), "j2/b0");
  EXPECT_EQ(finish(1100), "j1/b1") << "16 queries of 10 passes each put job 2 ahead";
}

TEST_F(WorkerOrder, AnOrderThatCannotKnowOfAStartDoesNotUndoIt) {
  give({lease(1, 1, 10), lease(2, 0, 99), lease(2, 1, 99)});
  order({{JobId{2}, 1000, 10}, {JobId{1}, 1100, 10}});
  EXPECT_EQ(finish(1000), "j2/b0");
  now = at_ms(1010);
  order({{JobId{2}, 1000, 10}, {JobId{1}, 1100, 10}});  // made before the start was known
  EXPECT_EQ(finish(1020), "j1/b1");
}

TEST_F(WorkerOrder, ComparesTheMiddlesOfTheBatches) {
  // After a start of job 1 the two would stand at 2600 and 1500, after one of job 2 at 1000 and 1540: that is nearer.
  give({lease(1, 1, 10, 16), lease(2, 0, 99, 4)});
  order({{JobId{1}, 1000, 100}, {JobId{2}, 1140, 100}});
  EXPECT_EQ(finish(1000), "j2/b0");
}

TEST_F(WorkerOrder, OldNewsAreNotFollowed) {
  give({lease(1, 1, 10), lease(2, 0, 99)});
  order({{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}});
  EXPECT_EQ(finish(1 + kJobOrderAgeMax.count() / 1000), "j1/b1") << "by the pass of the lease";
}

TEST_F(WorkerOrder, AJobThatTheOrderDoesNotNameGoesByItsLease) {
  give({lease(1, 1, 10), lease(2, 0, 900)});
  order({{JobId{1}, 1000, 10}});
  EXPECT_EQ(finish(1000), "j2/b0");
}

TEST_F(WorkerOrder, TheLowestBatchOfAJobGoesFirst) {
  give({lease(1, 7, 1), lease(1, 2, 50), lease(2, 0, 99)});  // batch 2 was lost elsewhere and leased again
  order({{JobId{1}, 1000, 10}, {JobId{2}, 5000, 10}});
  EXPECT_EQ(finish(1000), "j1/b2");
}

TEST_F(WorkerOrder, PriorityGoesBeforeTheOrderAndUrgentBeforePriority) {
  Lease high = lease(2, 0, 99);
  high.priority = 7;
  give({lease(1, 1, 10), high});
  order({{JobId{1}, 0, 10}, {JobId{2}, 5000, 10}});
  EXPECT_EQ(finish(1000), "j2/b0");

  Lease higher = lease(2, 1, 99);
  higher.priority = INT32_MAX;
  give({lease(3, 0, 99), higher}, true);
  EXPECT_EQ(finish(2000), "j3/b0");
}

TEST_F(WorkerOrder, ALeaseThatIsGivenAgainTakesItsNewPriority) {
  give({lease(1, 1, 10), lease(2, 0, 99)});
  Lease raised = lease(2, 0, 99);
  raised.priority = 1;
  give({raised});
  EXPECT_EQ(queue.size(), 3U);
  EXPECT_EQ(finish(1000), "j2/b0");
}

// ---- the plan of the coordinator ----

TEST_F(WorkerOrder, StartsWhatIsPlannedForItThoughAnotherLagsMore) {
  give({lease(1, 1, 10), lease(2, 0, 99), lease(2, 1, 99)});
  queue.ordered(JobOrder{{{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}}, {{computing, JobId{1}}}}, now);
  EXPECT_EQ(finish(1000), "j1/b1");
  give({lease(1, 2, 10)});
  EXPECT_EQ(finish(1100), "j2/b0") << "the plan is used up: what lags most";
}

TEST_F(WorkerOrder, APlanThatDoesNotKnowOfAStartIsNotFollowedTwice) {
  give({lease(1, 1, 10), lease(1, 2, 10), lease(2, 0, 99)});
  const JobOrder told{{{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}}, {{computing, JobId{1}}}};
  queue.ordered(told, now);
  EXPECT_EQ(finish(1000), "j1/b1");
  queue.ordered(told, now);  // sent before that start was known
  EXPECT_EQ(finish(1100), "j2/b0");
}

TEST_F(WorkerOrder, APlannedJobWithoutAReadyBatchIsPassedOver) {
  give({lease(1, 1, 10), lease(2, 0, 99)});
  queue.ordered(JobOrder{{{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}}, {{computing, JobId{3}}}}, now);
  EXPECT_EQ(finish(1000), "j2/b0");
}

TEST_F(WorkerOrder, ASlotOfWhichNothingIsKnownFollowsAPlanOnce) {
  give({lease(1, 1, 10), lease(1, 2, 10), lease(2, 0, 99)});
  queue.ordered(JobOrder{{{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}}, {{LeaseKey{}, JobId{1}}}}, now);
  EXPECT_EQ(finish(1000), "j1/b1");
  EXPECT_EQ(finish(1100), "j2/b0");
}

class TwoSlots : public WorkerOrder {
 protected:
  TwoSlots() : WorkerOrder(2) {
    first = computing;
    give({lease(2, 0, 1)});
    EXPECT_EQ(running, "j2/b0");
  }
  LeaseKey first;
};

TEST_F(TwoSlots, ASlotThatIsDoneBeforeTheOtherDoesNotTakeWhatIsPlannedForThat) {
  give({lease(1, 1, 10), lease(2, 1, 99)});
  queue.ordered(JobOrder{{{JobId{2}, 1000, 10}, {JobId{1}, 5000, 10}}, {{first, JobId{2}}, {computing, JobId{1}}}}, now);
  now = at_ms(1000);
  WorkerOutput out;
  ASSERT_TRUE(queue.finished(1, computing, 0, 0, now, out));
  note(out);
  EXPECT_EQ(running, "j1/b1");
}

TEST_F(WorkerOrder, UrgentWorkGoesBeforeThePlan) {
  give({lease(1, 1, 10), lease(3, 0, 99)}, true);
  queue.ordered(JobOrder{{{JobId{1}, 1000, 10}}, {{computing, JobId{1}}}}, now);
  EXPECT_EQ(finish(1000), "j3/b0");
}

// ---- shares of a processor ----

TEST_F(WorkerOrder, AnExecutorIsAsNiceAsItsJobIsAhead) {
  queue.started(0, computing, now, 0);
  EXPECT_EQ(queue.executor_share(0, now).nice, kExecutorNice) << "nothing told";
  const auto nice = [&](std::int32_t lead_ms) {
    order({{JobId{2}, 1000, 10, -lead_ms}, {JobId{1}, 1000, 10, lead_ms}});
    return queue.executor_share(0, now).nice;
  };
  const auto step = static_cast<std::int32_t>(kNiceStep / std::chrono::milliseconds(1));
  EXPECT_EQ(nice(0), kExecutorNice);
  EXPECT_EQ(nice(3 * step), kExecutorNice + 3);
  EXPECT_EQ(nice(-2 * step), kExecutorNice - 2);
  EXPECT_EQ(nice(60'000), kExecutorNiceMax);
  EXPECT_EQ(nice(-60'000), kExecutorNiceMin);
  EXPECT_EQ(queue.executor_share(0, now + kJobOrderAgeMax + Duration(1)).nice, kExecutorNice) << "old news";
}

TEST_F(WorkerOrder, BetweenTwoOrdersALeadGrowsWithWhatTheExecutorHas) {
  constexpr std::uint32_t kPerCpuMilli = 5000;  // a fair share is a fifth of a processor
  const auto steps_after = [&](std::int64_t ms, std::uint64_t cpu_us) {
    queue.executor_time(0, 1'000'000 + cpu_us, {}, at_ms(ms));
    return queue.executor_share(0, at_ms(ms)).nice - kExecutorNice;
  };
  queue.started(0, computing, at_ms(0), 0, 900'000);
  queue.loaded(0, computing, at_ms(0), 900'000);
  EXPECT_EQ(steps_after(100, 0), 0);
  now = at_ms(100);
  order({{JobId{2}, 1000, 10}, {JobId{1}, 1000, 10, 0, kPerCpuMilli, 1}});
  EXPECT_EQ(steps_after(200, 20'000), 0) << "as much as it should have";
  EXPECT_EQ(steps_after(220, 40'000), 4) << "a processor for itself for 20 ms: 80 ms ahead";
  EXPECT_EQ(steps_after(280, 40'000), 1) << "and then none for 60 ms";
  now = at_ms(280);
  order({{JobId{2}, 1000, 10}, {JobId{1}, 1000, 10, 40, kPerCpuMilli, 2}});
  EXPECT_EQ(steps_after(300, 42'000), 2) << "another executor does half of the work";
}

TEST_F(WorkerOrder, AnExecutorThatRunsAwayWithAProcessorIsStoppedWhileItsJobIsAhead) {
  constexpr ProcessorLoad kCrowded{9, 2};
  const auto told = [&](std::int32_t lead_ms) {
    order({{JobId{2}, 1000, 10, -lead_ms}, {JobId{1}, 1000, 10, lead_ms, 5000, 1}});
  };
  const auto stopped_after = [&](std::int64_t ms, std::uint64_t cpu_us) {
    now = at_ms(ms);
    queue.executor_time(0, 1'000'000 + cpu_us, kCrowded, now);
    return queue.executor_share(0, now).stopped;
  };
  queue.started(0, computing, at_ms(0), 0, 1'000'000);
  told(500);
  EXPECT_FALSE(stopped_after(10, 5'000));
  EXPECT_FALSE(stopped_after(50, 40'000)) << "it loads its model";
  queue.loaded(0, computing, at_ms(50), 1'040'000);
  EXPECT_FALSE(stopped_after(100, 50'000)) << "as much as it should have";
  told(500);
  EXPECT_TRUE(stopped_after(120, 70'000)) << "a processor for itself for 20 ms: 80 ms more than its share";
  EXPECT_TRUE(queue.shares_processors()) << "and it is looked at as often as before";
  EXPECT_TRUE(stopped_after(180, 70'000));
  EXPECT_FALSE(queue.executor_share(0, at_ms(500)).stopped) << "no news: nobody knows whether it is still ahead";
  told(-500);
  EXPECT_FALSE(stopped_after(190, 70'000)) << "its job lags behind now";
  told(500);
  EXPECT_FALSE(stopped_after(260, 70'000));
  EXPECT_TRUE(stopped_after(300, 110'000));
  EXPECT_TRUE(queue.computes_long()) << "no batch has been measured, but only a look lets this one go on";
  order({{JobId{2}, 1000, 10}});
  EXPECT_FALSE(stopped_after(320, 110'000)) << "nothing is told of its job";
  EXPECT_FALSE(queue.computes_long());
  told(500);
  EXPECT_FALSE(stopped_after(330, 111'000));
  EXPECT_TRUE(stopped_after(370, 150'000));
  queue.executor_time(0, 0, kCrowded, at_ms(380));
  EXPECT_FALSE(queue.executor_share(0, at_ms(380)).stopped) << "its processor time is not known any more";
}

TEST_F(WorkerOrder, ThatProcessorsAreSharedIsForgottenAfterASecondWithAWholeOne) {
  queue.started(0, computing, at_ms(0), 0, 1'000'000);
  queue.loaded(0, computing, at_ms(0), 1'000'000);
  EXPECT_FALSE(queue.shares_processors());
  queue.executor_time(0, 1'050'000, {}, at_ms(100));
  EXPECT_TRUE(queue.shares_processors());
  for (std::int64_t ms = 200; ms <= 1100; ms += 100) {
    queue.executor_time(0, 1'000'000 + static_cast<std::uint64_t>(ms - 50) * 1000, {}, at_ms(ms));
    EXPECT_TRUE(queue.shares_processors()) << ms;
  }
  queue.executor_time(0, 2'150'000, {}, at_ms(1200));
  EXPECT_FALSE(queue.shares_processors());
}

TEST_F(WorkerOrder, AnIdleExecutorAndOneOfAnUnknownJobAreAsNiceAsEver) {
  order({{JobId{1}, 1000, 10, 600}});
  EXPECT_EQ(queue.executor_share(0, now).nice, kExecutorNice) << "handed over, not begun";
  queue.started(0, computing, now, 0);
  order({{JobId{2}, 1000, 10, 600}});
  EXPECT_EQ(queue.executor_share(0, now).nice, kExecutorNice);
}

TEST_F(WorkerOrder, UrgentWorkGetsMostOfTheProcessor) {
  give({lease(3, 0, 99)}, true);
  EXPECT_EQ(finish(1000), "j3/b0");
  queue.started(0, computing, now, 0);
  order({{JobId{1}, 1000, 10, 0}});
  EXPECT_EQ(queue.executor_share(0, now).nice, kExecutorNiceMin);
}

TEST_F(WorkerOrder, TellsHowFarItsBatchesAreByProcessorTime) {
  queue.started(0, computing, now, 0, 5'000'000);
  EXPECT_TRUE(queue.running_batches(now).at(0).loading) << "a model that it has not computed yet";
  queue.loaded(0, computing, at_ms(300), 5'200'000);
  queue.executor_time(0, 5'300'000, {}, at_ms(500));
  const auto batches = queue.running_batches(at_ms(500));
  ASSERT_EQ(batches.size(), 1U);
  EXPECT_EQ(batches[0], (RunningBatch{computing, 500, 100'000, false}));
  EXPECT_TRUE(queue.shares_processors()) << "half of one";
  queue.executor_time(0, 5'500'000, {}, at_ms(700));
  EXPECT_TRUE(queue.shares_processors()) << "a whole one, for a moment";

  WorkerOutput out;
  ASSERT_TRUE(queue.finished(0, computing, 0, 0, at_ms(1000), out, 300'000, 5'700'000));
  queue.stored(computing, BlockRef{}, NodeId{1}, at_ms(1000), out);
  ASSERT_EQ(out.offer.size(), 1U);
  EXPECT_EQ(out.offer[0].cpu_us, 500'000U) << "without loading";
  const std::vector<std::uint16_t>& done = out.offer[0].done_milli;
  ASSERT_FALSE(done.empty());
  const auto done_at = [&](std::int64_t ms) { return done_millionths(done, ms, 1000) / 1000; };
  EXPECT_EQ(done_at(200), 0);
  EXPECT_NEAR(static_cast<double>(done_at(400)), 100, 15);
  EXPECT_NEAR(static_cast<double>(done_at(600)), 400, 15);
  EXPECT_NEAR(static_cast<double>(done_at(850)), 800, 15);
}

/// Models are loaded again and again; the jobs advance by 1000 passes a second.
class WorkerMemory : public WorkerOrder {
 protected:
  WorkerMemory() {
    give({lease(2, 0, 1)});
    EXPECT_EQ(finish(1000), "j2/b0");
    give({lease(1, 1, 2)});
    EXPECT_EQ(finish(2000, true), "j1/b1");
    give({lease(1, 2, 9), lease(1, 3, 9), lease(2, 1, 9), lease(2, 2, 9)});
    order_at(2000, 0, 0);
  }
  /// How far jobs 1 and 2 are.
  void order_at(std::int64_t ms, std::uint64_t first, std::uint64_t second) {
    now = at_ms(ms);
    order({{JobId{1}, first, 1}, {JobId{2}, second, 1}});
  }
};

TEST_F(WorkerMemory, ALoadedModelGoesBeforeOneThatLagsALittle) {
  order_at(2900, 1000, 800);
  EXPECT_EQ(finish(3000, true), "j1/b2") << "m1 had to be loaded again, so memory is short";
  order_at(3900, 2000, 1500);
  EXPECT_EQ(finish(4000), "j2/b1") << "500 passes are more than 300 ms";
}

TEST_F(WorkerMemory, WithoutReloadsTheOrderDecidesAlone) {
  order_at(2900, 1000, 800);
  EXPECT_EQ(finish(3000), "j2/b1");
}

}  // namespace
}  // namespace idunno

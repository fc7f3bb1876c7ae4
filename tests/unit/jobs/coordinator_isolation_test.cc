// Poison queries and stragglers, from the coordinator's side.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/jobs/coordinator_sim.h"

namespace idunno {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool computes(const Lease& lease, std::uint64_t query) {
  if (query < lease.first_query || query >= lease.first_query + lease.queries) return false;
  const auto place = static_cast<std::uint32_t>(query - lease.first_query);
  const bool tried = !lease.is_trial() || (place >= lease.trial_from && place < lease.trial_to);
  return tried && !std::binary_search(lease.quarantined.begin(), lease.quarantined.end(), place);
}

auto poison(std::vector<std::uint64_t> queries) {
  return [queries = std::move(queries)](const FakeWorker&, const Lease& lease, BatchFailed&) {
    return std::any_of(queries.begin(), queries.end(), [&](std::uint64_t query) { return computes(lease, query); });
  };
}

TEST(CoordinatorIsolation, PoisonQueriesAreQuarantinedAndTheRestIsComputed) {
  Sim sim(4, 1);
  sim.fails = poison({73, 78, 150});
  sim.start();
  const JobId job = sim.submit("m", 200, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  const JobReport report = sim.report(job);
  EXPECT_EQ(report.state, JobState::done);
  EXPECT_EQ(report.done, 200U);
  EXPECT_EQ(report.errors, 3U);
  std::vector<std::uint64_t> quarantined = report.quarantined;
  std::sort(quarantined.begin(), quarantined.end());
  EXPECT_EQ(quarantined, (std::vector<std::uint64_t>{73, 78, 150}));
  EXPECT_EQ(sim.count_events("batch_isolated"), 2U);
  EXPECT_EQ(sim.count_events("query_quarantined"), 3U);
  EXPECT_EQ(sim.count_events("batch_given_up"), 0U);
  EXPECT_GT(sim.count_events("trial_passed"), 0U);
  const StatusReply status = sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {}));
  EXPECT_EQ(status.alarms.size(), 3U);
  for (const auto& [batch, count] : sim.commits_accepted) EXPECT_EQ(count, 1U);
  for (const auto& [id, worker] : sim.workers) {
    EXPECT_EQ(sim.node(id).leased, 0U);
    for (const Lease& lease : worker.granted) EXPECT_LT(lease.attempt, kGiveUpAttempt);
  }
}

TEST(CoordinatorIsolation, TheNextCoordinatorFindsTheSameQueries) {
  for (int moment = 0; moment < 12; ++moment) {
    Sim sim(4, 1);
    sim.fails = poison({33, 38});
    sim.start();
    const JobId job = sim.submit("m", 100, 10, milliseconds(20));
    sim.run_for(milliseconds(60 + 30 * moment));
    sim.replace_coordinator(2);
    ASSERT_TRUE(sim.run_until_done({job}, seconds(60))) << moment;
    const JobReport report = sim.report(job);
    EXPECT_EQ(report.errors, 2U) << moment;
    EXPECT_EQ(report.quarantined, (std::vector<std::uint64_t>{33, 38})) << moment;
    EXPECT_EQ(report.conflicting_commits, 0U);
  }
}

TEST(CoordinatorIsolation, TheRunningTrialOfADeadNodeIsGivenAgain) {
  Sim sim(3, 1);
  NodeId victim;
  sim.fails = [&](const FakeWorker& worker, const Lease& lease, BatchFailed& failure) {
    if (lease.is_trial() && !victim) victim = worker.id;
    return poison({5})(worker, lease, failure);
  };
  sim.start();
  const JobId job = sim.submit("m", 40, 10, milliseconds(50));
  for (int i = 0; i < 1000 && !victim; ++i) sim.run_for(milliseconds(5));
  ASSERT_TRUE(victim);
  sim.kill(victim);
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  EXPECT_EQ(sim.report(job).quarantined, std::vector<std::uint64_t>{5});
  EXPECT_EQ(sim.report(job).errors, 1U);
}

/// A job of which all but a few batches are done, those running.
struct Stragglers {
  explicit Stragglers(std::uint64_t batches) : sim(3, 1) {
    sim.keep_starts = true;
    sim.start();
    job = sim.submit("m", batches * 10, 10, milliseconds(100));
    for (int i = 0; i < 10'000 && sim.report(job).batches_done + 2 < batches; ++i) sim.run_for(milliseconds(5));
    for (auto at = sim.starts.rbegin(); at != sim.starts.rend() && slow.batch == 0; ++at) {
      if (!sim.coordinator->state().job(job)->committed(at->second.batch)) slow = at->second;
    }
    for (const auto& [id, worker] : sim.workers) {
      for (const Lease& lease : worker.granted) {
        if (lease.batch == slow.batch && lease.attempt == slow.attempt) node = id;
      }
    }
  }
  void beat(std::uint32_t elapsed_ms) {
    Heartbeat beat;
    beat.node = node;
    beat.incarnation = Incarnation{sim.workers.at(node).incarnation};
    beat.free_bytes = 10ULL << 30U;
    beat.running = 1;
    beat.running_batches = {RunningBatch{slow, elapsed_ms}};
    (void)sim.reply_to<HeartbeatReply>(sim.ask(beat, sim.fresh(), to_string(node)));
  }
  Sim sim;
  JobId job;
  LeaseKey slow;
  NodeId node;
};

TEST(CoordinatorHedging, AStragglerIsLeasedASecondTimeElsewhere) {
  Stragglers run(40);
  ASSERT_NE(run.slow.batch, 0U);
  ASSERT_TRUE(run.node);
  run.beat(300);
  EXPECT_EQ(run.sim.count_events("batch_hedged"), 0U) << "three times the usual 100 ms are not over";
  run.beat(400);
  ASSERT_EQ(run.sim.count_events("batch_hedged"), 1U);
  run.beat(500);
  EXPECT_EQ(run.sim.count_events("batch_hedged"), 1U) << "once";
  EXPECT_EQ(run.sim.report(run.job).hedged, 1U);
  run.sim.run_for(milliseconds(20));
  std::size_t holders = 0;
  for (const auto& [id, worker] : run.sim.workers) {
    holders += static_cast<std::size_t>(std::count_if(worker.granted.begin(), worker.granted.end(),
                                                      [&](const Lease& lease) { return lease.batch == run.slow.batch; }));
  }
  EXPECT_EQ(holders, 2U);
  ASSERT_TRUE(run.sim.run_until_done({run.job}, seconds(30)));
  run.sim.run_for(seconds(1));
  const JobReport report = run.sim.report(run.job);
  EXPECT_EQ(report.hedged, 1U) << "also after the end";
  EXPECT_EQ(report.conflicting_commits, 0U);
  EXPECT_EQ(run.sim.commits_accepted.at({run.job, run.slow.batch}), 1U);
  for (const auto& [id, worker] : run.sim.workers) EXPECT_EQ(run.sim.node(id).leased, 0U);
}

TEST(CoordinatorHedging, NothingIsHedgedBeforeTheUsualTimeIsKnown) {
  Stragglers run(20);
  ASSERT_NE(run.slow.batch, 0U);
  run.beat(100'000);
  EXPECT_EQ(run.sim.count_events("batch_hedged"), 0U);
}

}  // namespace
}  // namespace idunno

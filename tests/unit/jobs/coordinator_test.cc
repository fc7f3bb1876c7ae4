#include "nodes/jobs/coordinator.h"

#include "tests/unit/jobs/coordinator_sim.h"

namespace idunno {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// ---- fairness ---------------------------------------------------------------------------------------------------------

TEST(Coordinator, JobsOfUnequalCostRunAtEqualRatesInEveryWindow) {
  Sim sim(5, 2);
  sim.start();
  const JobId cheap = sim.submit("cheap", 10'000'000, 16, milliseconds(20));
  const JobId dear = sim.submit("dear", 10'000'000, 16, milliseconds(200));
  sim.run_for(seconds(15));
  for (int i = 0; i < 60; ++i) {
    sim.run_for(seconds(1));
    const double a = static_cast<double>(sim.report(cheap).rate_milli_qps);
    const double b = static_cast<double>(sim.report(dear).rate_milli_qps);
    ASSERT_LT(std::max(a, b) / std::min(a, b), 1.10) << "at second " << i;
  }
  const FairnessReport fairness = sim.coordinator->reports({}, 10, sim.now).fairness;
  EXPECT_EQ(fairness.jobs, 2U);
  EXPECT_GT(fairness.windows, 50U);
  EXPECT_EQ(fairness.in10_windows, fairness.windows);
  EXPECT_LE(fairness.max_min_milli, 1100U);
}

TEST(Coordinator, RatesFollowTheWeights) {
  Sim sim(3, 2);
  sim.start();
  const JobId heavy = sim.submit("heavy", 10'000'000, 10, milliseconds(30), 3000);
  const JobId light = sim.submit("light", 10'000'000, 10, milliseconds(50), 1000);
  sim.run_for(seconds(40));
  const double ratio =
      static_cast<double>(sim.report(heavy).rate_milli_qps) / static_cast<double>(sim.report(light).rate_milli_qps);
  EXPECT_NEAR(ratio, 3.0, 0.15);
  sim.ask(JobSetRequest{light, 3000, 0, 0}, sim.fresh());
  sim.run_for(seconds(30));
  const double after =
      static_cast<double>(sim.report(heavy).rate_milli_qps) / static_cast<double>(sim.report(light).rate_milli_qps);
  EXPECT_NEAR(after, 1.0, 0.05);
}

TEST(Coordinator, ANewJobStartsAtTheNextBatchBorder) {
  for (const Duration batch_time : {Duration(milliseconds(400)), Duration(milliseconds(5))}) {
    Sim sim(3, 2);
    sim.start();
    sim.submit("old", 10'000'000, 16, batch_time);
    sim.run_for(seconds(10));
    sim.keep_starts = true;
    const Time submitted = sim.now;
    const JobId fresh = sim.submit("new", 1'000'000, 16, milliseconds(300));
    sim.run_for(seconds(2));
    const auto first =
        std::find_if(sim.starts.begin(), sim.starts.end(), [&](const auto& start) { return start.second.job == fresh; });
    ASSERT_NE(first, sim.starts.end());
    EXPECT_LE((first->first - submitted).count(), (batch_time + milliseconds(5)).count());
  }
}

TEST(Coordinator, KeepsARateLimit) {
  Sim sim(3, 2);
  sim.start();
  const JobId limited = sim.submit("limited", 1'000'000, 10, milliseconds(10), 1000, 50'000);
  const JobId other = sim.submit("other", 10'000'000, 10, milliseconds(20));
  sim.run_for(seconds(40));
  EXPECT_NEAR(static_cast<double>(sim.report(limited).rate_milli_qps), 50'000, 2'500);
  EXPECT_GT(sim.report(other).rate_milli_qps, 1'000'000U) << "the others use the rest";
  EXPECT_EQ(sim.coordinator->reports({}, 10, sim.now).fairness.windows, 0U) << "a limited job is not judged";
}

TEST(Coordinator, HigherPriorityRunsFirst) {
  Sim sim(2, 2);
  sim.start();
  const JobId low = sim.submit("low", 10'000'000, 10, milliseconds(20));
  sim.run_for(seconds(5));
  const JobId high = sim.submit("high", 4000, 10, milliseconds(20), 1000, 0, 5);
  const std::uint64_t before = sim.done(low);
  ASSERT_TRUE(sim.run_until_done({high}, seconds(4)));
  EXPECT_LT(sim.done(low) - before, 600U);
}

// ---- exactly once -----------------------------------------------------------------------------------------------------

TEST(Coordinator, RunsAJobToItsEnd) {
  Sim sim(3, 2);
  sim.start();
  const JobId job = sim.submit("m", 1003, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  sim.run_for(seconds(1));
  const JobReport report = sim.report(job);
  EXPECT_EQ(report.state, JobState::done);
  EXPECT_EQ(report.done, 1003U);
  EXPECT_EQ(report.batches_done, 101U);
  EXPECT_EQ(report.retried, 0U);
  EXPECT_EQ(report.leased, 0U);
  EXPECT_EQ(sim.count_events("batch_leased"), 101U);
  EXPECT_EQ(sim.count_events("batch_committed"), 101U);
  EXPECT_EQ(sim.count_events("job_submitted"), 1U);
  EXPECT_EQ(sim.count_events("job_done"), 1U);
  const auto results = sim.reply_to<JobResultsReply>(sim.ask(JobResultsRequest{job, 50, 10}, sim.fresh()));
  EXPECT_EQ(results.batches, 101U);
  ASSERT_EQ(results.blocks.size(), 10U);
  EXPECT_EQ(results.blocks[0].hash, hash128(to_string(job) + "/0/500"));
}

TEST(Coordinator, ADeadNodesBatchesGoToOthersAndCommitOnce) {
  Sim sim(4, 2);
  sim.start();
  const JobId job = sim.submit("m", 4000, 10, milliseconds(100));
  sim.run_for(seconds(3));
  const Time killed = sim.now;
  sim.kill(NodeId{2});
  sim.run_for(milliseconds(200));
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::dead);
  EXPECT_EQ(sim.node(NodeId{2}).leased, 0U);
  EXPECT_GT(sim.report(job).retried, 0U);
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  EXPECT_GT(sim.now, killed);
  for (BatchIndex batch = 0; batch < 400; ++batch) ASSERT_EQ((sim.commits_accepted[{job, batch}]), 1U);
  EXPECT_EQ(sim.count_events("node_dead"), 1U);
  sim.start_worker(NodeId{2});
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::alive);
  EXPECT_EQ(sim.count_events("node_joined"), 5U);
}

TEST(Coordinator, ASilentNodeIsSuspectThenDeadAndItsLateResultsAreDuplicates) {
  Sim sim(3, 1);
  sim.start();
  const JobId job = sim.submit("m", 1000, 10, milliseconds(200));
  sim.run_for(seconds(2));
  sim.workers.at(NodeId{3}).frozen = true;
  sim.run_for(milliseconds(2200));
  EXPECT_EQ(sim.node(NodeId{3}).state, NodeState::suspect);
  sim.run_for(milliseconds(1500));
  EXPECT_EQ(sim.node(NodeId{3}).state, NodeState::dead);
  sim.workers.at(NodeId{3}).frozen = false;
  sim.run_for(seconds(2));
  EXPECT_EQ(sim.node(NodeId{3}).state, NodeState::alive) << "its heartbeat is told to say hello again";
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  for (BatchIndex batch = 0; batch < 100; ++batch) ASSERT_EQ((sim.commits_accepted[{job, batch}]), 1U);
  EXPECT_EQ(sim.report(job).conflicting_commits, 0U);
}

TEST(Coordinator, ASuspectKeepsItsLeasesAndGetsNoNewOnes) {
  Sim sim(2, 1);
  sim.start();
  const JobId job = sim.submit("m", 100'000, 10, milliseconds(100));
  sim.run_for(seconds(2));
  sim.watching = false;
  sim.word(NodeId{2}, NodeState::suspect);
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::suspect);
  EXPECT_GT(sim.node(NodeId{2}).leased, 0U);
  sim.run_for(kHop);  // what was granted before the suspicion may still be on its way
  const std::size_t granted = sim.workers.at(NodeId{2}).granted.size();
  sim.run_for(seconds(2));
  EXPECT_EQ(sim.workers.at(NodeId{2}).granted.size(), granted);
  EXPECT_EQ(sim.node(NodeId{2}).leased, 0U) << "it has done what it had";
  EXPECT_EQ(sim.report(job).retried, 0U);
  sim.watching = true;
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::alive) << "it answers after all";
  EXPECT_GT(sim.workers.at(NodeId{2}).granted.size(), granted);
}

TEST(Coordinator, WordsAboutAnEarlierLifeAreIgnored) {
  Sim sim(2, 1);
  sim.start();
  sim.kill(NodeId{2});
  sim.run_for(seconds(1));
  sim.start_worker(NodeId{2});
  sim.run_for(milliseconds(10));
  ASSERT_EQ(sim.node(NodeId{2}).state, NodeState::alive);
  CoordinatorOutput out;
  sim.coordinator->member_changed(NodeId{2}, NodeState::dead, Incarnation{1}, sim.now, out);
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::alive);
  sim.coordinator->member_changed(NodeId{2}, NodeState::left, Incarnation{2}, sim.now, out);
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::left);
}

TEST(Coordinator, ASessionWithoutHeartbeatsEndsAlthoughMembershipCallsTheNodeAlive) {
  Sim sim(2, 1);
  sim.start();
  const JobId job = sim.submit("m", 100'000, 10, milliseconds(100));
  sim.run_for(seconds(2));
  sim.loses = [](NodeId id, MessageType) { return id == NodeId{2}; };
  sim.run_for(milliseconds(5400));
  EXPECT_GT(sim.node(NodeId{2}).leased, 0U);
  sim.run_for(milliseconds(1200));
  EXPECT_EQ(sim.node(NodeId{2}).leased, 0U) << "twice dead_after";
  EXPECT_EQ(sim.node(NodeId{2}).state, NodeState::alive);
  EXPECT_EQ(sim.count_events("session_ended"), 1U);
  EXPECT_EQ(sim.count_events("node_dead"), 0U);
  sim.loses = nullptr;
  sim.run_for(seconds(3));
  EXPECT_GT(sim.node(NodeId{2}).leased, 0U) << "its heartbeat is told to say hello again";
  EXPECT_GT(sim.report(job).retried, 0U);
}

TEST(Coordinator, ACoordinatorThatWasReplacedTakesNothingFromNodesThatKnowTheNextOne) {
  Sim sim(1, 1);
  sim.start();
  const JobId job = sim.submit("m", 20, 10, seconds(1000));
  const std::size_t entries = sim.log.size();
  const auto code_of = [&](const auto& request) {
    const Ticket ticket = ++sim.last_ticket;
    CoordinatorOutput out;
    sim.coordinator->handle(sim.info(ticket, sim.fresh(), "n1", Epoch{2}), request, sim.now, out);
    EXPECT_TRUE(out.propose.empty());
    EXPECT_EQ(out.answers.size(), 1U);
    const auto error = decode<ErrorReply>(out.answers.at(0).second.body);
    return error ? error->code : Errc{};
  };
  NodeHello hello;
  hello.node = NodeId{1};
  hello.incarnation = Incarnation{9};
  EXPECT_EQ(code_of(hello), Errc::stale_epoch);
  Heartbeat beat;
  beat.node = NodeId{1};
  EXPECT_EQ(code_of(beat), Errc::stale_epoch);
  BatchCommit commit;
  commit.phase = 1;
  commit.job = job;
  commit.node = NodeId{1};
  commit.queries = 10;
  commit.block = BlockRef{BlockId{8, 1}, 10, hash128("a"), {NodeId{1}}};
  EXPECT_EQ(code_of(CommitBatches{{commit}}), Errc::stale_epoch);
  EXPECT_EQ(code_of(BatchFailed{}), Errc::stale_epoch);
  EXPECT_EQ(sim.log.size(), entries);
}

TEST(Coordinator, ADuplicateCommitCountsOnceAndAConflictRaisesAnAlarm) {
  Sim sim(1, 1);
  sim.start();
  const JobId job = sim.submit("m", 20, 10, seconds(1000));
  BatchCommit commit;
  commit.phase = 1;
  commit.job = job;
  commit.node = NodeId{1};
  commit.queries = 10;
  commit.duration_us = 1000;
  commit.block = BlockRef{BlockId{8, 1}, 10, hash128("a"), {NodeId{1}}};
  auto outcome = [&](const BatchCommit& offered) {
    return sim.reply_to<CommitBatchesReply>(sim.ask(CommitBatches{{offered}}, sim.fresh(), "n1")).outcomes.at(0);
  };
  EXPECT_EQ(outcome(commit), CommitOutcome::accepted);
  commit.block.id.lo = 2;
  EXPECT_EQ(outcome(commit), CommitOutcome::duplicate);
  commit.block.id.lo = 3;
  commit.block.hash = hash128("b");
  EXPECT_EQ(outcome(commit), CommitOutcome::conflict);
  EXPECT_EQ(sim.count_events("alarm"), 1U);
  EXPECT_EQ(sim.count_events("batch_committed"), 1U);
  EXPECT_EQ(sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {})).alarms.size(), 1U);
  EXPECT_EQ(sim.done(job), 10U);
}

TEST(Coordinator, ABatchThatKillsExecutorsIsGivenUpAndTheJobGoesOn) {
  Sim sim(3, 1);
  sim.fails = [](const FakeWorker&, const Lease& lease, BatchFailed&) { return lease.batch == 7; };
  sim.start();
  const JobId job = sim.submit("m", 200, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  const JobReport report = sim.report(job);
  EXPECT_EQ(report.state, JobState::done);
  EXPECT_EQ(report.errors, 10U);
  EXPECT_EQ(report.retried, 5U);
  EXPECT_TRUE(report.quarantined.empty());
  std::set<std::uint32_t> attempts;
  for (const auto& [id, worker] : sim.workers) {
    for (const Lease& lease : worker.granted) {
      if (lease.batch == 7) attempts.insert(lease.attempt);
    }
  }
  EXPECT_EQ(attempts, (std::set<std::uint32_t>{0, 1, 2, 3, 4, kGiveUpAttempt + 5}));
}

TEST(Coordinator, AModelThatCannotBeUsedFailsTheJob) {
  Sim sim(2, 1);
  sim.fails = [](const FakeWorker&, const Lease&, BatchFailed& failure) {
    failure.why = BatchFailure::model_unusable;
    failure.detail = "no such operator: Foo";
    return true;
  };
  sim.start();
  const JobId job = sim.submit("m", 200, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(5)));
  EXPECT_EQ(sim.report(job).state, JobState::failed);
  EXPECT_NE(sim.report(job).reason.find("no such operator: Foo"), std::string::npos);
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.node(NodeId{1}).leased, 0U);
  EXPECT_TRUE(sim.workers.at(NodeId{1}).described.empty()) << "it was told to forget the job";
}

// ---- takeover ---------------------------------------------------------------------------------------------------------

TEST(Coordinator, AnotherCoordinatorGoesOnWhereTheLastOneStood) {
  Sim sim(3, 2);
  sim.start();
  const JobId job = sim.submit("m", 4000, 10, milliseconds(50));
  sim.run_for(seconds(2));
  const std::uint64_t before = sim.done(job);
  ASSERT_GT(before, 0U);
  sim.keep_starts = true;
  sim.replace_coordinator(2);
  sim.run_for(milliseconds(10));
  EXPECT_GE(sim.done(job), before);
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  for (BatchIndex batch = 0; batch < 400; ++batch) ASSERT_EQ((sim.commits_accepted[{job, batch}]), 1U);
  // What ran and what waited at the workers went on: nothing was computed twice.
  std::map<BatchIndex, int> started;
  for (const auto& [at, lease] : sim.starts) ++started[lease.batch];
  for (const auto& [batch, times] : started) ASSERT_EQ(times, 1) << batch;
  EXPECT_EQ(sim.report(job).retried, 0U);
  EXPECT_EQ(sim.count_events("node_joined"), 3U) << "nobody has joined anew";
}

TEST(Coordinator, NothingIsLeasedBeforeAllWhoLiveHaveSaidHello) {
  Sim sim(3, 2);
  sim.start();
  const JobId job = sim.submit("m", 40'000, 10, milliseconds(50));
  sim.run_for(seconds(2));
  sim.loses = [](NodeId id, MessageType type) { return id == NodeId{3} && type == MessageType::node_hello; };
  sim.replace_coordinator(2);
  const Time began = sim.now;
  const std::size_t granted = sim.workers.at(NodeId{1}).granted.size();
  sim.run_for(milliseconds(490));
  EXPECT_EQ(sim.workers.at(NodeId{1}).granted.size(), granted) << "n3 may hold any batch";
  EXPECT_GT(sim.node(NodeId{1}).leased, 0U) << "what it said it holds";
  sim.run_until(began + kTakeoverGrace + milliseconds(5));
  EXPECT_GT(sim.workers.at(NodeId{1}).granted.size(), granted) << "but nobody waits longer than this";
  sim.loses = nullptr;
  sim.run_for(seconds(2));
  EXPECT_GT(sim.node(NodeId{3}).leased, 0U);
  EXPECT_EQ(sim.report(job).conflicting_commits, 0U);
}

TEST(Coordinator, ATakeoverDoesNotWaitForTheDead) {
  Sim sim(3, 2);
  sim.start();
  sim.submit("m", 40'000, 10, milliseconds(50));
  sim.run_for(seconds(2));
  sim.kill(NodeId{3});
  sim.run_for(seconds(1));
  const std::size_t granted = sim.workers.at(NodeId{1}).granted.size();
  sim.replace_coordinator(2);
  sim.run_for(milliseconds(100));
  EXPECT_GT(sim.workers.at(NodeId{1}).granted.size(), granted);
  EXPECT_EQ(sim.node(NodeId{3}).state, NodeState::dead);
  EXPECT_EQ(sim.count_events("node_dead"), 1U) << "told once, not again by each coordinator";
}

TEST(Coordinator, AlarmsOutliveTheCoordinator) {
  Sim sim(1, 1);
  sim.start();
  const JobId job = sim.submit("m", 20, 10, seconds(1000));
  BatchCommit commit;
  commit.phase = 1;
  commit.job = job;
  commit.node = NodeId{1};
  commit.queries = 10;
  commit.block = BlockRef{BlockId{8, 1}, 10, hash128("a"), {NodeId{1}}};
  sim.ask(CommitBatches{{commit}}, sim.fresh(), "n1");
  commit.block = BlockRef{BlockId{8, 2}, 10, hash128("b"), {NodeId{1}}};
  sim.ask(CommitBatches{{commit}}, sim.fresh(), "n1");
  sim.replace_coordinator(2);
  EXPECT_EQ(sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {})).alarms.size(), 1U);
}

TEST(Coordinator, StatusNamesTheServersOfTheLog) {
  Sim sim(3, 1);
  sim.start();
  sim.coordinator->log_servers(LogServers{NodeId{2}, {NodeId{1}, NodeId{2}, NodeId{3}}, {NodeId{4}}});
  const auto status = sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {}));
  EXPECT_EQ(status.standby, NodeId{2});
  EXPECT_EQ(status.voters.size(), 3U);
  EXPECT_EQ(status.learners, std::vector<NodeId>{NodeId{4}});
  EXPECT_EQ(status.epoch, Epoch{1});
}

// ---- steering ---------------------------------------------------------------------------------------------------------

TEST(Coordinator, PauseGivesBackWhatHasNotStartedAndResumeGoesOn) {
  Sim sim(2, 1);
  sim.start();
  const JobId job = sim.submit("m", 1000, 10, milliseconds(100));
  sim.run_for(seconds(2));
  const auto paused = sim.reply_to<JobControlReply>(sim.ask(JobControlRequest{job, JobAction::pause}, sim.fresh()));
  EXPECT_EQ(paused.state, JobState::paused);
  sim.run_for(milliseconds(300));
  EXPECT_EQ(sim.report(job).leased, 0U);
  EXPECT_EQ(sim.report(job).retried, 0U) << "giving back is no retry";
  const std::uint64_t done = sim.done(job);
  sim.run_for(seconds(5));
  EXPECT_EQ(sim.done(job), done);
  sim.ask(JobControlRequest{job, JobAction::resume}, sim.fresh());
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  EXPECT_EQ(sim.report(job).state, JobState::done);
  EXPECT_EQ(sim.count_events("job_paused"), 1U);
  EXPECT_EQ(sim.count_events("job_resumed"), 1U);
}

TEST(Coordinator, StopEndsAJobAndItsResultsStay) {
  Sim sim(2, 1);
  sim.start();
  const JobId job = sim.submit("m", 10'000, 10, milliseconds(100));
  sim.run_for(seconds(2));
  sim.ask(JobControlRequest{job, JobAction::stop}, sim.fresh());
  sim.run_for(seconds(1));
  const JobReport report = sim.report(job);
  EXPECT_EQ(report.state, JobState::stopped);
  EXPECT_EQ(report.leased, 0U);
  const auto results = sim.reply_to<JobResultsReply>(sim.ask(JobResultsRequest{job, 0, 1024}, sim.fresh()));
  std::uint64_t there = 0;
  for (std::size_t batch = 0; batch < results.blocks.size(); ++batch) {
    if (results.blocks[batch].id == BlockId{}) continue;
    ++there;
    EXPECT_EQ(results.blocks[batch].hash, hash128(to_string(job) + "/0/" + std::to_string(batch * 10)));
  }
  EXPECT_EQ(there, report.batches_done);
  EXPECT_GT(there, 0U);
  EXPECT_EQ(sim.reply_to<JobControlReply>(sim.ask(JobControlRequest{job, JobAction::remove}, sim.fresh())).state,
            JobState::stopped);
  EXPECT_EQ(sim.error_of(sim.ask(JobControlRequest{job, JobAction::stop}, sim.fresh())).code, Errc::not_found);
}

TEST(Coordinator, ResultsAreFoundByBatchAlsoWhenSomeAreMissing) {
  Sim sim(1, 1);
  sim.start();
  const JobId job = sim.submit("m", 50, 10, seconds(1000));
  for (const BatchIndex batch : {3U, 1U}) {
    BatchCommit commit;
    commit.phase = 1;
    commit.job = job;
    commit.batch = batch;
    commit.node = NodeId{1};
    commit.queries = 10;
    commit.block = BlockRef{BlockId{8, batch}, 10, hash128(std::to_string(batch)), {NodeId{1}}};
    sim.ask(CommitBatches{{commit}}, sim.fresh(), "n1");
  }
  const auto check = [&] {
    for (std::uint64_t first = 0; first <= 5; ++first) {
      for (const std::uint32_t pages : {1U, 2U, 100U}) {
        const auto results = sim.reply_to<JobResultsReply>(sim.ask(JobResultsRequest{job, first, pages}, {}));
        EXPECT_EQ(results.batches, 5U);
        ASSERT_EQ(results.blocks.size(), std::min<std::uint64_t>(pages, 5 - first));
        for (std::size_t i = 0; i < results.blocks.size(); ++i) {
          const std::uint64_t batch = first + i;
          EXPECT_EQ(results.blocks[i].id, (batch == 1 || batch == 3 ? BlockId{8, batch} : BlockId{})) << batch;
        }
      }
    }
  };
  check();
  sim.ask(JobControlRequest{job, JobAction::stop}, sim.fresh());
  check();
  // What a user puts in the place of the file later is no result.
  FsFilePart part;
  part.upload = 1;
  part.path = "/jobs/" + to_string(job) + "/result.jsonl";
  part.blocks = {BlockRef{BlockId{9, 1}, 10, hash128("x"), {NodeId{1}}}, BlockRef{BlockId{9, 2}, 10, hash128("y"), {NodeId{1}}}};
  (void)sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
  check();
  (void)sim.reply_to<FsRemoveReply>(sim.ask(FsRemoveRequest{{part.path}, false}, sim.fresh()));
  EXPECT_EQ(sim.error_of(sim.ask(JobResultsRequest{job, 0, 100}, {})).code, Errc::not_found);
  (void)sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
  EXPECT_EQ(sim.error_of(sim.ask(JobResultsRequest{job, 0, 100}, {})).code, Errc::not_found);
}

// ---- models ahead of need ---------------------------------------------------------------------------------------------

/// A file of `blocks` blocks, and a model of it.
void add_real_model(Sim& sim, const std::string& name, std::size_t blocks = 2) {
  FsFilePart part;
  part.upload = 1;
  part.path = "/models/" + name + "/" + name + ".onnx";
  for (std::size_t i = 0; i < blocks; ++i)
    part.blocks.push_back(BlockRef{BlockId{hash128(name).hi, i + 1}, 10, hash128(name), {NodeId{1}}});
  (void)sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
  ModelVersion model;
  model.name = name;
  model.onnx_path = part.path;
  (void)sim.reply_to<ModelAddReply>(sim.ask(ModelAddRequest{model}, sim.fresh()));
  sim.run_for(milliseconds(10));
}

TEST(Coordinator, AModelThatIsAddedIsBroughtToAllNodes) {
  Sim sim(3);
  sim.start();
  add_real_model(sim, "net");
  sim.add_model("nothing");
  sim.run_for(milliseconds(100));
  const std::vector<std::string> once{"/models/net/net.onnx"};
  for (const auto& [id, worker] : sim.workers) EXPECT_EQ(worker.prefetched, once) << to_string(id);
}

TEST(Coordinator, ANodeThatComesLaterGetsTheModelsAddedLast) {
  Sim sim(2);
  sim.config.prefetch_models = 2;
  sim.start();
  sim.kill(NodeId{2});
  sim.run_for(seconds(10));
  for (const char* name : {"a", "b", "c"}) add_real_model(sim, name);
  sim.add_model("nothing");
  sim.workers.at(NodeId{2}).prefetched.clear();
  sim.start_worker(NodeId{2});
  sim.run_for(seconds(2));
  EXPECT_EQ(sim.workers.at(NodeId{2}).prefetched, (std::vector<std::string>{"/models/c/c.onnx", "/models/b/b.onnx"}));
  sim.replace_coordinator(2);
  sim.run_for(seconds(2));
  EXPECT_GT(sim.workers.at(NodeId{2}).prefetched.size(), 2U) << "the next coordinator does not know what it has";
}

TEST(Coordinator, NoModelIsBroughtAheadWhenThatIsOff) {
  Sim sim(2);
  sim.config.prefetch_models = 0;
  sim.start();
  add_real_model(sim, "net");
  sim.kill(NodeId{2});
  sim.run_for(seconds(10));
  sim.start_worker(NodeId{2});
  sim.run_for(seconds(2));
  for (const auto& [id, worker] : sim.workers) EXPECT_TRUE(worker.prefetched.empty()) << to_string(id);
}

TEST(Coordinator, AModelWhoseBlocksDoNotFitAMessageIsNotBroughtAhead) {
  Sim sim(1);
  sim.start();
  constexpr std::size_t kBlocks = 40'000;  // of more than 25 bytes each
  add_real_model(sim, "huge", kBlocks);
  ASSERT_NE(sim.coordinator->state().model("huge", 1), nullptr);
  EXPECT_TRUE(sim.workers.at(NodeId{1}).prefetched.empty());
}

// ---- messages that are lost ---------------------------------------------------------------------------------------------

TEST(Coordinator, ALostGrantIsMadeUpFor) {
  for (const std::uint32_t nodes : {1U, 2U}) {
    Sim sim(nodes, 1);
    sim.start();
    int left = 1;
    sim.loses = [&](NodeId, MessageType type) { return type == MessageType::lease_grant && left-- > 0; };
    const JobId job = sim.submit("m", 2000, 10, milliseconds(100));
    ASSERT_TRUE(sim.run_until_done({job}, seconds(100)));
    EXPECT_LT(left, 1);
    EXPECT_EQ(sim.report(job).errors, 0U);
    for (BatchIndex batch = 0; batch < 200; ++batch) ASSERT_EQ((sim.commits_accepted[{job, batch}]), 1U);
  }
}

TEST(Coordinator, AJobIsDescribedAgainWhereAnInputWasMissing) {
  Sim sim(1, 1);
  sim.start();
  int failing = 1;
  sim.fails = [&](const FakeWorker&, const Lease&, BatchFailed& failure) {
    failure.why = BatchFailure::input_missing;
    return failing-- > 0;
  };
  const JobId job = sim.submit("m", 1000, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(20)));
  EXPECT_EQ(sim.workers.at(NodeId{1}).descriptions, 2U);
  EXPECT_EQ(sim.report(job).errors, 0U);
}

TEST(Coordinator, ALostReportOfAFailureIsMadeUpFor) {
  Sim sim(1, 1);
  sim.start();
  int failing = 1;
  sim.fails = [&](const FakeWorker&, const Lease&, BatchFailed&) { return failing-- > 0; };
  int left = 1;
  sim.loses = [&](NodeId, MessageType type) { return type == MessageType::batch_failed && left-- > 0; };
  const JobId job = sim.submit("m", 100, 10, milliseconds(100));
  sim.run_for(seconds(20));
  EXPECT_EQ(sim.report(job).leased, 1U);
  ASSERT_TRUE(sim.run_until_done({job}, seconds(40)));
  EXPECT_EQ(left, 0);
  EXPECT_EQ(sim.report(job).errors, 0U);
}

TEST(Coordinator, AReminderOfABatchThatRunsChangesNothing) {
  Sim sim(1, 2);
  sim.keep_starts = true;
  sim.start();
  const JobId job = sim.submit("m", 80, 10, seconds(100));
  const std::size_t grants = sim.workers.at(NodeId{1}).grants;
  ASSERT_TRUE(sim.run_until_done({job}, seconds(1000)));
  EXPECT_GT(sim.workers.at(NodeId{1}).grants, grants + 10) << "it is reminded";
  EXPECT_LT(sim.workers.at(NodeId{1}).grants, grants + 60) << "but not all the time";
  EXPECT_EQ(sim.starts.size(), 8U) << "each batch is computed once";
  EXPECT_EQ(sim.report(job).retried, 0U);
  EXPECT_EQ(sim.report(job).duplicate_commits, 0U);
}

TEST(Coordinator, LeasesOfAPausedJobAreNotGivenAgain) {
  Sim sim(1, 1);
  sim.keep_starts = true;
  sim.start();
  int left = 1;
  sim.loses = [&](NodeId, MessageType type) { return type == MessageType::batch_failed && left-- > 0; };
  const JobId job = sim.submit("m", 100, 10, milliseconds(300));
  sim.run_for(seconds(1));
  sim.ask(JobControlRequest{job, JobAction::pause}, sim.fresh());
  sim.run_for(seconds(1));
  EXPECT_LT(left, 1) << "what it gave back did not arrive";
  const std::size_t started = sim.starts.size();
  sim.run_for(seconds(100));
  EXPECT_EQ(sim.starts.size(), started);
  sim.ask(JobControlRequest{job, JobAction::resume}, sim.fresh());
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
}

// ---- requests ---------------------------------------------------------------------------------------------------------

TEST(Coordinator, TheSameRequestIsDoneOnce) {
  Sim sim(1, 1);
  sim.start();
  sim.add_model("m");
  JobSpec spec;
  spec.model = "m";
  spec.item_kind = ItemKind::nothing;
  spec.queries = 10;
  sim.batch_times["m"] = milliseconds(1);
  const RequestId id = sim.fresh();
  const JobId first = sim.reply_to<SubmitReply>(sim.ask(SubmitRequest{spec}, id)).job;
  const JobId again = sim.reply_to<SubmitReply>(sim.ask(SubmitRequest{spec}, id)).job;
  EXPECT_EQ(first, again);
  EXPECT_EQ(sim.coordinator->state().jobs().size(), 1U);
  EXPECT_EQ(sim.error_of(sim.ask(SubmitRequest{spec}, RequestId{})).code, Errc::invalid) << "without an id";
}

TEST(Coordinator, ARepeatedRequestJoinsTheOneThatWaits) {
  Sim sim(1, 1);
  sim.start();
  ModelVersion model;
  model.name = "m";
  CoordinatorOutput out;
  const RequestId id = sim.fresh();
  for (Ticket ticket = 1; ticket <= 20; ++ticket) {
    sim.coordinator->handle(sim.info(ticket, id, "admin"), ModelAddRequest{model}, sim.now, out);
  }
  EXPECT_EQ(out.propose.size(), 1U);
  EXPECT_EQ(out.answers.size(), 4U) << "more than 16 askers are refused";
  CoordinatorOutput applied;
  sim.log.push_back(LogEntry{LogIndex{sim.log.size() + 1}, Epoch{1}, out.propose[0]});
  sim.coordinator->applied(sim.log.back(), sim.now, 1, applied);
  EXPECT_EQ(applied.answers.size(), 16U);
  for (const auto& [ticket, answer] : applied.answers) EXPECT_EQ(answer.type, MessageType::model_add_reply);
}

TEST(Coordinator, RequestsThatWaitAreBounded) {
  Sim sim(1, 1);
  sim.start();
  ModelVersion model;
  model.name = "m";
  CoordinatorOutput out;
  for (std::uint64_t i = 1; i <= 4097; ++i) {
    sim.coordinator->handle(sim.info(i, RequestId{5, i}, "admin"), ModelAddRequest{model}, sim.now, out);
  }
  EXPECT_EQ(out.propose.size(), 4096U);
  ASSERT_EQ(out.answers.size(), 1U);
  EXPECT_EQ(decode<ErrorReply>(out.answers[0].second.body)->code, Errc::full);
}

TEST(Coordinator, NodesSpeakForThemselvesOnly) {
  Sim sim(2, 1);
  sim.start();
  NodeHello hello;
  hello.node = NodeId{2};
  EXPECT_EQ(sim.error_of(sim.ask(hello, sim.fresh(), "n1")).code, Errc::forbidden);
  Heartbeat beat;
  beat.node = NodeId{2};
  EXPECT_EQ(sim.error_of(sim.ask(beat, sim.fresh(), "n1")).code, Errc::forbidden);
  BatchCommit commit;
  commit.phase = 1;
  commit.node = NodeId{2};
  EXPECT_EQ(sim.error_of(sim.ask(CommitBatches{{commit}}, sim.fresh(), "n1")).code, Errc::forbidden);
  commit.node = NodeId{1};
  commit.done_milli.resize(kDoneStepsMax + 1);
  EXPECT_EQ(sim.error_of(sim.ask(CommitBatches{{commit}}, sim.fresh(), "n1")).code, Errc::invalid) << "more than is kept";
  EXPECT_EQ(sim.error_of(sim.ask(BatchFailed{}, sim.fresh(), "admin")).code, Errc::forbidden);
  EXPECT_EQ(sim.error_of(sim.ask(ReplicaReport{}, sim.fresh(), "admin")).code, Errc::forbidden);
  Inventory inventory;
  inventory.node = NodeId{2};
  EXPECT_EQ(sim.error_of(sim.ask(inventory, sim.fresh(), "n1")).code, Errc::forbidden);
  hello.node = NodeId{9};
  EXPECT_EQ(sim.error_of(sim.ask(hello, sim.fresh(), "n9")).code, Errc::forbidden) << "not a member";
}

TEST(Coordinator, BadRequestsAreRefusedAtOnceAndChangeNothing) {
  Sim sim(1, 1);
  sim.start();
  sim.add_model("m");
  const std::size_t entries = sim.log.size();
  JobSpec spec;
  spec.model = "nobody";
  spec.item_kind = ItemKind::nothing;
  spec.queries = 10;
  EXPECT_EQ(sim.error_of(sim.ask(SubmitRequest{spec}, sim.fresh())).code, Errc::not_found);
  spec.model = "m";
  spec.batch = 0;
  EXPECT_EQ(sim.error_of(sim.ask(SubmitRequest{spec}, sim.fresh())).code, Errc::invalid);
  EXPECT_EQ(sim.error_of(sim.ask(FsCommitRequest{{FsFilePart{"/a/../b", 1, 0, {}, false}}}, sim.fresh())).code, Errc::invalid);
  EXPECT_EQ(sim.error_of(sim.ask(FsRemoveRequest{{}, false}, sim.fresh())).code, Errc::invalid);
  EXPECT_EQ(sim.error_of(sim.ask(JobControlRequest{JobId{5}, JobAction::stop}, sim.fresh())).code, Errc::not_found);
  EXPECT_EQ(sim.error_of(sim.ask(JobReportsRequest{{}, 0}, sim.fresh())).code, Errc::invalid);
  EXPECT_EQ(sim.error_of(sim.ask(JobReportsRequest{{JobId{7}}, 10}, sim.fresh())).code, Errc::not_found);
  EXPECT_EQ(sim.error_of(sim.ask(ModelRemoveRequest{"nobody"}, sim.fresh())).code, Errc::not_found);
  EXPECT_EQ(sim.error_of(sim.ask(FsStoreRequest{NodeId{7}, "", 10}, sim.fresh())).code, Errc::not_found);
  EXPECT_EQ(sim.log.size(), entries);
}

TEST(Coordinator, StatusNamesAllConfiguredNodes) {
  Sim sim(3, 2);
  sim.coordinator = std::make_unique<Coordinator>(sim.config, ClusterState{}, Random{1});
  sim.start();
  sim.kill(NodeId{3});
  sim.run_for(seconds(1));
  const auto status = sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {}));
  EXPECT_EQ(status.coordinator, NodeId{1});
  EXPECT_EQ(status.standby, NodeId{});
  ASSERT_EQ(status.nodes.size(), 3U);
  EXPECT_EQ(status.nodes[0].state, NodeState::alive);
  EXPECT_EQ(status.nodes[2].state, NodeState::dead);
  EXPECT_TRUE(status.nodes[0].coordinator);
  const auto placement = sim.reply_to<PlacementReply>(sim.ask(PlacementRequest{}, {}));
  EXPECT_EQ(placement.replication, 2U);
  EXPECT_EQ(placement.nodes.size(), 2U);
}

TEST(Coordinator, AnIdleClusterWakesItAtMostOnceASecond) {
  Sim sim(10, 2);
  sim.start();
  sim.run_for(seconds(10));
  const std::uint64_t before = sim.ticks;
  sim.run_for(seconds(60));
  EXPECT_LE(sim.ticks - before, 60U);
}

// ---- grants -----------------------------------------------------------------------------------------------------------

TEST(Coordinator, GrantsAreBounded) {
  Sim sim(1, 4);
  sim.start();
  const JobId job = sim.submit("m", 20'000, 1, std::chrono::microseconds(100));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  const FakeWorker& worker = sim.workers.at(NodeId{1});
  EXPECT_LE(worker.grant_leases_max, kLeasesPerGrantMax);
  EXPECT_LT(worker.grant_bytes_max, kControlMessageBytesMax);
  EXPECT_EQ(worker.granted.size(), 20'000U);
  EXPECT_LT(worker.grants, 2000U) << "short batches go out in grants of many";
}

TEST(Coordinator, AJobWhoseDescriptionDoesNotFitFailsWithAReason) {
  Sim sim(1, 1);
  sim.start();
  sim.add_model("m");
  FsFilePart part;
  part.path = "/manifests/huge";
  part.upload = 1;
  for (std::uint64_t first = 0; first < 60'000; first += 1000) {
    part.first_block = first;
    part.blocks.clear();
    for (std::uint64_t i = 0; i < 1000; ++i) {
      part.blocks.push_back(BlockRef{BlockId{3, first + i + 1}, 1000, Hash128{1, 0xFFFFFFFFFFFFFFFF}, {NodeId{1}}});
    }
    part.more = first + 1000 < 60'000;
    sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
  }
  JobSpec spec;
  spec.model = "m";
  spec.item_kind = ItemKind::image;
  spec.manifest_path = "/manifests/huge";
  spec.data_path = "/manifests";
  spec.items_per_chunk = 512;
  spec.queries = 1'000'000;
  spec.batch = 100;
  sim.batch_times["m"] = milliseconds(1);
  const JobId job = sim.reply_to<SubmitReply>(sim.ask(SubmitRequest{spec}, sim.fresh())).job;
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.report(job).state, JobState::failed);
  EXPECT_NE(sim.report(job).reason.find("split the data set"), std::string::npos) << sim.report(job).reason;
  EXPECT_EQ(sim.node(NodeId{1}).leased, 0U);
}

// ---- copies of blocks -------------------------------------------------------------------------------------------------

std::uint64_t under_replicated(Sim& sim) {
  return sim.reply_to<StatusReply>(sim.ask(StatusRequest{}, {})).under_replicated_blocks;
}

TEST(Coordinator, ADeadNodesBlocksAreCopiedAndAWipedNodeIsFilledAgain) {
  Sim sim(5, 2);
  sim.start();
  const JobId job = sim.submit("m", 3000, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  sim.run_for(seconds(2));
  EXPECT_EQ(under_replicated(sim), 0U);
  const std::size_t lost = sim.workers.at(NodeId{4}).blocks.size();
  ASSERT_GT(lost, 100U);
  sim.kill(NodeId{4});
  sim.wipe(NodeId{4});
  sim.run_for(milliseconds(160));
  EXPECT_GT(under_replicated(sim), 0U) << "shown, not hidden";
  sim.run_for(seconds(20));
  EXPECT_EQ(under_replicated(sim), 0U);
  EXPECT_GT(sim.count_events("block_repaired"), 0U);
  sim.kill(NodeId{5});
  sim.run_for(seconds(10));  // three nodes are left: three copies are wanted
  EXPECT_EQ(under_replicated(sim), 0U);
  sim.start_worker(NodeId{4});
  sim.run_for(seconds(20));
  EXPECT_EQ(under_replicated(sim), 0U);
  EXPECT_GE(sim.workers.at(NodeId{4}).blocks.size(), 300U);
  // What the log says is what the nodes hold.
  const FileVersion* file = sim.coordinator->state().files().find(sim.report(job).result_path);
  ASSERT_NE(file, nullptr);
  for (const BlockRef& block : file->blocks) {
    for (const NodeId id : block.replicas) {
      ASSERT_TRUE(!sim.workers.at(id).up || sim.workers.at(id).blocks.contains(block.id));
    }
  }
}

TEST(Coordinator, FreedBlocksAreDeletedWhereTheyLie) {
  Sim sim(3, 1);
  sim.start();
  const JobId job = sim.submit("m", 100, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  ASSERT_EQ(sim.workers.at(NodeId{1}).blocks.size(), 10U);
  sim.ask(JobControlRequest{job, JobAction::remove}, sim.fresh());
  sim.run_for(seconds(1));
  for (const auto& [id, worker] : sim.workers) EXPECT_TRUE(worker.blocks.empty()) << to_string(id);
}

TEST(Coordinator, AnInventoryFindsUnknownAndLostCopies) {
  Sim sim(5, 1);
  sim.start();
  const JobId job = sim.submit("m", 100, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  sim.run_for(seconds(1));
  FakeWorker& worker = sim.workers.at(NodeId{2});
  ASSERT_FALSE(worker.blocks.empty());
  const BlockId lost = *worker.blocks.begin();
  worker.blocks.erase(lost);
  Inventory page;
  page.node = NodeId{2};
  page.to = BlockId{~0ULL, ~0ULL};
  page.blocks.assign(worker.blocks.begin(), worker.blocks.end());
  page.blocks.push_back(BlockId{77, 1});
  EXPECT_TRUE(sim.reply_to<InventoryReply>(sim.ask(page, sim.fresh(), "n2")).unknown.empty()) << "early in a reign";
  EXPECT_EQ(under_replicated(sim), 0U) << "it may have arrived after the page was read";
  sim.run_for(kOrphanReign);
  page.blocks.push_back(lost);
  sim.ask(page, sim.fresh(), "n2");
  page.blocks.pop_back();
  const auto reply = sim.reply_to<InventoryReply>(sim.ask(page, sim.fresh(), "n2"));
  EXPECT_EQ(reply.unknown, std::vector<BlockId>{(BlockId{77, 1})});
  EXPECT_EQ(under_replicated(sim), 0U) << "it may have arrived after the page was read";
  sim.ask(page, sim.fresh(), "n2");
  EXPECT_EQ(under_replicated(sim), 1U);
  sim.run_for(seconds(2));
  EXPECT_EQ(under_replicated(sim), 0U);
}

TEST(Coordinator, DamagedCopiesAreForgottenAndMadeAgainButNeverTheLastOne) {
  Sim sim(5, 1);
  sim.start();
  const JobId job = sim.submit("m", 20, 10, milliseconds(20));
  ASSERT_TRUE(sim.run_until_done({job}, seconds(30)));
  sim.run_for(seconds(1));
  const FileVersion& file = *sim.coordinator->state().files().find(sim.report(job).result_path);
  const BlockRef block = file.blocks.at(0);
  ASSERT_EQ(block.replicas.size(), 4U);
  const auto report = [&](NodeId node) {
    sim.workers.at(node).blocks.erase(block.id);
    DamagedBlocks damaged;
    damaged.node = node;
    damaged.blocks = {block.id, BlockId{77, 1}};
    (void)sim.reply_to<DamagedBlocksReply>(sim.ask(damaged, sim.fresh(), to_string(node)));
  };
  report(block.replicas[0]);
  EXPECT_EQ(file.blocks.at(0).replicas.size(), 3U);
  EXPECT_EQ(sim.count_events("block_damaged"), 2U);
  sim.run_for(seconds(2));
  EXPECT_EQ(file.blocks.at(0).replicas.size(), 4U);
  EXPECT_EQ(under_replicated(sim), 0U);
  EXPECT_EQ(sim.count_events("alarm"), 0U);
  const std::vector<NodeId> holders = file.blocks.at(0).replicas;
  for (const NodeId node : holders) report(node);
  EXPECT_EQ(file.blocks.at(0).replicas, std::vector<NodeId>{holders.back()});
  EXPECT_EQ(sim.count_events("alarm"), 1U);
  DamagedBlocks many;
  many.node = NodeId{1};
  many.blocks.resize(kBlocksPerRequestMax + 1);
  EXPECT_EQ(sim.error_of(sim.ask(many, sim.fresh(), "n1")).code, Errc::invalid);
  EXPECT_EQ(sim.error_of(sim.ask(many, sim.fresh(), "n2")).code, Errc::forbidden);
}

TEST(Coordinator, TwoReportsOfDamageUnderWayAtOnceLeaveTheLastCopy) {
  Sim sim(2, 1);
  sim.start();
  FsFilePart part;
  part.path = "/a";
  part.upload = 1;
  part.blocks = {BlockRef{BlockId{3, 1}, 100, hash128("x"), {NodeId{1}, NodeId{2}}}};
  (void)sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
  ClusterState state;
  for (const LogEntry& entry : sim.log) (void)state.apply(entry);
  for (const NodeId node : {NodeId{1}, NodeId{2}}) {
    const ForgetBlocks forget{node, {BlockId{3, 1}}};
    (void)state.apply(LogEntry{LogIndex{state.applied_index().value + 1}, Epoch{1}, encode_command(1, RequestId{}, forget)});
  }
  EXPECT_EQ(state.files().find("/a")->blocks[0].replicas, std::vector<NodeId>{NodeId{2}});
}

}  // namespace
}  // namespace idunno

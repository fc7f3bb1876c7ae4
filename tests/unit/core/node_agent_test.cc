#include "nodes/core/node_agent.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/unit/core/agent_fixture.h"

namespace idunno {
namespace {

using Type = MessageType;
constexpr NodeId kN1{1}, kN2{2}, kN3{3};

CommitBatchesReply outcomes(const AgentOutput::Call& call, CommitOutcome outcome = CommitOutcome::accepted) {
  return CommitBatchesReply{std::vector<CommitOutcome>(body_of<CommitBatches>(call).commits.size(), outcome)};
}
std::vector<BatchIndex> batches(const AgentOutput::Call& call) {
  std::vector<BatchIndex> all;
  for (const BatchCommit& commit : body_of<CommitBatches>(call).commits) all.push_back(commit.batch);
  return all;
}
std::vector<BatchIndex> range(BatchIndex from, BatchIndex to) {
  std::vector<BatchIndex> all;
  for (BatchIndex batch = from; batch < to; ++batch) all.push_back(batch);
  return all;
}
std::vector<Lease> leases(BatchIndex from, BatchIndex to) {
  std::vector<Lease> all;
  for (const BatchIndex batch : range(from, to)) all.push_back(make_lease(1, batch));
  return all;
}

// -- the search -------------------------------------------------------------------------------------------------------

TEST(NodeAgent, FindsTheCoordinatorByAskingTheLogNodesInTurn) {
  AgentWorld world;
  std::vector<NodeId> asked;
  for (int i = 0; i < 4; ++i) {
    ASSERT_EQ(world.calls.size(), 1U) << "one hello at a time";
    const auto call = world.take(Type::node_hello);
    EXPECT_EQ(call.timeout, kHelloTimeout);
    asked.push_back(call.to);
    world.answer(call, refusal(Errc::not_leader));
    EXPECT_TRUE(world.calls.empty()) << "nobody is named: first a pause";
    world.pass_to_wake();
  }
  EXPECT_EQ(asked, (std::vector<NodeId>{kN1, kN2, kN3, kN1}));
  const auto call = world.take(Type::node_hello);
  const auto hello = body_of<NodeHello>(call);
  EXPECT_EQ(hello.node, kAgent);
  EXPECT_EQ(hello.store_id, 77U);
  EXPECT_EQ(hello.slots, 2U);
  EXPECT_TRUE(hello.held.empty());
  world.answer(call, answer_under(Epoch{4}, NodeHelloReply{kN2, {}}));
  EXPECT_TRUE(world.agent->in_session());
  EXPECT_EQ(world.agent->coordinator(), kN2);
  EXPECT_EQ(world.agent->epoch(), Epoch{4});
  const auto beat = body_of<Heartbeat>(world.take(Type::heartbeat));
  EXPECT_EQ(beat.free_bytes, 50U);
}

TEST(NodeAgent, FollowsWhoANotLeaderAnswerNames) {
  AgentWorld world;
  world.answer(world.take(Type::node_hello), refusal(Errc::not_leader, kN3));
  const auto call = world.take(Type::node_hello);
  EXPECT_EQ(call.to, kN3);
  EXPECT_EQ(world.agent->coordinator(), NodeId{}) << "nobody has said yes";
}

TEST(NodeAgent, TwoNodesThatNameEachOtherAreNotAskedWithoutAPause) {
  AgentWorld world;
  std::size_t asked = 0;
  while (!world.calls.empty()) {
    const auto call = world.take(Type::node_hello);
    ASSERT_LE(++asked, 5U);
    world.answer(call, refusal(Errc::not_leader, call.to == kN1 ? kN2 : kN1));
  }
  EXPECT_GT(world.agent->wake_at(), world.now);
  // A leader that does not serve yet names itself: the pause comes first, then it is asked again.
  world.pass_to_wake();
  const auto call = world.take(Type::node_hello);
  world.answer(call, refusal(Errc::not_leader, call.to));
  EXPECT_TRUE(world.calls.empty());
  world.pass_to_wake();
  EXPECT_EQ(world.take(Type::node_hello).to, call.to);
}

TEST(NodeAgent, PausesDoubleAreBoundedAndDiffer) {
  AgentWorld world;
  std::vector<Duration> pauses;
  for (int i = 0; i < 60; ++i) {
    world.answer(world.take(Type::node_hello), refusal(Errc::no_coordinator));
    pauses.push_back(world.pass_to_wake());
  }
  EXPECT_LE(pauses[0], kHelloPauseFirst);
  EXPECT_GE(pauses[0], kHelloPauseFirst / 2);
  std::set<Duration> distinct;
  for (std::size_t i = 10; i < pauses.size(); ++i) {
    EXPECT_LE(pauses[i], kHelloPauseMax);
    EXPECT_GE(pauses[i], kHelloPauseMax / 2);
    distinct.insert(pauses[i]);
  }
  EXPECT_GT(distinct.size(), 20U) << "nodes must not ask in step";
}

TEST(NodeAgent, WhoDoesNotAnswerIsAskedLastAndNotOnHearsay) {
  AgentWorld world;
  world.answer(world.take(Type::node_hello), Error{Errc::timeout, "silent"});  // n1
  world.pass_to_wake();
  std::vector<NodeId> asked;
  for (int i = 0; i < 3; ++i) {
    const auto call = world.take(Type::node_hello);
    asked.push_back(call.to);
    world.answer(call, refusal(Errc::not_leader, kN1));
    if (world.calls.empty()) world.pass_to_wake();
  }
  EXPECT_EQ(asked, (std::vector<NodeId>{kN2, kN3, kN1}));
}

TEST(NodeAgent, AHintGoesFirstAndIsNotKeptWaitingByAnEarlierHello) {
  AgentWorld world;
  const auto first = world.take(Type::node_hello);
  EXPECT_EQ(first.to, kN1);
  world.agent->leader_hint(kN3, Epoch{7}, world.now);
  world.obey();
  const auto second = world.take(Type::node_hello);
  EXPECT_EQ(second.to, kN3);
  world.agent->leader_hint(kN3, Epoch{7}, world.now);
  world.agent->leader_hint({}, Epoch{8}, world.now);
  world.obey();
  EXPECT_TRUE(world.calls.empty()) << "no news";
  world.answer(second, answer_under(Epoch{7}, NodeHelloReply{kN3, {}}));
  world.answer(first, answer_under(Epoch{6}, NodeHelloReply{kN1, {}}));
  EXPECT_EQ(world.agent->coordinator(), kN3) << "the answer to a hello that was given up counts for nothing";
}

TEST(NodeAgent, AnAcceptanceUnderAnEpochThatIsOverIsNone) {
  AgentWorld world;
  world.join(kN2, Epoch{5});
  world.agent->connection_lost(kN2, world.now);
  world.obey();
  while (world.count(Type::node_hello) == 0) world.pass_to_wake();
  const auto call = world.take(Type::node_hello);
  EXPECT_EQ(call.epoch, Epoch{5}) << "so that a coordinator that was replaced sees it";
  world.answer(call, answer_under(Epoch{4}, NodeHelloReply{call.to, {}}));
  EXPECT_FALSE(world.agent->in_session());
  world.join(kN3, Epoch{6});
}

TEST(NodeAgent, ARefusedHelloIsToldOnce) {
  AgentWorld world;
  for (int i = 0; i < 5; ++i) {
    world.answer(world.take(Type::node_hello), refusal(Errc::conflict));
    world.pass_to_wake();
  }
  EXPECT_EQ(std::ranges::count(world.events, "hello_refused"), 1);
}

// -- the end of a session ---------------------------------------------------------------------------------------------

struct InSession : AgentWorld {
  InSession() {
    join(kN2, Epoch{5});
    beat_answered(Epoch{5});
    calls.clear();  // the inventory has tests of its own
  }
};

TEST(NodeAgent, SendsHeartbeatsInTime) {
  InSession world;
  for (int i = 0; i < 10; ++i) {
    world.pass(world.config.heartbeat_interval);
    const auto call = world.take(Type::heartbeat);
    EXPECT_EQ(call.to, kN2);
    EXPECT_EQ(call.epoch, Epoch{5});
    EXPECT_EQ(call.timeout, world.config.heartbeat_timeout);
    EXPECT_LE(world.agent->wake_at(), world.now + world.config.heartbeat_interval);
    world.answer(call, answer_under(Epoch{5}, HeartbeatReply{true}));
    EXPECT_EQ(world.count(Type::heartbeat), 0U);
  }
}

TEST(NodeAgent, AHeartbeatSaysWhatRuns) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.agent->input_ready(key_of(make_lease(1, 0)), 10, world.now);
  world.obey();
  ASSERT_EQ(world.last.work.start.size(), 1U);
  world.agent->started(world.last.work.start[0].slot, key_of(make_lease(1, 0)), world.now, world.wall());
  world.pass(world.config.heartbeat_interval);
  const auto beat = body_of<Heartbeat>(world.take(Type::heartbeat));
  EXPECT_EQ(beat.running, 1U);
  EXPECT_EQ(beat.running_batches, (std::vector<RunningBatch>{{key_of(make_lease(1, 0)), 500, 0, true}}))
      << "its model is to be loaded first";
}

/// A batch of a third of a second has been computed, and the next one runs.
class LongBatches : public InSession {
 public:
  LongBatches() {
    push(kN2, Epoch{5}, make_grant({make_lease(1, 0), make_lease(1, 1)}));
    for (BatchIndex batch = 0; batch < 2; ++batch) agent->input_ready(key_of(make_lease(1, batch)), 10, now);
    obey();
    const std::uint32_t first = todo.start.at(0).slot;
    agent->started(first, key_of(make_lease(1, 0)), now, wall(), 1'000'000);
    now += std::chrono::milliseconds(300);
    EXPECT_TRUE(agent->finished(first, key_of(make_lease(1, 0)), 0, 1, now, 0, 1'300'000));
    obey();
    slot = todo.start.at(1).slot;
    agent->started(slot, key_of(make_lease(1, 1)), now, wall(), 1'200'000);
    agent->loaded(slot, key_of(make_lease(1, 1)), now, 1'300'000);
    obey();
  }
  std::uint32_t slot = 0;  ///< of the second one
};

TEST(NodeAgent, TellsSoonHowFarABatchIsThatSharesItsProcessor) {
  LongBatches world;
  bool asked = false;
  std::optional<RunningBatch> told;
  for (int ms = 0; ms < 300 && !told; ms += 10) {
    world.pass(std::chrono::milliseconds(10));
    if (!world.last.wants_executor_times) continue;
    asked = true;
    world.calls.clear();  // a heartbeat about the start
    world.agent->executor_times(std::vector<std::uint64_t>(world.config.slots, 1'305'000), {}, world.now);
    world.obey();
    world.pass(std::chrono::milliseconds(100));
    told = body_of<Heartbeat>(world.take(Type::heartbeat)).running_batches.at(0);
  }
  ASSERT_TRUE(asked);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->cpu_us, 5'000U);
}

TEST(NodeAgent, AnOrderMakesTheExecutorOfAJobThatLagsLessNice) {
  LongBatches world;
  const Lease lease = make_lease(1, 1);
  world.push(kN2, Epoch{5}, JobOrder{{{JobId{9}, 0, 1, 500}, {lease.job, 0, 1, -60'000}}, {}});
  using Shares = std::vector<std::pair<std::uint32_t, ExecutorShare>>;
  EXPECT_EQ(world.last.shares, (Shares{{world.slot, {kExecutorNiceMin, false}}}));
  world.push(kN2, Epoch{5}, JobOrder{{{JobId{9}, 0, 1, 500}, {lease.job, 0, 1, -60'000}}, {}});
  EXPECT_TRUE(world.last.shares.empty()) << "told already";
}

TEST(NodeAgent, ModelsAreFetchedAheadForItsCoordinatorOnly) {
  InSession world;
  PrefetchModel model;
  model.onnx.path = "/models/net/net.onnx";
  world.push(kN2, Epoch{5}, model);
  EXPECT_EQ(world.last.prefetch, std::vector<PrefetchModel>{model});
  world.push(kN2, Epoch{4}, model);
  EXPECT_TRUE(world.last.prefetch.empty()) << "from an earlier reign";
  for (std::uint32_t i = 0; i <= kPrefetchModelsMax; ++i) world.agent->pushed(kN2, Epoch{5}, model, world.now);
  world.obey();
  EXPECT_EQ(world.last.prefetch.size(), kPrefetchModelsMax);
}

TEST(NodeAgent, HeartbeatsUnansweredEndTheSessionAndTheSearchBeginsAtOnce) {
  InSession world;
  world.pass(world.config.heartbeat_interval);
  world.answer(world.take(Type::heartbeat), Error{Errc::timeout, "silent"});
  EXPECT_FALSE(world.agent->in_session());
  EXPECT_NE(world.take(Type::node_hello).to, kN2) << "the others first";
}

TEST(NodeAgent, ACoordinatorThatDoesNotKnowTheNodeIsGreetedAgainAtOnce) {
  InSession world;
  world.pass(world.config.heartbeat_interval);
  world.answer(world.take(Type::heartbeat), answer_under(Epoch{5}, HeartbeatReply{false}));
  EXPECT_EQ(world.take(Type::node_hello).to, kN2);
}

TEST(NodeAgent, AHeartbeatAnsweredByOneWhoDoesNotLeadAnyMoreLeadsToTheNewOne) {
  InSession world;
  world.pass(world.config.heartbeat_interval);
  world.answer(world.take(Type::heartbeat), refusal(Errc::not_leader, kN3));
  EXPECT_EQ(world.take(Type::node_hello).to, kN3);
}

TEST(NodeAgent, AClosedConnectionEndsTheSession) {
  InSession world;
  world.agent->connection_lost(kN1, world.now);
  world.obey();
  EXPECT_TRUE(world.agent->in_session()) << "not the coordinator's";
  world.agent->connection_lost(kN2, world.now);
  world.obey();
  EXPECT_FALSE(world.agent->in_session());
  EXPECT_NE(world.take(Type::node_hello).to, kN2);
}

TEST(NodeAgent, TheOwnLogNamingAnotherLeaderEndsTheSession) {
  InSession world;
  world.agent->leader_hint(kN2, Epoch{5}, world.now);
  world.agent->leader_hint(kN1, Epoch{4}, world.now);
  world.obey();
  EXPECT_TRUE(world.agent->in_session());
  world.agent->leader_hint(kN3, Epoch{6}, world.now);
  world.obey();
  EXPECT_FALSE(world.agent->in_session());
  EXPECT_EQ(world.take(Type::node_hello).to, kN3);
}

TEST(NodeAgent, SessionsThatEndAtOnceAreNotBegunWithoutPauses) {
  AgentWorld world;
  const Time began = world.now;
  for (int i = 0; i < 50; ++i) {
    while (world.count(Type::node_hello) == 0) world.pass_to_wake();
    const auto call = world.take(Type::node_hello);
    world.calls.clear();
    world.answer(call, answer_under(Epoch{5}, NodeHelloReply{call.to, {}}));
    world.answer(world.take(Type::heartbeat), answer_under(Epoch{5}, HeartbeatReply{false}));
    EXPECT_FALSE(world.agent->in_session());
  }
  EXPECT_GT(world.now - began, 40 * kHelloPauseMax / 2);
}

// -- epochs -----------------------------------------------------------------------------------------------------------

TEST(NodeAgent, IgnoresPushesUnderAnOlderEpoch) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  EXPECT_EQ(world.last.work.fetch.size(), 1U);
  world.push(kN1, Epoch{4}, make_grant({make_lease(1, 1)}));
  EXPECT_TRUE(world.last.work.fetch.empty());
  EXPECT_TRUE(world.last.describe.empty());
  world.push(kN1, Epoch{4}, LeaseDrop{JobId{1}, false});
  EXPECT_TRUE(world.last.work.discard.empty());
  ReplicaTask task;
  task.task = 1;
  task.drop = {BlockId{1, 1}};
  world.push(kN1, Epoch{4}, task);
  EXPECT_TRUE(world.tasks.empty()) << "a replaced coordinator must not delete anything";
  EXPECT_EQ(world.agent->queue().size(), 1U);
  // Also when there is no session.
  world.agent->connection_lost(kN2, world.now);
  world.push(kN1, Epoch{4}, task);
  world.push(kN1, Epoch{4}, make_grant({make_lease(1, 1)}));
  EXPECT_TRUE(world.tasks.empty());
  EXPECT_EQ(world.agent->queue().size(), 1U);
}

TEST(NodeAgent, APushUnderAHigherEpochIsTakenAndGreeted) {
  InSession world;
  world.push(kN3, Epoch{6}, make_grant({make_lease(1, 4)}));
  EXPECT_EQ(world.last.work.fetch.size(), 1U);
  EXPECT_EQ(world.agent->epoch(), Epoch{6});
  EXPECT_FALSE(world.agent->in_session());
  const auto call = world.take(Type::node_hello);
  EXPECT_EQ(call.to, kN3);
  EXPECT_EQ(body_of<NodeHello>(call).held, (std::vector<HeldLease>{{key_of(make_lease(1, 4)), HeldStage::waiting}}));
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 5)}));
  EXPECT_TRUE(world.last.work.fetch.empty());
}

// -- commits and the outbox -------------------------------------------------------------------------------------------

TEST(NodeAgent, ACommitIsWrittenDownOfferedAndForgottenWhenAnswered) {
  InSession world;
  for (const auto outcome :
       {CommitOutcome::accepted, CommitOutcome::duplicate, CommitOutcome::conflict, CommitOutcome::not_wanted}) {
    world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
    world.work_off();
    EXPECT_EQ(world.outbox.size(), 1U);
    const auto call = world.take(Type::commit_batches);
    EXPECT_EQ(call.to, kN2);
    EXPECT_EQ(call.epoch, Epoch{5});
    EXPECT_TRUE(call.request);
    world.answer(call, answer_under(Epoch{5}, outcomes(call, outcome)));
    EXPECT_TRUE(world.outbox.empty());
    EXPECT_EQ(world.agent->queue().size(), 0U);
    EXPECT_EQ(world.last.work.discard, std::vector<LeaseKey>{key_of(make_lease(1, 0))});
  }
}

TEST(NodeAgent, CommitsGatherWhileRequestsAreUnanswered) {
  InSession world;
  for (BatchIndex batch = 0; batch < 10; ++batch) {
    world.push(kN2, Epoch{5}, make_grant({make_lease(1, batch)}));
    world.work_off();
  }
  ASSERT_EQ(world.count(Type::commit_batches), kCommitRequestsInFlightMax);
  const auto first = world.take(Type::commit_batches);
  EXPECT_EQ(batches(first), range(0, 1));
  world.answer(first, answer_under(Epoch{5}, outcomes(first)));
  const auto second = world.take(Type::commit_batches);
  const auto third = world.take(Type::commit_batches);
  EXPECT_EQ(batches(second), range(1, 2));
  EXPECT_EQ(batches(third), range(2, 10));
  EXPECT_NE(first.request, second.request);
  EXPECT_NE(second.request, third.request);
}

TEST(NodeAgent, ThroughAGapResultsAreStoredAndThenOfferedOnce) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant(leases(0, 6)));
  world.agent->connection_lost(kN2, world.now);
  world.obey();
  world.work_off();
  EXPECT_EQ(world.outbox.size(), 6U) << "nobody leads, and everything is computed";
  EXPECT_EQ(world.count(Type::commit_batches), 0U);

  const NodeHello hello = world.join(kN3, Epoch{6});
  EXPECT_LE(hello.held.size(), 6U);
  std::vector<BatchIndex> offered;
  while (world.count(Type::commit_batches) != 0) {
    const auto call = world.take(Type::commit_batches);
    EXPECT_EQ(call.to, kN3);
    for (const BatchIndex batch : batches(call)) offered.push_back(batch);
    world.answer(call, answer_under(Epoch{6}, outcomes(call)));
  }
  std::ranges::sort(offered);
  EXPECT_EQ(offered, range(0, 6));
  EXPECT_TRUE(world.outbox.empty());
  world.pass(std::chrono::seconds(1));
  EXPECT_EQ(world.count(Type::commit_batches), 0U);
}

TEST(NodeAgent, AnUnansweredCommitIsSentAgainUnderTheSameId) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  const auto lost = world.take(Type::commit_batches);
  world.answer(lost, Error{Errc::timeout, "silent"});
  EXPECT_FALSE(world.agent->in_session());
  EXPECT_EQ(world.outbox.size(), 1U);
  const NodeHello hello = world.join(kN3, Epoch{6});
  EXPECT_EQ(hello.held, (std::vector<HeldLease>{{key_of(make_lease(1, 0)), HeldStage::finished}}));
  const auto again = world.take(Type::commit_batches);
  EXPECT_EQ(again.request, lost.request);
  EXPECT_EQ(again.body, lost.body);
  EXPECT_EQ(world.count(Type::commit_batches), 0U) << "once";
  world.answer(again, answer_under(Epoch{6}, outcomes(again)));
  EXPECT_TRUE(world.outbox.empty());
}

TEST(NodeAgent, TheAnswerOfADeposedCoordinatorDoesNotCount) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  const auto old = world.take(Type::commit_batches);
  world.agent->leader_hint(kN3, Epoch{6}, world.now);
  world.obey();
  world.join(kN3, Epoch{6});
  world.answer(old, answer_under(Epoch{5}, outcomes(old)));
  EXPECT_EQ(world.outbox.size(), 1U) << "it may have spoken of what was never committed";
  EXPECT_TRUE(world.agent->in_session());
  const auto again = world.take(Type::commit_batches);
  EXPECT_EQ(again.to, kN3);
  world.answer(again, answer_under(Epoch{6}, outcomes(again)));
  EXPECT_TRUE(world.outbox.empty());
}

TEST(NodeAgent, ALateAnswerUnderTheSameEpochCounts) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  const auto call = world.take(Type::commit_batches);
  world.agent->connection_lost(kN2, world.now);
  world.obey();
  world.answer(call, answer_under(Epoch{5}, outcomes(call)));
  EXPECT_TRUE(world.outbox.empty());
  world.join(kN2, Epoch{5});
  EXPECT_EQ(world.count(Type::commit_batches), 0U);
}

TEST(NodeAgent, ACommitThatIsPutOffIsSentAgainInTheSameSession) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  const auto first = world.take(Type::commit_batches);
  world.answer(first, refusal(Errc::full));
  EXPECT_TRUE(world.agent->in_session());
  EXPECT_EQ(world.count(Type::commit_batches), 0U) << "not at once";
  const Duration waited = world.pass_to_wake();
  EXPECT_LE(waited, std::chrono::milliseconds(100));
  const auto again = world.take(Type::commit_batches);
  EXPECT_EQ(again.request, first.request);
}

TEST(NodeAgent, OutcomesThatDoNotFitTheCommitsAreNoAnswer) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  world.answer(world.take(Type::commit_batches), answer_under(Epoch{5}, CommitBatchesReply{}));
  EXPECT_EQ(world.outbox.size(), 1U);
}

TEST(NodeAgent, ARestartOffersWhatTheOutboxHolds) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant(leases(0, 3)));
  world.work_off();
  ASSERT_EQ(world.outbox.size(), 3U);
  world.config.incarnation = Incarnation{2};
  world.start();
  const NodeHello hello = world.join(kN1, Epoch{6});
  ASSERT_EQ(hello.held.size(), 3U);
  for (const HeldLease& held : hello.held) EXPECT_EQ(held.stage, HeldStage::finished);
  const auto call = world.take(Type::commit_batches);
  EXPECT_EQ(batches(call), range(0, 3));
  // Leased again all the same: what is computed is not computed twice.
  world.push(kN1, Epoch{6}, make_grant(leases(2, 4)));
  ASSERT_EQ(world.last.work.fetch.size(), 1U);
  EXPECT_EQ(world.last.work.fetch[0].batch, 3U);
  world.answer(call, answer_under(Epoch{6}, outcomes(call)));
  EXPECT_TRUE(world.outbox.empty());
  EXPECT_EQ(world.agent->queue().size(), 1U);
}

TEST(NodeAgent, ARestartDropsRecordsThatAreTooOldOrOfAnUncertainAge) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant(leases(0, 3)));
  world.work_off();
  const auto record = [&world](BatchIndex batch) -> OutboxRecord& { return world.outbox.at(key_of(make_lease(1, batch))); };
  record(0).stored_ms = world.wall() - kOutboxAgeMaxMs - 1;
  record(1).stored_ms = world.wall() + kOutboxAgeMaxMs + 1;  // the clock was set back
  record(2).stored_ms = world.wall() - kOutboxAgeMaxMs + 1000;
  world.start();
  EXPECT_EQ(world.outbox.size(), 1U) << "removed from the store";
  EXPECT_EQ(world.join(kN1, Epoch{6}).held.size(), 1U);
  EXPECT_EQ(batches(world.take(Type::commit_batches)), range(2, 3));
}

TEST(NodeAgent, AfterAVeryLongGapOldResultsAreComputedAgain) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  world.answer(world.take(Type::commit_batches), Error{Errc::timeout, "silent"});
  world.answer(world.take(Type::node_hello), refusal(Errc::no_coordinator));
  world.pass(std::chrono::milliseconds(kOutboxAgeMaxMs + 1));
  EXPECT_TRUE(world.join(kN3, Epoch{6}).held.empty());
  EXPECT_TRUE(world.outbox.empty());
  EXPECT_EQ(world.count(Type::commit_batches), 0U);
  EXPECT_EQ(world.agent->queue().size(), 0U);
}

// -- leases over sessions ---------------------------------------------------------------------------------------------

TEST(NodeAgent, DroppedLeasesAreForgottenAndTheOthersGoOn) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant(leases(0, 4)));
  world.agent->connection_lost(kN2, world.now);
  world.obey();
  const NodeHello hello = world.join(kN3, Epoch{6}, {key_of(make_lease(1, 0)), key_of(make_lease(1, 3))});
  EXPECT_EQ(hello.held.size(), 4U);
  EXPECT_EQ(world.agent->queue().size(), 2U);
  world.work_off();
  std::vector<BatchIndex> offered;
  while (world.count(Type::commit_batches) != 0) {
    for (const BatchIndex batch : batches(world.take(Type::commit_batches))) offered.push_back(batch);
  }
  EXPECT_EQ(offered, range(1, 3));
}

TEST(NodeAgent, TheEndOfAJobEndsItsResultsToo) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant(leases(0, 2)));
  world.work_off();
  EXPECT_EQ(world.outbox.size(), 2U);
  world.push(kN2, Epoch{5}, LeaseDrop{JobId{1}, true});
  EXPECT_EQ(world.outbox.size(), 2U) << "only paused";
  world.push(kN2, Epoch{5}, LeaseDrop{JobId{1}, false});
  EXPECT_TRUE(world.outbox.empty());
  EXPECT_EQ(world.agent->queue().size(), 0U);
}

TEST(NodeAgent, WhatComesAndGoesBeforeTheOutputIsTakenDoesNotContradictItself) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  // Dropped, leased again, and then the inputs of the first time arrive, all in one turn of the shell.
  const LeaseKey key = key_of(make_lease(1, 0));
  world.agent->pushed(kN2, Epoch{5}, LeaseDrop{JobId{1}, false}, world.now);
  world.agent->pushed(kN2, Epoch{5}, make_grant({make_lease(1, 0)}), world.now);
  world.agent->input_ready(key, 10, world.now);
  world.obey();
  EXPECT_EQ(world.last.work.start.size(), 1U);
  EXPECT_TRUE(world.last.work.discard.empty()) << "the inputs are needed";
  EXPECT_TRUE(world.last.work.forget_jobs.empty());
  EXPECT_EQ(world.last.describe.size(), 1U);
}

TEST(NodeAgent, DescriptionsAndPlacementGoToTheShell) {
  InSession world;
  LeaseGrant grant = make_grant({make_lease(1, 0)});
  grant.placement = {{kN1, 5}, {kN2, 0}};
  world.push(kN2, Epoch{5}, grant);
  EXPECT_EQ(world.last.describe, grant.descriptions);
  ASSERT_TRUE(world.last.placement.has_value());
  EXPECT_EQ(world.last.placement->first, grant.placement);
  EXPECT_EQ(world.last.placement->second, 3U);
}

// -- failures ---------------------------------------------------------------------------------------------------------

TEST(NodeAgent, AnUnansweredFailureIsKeptNamedAndReportedAgain) {
  InSession world;
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0, 2)}));
  world.agent->input_ready(key_of(make_lease(1, 0, 2)), 10, world.now);
  world.obey();
  const std::uint32_t slot = world.last.work.start.at(0).slot;
  world.agent->failed(slot, key_of(make_lease(1, 0, 2)), BatchFailure::executor_died, "signal 11", world.now);
  world.obey();
  const auto call = world.take(Type::batch_failed);
  const BatchFailed report{JobId{1}, 0, 2, BatchFailure::executor_died, "signal 11"};
  EXPECT_EQ(body_of<BatchFailed>(call), report);
  world.answer(call, Error{Errc::unavailable, "the connection was lost"});
  EXPECT_FALSE(world.agent->in_session());

  const NodeHello hello = world.join(kN3, Epoch{6});
  EXPECT_EQ(hello.held, (std::vector<HeldLease>{{key_of(make_lease(1, 0, 2)), HeldStage::running}}));
  const auto again = world.take(Type::batch_failed);
  EXPECT_EQ(again.to, kN3);
  EXPECT_EQ(body_of<BatchFailed>(again), report);
  world.answer(again, answer_under(Epoch{6}, BatchFailedReply{}));
  world.agent->connection_lost(kN3, world.now);
  world.obey();
  EXPECT_TRUE(world.join(kN1, Epoch{7}).held.empty());
  EXPECT_EQ(world.count(Type::batch_failed), 0U) << "answered: told once";
}

TEST(NodeAgent, ReportsOfFailuresAreBounded) {
  InSession world;
  std::vector<Lease> many;
  for (BatchIndex batch = 0; batch < 20'000; ++batch) many.push_back(make_lease(9, batch));
  LeaseGrant grant;  // without the description: each is a failure
  grant.leases = many;
  world.push(kN2, Epoch{5}, grant);
  EXPECT_FALSE(world.agent->in_session()) << "the next hello tells of what could not be reported";
  const NodeHello hello = world.join(kN2, Epoch{5});
  EXPECT_LT(hello.held.size(), 10'000U);
  std::size_t reported = 0;
  while (world.count(Type::batch_failed) != 0) {
    EXPECT_LE(world.count(Type::batch_failed), 100U);
    world.answer(world.take(Type::batch_failed), answer_under(Epoch{5}, BatchFailedReply{}));
    ++reported;
  }
  EXPECT_EQ(reported, hello.held.size());
}

// -- the block store --------------------------------------------------------------------------------------------------

HeldBlock held_block(std::uint64_t number, WallMs stored_ms) { return {BlockId{1, number}, 10, stored_ms}; }

TEST(NodeAgent, ReportsTheInventoryPageByPageAfterTheHello) {
  AgentWorld world;
  world.join(kN2, Epoch{5});
  // The first page was asked for when the session began.
  world.agent->blocks_listed({held_block(1, 0), held_block(2, 0)}, BlockId{}, true, world.now, world.wall());
  world.obey();
  auto call = world.take(Type::inventory);
  Inventory page = body_of<Inventory>(call);
  EXPECT_EQ(page.from, BlockId{});
  EXPECT_EQ(page.to, (BlockId{1, 2}));
  EXPECT_EQ(page.blocks.size(), 2U);
  world.answer(call, answer_under(Epoch{5}, InventoryReply{}));
  EXPECT_EQ(world.last.list_blocks, (BlockId{1, 2}));
  world.agent->blocks_listed({}, BlockId{1, 2}, false, world.now, world.wall());
  world.obey();
  call = world.take(Type::inventory);
  page = body_of<Inventory>(call);
  EXPECT_EQ(page.from, (BlockId{1, 2}));
  EXPECT_EQ(page.to, (BlockId{~0ULL, ~0ULL})) << "covered to the end";
  world.answer(call, answer_under(Epoch{5}, InventoryReply{}));
  EXPECT_FALSE(world.last.list_blocks.has_value());
  world.beat_answered(Epoch{5});
  world.pass(kInventoryInterval);
  EXPECT_EQ(world.last.list_blocks.has_value() || world.count(Type::heartbeat) != 0, true);
}

/// An inventory of these blocks, answered with all of them unknown.
void all_unknown(AgentWorld& world, const std::vector<HeldBlock>& blocks, Epoch epoch) {
  world.agent->blocks_listed(blocks, BlockId{}, false, world.now, world.wall());
  world.obey();
  const auto call = world.take(Type::inventory);
  world.answer(call, answer_under(epoch, InventoryReply{body_of<Inventory>(call).blocks}));
}

TEST(NodeAgent, DeletesOrphansThatAreOldInASessionThatIsOld) {
  AgentWorld world;
  world.join(kN2, Epoch{5});
  world.beat_answered(Epoch{5});
  const WallMs old_ms = world.wall() - kOrphanGraceMs - 1;
  all_unknown(world, {held_block(1, old_ms)}, Epoch{5});
  EXPECT_TRUE(world.deleted.empty()) << "others may be about to offer results of the gap before this session";
  // A result of its own that no coordinator has answered for.
  world.push(kN2, Epoch{5}, make_grant({make_lease(1, 0)}));
  world.work_off();
  const BlockId offered = world.outbox.begin()->second.commit.block.id;
  world.pass(kInventoryInterval);
  const WallMs young_ms = world.wall() - kOrphanGraceMs + 1000;
  std::vector<HeldBlock> blocks{held_block(1, old_ms), held_block(2, young_ms), {offered, 10, old_ms}};
  all_unknown(world, blocks, Epoch{5});
  EXPECT_EQ(world.deleted, (std::vector<BlockId>{{1, 1}}));
}

TEST(NodeAgent, DeletesNothingOnTheWordOfADeposedCoordinator) {
  AgentWorld world;
  world.join(kN2, Epoch{5});
  world.beat_answered(Epoch{5});
  world.pass(std::chrono::milliseconds(kOrphanGraceMs + 1));
  world.agent->blocks_listed({held_block(1, 0)}, BlockId{}, false, world.now, world.wall());
  world.obey();
  const auto call = world.take(Type::inventory);
  world.agent->leader_hint(kN3, Epoch{6}, world.now);
  world.obey();
  world.join(kN3, Epoch{6});
  world.answer(call, answer_under(Epoch{5}, InventoryReply{{BlockId{1, 1}}}));
  EXPECT_TRUE(world.deleted.empty());
  EXPECT_EQ(world.last.list_blocks, BlockId{}) << "the new coordinator is told all of it";
}

TEST(NodeAgent, AnInventoryPageThatGotLostIsSentAgain) {
  AgentWorld world;
  world.join(kN2, Epoch{5});
  world.beat_answered(Epoch{5});
  world.agent->blocks_listed({held_block(1, 0)}, BlockId{}, false, world.now, world.wall());
  world.obey();
  world.answer(world.take(Type::inventory), Error{Errc::timeout, "slow"});
  EXPECT_TRUE(world.agent->in_session());
  EXPECT_FALSE(world.last.list_blocks.has_value());
  world.pass(std::chrono::seconds(1));
  const auto was_asked = [&world] { return world.agent->in_session() && world.count(Type::inventory) == 0; };
  ASSERT_TRUE(was_asked());
  world.agent->blocks_listed({held_block(1, 0)}, BlockId{}, false, world.now, world.wall());
  world.obey();
  EXPECT_EQ(world.count(Type::inventory), 1U);
}

TEST(NodeAgent, ReportsCopiesToTheCoordinatorThatAskedForThem) {
  InSession world;
  ReplicaTask task;
  task.task = 3;
  task.pull = {BlockRef{{1, 1}, 10, {}, {kN1}}};
  world.push(kN2, Epoch{5}, task);
  EXPECT_EQ(world.tasks.size(), 1U);
  world.push(kN2, Epoch{5}, task);
  EXPECT_EQ(world.tasks.size(), 1U) << "under way already";
  world.agent->task_done(3, {BlockStatus::ok}, world.now);
  world.obey();
  auto call = world.take(Type::replica_report);
  EXPECT_EQ(body_of<ReplicaReport>(call), (ReplicaReport{3, {BlockStatus::ok}}));
  world.answer(call, Error{Errc::timeout, "slow"});
  world.pass(std::chrono::seconds(1));
  call = world.take(Type::replica_report);
  world.answer(call, answer_under(Epoch{5}, ReplicaReportReply{}));

  // Under way while another coordinator takes over: that one numbers its tasks anew.
  world.push(kN2, Epoch{5}, task);
  world.agent->leader_hint(kN3, Epoch{6}, world.now);
  world.obey();
  world.join(kN3, Epoch{6});
  world.agent->task_done(3, {BlockStatus::ok}, world.now);
  world.obey();
  EXPECT_EQ(world.count(Type::replica_report), 0U);
}

TEST(NodeAgent, ReportsDamagedCopiesWhenSomebodyLeads) {
  AgentWorld world;
  std::vector<BlockId> blocks;
  for (std::uint64_t i = 0; i < kBlocksPerRequestMax + 5; ++i) blocks.push_back({3, i});
  world.agent->blocks_damaged(blocks, world.now);
  world.obey();
  EXPECT_EQ(world.count(Type::damaged_blocks), 0U);
  world.join(kN2, Epoch{5});
  auto call = world.take(Type::damaged_blocks);
  EXPECT_EQ(body_of<DamagedBlocks>(call).blocks.size(), kBlocksPerRequestMax);
  world.answer(call, refusal(Errc::not_leader, kN3));
  EXPECT_FALSE(world.agent->in_session());
  world.join(kN3, Epoch{6});
  call = world.take(Type::damaged_blocks);
  EXPECT_EQ(body_of<DamagedBlocks>(call).blocks.size(), kBlocksPerRequestMax) << "all of it again";
  world.answer(call, answer_under(Epoch{6}, DamagedBlocksReply{}));
  call = world.take(Type::damaged_blocks);
  EXPECT_EQ(body_of<DamagedBlocks>(call).blocks.size(), 5U);
  world.answer(call, answer_under(Epoch{6}, DamagedBlocksReply{}));
  EXPECT_EQ(world.count(Type::damaged_blocks), 0U);
}

}  // namespace
}  // namespace idunno

#include "cli/watch_picture.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

constexpr Time kStart{std::chrono::seconds(100)};

Time after(int ms) { return kStart + std::chrono::milliseconds(ms); }

Event event(const char* type, NodeId node, JobId job = {}, std::int64_t batch = -1, const char* text = "", WallMs at = 1000) {
  Event out;
  out.at_ms = at;
  out.node = node;
  out.type = type;
  out.job = job;
  out.batch = batch;
  out.text = text;
  return out;
}

StatsNotice numbers(NodeId coordinator) {
  StatsNotice notice;
  for (std::uint32_t i = 1; i <= 3; ++i) {
    NodeReport node;
    node.id = NodeId{i};
    node.state = NodeState::alive;
    node.coordinator = node.id == coordinator;
    notice.nodes.push_back(node);
  }
  return notice;
}

TEST(ClusterPicture, KnowsWhatEachSlotRuns) {
  ClusterPicture picture("c");
  picture.apply(event("batch_started", NodeId{2}, JobId{1}, 5, "slot 0", 1000), kStart);
  picture.apply(event("batch_started", NodeId{2}, JobId{2}, 6, "slot 1", 1100), kStart);
  ASSERT_EQ(picture.running(NodeId{2}).size(), 2U);
  EXPECT_TRUE(picture.running(NodeId{1}).empty());
  // The slot goes on before the commit is known.
  picture.apply(event("batch_started", NodeId{2}, JobId{1}, 7, "slot 0", 1500), kStart);
  picture.apply(event("batch_committed", NodeId{1}, JobId{1}, 5, "", 1510), kStart);
  picture.apply(event("batch_committed", NodeId{1}, JobId{2}, 6, "", 1600), kStart);
  const auto running = picture.running(NodeId{2});
  ASSERT_EQ(running.size(), 1U);
  EXPECT_EQ(running[0].batch, 7U);
  const auto spans = picture.take_spans();
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[0].end_ms, 1500U);
  EXPECT_EQ(spans[0].slot, 0);
  EXPECT_EQ(spans[1].end_ms, 1600U);
  EXPECT_EQ(spans[1].slot, 1);
  EXPECT_TRUE(picture.take_spans().empty());
}

TEST(ClusterPicture, ADeadNodeRunsNothing) {
  ClusterPicture picture("c");
  picture.apply(event("batch_started", NodeId{2}, JobId{1}, 5, "slot 0"), kStart);
  StatsNotice notice = numbers(NodeId{1});
  notice.nodes[1].state = NodeState::dead;
  notice.at_ms = 2000;
  picture.apply(notice, kStart);
  EXPECT_TRUE(picture.running(NodeId{2}).empty());
  EXPECT_EQ(picture.take_spans().size(), 1U);
  EXPECT_EQ(picture.troubles(), std::vector<std::string>{"n2 dead"});
}

TEST(ClusterPicture, BannerComesWithSilenceAndGoesAfterTheTakeover) {
  ClusterPicture picture("c");
  EXPECT_EQ(picture.banner(kStart), "") << "nothing is known yet";
  picture.apply(numbers(NodeId{1}), kStart);
  EXPECT_EQ(picture.banner(after(1300)), "");
  EXPECT_EQ(picture.banner(after(2100)), "coordinator is being replaced, last data 2.1 s old");
  picture.apply(event("coordinator_changed", NodeId{2}), after(2200));
  EXPECT_EQ(picture.coordinator(), NodeId{2});
  EXPECT_EQ(picture.banner(after(2300)), "n2 takes over from n1, last data 2.3 s old");
  picture.apply(numbers(NodeId{2}), after(2600));
  EXPECT_EQ(picture.banner(after(3200)), "n2 took over from n1 1 s ago; 2.6 s without numbers");
  picture.apply(numbers(NodeId{2}), after(14'000));
  EXPECT_EQ(picture.banner(after(14'500)), "");
}

TEST(ClusterPicture, NumbersOfAnotherCoordinatorAreATakeoverToo) {
  ClusterPicture picture("c");
  picture.apply(numbers(NodeId{1}), kStart);
  picture.apply(numbers(NodeId{3}), after(1700));  // its event got lost
  EXPECT_EQ(picture.banner(after(1700)), "n3 took over from n1 0 s ago; 1.7 s without numbers");
}

TEST(ClusterPicture, RatesGoOnThroughATakeover) {
  ClusterPicture picture("c");
  StatsNotice notice = numbers(NodeId{1});
  JobReport& job = notice.stats.jobs.emplace_back();
  job.id = JobId{1};
  job.state = JobState::running;
  for (int second = 0; second <= 10; ++second) {
    job.done = 50 * static_cast<std::uint64_t>(second);
    job.rate_milli_qps = 49'000;
    picture.apply(notice, after(1000 * second));
  }
  EXPECT_EQ(picture.jobs()[0].rate_milli_qps, 49'000U) << "as the coordinator says";
  notice.nodes = numbers(NodeId{2}).nodes;
  job.done = 600;
  job.rate_milli_qps = 0;  // its own window is empty
  picture.apply(notice, after(12'000));
  EXPECT_EQ(picture.jobs()[0].rate_milli_qps, 50'000U);
  job.rate_milli_qps = 48'000;
  picture.apply(notice, after(23'000));
  EXPECT_EQ(picture.jobs()[0].rate_milli_qps, 48'000U);
}

TEST(ClusterPicture, AnOldStatusDoesNotBringAnOldCoordinatorBack) {
  ClusterPicture picture("c");
  StatusReply status;
  status.coordinator = NodeId{2};
  status.epoch = Epoch{5};
  picture.apply(status, kStart);
  status.coordinator = NodeId{1};
  status.epoch = Epoch{4};
  picture.apply(status, kStart);
  EXPECT_EQ(picture.coordinator(), NodeId{2});
  EXPECT_EQ(picture.epoch(), Epoch{5});
}

TEST(ClusterPicture, MembersOfOthersCountOnlyWithoutACoordinator) {
  ClusterPicture picture("c");
  picture.apply(numbers(NodeId{1}), kStart);
  MemberListReply members;
  members.members.emplace_back();
  members.members[0].id = NodeId{1};
  members.members[0].state = NodeState::dead;
  picture.apply(members, after(100));
  EXPECT_EQ(picture.nodes()[0].state, NodeState::alive);
  picture.apply(members, after(2000));
  EXPECT_EQ(picture.nodes()[0].state, NodeState::dead);
}

TEST(ClusterPicture, RoutineEventsDoNotPushOthersOut) {
  ClusterPicture picture("c");
  picture.apply(event("node_dead", NodeId{1}), kStart);
  for (int i = 0; i < 2000; ++i) picture.apply(event("batch_committed", NodeId{1}, JobId{1}, i), kStart);
  picture.apply(event("node_joined", NodeId{1}), kStart);
  ASSERT_EQ(picture.events(false).size(), 2U);
  const auto all = picture.events(true);
  ASSERT_EQ(all.size(), ClusterPicture::kEventsMax + 2);
  EXPECT_EQ(all.front()->type, "node_dead");
  EXPECT_EQ(all.back()->type, "node_joined");
}

TEST(ClusterPicture, EndlessJobsHaveNoTotal) {
  JobReport job;
  job.spec.queries = 10;
  job.spec.repeat = 3;
  job.done = 15;
  EXPECT_EQ(goal_of(job), 30U);
  EXPECT_DOUBLE_EQ(*fraction_of(job), 0.5);
  job.spec.repeat = 0;
  EXPECT_EQ(goal_of(job), 0U);
  EXPECT_FALSE(fraction_of(job));
}

TEST(ClusterPicture, RatesAreKeptForASparkline) {
  ClusterPicture picture("c");
  StatsNotice notice = numbers(NodeId{1});
  notice.stats.jobs.emplace_back().id = JobId{4};
  for (std::uint64_t i = 0; i < 500; ++i) {
    notice.stats.jobs[0].rate_milli_qps = i;
    picture.apply(notice, kStart);
  }
  EXPECT_EQ(picture.rates(JobId{4}).size(), ClusterPicture::kRatesMax);
  EXPECT_EQ(picture.rates(JobId{4}).back(), 499U);
  notice.stats.jobs.clear();
  picture.apply(notice, kStart);
  EXPECT_TRUE(picture.rates(JobId{4}).empty());
}

}  // namespace
}  // namespace idunno::cli

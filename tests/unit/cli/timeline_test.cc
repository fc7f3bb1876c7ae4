#include "cli/timeline.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr NodeId kCoordinator{1};
const Time kStart = Time() + seconds(100);

JobReport job_of(std::uint32_t id, std::uint64_t queries, std::uint32_t batch) {
  JobReport job;
  job.id = JobId{id};
  job.spec.queries = queries;
  job.spec.batch = batch;
  job.state = JobState::running;
  return job;
}

class TimelineTest : public ::testing::Test {
 protected:
  void tell(Time at, const std::string& type, std::uint32_t job, std::int64_t batch, const std::string& text = "",
            NodeId by = kCoordinator, const std::vector<std::uint16_t>& done_milli = {}) {
    EventNotice notice;
    notice.sequence = ++sequences_[by];
    notice.event.node = by;
    notice.event.type = type;
    notice.event.job = JobId{job};
    notice.event.batch = batch;
    notice.event.text = text;
    notice.event.done_milli = done_milli;
    line_.notice(at, notice);
  }
  void lease(Time at, std::uint32_t job, std::int64_t batch, std::uint32_t node, const std::string& more = "") {
    tell(at, "batch_leased", job, batch,
         "j" + std::to_string(job) + "/b" + std::to_string(batch) + " to n" + std::to_string(node) + more);
  }
  void commit(Time at, std::uint32_t job, std::int64_t batch, const std::vector<std::uint16_t>& done_milli = {}) {
    tell(at, "batch_committed", job, batch, "", kCoordinator, done_milli);
  }
  /// A batch of job 1 each `step` in (from, to].
  void commits(Time from, Time to, Duration step) {
    for (Time at = from + step; at <= to; at += step) commit(at, 1, next_batch_++);
  }

  Timeline line_;
  std::map<NodeId, std::uint64_t> sequences_;
  std::int64_t next_batch_ = 0;
};

TEST_F(TimelineTest, CountsTheQueriesOfAShortLastBatch) {
  line_.watch_job(job_of(1, 10, 4));
  EXPECT_EQ(line_.queries_of({JobId{1}, 1}), 4U);
  EXPECT_EQ(line_.queries_of({JobId{1}, 2}), 2U);
  EXPECT_EQ(line_.queries_of({JobId{1}, 3}), 0U);
  EXPECT_EQ(line_.queries_of({JobId{2}, 0}), 0U);
  commit(kStart + seconds(1), 1, 0);
  commit(kStart + seconds(2), 1, 2);
  commit(kStart + seconds(2), 7, 0);  // a job that is not watched
  EXPECT_DOUBLE_EQ(line_.rate(kStart, kStart + seconds(2)), 3.0);
  EXPECT_DOUBLE_EQ(line_.rate(JobId{1}, kStart + seconds(1), kStart + seconds(2)), 2.0) << "the left end is not in the window";
}

TEST_F(TimelineTest, WorkCountsInTheTimeInWhichItWasDone) {
  line_.watch_job(job_of(1, 100, 10));
  tell(kStart, "batch_started", 1, 0, "slot 0", NodeId{2});
  commit(kStart + seconds(2), 1, 0);
  EXPECT_DOUBLE_EQ(line_.work_rate(kStart, kStart + seconds(2)), 5.0);
  EXPECT_DOUBLE_EQ(line_.work_rate(kStart + seconds(1), kStart + seconds(3)), 2.5);
  EXPECT_DOUBLE_EQ(line_.rate(kStart, kStart + seconds(1)), 0.0) << "commits count when they come";
  // Begun at a node that dies, then at another: what the first did was in vain.
  tell(kStart + seconds(2), "batch_started", 1, 1, "slot 0", NodeId{2});
  tell(kStart + seconds(4), "batch_started", 1, 1, "slot 0", NodeId{3});
  EXPECT_DOUBLE_EQ(line_.work_rate(kStart + seconds(2), kStart + seconds(5)), 0.0) << "not committed yet";
  commit(kStart + seconds(5), 1, 1);
  EXPECT_DOUBLE_EQ(line_.work_rate(kStart + seconds(2), kStart + seconds(4)), 0.0);
  EXPECT_DOUBLE_EQ(line_.work_rate(kStart + seconds(4), kStart + seconds(5)), 10.0);
  commit(kStart + seconds(6), 1, 2);  // its start was not told: it counts at its commit
  EXPECT_NEAR(line_.work_rate(kStart + seconds(6), kStart + seconds(7)), 10.0, 1e-9);
}

TEST_F(TimelineTest, WorkIsSpreadAsItsCommitTells) {
  line_.watch_job(job_of(1, 100, 10));
  tell(kStart, "batch_started", 1, 0, "slot 0", NodeId{2});
  commit(kStart + seconds(2), 1, 0, {900});
  EXPECT_NEAR(line_.work_rate(kStart, kStart + seconds(1)), 9.0, 1e-9);
  EXPECT_NEAR(line_.work_rate(kStart + seconds(1), kStart + seconds(2)), 1.0, 1e-9);
}

TEST_F(TimelineTest, DetectionIsTheFirstWordAboutThatNode) {
  line_.watch_job(job_of(1, 10, 1));
  tell(kStart, "node_dead", 0, -1, "n3: of an earlier life");
  line_.killed(kStart + seconds(1), {NodeId{3}});
  EXPECT_FALSE(line_.detected(NodeId{3}));
  tell(kStart + milliseconds(1100), "node_dead", 0, -1, "n30: its connection closed");
  EXPECT_FALSE(line_.detected(NodeId{3}));
  tell(kStart + milliseconds(1200), "node_dead", 0, -1, "n3: its connection closed", NodeId{2});
  line_.seen_dead(kStart + milliseconds(1300), NodeId{3});
  EXPECT_EQ(line_.detected(NodeId{3}), milliseconds(200));
}

TEST_F(TimelineTest, TakeoverIsToldByTheNewCoordinatorNotByAVictim) {
  line_.killed(kStart, {NodeId{1}});
  tell(kStart + milliseconds(50), "coordinator_changed", 0, -1, "", NodeId{1});
  tell(kStart + milliseconds(80), "coordinator_changed", 0, -1, "", NodeId{3});
  tell(kStart + milliseconds(90), "coordinator_changed", 0, -1, "", NodeId{2});
  EXPECT_EQ(line_.changes().size(), 2U);
  EXPECT_EQ(line_.took_over(NodeId{2}), milliseconds(90));
  EXPECT_FALSE(line_.took_over(NodeId{1}));
}

TEST_F(TimelineTest, WhatTheVictimHeldMustBeLeasedAgainOrCommitted) {
  line_.watch_job(job_of(1, 100, 1));
  lease(kStart, 1, 1, 3);
  lease(kStart, 1, 2, 3);
  lease(kStart, 1, 3, 2);
  lease(kStart, 1, 4, 3);
  lease(kStart, 1, 5, 30);
  commit(kStart + milliseconds(1), 1, 4);
  const Time killed = kStart + seconds(1);
  line_.killed(killed, {NodeId{3}});
  EXPECT_EQ(line_.not_settled().size(), 2U);
  EXPECT_FALSE(line_.reassigned(NodeId{3}));
  EXPECT_EQ(line_.reassigned(NodeId{2}), Duration::zero());
  lease(killed + milliseconds(100), 1, 1, 2, ", attempt 1");
  lease(killed + milliseconds(110), 1, 6, 2);  // a new one, nothing to do with it
  EXPECT_FALSE(line_.reassigned(NodeId{3}));
  commit(killed + milliseconds(300), 1, 2);  // its commit was on the way
  EXPECT_EQ(line_.reassigned(NodeId{3}), milliseconds(300));
  EXPECT_TRUE(line_.not_settled().empty());
  EXPECT_EQ(line_.repeated_batches(), 1U);
  commit(killed + milliseconds(400), 1, 1);
  EXPECT_EQ(line_.reassigned(NodeId{3}), milliseconds(300)) << "leased again is enough";
}

TEST_F(TimelineTest, ACommitWhoseNoticeEndedWithTheCoordinatorIsNotWaitedFor) {
  line_.watch_job(job_of(1, 100, 1));
  line_.watch_job(job_of(2, 100, 1));
  for (std::int64_t batch = 3; batch < 6; ++batch) lease(kStart, 1, batch, 1);
  lease(kStart, 2, 3, 1);
  const Time killed = kStart + seconds(1);
  line_.killed(killed, {kCoordinator});
  lease(killed + milliseconds(1), 1, 9, 2);  // on its way since before the kill
  EXPECT_EQ(line_.not_settled().size(), 4U);
  tell(killed + milliseconds(50), "coordinator_changed", 0, -1, "", NodeId{2});
  const auto lease_by_new = [&](Time at, std::uint32_t job, std::int64_t batch, const std::string& more) {
    tell(at, "batch_leased", job, batch, "j" + std::to_string(job) + "/b" + std::to_string(batch) + " to n3" + more, NodeId{2});
  };
  lease_by_new(killed + milliseconds(60), 1, 7, ", attempt 1");  // to be redone, out of the order
  EXPECT_EQ(line_.not_settled().size(), 4U);
  lease_by_new(killed + milliseconds(70), 1, 5, "");
  EXPECT_EQ(line_.not_settled(), (std::vector<Timeline::Batch>{{JobId{2}, 3}}));
  EXPECT_EQ(line_.repeated_batches(), 1U);
  lease_by_new(killed + milliseconds(80), 2, 4, "");
  EXPECT_EQ(line_.reassigned(kCoordinator), milliseconds(80));
}

TEST_F(TimelineTest, CountsNoticesThatWereLost) {
  line_.watch_job(job_of(1, 100, 1));
  commit(kStart, 1, 0);
  sequences_[kCoordinator] += 3;
  commit(kStart, 1, 1);
  sequences_[kCoordinator] = 0;  // the process began anew
  commit(kStart, 1, 2);
  EXPECT_EQ(line_.lost_notices(), 3U);
}

TEST_F(TimelineTest, AnUndisturbedStreamIsNormalAtOnceAndHasNoDip) {
  line_.watch_job(job_of(1, 100000, 2));
  commits(kStart, kStart + seconds(10), milliseconds(10));
  line_.killed(kStart + seconds(5), {NodeId{3}});
  EXPECT_EQ(line_.normal(seconds(5), seconds(1), kStart + seconds(10)), Duration::zero());
  const auto dip = line_.dip(seconds(5), milliseconds(250), kStart + seconds(10));
  EXPECT_EQ(dip.length, Duration::zero());
  EXPECT_LT(dip.depth_pct, 5);
  EXPECT_EQ(dip.longest_gap, milliseconds(10));
}

/// Both executors begin and end a batch of two seconds together.
TEST_F(TimelineTest, BatchesThatEndTogetherAreNoDip) {
  line_.watch_job(job_of(1, 100000, 16));
  std::int64_t batch = 0;
  for (Time at = kStart; at < kStart + seconds(20); at += seconds(2)) {
    if (at == kStart + seconds(10)) line_.killed(at + milliseconds(500), {NodeId{3}});
    for (const std::int64_t one : {batch, batch + 1}) tell(at, "batch_started", 1, one, "slot 0", NodeId{2});
    for (const std::int64_t one : {batch, batch + 1}) commit(at + seconds(2), 1, one);
    batch += 2;
  }
  const auto dip = line_.dip(seconds(8), seconds(1), kStart + seconds(21));
  EXPECT_EQ(dip.length, Duration::zero());
  EXPECT_LT(dip.depth_pct, 1) << "what is in work at the end is not known yet";
  EXPECT_EQ(dip.longest_gap, seconds(2));
}

TEST_F(TimelineTest, AGapIsADipOfItsLength) {
  line_.watch_job(job_of(1, 100000, 1));
  const Time killed = kStart + seconds(5);
  commits(kStart, killed, milliseconds(10));
  line_.killed(killed, {NodeId{3}});
  commits(killed + milliseconds(600), killed + seconds(5), milliseconds(10));
  const auto normal = line_.normal(seconds(5), seconds(1), killed + seconds(5));
  ASSERT_TRUE(normal);
  EXPECT_GE(*normal, milliseconds(480));  // 10 % of a window of 1 s may be missing
  EXPECT_LE(*normal, milliseconds(600));
  const auto dip = line_.dip(seconds(5), milliseconds(250), killed + seconds(5));
  EXPECT_DOUBLE_EQ(dip.depth_pct, 100);
  EXPECT_GE(dip.length, milliseconds(560));
  EXPECT_LE(dip.length, milliseconds(600));
  EXPECT_EQ(dip.longest_gap, milliseconds(610));
}

TEST_F(TimelineTest, IsNotNormalBeforeAWholeWindowHasPassedNorWithTooLowARate) {
  line_.watch_job(job_of(1, 100000, 1));
  const Time killed = kStart + seconds(5);
  commits(kStart, killed, milliseconds(10));
  line_.killed(killed, {NodeId{3}});
  commits(killed, killed + seconds(5), milliseconds(13));  // three quarters
  EXPECT_FALSE(line_.normal(seconds(5), seconds(1), killed + milliseconds(900)));
  EXPECT_FALSE(line_.normal(seconds(5), seconds(1), killed + seconds(5)));
  EXPECT_TRUE(line_.normal(seconds(5), seconds(1), killed + seconds(5), 0.7));
}

TEST_F(TimelineTest, OneJobThatStandsStillIsNotNormalThoughTheOtherIs) {
  line_.watch_job(job_of(1, 100000, 1));
  line_.watch_job(job_of(2, 100000, 1));
  const Time killed = kStart + seconds(5);
  commits(kStart, killed, milliseconds(10));
  for (int i = 0; i < 500; ++i) commit(killed, 2, i);
  line_.killed(killed, {NodeId{3}});
  commits(killed, killed + seconds(5), milliseconds(10));
  EXPECT_FALSE(line_.normal(seconds(5), seconds(1), killed + seconds(5)));
}

TEST_F(TimelineTest, WhatComesAfterAJobsEndIsNeitherADipNorMissed) {
  line_.watch_job(job_of(1, 1000, 10));
  line_.watch_job(job_of(2, 1000, 10));
  EXPECT_FALSE(line_.all_ended());
  for (int i = 1; i <= 20; ++i) {
    commit(kStart + i * milliseconds(100), 1, i);
    commit(kStart + i * milliseconds(100), 2, i);
  }
  const Time kill = kStart + seconds(2);
  line_.killed(kill, {NodeId{3}});
  for (int i = 21; i <= 25; ++i) {
    commit(kStart + i * milliseconds(100), 1, i);
    commit(kStart + i * milliseconds(100), 2, i);
  }
  tell(kill + milliseconds(500), "job_done", 2, -1);
  line_.ended(JobId{2}, kill + seconds(9));  // told again, later
  EXPECT_EQ(line_.first_end(), kill + milliseconds(500));
  EXPECT_FALSE(line_.all_ended());
  // Job 1 stands still from then on; that is not normal, and it is not the dip of this kill either.
  EXPECT_FALSE(line_.normal(seconds(2), seconds(1), kill + seconds(5)));
  auto dip = line_.dip(seconds(2), milliseconds(200), kill + seconds(5));
  EXPECT_EQ(dip.length, Duration::zero());
  EXPECT_LT(dip.longest_gap, milliseconds(101));
  line_.ended(JobId{1}, kill + milliseconds(600));
  EXPECT_TRUE(line_.all_ended());
  EXPECT_FALSE(line_.normal(seconds(2), seconds(1), kill + seconds(5))) << "no window is left that says anything";
}

TEST_F(TimelineTest, AJobThatIsOverIsNotAskedForWhileAnotherGoesOn) {
  line_.watch_job(job_of(1, 1000, 10));
  line_.watch_job(job_of(2, 1000, 10));
  for (int i = 1; i <= 60; ++i) {
    commit(kStart + i * milliseconds(100), 1, i);
    if (i <= 22) commit(kStart + i * milliseconds(100), 2, i);
  }
  const Time kill = kStart + seconds(2);
  line_.killed(kill, {NodeId{3}});
  EXPECT_FALSE(line_.normal(seconds(2), seconds(1), kill + seconds(3))) << "job 2 stands still";
  tell(kill + milliseconds(200), "job_done", 2, -1);
  EXPECT_EQ(line_.normal(seconds(2), seconds(1), kill + seconds(3)), Duration::zero());
}

TEST(TimelineWindow, FitsTheSlowestJob) {
  JobReport fast = job_of(1, 1000, 1);
  fast.rate_milli_qps = 1000000;
  JobReport slow = job_of(2, 1000, 4);
  slow.rate_milli_qps = 16000;  // 4 batches a second
  EXPECT_EQ(Timeline::window_of({fast}), seconds(1));
  EXPECT_EQ(Timeline::window_of({fast, slow}), seconds(5));
  slow.rate_milli_qps = 1;
  EXPECT_EQ(Timeline::window_of({fast, slow}), seconds(30));
}

}  // namespace
}  // namespace idunno::cli

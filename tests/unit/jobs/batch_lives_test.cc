// What nodes remember of batches, and why a job waits.

#include "nodes/jobs/batch_lives.h"

#include <gtest/gtest.h>

namespace idunno {
namespace {

constexpr JobId kJob{3};

Time at(std::int64_t ms) { return Time(std::chrono::milliseconds(ms)); }

BatchNote note(std::int64_t ms, BatchEvent what, std::uint32_t node, BatchIndex batch = 17, std::uint32_t attempt = 0) {
  BatchNote note;
  note.at = at(ms);
  note.job = kJob;
  note.batch = batch;
  note.attempt = attempt;
  note.what = what;
  note.node = NodeId{node};
  return note;
}

std::vector<std::string> names(const std::vector<BatchStep>& steps) {
  std::vector<std::string> out;
  for (const BatchStep& step : steps) out.push_back(step.what);
  return out;
}

TEST(BatchLives, TellsOneBatchWithTimesOfDayAndDurations) {
  BatchLives lives;
  lives.note(note(1000, BatchEvent::received, 2));
  lives.note(note(1001, BatchEvent::received, 2, 18));
  lives.note(note(1010, BatchEvent::fetched, 2));
  lives.note(note(1050, BatchEvent::started, 2));
  BatchNote inferred = note(1150, BatchEvent::inferred, 2);
  inferred.took_us = 90'000;
  lives.note(inferred);
  lives.note(note(1170, BatchEvent::stored, 2));
  const auto steps = lives.steps(kJob, 17, at(2000), 1'000'000);
  ASSERT_EQ(names(steps), (std::vector<std::string>{"received", "fetched", "started", "inferred", "stored"}));
  EXPECT_EQ(steps[0].at_ms, 999'000U);
  EXPECT_EQ(steps[1].took_us, 10'000U);
  EXPECT_EQ(steps[3].took_us, 90'000U);
  EXPECT_EQ(steps[4].took_us, 20'000U);
  EXPECT_TRUE(lives.steps(JobId{4}, 17, at(2000), 1'000'000).empty());
}

TEST(BatchLives, ANodeThatDiesTakesTheLeasesItHeld) {
  BatchLives lives;
  lives.note(note(1000, BatchEvent::leased, 2));
  lives.note(note(1000, BatchEvent::leased, 3, 18));
  BatchNote died = note(1500, BatchEvent::lost, 2);
  died.job = JobId{};
  died.batch = 0;
  died.text = "n2 died";
  lives.note(died);
  lives.note(note(1501, BatchEvent::leased, 3, 17, 1));
  lives.note(note(1600, BatchEvent::committed, 3, 17, 1));
  died.at = at(1700);
  lives.note(died);  // another death of n2, which held nothing of it
  const auto steps = lives.steps(kJob, 17, at(2000), 1'000'000);
  ASSERT_EQ(names(steps), (std::vector<std::string>{"leased", "lost", "leased", "committed"}));
  EXPECT_EQ(steps[1].text, "n2 died");
  EXPECT_EQ(steps[1].attempt, 0U);
  EXPECT_EQ(names(lives.steps(kJob, 18, at(2000), 1'000'000)), (std::vector<std::string>{"leased"}));
}

TEST(BatchLives, OfAJobOnlyWhatDidNotGoStraight) {
  BatchLives lives;
  lives.note(note(1000, BatchEvent::leased, 2));
  BatchNote failed = note(1100, BatchEvent::failed, 2);
  failed.text = "the executor died";
  lives.note(failed);
  lives.note(note(1200, BatchEvent::committed, 2, 18));
  const auto steps = lives.steps(kJob, -1, at(2000), 1'000'000);
  ASSERT_EQ(names(steps), (std::vector<std::string>{"failed"}));
  EXPECT_EQ(steps[0].text, "j3/b17: the executor died");
}

TEST(BatchLives, SaysWhyThere) {
  BatchLives lives;
  BatchNote leased = note(1000, BatchEvent::leased, 2);
  leased.held = 3;
  leased.credit = 4;
  lives.note(leased);
  leased.held = 5;
  leased.batch = 18;
  lives.note(leased);
  EXPECT_NE(lives.steps(kJob, 17, at(2000), 1'000'000)[0].text.find("n2 had the most room"), std::string::npos);
  EXPECT_NE(lives.steps(kJob, 18, at(2000), 1'000'000)[0].text.find("beyond the credit"), std::string::npos);
}

TEST(BatchLives, IsBoundedKeepsTheLatestAndSaysThatItForgot) {
  BatchLives lives(10);
  for (BatchIndex batch = 0; batch < 10; ++batch) lives.note(note(batch, BatchEvent::leased, 2, batch));
  EXPECT_FALSE(lives.forgot());
  for (BatchIndex batch = 10; batch < 25; ++batch) lives.note(note(batch, BatchEvent::leased, 2, batch));
  EXPECT_TRUE(lives.forgot());
  EXPECT_EQ(lives.size(), 10U);
  EXPECT_TRUE(lives.steps(kJob, 14, at(2000), 1'000'000).empty());
  for (BatchIndex batch = 15; batch < 25; ++batch) EXPECT_EQ(lives.steps(kJob, batch, at(2000), 1'000'000).size(), 1U);
  BatchLives order(3);
  for (int i = 0; i < 5; ++i) order.note(note(i * 100, i < 4 ? BatchEvent::leased : BatchEvent::committed, 2));
  EXPECT_EQ(names(order.steps(kJob, 17, at(2000), 1'000'000)), (std::vector<std::string>{"leased", "leased", "committed"}));
}

// -- waits --------------------------------------------------------------------------------------------------------------

JobWait running() {
  JobWait job;
  job.id = kJob;
  job.workers = 3;
  job.batches_left = 100;
  job.leased = 6;
  job.credit_free = 2;
  return job;
}

TEST(WhyWaits, NothingHoldsUpAJobThatHasAllItCanUse) {
  EXPECT_EQ(why_waits(running()), "");
  JobWait last = running();
  last.batches_left = 6;
  last.credit_free = 0;
  last.others.push_back({JobId{4}, 0, 1000, false});
  EXPECT_EQ(why_waits(last), "") << "all that is left is out";
}

TEST(WhyWaits, NamesWhatStopsIt) {
  JobWait job = running();
  job.state = JobState::paused;
  EXPECT_NE(why_waits(job).find("idunno job resume j3"), std::string::npos);
  job = running();
  job.state = JobState::failed;
  job.reason = "no labels";
  EXPECT_EQ(why_waits(job), "it is over: failed (no labels)");
  job = running();
  job.kind = JobKind::training;
  EXPECT_NE(why_waits(job).find("`idunno phase stop` (the phase inference is on now) and `idunno phase start training`"),
            std::string::npos);
  job.phase = Phase::none;
  EXPECT_EQ(why_waits(job).find("phase stop"), std::string::npos);
  job.phase = Phase::training;
  EXPECT_EQ(why_waits(job), "");
  job = running();
  job.taking_over = true;
  EXPECT_NE(why_waits(job).find("new coordinator"), std::string::npos);
  job = running();
  job.workers = 0;
  job.workers_away = 2;
  EXPECT_EQ(why_waits(job), "no node that computes is alive; 2 nodes are away: see `idunno status`");
  job = running();
  job.follows = true;
  job.batches_left = 0;
  job.leased = 0;
  job.data_path = "/in";
  EXPECT_NE(why_waits(job).find("waits for new files in /in"), std::string::npos);
}

TEST(WhyWaits, NamesWhatSlowsIt) {
  JobWait job = running();
  job.others.push_back({JobId{4}, 5, 1000, false});
  job.others.push_back({JobId{5}, 0, 3000, false});
  job.others.push_back({JobId{6}, -1, 1000, false});
  job.credit_free = 0;
  std::string text = why_waits(job);
  EXPECT_NE(text.find("j4 (priority 5)"), std::string::npos) << text;
  EXPECT_NE(text.find("shares them with j5: its part by weight is 25 %"), std::string::npos) << text;
  EXPECT_EQ(text.find("j6"), std::string::npos) << text;
  job = running();
  job.rate_limit_milli = 1500;
  EXPECT_EQ(why_waits(job), "");
  job.rate_limited = true;
  EXPECT_NE(why_waits(job).find("rate limit of 1.5 queries/s"), std::string::npos);
  job.rate_limited = false;
  job.nodes_kept = 2;
  EXPECT_EQ(why_waits(job).find("rate limit"), std::string::npos);
  EXPECT_NE(why_waits(job).find("2 nodes are kept for jobs that ask for a number of nodes at least"), std::string::npos);
  job = running();
  job.nodes_max = 1;
  job.nodes = 1;
  EXPECT_EQ(why_waits(job), "it may use at most 1 node and does");
  job = running();
  job.credit_free = 0;
  job.leased = 0;
  EXPECT_NE(why_waits(job).find("all nodes hold as much work as they may"), std::string::npos);
}

}  // namespace
}  // namespace idunno

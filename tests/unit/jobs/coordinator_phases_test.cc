// The coordinator through phases, with jobs that repeat and jobs that follow a folder.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/jobs/coordinator_sim.h"

namespace idunno {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

std::size_t granted(const Sim& sim) {
  std::size_t count = 0;
  for (const auto& [id, worker] : sim.workers) count += worker.granted.size();
  return count;
}

// -- phases -----------------------------------------------------------------------------------------------------------

TEST(CoordinatorPhases, WithoutItsPhaseAJobGetsNoLeasesAndWhatRanIsDoneAgain) {
  Sim sim(3);
  sim.start();
  const JobId job = sim.submit("net", 400, 2, milliseconds(100));
  sim.run_for(milliseconds(450));
  ASSERT_GT(sim.done(job), 0U);
  EXPECT_EQ(sim.reply_to<PhaseReply>(sim.ask(PhaseRequest{Phase::none}, sim.fresh())).number, 2U);
  const std::uint64_t done = sim.done(job);
  sim.run_for(milliseconds(20));
  const std::size_t leases = granted(sim);
  sim.run_for(seconds(3));
  EXPECT_EQ(sim.done(job), done) << "what ran at the end of the phase is refused";
  EXPECT_EQ(granted(sim), leases);
  EXPECT_EQ(sim.report(job).leased, 0U) << "all came back";
  EXPECT_EQ(sim.report(job).state, JobState::queued);
  EXPECT_EQ(sim.report(job).retried, 0U) << "nobody failed";
  EXPECT_EQ(sim.error_of(sim.ask(PhaseRequest{Phase::inference}, sim.fresh())).code, Errc{});
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  for (const auto& [id, worker] : sim.workers) {
    for (const Lease& lease : worker.granted) EXPECT_TRUE(lease.phase == 1 || lease.phase == 3) << lease.phase;
    EXPECT_EQ(worker.granted.back().phase, 3U);
  }
  EXPECT_EQ(sim.coordinator->state().job(job)->queries_done, 400U);
}

TEST(CoordinatorPhases, ANewCoordinatorKnowsThePhase) {
  Sim sim(2);
  sim.start();
  const JobId job = sim.submit("net", 200, 2, milliseconds(100));
  sim.run_for(milliseconds(300));
  sim.ask(PhaseRequest{Phase::none}, sim.fresh());
  sim.replace_coordinator(2);
  sim.run_for(seconds(3));
  const std::uint64_t done = sim.done(job);
  sim.run_for(seconds(3));
  EXPECT_EQ(sim.done(job), done);
  EXPECT_EQ(sim.report(job).leased, 0U);
  EXPECT_EQ(sim.error_of(sim.ask(PhaseRequest{Phase::training}, sim.fresh())).code, Errc{});
  EXPECT_EQ(sim.error_of(sim.ask(PhaseRequest{Phase::inference}, sim.fresh())).code, Errc::conflict);
  sim.ask(PhaseRequest{Phase::none}, sim.fresh());
  sim.ask(PhaseRequest{Phase::inference}, sim.fresh());
  EXPECT_TRUE(sim.run_until_done({job}, seconds(60)));
}

// -- repeated jobs ----------------------------------------------------------------------------------------------------

JobId submit_repeated(Sim& sim, std::uint32_t times) {
  if (!sim.coordinator->state().models().contains("net")) sim.add_model("net");
  sim.batch_times["net"] = milliseconds(20);
  JobSpec spec;
  spec.model = "net";
  spec.item_kind = ItemKind::nothing;
  spec.queries = 10;
  spec.batch = 4;
  spec.repeat = times;
  return sim.reply_to<SubmitReply>(sim.ask(SubmitRequest{spec}, sim.fresh())).job;
}

TEST(CoordinatorRepeats, EachPassOnceThroughAChangeOfCoordinator) {
  Sim sim(3);
  sim.start();
  const JobId job = submit_repeated(sim, 200);
  sim.run_for(milliseconds(500));
  ASSERT_GT(sim.done(job), 0U);
  ASSERT_LT(sim.done(job), 2000U);
  sim.replace_coordinator(2);
  ASSERT_TRUE(sim.run_until_done({job}, seconds(60)));
  EXPECT_EQ(sim.done(job), 2000U);
  EXPECT_EQ(sim.count_events("alarm"), 0U);
  for (const auto& [id, worker] : sim.workers) {
    for (const Lease& lease : worker.granted) {
      EXPECT_EQ(lease.item, lease.batch % 3 * 4U);
      EXPECT_EQ(lease.first_query, lease.batch / 3 * 10U + lease.item);
      EXPECT_EQ(lease.queries, lease.batch % 3 == 2 ? 2U : 4U);
    }
  }
}

TEST(CoordinatorRepeats, WithoutEndItGoesOnBeyondItsWindow) {
  Sim sim(2, 4);
  sim.start();
  const JobId job = submit_repeated(sim, 0);
  const std::size_t window = sim.coordinator->state().job(job)->digests.size();
  sim.batch_times["net"] = std::chrono::microseconds(500);
  sim.run_for(seconds(1));
  sim.replace_coordinator(2);
  sim.run_for(seconds(3));
  EXPECT_GT(sim.coordinator->state().job(job)->batches_done, window + 1000);
  EXPECT_EQ(sim.coordinator->state().job(job)->digests.size(), window);
  EXPECT_EQ(sim.report(job).total, 0U);
  EXPECT_EQ(sim.count_events("alarm"), 0U);
  sim.ask(JobControlRequest{job, JobAction::stop}, sim.fresh());
  const auto results = sim.reply_to<JobResultsReply>(sim.ask(JobResultsRequest{job, 0, 100}, {}));
  ASSERT_EQ(results.blocks.size(), 3U);
  for (const BlockRef& block : results.blocks) EXPECT_NE(block.id, BlockId{});
}

// -- following jobs ---------------------------------------------------------------------------------------------------

JobId submit_following(Sim& sim) {
  sim.add_model("net");
  sim.batch_times["net"] = milliseconds(20);
  JobSpec spec;
  spec.model = "net";
  spec.data_path = "/incoming";
  spec.batch = 4;
  spec.follow = true;
  return sim.reply_to<SubmitReply>(sim.ask(SubmitRequest{spec}, sim.fresh())).job;
}

void put(Sim& sim, const std::string& path) {
  FsFilePart part;
  part.path = path;
  part.upload = ++sim.last_block;
  part.blocks = {BlockRef{BlockId{6, ++sim.last_block}, 10, hash128(path), {NodeId{1}}}};
  (void)sim.reply_to<FsCommitReply>(sim.ask(FsCommitRequest{{part}}, sim.fresh()));
}

Status extend(Sim& sim, JobId job, std::uint64_t queries, std::uint64_t epoch = 1) {
  const std::uint64_t after = sim.coordinator->state().job(job)->segments.size();
  FollowSegment segment{job, Epoch{epoch}, after, segment_path_of(job, after + 1), 1, 512, queries};
  put(sim, segment.manifest_path);
  return sim.extend(segment);
}

TEST(CoordinatorFollows, TellsWhatLandsAndLeasesTheSegments) {
  Sim sim(2);
  sim.start();
  const JobId job = submit_following(sim);
  ASSERT_EQ(sim.follow.size(), 1U);
  EXPECT_EQ(sim.follow[0].what, FollowNotice::What::compare);
  put(sim, "/incoming/a.png");
  put(sim, "/incomings/b.png");
  ASSERT_EQ(sim.follow.size(), 2U) << "the other folder only has a similar name";
  EXPECT_EQ(sim.follow[1].what, FollowNotice::What::landed);
  ASSERT_EQ(sim.follow[1].files.size(), 1U);
  EXPECT_EQ(sim.follow[1].files[0].path, "/incoming/a.png");
  EXPECT_EQ(sim.follow[1].files[0].blocks.size(), 1U);
  ASSERT_TRUE(extend(sim, job, 5));
  EXPECT_EQ(sim.follow.back().what, FollowNotice::What::extended);
  EXPECT_EQ(sim.follow.back().known, 1U);
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.done(job), 5U);
  ASSERT_TRUE(extend(sim, job, 9));
  sim.run_for(seconds(1));
  EXPECT_EQ(sim.done(job), 14U);
  EXPECT_TRUE(sim.coordinator->state().job(job)->active());
  std::set<std::pair<std::uint32_t, std::uint64_t>> places;
  for (const auto& [id, worker] : sim.workers) {
    for (const Lease& lease : worker.granted) places.emplace(lease.segment, lease.item);
  }
  EXPECT_EQ(places, (std::set<std::pair<std::uint32_t, std::uint64_t>>{{1, 0}, {1, 4}, {2, 0}, {2, 4}, {2, 8}}));
  sim.ask(JobControlRequest{job, JobAction::stop}, sim.fresh());
  EXPECT_EQ(sim.follow.back().what, FollowNotice::What::over);
  EXPECT_FALSE(extend(sim, job, 1));
}

TEST(CoordinatorFollows, ANewCoordinatorComparesTheFolderAndOldSegmentsAreRefused) {
  Sim sim(2);
  sim.start();
  const JobId job = submit_following(sim);
  ASSERT_TRUE(extend(sim, job, 5));
  sim.follow.clear();
  sim.replace_coordinator(2);
  ASSERT_EQ(sim.follow.size(), 1U);
  EXPECT_EQ(sim.follow[0].what, FollowNotice::What::compare);
  EXPECT_EQ(sim.follow[0].known, 1U);
  const FollowSegment old{job, Epoch{1}, 1, segment_path_of(job, 2), 1, 512, 5};
  EXPECT_EQ(sim.extend(old).error().code, Errc::stale_epoch);
  ASSERT_TRUE(extend(sim, job, 3, 2));
  sim.run_for(seconds(2));
  EXPECT_EQ(sim.done(job), 8U);
}

TEST(CoordinatorFollows, SegmentsWaitWhileThereIsEnoughToDo) {
  Sim sim(1);
  sim.start();
  const JobId job = submit_following(sim);
  sim.ask(JobControlRequest{job, JobAction::pause}, sim.fresh());
  for (std::size_t i = 0; i < kSegmentsAheadMax; ++i) ASSERT_TRUE(extend(sim, job, 1)) << i;
  EXPECT_EQ(sim.coordinator->may_extend(job, Epoch{1}, kSegmentsAheadMax).error().code, Errc::full);
  sim.ask(JobControlRequest{job, JobAction::resume}, sim.fresh());
  sim.run_for(seconds(3));
  EXPECT_EQ(sim.done(job), kSegmentsAheadMax);
  EXPECT_TRUE(sim.coordinator->may_extend(job, Epoch{1}, kSegmentsAheadMax));
}

}  // namespace
}  // namespace idunno

// Phases, jobs that repeat, and jobs that grow.

#include <gtest/gtest.h>

#include <algorithm>

#include "nodes/jobs/state_reads.h"
#include "tests/unit/jobs/cluster_state_world.h"

namespace idunno {
namespace {

JobSpec repeated(std::uint32_t times) {
  JobSpec spec = World::spec();
  spec.repeat = times;
  return spec;
}

/// The rows of a batch depend on its place in the pass alone.
BatchCommit pass_commit(World& world, JobId job, std::uint64_t batch, std::uint64_t content = 0) {
  BatchCommit commit = world.commit_of(job, static_cast<BatchIndex>(batch), content);
  commit.block.hash = hash128("rows " + std::to_string(batch % 3) + "/" + std::to_string(content));
  return commit;
}

void expect_same_after_snapshot(const World& world) {
  const Result<ClusterState> restored = ClusterState::decode_snapshot(world.state.encode_snapshot(), 8);
  ASSERT_TRUE(restored.ok()) << restored.error().detail;
  EXPECT_EQ(content_of(*restored), content_of(world.state));
  EXPECT_EQ(restored->encode_snapshot(), world.state.encode_snapshot());
}

// -- which queries ----------------------------------------------------------------------------------------------------

TEST(BatchLayout, ABatchNeverCrossesTheEndOfAPass) {
  const JobShape shape{10, 4, 3};
  EXPECT_EQ(batches_of(shape, {}), 9U);
  EXPECT_EQ(place_of(shape, {}, 2), (BatchPlace{8, 2, 8, 0}));
  EXPECT_EQ(place_of(shape, {}, 3), (BatchPlace{10, 4, 0, 0}));
  EXPECT_EQ(place_of(shape, {}, 8), (BatchPlace{28, 2, 8, 0}));
  EXPECT_EQ(place_of(shape, {}, 9).queries, 0U);
}

TEST(BatchLayout, WithoutEndThereAreWholePassesOnly) {
  const JobShape shape{10, 4, 0};
  EXPECT_EQ(batches_of(shape, {}) % 3, 0U);
  EXPECT_GT(batches_of(shape, {}), kBatchNumbersMax - 3);
  EXPECT_LE(batches_of(shape, {}), kBatchNumbersMax);
  EXPECT_EQ(batches_of(JobShape{0, 4, 0}, {}), 0U);
}

TEST(BatchLayout, SegmentsAreCutByThemselves) {
  const JobShape shape{5, 4, 1};
  const std::vector<JobSegment> segments{{"/a", 1, 512, 2, 5, 1}, {"/b", 1, 512, 3, 6, 9}};
  EXPECT_EQ(batches_of(shape, segments), 6U);
  EXPECT_EQ(place_of(shape, segments, 1), (BatchPlace{4, 1, 4, 0}));
  EXPECT_EQ(place_of(shape, segments, 2), (BatchPlace{5, 1, 0, 1}));
  EXPECT_EQ(place_of(shape, segments, 3), (BatchPlace{6, 4, 0, 2}));
  EXPECT_EQ(place_of(shape, segments, 5), (BatchPlace{14, 1, 8, 2}));
  EXPECT_EQ(place_of(shape, segments, 6).queries, 0U);
}

// -- phases -----------------------------------------------------------------------------------------------------------

TEST(Phases, OneAtATimeAndEachChangeHasANumber) {
  World world;
  EXPECT_EQ(world.state.phase().phase, Phase::inference);
  const Applied same = world.apply(SetPhase{Phase::inference});
  EXPECT_EQ(reply_of<PhaseReply>(same.answer).number, 1U);
  EXPECT_FALSE(same.phase_changed);
  EXPECT_EQ(code_of(world.apply(SetPhase{Phase::training}).answer), Errc::conflict);
  EXPECT_EQ(reply_of<PhaseReply>(world.apply(SetPhase{Phase::none}).answer).number, 2U);
  const Applied training = world.apply(SetPhase{Phase::training}, {}, kStamp + 5);
  EXPECT_TRUE(training.phase_changed);
  EXPECT_EQ(reply_of<PhaseReply>(training.answer).number, 3U);
  EXPECT_EQ(world.state.phase().since_ms, kStamp + 5);
  EXPECT_FALSE(world.state.phase_fits(JobKind::inference));
  EXPECT_TRUE(world.state.phase_fits(JobKind::training));
  EXPECT_EQ(code_of(world.apply(SetPhase{Phase::inference}).answer), Errc::conflict);
  expect_same_after_snapshot(world);
}

TEST(Phases, TheResultOfAnEndedPhaseIsRefusedByItsNumber) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  const BatchCommit early = world.commit_of(id, 0);
  world.apply(SetPhase{Phase::none});
  Applied applied;
  EXPECT_EQ(world.commit(early, &applied), CommitOutcome::not_wanted);
  ASSERT_EQ(applied.freed.size(), 1U) << "the block of a refused result is surplus";
  world.apply(SetPhase{Phase::inference});
  EXPECT_EQ(world.commit(early), CommitOutcome::not_wanted) << "also in the next phase of the same kind";
  EXPECT_EQ(world.state.job(id)->batches_done, 0U);
  BatchCommit unsaid = world.commit_of(id, 0);
  unsaid.phase = 0;
  EXPECT_EQ(world.commit(unsaid), CommitOutcome::not_wanted);
  world.finish(id);
}

TEST(Phases, AJobOfAnotherKindIsQueuedAndSaysWhatItWaitsFor) {
  World world;
  world.prepare();
  const JobId id = world.submit();
  const auto report = [&] { return read_state(world.state, JobReportsRequest{{id}, 10})->jobs.at(0); };
  EXPECT_EQ(report().state, JobState::running);
  world.apply(SetPhase{Phase::none});
  EXPECT_EQ(report().state, JobState::queued);
  EXPECT_NE(report().reason.find("phase start inference"), std::string::npos) << report().reason;
  world.apply(SetPhase{Phase::training});
  EXPECT_NE(report().reason.find("the phase training is on"), std::string::npos) << report().reason;
  StatusReply status;
  fill_status(world.state, status);
  EXPECT_EQ(status.phase, "training");
  EXPECT_EQ(status.phase_number, 3U);
  EXPECT_EQ(status.jobs_running, 0U);
  world.control(id, JobAction::pause);
  EXPECT_EQ(report().state, JobState::paused);
}

TEST(Phases, TrainingCannotBeSubmittedYet) {
  World world;
  world.prepare();
  JobSpec spec = World::spec();
  spec.kind = JobKind::training;
  EXPECT_EQ(code_of(world.apply(SubmitJob{spec}).answer), Errc::invalid);
}

// -- repeated jobs ----------------------------------------------------------------------------------------------------

TEST(RepeatedJobs, KeepAllPassesAndHaveTheDigestOfOne) {
  World world;
  world.prepare();
  const JobId plain = world.submit();
  for (std::uint64_t batch = 0; batch < 3; ++batch) world.commit(pass_commit(world, plain, batch));
  const JobId id = world.submit(repeated(3));
  EXPECT_EQ(world.state.job(id)->batches, 9U);
  for (const std::uint64_t batch : {8U, 0U, 4U, 1U, 7U, 2U, 3U, 5U}) {
    ASSERT_EQ(world.commit(pass_commit(world, id, batch)), CommitOutcome::accepted) << batch;
    expect_same_after_snapshot(world);
  }
  EXPECT_EQ(world.state.job(id)->prefix, 6U);
  Applied last;
  world.commit(pass_commit(world, id, 6), &last);
  EXPECT_EQ(last.finished, std::vector<JobId>{id});
  EXPECT_TRUE(last.passes_differ.empty());
  EXPECT_EQ(world.state.job(id)->digest, world.state.job(plain)->digest);
  EXPECT_EQ(world.state.job(id)->queries_done, 30U);
  const auto results = read_state(world.state, JobResultsRequest{id, 0, 100});
  ASSERT_TRUE(results.ok());
  EXPECT_EQ(results->batches, 9U);
  ASSERT_EQ(results->blocks.size(), 9U);
  for (std::size_t batch = 0; batch < 9; ++batch)
    EXPECT_EQ(results->blocks[batch].hash, hash128("rows " + std::to_string(batch % 3) + "/0"));
}

TEST(RepeatedJobs, APassWithOtherRowsIsTold) {
  World world;
  world.prepare();
  const JobId id = world.submit(repeated(2));
  for (std::uint64_t batch = 0; batch < 5; ++batch) world.commit(pass_commit(world, id, batch));
  Applied last;
  world.commit(pass_commit(world, id, 5, 1), &last);
  ASSERT_EQ(last.passes_differ.size(), 1U);
  EXPECT_EQ(last.passes_differ[0].number, 1U);
  EXPECT_EQ(world.state.job(id)->conflicting_commits, 1U);
}

TEST(RepeatedJobs, WithoutEndTheStateStaysBounded) {
  World world;
  world.prepare();
  const JobId id = world.submit(repeated(0));
  const std::size_t kept = world.state.job(id)->digests.size();
  const std::uint64_t passes = 8000;
  std::uint64_t freed = 0;
  for (std::uint64_t batch = 0; batch < passes * 3; ++batch) {
    Applied applied;
    ASSERT_EQ(world.commit(pass_commit(world, id, batch), &applied), CommitOutcome::accepted) << batch;
    freed += applied.freed.size();
  }
  const Job& job = *world.state.job(id);
  EXPECT_EQ(job.state, JobState::running);
  EXPECT_EQ(job.queries_done, passes * 10);
  EXPECT_EQ(job.digests.size(), kept);
  EXPECT_EQ(world.state.files().find(job.result_path)->blocks.size(), kept);
  EXPECT_EQ(freed, job.first_kept);
  EXPECT_GE(passes * 3 - job.first_kept, kEndlessBatchesKept);
  EXPECT_LE(passes * 3 - job.first_kept, kEndlessBatchesKept + 6);
  EXPECT_GE(job.window_end() - passes * 3, kEndlessBatchesAhead);
  expect_same_after_snapshot(world);
  EXPECT_EQ(world.commit(pass_commit(world, id, 0)), CommitOutcome::duplicate) << "of a pass that is gone";
  EXPECT_EQ(world.commit(pass_commit(world, id, job.window_end())), CommitOutcome::not_wanted);
  const auto results = read_state(world.state, JobResultsRequest{id, 0, 100});
  EXPECT_EQ(results->batches, 3U) << "the last whole pass";
}

TEST(RepeatedJobs, AStopLeavesTheLastWholePass) {
  World world;
  world.prepare();
  const JobId id = world.submit(repeated(0));
  std::vector<BlockId> blocks;
  for (std::uint64_t batch = 0; batch < 8; ++batch) {
    const BatchCommit commit = pass_commit(world, id, batch);
    blocks.push_back(commit.block.id);
    world.commit(commit);
  }
  const Applied stopped = world.apply(ControlJob{id, JobAction::stop});
  EXPECT_EQ(stopped.freed.size(), 5U);
  const Job& job = *world.state.job(id);
  EXPECT_EQ(job.state, JobState::stopped);
  const FileVersion* file = world.state.files().find(job.result_path);
  ASSERT_EQ(file->blocks.size(), 3U);
  EXPECT_FALSE(file->open);
  const auto results = read_state(world.state, JobResultsRequest{id, 0, 100});
  ASSERT_TRUE(results.ok()) << results.error().detail;
  ASSERT_EQ(results->blocks.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(results->blocks[i].id, blocks[3 + i]);
  expect_same_after_snapshot(world);
  world.control(id, JobAction::remove);
  EXPECT_EQ(world.state.files().find(job.result_path), nullptr);
}

TEST(RepeatedJobs, AStopInTheFirstPassLeavesWhatIsThere) {
  World world;
  world.prepare();
  const JobId id = world.submit(repeated(0));
  world.commit(pass_commit(world, id, 1));
  world.commit(pass_commit(world, id, 4));
  world.control(id, JobAction::stop);
  const auto results = read_state(world.state, JobResultsRequest{id, 0, 100});
  ASSERT_TRUE(results.ok()) << results.error().detail;
  ASSERT_EQ(results->blocks.size(), 3U);
  EXPECT_EQ(results->blocks[0].id, BlockId{});
  EXPECT_EQ(results->blocks[1].hash, hash128("rows 1/0"));
  expect_same_after_snapshot(world);
}

TEST(RepeatedJobs, TooManyBatchesAreRefused) {
  World world;
  world.prepare();
  JobSpec spec = repeated(UINT32_MAX);
  EXPECT_EQ(code_of(world.apply(SubmitJob{spec}).answer), Errc::too_large);
  spec = repeated(2);
  spec.follow = true;
  EXPECT_EQ(code_of(world.apply(SubmitJob{spec}).answer), Errc::invalid);
  spec = repeated(2);
  spec.urgent = true;
  EXPECT_EQ(code_of(world.apply(SubmitJob{spec}).answer), Errc::invalid);
  spec = World::spec();
  spec.nodes_min = 3;
  spec.nodes_max = 2;
  EXPECT_EQ(code_of(world.apply(SubmitJob{spec}).answer), Errc::invalid);
}

// -- following jobs ---------------------------------------------------------------------------------------------------

JobSpec following() {
  JobSpec spec = World::spec();
  spec.follow = true;
  return spec;
}

JobSegment segment_of(World& world, JobId job, std::uint64_t queries) {
  const Job& found = *world.state.job(job);
  const std::string path = segment_path_of(job, found.segments.size() + 1);
  world.put(path);
  return JobSegment{path, 1, 512, found.batches, found.spec.queries, queries};
}

TEST(FollowingJobs, GrowBySegmentsAndAreNeverDoneByThemselves) {
  World world;
  world.prepare();
  const JobId id = world.submit(following());
  for (BatchIndex batch = 0; batch < 3; ++batch) world.commit(world.commit_of(id, batch));
  EXPECT_EQ(world.state.job(id)->state, JobState::running);
  const JobSegment segment = segment_of(world, id, 5);
  const Applied grown = world.apply(ExtendJob{id, segment});
  EXPECT_EQ(grown.extended, std::vector<JobId>{id});
  const Job& job = *world.state.job(id);
  EXPECT_EQ(job.batches, 5U);
  EXPECT_EQ(job.spec.queries, 15U);
  EXPECT_EQ(job.first_open_segment(), 0U);
  EXPECT_EQ(code_of(world.apply(ExtendJob{id, segment}).answer), Errc::conflict) << "the same files twice";
  world.commit(world.commit_of(id, 4));
  EXPECT_EQ(job.place(4), (BatchPlace{14, 1, 4, 1}));
  expect_same_after_snapshot(world);
  world.commit(world.commit_of(id, 3));
  EXPECT_EQ(job.first_open_segment(), 1U);
  EXPECT_EQ(job.state, JobState::running);
  EXPECT_EQ(code_of(world.apply(RemoveFiles{{segment.manifest_path}, false}).answer), Errc::conflict);
  FsFilePart late;
  late.path = segment.manifest_path;
  late.upload = 77;
  late.blocks = {block(world.next_block++)};
  EXPECT_EQ(code_of(world.apply(CommitFiles{{late}}).answer), Errc::conflict) << "another list in the place of a segment's";
  world.control(id, JobAction::stop);
  EXPECT_NE(job.digest, Hash128{});
  EXPECT_EQ(read_state(world.state, JobResultsRequest{id, 0, 100})->blocks.size(), 5U);
  expect_same_after_snapshot(world);
  world.control(id, JobAction::remove);
  EXPECT_EQ(world.state.files().find(segment.manifest_path), nullptr);
}

TEST(FollowingJobs, MayBeginWithNothing) {
  World world;
  world.prepare();
  JobSpec spec = following();
  spec.queries = 0;
  spec.manifest_path.clear();
  spec.items_per_chunk = 0;
  spec.data_path = "/incoming";
  const JobId id = world.submit(spec);
  EXPECT_EQ(world.state.job(id)->batches, 0U);
  expect_same_after_snapshot(world);
  EXPECT_EQ(world.commit(world.commit_of(id, 0)), CommitOutcome::not_wanted);
  world.apply(ExtendJob{id, segment_of(world, id, 3)});
  EXPECT_EQ(world.state.job(id)->place(0), (BatchPlace{0, 3, 0, 1}));
  EXPECT_EQ(world.commit(world.commit_of(id, 0)), CommitOutcome::accepted);
  expect_same_after_snapshot(world);
}

TEST(FollowingJobs, RefuseSegmentsThatDoNotFit) {
  World world;
  world.prepare();
  const JobId plain = world.submit();
  const JobId id = world.submit(following());
  const JobSegment good = segment_of(world, id, 5);
  const auto refused = [&](auto change) {
    JobSegment bad = good;
    change(bad);
    return code_of(world.apply(ExtendJob{id, bad}).answer);
  };
  EXPECT_EQ(refused([](JobSegment& s) { ++s.first_batch; }), Errc::conflict);
  EXPECT_EQ(refused([](JobSegment& s) { --s.first_query; }), Errc::conflict);
  EXPECT_EQ(refused([](JobSegment& s) { s.manifest_path = "/none"; }), Errc::not_found);
  EXPECT_EQ(refused([](JobSegment& s) { ++s.manifest_version; }), Errc::not_found);
  EXPECT_EQ(refused([](JobSegment& s) { s.queries = 0; }), Errc::invalid);
  EXPECT_EQ(refused([](JobSegment& s) { s.queries = 513; }), Errc::invalid);
  EXPECT_EQ(code_of(world.apply(ExtendJob{plain, good}).answer), Errc::conflict);
  EXPECT_EQ(code_of(world.apply(ExtendJob{JobId{99}, good}).answer), Errc::conflict);
  world.control(id, JobAction::stop);
  EXPECT_EQ(code_of(world.apply(ExtendJob{id, good}).answer), Errc::conflict);
}

}  // namespace
}  // namespace idunno

#include "nodes/jobs/worker_queue.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "bus/base/random.h"
#include "bus/hash.h"

namespace idunno {
namespace {

constexpr NodeId kSelf{4};
constexpr Time kStart{std::chrono::seconds(100)};
constexpr WallMs kWall = 1'700'000'000'000;

Time at_us(std::int64_t us) { return kStart + Duration(us); }
LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

JobDescription describe(std::uint64_t job, const std::string& model = "net") {
  JobDescription description;
  description.job = JobId{job};
  description.model.name = model;
  description.model.version = 1;
  return description;
}
Lease lease(std::uint64_t job, BatchIndex batch, std::uint64_t pass = 0, std::int32_t priority = 0) {
  Lease made;
  made.job = JobId{job};
  made.batch = batch;
  made.attempt = 1;
  made.first_query = std::uint64_t{batch} * 16;
  made.queries = 16;
  made.pass = pass;
  made.priority = priority;
  return made;
}
LeaseGrant grant(std::vector<JobDescription> descriptions, std::vector<Lease> leases) {
  return LeaseGrant{std::move(descriptions), std::move(leases), {}};
}
BlockRef result_block(std::uint64_t number) { return BlockRef{{5, number}, 10, hash128(std::to_string(number)), {kSelf}}; }

std::vector<std::string> names(const std::vector<Lease>& leases) {
  std::vector<std::string> all;
  for (const Lease& each : leases) all.push_back(batch_name(each.job, each.batch));
  return all;
}
std::vector<std::string> names(const std::vector<WorkerOutput::Start>& starts) {
  std::vector<std::string> all;
  for (const WorkerOutput::Start& each : starts) all.push_back(batch_name(each.lease.job, each.lease.batch));
  return all;
}
using Names = std::vector<std::string>;

/// Gives every fetched lease its inputs, and those that are fetched because of that, until there are no more. Returns what
/// started.
std::vector<WorkerOutput::Start> fetch_all(WorkerQueue& queue, WorkerOutput out, std::uint64_t bytes, Time now = kStart) {
  std::vector<WorkerOutput::Start> starts = out.start;
  while (!out.fetch.empty()) {
    WorkerOutput next;
    for (const Lease& each : out.fetch) queue.input_ready(key_of(each), bytes, now, next);
    starts.insert(starts.end(), next.start.begin(), next.start.end());
    out = std::move(next);
  }
  return starts;
}

/// A queue with one slot in which j1/b0 runs, started at kStart.
struct OneRunning {
  explicit OneRunning(Duration pipeline = std::chrono::milliseconds(5)) : queue(1, 1'000'000, pipeline) {
    WorkerOutput out;
    queue.new_session(Epoch{1}, {}, out);
    queue.granted(grant({describe(1)}, {running}), kStart, out);
    EXPECT_EQ(fetch_all(queue, out, 1000).size(), 1U);
    queue.started(0, key_of(running), kStart, kWall);
  }
  Lease running = lease(1, 0);
  WorkerQueue queue;
};

TEST(WorkerQueue, TakesALeaseFromGrantToAnsweredOffer) {
  WorkerQueue queue(2, 1'000'000);
  const Lease given = lease(1, 7);
  WorkerOutput out;
  queue.granted(grant({describe(1)}, {given}), at_us(0), out);
  EXPECT_EQ(out.fetch, std::vector<Lease>{given});
  EXPECT_EQ(queue.size(), 1U);
  EXPECT_EQ(queue.description(JobId{1})->model.name, "net");

  out = {};
  queue.input_ready(key_of(given), 5000, at_us(100), out);
  ASSERT_EQ(out.start.size(), 1U);
  EXPECT_EQ(out.start[0].lease, given);
  EXPECT_EQ(queue.running(), 1U);
  EXPECT_EQ(queue.input_bytes(), 0U);
  const std::uint32_t slot = out.start[0].slot;
  queue.started(slot, key_of(given), at_us(200), kWall);

  out = {};
  (void)queue.finished(slot, key_of(given), 3, 700, at_us(1200), out);
  EXPECT_EQ(queue.running(), 0U);
  EXPECT_EQ(queue.mean_batch_us(), 1000U);
  EXPECT_TRUE(out.offer.empty());
  queue.stored(key_of(given), result_block(1), kSelf, at_us(1500), out);
  ASSERT_EQ(out.offer.size(), 1U);
  EXPECT_EQ(out.offer[0],
            (BatchCommit{JobId{1}, 7, 1, kSelf, result_block(1), 16, 3, kWall, 1300, 700, {}, 0, 100, 100, 0, 300, 0, {}}));
  EXPECT_EQ(queue.size(), 1U);
  EXPECT_TRUE(out.discard.empty());

  queue.offered_answer({key_of(given)}, out);
  EXPECT_EQ(queue.size(), 0U);
  EXPECT_EQ(out.discard, std::vector<LeaseKey>{key_of(given)});
  EXPECT_TRUE(out.failures.empty());
  EXPECT_TRUE(out.forget_jobs.empty());
}

TEST(WorkerQueue, StartsByPriorityThenPassThenJobThenBatch) {
  OneRunning world;
  WorkerOutput out;
  const std::vector<Lease> leases{lease(2, 5, 30), lease(1, 9, 20),    lease(2, 1, 20),
                                  lease(1, 3, 20), lease(3, 0, 99, 1), lease(2, 0, 1, -1)};
  world.queue.granted(grant({describe(2), describe(3)}, leases), kStart, out);
  EXPECT_EQ(names(out.fetch), (Names{"j3/b0", "j1/b3", "j1/b9", "j2/b1"})) << "one a slot of a job whose sizes are not known";
  fetch_all(world.queue, out, 1000);
  Names order;
  Lease running = world.running;
  for (std::size_t i = 0; i < leases.size(); ++i) {
    WorkerOutput next;
    (void)world.queue.finished(0, key_of(running), 0, 0, at_us(100'000 * static_cast<std::int64_t>(i + 1)), next);
    ASSERT_EQ(next.start.size(), 1U);
    running = next.start[0].lease;
    order.push_back(batch_name(running.job, running.batch));
  }
  EXPECT_EQ(order, (Names{"j3/b0", "j1/b3", "j1/b9", "j2/b1", "j2/b5", "j2/b0"}));
}

TEST(WorkerQueue, ANewJobRunsAtTheNextBatchBorder) {
  OneRunning world;
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 1; batch < 100; ++batch) many.push_back(lease(1, batch, 1000 + batch));
  world.queue.granted(grant({}, many), kStart, out);
  fetch_all(world.queue, out, 1000);
  out = {};
  world.queue.granted(grant({describe(2)}, {lease(2, 0, 500)}), kStart, out);
  EXPECT_EQ(names(out.fetch), Names{"j2/b0"});
  EXPECT_TRUE(fetch_all(world.queue, out, 1000).empty()) << "the slot is busy";
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(500'000), out);
  EXPECT_EQ(names(out.start), Names{"j2/b0"});
}

TEST(WorkerQueue, ANewJobIsFetchedEvenWhenTheInputCacheIsFull) {
  WorkerQueue queue(1, 10'000);
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 0; batch < 100; ++batch) many.push_back(lease(1, batch, 1000 + batch));
  queue.granted(grant({describe(1)}, many), kStart, out);
  fetch_all(queue, out, 1000);
  EXPECT_EQ(queue.input_bytes(), 10'000U);
  EXPECT_EQ(queue.running(), 1U);
  out = {};
  queue.granted(grant({describe(2)}, {lease(2, 0, 500)}), kStart, out);
  EXPECT_EQ(names(out.fetch), Names{"j2/b0"});
  ASSERT_FALSE(out.discard.empty()) << "inputs needed last make room";
  for (const LeaseKey& key : out.discard) EXPECT_GT(key.batch, 5U);
  EXPECT_EQ(queue.size(), 101U) << "what made room is still held";
  EXPECT_LE(queue.input_bytes(), 10'000U);
  // What made room is fetched again when it is due; nothing is lost.
  Names started;
  Lease running = many[0];
  fetch_all(queue, out, 1000);
  for (int i = 0; i < 100; ++i) {
    WorkerOutput next;
    (void)queue.finished(0, key_of(running), 0, 0, at_us(100'000 * (i + 1)), next);
    const auto starts = fetch_all(queue, next, 1000);
    ASSERT_EQ(starts.size(), 1U) << i;
    running = starts[0].lease;
    started.push_back(batch_name(running.job, running.batch));
    EXPECT_LE(queue.input_bytes(), 11'000U);
  }
  EXPECT_EQ(started[0], "j2/b0");
  EXPECT_EQ(started[99], "j1/b99");
  EXPECT_EQ(std::set<std::string>(started.begin(), started.end()).size(), 100U);
}

TEST(WorkerQueue, FetchesOneBatchASlotWhateverTheLimitSays) {
  WorkerQueue queue(3, 10);
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 0; batch < 50; ++batch) many.push_back(lease(1, batch));
  queue.granted(grant({describe(1)}, many), kStart, out);
  const auto starts = fetch_all(queue, out, 1'000'000);
  EXPECT_EQ(starts.size(), 3U);
  EXPECT_EQ(queue.running(), 3U);
  EXPECT_EQ(queue.input_bytes(), 3'000'000U);
}

TEST(WorkerQueue, BoundsFetchesBeforeAnySizeIsKnown) {
  WorkerQueue queue(2, 1'000'000);
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 0; batch < 500; ++batch) many.push_back(lease(1, batch));
  queue.granted(grant({describe(1)}, many), kStart, out);
  EXPECT_EQ(out.fetch.size(), 2U) << "one a slot";
  WorkerOutput next;
  queue.input_ready(key_of(out.fetch[0]), 10'000, kStart, next);
  EXPECT_GT(next.fetch.size(), 20U);
  EXPECT_LE(next.fetch.size(), 100U);
}

TEST(WorkerQueue, GivesALongBatchASlotOfItsOwn) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1), lease(1, 2), lease(1, 3)}), kStart, out);
  EXPECT_TRUE(fetch_all(world.queue, out, 1000).empty()) << "nothing is known of the length yet";
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(40'000), out);
  EXPECT_EQ(out.start.size(), 1U);
}

TEST(WorkerQueue, HandsOverShortBatchesAheadButNotMoreThanThePipelineTakes) {
  OneRunning world;  // 5 ms
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 1; batch < 100; ++batch) many.push_back(lease(1, batch));
  world.queue.granted(grant({}, many), kStart, out);
  fetch_all(world.queue, out, 10);
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(500), out);
  EXPECT_EQ(out.start.size(), 10U);
  EXPECT_EQ(world.queue.running(), 10U);
  out = {};
  (void)world.queue.finished(0, LeaseKey{JobId{1}, 1, 1}, 0, 0, at_us(1000), out);
  EXPECT_EQ(out.start.size(), 1U);
  EXPECT_EQ(world.queue.mean_batch_us(), 500U) << "the end of the batch before counts as the start";

  OneRunning tiny;
  out = {};
  tiny.queue.granted(grant({}, many), kStart, out);
  fetch_all(tiny.queue, out, 10);
  out = {};
  (void)tiny.queue.finished(0, key_of(tiny.running), 0, 0, at_us(1), out);
  EXPECT_EQ(out.start.size(), kPipelineMax);
}

TEST(WorkerQueue, ALongBatchIsNotKeptOutByShortOnes) {
  OneRunning world;
  WorkerOutput out;
  std::vector<Lease> many;
  for (BatchIndex batch = 1; batch < 100; ++batch) many.push_back(lease(1, batch, 100));
  world.queue.granted(grant({}, many), kStart, out);
  fetch_all(world.queue, out, 10);
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(1000), out);
  ASSERT_EQ(out.start.size(), 5U);
  std::vector<WorkerOutput::Start> handed = out.start;
  // Of a job of unknown length, and next in order: the slot runs empty for it.
  out = {};
  world.queue.granted(grant({describe(2)}, {lease(2, 0, 1)}), at_us(1000), out);
  fetch_all(world.queue, out, 10, at_us(1000));
  for (std::size_t i = 0; i < handed.size(); ++i) {
    out = {};
    (void)world.queue.finished(0, key_of(handed[i].lease), 0, 0, at_us(2000 + 1000 * static_cast<std::int64_t>(i)), out);
    EXPECT_EQ(out.start.size(), i + 1 == handed.size() ? 1U : 0U);
  }
  EXPECT_EQ(names(out.start), Names{"j2/b0"});
}

TEST(WorkerQueue, SpreadsOverTheEmptiestSlots) {
  WorkerQueue queue(4, 1'000'000);
  WorkerOutput out;
  queue.granted(grant({describe(1)}, {lease(1, 0), lease(1, 1), lease(1, 2), lease(1, 3), lease(1, 4)}), kStart, out);
  std::set<std::uint32_t> slots;
  for (const WorkerOutput::Start& start : fetch_all(queue, out, 10)) slots.insert(start.slot);
  EXPECT_EQ(slots, (std::set<std::uint32_t>{0, 1, 2, 3}));
}

TEST(WorkerQueue, BreaksTiesInFavourOfTheModelThatTheSlotComputedLast) {
  WorkerQueue queue(2, 1'000'000);
  WorkerOutput out;
  queue.granted(grant({describe(1, "alexnet"), describe(2, "resnet")}, {lease(1, 0, 1), lease(2, 0, 2)}), kStart, out);
  ASSERT_EQ(names(fetch_all(queue, out, 10)), (Names{"j1/b0", "j2/b0"}));
  out = {};
  queue.granted(grant({}, {lease(1, 1, 5), lease(2, 1, 5), lease(1, 2, 6), lease(2, 2, 7)}), kStart, out);
  fetch_all(queue, out, 10);
  out = {};
  (void)queue.finished(1, LeaseKey{JobId{2}, 0, 1}, 0, 0, at_us(50'000), out);
  EXPECT_EQ(names(out.start), Names{"j2/b1"}) << "equal pass: slot 1 has resnet loaded";
  out = {};
  (void)queue.finished(1, LeaseKey{JobId{2}, 1, 1}, 0, 0, at_us(100'000), out);
  EXPECT_EQ(names(out.start), Names{"j1/b1"}) << "a lower pass goes first, whatever is loaded";
}

TEST(WorkerQueue, ReportsALeaseOfAJobThatItHasNoDescriptionOf) {
  WorkerQueue queue(1, 1000);
  WorkerOutput out;
  queue.granted(grant({}, {lease(1, 0)}), kStart, out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0].why, BatchFailure::input_missing);
  EXPECT_EQ(out.failures[0].attempt, 1U);
  EXPECT_TRUE(out.fetch.empty());
  EXPECT_EQ(queue.size(), 0U);
}

TEST(WorkerQueue, HoldsABoundedNumberOfLeases) {
  WorkerQueue queue(1, 1000);
  WorkerOutput out;
  std::vector<Lease> leases;
  for (BatchIndex batch = 0; batch <= kLeasesHeldMax; ++batch) leases.push_back(lease(1, batch));
  queue.granted(grant({describe(1)}, leases), kStart, out);
  EXPECT_EQ(queue.size(), kLeasesHeldMax);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0].why, BatchFailure::returned);
  EXPECT_EQ(out.failures[0].batch, kLeasesHeldMax);
}

TEST(WorkerQueue, ReportsFailuresOfInputsExecutorAndStore) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1), lease(1, 2)}), kStart, out);
  out = {};
  world.queue.input_failed(LeaseKey{JobId{1}, 1, 1}, "no replica answers", out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0], (BatchFailed{JobId{1}, 1, 1, BatchFailure::input_missing, "no replica answers"}));
  EXPECT_EQ(out.discard, (std::vector<LeaseKey>{{JobId{1}, 1, 1}}));
  out = {};
  world.queue.input_ready(LeaseKey{JobId{1}, 2, 1}, 10, kStart, out);
  world.queue.failed(0, key_of(world.running), BatchFailure::executor_died, "signal 11", at_us(10), out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0], (BatchFailed{JobId{1}, 0, 1, BatchFailure::executor_died, "signal 11"}));
  EXPECT_EQ(names(out.start), Names{"j1/b2"}) << "the slot is free again";
  out = {};
  (void)world.queue.finished(0, LeaseKey{JobId{1}, 2, 1}, 0, 0, at_us(20), out);
  world.queue.store_failed(LeaseKey{JobId{1}, 2, 1}, "disk full", out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0].why, BatchFailure::not_stored);
  EXPECT_EQ(world.queue.size(), 0U);
}

TEST(WorkerQueue, FinishedTellsWhetherTheRowsAreWanted) {
  OneRunning world;
  WorkerOutput out;
  EXPECT_FALSE(world.queue.finished(0, LeaseKey{JobId{1}, 5, 1}, 0, 0, at_us(10), out)) << "no such lease";
  EXPECT_TRUE(world.queue.finished(0, key_of(world.running), 0, 0, at_us(10), out));
  EXPECT_FALSE(world.queue.finished(0, key_of(world.running), 0, 0, at_us(20), out)) << "told twice";
}

TEST(WorkerQueue, GivesUpFetchingAndStoringThatNeverEnds) {
  OneRunning world;
  WorkerOutput out;
  EXPECT_TRUE(world.queue.finished(0, key_of(world.running), 0, 0, at_us(0), out));
  world.queue.granted(grant({}, {lease(1, 1)}), at_us(0) + std::chrono::seconds(1), out);
  out = {};
  world.queue.tick(kStart + kStageTimeMax - Duration{1}, out);
  EXPECT_TRUE(out.failures.empty());
  world.queue.tick(kStart + kStageTimeMax, out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0].why, BatchFailure::not_stored);
  EXPECT_EQ(out.failures[0].batch, 0U);
  world.queue.tick(kStart + kStageTimeMax + std::chrono::seconds(1), out);
  ASSERT_EQ(out.failures.size(), 2U);
  EXPECT_EQ(out.failures[1].why, BatchFailure::input_missing);
  EXPECT_EQ(out.discard, (std::vector<LeaseKey>{key_of(world.running), {JobId{1}, 1, 1}}));
  EXPECT_EQ(world.queue.size(), 0U);
  // Answers that come after all lead to nothing.
  out = {};
  world.queue.stored(key_of(world.running), result_block(1), kSelf, kStart + kStageTimeMax * 2, out);
  world.queue.input_ready(LeaseKey{JobId{1}, 1, 1}, 10, kStart + kStageTimeMax * 2, out);
  EXPECT_TRUE(out.offer.empty());
  EXPECT_TRUE(out.start.empty());
}

TEST(WorkerQueue, DoesNotGiveUpWhatWaitsForAnExecutorOrRuns) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1)}), kStart, out);
  world.queue.input_ready(LeaseKey{JobId{1}, 1, 1}, 10, kStart, out);
  world.queue.tick(kStart + kStageTimeMax * 3, out);
  EXPECT_TRUE(out.failures.empty());
  EXPECT_EQ(world.queue.size(), 2U);
}

TEST(WorkerQueue, PausingGivesBackWhatHasNotStarted) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({describe(2)}, {lease(1, 1), lease(1, 2), lease(2, 0)}), kStart, out);
  out = {};
  world.queue.input_ready(LeaseKey{JobId{1}, 1, 1}, 10, kStart, out);
  world.queue.dropped(LeaseDrop{JobId{1}, true}, out);
  ASSERT_EQ(out.failures.size(), 2U);
  for (const BatchFailed& failure : out.failures) EXPECT_EQ(failure.why, BatchFailure::returned);
  EXPECT_TRUE(out.forget_jobs.empty());
  EXPECT_NE(world.queue.description(JobId{1}), nullptr);
  EXPECT_EQ(world.queue.size(), 2U);
  // What runs ends as usual.
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(10), out);
  world.queue.stored(key_of(world.running), result_block(1), kSelf, at_us(20), out);
  EXPECT_EQ(out.offer.size(), 1U);
  // And the job may go on.
  out = {};
  world.queue.granted(grant({}, {lease(1, 1)}), at_us(30), out);
  EXPECT_TRUE(out.failures.empty());
}

TEST(WorkerQueue, DroppingForgetsSilentlyAndDiscardsWhatRuns) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1), lease(1, 2)}), kStart, out);
  out = {};
  world.queue.dropped(LeaseDrop{JobId{1}, false}, out);
  EXPECT_TRUE(out.failures.empty());
  EXPECT_EQ(out.discard.size(), 2U);
  EXPECT_TRUE(out.forget_jobs.empty()) << "one is still running";
  EXPECT_EQ(world.queue.size(), 1U);
  // Late reports of what is gone lead to nothing but the freeing of inputs.
  out = {};
  world.queue.input_ready(LeaseKey{JobId{1}, 1, 1}, 10, kStart, out);
  EXPECT_EQ(out.discard, (std::vector<LeaseKey>{{JobId{1}, 1, 1}}));
  world.queue.input_failed(LeaseKey{JobId{1}, 2, 1}, "late", out);
  EXPECT_TRUE(out.failures.empty());
  out = {};
  EXPECT_FALSE(world.queue.finished(0, key_of(world.running), 0, 0, at_us(10), out)) << "its rows are not stored";
  EXPECT_EQ(out.discard, std::vector<LeaseKey>{key_of(world.running)});
  EXPECT_EQ(out.forget_jobs, std::vector<JobId>{JobId{1}});
  world.queue.stored(key_of(world.running), result_block(1), kSelf, at_us(20), out);
  EXPECT_TRUE(out.offer.empty());
  EXPECT_EQ(world.queue.size(), 0U);
  EXPECT_EQ(world.queue.description(JobId{1}), nullptr);
}

TEST(WorkerQueue, DroppingDiscardsWhatIsStoredOrOffered) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1)}), kStart, out);
  fetch_all(world.queue, out, 10);
  out = {};
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(10'000), out);
  world.queue.stored(key_of(world.running), result_block(1), kSelf, at_us(10'001), out);
  (void)world.queue.finished(0, LeaseKey{JobId{1}, 1, 1}, 0, 0, at_us(20'000), out);
  out = {};
  world.queue.dropped(LeaseDrop{JobId{1}, false}, out);
  EXPECT_EQ(out.discard, std::vector<LeaseKey>{key_of(world.running)});
  world.queue.offered_answer({key_of(world.running)}, out);
  out = {};
  world.queue.stored(LeaseKey{JobId{1}, 1, 1}, result_block(2), kSelf, at_us(20'001), out);
  EXPECT_TRUE(out.offer.empty());
  EXPECT_EQ(out.forget_jobs, std::vector<JobId>{JobId{1}});
  EXPECT_EQ(world.queue.size(), 0U);
}

/// Under epoch 1, of j1: b0 is offered, b1 runs, b2 is ready, b3 is fetched, b4 and b5 are queued.
struct AllStages : OneRunning {
  AllStages() {
    WorkerOutput out;
    queue.granted(grant({}, {lease(1, 1), lease(1, 2)}), kStart, out);
    fetch_all(queue, out, 900'000);
    (void)queue.finished(0, key_of(running), 0, 0, at_us(10'000), out);
    queue.started(0, batch(1), at_us(10'000), kWall);
    out = {};
    queue.stored(key_of(running), result_block(1), kSelf, at_us(10'001), out);
    commit = out.offer.at(0);
    out = {};
    queue.granted(grant({}, {lease(1, 3), lease(1, 4), lease(1, 5)}), at_us(10'002), out);
  }
  static LeaseKey batch(BatchIndex index) { return {JobId{1}, index, 1}; }
  BatchCommit commit;
};

TEST(WorkerQueue, ANewSessionKeepsEverythingAndOffersResultsAgain) {
  AllStages world;
  EXPECT_EQ(world.queue.size(), 6U);
  WorkerOutput out;
  world.queue.new_session(Epoch{2}, {}, out);
  EXPECT_EQ(world.queue.epoch(), Epoch{2});
  EXPECT_EQ(out.offer, std::vector<BatchCommit>{world.commit});
  EXPECT_TRUE(out.discard.empty());
  EXPECT_TRUE(out.failures.empty());
  EXPECT_EQ(world.queue.size(), 6U);
  EXPECT_EQ(world.queue.running(), 1U);

  // The coordinator leases again what it did not know to be here: that is neither fetched nor computed twice.
  out = {};
  world.queue.granted(grant({describe(1)}, {lease(1, 0), lease(1, 1), lease(1, 2), lease(1, 6)}), at_us(11'000), out);
  EXPECT_EQ(world.queue.size(), 7U);
  EXPECT_TRUE(out.failures.empty());
  EXPECT_TRUE(out.start.empty());
  out = {};
  EXPECT_TRUE(world.queue.finished(0, AllStages::batch(1), 0, 0, at_us(20'000), out));
  EXPECT_EQ(names(out.start), Names{"j1/b2"}) << "fetched before the session, not thrown away";
  world.queue.stored(AllStages::batch(1), result_block(2), kSelf, at_us(20'001), out);
  EXPECT_EQ(out.offer.size(), 1U);
  world.queue.offered_answer({key_of(world.running), AllStages::batch(1)}, out);
  EXPECT_EQ(world.queue.size(), 5U);
}

TEST(WorkerQueue, ANewSessionForgetsWhatIsDroppedAndDoesNotOfferWhatRuns) {
  AllStages world;
  WorkerOutput out;
  const std::vector<LeaseKey> dropped{
      AllStages::batch(0), AllStages::batch(1), AllStages::batch(2), AllStages::batch(4), {JobId{9}, 0, 0}};
  world.queue.new_session(Epoch{2}, dropped, out);
  EXPECT_EQ(out.discard, (std::vector<LeaseKey>{AllStages::batch(2), AllStages::batch(4)}));
  EXPECT_TRUE(out.failures.empty());
  EXPECT_EQ(out.offer, std::vector<BatchCommit>{world.commit}) << "a stored result is offered whatever the hello's answer says";
  WorkerOutput hello;
  for (const HeldLease& held : world.queue.held(hello)) EXPECT_NE(held.lease, AllStages::batch(1)) << "not wanted";
  EXPECT_TRUE(world.queue.running_batches(at_us(15'000)).empty());
  // The executor's rows are not stored.
  out = {};
  EXPECT_FALSE(world.queue.finished(0, AllStages::batch(1), 0, 0, at_us(20'000), out));
  EXPECT_EQ(out.discard, std::vector<LeaseKey>{AllStages::batch(1)});
  EXPECT_EQ(world.queue.size(), 3U);
}

TEST(WorkerQueue, WhatWasDroppedWhileItRanIsWantedWhenItIsLeasedAgain) {
  AllStages world;
  WorkerOutput out;
  world.queue.new_session(Epoch{2}, {AllStages::batch(1)}, out);
  out = {};
  world.queue.granted(grant({}, {lease(1, 1)}), at_us(11'000), out);
  EXPECT_TRUE(out.start.empty()) << "it runs already";
  EXPECT_TRUE(world.queue.finished(0, AllStages::batch(1), 0, 0, at_us(20'000), out));
}

TEST(WorkerQueue, AResultThatIsBeingStoredIsNotOfferedWhenItWasDropped) {
  OneRunning world;
  WorkerOutput out;
  EXPECT_TRUE(world.queue.finished(0, key_of(world.running), 0, 0, at_us(10), out));
  world.queue.new_session(Epoch{2}, {key_of(world.running)}, out);
  EXPECT_TRUE(out.discard.empty()) << "the store still works for it";
  world.queue.stored(key_of(world.running), result_block(1), kSelf, at_us(20), out);
  EXPECT_TRUE(out.offer.empty());
  EXPECT_EQ(world.queue.size(), 0U);
}

TEST(WorkerQueue, NamesWhatItHoldsForTheHello) {
  AllStages world;
  WorkerOutput out;
  const std::vector<HeldLease> held = world.queue.held(out);
  EXPECT_EQ(held, (std::vector<HeldLease>{{AllStages::batch(1), HeldStage::running},
                                          {AllStages::batch(0), HeldStage::finished},
                                          {AllStages::batch(2), HeldStage::waiting},
                                          {AllStages::batch(3), HeldStage::waiting},
                                          {AllStages::batch(4), HeldStage::waiting},
                                          {AllStages::batch(5), HeldStage::waiting}}));
  EXPECT_TRUE(out.discard.empty());
}

TEST(WorkerQueue, ForgetsTheLeastUrgentLeasesThatTheHelloHasNoRoomFor) {
  AllStages world;
  WorkerOutput out;
  world.queue.granted(grant({describe(2)}, {lease(2, 0, 0, 1)}), at_us(10'003), out);
  out = {};
  EXPECT_EQ(world.queue.held(out, 4).size(), 4U);
  EXPECT_EQ(out.discard, (std::vector<LeaseKey>{AllStages::batch(3), AllStages::batch(4), AllStages::batch(5)}));
  EXPECT_TRUE(out.failures.empty()) << "the hello says it";
  out = {};
  EXPECT_EQ(world.queue.held(out, 1), (std::vector<HeldLease>{{AllStages::batch(1), HeldStage::running}}));
  EXPECT_EQ(world.queue.size(), 2U) << "what runs and what is on offer stays";
}

TEST(WorkerQueue, ALeaseGivenAgainTakesItsNewPlaceAndContent) {
  OneRunning world;
  WorkerOutput out;
  world.queue.granted(grant({}, {lease(1, 1, 10), lease(1, 2, 20)}), kStart, out);
  fetch_all(world.queue, out, 10);
  Lease again = lease(1, 2, 5);
  again.quarantined = {3};
  out = {};
  world.queue.granted(grant({}, {again}), kStart, out);
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(100'000), out);
  ASSERT_EQ(out.start.size(), 1U);
  EXPECT_EQ(out.start[0].lease, again);
}

TEST(WorkerQueue, ATrialEndsAsPassedAndStoresNothing) {
  OneRunning world;
  Lease trial = lease(1, 1);
  trial.attempt = 7;
  trial.trial_from = 0;
  trial.trial_to = 8;
  WorkerOutput out;
  world.queue.granted(grant({}, {trial}), kStart, out);
  fetch_all(world.queue, out, 10);
  (void)world.queue.finished(0, key_of(world.running), 0, 0, at_us(1000), out);
  out = {};
  EXPECT_FALSE(world.queue.finished(0, key_of(trial), 0, 0, at_us(900'000), out));
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0], (BatchFailed{JobId{1}, 1, 7, BatchFailure::trial_passed, ""}));
  EXPECT_EQ(out.discard, std::vector<LeaseKey>{key_of(trial)});
  EXPECT_TRUE(out.offer.empty());
  EXPECT_EQ(world.queue.mean_batch_us(), 1000U) << "computed in part only: no measure";

  world.queue.granted(grant({}, {trial}), kStart, out);
  fetch_all(world.queue, out, 10);
  out = {};
  world.queue.failed(0, key_of(trial), BatchFailure::executor_died, "signal 11", at_us(900'001), out);
  ASSERT_EQ(out.failures.size(), 1U);
  EXPECT_EQ(out.failures[0].why, BatchFailure::executor_died);
}

TEST(WorkerQueue, ACommitSaysWhichPlacesWereNotComputed) {
  WorkerQueue queue(1, 1'000'000);
  Lease given = lease(1, 0);
  given.quarantined = {2, 9};
  WorkerOutput out;
  queue.granted(grant({describe(1)}, {given}), kStart, out);
  ASSERT_EQ(fetch_all(queue, out, 10).size(), 1U);
  ASSERT_TRUE(queue.finished(0, key_of(given), 2, 0, at_us(10), out));
  queue.stored(key_of(given), result_block(1), kSelf, at_us(20), out);
  ASSERT_EQ(out.offer.size(), 1U);
  EXPECT_EQ(out.offer[0].quarantined, given.quarantined);
}

TEST(WorkerQueue, TellsWhatItsExecutorsComputeNow) {
  WorkerQueue queue(2, 1'000'000, std::chrono::milliseconds(5));
  WorkerOutput out;
  queue.granted(grant({describe(1)}, {lease(1, 0), lease(1, 1)}), kStart, out);
  ASSERT_EQ(fetch_all(queue, out, 10).size(), 2U);
  EXPECT_TRUE(queue.running_batches(at_us(5000)).empty()) << "handed over, not begun";
  queue.started(1, LeaseKey{JobId{1}, 1, 1}, at_us(1000), kWall);
  queue.started(0, LeaseKey{JobId{1}, 0, 1}, at_us(3000), kWall);
  EXPECT_EQ(queue.running_batches(at_us(8999)),
            (std::vector<RunningBatch>{{{JobId{1}, 1, 1}, 7, 0, true}, {{JobId{1}, 0, 1}, 5, 0, true}}));
  (void)queue.finished(1, LeaseKey{JobId{1}, 1, 1}, 0, 0, at_us(9000), out);
  EXPECT_EQ(queue.running_batches(at_us(9000)).size(), 1U);
}

TEST(WorkerQueue, KeepsTheDescriptionOfAJobWhoseLeasesItHolds) {
  OneRunning world;
  WorkerOutput out;
  for (std::uint64_t epoch = 2; epoch < 6; ++epoch) world.queue.new_session(Epoch{epoch}, {}, out);
  EXPECT_TRUE(out.forget_jobs.empty());
  EXPECT_NE(world.queue.description(JobId{1}), nullptr);
}

TEST(WorkerQueue, ForgetsJobsThatNoSessionTellsOfAnyMore) {
  WorkerQueue queue(1, 1000);
  WorkerOutput out;
  queue.new_session(Epoch{1}, {}, out);
  queue.granted(grant({describe(1), describe(2)}, {}), kStart, out);
  queue.new_session(Epoch{2}, {}, out);
  EXPECT_TRUE(out.forget_jobs.empty()) << "the new coordinator may go on with them";
  queue.granted(grant({describe(2)}, {}), kStart, out);
  queue.new_session(Epoch{3}, {}, out);
  EXPECT_EQ(out.forget_jobs, std::vector<JobId>{JobId{1}});
  EXPECT_NE(queue.description(JobId{2}), nullptr);
}

TEST(WorkerQueue, IgnoresReportsThatDoNotFit) {
  OneRunning world;
  WorkerOutput out;
  world.queue.started(7, key_of(world.running), at_us(1), 1);
  (void)world.queue.finished(3, key_of(world.running), 0, 0, at_us(1), out);
  world.queue.failed(3, key_of(world.running), BatchFailure::executor_died, "", at_us(1), out);
  world.queue.stored(key_of(world.running), result_block(1), kSelf, at_us(1), out);
  world.queue.store_failed(key_of(world.running), "", out);
  world.queue.offered_answer({key_of(world.running)}, out);
  world.queue.dropped(LeaseDrop{JobId{9}, false}, out);
  world.queue.input_ready(key_of(world.running), 9, at_us(1), out);
  world.queue.input_failed(key_of(world.running), "", out);
  EXPECT_EQ(world.queue.running(), 1U);
  EXPECT_EQ(world.queue.size(), 1U);
  EXPECT_TRUE(out.start.empty() && out.fetch.empty() && out.discard.empty() && out.offer.empty() && out.failures.empty() &&
              out.forget_jobs.empty());
}

/// A shell with a will of its own: does what the queue says in any order, loses sessions, and keeps account of every lease.
class Walk {
 public:
  explicit Walk(std::uint64_t seed)
      : random_(seed), slots_(1 + static_cast<std::uint32_t>(random_.below(4))), queue_(slots_, kLimit), in_slot_(slots_) {
    new_session();
  }

  void step() {
    now_ += Duration(static_cast<std::int64_t>(random_.below(3000)));
    switch (random_.below(12)) {
      case 0:
      case 1:
        grant_some();
        break;
      case 2:
      case 3:
      case 4:
        inputs();
        break;
      case 5:
      case 6:
      case 7:
        executor();
        break;
      case 8:
      case 9:
        store();
        break;
      case 10:
        answer();
        break;
      default:
        interrupt();
    }
    check();
  }

  /// No more faults: every lease that is held must come to its end.
  void drain() {
    while (queue_.size() > 0) {
      const std::size_t before = progress_;
      while (!fetching_.empty()) inputs();
      for (int i = 0; i < 200; ++i) executor();
      while (!storing_.empty()) store();
      WorkerOutput out;
      queue_.new_session(Epoch{epoch_}, {}, out);
      take(std::move(out));
      answer_all();
      ASSERT_GT(progress_, before) << "stuck with " << queue_.size() << " leases";
      check();
    }
    EXPECT_TRUE(alive_.empty());
    EXPECT_EQ(queue_.input_bytes(), 0U);
    EXPECT_EQ(queue_.running(), 0U);
    EXPECT_TRUE(fetched_.empty());
  }

 private:
  static constexpr std::uint64_t kLimit = 20'000;
  static constexpr std::uint64_t kBatchBytes = 1000;

  void grant_some() {
    LeaseGrant made;
    for (std::uint64_t i = random_.below(6); i > 0; --i) {
      const std::uint64_t job = 1 + random_.below(4);
      Lease one =
          lease(job, static_cast<BatchIndex>(random_.below(200)), random_.below(50), static_cast<std::int32_t>(random_.below(2)));
      one.attempt = ++attempt_;
      made.descriptions.push_back(describe(job, "m" + std::to_string(job % 2)));
      made.leases.push_back(one);
      alive_.insert(key_of(one));
      over_.erase(one.job);
    }
    WorkerOutput out;
    queue_.granted(made, now_, out);
    take(std::move(out));
  }
  void inputs() {
    if (fetching_.empty()) return;
    const auto at = std::next(fetching_.begin(), static_cast<std::ptrdiff_t>(random_.below(fetching_.size())));
    const LeaseKey key = *at;
    fetching_.erase(at);
    WorkerOutput out;
    if (random_.chance(0.05)) {
      queue_.input_failed(key, "no", out);
    } else {
      fetched_.insert(key);
      queue_.input_ready(key, kBatchBytes, now_, out);
    }
    take(std::move(out), Call::input);
  }
  void executor() {
    const auto slot = static_cast<std::uint32_t>(random_.below(slots_));
    if (in_slot_[slot].empty()) return;
    const LeaseKey key = in_slot_[slot].front();
    in_slot_[slot].erase(in_slot_[slot].begin());
    if (random_.chance(0.8)) queue_.started(slot, key, now_, kWall);
    now_ += Duration(static_cast<std::int64_t>(random_.below(2) * random_.below(2000)));
    WorkerOutput out;
    if (random_.chance(0.05)) {
      queue_.failed(slot, key, BatchFailure::executor_died, "no", now_, out);
    } else {
      if (queue_.finished(slot, key, 0, 1, now_, out)) storing_.push_back(key);
    }
    take(std::move(out));
  }
  void store() {
    if (storing_.empty()) return;
    const LeaseKey key = storing_.front();
    storing_.erase(storing_.begin());
    WorkerOutput out;
    if (random_.chance(0.05)) {
      queue_.store_failed(key, "no", out);
    } else {
      queue_.stored(key, result_block(++attempt_), kSelf, now_, out);
    }
    take(std::move(out));
  }
  void answer() {
    if (random_.chance(0.8)) answer_all();  // else it got lost; the next session offers again
  }
  void answer_all() {
    WorkerOutput out;
    const std::vector<LeaseKey> keys(offered_.begin(), offered_.end());
    offered_.clear();
    queue_.offered_answer(keys, out);
    take(std::move(out));
  }
  void interrupt() {
    if (random_.chance(0.3)) return new_session();
    const JobId job{1 + random_.below(4)};
    const bool paused = random_.chance(0.5);
    WorkerOutput out;
    queue_.dropped(LeaseDrop{job, paused}, out);
    if (!paused) over_.insert(job);
    take(std::move(out), Call::drop, job);
  }
  void new_session() {
    WorkerOutput forgotten;
    const std::size_t before = alive_.size();
    const std::vector<HeldLease> held = queue_.held(forgotten, random_.chance(0.2) ? random_.below(before + 1) : 1000);
    take(std::move(forgotten), Call::session);
    std::vector<LeaseKey> dropped;
    for (const HeldLease& each : held) {
      EXPECT_TRUE(alive_.contains(each.lease));
      if (random_.chance(0.3)) dropped.push_back(each.lease);
    }
    WorkerOutput out;
    queue_.new_session(Epoch{++epoch_}, dropped, out);
    for (const LeaseKey& offered : offered_) {
      const auto is_it = [&offered](const BatchCommit& commit) {
        return LeaseKey{commit.job, commit.batch, commit.attempt} == offered;
      };
      EXPECT_TRUE(!alive_.contains(offered) || std::ranges::any_of(out.offer, is_it)) << "not offered again";
    }
    take(std::move(out), Call::session);
  }

  enum class Call { other, drop, session, input };

  /// Obeys, and tells the ends of leases from inputs that only made room: those of leases that neither started nor failed.
  void take(WorkerOutput out, Call call = Call::other, JobId dropped = {}) {
    progress_ += out.discard.size() + out.start.size() + out.fetch.size();
    std::set<LeaseKey> failed;
    for (const BatchFailed& failure : out.failures) {
      const LeaseKey key{failure.job, failure.batch, failure.attempt};
      failed.insert(key);
      EXPECT_TRUE(failed_.insert(key).second) << "reported twice";
      EXPECT_TRUE(alive_.contains(key)) << "reported after its end";
    }
    std::set<LeaseKey> ended;
    for (const LeaseKey& key : out.discard) {
      const bool over = call == Call::session || (call == Call::drop && key.job == dropped) || failed.contains(key);
      const bool made_room = !over && alive_.contains(key) && fetched_.contains(key);
      const bool came_late = call == Call::input && !alive_.contains(key);
      fetched_.erase(key);
      if (made_room || came_late) continue;
      EXPECT_EQ(alive_.erase(key), 1U) << "ended twice";
      ended.insert(key);
    }
    for (const LeaseKey& key : failed) EXPECT_TRUE(ended.contains(key)) << "reported, but not at an end";
    for (const Lease& each : out.fetch) {
      EXPECT_TRUE(alive_.contains(key_of(each)));
      fetching_.insert(key_of(each));
    }
    for (const WorkerOutput::Start& start : out.start) {
      const LeaseKey key = key_of(start.lease);
      EXPECT_EQ(fetched_.erase(key), 1U) << "started without its inputs";
      EXPECT_TRUE(started_.insert(key).second) << "started twice";
      ASSERT_LT(start.slot, slots_);
      in_slot_[start.slot].push_back(key);
      EXPECT_LE(in_slot_[start.slot].size(), kPipelineMax);
    }
    for (const BatchCommit& commit : out.offer) {
      EXPECT_FALSE(over_.contains(commit.job)) << "a result of a job that is over";
      const LeaseKey key{commit.job, commit.batch, commit.attempt};
      EXPECT_TRUE(alive_.contains(key));
      offered_.insert(key);
    }
    for (const JobId job : out.forget_jobs) EXPECT_EQ(queue_.description(job), nullptr);
  }
  void check() {
    std::size_t running = 0;
    for (const auto& slot : in_slot_) running += slot.size();
    EXPECT_EQ(queue_.running(), running);
    EXPECT_EQ(queue_.size(), alive_.size());
    EXPECT_LE(queue_.input_bytes(), kLimit + 2 * slots_ * kBatchBytes);
    EXPECT_EQ(queue_.input_bytes(), fetched_.size() * kBatchBytes);
  }

  Random random_;
  std::uint32_t slots_;
  WorkerQueue queue_;
  Time now_ = kStart;
  std::uint64_t epoch_ = 0;
  std::uint32_t attempt_ = 0;
  std::size_t progress_ = 0;
  std::set<LeaseKey> alive_, fetching_, fetched_, offered_, started_, failed_;
  std::set<JobId> over_;
  std::vector<LeaseKey> storing_;
  std::vector<std::vector<LeaseKey>> in_slot_;
};

TEST(WorkerQueue, LosesNoLeaseOnARandomWalk) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Walk walk(seed);
    for (int i = 0; i < 600; ++i) walk.step();
    walk.drain();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace idunno

#include "nodes/worker/executor_pool.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "bus/clock.h"

namespace idunno {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kPatience = seconds(60);

/// The letter of proc(5); '\0' when there is no such process.
char process_state(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const std::size_t name_end = text.rfind(')');
  return name_end == std::string::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
}

class ExecutorPoolTest : public ::testing::Test {
 protected:
  ExecutorPoolTest() : folder_(std::filesystem::temp_directory_path() / ("idunno-pool-test-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
    options_.program = IDUNNO_EXECUTOR;
    options_.log_dir = folder_;
  }
  ~ExecutorPoolTest() override {
    pool_.reset();
    std::filesystem::remove_all(folder_);
  }

  ExecutorPool& pool() {
    if (!pool_) {
      pool_ = std::make_unique<ExecutorPool>(
          loop_, options_,
          ExecutorPool::Handlers{[this](std::uint32_t /*slot*/, LeaseKey lease, Time /*at*/, std::uint64_t /*cpu_us*/) {
                                   started_.push_back(lease.batch);
                                 },
                                 [this](std::uint32_t /*slot*/, LeaseKey lease, Time /*at*/, std::uint64_t /*cpu_us*/) {
                                   loaded_.push_back(lease.batch);
                                 },
                                 [this](ExecutorPool::Outcome outcome) { outcomes_.push_back(std::move(outcome)); }});
    }
    return *pool_;
  }

  static LeaseKey lease(BatchIndex batch) { return LeaseKey{JobId{1}, batch, 1}; }

  /// One query for the engine that does nothing and takes `us`.
  static ExecutorPool::Task task(BatchIndex batch, std::uint32_t us = 0) {
    ExecutorPool::Task task;
    task.lease = lease(batch);
    task.head.model_key = "nothing:" + std::to_string(us);
    task.head.spec_toml = "[engine]\nkind = \"nothing\"\nnothing_us = " + std::to_string(us) + "\n";
    task.head.item_kind = ItemKind::nothing;
    task.head.batch = batch;
    task.head.first_query = batch;
    task.head.queries = {"q"};
    task.head.item_lengths = {0};
    return task;
  }

  [[nodiscard]] bool wait_for(const std::function<bool()>& done) { return loop_.run_until(done, monotonic_now() + kPatience); }
  [[nodiscard]] bool wait_outcomes(std::size_t count) {
    return wait_for([&] { return outcomes_.size() >= count; });
  }

  /// A shell script in the place of the executor; it finds the socket as descriptor 3.
  void fake_executor(const std::string& script) {
    options_.program = folder_ / "fake-executor";
    std::ofstream(options_.program) << "#!/bin/sh\n" << script << "\n";
    ASSERT_EQ(chmod(options_.program.c_str(), 0700), 0);
  }

  std::filesystem::path folder_;
  ExecutorPool::Options options_;
  EventLoop loop_;
  std::vector<BatchIndex> started_;
  std::vector<BatchIndex> loaded_;
  std::vector<ExecutorPool::Outcome> outcomes_;
  std::unique_ptr<ExecutorPool> pool_;
};

TEST_F(ExecutorPoolTest, AnswersInOrderAndTellsEachStart) {
  constexpr BatchIndex kTasks = 200;
  for (BatchIndex batch = 0; batch < kTasks; ++batch) pool().start(0, task(batch));
  ASSERT_TRUE(wait_outcomes(kTasks));
  ASSERT_EQ(started_.size(), kTasks);
  for (BatchIndex batch = 0; batch < kTasks; ++batch) {
    EXPECT_EQ(started_[batch], batch);
    EXPECT_EQ(outcomes_[batch].lease, lease(batch));
    EXPECT_TRUE(outcomes_[batch].executed) << outcomes_[batch].detail;
    EXPECT_EQ(outcomes_[batch].rows.view(), "{\"index\":" + std::to_string(batch) + ",\"query\":\"q\",\"top\":[]}\n");
  }
  EXPECT_EQ(pool().pids().size(), 1U);
}

TEST_F(ExecutorPoolTest, TellsWhenAModelWasLoadedAndHowMuchProcessorTimeThereWas) {
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_EQ(loaded_, std::vector<BatchIndex>{0});
  EXPECT_GT(outcomes_[0].cpu_us, 0U) << "starting takes some";
  EXPECT_GE(pool().cpu_us().at(0), outcomes_[0].cpu_us);
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_EQ(loaded_.size(), 1U) << "the same model";
}

TEST_F(ExecutorPoolTest, AChildIsAsNiceAsItIsToldAndSoIsTheNextOne) {
  const auto nice = [&] { return getpriority(PRIO_PROCESS, static_cast<id_t>(pool().pids().at(0))); };
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_EQ(nice(), kExecutorNice);
  pool().set_share(0, {kExecutorNice + 4, false});
  if (geteuid() != 0) GTEST_SKIP() << "making a child less nice again needs a privilege";
  EXPECT_EQ(nice(), kExecutorNice + 4);
  pool().set_share(0, {kExecutorNiceMin, false});
  EXPECT_EQ(nice(), kExecutorNiceMin);
  kill(pool().pids().at(0), SIGKILL);
  pool().start(0, task(1));
  pool().start(0, task(2));
  ASSERT_TRUE(wait_outcomes(3));
  EXPECT_EQ(nice(), kExecutorNiceMin);
}

TEST_F(ExecutorPoolTest, AStoppedChildGoesOnWhenItIsTold) {
  const auto stopped = [&] { return process_state(pool().pids().at(0)) == 'T'; };
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  pool().set_share(0, {kExecutorNice, true});
  ASSERT_TRUE(wait_for(stopped));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_for([&] { return started_.size() == 2; }));
  EXPECT_TRUE(stopped());
  EXPECT_EQ(outcomes_.size(), 1U);
  pool().set_share(0, {kExecutorNice, false});
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_TRUE(outcomes_[1].executed);
}

TEST_F(ExecutorPoolTest, AChildThatDiesWhileItIsStoppedIsReplacedByOneThatRuns) {
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  pool().set_share(0, {kExecutorNice, true});
  kill(pool().pids().at(0), SIGKILL);
  pool().start(0, task(1));
  pool().start(0, task(2));
  ASSERT_TRUE(wait_outcomes(3));
  EXPECT_TRUE(outcomes_[2].executed);
}

TEST_F(ExecutorPoolTest, AStoppedChildEndsWithThePool) {
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  const int child = pool().pids().at(0);
  pool().set_share(0, {kExecutorNice, true});
  ASSERT_TRUE(wait_for([&] { return process_state(child) == 'T'; }));
  pool_.reset();
  EXPECT_EQ(process_state(child), '\0') << "reaped";
}

TEST_F(ExecutorPoolTest, SlotsWorkSideBySide) {
  options_.slots = 2;
  pool().start(0, task(0, 60'000'000));
  pool().start(1, task(1));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_EQ(outcomes_[0].slot, 1U);
  EXPECT_EQ(outcomes_[0].lease, lease(1));
}

TEST_F(ExecutorPoolTest, AKilledChildCostsTheRunningTaskOnly) {
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  pool().start(0, task(1, 60'000'000));
  for (BatchIndex batch = 2; batch < 60; ++batch) pool().start(0, task(batch));
  ASSERT_TRUE(wait_for([&] { return started_.size() >= 2; }));
  const int pid = pool().pids().at(0);
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ASSERT_TRUE(wait_outcomes(60));
  EXPECT_FALSE(outcomes_[1].executed);
  EXPECT_EQ(outcomes_[1].why, BatchFailure::executor_died);
  EXPECT_EQ(outcomes_[1].detail, "executor of slot 0 (pid " + std::to_string(pid) + ") was killed by signal 9 (Killed)");
  for (BatchIndex batch = 2; batch < 60; ++batch) {
    EXPECT_TRUE(outcomes_[batch].executed) << outcomes_[batch].detail;
    EXPECT_EQ(outcomes_[batch].lease, lease(batch));
  }
  EXPECT_NE(pool().pids().at(0), pid);
}

TEST_F(ExecutorPoolTest, AChildThatHangsIsKilledAtTheDeadline) {
  options_.batch_timeout = milliseconds(3000);
  pool().start(0, task(0, 60'000'000));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_EQ(outcomes_[0].why, BatchFailure::executor_died);
  EXPECT_NE(outcomes_[0].detail.find("did not answer within 3"), std::string::npos) << outcomes_[0].detail;
  EXPECT_TRUE(outcomes_[1].executed) << outcomes_[1].detail;
}

/// A batch for the engine that does nothing, with queries that end it.
ExecutorPool::Task poisoned(BatchIndex batch, std::vector<std::string> queries) {
  ExecutorPool::Task task;
  task.lease = LeaseKey{JobId{1}, batch, 1};
  task.head.model_key = "poisoned:1";
  task.head.spec_toml =
      "[engine]\nkind = \"nothing\"\nnothing_crash_on = \"crash\"\nnothing_hang_on = \"hang\"\nnothing_memory_on = \"memory\"\n";
  task.head.item_kind = ItemKind::nothing;
  task.head.batch = batch;
  task.head.batch_size = static_cast<std::uint32_t>(queries.size());
  task.head.item_lengths.assign(queries.size(), 0);
  task.head.queries = std::move(queries);
  return task;
}

TEST_F(ExecutorPoolTest, ACrashAHangAndALackOfMemoryCostTheRunningBatchOnly) {
  options_.batch_timeout = milliseconds(3000);
  options_.memory_bytes = 512U << 20U;
  const char* const queries[] = {"good", "crash", "good", "hang", "good", "memory", "good"};
  for (BatchIndex batch = 0; batch < 7; ++batch) pool().start(0, poisoned(batch, {"a", queries[batch]}));
  ASSERT_TRUE(wait_outcomes(7));
  for (BatchIndex batch = 0; batch < 7; ++batch) {
    EXPECT_EQ(outcomes_[batch].lease, lease(batch));
    EXPECT_EQ(outcomes_[batch].executed, batch % 2 == 0) << outcomes_[batch].detail;
    if (batch % 2 != 0) {
      EXPECT_EQ(outcomes_[batch].why, BatchFailure::executor_died);
    }
  }
  EXPECT_NE(outcomes_[1].detail.find("was killed by signal 11"), std::string::npos) << outcomes_[1].detail;
  EXPECT_NE(outcomes_[3].detail.find("did not answer within 3"), std::string::npos) << outcomes_[3].detail;
  EXPECT_NE(outcomes_[5].detail.find("ran out of its memory"), std::string::npos) << outcomes_[5].detail;
  EXPECT_EQ(started_.size(), 7U);
}

TEST_F(ExecutorPoolTest, MaskedQueriesAreNotComputedAndGetTheSameRowAlways) {
  ExecutorPool::Task task = poisoned(0, {"a", "crash", "b", "hang"});
  task.head.masked = {1, 3};
  pool().start(0, std::move(task));
  ASSERT_TRUE(wait_outcomes(1));
  ASSERT_TRUE(outcomes_[0].executed) << outcomes_[0].detail;
  EXPECT_EQ(outcomes_[0].head.errors, 2U);
  const std::string error = "\"error\":\"" + std::string(kQuarantinedText) + "\"}\n";
  EXPECT_EQ(outcomes_[0].rows.view(), "{\"index\":0,\"query\":\"a\",\"top\":[]}\n{\"index\":1,\"query\":\"crash\"," + error +
                                          "{\"index\":2,\"query\":\"b\",\"top\":[]}\n{\"index\":3,\"query\":\"hang\"," + error);
}

TEST_F(ExecutorPoolTest, ATrialHasNoRows) {
  Lease lease;
  lease.queries = 4;
  lease.trial_from = 0;
  lease.trial_to = 3;
  lease.quarantined = {1};
  ExecutorPool::Task task = poisoned(0, {"a", "crash", "b", "hang"});
  task.head.masked = ExecutorPool::masked_places(lease);
  task.head.trial = true;
  EXPECT_EQ(task.head.masked, (std::vector<std::uint32_t>{1, 3}));
  pool().start(0, std::move(task));
  task = poisoned(1, {"a", "crash", "b", "hang"});
  task.head.trial = true;
  task.head.masked = {3};
  pool().start(0, std::move(task));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_TRUE(outcomes_[0].executed) << outcomes_[0].detail;
  EXPECT_TRUE(outcomes_[0].rows.view().empty());
  EXPECT_EQ(outcomes_[1].why, BatchFailure::executor_died) << outcomes_[1].detail;
  EXPECT_FALSE(outcomes_[1].executed);
}

TEST_F(ExecutorPoolTest, AMissingProgramIsNamed) {
  options_.program = folder_ / "nowhere";
  pool().start(0, task(0));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  for (const auto& outcome : outcomes_) {
    EXPECT_EQ(outcome.why, BatchFailure::executor_died);
    EXPECT_NE(outcome.detail.find("cannot start the executor " + options_.program.string()), std::string::npos) << outcome.detail;
    EXPECT_NE(outcome.detail.find("No such file"), std::string::npos);
  }
}

TEST_F(ExecutorPoolTest, AChildThatEndsAtOnceCostsOneTaskEach) {
  fake_executor("echo started >&2; exit 7");
  pool().start(0, task(0));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_NE(outcomes_[0].detail.find("ended with status 7"), std::string::npos) << outcomes_[0].detail;
  EXPECT_EQ(outcomes_[1].lease, lease(1));
  std::ifstream log(folder_ / "executor-0.log");
  const std::string text{std::istreambuf_iterator<char>(log), std::istreambuf_iterator<char>()};
  EXPECT_EQ(text, "started\nstarted\n");
}

TEST_F(ExecutorPoolTest, GarbageFromAChildCostsItsTask) {
  fake_executor("echo 'what a pleasant day, is it not?' >&3; exec sleep 60");
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_EQ(outcomes_[0].why, BatchFailure::executor_died);
  EXPECT_NE(outcomes_[0].detail.find("sent a frame with a head of"), std::string::npos) << outcomes_[0].detail;
}

TEST_F(ExecutorPoolTest, AnAnswerThatIsNoAnswerCostsItsTask) {
  fake_executor("printf '\\003\\000\\000\\000\\000\\000\\000\\000\\002zz' >&3; exec sleep 60");
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_NE(outcomes_[0].detail.find("sent an answer that cannot be read"), std::string::npos) << outcomes_[0].detail;
}

TEST_F(ExecutorPoolTest, AModelThatCannotBeUsedIsNoDeath) {
  ExecutorPool::Task bad = task(0);
  bad.head.model_key = "bad:1";
  bad.head.spec_toml = "[input]\nsize = [8, 8]\n";
  bad.head.onnx_file = "/nonexistent.onnx";
  pool().start(0, std::move(bad));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_FALSE(outcomes_[0].executed);
  EXPECT_EQ(outcomes_[0].why, BatchFailure::model_unusable);
  EXPECT_NE(outcomes_[0].detail.find("model bad:1 cannot be used"), std::string::npos) << outcomes_[0].detail;
  EXPECT_TRUE(outcomes_[1].executed);
}

TEST_F(ExecutorPoolTest, ACancelledTaskIsForgottenARunningOneIsNot) {
  pool().start(0, task(0, 300'000));
  for (BatchIndex batch = 1; batch < 80; ++batch) pool().start(0, task(batch));
  ASSERT_TRUE(wait_for([&] { return !started_.empty(); }));
  pool().cancel(lease(0));    // runs
  pool().cancel(lease(1));    // written ahead
  pool().cancel(lease(70));   // waits
  pool().cancel(lease(999));  // never was
  pool().start(0, task(100));
  ASSERT_TRUE(wait_for([&] { return !outcomes_.empty() && outcomes_.back().lease == lease(100); }));
  EXPECT_EQ(outcomes_.front().lease, lease(0));
  EXPECT_TRUE(outcomes_.front().executed);
  EXPECT_EQ(outcomes_.size(), 79U);
  for (const auto& outcome : outcomes_) EXPECT_TRUE(outcome.lease != lease(1) && outcome.lease != lease(70));
  EXPECT_EQ(started_.size(), 79U);
}

TEST_F(ExecutorPoolTest, LargePayloadsDoNotBlockTheAnswers) {
  // Requests and answers are both larger than a socket's buffer: whoever only writes would wait for ever.
  const Bytes name(60'000, 'n');
  const Payload item(Bytes(1U << 20U, 'x'));
  for (BatchIndex batch = 0; batch < 20; ++batch) {
    ExecutorPool::Task large = task(batch);
    large.head.batch_size = 20;
    large.head.queries.assign(20, name);
    large.head.item_lengths.assign(20, 1U << 20U);
    large.items.assign(20, item);
    pool().start(0, std::move(large));
  }
  ASSERT_TRUE(wait_outcomes(20));
  for (const auto& outcome : outcomes_) {
    EXPECT_TRUE(outcome.executed) << outcome.detail;
    EXPECT_GT(outcome.rows.size(), 20U * name.size());
  }
}

TEST_F(ExecutorPoolTest, AnIdleChildIsEndedAndStartedAgainWhenNeeded) {
  options_.idle_after = milliseconds(50);
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  ASSERT_TRUE(wait_for([&] {
    loop_.after(milliseconds(5), [] {});  // the end of a child is no event of the loop
    return pool().pids().empty();
  }));
  pool().start(0, task(1));
  ASSERT_TRUE(wait_outcomes(2));
  EXPECT_TRUE(outcomes_[1].executed) << outcomes_[1].detail;
}

TEST_F(ExecutorPoolTest, TheEndOfThePoolIsTheEndOfItsChildren) {
  options_.slots = 2;
  pool().start(0, task(0, 60'000'000));
  pool().start(1, task(1, 60'000'000));
  ASSERT_TRUE(wait_for([&] { return started_.size() == 2; }));
  const std::vector<int> pids = pool().pids();
  ASSERT_EQ(pids.size(), 2U);
  pool_.reset();
  for (const int pid : pids) EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_TRUE(outcomes_.empty());
}

TEST_F(ExecutorPoolTest, TooManyTasksAreGivenBack) {
  options_.program = folder_ / "nowhere";
  for (BatchIndex batch = 0; batch < 3000; ++batch) pool().start(0, task(batch));
  ASSERT_TRUE(wait_for([&] { return outcomes_.size() >= 1900; }));
  EXPECT_EQ(std::count_if(outcomes_.begin(), outcomes_.end(),
                          [](const auto& outcome) { return outcome.why == BatchFailure::returned; }),
            std::count_if(outcomes_.begin(), outcomes_.end(), [](const auto& outcome) { return outcome.lease.batch >= 1024; }));
}

TEST_F(ExecutorPoolTest, ALargeLogIsStartedAnew) {
  std::ofstream(folder_ / "executor-0.log") << std::string((1U << 20U) + 1, 'l');
  fake_executor("exit 1");
  pool().start(0, task(0));
  ASSERT_TRUE(wait_outcomes(1));
  EXPECT_EQ(std::filesystem::file_size(folder_ / "executor-0.log"), 0U);
}

}  // namespace
}  // namespace idunno

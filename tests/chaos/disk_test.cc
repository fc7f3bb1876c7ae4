// Disks are slow, fail, fill up, lie, and are wiped.

#include <gtest/gtest.h>

#include "tests/chaos/work.h"

namespace idunno::testing {
namespace {

/// What a node logs each time it becomes a voter of the job log.
constexpr char kVotesAgain[] = "votes in the job log";

TEST_F(ChaosShort, AFailedSyncStopsTheNodeAndTheClusterGoesOn) {
  Lab lab(Lab::Options::of(3));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const int coordinator = lab.coordinator();
  lab.failing_disk(coordinator);
  ASSERT_TRUE(eventually([&] { return !lab.running(coordinator); }));  // fail-stop
  EXPECT_EQ(lab.exit_code(coordinator), 1);
  lab.mend_disk(coordinator);
  work.check();
  lab.start(coordinator);
  work.check_whole();
}

TEST_F(ChaosLong, ASlowDiskAtTheCoordinatorDelaysButLosesNothing) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const int coordinator = lab.coordinator();
  constexpr int kMilliseconds = 200;
  lab.slow_disk(coordinator, kMilliseconds);
  work.put_file();
  work.check();
  lab.mend_disk(coordinator);
  work.check_whole();
  work.check_files();
}

TEST_F(ChaosShort, AFullDiskTurnsReadOnlyAndRecoversByItself) {
  Lab::Options options = Lab::Options::of(4);
  options.tmpfs_mib = 160;
  options.tuning = {"disk_reserve = \"32M\""};
  Lab lab(options);
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  lab.fill_disk(4);
  const auto read_only = [&] {
    const nlohmann::json now = lab.status();
    if (!now.is_object()) return false;
    for (const auto& node : now["nodes"]) {
      if (node.value("id", "") == "n4") return node.value("read_only", false);
    }
    return false;
  };
  EXPECT_TRUE(eventually([&] { return read_only() || !lab.running(4); }));
  work.put_file();
  work.check();
  lab.free_disk(4);
  lab.start(4);  // when its log's disk was full as well it stopped (fail-stop), as an operator would see
  EXPECT_TRUE(eventually([&] { return lab.node_state(4) == "alive" && !read_only(); }));
  work.check_whole();
  work.check_files();
}

TEST_F(ChaosShort, AWipedCoordinatorComesBackAsANewEmptyNode) {
  Lab lab(Lab::Options::of(4));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const int coordinator = lab.coordinator();
  lab.kill(coordinator);
  lab.wipe(coordinator);
  lab.start(coordinator);
  work.check();
  work.check_whole();
  // Four nodes, three votes: the spare or the wiped one itself, as somebody new, has taken the place.
  EXPECT_TRUE(eventually([&] { return lab.status()["voters"].size() == 3; }));
}

TEST_F(ChaosShort, FlippedBitsInBlocksAreFoundAndMended) {
  Lab lab(Lab::Options::of(4));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  constexpr int kVictim = 2;
  lab.kill(kVictim);
  constexpr unsigned kSeed = 7;
  int flipped = 0;
  for (const char* ending : {".sst", ".blob", ".log"}) flipped += lab.flip_bits(kVictim, "blocks", ending, 2, kSeed);
  ASSERT_GT(flipped, 0);
  lab.start(kVictim);
  work.begin();
  work.check();
  lab.expect(0, {"fs", "scrub"}, std::chrono::seconds(120));
  work.check_whole();
}

TEST_F(ChaosShort, ADamagedJobLogNeverLosesWhatWasAcknowledged) {
  Lab lab(Lab::Options::of(3));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  for (unsigned seed = 1; seed <= 3; ++seed) {
    work.put_file();
    const int victim = lab.coordinator();
    ASSERT_NE(victim, 0);
    const std::size_t votes_before = lab.times_in_log(victim, kVotesAgain);
    lab.kill(victim);
    if (seed == 2) {
      ASSERT_TRUE(lab.cut_log(victim, "joblog", 40));
    } else {
      ASSERT_GT(lab.flip_bits(victim, "joblog", ".log", 1, seed), 0);
    }
    lab.start(victim);
    // The next one may only be hurt when this one counts again: two of three lost logs are more than three voters survive.
    ASSERT_TRUE(eventually([&] { return lab.times_in_log(victim, kVotesAgain) > votes_before; }));
    work.check_whole();
    work.check_files();
  }
  EXPECT_EQ(work.acknowledged(), 3U);
}

}  // namespace
}  // namespace idunno::testing

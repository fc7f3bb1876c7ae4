// Nodes are killed and paused, the coordinator among them.

#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "tests/chaos/work.h"

namespace idunno::testing {
namespace {

unsigned seed_of_run() {
  const char* given = std::getenv("SEED");
  const unsigned seed = given != nullptr ? static_cast<unsigned>(std::stoul(given)) : std::random_device{}();
  std::printf("seed %u (SEED=%u repeats it)\n", seed, seed);
  return seed;
}

/// The coordinator and two others.
std::vector<int> three_victims(const Lab& lab, std::mt19937& random) {
  const int coordinator = lab.coordinator();
  std::vector<int> others;
  for (int node = 1; node <= lab.nodes(); ++node) {
    if (node != coordinator) others.push_back(node);
  }
  std::shuffle(others.begin(), others.end(), random);
  return {coordinator, others[0], others[1]};
}

void kill_three_again_and_again(int times) {
  std::mt19937 random(seed_of_run());
  Lab lab(Lab::Options{});
  ASSERT_TRUE(lab.up());
  Work work(lab);
  for (int round = 0; round < times; ++round) {
    work.begin();
    ASSERT_TRUE(work.reached(static_cast<int>(random() % 80)));
    const std::vector<int> victims = three_victims(lab, random);
    lab.kill(victims);
    work.put_file();  // writes and reads go on with three of seven dead
    work.check();
    work.check_files();
    for (const int node : victims) lab.start(node);
    work.check_whole();
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_EQ(work.acknowledged(), static_cast<std::size_t>(times));
}

TEST_F(ChaosShort, ThreeOfSevenDieAtOnceTheCoordinatorAmongThem) { kill_three_again_and_again(2); }
TEST_F(ChaosLong, ThreeOfSevenDieAtOnceThirtyTimes) { kill_three_again_and_again(30); }

TEST_F(ChaosShort, ACoordinatorThatWasPausedChangesNothingWhenItGoesOn) {
  Lab lab(Lab::Options::of(3));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const int old = lab.coordinator();
  const auto epoch = lab.status().value("epoch", 0);
  lab.signal(old, SIGSTOP);
  ASSERT_TRUE(eventually([&] {
    const int now = lab.coordinator();
    return now != 0 && now != old;
  }));
  work.put_file();
  lab.signal(old, SIGCONT);
  ASSERT_TRUE(eventually([&] { return lab.node_state(old) == "alive"; }));
  EXPECT_GT(lab.status().value("epoch", 0), epoch);
  work.check();
  work.check_whole();
  work.check_files();
}

TEST_F(ChaosShort, WithoutAMajorityNothingIsAcceptedAndAllGoesOnWhenItIsBack) {
  Lab lab(Lab::Options::of(5));
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  lab.kill({1, 2, 3});
  const CommandResult refused = lab.idunno({"fs", "put", "/etc/hostname", "/nobody/takes/this", "--timeout", "3s"});
  EXPECT_EQ(refused.exit_code, 4) << refused.err;
  for (const int node : {1, 2, 3}) lab.start(node);
  work.check();
  work.check_whole();
  EXPECT_EQ(lab.idunno({"fs", "ls", "/nobody"}).exit_code, 3);
}

TEST_F(ChaosLong, AcknowledgedFilesSurviveTenThousandPutsUnderFire) {
  std::mt19937 random(seed_of_run());
  Lab lab(Lab::Options{});
  ASSERT_TRUE(lab.up());
  Acknowledger client(lab);
  constexpr std::uint64_t kWanted = 10000;
  constexpr std::uint64_t kBetween = 500;
  for (std::uint64_t goal = kBetween; goal <= kWanted; goal += kBetween) {
    ASSERT_TRUE(eventually([&] { return client.acknowledged() >= goal; }, std::chrono::seconds(300)));
    const std::vector<int> victims = three_victims(lab, random);
    lab.kill(victims);
    ASSERT_TRUE(eventually([&] { return client.acknowledged() >= goal + kBetween / 5; }, std::chrono::seconds(300)));
    for (const int node : victims) lab.start(node);
    ASSERT_TRUE(eventually([&] { return lab.healthy(); }, std::chrono::seconds(120)));
  }
  EXPECT_EQ(client.missing(), 0U);
  std::printf("%llu acknowledged\n", static_cast<unsigned long long>(client.acknowledged()));
}

}  // namespace
}  // namespace idunno::testing

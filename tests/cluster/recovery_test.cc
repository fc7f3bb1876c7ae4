// Workers die; the result does not change.

#include <gtest/gtest.h>

#include <chrono>
#include <random>
#include <set>
#include <thread>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

constexpr int kNodes = 5;
constexpr int kRepetitions = 20;

bool all_alive(const TestCluster& cluster) {
  const nlohmann::json status = cluster.status();
  if (!status.is_object()) return false;
  for (const auto& node : status["nodes"]) {
    if (node.value("state", "") != "alive") return false;
  }
  return true;
}

TEST(RecoveryCluster, DigestIsTheSameWithWorkersKilledAtRandomMoments) {
  const TestCluster cluster(kNodes);
  const auto folder = cluster.make_images("images", 300, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::vector<std::string> job{"--model", "lenet5", "--data", "/data", "--batch", "2", "--rate", "400/s"};
  const std::string undisturbed = cluster.finish(cluster.submit(job));

  const unsigned seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (int repetition = 0; repetition < kRepetitions; ++repetition) {
    const std::string id = cluster.submit(job);
    const int progress = static_cast<int>(random() % 250);  // the moment is a point of the job's progress, not of the clock
    ASSERT_TRUE(eventually([&] { return cluster.job(id).value("done", 0) >= progress; }));
    const std::string victim = "n" + std::to_string(2 + random() % (kNodes - 1));
    cluster.expect(0, {"kill-node", victim});
    EXPECT_EQ(cluster.finish(id), undisturbed) << "seed " << seed << ", repetition " << repetition << ", killed " << victim;
    cluster.expect(0, {"node", "start", victim});
    ASSERT_TRUE(eventually([&] { return all_alive(cluster); }));
  }
}

TEST(RecoveryCluster, PausedWorkerCostsNothingAndItsLateCommitsAreDuplicates) {
  const TestCluster cluster(3);
  const auto folder = cluster.make_images("images", 200, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::vector<std::string> job{"--model", "lenet5", "--data", "/data", "--batch", "2", "--rate", "200/s"};
  const std::string undisturbed = cluster.finish(cluster.submit(job));
  const std::string id = cluster.submit(job);
  ASSERT_TRUE(eventually([&] { return cluster.job(id).value("done", 0) >= 50; }));
  cluster.expect(0, {"kill-node", "n3", "--signal", "STOP"});
  EXPECT_EQ(cluster.finish(id), undisturbed);
  cluster.expect(0, {"kill-node", "n3", "--signal", "CONT"});
  EXPECT_TRUE(eventually([&] { return all_alive(cluster); }));
  cluster.expect(0, {"job", "verify", id});
  EXPECT_EQ(cluster.job(id).value("result_digest", ""), undisturbed);
}

TEST(RecoveryCluster, AllNodesRestartFromTheirLogsAndTheJobGoesOn) {
  const TestCluster cluster(3);
  const auto folder = cluster.make_images("images", 200, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::vector<std::string> job{"--model", "lenet5", "--data", "/data", "--batch", "2", "--rate", "200/s"};
  const std::string undisturbed = cluster.finish(cluster.submit(job));
  const std::string id = cluster.submit(job);
  ASSERT_TRUE(eventually([&] { return cluster.job(id).value("done", 0) >= 50; }));
  cluster.expect(0, {"kill-node", "n1", "n2", "n3"});
  cluster.expect(4, {"status", "--timeout", "2s"});
  for (const char* node : {"n1", "n2", "n3"})
    cluster.idunno({"node", "start", node, "--timeout", "1s"});  // a majority comes with the second
  ASSERT_TRUE(eventually([&] { return all_alive(cluster); }));
  EXPECT_EQ(cluster.finish(id), undisturbed);
}

TEST(RecoveryCluster, TheCoordinatorDiesAndTheJobGoesOnUnderAnotherOne) {
  const TestCluster cluster(3);
  const auto folder = cluster.make_images("images", 200, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::vector<std::string> job{"--model", "lenet5", "--data", "/data", "--batch", "2", "--rate", "200/s"};
  const std::string undisturbed = cluster.finish(cluster.submit(job));
  for (int round = 0; round < 4; ++round) {
    const std::string id = cluster.submit(job);
    ASSERT_TRUE(eventually([&] { return cluster.job(id).value("done", 0) >= 50; }));
    const std::string old = cluster.status().value("coordinator", "");
    cluster.expect(0, {"kill-node", "--coordinator"});
    EXPECT_EQ(cluster.finish(id), undisturbed);
    EXPECT_NE(cluster.status().value("coordinator", old), old);
    cluster.expect(0, {"node", "start", old});
    ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  }
}

TEST(RecoveryCluster, TheOnlyCopyOfTheJobLogIsNeverReplacedByAnEmptyOne) {
  const TestCluster cluster(1);
  cluster.expect(0, {"kill-node", "n1"});
  const auto log = cluster.dir() / "n1" / "joblog";
  for (const auto& file : std::filesystem::directory_iterator(log)) {
    if (file.path().extension() == ".log") std::filesystem::resize_file(file.path(), 1);
  }
  for (int start = 0; start < 2; ++start) {
    const CommandResult refused = cluster.expect(1, {"node", "start", "n1"});
    EXPECT_NE(refused.err.find("only copy of the job log"), std::string::npos) << refused.err;
  }
  EXPECT_TRUE(std::filesystem::exists(log.string() + ".broken-1"));
}

TEST(RecoveryCluster, WipedNodeComesBackEmptyAndGetsReplicas) {
  const TestCluster cluster(4);
  const auto folder = cluster.make_images("images", 40, 64);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  cluster.expect(0, {"kill-node", "n4"});
  ASSERT_TRUE(eventually([&] { return cluster.status()["nodes"][3].value("state", "") == "dead"; }));
  std::filesystem::remove_all(cluster.dir() / "n4");
  cluster.expect(0, {"node", "start", "n4"});
  EXPECT_TRUE(eventually([&] { return cluster.healthy() && cluster.status().value("under_replicated_blocks", -1) == 0; }));
  const nlohmann::json store = cluster.expect(0, {"fs", "store", "n4", "--json"}).json();
  EXPECT_NE(store.dump().find("/data/image-00000.png"), std::string::npos);
  cluster.expect(0, {"fs", "fsck"});
}

}  // namespace
}  // namespace idunno::testing

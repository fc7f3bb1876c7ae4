// What an operator does: start, look, kill, start again, watch, stop.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "bus/base/sanitizer.h"
#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

/// Gone, or a zombie whose parent (init) has not yet asked for its exit code.
bool ended(int pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(stat, line)) return true;
  const auto end_of_name = line.rfind(')');
  return end_of_name != std::string::npos && line.compare(end_of_name + 2, 1, "Z") == 0;
}

TEST(OperatingCluster, StatusHasTheFieldsThatScriptsRead) {
  const TestCluster cluster(3);
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  const nlohmann::json status = cluster.status();
  EXPECT_EQ(status.begin().key().empty(), false);
  for (const char* field :
       {"schema", "nodes", "coordinator", "standby", "epoch", "voters", "phase", "under_replicated_blocks", "healthy"}) {
    EXPECT_TRUE(status.contains(field)) << field;
  }
  ASSERT_EQ(status["nodes"].size(), 3U);
  for (const char* field : {"id", "state", "roles", "pid", "address", "data_dir", "incarnation", "since"}) {
    EXPECT_TRUE(status["nodes"][0].contains(field)) << field;
  }
  EXPECT_EQ(status.value("coordinator", ""), "n1");
}

TEST(OperatingCluster, KilledNodeIsDeadAndComesBackByStart) {
  const TestCluster cluster(3);
  cluster.expect(0, {"kill-node", "n2"});
  ASSERT_TRUE(eventually([&] { return cluster.status()["nodes"][1].value("state", "") == "dead"; }));
  EXPECT_FALSE(cluster.healthy());
  cluster.expect(0, {"node", "start", "n2"});
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
}

TEST(OperatingCluster, AModelIsBroughtToAllNodesWhenItIsAdded) {
  const TestCluster cluster(3);
  const auto models_of = [&](const std::string& node) {
    int files = 0;
    std::error_code none;
    for (const auto& entry : std::filesystem::directory_iterator(cluster.dir() / node / "models", none))
      files += entry.path().extension() == ".onnx" ? 1 : 0;
    return files;
  };
  cluster.expect(0, {"kill-node", "n3"});
  cluster.expect(0, {"model", "init", "lenet5"});
  EXPECT_TRUE(eventually([&] { return models_of("n1") == 1 && models_of("n2") == 1; }));
  EXPECT_EQ(models_of("n3"), 0);
  cluster.expect(0, {"node", "start", "n3"});
  EXPECT_TRUE(eventually([&] { return models_of("n3") == 1; })) << "those that were away get it when they come";
}

TEST(OperatingCluster, WatchPipedIsOneJsonObjectALine) {
  const TestCluster cluster(2);
  const auto folder = cluster.make_images("images", 20, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const auto seen = cluster.scratch() / "watch.jsonl";
  const std::string watch = (bin_dir() / "idunno").string() + " --dir " + cluster.dir().string() + " watch > " + seen.string() +
                            " 2> /dev/null & echo $!";
  CommandResult started = run_program({"/bin/sh", "-c", watch});
  const std::string pid = started.out.substr(0, started.out.find('\n'));
  const auto contains = [&](const std::string& text) {
    std::ifstream in(seen);
    std::ostringstream all;
    all << in.rdbuf();
    return all.str().find(text) != std::string::npos;
  };
  EXPECT_TRUE(eventually([&] { return contains("\"stats\"") || contains("idunno.stats"); }));  // connected
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data"});
  (void)cluster.finish(id);
  EXPECT_TRUE(eventually([&] { return contains("job_done"); }));
  EXPECT_TRUE(contains("batch_committed"));
  EXPECT_TRUE(contains("batch_started"));
  (void)run_program({"/bin/kill", pid});
  std::ifstream in(seen);
  for (std::string line; std::getline(in, line) && !in.eof();) {
    EXPECT_TRUE(nlohmann::json::parse(line, nullptr, false).is_object()) << line;
  }
}

TEST(OperatingCluster, LogsHaveOneLineForEachStepOfABatch) {
  const TestCluster cluster(1);
  const auto folder = cluster.make_images("images", 4, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "2"});
  (void)cluster.finish(id);
  const std::string log = cluster.node_log(1);
  for (const std::string event : {"job_submitted", "batch_leased", "batch_started", "batch_committed", "job_done"}) {
    const bool found = log.find("[" + id + "] event=" + event) != std::string::npos ||
                       log.find("[" + id + "/b0] event=" + event) != std::string::npos;
    EXPECT_TRUE(found) << event;
  }
}

TEST(OperatingCluster, DownEndsEveryProcessAndUpBringsTheDataBack) {
  const TestCluster cluster(2);
  const auto file = cluster.scratch() / "file";
  std::ofstream(file) << "still here";
  cluster.expect(0, {"fs", "put", file.string(), "/file"});
  const nlohmann::json before = cluster.status();
  cluster.expect(0, {"down"});
  for (const auto& node : before["nodes"]) {
    EXPECT_TRUE(ended(node.value("pid", 0))) << node.dump();
  }
  cluster.expect(0, {"up"});
  EXPECT_EQ(cluster.expect(0, {"fs", "cat", "/file"}).out, "still here");
}

TEST(OperatingCluster, IdleNodeIsSmall) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is many times the node's";
  const TestCluster cluster(3);
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  const nlohmann::json status = cluster.status();
  for (const auto& node : status["nodes"]) {
    std::ifstream statm("/proc/" + std::to_string(node.value("pid", 0)) + "/statm");
    std::uint64_t total = 0;
    std::uint64_t resident = 0;
    statm >> total >> resident;
    std::printf("%s: %.1f MB resident\n", node.value("id", "").c_str(), static_cast<double>(resident) * 4096 / 1e6);
    EXPECT_LT(resident * 4096, 40'000'000U);
  }
}

}  // namespace
}  // namespace idunno::testing

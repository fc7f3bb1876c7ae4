// Jobs over real nodes: what a user submits is what comes out, whatever the number of machines.

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

/// A cluster with 240 small images under /data and the model "lenet" (random weights, seed 7).
void prepare(const TestCluster& cluster, int images = 240) {
  const auto folder = cluster.make_images("images", images, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5", "--name", "lenet", "--seed", "7"});
}

std::vector<nlohmann::json> rows_of(const std::string& text) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line, nullptr, false));
  return rows;
}

TEST(JobCluster, DigestIsTheSameWithOneThreeAndSevenNodes) {
  std::set<std::string> digests;
  for (const int nodes : {1, 3, 7}) {
    const TestCluster cluster(nodes);
    prepare(cluster);
    digests.insert(cluster.finish(cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4"})));
  }
  ASSERT_EQ(digests.size(), 1U);
  EXPECT_EQ(digests.begin()->size(), 32U);
}

TEST(JobCluster, RowsComeInInputOrderWithOneForEachQuery) {
  const TestCluster cluster(2);
  prepare(cluster, 50);
  const std::string id = cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "7", "--top", "2"});
  (void)cluster.finish(id);
  const auto rows = rows_of(cluster.expect(0, {"job", "results", id}).out);
  ASSERT_EQ(rows.size(), 50U);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].value("index", -1), static_cast<int>(i));
    EXPECT_EQ(rows[i]["top"].size(), 2U);
  }
  EXPECT_EQ(rows[0].value("query", ""), "/data/image-00000.png");

  const auto csv = cluster.scratch() / "rows.csv";
  cluster.expect(0, {"job", "results", id, "-O", csv.string()});
  std::ifstream in(csv);
  std::size_t lines = 0;
  for (std::string line; std::getline(in, line);) ++lines;
  EXPECT_EQ(lines, 51U);  // a header and 50 rows
}

TEST(JobCluster, UnreadableImageIsAnErrorRowAndExitCodeEight) {
  const TestCluster cluster(2);
  const auto folder = cluster.make_images("images", 9, 28);
  std::ofstream(folder / "image-00004x.png") << "this is no picture";
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "4"});
  (void)cluster.finish(id, 8);
  const auto rows = rows_of(cluster.expect(0, {"job", "results", id}).out);
  ASSERT_EQ(rows.size(), 10U);
  EXPECT_TRUE(rows[5].contains("error")) << rows[5].dump();
  EXPECT_EQ(rows[5].value("query", ""), "/data/image-00004x.png");
  EXPECT_EQ(cluster.job(id).value("errors", 0), 1);
  EXPECT_EQ(cluster.job(id).value("state", ""), "done");
}

TEST(JobCluster, TwoJobsOfDifferentCostRunAtTheSameRate) {
  const TestCluster cluster(3);
  const auto folder = cluster.make_images("images", 100, 64);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
  cluster.expect(0, {"model", "init", "squeezenet1_1"});
  const std::string heavy = cluster.submit({"--model", "squeezenet1_1", "--data", "/data", "--batch", "4"});
  const std::string light = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "4"});
  (void)cluster.finish(heavy);
  (void)cluster.finish(light);
  // Served in turns, so neither is done before the other is nearly so: compare what the log of commits says.
  const std::string log = cluster.node_log(1);
  std::map<std::string, int> done;
  std::istringstream lines(log);
  int worst = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("event=batch_committed") == std::string::npos) continue;
    for (const std::string& id : {heavy, light}) {
      if (line.find("[" + id + "/b") != std::string::npos) ++done[id];
    }
    if (done[light] > 0 && done[heavy] < 25) worst = std::max(worst, done[light] - done[heavy]);
  }
  EXPECT_EQ(done[heavy], 25);
  EXPECT_EQ(done[light], 25);
  EXPECT_LE(worst, 8) << "the cheap model ran ahead";
}

TEST(JobCluster, SubmitWithTheSameIdIsTheSameJob) {
  const TestCluster cluster(1);
  prepare(cluster, 8);
  const std::string first = cluster.submit({"--model", "lenet", "--data", "/data", "--id", "nightly-1"});
  EXPECT_EQ(cluster.submit({"--model", "lenet", "--data", "/data", "--id", "nightly-1"}), first);
  EXPECT_NE(cluster.submit({"--model", "lenet", "--data", "/data", "--id", "nightly-2"}), first);
}

TEST(JobCluster, PauseStopAndRemoveKeepWhatIsDone) {
  const TestCluster cluster(2);
  prepare(cluster, 240);
  const std::string id = cluster.submit({"--model", "lenet", "--data", "/data", "--rate", "20/s"});
  ASSERT_TRUE(eventually([&] { return cluster.job(id).value("done", 0) > 0; }));
  cluster.expect(0, {"job", "pause", id});
  EXPECT_EQ(cluster.job(id).value("state", ""), "paused");
  cluster.expect(0, {"job", "resume", id});
  cluster.expect(9, {"fs", "rm", "-r", "/data"});  // in use
  cluster.expect(0, {"job", "stop", id});
  EXPECT_EQ(cluster.job(id).value("state", ""), "stopped");
  EXPECT_FALSE(rows_of(cluster.expect(0, {"job", "results", id}).out).empty());
  cluster.expect(7, {"job", "wait", id});
  cluster.expect(0, {"job", "remove", id});
  cluster.expect(3, {"job", "show", id});
  cluster.expect(0, {"fs", "rm", "-r", "/data"});
}

}  // namespace
}  // namespace idunno::testing

// Phases, jobs that repeat or follow a folder, and queries by hand, over real nodes; coordinators die in the middle.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

void put_images(const TestCluster& cluster, const std::string& name, int count, int seed, const std::string& to) {
  const auto folder = cluster.make_images(name, count, 28, seed);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), to});
}

void prepare(const TestCluster& cluster, int images) {
  put_images(cluster, "images", images, 1, "/data");
  cluster.expect(0, {"model", "init", "lenet5", "--name", "lenet", "--seed", "7"});
}

std::vector<nlohmann::json> rows_of(const std::string& text) {
  std::vector<nlohmann::json> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) rows.push_back(nlohmann::json::parse(line, nullptr, false));
  return rows;
}

bool has_done(const TestCluster& cluster, const std::string& id, int queries) {
  return eventually([&] { return cluster.job(id).value("done", 0) >= queries; });
}

// -- phases -----------------------------------------------------------------------------------------------------------

TEST(PhaseCluster, AJobWaitsForItsPhaseAndSaysSo) {
  const TestCluster cluster(3);
  prepare(cluster, 60);
  const std::vector<std::string> job{"--model", "lenet", "--data", "/data", "--batch", "2"};
  const std::string undisturbed = cluster.finish(cluster.submit(job));
  EXPECT_EQ(cluster.expect(0, {"phase", "--json"}).json().value("phase", ""), "inference");
  cluster.expect(9, {"phase", "start", "training"});
  cluster.expect(2, {"phase", "start", "lunch"});
  cluster.expect(0, {"phase", "start", "inference"});  // it is on

  const std::string slow = cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "2", "--rate", paced(30)});
  ASSERT_TRUE(has_done(cluster, slow, 4));
  cluster.expect(0, {"phase", "stop"});
  const nlohmann::json stopped = cluster.expect(0, {"phase", "start", "training", "--json"}).json();
  EXPECT_EQ(stopped.value("phase", ""), "training");
  EXPECT_EQ(stopped.value("number", 0), 3);
  EXPECT_EQ(stopped.value("jobs_waiting", 0), 1);
  EXPECT_EQ(cluster.status().value("phase", ""), "training");
  cluster.expect(9, {"phase", "start", "inference"});
  const std::string fresh = cluster.submit(job);
  const nlohmann::json waiting = cluster.job(fresh);
  EXPECT_EQ(waiting.value("state", ""), "queued");
  EXPECT_NE(waiting.value("reason", "").find("waits for the phase inference"), std::string::npos) << waiting.dump();
  EXPECT_NE(cluster.expect(0, {"job", "list"}).out.find("the phase training is on"), std::string::npos);
  EXPECT_EQ(cluster.job(fresh).value("done", -1), 0);

  // The phase outlives the coordinator.
  cluster.expect(0, {"kill-node", "--coordinator", "--wait"});
  EXPECT_EQ(cluster.expect(0, {"phase", "--json"}).json().value("phase", ""), "training");
  cluster.expect(0, {"phase", "stop"});
  cluster.expect(0, {"phase", "start", "inference"});
  EXPECT_EQ(cluster.finish(fresh), undisturbed);
  EXPECT_EQ(cluster.finish(slow), undisturbed);
}

// -- repeated jobs ----------------------------------------------------------------------------------------------------

TEST(RepeatCluster, EachPassGivesTheSameRowsAlsoWhenTheCoordinatorDies) {
  const TestCluster cluster(3);
  prepare(cluster, 50);
  const std::string once = cluster.finish(cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4"}));
  const std::string id =
      cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4", "--repeat", "4", "--rate", paced(60)});
  ASSERT_TRUE(has_done(cluster, id, 70));
  cluster.expect(0, {"kill-node", "--coordinator"});
  EXPECT_EQ(cluster.finish(id), once);
  const nlohmann::json job = cluster.job(id);
  EXPECT_EQ(job.value("total", 0), 200);
  EXPECT_EQ(job.value("done", 0), 200);
  EXPECT_EQ(job.value("batches", 0), 52) << "a batch does not cross the end of a pass";
  const auto rows = rows_of(cluster.expect(0, {"job", "results", id}).out);
  ASSERT_EQ(rows.size(), 200U);
  for (std::size_t i = 50; i < rows.size(); ++i) EXPECT_EQ(rows[i], rows[i % 50]) << i;
}

TEST(RepeatCluster, ForeverEndsByStopAndKeepsTheLastWholePass) {
  const TestCluster cluster(3);
  prepare(cluster, 30);
  const std::string once = cluster.finish(cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4"}));
  const std::string id = cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4", "--repeat", "forever"});
  ASSERT_TRUE(has_done(cluster, id, 100));
  EXPECT_TRUE(cluster.job(id)["total"].is_null());
  EXPECT_EQ(rows_of(cluster.expect(0, {"job", "results", id}).out).size(), 30U) << "while it runs";
  cluster.expect(0, {"kill-node", "--coordinator", "--wait"});
  const int before = cluster.job(id).value("done", 0);
  ASSERT_TRUE(has_done(cluster, id, before + 100));
  cluster.expect(0, {"job", "stop", id});
  cluster.expect(7, {"job", "wait", id});
  const nlohmann::json verified = cluster.expect(0, {"job", "verify", id, "--json"}).json();
  EXPECT_EQ(verified.value("result_digest", ""), once);
  EXPECT_EQ(verified.value("rows", 0), 30);
  cluster.expect(0, {"job", "remove", id});
  cluster.expect(2, {"submit", "--model", "lenet", "--data", "/data", "--repeat", "0"});
}

// -- following jobs ---------------------------------------------------------------------------------------------------

/// Every image under /incoming has one row, and the rows are numbered in the order in which they came.
void expect_rows(const TestCluster& cluster, const std::string& id, std::size_t wanted) {
  const auto rows = rows_of(cluster.expect(0, {"job", "results", id}).out);
  std::set<std::string> queries;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].value("index", -1), static_cast<int>(i));
    EXPECT_FALSE(rows[i].contains("error")) << rows[i].dump();
    queries.insert(rows[i].value("query", ""));
  }
  EXPECT_EQ(rows.size(), wanted);
  EXPECT_EQ(queries.size(), wanted);
}

TEST(FollowCluster, FilesBecomeQueriesOnceWhateverHappensToTheCoordinator) {
  const TestCluster cluster(5);
  cluster.expect(0, {"model", "init", "lenet5", "--name", "lenet", "--seed", "7"});
  const std::string id = cluster.submit({"--model", "lenet", "--data", "/incoming", "--batch", "4", "--follow"});
  EXPECT_EQ(cluster.job(id).value("state", ""), "running");
  put_images(cluster, "a", 10, 1, "/incoming/a");
  std::ofstream(cluster.scratch() / "notes.txt") << "no image";
  cluster.expect(0, {"fs", "put", (cluster.scratch() / "notes.txt").string(), "/incoming/notes.txt"});
  ASSERT_TRUE(has_done(cluster, id, 10));
  // Files land while nobody leads yet, and afterwards.
  cluster.expect(0, {"kill-node", "--coordinator"});
  put_images(cluster, "b", 7, 2, "/incoming/b");
  ASSERT_TRUE(has_done(cluster, id, 17));
  put_images(cluster, "c", 5, 3, "/incoming/c");
  ASSERT_TRUE(has_done(cluster, id, 22));
  cluster.expect(0, {"kill-node", "--coordinator", "--wait"});
  put_images(cluster, "a2", 10, 1, "/incoming/a");  // other versions of files that are covered
  put_images(cluster, "d", 3, 4, "/incoming/d");
  ASSERT_TRUE(has_done(cluster, id, 25));
  expect_rows(cluster, id, 25);
  cluster.expect(9, {"job", "verify", id});
  cluster.expect(9, {"fs", "rm", "-r", "/jobs/" + id + "/segments"});
  cluster.expect(0, {"job", "stop", id});
  cluster.expect(7, {"job", "wait", id});
  cluster.expect(0, {"job", "verify", id});
  expect_rows(cluster, id, 25);
  EXPECT_EQ(cluster.job(id).value("conflicting_commits", -1), 0);
  cluster.expect(0, {"job", "remove", id});
  cluster.expect(3, {"fs", "ls", "/jobs/" + id + "/segments"});
}

TEST(FollowCluster, BeginsWithWhatIsThere) {
  const TestCluster cluster(2);
  prepare(cluster, 20);
  cluster.expect(2, {"submit", "--model", "lenet", "--data", "/data", "--follow", "--repeat", "2"});
  cluster.expect(2, {"submit", "--model", "lenet", "--data", "/data/image-00000.png", "--follow"});
  const std::string id = cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "8", "--follow", "--name", "stream"});
  ASSERT_TRUE(has_done(cluster, id, 20));
  put_images(cluster, "more", 9, 5, "/data/more");
  ASSERT_TRUE(has_done(cluster, id, 29));
  EXPECT_EQ(cluster.job(id).value("state", ""), "running");
  cluster.expect(0, {"job", "stop", id});
  cluster.expect(0, {"job", "verify", id});
}

// -- queries ----------------------------------------------------------------------------------------------------------

TEST(QueryCluster, AnswersFilesInTheirOrderAndLeavesNothingBehind) {
  const TestCluster cluster(3);
  prepare(cluster, 40);
  const std::string busy = cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "4", "--repeat", "forever"});
  ASSERT_TRUE(has_done(cluster, busy, 1));
  const auto folder = cluster.scratch() / "images";
  std::ofstream(folder / "broken.png") << "no picture";
  const std::vector<std::string> files{(folder / "image-00031.png").string(), (folder / "image-00002.png").string(),
                                       (folder / "image-00017.png").string()};
  const nlohmann::json answer = cluster.expect(0, {"query", "--model", "lenet", files[0], files[1], files[2], "--json"}).json();
  ASSERT_EQ(answer["rows"].size(), 3U) << answer.dump();
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(answer["rows"][i].value("file", ""), files[i]);
  EXPECT_GT(answer.value("latency_ms", 0.0), 0.0);
  // The same image gives the same classes in the job.
  const auto rows = rows_of(cluster.expect(0, {"job", "results", busy}).out);
  ASSERT_GT(rows.size(), 31U);
  EXPECT_EQ(answer["rows"][1]["row"]["top"][0]["index"], rows[2]["top"][0]["index"]);
  cluster.expect(8, {"query", "--model", "lenet", files[0], (folder / "broken.png").string()});
  cluster.expect(3, {"query", "--model", "lenet", (folder / "none.png").string()});
  cluster.expect(3, {"query", "--model", "nobody", files[0]});
  cluster.expect(0, {"phase", "stop"});
  cluster.expect(9, {"query", "--model", "lenet", files[0]});
  cluster.expect(0, {"phase", "start", "inference"});
  cluster.expect(3, {"fs", "ls", "/jobs/queries"});
  EXPECT_EQ(cluster.expect(0, {"job", "list", "--json"}).json()["jobs"].size(), 1U);
  cluster.expect(0, {"job", "stop", busy});
}

TEST(JobSetCluster, LimitsOfNodesAreChangedWhileItRuns) {
  const TestCluster cluster(3);
  prepare(cluster, 40);
  const std::string id =
      cluster.submit({"--model", "lenet", "--data", "/data", "--repeat", "forever", "--nodes", "..1", "--priority", "-2"});
  ASSERT_TRUE(has_done(cluster, id, 1));
  EXPECT_EQ(cluster.job(id).value("nodes_max", 0), 1);
  EXPECT_EQ(cluster.job(id).value("priority", 0), -2);
  EXPECT_LE(cluster.job(id)["nodes"].size(), 1U);
  cluster.expect(2, {"job", "set", id, "--nodes", "3..2"});
  cluster.expect(2, {"job", "set", id});
  const nlohmann::json set = cluster.expect(0, {"job", "set", id, "--nodes", "2..3", "--weight", "2.5", "--json"}).json();
  EXPECT_EQ(set.value("nodes_min", 0), 2);
  EXPECT_EQ(set.value("priority", 0), -2) << "what is not named stays";
  EXPECT_TRUE(eventually([&] { return cluster.job(id)["nodes"].size() > 1; }));
  cluster.expect(0, {"job", "stop", id});
}

}  // namespace
}  // namespace idunno::testing

// `grep` and `job explain` on real clusters: all machines, dead ones, a kill of the coordinator.

#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

constexpr int kNothingFound = 1;
constexpr int kGrepError = 2;

void prepare(const TestCluster& cluster, int images = 200) {
  const auto folder = cluster.make_images("images", images, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5"});
}

nlohmann::json grep(const TestCluster& cluster, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), {"--json", "grep"});
  return cluster.expect(0, std::move(arguments)).json();
}

std::set<std::string> texts(const nlohmann::json& found) {
  std::set<std::string> all;
  for (const auto& line : found["lines"]) all.insert(line.value("text", ""));
  return all;
}

std::string coordinator_of(const TestCluster& cluster) {
  const nlohmann::json status = cluster.status();
  return status.is_object() && status["coordinator"].is_string() ? status.value("coordinator", "") : "";
}

/// `grep -f` into a file, ended when this is.
class Follower {
 public:
  Follower(const TestCluster& cluster, const std::filesystem::path& seen) : pid_file_(seen.string() + ".pid") {
    const std::string command = (bin_dir() / "idunno").string() + " --dir " + cluster.dir().string() +
                                " -o jsonl grep 'event=(batch_committed|job_done|coordinator_changed)' -f > " + seen.string() +
                                " 2> " + seen.string() + ".err & echo $! > " + pid_file_;
    (void)run_program({"/bin/sh", "-c", command});
  }
  ~Follower() { end(); }
  Follower(const Follower&) = delete;
  Follower& operator=(const Follower&) = delete;
  void end() const {
    std::string pid;
    std::ifstream(pid_file_) >> pid;
    if (!pid.empty()) (void)run_program({"/bin/kill", pid});
  }

 private:
  std::string pid_file_;
};

TEST(LogsCluster, GrepFindsTheLinesOfAllMachinesInTheOrderOfTime) {
  const TestCluster cluster(3);
  prepare(cluster, 40);
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "4"});
  (void)cluster.finish(id);
  const nlohmann::json found = grep(cluster, {"event=batch_(leased|started|committed)", "--job", id});
  EXPECT_EQ(found.value("schema", ""), "idunno.grep.v1");
  ASSERT_EQ(found["lines"].size(), 30U);
  std::string last;
  for (const auto& line : found["lines"]) {
    EXPECT_LE(last, line.value("at", ""));
    last = line.value("at", "");
  }
  ASSERT_EQ(found["nodes"].size(), 3U);
  const nlohmann::json one = grep(cluster, {"event=batch_", "--batch", id + "/b1"});
  EXPECT_EQ(one["lines"].size(), 3U) << one.dump();
  const nlohmann::json count = grep(cluster, {"-c", "event=batch_leased", "--job", id});
  EXPECT_EQ(count.value("matches", 0), 10);
  EXPECT_EQ(grep(cluster, {"EVENT=BATCH_LEASED", "-i", "-n", "3"})["lines"].size(), 3U);
  EXPECT_EQ(grep(cluster, {"", "--node", "n2"})["nodes"].size(), 1U);

  cluster.expect(kNothingFound, {"grep", "no such words anywhere"});
  cluster.expect(kNothingFound, {"grep", "", "--job", "j999"});
  cluster.expect(kNothingFound, {"grep", "", "--level", "critical"});
  EXPECT_NE(cluster.expect(kGrepError, {"grep", "("}).err.find("missing )"), std::string::npos);
  cluster.expect(kGrepError, {"grep", "x", "--node", "n99"});
  cluster.expect(kGrepError, {"grep", "x", "--since", "yesterday"});
  cluster.expect(kGrepError, {"grep", "x", "-c", "-f"});
}

TEST(LogsCluster, TheLastLinesOfADeadMachineAreFoundWithOthers) {
  const TestCluster cluster(4);
  prepare(cluster);
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "4"});
  (void)cluster.finish(id);
  const std::string victim = coordinator_of(cluster);
  ASSERT_FALSE(victim.empty());
  const std::set<std::string> before = texts(grep(cluster, {"", "--node", victim, "--job", id}));
  ASSERT_GE(before.size(), 100U);
  // Its end has reached the two that keep it when both say so: their copies are looked at as files.
  const auto kept = [&] {
    int keepers = 0;
    for (int node = 1; node <= 4; ++node) {
      std::string text;
      const auto folder = cluster.dir() / ("n" + std::to_string(node)) / "log" / "tails" / victim;
      std::error_code ignored;
      for (const auto& piece : std::filesystem::directory_iterator(folder, ignored)) {
        std::ifstream in(piece.path());
        text.append(std::istreambuf_iterator<char>(in), {});
      }
      keepers += text.find("[" + id + "] event=job_done") != std::string::npos ? 1 : 0;
    }
    return keepers == 2;
  };
  ASSERT_TRUE(eventually(kept));
  cluster.expect(0, {"kill-node", victim});
  const CommandResult result = cluster.idunno({"--json", "grep", "", "--node", victim, "--job", id});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.err.find(victim + " cannot be asked"), std::string::npos) << result.err;
  const nlohmann::json found = result.json();
  EXPECT_EQ(texts(found), before);
  for (const auto& line : found["lines"]) EXPECT_TRUE(line["kept_by"].is_string());
  EXPECT_FALSE(found["nodes"][0].value("answers", true));
}

TEST(LogsCluster, FollowGoesOnThroughAKillOfTheCoordinatorAndItsReturn) {
  const TestCluster cluster(3);
  prepare(cluster);
  const auto seen = cluster.scratch() / "seen";
  const Follower follower(cluster, seen);
  const auto contains = [&](const std::string& text) {
    std::ifstream in(seen);
    std::stringstream all;
    all << in.rdbuf();
    return all.str().find(text) != std::string::npos;
  };
  EXPECT_TRUE(eventually([&] { return contains("coordinator_changed"); }));
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "2", "--rate", paced(80)});
  EXPECT_TRUE(eventually([&] { return contains("[" + id + "/b5] event=batch_committed"); }));
  const std::string victim = coordinator_of(cluster);
  cluster.expect(0, {"kill-node", victim});
  EXPECT_TRUE(eventually([&] { return contains("[" + id + "/b60] event=batch_committed"); }));
  cluster.expect(0, {"node", "start", victim});
  (void)cluster.finish(id);
  EXPECT_TRUE(eventually([&] { return contains("[" + id + "] event=job_done"); }));
  EXPECT_TRUE(eventually([&] {
    std::ifstream in(seen.string() + ".err");
    std::stringstream all;
    all << in.rdbuf();
    return all.str().find(victim + " answers again") != std::string::npos;
  }));
  follower.end();
  // No line twice, whoever it came from.
  std::set<std::string> texts_seen;
  std::ifstream in(seen);
  for (std::string line; std::getline(in, line);) {
    const nlohmann::json found = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(found.is_object()) << line;
    EXPECT_TRUE(texts_seen.insert(found.value("text", "")).second) << line;
  }
}

TEST(LogsCluster, ExplainTellsTheLifeOfABatchAlsoAfterAFailover) {
  const TestCluster cluster(3);
  prepare(cluster);
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--batch", "4"});
  (void)cluster.finish(id);
  const auto steps_of = [&] {
    const nlohmann::json life = cluster.idunno({"--json", "job", "explain", id, "--batch", "b7"}).json();
    std::set<std::string> names;
    if (life.is_object()) {
      for (const auto& step : life["steps"]) names.insert(step.value("what", ""));
    }
    return names;
  };
  const std::set<std::string> whole{"leased", "received", "fetched", "started", "inferred", "stored", "committed"};
  EXPECT_EQ(steps_of(), whole);
  const std::string victim = coordinator_of(cluster);
  // Of the batch's own machine only the log is left when the coordinator computed it.
  const nlohmann::json before = cluster.expect(0, {"--json", "job", "explain", id, "--batch", "b7"}).json();
  std::string worker;
  for (const auto& step : before["steps"]) {
    if (step.value("what", "") == "started") worker = step.value("node", "");
  }
  ASSERT_TRUE(eventually([&] {
    std::error_code ignored;
    std::string text;
    for (int node = 1; node <= 3; ++node) {
      const auto folder = cluster.dir() / ("n" + std::to_string(node)) / "log" / "tails" / victim;
      for (const auto& piece : std::filesystem::directory_iterator(folder, ignored)) {
        std::ifstream in(piece.path());
        text.append(std::istreambuf_iterator<char>(in), {});
      }
    }
    return text.find("[" + id + "] event=job_done") != std::string::npos;
  }));
  cluster.expect(0, {"kill-node", victim});
  ASSERT_TRUE(eventually([&] { return !coordinator_of(cluster).empty() && coordinator_of(cluster) != victim; }));
  const std::set<std::string> left = worker == victim ? std::set<std::string>{"leased", "started", "committed"} : whole;
  EXPECT_EQ(steps_of(), left);
}

TEST(LogsCluster, ExplainSaysWhyAJobWaits) {
  const TestCluster cluster(2);
  prepare(cluster, 40);
  const std::string id = cluster.submit({"--model", "lenet5", "--data", "/data", "--rate", "1/s"});
  const auto waits = [&] {
    const nlohmann::json story = cluster.expect(0, {"--json", "job", "explain", id}).json();
    return story.is_object() && story["waits"].is_string() ? story.value("waits", "") : std::string();
  };
  EXPECT_TRUE(eventually([&] { return waits().find("rate limit of 1 queries/s") != std::string::npos; })) << waits();
  cluster.expect(0, {"job", "pause", id});
  EXPECT_NE(waits().find("it is paused"), std::string::npos);
  cluster.expect(0, {"job", "stop", id});
  EXPECT_NE(waits().find("it is over: stopped"), std::string::npos);
  EXPECT_NE(cluster.expect(0, {"job", "explain", id}).out.find("waits"), std::string::npos);
  cluster.expect(3, {"job", "explain", "j999"});
  cluster.expect(3, {"job", "explain", id, "--batch", "b4000"});
  cluster.expect(2, {"job", "explain", id, "--batch", "seven"});
}

}  // namespace
}  // namespace idunno::testing

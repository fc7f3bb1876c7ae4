// The contract with scripts: every command of the tree, on a real cluster, answers in JSON and with the exit code that it
// promises. A new command fails here until it has a line of its own.

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <sstream>

#include "cli/root.h"
#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

/// "fs put", "job show", "status", ...: what can be run.
std::set<std::string> all_commands() {
  cli::App app;
  CLI::App root;
  cli::build_tree(root, app);
  std::set<std::string> commands;
  const std::function<void(const CLI::App&, const std::string&)> look = [&](const CLI::App& at, const std::string& path) {
    const auto below = at.get_subcommands([](const CLI::App*) { return true; });
    if (below.empty()) commands.insert(path);
    for (const CLI::App* sub : below) look(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name());
  };
  look(root, "");
  return commands;
}

/// One JSON value with a schema, or JSON lines (`job results`, `watch`).
bool is_json(const std::string& text) {
  const auto whole = nlohmann::json::parse(text, nullptr, false);
  if (whole.is_object()) return whole.value("schema", "").starts_with("idunno.");
  std::istringstream lines(text);
  std::size_t count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    if (!nlohmann::json::parse(line, nullptr, false).is_object()) return false;
  }
  return count > 0;
}

class Contract : public ::testing::Test {
 protected:
  /// Runs `command` with `arguments` and --json.
  void check(int exit_code, const std::string& command, std::vector<std::string> arguments = {}) {
    checked_.insert(command);
    std::vector<std::string> words;
    std::istringstream parts(command);
    for (std::string part; parts >> part;) words.push_back(part);
    words.insert(words.end(), arguments.begin(), arguments.end());
    words.emplace_back("--json");
    const CommandResult ran = cluster_.expect(exit_code, words);
    EXPECT_TRUE(is_json(ran.out)) << command << ": " << ran.out.substr(0, 300) << ran.err;
  }
  /// An error: its code, nothing on stdout, one or two lines on stderr.
  void refuse(int exit_code, std::vector<std::string> words) {
    words.emplace_back("--json");
    const CommandResult ran = cluster_.expect(exit_code, words);
    EXPECT_TRUE(ran.out.empty()) << ran.out;
    const auto lines = std::count(ran.err.begin(), ran.err.end(), '\n');
    EXPECT_TRUE(lines == 1 || lines == 2) << ran.err;
  }

  TestCluster cluster_{3};
  std::set<std::string> checked_;
};

TEST_F(Contract, EveryCommandSpeaksJsonAndKeepsItsExitCodes) {
  const auto images = cluster_.make_images("images", 24, 28).string();
  const auto image = images + "/image-00000.png";
  const auto onnx = (cluster_.scratch() / "lenet.onnx").string();

  check(0, "up");
  check(0, "status");
  check(0, "node list");
  check(0, "node show", {"n1"});
  refuse(3, {"node", "show", "n9"});
  check(0, "member list");
  check(0, "member history");
  EXPECT_TRUE(is_json(cluster_.expect(0, {"member", "--json"}).out));
  check(0, "phase status");
  check(0, "phase stop");
  check(0, "phase start", {"inference"});
  refuse(9, {"phase", "start", "training"});
  check(0, "keys list");
  check(0, "keys add", {"alice", "--role", "submit"});
  check(0, "keys revoke", {"alice"});
  refuse(3, {"keys", "revoke", "alice"});

  check(0, "fs put", {"-r", images, "/data"});
  for (const char* command : {"fs stat", "fs locate", "fs versions"}) check(0, command, {"/data/image-00000.png"});
  check(0, "fs ls", {"/data"});
  refuse(3, {"fs", "stat", "/data/none.png"});
  check(0, "fs get", {"-r", "/data", (cluster_.scratch() / "back").string()});
  check(0, "fs put", {image, "/x.png"});
  check(0, "fs rm", {"/x.png"});
  check(0, "fs store", {"n1"});
  for (const char* command : {"fs df", "fs fsck", "fs scrub"}) check(0, command);

  check(0, "model init", {"lenet5", "--name", "lenet", "--seed", "7"});
  check(0, "model init", {"lenet5", "--output", onnx});
  check(0, "model add", {"again", onnx});
  check(0, "model list");
  check(0, "model show", {"lenet"});
  check(0, "model check", {"lenet"});
  check(0, "model remove", {"again"});
  refuse(3, {"model", "show", "again"});
  check(0, "model pull", {"--list"});

  refuse(3, {"submit", "--model", "none", "--data", "/data"});
  refuse(2, {"submit", "--model", "lenet", "--data", "/data", "--batch", "0"});
  check(0, "submit", {"--model", "lenet", "--data", "/data", "--batch", "4", "--name", "first"});
  check(0, "job wait", {"first"});
  for (const char* command : {"job show", "job results", "job errors", "job verify", "job explain"}) check(0, command, {"first"});
  check(0, "job list");
  refuse(3, {"job", "show", "nobody"});
  check(0, "submit", {"--model", "lenet", "--data", "/data", "--repeat", "forever", "--name", "endless"});
  check(0, "job pause", {"endless"});
  check(0, "job resume", {"endless"});
  check(0, "job set", {"endless", "--weight", "2"});
  check(0, "stats");
  check(0, "stats", {"--history"});
  check(0, "query", {"--model", "lenet", image});
  check(0, "watch", {"--for", "1s"});
  check(0, "job stop", {"endless"});
  cluster_.expect(7, {"job", "wait", "endless"});
  check(0, "job remove", {"endless"});
  check(0, "grep", {"-c", "event"});
  check(1, "grep", {"no line has this"});

  check(0, "node drain", {"n1"});
  check(0, "node lead", {"n2"});
  check(0, "kill-node", {"n3"});
  check(0, "node start", {"n3"});
  check(0, "down");

  // Bytes and texts rather than data, a server without an end, and what measures in clusters of its own: each has a test of its
  // own (below, sdfs_test, exp_test, tests/web, tests/unit/cli).
  const std::set<std::string> elsewhere = {"fs cat",           "completion", "man",        "dash",           "exp run",
                                           "exp list",         "exp report", "keys gen",   "bench infer",    "bench curve",
                                           "bench dispatch",   "bench fs",   "bench grep", "bench failover", "bench query",
                                           "bench make-images"};
  for (const std::string& command : all_commands())
    EXPECT_NE(checked_.contains(command), elsewhere.contains(command)) << "`" << command << "` has no line here";
}

/// The smallest run of each: that it measures at all, and tells it in JSON and CSV.
TEST(BenchContract, EveryMeasurementSpeaksJson) {
  const TempDir folder;
  const auto csv = (folder.path() / "table.csv").string();
  const std::vector<std::vector<std::string>> benches = {
      {"infer", "--seconds", "1", "--rounds", "1", "--models", "lenet5", "--batch", "4"},
      {"curve", "--service", "5ms", "--batches", "4", "--loads", "50", "--for", "1s", "--nodes", "1"},
      {"dispatch", "--batches", "100", "--workers", "1", "--one-node"},
      {"fs", "--size", "4M", "--nodes", "2", "--rounds", "1", "--files", "20"},
      {"grep", "--size", "1M", "--nodes", "2", "--repeat", "1"},
      {"query", "--repeat", "2", "--models", "lenet5", "--batch", "4", "--nodes", "1"},
      {"failover", "--repeat", "1", "--nodes", "3", "--signal", "KILL", "--target", "coordinator", "--service", "20ms"}};
  for (const auto& bench : benches) {
    std::vector<std::string> words = {(bin_dir() / "idunno").string(), "bench"};
    words.insert(words.end(), bench.begin(), bench.end());
    words.insert(words.end(), {"--csv", csv, "--json"});
    const CommandResult ran = run_program(words);
    EXPECT_EQ(ran.exit_code, 0) << bench[0] << ": " << ran.err;
    EXPECT_EQ(ran.json().value("schema", ""), "idunno.bench_" + bench[0] + ".v1");
    EXPECT_FALSE(ran.json()["rows"].empty()) << bench[0];
    EXPECT_TRUE(std::filesystem::exists(csv)) << bench[0];
    std::filesystem::remove(csv);
  }
}

}  // namespace
}  // namespace idunno::testing

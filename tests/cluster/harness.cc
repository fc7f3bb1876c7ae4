#include "tests/cluster/harness.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

#include "bus/base/sanitizer.h"

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace idunno::testing {
namespace {

using Clock = std::chrono::steady_clock;

/// Reads both pipes until they close or the deadline.
bool drain(const std::array<int, 2>& pipes, CommandResult& result, Clock::time_point deadline) {
  std::array<bool, 2> open{true, true};
  while (open[0] || open[1]) {
    std::array<pollfd, 2> wait{{{open[0] ? pipes[0] : -1, POLLIN, 0}, {open[1] ? pipes[1] : -1, POLLIN, 0}}};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    if (left <= 0) return false;
    if (poll(wait.data(), wait.size(), static_cast<int>(left)) <= 0) continue;
    for (std::size_t i = 0; i < 2; ++i) {
      if ((wait[i].revents & (POLLIN | POLLHUP)) == 0) continue;
      std::array<char, 65536> buffer{};
      const ssize_t got = read(pipes[i], buffer.data(), buffer.size());
      if (got <= 0)
        open[i] = false;
      else
        (i == 0 ? result.out : result.err).append(buffer.data(), static_cast<std::size_t>(got));
    }
  }
  return true;
}

}  // namespace

nlohmann::json CommandResult::json() const { return nlohmann::json::parse(out, nullptr, false); }

int patience() {
  const char* given = std::getenv("IDUNNO_TEST_PATIENCE");
  const int factor = given != nullptr ? std::atoi(given) : kSanitized ? 6 : 1;
  return std::max(1, factor);
}

std::string paced(int queries_per_s) { return std::to_string(std::max(1, queries_per_s / patience())) + "/s"; }

CommandResult run_program(const std::vector<std::string>& arguments, std::chrono::seconds limit) {
  limit *= patience();
  std::array<int, 2> out{};
  std::array<int, 2> err{};
  EXPECT_EQ(pipe2(out.data(), O_CLOEXEC), 0);
  EXPECT_EQ(pipe2(err.data(), O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, err[1], 2);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(err[1]);
  CommandResult result;
  if (failed != 0) {
    ADD_FAILURE() << "cannot start " << arguments[0];
  } else {
    if (!drain({out[0], err[0]}, result, Clock::now() + limit)) {
      kill(child, SIGKILL);
      result.err += "\n(killed by the test: no end after " + std::to_string(limit.count()) + " s)";
    }
    int status = 0;
    waitpid(child, &status, 0);
    result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  close(out[0]);
  close(err[0]);
  return result;
}

std::filesystem::path bin_dir() {
  const char* named = std::getenv("IDUNNO_BIN_DIR");
  return named != nullptr ? named : IDUNNO_BIN_DIR;
}

std::filesystem::path shared_data() {
  const char* named = std::getenv("IDUNNO_SHARED_DATA");
  const std::filesystem::path path = named != nullptr ? named : std::filesystem::path(IDUNNO_SOURCE_DIR) / "../shared/data";
  return std::filesystem::is_directory(path) ? path : std::filesystem::path();
}

TempDir::TempDir() {
  std::string name = (std::filesystem::temp_directory_path() / "idunno-test-XXXXXX").string();
  const char* made = mkdtemp(name.data());
  if (made == nullptr) throw std::runtime_error("mkdtemp failed");
  path_ = made;
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

bool eventually(const std::function<bool()>& holds, std::chrono::seconds limit) {
  const auto deadline = Clock::now() + limit * patience();
  while (!holds()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return true;
}

TestCluster::TestCluster(int nodes, std::vector<std::string> up_options) : dir_(temp_.path() / "cluster") {
  std::vector<std::string> arguments{"up", "-n", std::to_string(nodes)};
  arguments.insert(arguments.end(), up_options.begin(), up_options.end());
  const CommandResult up = expect(0, arguments);
  if (up.exit_code != 0) {
    for (int node = 1; node <= nodes; ++node) std::fputs(node_log(node).c_str(), stderr);
  }
}

TestCluster::~TestCluster() {
  if (::testing::Test::HasFailure()) {
    const std::string log = node_log(1);
    std::fprintf(stderr, "---- end of n1's log ----\n%s\n", log.substr(log.size() > 6000 ? log.size() - 6000 : 0).c_str());
  }
  (void)idunno({"down"});
}

CommandResult TestCluster::idunno(std::vector<std::string> arguments, std::chrono::seconds limit) const {
  std::vector<std::string> all{(bin_dir() / "idunno").string(), "--dir", dir_.string()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all, limit);
}

CommandResult TestCluster::expect(int exit_code, std::vector<std::string> arguments, std::chrono::seconds limit) const {
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  CommandResult result = idunno(std::move(arguments), limit);
  EXPECT_EQ(result.exit_code, exit_code) << "idunno" << line << "\nstdout: " << result.out.substr(0, 4000)
                                         << "\nstderr: " << result.err;
  return result;
}

std::string TestCluster::submit(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), "submit");
  std::string id = expect(0, std::move(arguments)).out;
  while (!id.empty() && (id.back() == '\n' || id.back() == ' ')) id.pop_back();
  return id;
}

nlohmann::json TestCluster::job(const std::string& id) const { return idunno({"job", "show", id, "--json"}).json(); }

nlohmann::json TestCluster::status() const { return idunno({"status", "--json"}).json(); }

bool TestCluster::healthy() const {
  const nlohmann::json now = status();
  return now.is_object() && now.value("healthy", false);
}

std::string TestCluster::finish(const std::string& id, int exit_code) const {
  expect(exit_code, {"job", "wait", id, "--timeout", std::to_string(300 * patience()) + "s"}, std::chrono::seconds(310));
  expect(0, {"job", "verify", id});
  return job(id).value("result_digest", "");
}

std::string TestCluster::node_log(int node) const {
  std::ostringstream text;
  const auto folder = dir_ / ("n" + std::to_string(node));
  for (const auto& file : {folder / "idunnod.out", folder / "log" / "idunnod.log"}) {
    const std::ifstream in(file);
    if (in) text << in.rdbuf();
    text.clear();  // an empty file counts as a failure of <<
  }
  return text.str();
}

std::filesystem::path TestCluster::make_images(const std::string& name, int count, int side, int seed) const {
  const auto folder = temp_.path() / name;
  expect(0, {"bench", "make-images", folder.string(), "--count", std::to_string(count), "--size", std::to_string(side), "--seed",
             std::to_string(seed)});
  return folder;
}

}  // namespace idunno::testing

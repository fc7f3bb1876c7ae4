#include "cli/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <fstream>

namespace idunno::cli {
namespace {

TEST(NodeProcess, IsProvedByProgramConfigurationAndNumber) {
  const std::vector<std::string> good{"/usr/bin/idunnod", "--config", "/c/./cluster.toml", "--node", "3"};
  EXPECT_TRUE(is_node_process(good, "/c/cluster.toml", 3));
  EXPECT_FALSE(is_node_process(good, "/c/cluster.toml", 2));
  EXPECT_FALSE(is_node_process(good, "/d/cluster.toml", 3));
  EXPECT_FALSE(is_node_process({"/usr/bin/vim", "--config", "/c/cluster.toml", "--node", "3"}, "/c/cluster.toml", 3));
  EXPECT_FALSE(is_node_process({"idunnod", "--config"}, "/c/cluster.toml", 3));
  EXPECT_FALSE(is_node_process({}, "/c/cluster.toml", 3));
}

TEST(CommandLine, IsThatOfTheProcess) {
  EXPECT_FALSE(command_line(getpid()).empty());
  EXPECT_TRUE(command_line(0).empty());
}

TEST(PidFile, ThatIsMissingOrDamagedIsNoProcess) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "idunno.pid";
  std::filesystem::remove(file);
  EXPECT_EQ(read_pid_file(file), 0);
  std::ofstream(file) << "x";
  EXPECT_EQ(read_pid_file(file), 0);
  std::ofstream(file) << "-1\n";
  EXPECT_EQ(read_pid_file(file), 0);
  std::ofstream(file) << "4711\n";
  EXPECT_EQ(read_pid_file(file), 4711);
  std::filesystem::remove(file);
}

TEST(RunTogether, CollectsOutputAndExitCodes) {
  auto ran = run_together({{"/bin/sh", "-c", "echo $WORD; exit 3"}, {"/bin/sh", "-c", "kill -9 $$"}}, {"WORD=hello"});
  ASSERT_TRUE(ran.ok());
  EXPECT_EQ((*ran)[0].out, "hello\n");
  EXPECT_EQ((*ran)[0].exit_code, 3);
  EXPECT_EQ((*ran)[1].signal, SIGKILL);
  EXPECT_FALSE(run_together({{"/no/such/program"}}).ok());
}

TEST(Detached, ProcessesAreSeenUntilTheyEnd) {
  const auto out = std::filesystem::path(::testing::TempDir()) / "idunno-detached.out";
  std::filesystem::remove(out);
  auto pid = spawn_detached({"/bin/sh", "-c", "echo one; echo two; exec sleep 100"}, out);
  ASSERT_TRUE(pid.ok());
  EXPECT_EQ(getsid(*pid), *pid);
  EXPECT_FALSE(wait_gone({*pid}, Duration::zero()));
  EXPECT_EQ(kill(*pid, SIGKILL), 0);
  EXPECT_TRUE(wait_gone({*pid}, std::chrono::seconds(20)));
  EXPECT_TRUE(command_line(*pid).empty());
  std::filesystem::remove(out);
}

TEST(Tail, IsTheLastLines) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "idunno-tail";
  {
    std::ofstream out(file);
    for (int i = 0; i < 5000; ++i) out << "line " << i << '\n';
  }
  EXPECT_EQ(tail_of(file, 2), (std::vector<std::string>{"line 4998", "line 4999"}));
  std::filesystem::remove(file);
  EXPECT_TRUE(tail_of(file, 2).empty());
}

}  // namespace
}  // namespace idunno::cli

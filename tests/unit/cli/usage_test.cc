#include <gtest/gtest.h>

#include "cli/jobs.h"
#include "cli/kill_node.h"
#include "cli/root.h"

namespace idunno::cli {
namespace {

/// Runs a command line in this process; what it said on stderr.
struct Ran {
  int exit_code = 0;
  std::string out;
  std::string err;
};
Ran run_words(std::vector<const char*> words) {
  words.insert(words.begin(), "idunno");
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Ran ran;
  ran.exit_code = run(static_cast<int>(words.size()), words.data());
  std::fflush(stdout);
  ran.out = ::testing::internal::GetCapturedStdout();
  ran.err = ::testing::internal::GetCapturedStderr();
  return ran;
}

TEST(Usage, AnUnknownCommandSuggestsTheNearest) {
  const Ran ran = run_words({"statsu"});
  EXPECT_EQ(ran.exit_code, kUsage);
  EXPECT_NE(ran.err.find("unknown command 'statsu'"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("did you mean 'stat"), std::string::npos) << ran.err;
  EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 2);
}

TEST(Usage, AnUnknownSubcommandSuggestsTheNearest) {
  const Ran ran = run_words({"job", "verfy", "j1"});
  EXPECT_EQ(ran.exit_code, kUsage);
  EXPECT_NE(ran.err.find("did you mean 'verify'?"), std::string::npos) << ran.err;
}

TEST(Usage, AnUnknownOptionSuggestsTheNearest) {
  const Ran ran = run_words({"submit", "--modell", "x", "--data", "/d"});
  EXPECT_EQ(ran.exit_code, kUsage);
  EXPECT_NE(ran.err.find("--model"), std::string::npos) << ran.err;
}

TEST(Usage, NothingToDoListsTheCommands) {
  EXPECT_EQ(run_words({}).exit_code, kUsage);
  const Ran ran = run_words({"job"});
  EXPECT_EQ(ran.exit_code, kUsage);
  EXPECT_NE(ran.err.find("verify"), std::string::npos) << ran.err;
}

TEST(Usage, FailoverCommandsSayWhatTheyTake) {
  const std::string kill = run_words({"kill-node", "--help"}).out;
  for (const char* option : {"--coordinator", "--standby", "--random", "--wait"})
    EXPECT_NE(kill.find(option), std::string::npos) << option;
  EXPECT_NE(run_words({"bench", "failover", "--help"}).out.find("--svg"), std::string::npos);
  EXPECT_NE(run_words({"member", "history", "--help"}).out.find("--from"), std::string::npos);
  for (const char* command : {"ls", "stat", "locate", "store", "cat", "get"})
    EXPECT_NE(run_words({"fs", command, "--help"}).out.find("--stale"), std::string::npos) << command;
  EXPECT_EQ(run_words({"bench", "failover", "--signal", "HUP"}).exit_code, kUsage);
  EXPECT_EQ(run_words({"bench", "failover", "--target", "everyone"}).exit_code, kUsage);
}

TEST(Usage, BadGlobalValuesAreUsageErrors) {
  EXPECT_EQ(run_words({"--timeout", "soon", "status"}).exit_code, kUsage);
  EXPECT_EQ(run_words({"-o", "xml", "status"}).exit_code, kUsage);
  EXPECT_EQ(run_words({"stats", "--window", "90s"}).exit_code, kUsage);
  EXPECT_EQ(run_words({"kill-node", "n1", "--signal", "HUP"}).exit_code, kUsage);
}

TEST(GlobalOptions, StandBeforeOrAfterTheCommand) {
  for (const auto& words :
       {std::vector<const char*>{"--dir", "/nowhere/a", "status"}, std::vector<const char*>{"status", "--dir", "/nowhere/a"},
        std::vector<const char*>{"job", "show", "j1", "--dir", "/nowhere/a"}}) {
    const Ran ran = run_words(words);
    EXPECT_EQ(ran.exit_code, kNotFound);
    EXPECT_NE(ran.err.find("no cluster here: /nowhere/a/cluster.toml does not exist"), std::string::npos) << ran.err;
  }
}

TEST(Help, EveryCommandHasAnExample) {
  App app;
  CLI::App root;
  build_tree(root, app);
  const std::function<void(const CLI::App&)> look = [&](const CLI::App& at) {
    EXPECT_NE(at.get_footer().find("Example:\n  "), std::string::npos) << at.get_name();
    EXPECT_FALSE(at.get_description().empty()) << at.get_name();
    for (const CLI::App* sub : at.get_subcommands([](const CLI::App*) { return true; })) look(*sub);
  };
  look(root);
}

TEST(Help, ExitsWithZeroOnStdout) {
  const Ran ran = run_words({"submit", "--help"});
  EXPECT_EQ(ran.exit_code, kDone);
  EXPECT_NE(ran.out.find("--weight"), std::string::npos);
  EXPECT_EQ(run_words({"--version"}).out, "idunno " IDUNNO_VERSION "\n");
}

TEST(Weights, AreThousandths) {
  EXPECT_EQ(parse_weight("1").value(), 1000U);
  EXPECT_EQ(parse_weight("0.5").value(), 500U);
  for (const char* text : {"", "0", "-1", "x", "1x", "1e9", "nan"}) EXPECT_FALSE(parse_weight(text).ok()) << text;
}

TEST(RateLimits, AreThousandthsOfQueriesASecond) {
  EXPECT_EQ(parse_rate_limit("100/s").value(), 100000U);
  EXPECT_EQ(parse_rate_limit("none").value(), 0U);
  for (const char* text : {"-5/s", "0/s", "fast"}) {
    auto limit = parse_rate_limit(text);
    ASSERT_FALSE(limit.ok()) << text;
    EXPECT_EQ(limit.error().code, Errc::invalid);
  }
}

TEST(Signals, AreTheFourThatMakeSense) {
  EXPECT_EQ(signal_by_name("KILL"), 9);
  EXPECT_EQ(signal_by_name("SIGTERM"), 15);
  EXPECT_EQ(signal_by_name("HUP"), 0);
  EXPECT_EQ(signal_by_name(""), 0);
}

}  // namespace
}  // namespace idunno::cli

#include "cli/completion.h"

#include <gtest/gtest.h>

#include "cli/process.h"
#include "cli/root.h"

namespace idunno::cli {
namespace {

class Completion : public ::testing::Test {
 protected:
  Completion() { build_tree(root_, app_); }
  App app_;
  CLI::App root_;
};

/// What bash would offer for the words typed so far.
std::string offered(const std::string& script, const std::string& words, int at) {
  const std::string program =
      script + "\nCOMP_WORDS=(" + words + "); COMP_CWORD=" + std::to_string(at) + "; _idunno; echo \"${COMPREPLY[*]}\"";
  auto ran = run_together({{"/bin/bash", "-c", program}});
  EXPECT_TRUE(ran.ok());
  if (!ran.ok()) return "";
  EXPECT_EQ(ran->front().exit_code, 0);
  return ran->front().out;
}

TEST_F(Completion, OfBashOffersSubcommandsAndOptions) {
  const std::string script = bash_completion(root_);
  EXPECT_EQ(offered(script, "idunno sub", 1), "submit\n");
  EXPECT_EQ(offered(script, "idunno job ver", 2), "verify\n");
  EXPECT_EQ(offered(script, "idunno submit --mod", 2), "--model\n");
  EXPECT_EQ(offered(script, "idunno --json job results --fol", 4), "--follow\n");
}

TEST_F(Completion, OfBashOffersGlobalOptionsEverywhere) {
  EXPECT_EQ(offered(bash_completion(root_), "idunno job list --time", 3), "--timeout\n");
}

TEST_F(Completion, OfZshAndFishNamesEveryCommand) {
  const std::string zsh = zsh_completion(root_);
  const std::string fish = fish_completion(root_);
  for (const char* name : {"submit", "kill-node", "stats", "watch", "job", "keys", "member"}) {
    EXPECT_NE(zsh.find(std::string("'") + name + ":"), std::string::npos) << name;
    EXPECT_NE(fish.find(std::string("-a ") + name + " "), std::string::npos) << name;
  }
}

TEST_F(Completion, ManPageEscapesWhatRoffWouldTakeAsACommand) {
  const std::string page = man_page(root_);
  EXPECT_EQ(page.compare(0, 4, ".TH "), 0);
  EXPECT_NE(page.find(".SS \"idunno job verify\""), std::string::npos);
  EXPECT_NE(page.find("\\-\\-timeout"), std::string::npos);
}

}  // namespace
}  // namespace idunno::cli

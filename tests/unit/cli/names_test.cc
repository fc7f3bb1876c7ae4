#include "cli/names.h"

#include <gtest/gtest.h>

#include "cli/app.h"

namespace idunno::cli {
namespace {

const std::vector<std::pair<JobId, std::string>> kJobs{
    {JobId{1}, "resnet18"}, {JobId{2}, "alexnet"}, {JobId{3}, "resnet50"}, {JobId{4}, "alexnet"}};

TEST(MatchJob, TakesIdsWithAndWithoutTheLetter) {
  EXPECT_EQ(match_job("j12", kJobs).value(), JobId{12});
  EXPECT_EQ(match_job("3", kJobs).value(), JobId{3});
}

TEST(MatchJob, TakesAUniqueNameOrPrefix) {
  EXPECT_EQ(match_job("resnet50", kJobs).value(), JobId{3});
  EXPECT_EQ(match_job("resnet1", kJobs).value(), JobId{1});
}

TEST(MatchJob, PrefersTheExactNameToAPrefix) {
  EXPECT_EQ(match_job("net", {{JobId{1}, "net2"}, {JobId{2}, "net"}}).value(), JobId{2});
}

TEST(MatchJob, RefusesWhatIsAmbiguous) {
  auto both = match_job("resnet", kJobs);
  ASSERT_FALSE(both.ok());
  EXPECT_EQ(both.error().code, Errc::invalid);
  EXPECT_NE(both.error().detail.find("j1 (resnet18)"), std::string::npos);
  EXPECT_FALSE(match_job("alexnet", kJobs).ok());
}

TEST(MatchJob, SaysWhatIsThereWhenNothingMatches) {
  auto none = match_job("vgg", kJobs);
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, Errc::not_found);
  EXPECT_NE(none.error().detail.find("resnet50"), std::string::npos);
  EXPECT_EQ(match_job("vgg", {}).error().code, Errc::not_found);
}

TEST(Numbered, RefusesWhatIsNoNumber) {
  EXPECT_EQ(numbered("n3", 'n'), 3U);
  EXPECT_EQ(numbered("3", 'n'), 3U);
  for (const char* text : {"", "n", "x3", "3x", "-3", "n-3", "99999999999999999999999"})
    EXPECT_EQ(numbered(text, 'n'), 0U) << text;
}

TEST(ParseNode, KnowsTheNodesOfTheConfiguration) {
  ClusterConfig config;
  config.file = "cluster.toml";
  config.nodes = {{NodeId{1}, "127.0.0.1", "", 7000, "n1"}, {NodeId{2}, "127.0.0.1", "", 7005, "n2"}};
  EXPECT_EQ(parse_node("n2", config).value(), NodeId{2});
  EXPECT_EQ(parse_node("1", config).value(), NodeId{1});
  EXPECT_EQ(parse_node("n3", config).error().code, Errc::not_found);
  EXPECT_NE(parse_node("n3", config).error().detail.find("n2 127.0.0.1:7005"), std::string::npos);
  EXPECT_EQ(parse_node("two", config).error().code, Errc::invalid);
  EXPECT_EQ(parse_node("n4294967297", config).error().code, Errc::invalid);  // would be 1 in 32 bits
}

}  // namespace
}  // namespace idunno::cli

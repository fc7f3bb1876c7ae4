#include "cli/batch_life.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

MergedLine logged(NodeId node, WallMs at, const std::string& text, NodeId kept_by = {}) {
  return {node, kept_by, {at, LogLevel::info, "2026-01-02T03:04:05.678Z info " + to_string(node) + " " + text}};
}

BatchStep step(WallMs at, std::uint32_t node, const std::string& what, std::uint64_t took_us = 0, std::uint32_t attempt = 0) {
  return {at, NodeId{node}, attempt, what, took_us, ""};
}

TEST(BatchLife, ReadsTheLinesOfItsLife) {
  const auto leased = step_of(logged(NodeId{1}, 5, "[j3/b17] event=batch_leased j3/b17 to n2, attempt 1"));
  ASSERT_TRUE(leased);
  EXPECT_EQ(leased->what, "leased");
  EXPECT_EQ(leased->node, NodeId{2});
  EXPECT_EQ(leased->attempt, 1U);
  EXPECT_EQ(leased->at_ms, 5U);
  const auto started = step_of(logged(NodeId{2}, 6, "[j3/b17] event=batch_started slot 0", NodeId{4}));
  ASSERT_TRUE(started);
  EXPECT_EQ(started->node, NodeId{2});
  EXPECT_NE(started->text.find("as n4 keeps it"), std::string::npos);
  const auto failed = step_of(logged(NodeId{1}, 6, "[j3/b17] event=batch_failed j3/b17 at n5: the executor died"));
  ASSERT_TRUE(failed);
  EXPECT_EQ(failed->node, NodeId{5});
  EXPECT_NE(failed->text.find("the executor died"), std::string::npos);
  EXPECT_FALSE(step_of(logged(NodeId{1}, 6, "[j3] event=job_done j3")));
  EXPECT_FALSE(step_of(logged(NodeId{1}, 6, "event=batch_leased without a name")));
}

TEST(BatchLife, LogsAddOnlyWhatNobodyRemembers) {
  const std::vector<BatchStep> remembered{step(2000, 2, "started"), step(2100, 2, "inferred", 90'000)};
  const std::vector<BatchStep> logged{step(1000, 2, "leased"), step(2001, 2, "started"), step(9000, 2, "started")};
  const auto life = whole_life(remembered, logged);
  ASSERT_EQ(life.size(), 4U);
  EXPECT_EQ(life[0].what, "leased");
  EXPECT_EQ(life[1].at_ms, 2000U);
  EXPECT_EQ(life[3].at_ms, 9000U);
}

TEST(BatchLife, IsToldInOneLine) {
  EXPECT_EQ(life_text({}), "nothing is known of it (any more)");
  EXPECT_EQ(life_text({step(1000, 2, "leased"), step(1100, 2, "started")}),
            "not committed; the last that is known: started at n2, leased once");
  const std::string text =
      life_text({step(1000, 2, "leased"), step(1100, 2, "lost"), step(1200, 3, "leased"), step(1500, 3, "committed")});
  EXPECT_EQ(text.substr(0, 16), "committed by n3 ");
  EXPECT_NE(text.find("500"), std::string::npos);
  EXPECT_NE(text.find("leased 2 times"), std::string::npos);
}

TEST(BatchLife, BarsShowWhenAndHowLong) {
  const auto bars = life_bars({step(1000, 1, "leased"), step(1500, 2, "inferred", 500'000), step(2000, 2, "stored", 250'000)}, 9);
  ASSERT_EQ(bars.size(), 3U);
  EXPECT_EQ(bars[0], "|        ");
  EXPECT_EQ(bars[1], "=====    ");
  EXPECT_EQ(bars[2], "      ===");
  EXPECT_EQ(life_bars({step(1000, 1, "leased")}, 4), (std::vector<std::string>{"|   "}));
  EXPECT_TRUE(life_bars({}, 4).empty());
}

}  // namespace
}  // namespace idunno::cli

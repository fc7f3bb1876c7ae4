#include "cli/stats_history.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

HistorySample sample(WallMs at, std::vector<std::pair<std::string, std::uint64_t>> rates, const std::string& coordinator = "n1") {
  HistorySample out;
  out.at_ms = at;
  out.coordinator = coordinator;
  for (const auto& [id, rate] : rates) {
    HistoryJob job;
    job.id = id;
    job.name = "name-" + id;
    job.state = "running";
    job.rate_milli_qps = rate;
    job.latency = {10, 1000, 0, 1000, 2000, 3000, 4000};
    out.jobs.push_back(job);
  }
  HistoryNode node;
  node.id = "n1";
  node.state = "alive";
  node.cpu_milli = 1500;
  out.nodes.push_back(node);
  return out;
}

std::string printed(const Listing& listing, Format format) {
  Globals globals;
  globals.format = format;
  ::testing::internal::CaptureStdout();
  listing.print(globals);
  std::fflush(stdout);
  return ::testing::internal::GetCapturedStdout();
}

TEST(HistoryLines, OlderOnesAreLeftOutAndDamagedOnesCounted) {
  History history;
  add_lines(history_line(sample(1000, {})) + "not a sample\n" + history_line(sample(3000, {})), 2000, history);
  ASSERT_EQ(history.samples.size(), 1U);
  EXPECT_EQ(history.samples[0].at_ms, 3000U);
  EXPECT_EQ(history.damaged, 1U);
}

TEST(Sparkline, ShowsTheShapeInItsWidth) {
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8, true), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline({0, 1, 2, 3, 4, 5, 6, 7}, 8, false), " .:-=+*#");
  EXPECT_EQ(sparkline({0, 0, 8, 8}, 2, false), " #") << "neighbours are averaged";
  EXPECT_EQ(sparkline({0, 0}, 8, false), "  ");
  EXPECT_EQ(sparkline({}, 8, true), "");
  EXPECT_EQ(sparkline(std::vector<double>(1000, 3.0), 40, false).size(), 40U);
}

TEST(HistoryRows, AreOneAJobAndSample) {
  History history;
  history.samples = {sample(1'000'000, {{"j1", 5000}, {"j2", 7000}}), sample(1'010'000, {{"j2", 8000}}, "n2")};
  const Json all = Json::parse(printed(history_rows(history, {}, false), Format::json));
  ASSERT_EQ(all["samples"].size(), 3U);
  EXPECT_EQ(all["schema"], "idunno.stats_history.v1");
  EXPECT_EQ(all["samples"][2]["id"], "j2");
  EXPECT_EQ(all["samples"][2]["rate_qps"], 8.0);
  EXPECT_EQ(all["samples"][2]["window_p99_ms"], 4.0);
  EXPECT_EQ(all["samples"][2]["coordinator"], "n2");
  EXPECT_TRUE(all["samples"][2]["max_min_ratio"].is_null());
  EXPECT_EQ(Json::parse(printed(history_rows(history, {"j1"}, false), Format::json))["samples"].size(), 1U);
  const Json nodes = Json::parse(printed(history_rows(history, {}, true), Format::json));
  ASSERT_EQ(nodes["samples"].size(), 2U);
  EXPECT_EQ(nodes["samples"][0]["cpu_cores"], 1.5);
  const std::string csv = printed(history_rows(history, {}, false), Format::csv);
  EXPECT_TRUE(csv.starts_with("at,id,name,model,state,done,errors,rate_qps,")) << csv;
}

TEST(HistorySummary, HasACurveAJobInTheOrderOfTheirNumbers) {
  History history;
  for (WallMs i = 0; i < 8; ++i) history.samples.push_back(sample(1'000'000 + i * 10'000, {{"j10", i * 1000}, {"j9", 4000}}));
  const std::string text = printed(history_summary(history, {}, false, false), Format::table);
  EXPECT_LT(text.find("j9"), text.find("j10")) << text;
  EXPECT_NE(text.find(" .:-=+*#"), std::string::npos) << text;
  EXPECT_NE(text.find("8 samples"), std::string::npos) << text;
  EXPECT_NE(printed(history_summary({}, {}, false, false), Format::table).find("no samples"), std::string::npos);
  EXPECT_NE(printed(history_summary(history, {}, true, false), Format::table).find("1.50"), std::string::npos);
}

}  // namespace
}  // namespace idunno::cli

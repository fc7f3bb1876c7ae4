#include "cli/failover_rounds.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

TEST(FailoverSummary, OfManyValues) {
  std::vector<double> values;
  for (int i = 200; i >= 1; --i) values.push_back(i);
  const Summary summary = summary_of(values);
  EXPECT_EQ(summary.count, 200U);
  EXPECT_DOUBLE_EQ(summary.mean, 100.5);
  EXPECT_NEAR(summary.sd, 57.879, 0.001);
  EXPECT_DOUBLE_EQ(summary.min, 1);
  EXPECT_DOUBLE_EQ(summary.median, 100.5);
  EXPECT_DOUBLE_EQ(summary.p99, 198);
  EXPECT_DOUBLE_EQ(summary.max, 200);
}

TEST(FailoverSummary, OfOneAndNone) {
  EXPECT_EQ(summary_of({}).count, 0U);
  const Summary one = summary_of({7});
  EXPECT_DOUBLE_EQ(one.sd, 0);
  EXPECT_DOUBLE_EQ(one.p99, 7);
}

FailoverRound round_of(const std::string& target, double detected) {
  FailoverRound round;
  round.target = target;
  round.signal = "KILL";
  if (detected >= 0) round.figures["detected_ms"] = detected;
  round.rates = {10, 20};
  return round;
}

TEST(FailoverTable, CountsRoundsThatMissedAFigure) {
  Globals globals;
  globals.format = Format::json;
  ::testing::internal::CaptureStdout();
  EXPECT_TRUE(
      failover_table({round_of("worker", 100), round_of("worker", 300), round_of("worker", -1)}).finish(globals, "").ok());
  std::fflush(stdout);
  const Json json = Json::parse(::testing::internal::GetCapturedStdout());
  const Json& row = json["rows"][0];
  EXPECT_EQ(row["figure"], "detected_ms");
  EXPECT_EQ(row["rounds"], 3);
  EXPECT_EQ(row["missed"], 1);
  EXPECT_EQ(row["mean"], 200.0);
  EXPECT_EQ(json["rows"][1]["missed"], 3);
  EXPECT_TRUE(json["rows"][1]["mean"].is_null()) << "nothing measured, nothing told";
  for (const Json& other : json["rows"]) EXPECT_NE(other["figure"], "takeover_ms") << "a worker is no coordinator";
}

TEST(FailoverPlot, HasACurveForEachKindAndQuotesTheFile) {
  const std::string program =
      failover_plot({round_of("worker", 1), round_of("coordinator", 1), round_of("coordinator", 1)}, "it's.svg");
  EXPECT_NE(program.find("set output 'it''s.svg'"), std::string::npos) << program;
  EXPECT_NE(program.find("SIGKILL to the coordinator (mean of 2 rounds)"), std::string::npos);
  EXPECT_NE(program.find("SIGKILL to the worker (mean of 1 rounds)"), std::string::npos);
  EXPECT_NE(program.find("-1.875 10.000\n-1.625 20.000\n"), std::string::npos);
}

}  // namespace
}  // namespace idunno::cli

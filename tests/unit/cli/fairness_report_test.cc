#include "cli/fairness_report.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

JobReport job(std::uint64_t id, JobState state, std::uint64_t rate_milli, std::uint32_t weight_milli) {
  JobReport out;
  out.id = JobId{id};
  out.spec.name = "job";
  out.state = state;
  out.rate_milli_qps = rate_milli;
  out.spec.weight_milli = weight_milli;
  return out;
}

FairnessReport report() {
  FairnessReport fairness;
  fairness.jobs = 2;
  fairness.max_min_milli = 1080;
  fairness.windows = 200;
  fairness.in5_windows = 150;
  fairness.in10_windows = 190;
  fairness.in20_windows = 198;
  fairness.worst_max_min_milli = 1430;
  fairness.worst_at_ms = 1'700'000'000'000;
  fairness.worst_cause = "n3 died";
  return fairness;
}

TEST(Shares, AreRatesByWeightAgainstTheirMean) {
  const auto out = shares({job(1, JobState::running, 90'000, 3000), job(2, JobState::running, 20'000, 1000)});
  ASSERT_EQ(out.size(), 2U);
  EXPECT_DOUBLE_EQ(out[0]->per_weight_qps, 30);
  EXPECT_DOUBLE_EQ(out[1]->per_weight_qps, 20);
  EXPECT_DOUBLE_EQ(out[0]->from_mean_pct, 20);
  EXPECT_DOUBLE_EQ(out[1]->from_mean_pct, -20);
}

TEST(Shares, OfJobsThatDoNotRunAreNone) {
  const auto out = shares({job(1, JobState::done, 90'000, 1000), job(2, JobState::running, 0, 1000),
                           job(3, JobState::paused, 5, 1000), job(4, JobState::running, 7000, 1000)});
  EXPECT_FALSE(out[0] || out[1] || out[2]);
  ASSERT_TRUE(out[3].has_value());
  EXPECT_DOUBLE_EQ(out[3]->from_mean_pct, 0);
  EXPECT_TRUE(shares({}).empty());
}

TEST(DeviationBar, GrowsFromTheMiddleAndStaysInItsWidth) {
  EXPECT_EQ(deviation_bar(0, 11), "     |     ");
  EXPECT_EQ(deviation_bar(10, 11), "     |==   ");
  EXPECT_EQ(deviation_bar(-25, 11), "=====|     ");
  EXPECT_EQ(deviation_bar(-1000, 11), "=====|     ");
  EXPECT_EQ(deviation_bar(1000, 0), " |=") << "three columns at least";
}

TEST(FairnessText, NamesSharesOfWindowsAndTheWorst) {
  EXPECT_EQ(fairness_text(FairnessReport{}), "");
  EXPECT_EQ(worst_text(FairnessReport{}), "");
  const std::string text = fairness_text(report());
  EXPECT_NE(text.find("1.080 now (2 jobs)"), std::string::npos) << text;
  EXPECT_NE(text.find("within 5 % in 75 %, 10 % in 95 %, 20 % in 99 % of 200 windows"), std::string::npos) << text;
  EXPECT_EQ(worst_text(report()), "worst window: 1.430, ended 2023-11-14T22:13:20.000Z: n3 died");
}

TEST(FairnessJson, HasTheFieldsThatScriptsReadAndNoNumberWithoutAMeasurement) {
  const Json json = fairness_json(report());
  EXPECT_EQ(json["max_min_ratio"], 1.08);
  EXPECT_EQ(json["in5_pct"], 75);
  EXPECT_EQ(json["in10_pct"], 95);
  EXPECT_EQ(json["in20_pct"], 99);
  EXPECT_EQ(json["worst_max_min_ratio"], 1.43);
  EXPECT_EQ(json["worst_cause"], "n3 died");
  const Json nothing = fairness_json(FairnessReport{});
  for (const auto& [name, value] : nothing.items()) {
    EXPECT_TRUE(value.is_null() || value == 0) << name;
  }
}

TEST(Unfair, JudgesThePresentRatioElseTheLast) {
  EXPECT_FALSE(unfair(report(), 10).has_value());
  EXPECT_FALSE(unfair(report(), 8).has_value()) << "the bound itself is within it";
  EXPECT_NE(unfair(report(), 5).value_or("").find("1.080, more than 1.050"), std::string::npos);
  FairnessReport over = report();
  over.max_min_milli = 0;
  over.last_max_min_milli = 1300;
  EXPECT_TRUE(unfair(over, 10).has_value());
  EXPECT_FALSE(unfair(over, 30).has_value());
  EXPECT_NE(unfair(FairnessReport{}, 10).value_or("").find("nothing to compare"), std::string::npos);
}

TEST(FairnessListing, HasARowAJobAndTheWorstWindowBelow) {
  JobReportsReply reports;
  reports.jobs = {job(1, JobState::running, 90'000, 3000), job(2, JobState::running, 20'000, 1000),
                  job(3, JobState::done, 0, 1000)};
  reports.fairness = report();
  ::testing::internal::CaptureStdout();
  fairness_listing(reports).print(Globals{});
  std::fflush(stdout);
  const std::string text = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(text.find("+20.0 %"), std::string::npos) << text;
  EXPECT_NE(text.find("-20.0 %"), std::string::npos) << text;
  EXPECT_NE(text.find("|========"), std::string::npos) << text;
  EXPECT_NE(text.find("n3 died"), std::string::npos) << text;
}

}  // namespace
}  // namespace idunno::cli

#include <gtest/gtest.h>

#include "cli/text.h"

namespace idunno::cli {
namespace {

ProgressState half_done() {
  ProgressState state;
  state.what = "j1 resnet18";
  state.unit = "queries";
  state.done = 50;
  state.total = 100;
  state.rate = 10;
  return state;
}

TEST(Eta, IsToldInTheTwoLargestUnits) {
  EXPECT_EQ(eta_text(0), "0 s");
  EXPECT_EQ(eta_text(59.4), "59 s");
  EXPECT_EQ(eta_text(200), "3 m 20 s");
  EXPECT_EQ(eta_text(7500), "2 h 5 m");
  EXPECT_EQ(eta_text(90000), "1 d 1 h");
  EXPECT_EQ(eta_text(-1), "-");
}

TEST(Bar, FillsWithTheFractionAndKeepsItsWidth) {
  EXPECT_EQ(bar_text(0, 12), "[>         ]");
  EXPECT_EQ(bar_text(0.5, 12), "[=====>    ]");
  EXPECT_EQ(bar_text(1, 12), "[==========]");
  EXPECT_EQ(bar_text(7, 12), "[==========]");
  EXPECT_EQ(bar_text(0.5, 2), "");
}

TEST(Progress, TellsDoneRateAndEta) {
  EXPECT_EQ(progress_text(half_done(), 0), "j1 resnet18   50%  50/100 queries  10.0/s  ETA 5 s");
}

TEST(Progress, DrawsABarWhereThereIsRoom) {
  const std::string line = progress_text(half_done(), 100);
  EXPECT_NE(line.find("[======"), std::string::npos);
  EXPECT_LE(line.size(), 100U);
  EXPECT_EQ(progress_text(half_done(), 60).find('['), std::string::npos);
}

TEST(Progress, IsNeverWiderThanTheTerminal) {
  for (std::size_t width = 1; width < 120; ++width) EXPECT_LE(progress_text(half_done(), width).size(), width);
}

TEST(Progress, AtTheEndTellsHowLongItTook) {
  ProgressState state = half_done();
  state.done = 100;
  state.elapsed = std::chrono::seconds(10);
  EXPECT_EQ(progress_text(state, 0), "j1 resnet18  100%  100/100 queries  10.0/s  in 10 s");
}

TEST(Progress, OfAnUnknownTotalIsACount) {
  ProgressState state = half_done();
  state.total = 0;
  EXPECT_EQ(progress_text(state, 80), "j1 resnet18  50 queries  10.0/s");
}

}  // namespace
}  // namespace idunno::cli

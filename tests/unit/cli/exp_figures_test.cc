// From events to figures: recordings made by hand.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cli/experiments/figures.h"
#include "cli/experiments/recording.h"

namespace idunno::cli {
namespace {

using namespace std::chrono_literals;

constexpr WallMs kZero = 1'000'000;

/// Events as the nodes publish them, at seconds of the script; they arrive at once.
class Story {
 public:
  Story() { recorder.start_clock(at(0), kZero); }
  static Time at(double s) { return Time{} + 1000s + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }
  static WallMs wall(double s) { return kZero + static_cast<WallMs>(std::llround(s * 1000)); }

  void job(std::uint64_t id, const std::string& name, std::uint32_t batch, double accepted_s, double weight = 1) {
    JobReport report;
    report.id = JobId{id};
    report.spec.batch = batch;
    report.spec.queries = 1'000'000;
    report.submitted_ms = wall(accepted_s);
    recorder.watch_job(report, name, weight, wall(accepted_s) - 100);
  }
  void tell(double s, std::uint32_t node, const std::string& type, std::uint64_t job, std::int64_t batch, const std::string& text,
            const std::vector<std::uint16_t>& done_milli = {}) {
    EventNotice notice;
    notice.sequence = ++sequences_[node];
    notice.event = Event{wall(s), NodeId{node}, type, JobId{job}, batch, text, done_milli};
    recorder.notice(at(s), notice);
  }
  void batch(std::uint64_t job, std::int64_t number, std::uint32_t node, double started_s, double committed_s,
             const std::vector<std::uint16_t>& done_milli = {}) {
    const std::string name = "j" + std::to_string(job) + "/b" + std::to_string(number);
    tell(started_s, 1, "batch_leased", job, number, name + " to n" + std::to_string(node));
    tell(started_s, node, "batch_started", job, number, "slot 0");
    tell(committed_s, 1, "batch_committed", job, number, name + " by n" + std::to_string(node), done_milli);
  }
  /// Batches one after the other from `from` to `to`.
  void stream(std::uint64_t job, std::uint32_t node, double from, double to, double each, std::int64_t first = 0) {
    for (double s = from; s + each <= to + 1e-9; s += each) batch(job, first++, node, s, s + each);
  }

  Recorder recorder;

 private:
  std::map<std::uint32_t, std::uint64_t> sequences_;
};

TEST(ExpRecording, CountsWorkWhereItWasDone) {
  Story story;
  story.job(1, "a", 10, -5);
  story.batch(1, 0, 2, 1, 3);
  const Recording recording = story.recorder.finish(Story::wall(10));
  ASSERT_EQ(recording.batches.size(), 1U);
  EXPECT_EQ(recording.batches[0].node, NodeId{2});
  EXPECT_NEAR(recording.batches[0].took_s(), 2, 1e-9);
  EXPECT_NEAR(recording.processed_rate(0, 2, 3), 5, 1e-9) << "half of the batch in one second";
  EXPECT_NEAR(recording.processed_rate(0, 4, 5), 0, 1e-9);
  EXPECT_NEAR(recording.committed_rate(0, 2.5, 3.5), 10, 1e-9);
  EXPECT_NEAR(recording.machines(0, 0, 4), 0.5, 1e-9);
}

TEST(ExpRecording, CountsWorkAsUnevenlyAsItWasDone) {
  Story story;
  story.job(1, "a", 10, -5);
  story.batch(1, 0, 2, 1, 5, {700, 800, 900});  // after 1, 2 and 3 of 4 s
  const Recording recording = story.recorder.finish(Story::wall(10));
  EXPECT_NEAR(recording.processed_rate(0, 1, 2), 7, 1e-6);
  EXPECT_NEAR(recording.processed_rate(0, 1.5, 2), 7, 1e-6);
  EXPECT_NEAR(recording.processed_rate(0, 2, 5), 1, 1e-6);
  EXPECT_NEAR(recording.processed_rate(0, 0, 10), 1, 1e-6) << "all of it, once";
}

TEST(ExpRecording, TakesTheStartOfTheNodeThatCommitted) {
  Story story;
  story.job(1, "a", 10, -5);
  story.tell(0, 1, "batch_leased", 1, 0, "j1/b0 to n2");
  story.tell(0, 2, "batch_started", 1, 0, "slot 0");
  story.tell(5, 1, "batch_leased", 1, 0, "j1/b0 to n3, attempt 1");
  story.tell(5, 3, "batch_started", 1, 0, "slot 0");
  story.tell(6, 1, "batch_committed", 1, 0, "j1/b0 by n3");
  const Recording recording = story.recorder.finish(Story::wall(10));
  ASSERT_EQ(recording.batches.size(), 1U);
  EXPECT_NEAR(recording.batches[0].took_s(), 1, 1e-9) << "n2 died with it; that is no processing time";
}

TEST(ExpRecording, KeepsWhatCameBeforeTheAnswerToTheSubmit) {
  Story story;
  story.batch(1, 0, 2, 1, 2);
  story.job(1, "a", 10, 0.9);
  const Recording recording = story.recorder.finish(Story::wall(10));
  EXPECT_EQ(recording.batches.size(), 1U);
  ASSERT_TRUE(recording.jobs[0].started_s.has_value());
  EXPECT_NEAR(*recording.jobs[0].started_s, 1, 1e-9);
}

TEST(ExpRecording, LatencyIsWeightedByQueriesAndRankedNearest) {
  Story story;
  story.job(1, "a", 10, -5);
  for (int i = 0; i < 99; ++i) story.batch(1, i, 2, i * 0.1, i * 0.1 + 0.1);
  story.batch(1, 99, 2, 9.9, 10.9);
  const Recording recording = story.recorder.finish(Story::wall(11));
  const LatencyPoint point = recording.latency(std::nullopt, -1, 11);
  EXPECT_EQ(point.queries, 1000U);
  EXPECT_NEAR(point.mean_ms, 109, 1e-6);
  EXPECT_NEAR(point.median_ms, 100, 1e-6);
  EXPECT_NEAR(point.p99_ms, 100, 1e-6);
  EXPECT_NEAR(point.sd_ms, 89.6, 0.1);
  EXPECT_EQ(recording.latency(std::nullopt, 20, 30).queries, 0U);
}

TEST(ExpFairness, JudgesWindowsByRateOverWeight) {
  Story story;
  story.job(1, "heavy", 30, -5, 3);
  story.job(2, "light", 10, -5, 1);
  story.stream(1, 2, -5, 60, 1);
  story.stream(2, 3, -5, 60, 1);
  const Recording recording = story.recorder.finish(Story::wall(60));
  const auto windows = recording.fair_windows(0, 60);
  ASSERT_GE(windows.size(), 45U);
  for (const FairWindow& window : windows) EXPECT_NEAR(window.ratio, 1, 1e-6);
}

TEST(ExpFairness, SeesAJobThatStandsStillAndNotOneThatHasNotBegun) {
  Story story;
  story.job(1, "a", 10, -5);
  story.job(2, "b", 10, -5);
  story.job(3, "late", 10, 30);
  story.stream(1, 2, -5, 60, 1);
  story.stream(2, 3, -5, 20, 1);
  story.stream(2, 3, 40, 60, 1, 100);
  story.stream(3, 4, 50, 60, 1);
  const Recording recording = story.recorder.finish(Story::wall(60));
  const auto windows = recording.fair_windows(0, 60);
  ASSERT_FALSE(windows.empty());
  EXPECT_NEAR(windows.front().ratio, 1, 1e-6);
  const auto worst = std::max_element(windows.begin(), windows.end(),
                                      [](const FairWindow& one, const FairWindow& other) { return one.ratio < other.ratio; });
  EXPECT_GT(worst->ratio, 10);
  EXPECT_NEAR(worst->end_s, 30, 0.5) << "the window in which b did nothing";
}

TEST(ExpFigures, CountsWindowsInsideFiveAndTenPerCent) {
  Story story;
  story.job(1, "a", 100, -5);
  story.job(2, "b", 107, -5);
  story.stream(1, 2, -5, 60, 1);
  story.stream(2, 3, -5, 60, 1);
  const Figures figures = figures_of(Measure::fairness, {}, story.recorder.finish(Story::wall(60)), {});
  EXPECT_EQ(figures.at("in5_pct"), 0);
  EXPECT_EQ(figures.at("in10_pct"), 100);
  EXPECT_NEAR(figures.at("worst_ratio"), 1.07, 1e-6);
  EXPECT_EQ(figures.count("in10_after_pct"), 0U) << "nothing failed";
}

TEST(ExpFigures, SecondJobStartsFromItsAcceptance) {
  Story story;
  story.job(1, "first", 10, -20);
  story.stream(1, 2, -10, 40, 1);
  story.job(2, "second", 10, 5);
  story.stream(2, 3, 5.4, 40, 1);
  ExpCase one;
  const Figures figures = figures_of(Measure::second_job, one, story.recorder.finish(Story::wall(40)), {});
  EXPECT_NEAR(figures.at("start_s"), 0.4, 1e-6);
  EXPECT_NEAR(figures.at("command_s"), 0.5, 1e-6);
  EXPECT_NEAR(figures.at("start_batches"), 0.4, 1e-6);
  EXPECT_NEAR(figures.at("first_result_s"), 1.4, 1e-6);
  EXPECT_NEAR(figures.at("rate_ratio"), 1, 0.02);
  EXPECT_NEAR(figures.at("machine_ratio"), 1, 0.02);
}

TEST(ExpFigures, ASecondJobThatNeverStartsHasNoFigure) {
  Story story;
  story.job(1, "first", 10, -20);
  story.stream(1, 2, -10, 40, 1);
  story.job(2, "second", 10, 5);
  const Figures figures = figures_of(Measure::second_job, {}, story.recorder.finish(Story::wall(40)), {});
  EXPECT_EQ(figures.count("start_s"), 0U);
}

TEST(ExpFigures, AFailureIsMeasuredFromTheSignal) {
  Story story;
  story.job(1, "a", 10, -20);
  // n2 and n3 do ten batches a second together, until n3 dies at 10 s and n2 does all from 11 s on.
  for (int i = 0; i < 100; ++i) {
    story.stream(1, 2, -10 + 0.2 * i, -9.8 + 0.2 * i, 0.2, i);
    story.stream(1, 3, -10 + 0.2 * i, -9.8 + 0.2 * i, 0.2, 10'000 + i);
  }
  story.tell(9.99, 1, "batch_leased", 1, 50'000, "j1/b50000 to n3");
  story.recorder.killed(Story::at(10), Story::wall(10), {"worker", {NodeId{3}}, false, 1.0, 30});
  story.tell(10.3, 1, "node_dead", 0, -1, "n3: its connection closed");
  story.tell(10.4, 1, "batch_leased", 1, 50'000, "j1/b50000 to n2, attempt 1");
  story.stream(1, 2, 11, 40, 0.1, 20'000);
  RoundFacts facts;
  facts.lost_queries["worker"] = 0;
  EXPECT_TRUE(story.recorder.settled(Story::at(40)));
  const Figures figures = figures_of(Measure::failure, {}, story.recorder.finish(Story::wall(40)), facts);
  EXPECT_NEAR(figures.at("detected_ms"), 300, 1);
  EXPECT_NEAR(figures.at("reassigned_ms"), 400, 1);
  EXPECT_GT(figures.at("normal_s"), 0.4);
  EXPECT_LT(figures.at("normal_s"), 1.5);
  EXPECT_EQ(figures.at("lost_queries"), 0);
  EXPECT_EQ(figures.at("repeated_batches"), 1);
  EXPECT_NEAR(figures.at("gap_s"), 1.1, 0.02);
  EXPECT_EQ(figures.count("takeover_ms"), 0U) << "a worker is no coordinator";
}

TEST(ExpFigures, ADeathThatNoEventToldIsTakenFromTheStatistics) {
  Story story;
  story.job(1, "a", 10, -20);
  story.stream(1, 2, -10, 10, 0.1);
  story.recorder.killed(Story::at(10), Story::wall(10), {"both", {NodeId{3}, NodeId{4}}, false, 1.0, 30});
  story.tell(10.2, 1, "node_dead", 0, -1, "n3: its connection closed");
  story.recorder.seen_dead(Story::at(10.9), NodeId{3});
  EXPECT_FALSE(story.recorder.settled(Story::at(11)));
  story.recorder.seen_dead(Story::at(10.9), NodeId{4});
  story.stream(1, 2, 10, 40, 0.1, 1000);
  EXPECT_TRUE(story.recorder.settled(Story::at(40)));
  const Figures figures = figures_of(Measure::failure, {}, story.recorder.finish(Story::wall(40)), {});
  EXPECT_NEAR(figures.at("detected_ms"), 900, 1) << "of the last one";
}

TEST(ExpFigures, SeveralFailuresHaveTheirNamesBeforeTheirFigures) {
  EXPECT_EQ(prefix_of("worker", 1), "");
  EXPECT_EQ(prefix_of("n3+worker", 2), "n3_worker_");
  EXPECT_EQ(figure_text("worker_normal_s").what.rfind("worker: ", 0), 0U);
  EXPECT_EQ(figure_text("in5_after_pct").what.rfind("share", 0), 0U) << "not 'pct' with a prefix";
  EXPECT_EQ(figure_text("never_heard_of").what, "never_heard_of");
  const auto order = in_table_order({"p99_ms", "mean_ms", "worker_normal_s", "worker_detected_ms"});
  EXPECT_EQ(order, (std::vector<std::string>{"mean_ms", "p99_ms", "worker_detected_ms", "worker_normal_s"}));
}

TEST(ExpFigures, ScalingComparesWithOneWorkerOfTheSameGroup) {
  std::vector<CaseFigures> cases{
      {"a", 1, {{{"rate_qps", 40}}, {{"rate_qps", 60}}}}, {"a", 4, {{{"rate_qps", 190}}}}, {"b", 4, {{{"rate_qps", 100}}}}};
  add_figures_across(Measure::scaling, cases);
  EXPECT_NEAR(cases[1].rounds[0].at("workers_ratio"), 0.95, 1e-9);
  EXPECT_EQ(cases[2].rounds[0].count("workers_ratio"), 0U) << "nothing to compare with";
}

TEST(ExpFigures, UtilisationIsKnownOnlyWhereTheServiceTimeIs) {
  Story story;
  story.job(1, "known", 10, -20);
  story.stream(1, 2, -5, 40, 1);
  ExpCase one;
  one.nodes = 2;
  RoundFacts facts;
  facts.services_s = {0.1};
  const Recording recording = story.recorder.finish(Story::wall(40));
  EXPECT_NEAR(figures_of(Measure::scaling, one, recording, facts).at("utilisation_pct"), 50, 0.5);
  facts.services_s = {0};
  EXPECT_EQ(figures_of(Measure::scaling, one, recording, facts).count("utilisation_pct"), 0U);
}

// Kleinrock: the knee is where a line from the origin touches the curve.
TEST(ExpCurve, TheKneeHasTheMostThroughputPerLatency) {
  const std::vector<CurvePoint> points{{10, 100}, {20, 105}, {30, 120}, {38, 180}, {40, 600}};
  EXPECT_EQ(knee_of(points), 2U);
  EXPECT_EQ(knee_of({}), 0U);
  EXPECT_EQ(knee_of({{10, 0}, {5, 1}}), 1U) << "no latency, nothing measured";
}

TEST(ExpCurve, WaitingForALeaseCounts) {
  Story story;
  story.job(1, "a", 10, -20);
  // 10 queries/s are offered; the cluster does a batch in 2 s: half of that.
  for (int i = 0; i < 20; ++i) story.batch(1, i, 2, i * 2.0, i * 2.0 + 2);
  const Recording recording = story.recorder.finish(Story::wall(40));
  EXPECT_NEAR(recording.latency(0, 0, 40).mean_ms, 2000, 1e-6);
  const LatencyPoint due = due_latency(recording, 0, 10, 0, 40);
  EXPECT_EQ(due.queries, 200U);
  EXPECT_NEAR(due.median_ms, 11000, 1100) << "the tenth batch was due at 9 s and committed at 20 s";
}

}  // namespace
}  // namespace idunno::cli

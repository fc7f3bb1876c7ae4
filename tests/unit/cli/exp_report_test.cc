// What is made of the results: result.json, the table, plots as gnuplot programs, the HTML page.

#include <gtest/gtest.h>

#include <cmath>

#include "cli/experiments/plots.h"
#include "cli/experiments/report.h"
#include "cli/experiments/result.h"
#include "cli/gnuplot.h"

namespace idunno::cli {
namespace {

Experiment small_experiment() {
  const auto parsed = Experiment::parse(R"(
name = "small"
title = "A <small> & \"quoted\" one"
text = "what it does"
measure = "scaling"
[[model]]
name = "known"
service = "20ms"
[[job]]
model = "known"
[sweep]
workers = [1, 2]
[[wanted]]
figure = "workers_ratio"
min = 0.97
[[wanted]]
figure = "p99_ms"
of = "max"
max = 10
cases = ["2 workers"]
)",
                                        "x.toml");
  EXPECT_TRUE(parsed.ok());
  return *parsed;
}

RunResult result_of(const ExpPlan& plan, double second_rate) {
  RunResult result;
  result.started = 1'000'000;
  result.finished = 2'000'000;
  for (const ExpCase& one : plan.cases) {
    CaseResult& played = result.cases.emplace_back(CaseResult{one, {}});
    for (const double more : {-1.0, 1.0}) {
      RoundResult round;
      round.figures["rate_qps"] = (one.nodes == 1 ? 50 : second_rate) + more;
      round.figures["workers_ratio"] = (one.nodes == 1 ? 50 : second_rate) / (50.0 * one.nodes);
      if (more > 0) round.figures["p99_ms"] = 7;
      played.rounds.push_back(round);
    }
  }
  return result;
}

Systems systems() {
  auto parsed = Systems::parse(
      "[[system]]\nid = \"A\"\nname = \"another one\"\n[[figure]]\nsystem = \"A\"\nexperiment = \"small\"\nfigure = "
      "\"rate_qps\"\n"
      "mean = 70\nsd = 3\ntext = \"70 (sd 3)\"\n",
      "s.toml");
  EXPECT_TRUE(parsed.ok());
  return *parsed;
}

struct Made {
  Experiment experiment = small_experiment();
  ExpPlan plan = *make_plan(experiment, {});
  RunResult played;
  Json json;
  explicit Made(double second_rate = 99) : played(result_of(plan, second_rate)) {
    json = result_json(experiment, plan, played, systems(), 1, "idunno exp run small", Json{{"cpu", "a & b"}});
  }
};

TEST(ExpResult, HasMeanAndSpreadOverTheRounds) {
  const Made made;
  const Json& rate = made.json["cases"][0]["figures"]["rate_qps"];
  EXPECT_EQ(rate["mean"], 50.0);
  EXPECT_NEAR(rate["sd"].get<double>(), 1.414, 0.001);
  EXPECT_EQ(rate["min"], 49.0);
  EXPECT_EQ(rate["max"], 51.0);
  EXPECT_EQ(rate["rounds"], 2);
  EXPECT_EQ(made.json["cases"][0]["figures"]["p99_ms"]["measured"], 1);
  EXPECT_EQ(made.json["beside"][0]["text"], "70 (sd 3)");
  EXPECT_NE(made.json["engine"].get<std::string>().find("no real inference"), std::string::npos);
}

TEST(ExpResult, JudgesWhatIsWanted) {
  const Made good;
  EXPECT_EQ(wanted_missed(good.json), 1U) << "p99_ms was not measured in every round";
  const Made bad(80);
  EXPECT_EQ(wanted_missed(bad.json), 2U);
  const auto lines = wanted_lines(bad.json, true);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].find("2 workers: mean workers_ratio 0.800, wanted at least 0.970"), std::string::npos) << lines[0];
}

TEST(ExpResult, TableHasTheOtherSystemsBesideOurs) {
  const Made made;
  Globals globals;
  ::testing::internal::CaptureStdout();
  result_listing(made.json).print(globals);
  std::fflush(stdout);
  const std::string table = ::testing::internal::GetCapturedStdout();
  EXPECT_NE(table.find("70 (sd 3)"), std::string::npos) << table;
  EXPECT_NE(table.find("2 workers"), std::string::npos);
  globals.format = Format::json;
  ::testing::internal::CaptureStdout();
  result_listing(made.json).print(globals);
  std::fflush(stdout);
  const Json json = Json::parse(::testing::internal::GetCapturedStdout());
  EXPECT_EQ(json["schema"], "idunno.experiment.v1");
  EXPECT_EQ(json["cases"].size(), 2U) << "everything of result.json";
}

TEST(ExpPlots, SayWhenTheEngineIsNone) {
  const Made made;
  const auto plots = plots_of(made.experiment, made.played, systems(), made.json["engine"]);
  ASSERT_EQ(plots.size(), 2U);
  for (const ExpPlot& plot : plots) {
    EXPECT_NE(plot.program.find("no real inference"), std::string::npos) << plot.stem;
    EXPECT_NE(plot.program.find("set output '" + plot.stem + ".svg'"), std::string::npos);
  }
}

TEST(Gnuplot, TakesNoTextForCommands) {
  EXPECT_EQ(gnuplot_quoted("it's `rm` \n\"x\""), "'it''s `rm`  \"x\"'");
  Plot plot;
  plot.title = "two\nlines 'x'";
  EXPECT_EQ(gnuplot_program(plot, "x.svg"), "") << "nothing to draw";
  plot.series.push_back({"a", {{1, 2}, {2, NAN}, {3, 4}}, {}, PlotSeries::Style::lines, false, 0});
  const std::string program = gnuplot_program(plot, "x.svg");
  EXPECT_NE(program.find("set title 'two'.\"\\n\".'lines ''x'''"), std::string::npos) << program;
  EXPECT_NE(program.find("1 2 0\n\n3 4 0\n"), std::string::npos) << "a gap where nothing was measured";
}

TEST(ExpReport, EscapesWhatComesFromFiles) {
  EXPECT_EQ(html_escaped("<a href='x'>&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot;&lt;/a&gt;");
  Made made;
  made.json["cases"][0]["name"] = "<script>alert(1)</script>";
  made.json["machine"]["cpu"] = "<b>";
  const std::string page = *report_html({{"folder<x>", made.json, {}}}, "now");
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_EQ(page.find("<b>"), std::string::npos);
  EXPECT_EQ(page.find("folder<x>"), std::string::npos);
  EXPECT_NE(page.find("A &lt;small&gt; &amp; &quot;quoted&quot; one"), std::string::npos);
  EXPECT_NE(page.find("no real inference"), std::string::npos);
}

TEST(ExpReport, RefusesAResultThatIsNone) {
  Made made;
  made.json["cases"][0]["figures"]["rate_qps"].erase("mean");
  const auto page = report_html({{"f", made.json, {}}}, "now");
  ASSERT_FALSE(page.ok());
  EXPECT_EQ(page.error().code, Errc::damaged);
}

TEST(ExpReport, HasNoOutsideAddress) {
  Made made;
  made.json["plots"].push_back({{"file", "a.svg"}, {"title", "t"}});
  const std::string svg =
      "<?xml version=\"1.0\"?><!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"http://www.w3.org/x.dtd\">\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\"><path id='gpDot' stroke='black'/>"
      "<use xlink:href='#gpDot'/><script>alert(1)</script></svg>";
  const std::string page = *report_html({{"f", made.json, {{"a.svg", svg}}}}, "now");
  EXPECT_NE(page.find("<use xlink:href=\"#e1p1-gpDot\"/>"), std::string::npos) << "ids of two pictures differ";
  EXPECT_NE(page.find("stroke=\"currentColor\""), std::string::npos) << "visible on dark paper";
  EXPECT_EQ(page.find("alert"), std::string::npos);
  EXPECT_EQ(page.find("DOCTYPE svg"), std::string::npos);
  for (std::size_t at = page.find("http"); at != std::string::npos; at = page.find("http", at + 1))
    EXPECT_EQ(page.substr(at, 18), "http://www.w3.org/") << "only names of XML, nothing to load";
}

}  // namespace
}  // namespace idunno::cli

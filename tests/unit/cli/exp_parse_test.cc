// Experiment files: what is read, what is refused and with which words, and what is planned from them.

#include <gtest/gtest.h>

#include <algorithm>

#include "cli/experiments/experiment.h"

namespace idunno::cli {
namespace {

using namespace std::chrono_literals;

const std::string kSmall = R"(
name = "small"
title = "A small one"
measure = "failure"
[[model]]
name = "known"
service = "20ms"
[[job]]
model = "known"
batch = 4
[[action]]
at = "10s"
do = "kill"
who = ["coordinator", "worker"]
[run]
duration = "40s"
repeat = 5
[quick]
scale = 0.1
repeat = 2
nodes = 3
)";

std::string why_not(const std::string& toml) {
  const auto parsed = Experiment::parse(toml, "x.toml");
  return parsed ? "" : parsed.error().detail;
}

TEST(ExpFile, IsReadWhole) {
  const auto parsed = Experiment::parse(kSmall, "x.toml");
  ASSERT_TRUE(parsed.ok()) << parsed.error().detail;
  EXPECT_EQ(parsed->name, "small");
  EXPECT_EQ(parsed->measure, Measure::failure);
  EXPECT_EQ(parsed->repeat, 5U);
  ASSERT_EQ(parsed->base.jobs.size(), 1U);
  EXPECT_EQ(parsed->base.jobs[0].name, "known") << "a job is called as its model when it has no name";
  EXPECT_EQ(parsed->base.jobs[0].batch, 4U);
  ASSERT_EQ(parsed->base.actions.size(), 1U);
  EXPECT_EQ(parsed->base.actions[0].name, "coordinator+worker");
  EXPECT_EQ(parsed->base.actions[0].at, 10s);
  ASSERT_NE(parsed->model("known"), nullptr);
  EXPECT_TRUE(parsed->model("known")->nothing());
  EXPECT_EQ(parsed->model("known")->service, 20ms);
}

TEST(ExpFile, NamesUnknownKeysInEveryTable) {
  EXPECT_NE(why_not(kSmall + "[cluster]\nnoeds = 3\n").find("noeds"), std::string::npos);
  EXPECT_NE(why_not("durtion = 3\n" + kSmall).find("durtion"), std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[case]]\nname = \"a\"\n[[case.job]]\nmodel = \"known\"\nbatches = 3\n").find("batches"),
            std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[wanted]]\nfigure = \"normal_s\"\nmaximum = 3\n").find("max"), std::string::npos);
}

TEST(ExpFile, RefusesWhatDoesNotFitTogether) {
  EXPECT_NE(why_not(kSmall + "[[job]]\nmodel = \"other\"\n").find("'other'"), std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[job]]\nmodel = \"known\"\n").find("two jobs are called 'known'"), std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[action]]\nat = \"1s\"\ndo = \"kill\"\nwho = [\"anybody\"]\n").find("anybody"), std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[action]]\nat = \"1s\"\ndo = \"kick\"\nwho = [\"worker\"]\n").find("kill, pause"),
            std::string::npos);
  EXPECT_NE(why_not(kSmall + "[[model]]\nname = \"both\"\ninit = \"resnet18\"\nservice = \"1ms\"\n").find("either"),
            std::string::npos);
  EXPECT_NE(why_not("name = \"x\"\ntitle = \"x\"\nmeasure = \"speed\"\n").find("second-job, failure"), std::string::npos);
  std::string curve = kSmall;
  curve.replace(curve.find("\"failure\""), 9, "\"curve\"");
  EXPECT_NE(why_not(curve).find("batches and loads"), std::string::npos);
}

TEST(ExpPlan, QuickIsShorterEverywhere) {
  const auto experiment = Experiment::parse(kSmall, "x.toml");
  ASSERT_TRUE(experiment.ok());
  const auto whole = make_plan(*experiment, {});
  const auto quick = make_plan(*experiment, {true, 0, {}});
  ASSERT_TRUE(whole.ok() && quick.ok());
  EXPECT_EQ(whole->repeat, 5U);
  EXPECT_EQ(quick->repeat, 2U);
  EXPECT_EQ(whole->cases[0].nodes, 5U);
  EXPECT_EQ(quick->cases[0].nodes, 3U);
  EXPECT_EQ(quick->cases[0].duration, 4s);
  EXPECT_EQ(quick->cases[0].actions[0].at, 1s);
  EXPECT_EQ(make_plan(*experiment, {true, 7, {}})->repeat, 7U) << "what the user says goes before the file";
  EXPECT_LT(planned_duration(*experiment, *quick), planned_duration(*experiment, *whole));
}

TEST(ExpPlan, CasesInheritAndReplace) {
  const auto experiment = Experiment::parse(kSmall + R"(
[[case]]
name = "as it is"
[[case]]
name = "another job"
nodes = 9
policy = "random"
[[case.job]]
name = "a"
model = "known"
batch = 32
weight = 3
)",
                                            "x.toml");
  ASSERT_TRUE(experiment.ok()) << experiment.error().detail;
  const auto plan = make_plan(*experiment, {});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->cases.size(), 2U);
  EXPECT_EQ(plan->cases[0].jobs[0].batch, 4U);
  EXPECT_EQ(plan->cases[1].jobs[0].batch, 32U);
  EXPECT_EQ(plan->cases[1].jobs[0].weight, 3);
  EXPECT_EQ(plan->cases[1].actions.size(), 1U) << "inherited";
  EXPECT_FALSE(plan->cases[0].same_cluster(plan->cases[1]));
  const auto one = make_plan(*experiment, {false, 0, {"another job"}});
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->cases.size(), 1U);
  const auto none = make_plan(*experiment, {false, 0, {"no such"}});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().code, Errc::not_found);
  EXPECT_NE(none.error().detail.find("'as it is'"), std::string::npos) << "says which there are";
}

TEST(ExpPlan, SweepsAreSpelledOut) {
  std::string curve = kSmall + "[sweep]\nbatches = [1, 8]\nloads = [0.5, 1.0]\n";
  curve.replace(curve.find("\"failure\""), 9, "\"curve\"");
  auto experiment = Experiment::parse(curve, "x.toml");
  ASSERT_TRUE(experiment.ok()) << experiment.error().detail;
  auto plan = make_plan(*experiment, {});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->cases.size(), 6U);
  EXPECT_EQ(plan->cases[0].load, 0) << "first as much as goes: the loads are shares of it";
  EXPECT_EQ(plan->cases[1].load, 0.5);
  EXPECT_EQ(plan->cases[3].jobs[0].batch, 8U);
  EXPECT_EQ(plan->cases[0].group, plan->cases[2].group);
  EXPECT_NE(plan->cases[0].group, plan->cases[3].group);

  std::string scaling = kSmall + "[sweep]\nworkers = [1, 2, 32]\n";
  scaling.replace(scaling.find("\"failure\""), 9, "\"scaling\"");
  experiment = Experiment::parse(scaling, "x.toml");
  ASSERT_TRUE(experiment.ok()) << experiment.error().detail;
  plan = make_plan(*experiment, {});
  ASSERT_TRUE(plan.ok());
  ASSERT_EQ(plan->cases.size(), 3U);
  EXPECT_EQ(plan->cases[2].nodes, 32U);
  EXPECT_EQ(plan->cases[2].slots, 1U);
}

TEST(ExpFile, ThoseThatComeWithTheProgramAreRight) {
  const std::filesystem::path folder = std::filesystem::path(IDUNNO_SOURCE_DIR) / "configs" / "experiments";
  const auto systems = Systems::load(folder / "systems.toml");
  ASSERT_TRUE(systems.ok()) << systems.error().detail;
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".toml" || entry.path().filename() == "systems.toml") continue;
    ++count;
    const auto experiment = Experiment::load(entry.path());
    ASSERT_TRUE(experiment.ok()) << experiment.error().detail;
    EXPECT_EQ(experiment->name, entry.path().stem().string()) << "`exp run NAME` finds it by the file's name";
    EXPECT_TRUE(make_plan(*experiment, {}).ok());
    const auto quick = make_plan(*experiment, {true, 0, {}});
    ASSERT_TRUE(quick.ok()) << quick.error().detail;
    EXPECT_LE(planned_duration(*experiment, *quick), 75s) << entry.path() << ": for a look";
    for (const ExpWanted& wanted : experiment->wanted) {
      for (const std::string& name : wanted.cases) {
        EXPECT_TRUE(
            std::any_of(experiment->cases.begin(), experiment->cases.end(), [&](const ExpCase& one) { return one.name == name; }))
            << entry.path() << ": no case " << name;
      }
    }
  }
  EXPECT_GE(count, 8U);
}

TEST(ExpSystems, AFigureNeedsItsSystem) {
  const auto systems =
      Systems::parse("[[figure]]\nsystem = \"Z\"\nexperiment = \"e\"\nfigure = \"f\"\nmean = 1\ntext = \"1\"\n", "s.toml");
  ASSERT_FALSE(systems.ok());
  EXPECT_NE(systems.error().detail.find("system"), std::string::npos);
}

}  // namespace
}  // namespace idunno::cli

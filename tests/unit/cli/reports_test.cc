#include "cli/reports.h"

#include <gtest/gtest.h>

namespace idunno::cli {
namespace {

JobReport running_job() {
  JobReport job;
  job.id = JobId{12};
  job.spec.name = "cats";
  job.spec.model = "resnet18";
  job.spec.queries = 1000;
  job.spec.batch = 16;
  job.state = JobState::running;
  job.done = 400;
  job.rate_milli_qps = 50500;
  job.latency = {400, 250000, 1000, 240000, 300000, 310000, 320000};
  job.nodes = {NodeId{1}, NodeId{3}};
  return job;
}

TEST(ExitCodes, MapEveryError) {
  EXPECT_EQ(exit_code_of(Errc::invalid), kUsage);
  EXPECT_EQ(exit_code_of(Errc::too_large), kUsage);
  EXPECT_EQ(exit_code_of(Errc::not_found), kNotFound);
  EXPECT_EQ(exit_code_of(Errc::no_coordinator), kNoCoordinator);
  EXPECT_EQ(exit_code_of(Errc::unavailable), kNoCoordinator);
  EXPECT_EQ(exit_code_of(Errc::timeout), kTimedOut);
  EXPECT_EQ(exit_code_of(Errc::conflict), kNotNow);
  EXPECT_EQ(exit_code_of(Errc::forbidden), kNotAllowed);
  EXPECT_EQ(exit_code_of(Errc::damaged), kDamaged);
  EXPECT_EQ(exit_code_of(Errc::internal), kFailed);
  EXPECT_EQ(exit_code_of(Errc::full), kFailed);
}

TEST(ExitCodes, OfAJobTellHowItEnded) {
  JobReport job = running_job();
  job.state = JobState::done;
  EXPECT_EQ(exit_code_of(job), kDone);
  job.errors = 1;
  EXPECT_EQ(exit_code_of(job), kQueryErrors);
  job.state = JobState::failed;
  EXPECT_EQ(exit_code_of(job), kJobFailed);
  job.state = JobState::stopped;
  EXPECT_EQ(exit_code_of(job), kJobStopped);
}

TEST(JobJson, HasTheFieldsThatScriptsRead) {
  const Json json = job_json(running_job());
  std::vector<std::string> names;
  for (const auto& [name, value] : json.items()) names.push_back(name);
  const std::vector<std::string> wanted{"id",
                                        "name",
                                        "kind",
                                        "model",
                                        "state",
                                        "batch",
                                        "weight",
                                        "total",
                                        "done",
                                        "errors",
                                        "rate_qps",
                                        "rate_all_qps",
                                        "mean_ms",
                                        "sd_ms",
                                        "median_ms",
                                        "p90_ms",
                                        "p95_ms",
                                        "p99_ms",
                                        "nodes",
                                        "eta_s",
                                        "window_done",
                                        "window_mean_ms",
                                        "window_sd_ms",
                                        "window_median_ms",
                                        "window_p90_ms",
                                        "window_p95_ms",
                                        "window_p99_ms",
                                        "model_loads",
                                        "model_load_s"};
  EXPECT_EQ(names, wanted);
  EXPECT_EQ(json["id"], "j12");
  EXPECT_EQ(json["rate_qps"], 50.5);
  EXPECT_EQ(json["mean_ms"], 250.0);
  EXPECT_EQ(json["nodes"], Json({"n1", "n3"}));
  EXPECT_DOUBLE_EQ(json["eta_s"].get<double>(), 11.9);
}

TEST(JobJson, SaysNothingItDoesNotKnow) {
  JobReport job = running_job();
  job.latency = {};
  job.rate_milli_qps = 0;
  EXPECT_TRUE(job_json(job)["p99_ms"].is_null());
  EXPECT_TRUE(job_json(job)["eta_s"].is_null());
  EXPECT_TRUE(job_detail_json(job)["result_digest"].is_null());
  EXPECT_TRUE(job_detail_json(job)["finished_at"].is_null());
  EXPECT_EQ(job_detail_json(job)["batches"], 63);
}

TEST(StatsListing, FitsTheJobFields) {
  JobReportsReply reports;
  reports.jobs = {running_job()};
  ::testing::internal::CaptureStdout();
  Globals globals;
  globals.format = Format::json;
  stats_listing(reports).print(globals);
  std::fflush(stdout);
  const Json json = Json::parse(::testing::internal::GetCapturedStdout());
  EXPECT_EQ(json["schema"], "idunno.stats.v1");
  const Json fields = job_json(running_job());
  for (const auto& [name, value] : fields.items()) EXPECT_EQ(json["jobs"][0][name], value) << name;
  EXPECT_EQ(json["jobs"][0]["rate_per_weight_qps"], 50.5);
  EXPECT_EQ(json["jobs"][0]["from_mean_pct"], 0.0);
  EXPECT_TRUE(json["fairness"].contains("max_min_ratio"));
}

StatusReply good_status() {
  StatusReply status;
  status.coordinator = NodeId{1};
  status.voters = {NodeId{1}};
  NodeReport node;
  node.state = NodeState::alive;
  for (std::uint32_t i = 1; i <= 3; ++i) {
    node.id = NodeId{i};
    status.nodes.push_back(node);
  }
  return status;
}

TEST(Health, NeedsCoordinatorNodesReplicasAndNoAlarm) {
  EXPECT_TRUE(healthy(good_status()));
  StatusReply status = good_status();
  status.coordinator = {};
  EXPECT_FALSE(healthy(status));
  for (const NodeState state : {NodeState::suspect, NodeState::dead, NodeState::unknown}) {
    status = good_status();
    status.nodes[1].state = state;
    EXPECT_FALSE(healthy(status));
  }
  status = good_status();
  status.under_replicated_blocks = 1;
  EXPECT_FALSE(healthy(status));
  status = good_status();
  status.alarms = {"disk"};
  EXPECT_FALSE(healthy(status));
}

TEST(StatusJson, NamesRolesAndHasNoStandbyToInvent) {
  const Json json = status_json(good_status());
  EXPECT_EQ(json["coordinator"], "n1");
  EXPECT_TRUE(json["standby"].is_null());
  EXPECT_EQ(json["nodes"][0]["roles"], Json({"coordinator", "voter", "worker"}));
  EXPECT_EQ(json["nodes"][1]["roles"], Json({"worker"}));
}

TEST(StatusJson, TellsVotersSparesAndWhatWasRefused) {
  StatusReply status = good_status();
  status.standby = NodeId{2};
  status.voters = {NodeId{1}, NodeId{2}};
  status.learners = {NodeId{3}};
  status.refused_keys = 2;
  status.refused_messages = 5;
  const Json json = status_json(status);
  EXPECT_EQ(json["standby"], "n2");
  EXPECT_EQ(json["voters"], Json({"n1", "n2"}));
  EXPECT_EQ(json["learners"], Json({"n3"}));
  EXPECT_EQ(json["refused_keys"], 2);
  EXPECT_EQ(json["refused_messages"], 5);
  EXPECT_EQ(json["nodes"][1]["roles"], Json({"standby", "voter", "worker"}));
  EXPECT_EQ(json["nodes"][2]["roles"], Json({"learner", "worker"}));
}

TEST(JobJson, TellsHedgesAndQuarantinedQueries) {
  JobReport job = running_job();
  job.hedged = 3;
  job.quarantined = {7, 9};
  EXPECT_EQ(job_detail_json(job)["hedged"], 3);
  EXPECT_EQ(job_detail_json(job)["quarantined"], Json({7, 9}));
}

TEST(EventJson, LeavesOutWhatDoesNotApply) {
  Event event;
  event.node = NodeId{2};
  event.type = "node_dead";
  const Json json = event_json(event);
  EXPECT_EQ(json["node"], "n2");
  EXPECT_TRUE(json["job"].is_null());
  EXPECT_TRUE(json["batch"].is_null());
}

TEST(Fairness, TellsTheRatioAndTheShareOfWindows) {
  FairnessReport fairness;
  fairness.jobs = 2;
  fairness.max_min_milli = fairness.last_max_min_milli = 1040;
  fairness.windows = fairness.in20_windows = 10;
  fairness.in10_windows = 9;
  EXPECT_EQ(fairness_json(fairness)["max_min_ratio"], 1.04);
  EXPECT_EQ(fairness_json(fairness)["in10_pct"], 90.0);
  EXPECT_NE(fairness_text(fairness).find("1.040"), std::string::npos);
  EXPECT_TRUE(fairness_json({})["max_min_ratio"].is_null());
  EXPECT_EQ(fairness_text({}), "");
}

}  // namespace
}  // namespace idunno::cli

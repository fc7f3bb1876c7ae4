#include "nodes/runtime/metrics.h"

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/unit/runtime/documented_metrics.h"

namespace idunno {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

NodeFigures coordinator() {
  NodeFigures figures;
  figures.self = NodeId{2};
  figures.now_ms = 10'000'000;
  figures.members = {{NodeId{1}, NodeState::alive, {}, 0, {}}, {NodeId{2}, NodeState::dead, {}, 0, {}}};
  figures.sockets = {{"rpc", 100, 3}, {"log", 50, 1}};
  figures.raft = RaftStatus{};
  figures.raft->role = RaftRole::leader;
  figures.raft->epoch = Epoch{7};
  NodeFigures::Cluster cluster;
  cluster.status.under_replicated_blocks = 4;
  JobReport job;
  job.id = JobId{12};
  job.spec.name = "a \"quoted\"\nname";
  job.spec.model = "resnet18";
  job.state = JobState::running;
  job.done = 400;
  job.rate_milli_qps = 50'500;
  job.latency = {400, 250'000, 1000, 240'000, 300'000, 310'000, 320'000};
  cluster.reports.jobs.push_back(job);
  cluster.reports.fairness.max_min_milli = 1042;
  figures.cluster = cluster;
  return figures;
}

std::string scraped(const NodeFigures& figures) { return prometheus::TextSerializer().Serialize(metric_families(figures)); }

void expect_line(const std::string& text, const std::string& line) {
  EXPECT_NE(text.find("\n" + line + "\n"), std::string::npos) << line << "\nis not in\n" << text;
}

TEST(Metrics, SayWhatTheFiguresSay) {
  const std::string text = scraped(coordinator());
  expect_line(text, "idunno_raft_epoch 7");
  expect_line(text, "idunno_raft_role{role=\"leader\"} 1");
  expect_line(text, "idunno_raft_role{role=\"follower\"} 0");
  expect_line(text, "idunno_membership_nodes{state=\"dead\"} 1");
  expect_line(text, "idunno_bus_refused_messages_total{service=\"rpc\"} 3");
  expect_line(text, "idunno_sdfs_under_replicated_blocks 4");
  expect_line(text, "idunno_fairness_max_min_ratio 1.042");
  expect_line(text, "idunno_coordinator 1");
  const std::string labels = "{job=\"j12\",name=\"a \\\"quoted\\\"\\nname\",model=\"resnet18\"";
  expect_line(text, "idunno_job_queries_total" + labels + "} 400");
  expect_line(text, "idunno_job_queries_per_second" + labels + "} 50.5");
  expect_line(text, "idunno_job_latency_seconds_sum" + labels + "} 100");
  expect_line(text, "idunno_job_latency_seconds" + labels + ",quantile=\"0.99\"} 0.32");
}

TEST(Metrics, OfANodeWithoutALogAndWithoutOfficeHaveNoSamplesOfThose) {
  NodeFigures figures = coordinator();
  figures.raft.reset();
  figures.cluster.reset();
  const std::string text = scraped(figures);
  expect_line(text, "idunno_coordinator 0");
  EXPECT_EQ(text.find("\nidunno_raft_epoch "), std::string::npos);
  EXPECT_EQ(text.find("\nidunno_job_queries_total{"), std::string::npos);
  EXPECT_EQ(text.find("\nidunno_sdfs_under_replicated_blocks "), std::string::npos);
}

TEST(Metrics, OfJobsAreBoundedAndOldOnesGo) {
  NodeFigures figures = coordinator();
  std::vector<JobReport>& jobs = figures.cluster->reports.jobs;
  jobs.resize(2 * kMetricJobsMax, jobs.front());
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].id = JobId{i + 1};
  jobs.back().state = JobState::done;
  jobs.back().finished_ms = figures.now_ms - kMetricJobsKeepMs - 1;
  std::size_t shown = 0;
  for (const MetricFamily& family : metric_families(figures)) {
    if (family.name == "idunno_job_queries_total") shown = family.metric.size();
  }
  EXPECT_EQ(shown, kMetricJobsMax);
  const std::string text = scraped(figures);
  EXPECT_EQ(text.find("job=\"j128\""), std::string::npos) << "it ended long ago";
  EXPECT_NE(text.find("job=\"j127\""), std::string::npos);
  EXPECT_NE(text.find("job=\"j64\""), std::string::npos);
  EXPECT_EQ(text.find("job=\"j63\""), std::string::npos) << "the newest are told";
}

std::string type_name(MetricType type) {
  return type == MetricType::Counter ? "counter" : type == MetricType::Gauge ? "gauge" : "summary";
}

/// With those of prometheus-cpp's server: tests/cluster/stats_test.cc sees that a real node has these, too.
TEST(Metrics, AreAllDocumentedAndAllThatIsDocumentedIsThere) {
  std::map<std::string, std::string> exported{{"exposer_transferred_bytes_total", "counter"},
                                              {"exposer_scrapes_total", "counter"},
                                              {"exposer_request_latencies", "summary"}};
  for (const MetricFamily& family : metric_families(NodeFigures{})) exported[family.name] = type_name(family.type);
  EXPECT_EQ(exported, testing::documented_metrics());
}

/// https://prometheus.io/docs/practices/naming
TEST(Metrics, HaveNamesAfterPrometheusConventions) {
  for (const MetricFamily& family : metric_families(coordinator())) {
    EXPECT_TRUE(family.name.starts_with("idunno_")) << family.name;
    EXPECT_EQ(family.name.ends_with("_total"), family.type == MetricType::Counter) << family.name;
    for (const char* unit : {"_ms", "_us", "_milli", "_kb", "_percent"}) EXPECT_FALSE(family.name.ends_with(unit)) << family.name;
    EXPECT_TRUE(family.help.ends_with(".")) << family.name;
  }
}

std::set<std::string> used_in(const std::string& text) {
  std::set<std::string> names;
  const std::regex name(R"(idunno_[a-z0-9_]+)");
  for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at) names.insert(at->str());
  return names;
}

TEST(MetricUsers, DashboardAndAlertsUseOnlyWhatExists) {
  const auto documented = testing::documented_metrics();
  for (const char* file : {"configs/grafana/idunno.json", "configs/prometheus/alerts.yml"}) {
    const auto used = used_in(testing::text_of(file));
    EXPECT_GE(used.size(), 6U) << file;
    for (const std::string& name : used) EXPECT_TRUE(documented.contains(name)) << file << " uses " << name;
  }
}

TEST(MetricUsers, TheDashboardIsJsonAndItsPanelsDoNotOverlap) {
  const auto board = nlohmann::json::parse(testing::text_of("configs/grafana/idunno.json"), nullptr, false);
  ASSERT_TRUE(board.is_object());
  std::set<std::pair<int, int>> taken;
  std::set<int> ids;
  for (const auto& panel : board["panels"]) {
    EXPECT_TRUE(ids.insert(panel["id"].get<int>()).second);
    EXPECT_FALSE(panel["targets"].empty()) << panel["title"];
    const auto& place = panel["gridPos"];
    for (int x = place["x"]; x < place["x"].get<int>() + place["w"].get<int>(); ++x) {
      EXPECT_LT(x, 24);
      for (int y = place["y"]; y < place["y"].get<int>() + place["h"].get<int>(); ++y) {
        EXPECT_TRUE(taken.insert({x, y}).second) << panel["title"] << " lies on another panel";
      }
    }
  }
}

}  // namespace
}  // namespace idunno

// Statistics of a real cluster: figures of nodes and jobs, the history in SDFS, and what Prometheus gets.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "tests/cluster/harness.h"
#include "tests/unit/runtime/documented_metrics.h"

namespace idunno::testing {
namespace {

void prepare(const TestCluster& cluster, int images) {
  const auto folder = cluster.make_images("images", images, 28);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"model", "init", "lenet5", "--name", "lenet", "--seed", "7"});
}

std::string submit_slow(const TestCluster& cluster) {
  return cluster.submit({"--model", "lenet", "--data", "/data", "--batch", "2", "--rate", "20/s"});
}

/// The body of the answer; empty when nobody answers or the status is not 200.
std::string http_get(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
    (void)!write(fd, request.data(), request.size());
    char buffer[4096];
    for (ssize_t got = 0; (got = read(fd, buffer, sizeof buffer)) > 0;) answer.append(buffer, static_cast<std::size_t>(got));
  }
  close(fd);
  const auto body = answer.find("\r\n\r\n");
  return answer.rfind("HTTP/1.1 200", 0) == 0 && body != std::string::npos ? answer.substr(body + 4) : "";
}

int metrics_port(const nlohmann::json& node) {
  const std::string address = node.value("address", "");
  return std::stoi(address.substr(address.rfind(':') + 1)) + 5;
}

/// Name to type, as the text says it.
std::map<std::string, std::string> families_of(const std::string& text) {
  std::map<std::string, std::string> families;
  std::istringstream in(text);
  std::string hash;
  std::string word;
  std::string name;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    if (words >> hash >> word >> name && hash == "#" && word == "TYPE") words >> families[name];
  }
  return families;
}

/// The sample whose name and labels begin so; -1 when there is none.
double value_of(const std::string& text, const std::string& begin) {
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(begin, 0) == 0) return std::stod(line.substr(line.rfind(' ')));
  }
  return -1;
}

TEST(MetricsCluster, AreThoseOfTheTableOnEveryNodeAndHoldNoSecret) {
  const TestCluster cluster(3);
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  prepare(cluster, 60);
  const std::string id = submit_slow(cluster);
  (void)cluster.finish(id);
  const auto documented = documented_metrics();
  ASSERT_GT(documented.size(), 50U);
  std::string all;
  const nlohmann::json status = cluster.status();
  for (const auto& node : status["nodes"]) {
    // The exposer's own families have samples from the second answer on.
    (void)http_get(metrics_port(node), "/metrics");
    const std::string text = http_get(metrics_port(node), "/metrics");
    EXPECT_EQ(families_of(text), documented) << node["id"];
    EXPECT_EQ(value_of(text, "idunno_scrape_complete "), 1);
    EXPECT_EQ(value_of(text, "idunno_membership_nodes{state=\"alive\"}"), 3);
    EXPECT_GT(value_of(text, "idunno_raft_commit_index "), 0);
    EXPECT_GT(value_of(text, "idunno_node_cpu_seconds_total{process=\"idunnod\"}"), 0);
    EXPECT_GT(value_of(text, "idunno_bus_messages_total{service=\"ping\"}"), 0);
    EXPECT_EQ(http_get(metrics_port(node), "/"), "") << "nothing else is served";
    const bool coordinates = node["roles"][0] == "coordinator";
    EXPECT_EQ(value_of(text, "idunno_coordinator "), coordinates ? 1 : 0);
    EXPECT_EQ(value_of(text, "idunno_job_queries_total{job=\"" + id + "\""), coordinates ? 60 : -1);
    all += text;
  }
  for (const auto& entry : std::filesystem::directory_iterator(cluster.dir() / "keys")) {
    if (entry.path().extension() != ".key") continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      const auto begin = line.find('"');
      if (line.rfind("secret", 0) != 0 || begin == std::string::npos) continue;
      const std::string secret = line.substr(begin + 1, line.rfind('"') - begin - 1);
      ASSERT_GE(secret.size(), 32U);
      EXPECT_EQ(all.find(secret), std::string::npos) << "a secret key is shown";
    }
  }
}

TEST(MetricsCluster, OffClosesThePort) {
  const TestCluster cluster(1);
  const int port = metrics_port(cluster.status()["nodes"][0]);
  EXPECT_NE(http_get(port, "/metrics"), "");
  cluster.expect(0, {"down"});
  const auto file = cluster.dir() / "cluster.toml";
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  std::string config = text.str();
  const std::string on = "listen = \"on\"";
  ASSERT_NE(config.find(on), std::string::npos) << config;
  config.replace(config.find(on), on.size(), "listen = \"off\"");
  std::ofstream(file) << config;
  cluster.expect(0, {"up"});
  EXPECT_EQ(http_get(port, "/metrics"), "");
}

TEST(StatsCluster, NodesAndJobsSayWhatTheyUse) {
  const TestCluster cluster(2);
  prepare(cluster, 200);
  const std::string id = submit_slow(cluster);
  const auto node_with_model = [&] {
    const nlohmann::json status = cluster.status();
    for (const auto& node : status["nodes"]) {
      if (node["models"] == nlohmann::json::array({"lenet:1"}) && node["model_loads"] >= 1 &&
          node["executor_rss_bytes"] > 1'000'000 && node["cpu_cores"] > 0) {
        return true;
      }
    }
    return false;
  };
  EXPECT_TRUE(eventually(node_with_model)) << cluster.status().dump(1);
  const auto counts = [&] {
    const nlohmann::json stats = cluster.expect(0, {"stats", id, "--json"}).json();
    const nlohmann::json& job = stats["jobs"][0];
    return job["model_loads"] >= 1 && job["model_load_s"] > 0 && job["window_done"] > 0 && job["window_p99_ms"] > 0 &&
           job["total"] == 200;
  };
  EXPECT_TRUE(eventually(counts)) << cluster.expect(0, {"stats", "--json"}).out;
  const auto shown = cluster.expect(0, {"node", "show", "n1", "--json"}).json();
  const int port = metrics_port(shown);
  EXPECT_EQ(shown.value("metrics_url", ""), "http://127.0.0.1:" + std::to_string(port) + "/metrics");
  cluster.expect(0, {"job", "stop", id});
}

TEST(StatsCluster, AssertFairHasItsExitCode) {
  const TestCluster cluster(1);
  const auto result = cluster.expect(11, {"stats", "--fair", "--assert-fair", "10%"});
  EXPECT_NE(result.err.find("nothing to compare"), std::string::npos) << result.err;
  EXPECT_NE(result.out.find("no 10 s window yet"), std::string::npos) << result.out;
  cluster.expect(2, {"stats", "--assert-fair", "much"});
  cluster.expect(2, {"stats", "--since", "1h"});
  const auto json = cluster.expect(11, {"stats", "--fair", "--assert-fair", "10%", "--json"}).json();
  EXPECT_TRUE(json["fairness"].contains("worst_max_min_ratio"));
  EXPECT_TRUE(json["fairness"].contains("in5_pct"));
}

TEST(HistoryCluster, SurvivesTheCoordinatorAndTheNextOneGoesOn) {
  const TestCluster cluster(3);
  ASSERT_TRUE(eventually([&] { return cluster.healthy(); }));
  const auto samples = [&] { return cluster.expect(0, {"stats", "--history", "--since", "1h", "--json"}).json()["samples"]; };
  EXPECT_TRUE(samples().empty()) << "nothing ran";
  prepare(cluster, 260);
  const std::string first = submit_slow(cluster);
  (void)cluster.finish(first);
  ASSERT_TRUE(eventually([&] { return samples().size() >= 2; })) << samples().dump(1);
  for (const char* field : {"at", "id", "name", "model", "state", "done", "rate_qps", "window_p99_ms", "coordinator"}) {
    EXPECT_TRUE(samples()[0].contains(field)) << field;
  }
  const std::string before = samples()[0].value("coordinator", "");
  EXPECT_EQ(samples().back()["done"], 260);

  cluster.expect(0, {"kill-node", "--coordinator", "--wait"});
  const std::string second = submit_slow(cluster);
  (void)cluster.finish(second);
  const auto from_both = [&] {
    std::set<std::string> coordinators;
    std::set<std::string> jobs;
    for (const auto& sample : samples()) {
      coordinators.insert(sample.value("coordinator", ""));
      jobs.insert(sample.value("id", ""));
    }
    return coordinators.size() == 2 && jobs == std::set<std::string>{first, second};
  };
  EXPECT_TRUE(eventually(from_both)) << samples().dump(1);
  EXPECT_EQ(samples()[0].value("coordinator", ""), before) << "what the dead one wrote is still there";

  const auto of_one = cluster.expect(0, {"stats", "--history", second, "-o", "csv"}).out;
  EXPECT_EQ(of_one.find(first + ","), std::string::npos) << of_one;
  EXPECT_NE(of_one.find(second + ","), std::string::npos) << of_one;
  EXPECT_NE(cluster.expect(0, {"stats", "--history"}).out.find("RATE OVER TIME"), std::string::npos);
  const auto nodes = cluster.expect(0, {"stats", "--history", "--nodes", "--json"}).json()["samples"];
  EXPECT_GE(nodes.size(), 6U);
}

}  // namespace
}  // namespace idunno::testing

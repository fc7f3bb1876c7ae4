#include "bus/cluster_config.h"

#include <fstream>

#include "bus/hash.h"
#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

class Config : public testing::Test {
 protected:
  Result<ClusterConfig> load(const std::string& text) const {
    std::ofstream(folder.path / "cluster.toml") << text;
    return ClusterConfig::load(folder.path / "cluster.toml");
  }
  std::string error_of(const std::string& text) const {
    const auto config = load(text);
    return config.ok() ? "" : config.error().detail;
  }
  test::TemporaryFolder folder;
  const std::string two_nodes =
      "[cluster]\nid = \"lab\"\n"
      "[[node]]\nid = 2\nhost = \"10.0.0.2\"\nport = 7400\ndata_dir = \"/var/idunno\"\n"
      "[[node]]\nid = 1\nhost = \"10.0.0.1\"\nbind = \"0.0.0.0\"\nport = 7400\ndata_dir = \"data/n1\"\n";
};

TEST_F(Config, ReadsNodesInOrderAndPathsRelativeToTheFile) {
  const auto config = load(two_nodes + "[tuning]\nlease_horizon = \"250ms\"\ninput_cache = \"32M\"\nversions_max = 3\n");
  ASSERT_TRUE(config.ok()) << config.error().detail;
  EXPECT_EQ(config->id, "lab");
  EXPECT_EQ(config->cluster_hash(), hash64("lab"));
  EXPECT_EQ(config->keys_dir, folder.path / "keys");
  ASSERT_EQ(config->nodes.size(), 2U);
  EXPECT_EQ(config->nodes[0].id, NodeId{1});
  EXPECT_EQ(config->nodes[0].bind, "0.0.0.0");
  EXPECT_EQ(config->nodes[0].data_dir, folder.path / "data/n1");
  EXPECT_EQ(config->nodes[1].data_dir, "/var/idunno");
  EXPECT_EQ(config->tuning.lease_horizon, std::chrono::milliseconds(250));
  EXPECT_EQ(config->tuning.input_cache_bytes, 32U << 20U);
  EXPECT_EQ(config->tuning.versions_max, 3U);
  EXPECT_EQ(config->tuning.replication, 4U);
  EXPECT_EQ(config->node(NodeId{2})->host, "10.0.0.2");
  EXPECT_EQ(config->node(NodeId{3}), nullptr);
}

TEST_F(Config, ReadsThePolicyOfTheScheduler) {
  EXPECT_EQ(load(two_nodes)->tuning.policy, SchedulePolicy::fair_rate);
  for (const auto& [policy, name] : kSchedulePolicies) {
    const auto config = load(two_nodes + "[scheduler]\npolicy = \"" + std::string(name) + "\"\nsplit_period = \"5s\"\n");
    ASSERT_TRUE(config.ok()) << config.error().detail;
    EXPECT_EQ(config->tuning.policy, policy);
    EXPECT_EQ(config->tuning.split_period, std::chrono::seconds(5));
    const auto back = load(config->to_toml());
    ASSERT_TRUE(back.ok()) << back.error().detail;
    EXPECT_EQ(back->tuning.policy, policy);
    EXPECT_EQ(back->tuning.reload_lag, std::chrono::milliseconds(300));
    EXPECT_EQ(back->tuning.prefetch_models, 4U);
  }
  EXPECT_NE(error_of(two_nodes + "[scheduler]\npolicy = \"round-robbin\"\n").find("did you mean \"round-robin\"?"),
            std::string::npos);
  auto config = load(two_nodes);
  EXPECT_TRUE(config->set_tuning("policy=static-split").ok());
  EXPECT_EQ(config->tuning.policy, SchedulePolicy::static_split);
  EXPECT_FALSE(config->set_tuning("policy=fastest").ok());
  EXPECT_EQ(config->tuning.policy, SchedulePolicy::static_split) << "unchanged by an error";
}

TEST_F(Config, WritesWhatItReads) {
  auto config = load(two_nodes);
  ASSERT_TRUE(config.ok());
  config->tuning.batch_timeout = std::chrono::microseconds(1'234'567);
  config->tuning.disk_reserve_bytes = 12345;
  config->tuning.executor_memory_bytes = 3ULL << 30U;
  config->id = "a \"quoted\\ name";
  const std::string text = config->to_toml();
  const auto back = load(text);
  ASSERT_TRUE(back.ok()) << back.error().detail;
  EXPECT_EQ(back->to_toml(), text);
  EXPECT_EQ(back->id, config->id);
  EXPECT_EQ(back->tuning.batch_timeout, config->tuning.batch_timeout);
  EXPECT_EQ(back->tuning.disk_reserve_bytes, 12345U);
  EXPECT_EQ(back->nodes[0].data_dir, config->nodes[0].data_dir);
}

TEST_F(Config, MistakesAreNamedWithTheirLine) {
  const std::string file = (folder.path / "cluster.toml").string();
  EXPECT_EQ(error_of(two_nodes + "[tuning]\nreplicaton = 3\n"),
            file + ":15: unknown key \"replicaton\" in [tuning]; did you mean \"replication\"?");
  EXPECT_EQ(error_of(two_nodes + "[tuning]\nreplication = 9\n"), file + ":15: \"replication\" in [tuning] is 9, expected 1 to 4");
  EXPECT_NE(error_of("[cluster]\nid = \"x\"\n").find("missing key \"node\""), std::string::npos);
  EXPECT_NE(error_of("[cluster]\nid = \"\"\n").find("1 to 64 characters"), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[[node]]\nid = 2\nhost = \"h\"\nport = 1\ndata_dir = \"d\"\n").find("two nodes have the id 2"),
            std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[[node]]\nid = 3\nhost = \"10.0.0.1\"\nport = 7404\ndata_dir = \"d\"\n").find("share ports"),
            std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[[node]]\nid = 3\nhost = \"10.0.0.2\"\nport = 7500\ndata_dir = \"/var/idunno\"\n")
                .find("share the folder"),
            std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[[node]]\nid = 3\nhost = \"0.0.0.0\"\nport = 7500\ndata_dir = \"d\"\n").find("can connect to"),
            std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[tuning]\ndead_after = \"600ms\"\n").find("at least twice"), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[tuning]\nelection_timeout_min = \"100ms\"\n").find("three times"), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[tuning]\nelection_timeout_max = \"260ms\"\n").find("must exceed"), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[tuning]\ndead_after = 600\n").find("a duration as text"), std::string::npos);
  EXPECT_EQ(ClusterConfig::load(folder.path / "absent.toml").error().code, Errc::not_found);
}

TEST_F(Config, MetricsAreOnTheLastPortOnAPortOfTheirOwnOrOff) {
  auto config = load(two_nodes);
  ASSERT_TRUE(config.ok()) << config.error().detail;
  EXPECT_EQ(config->metrics_address(config->nodes[1]), "10.0.0.2:7405");
  EXPECT_EQ(config->metrics_address(config->nodes[0]), "0.0.0.0:7405");  // what it binds
  config = load(two_nodes + "[metrics]\nlisten = \"9464\"\n");
  ASSERT_TRUE(config.ok()) << config.error().detail;
  EXPECT_EQ(config->metrics_address(config->nodes[1]), "10.0.0.2:9464");
  EXPECT_EQ(load(config->to_toml())->metrics, config->metrics);
  config = load(two_nodes + "[metrics]\nlisten = \"off\"\n");
  ASSERT_TRUE(config.ok()) << config.error().detail;
  EXPECT_EQ(config->metrics_address(config->nodes[1]), "");
  EXPECT_EQ(load(config->to_toml())->metrics, config->metrics);

  const std::string third = two_nodes + "[[node]]\nid = 3\nhost = \"10.0.0.1\"\nport = 7500\ndata_dir = \"d\"\n";
  EXPECT_NE(error_of(two_nodes + "[metrics]\nlisten = \"7403\"\n").find("is one of n"), std::string::npos);
  EXPECT_NE(error_of(third + "[metrics]\nlisten = \"9464\"\n").find("several nodes are on 10.0.0.1"), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[metrics]\nlisten = \"99999\"\n").find("\"9464\""), std::string::npos);
  EXPECT_NE(error_of(two_nodes + "[metrics]\nlisten = \"none\"\n").find("\"off\""), std::string::npos);
}

TEST_F(Config, TheAddressBookNeedsANodeKeyForEachNode) {
  const auto config = load(two_nodes).value();
  AdmittedKeys admitted;
  const auto n1 = generate_key_pair("n1", Role::node).value();
  const auto n2 = generate_key_pair("n2", Role::node).value();
  ASSERT_TRUE(admitted.add({"n1", Role::node, n1.public_key}).ok());
  auto book = address_book(config, admitted);
  ASSERT_FALSE(book.ok());
  EXPECT_EQ(book.error().code, Errc::not_found);
  EXPECT_NE(book.error().detail.find("\"n2\""), std::string::npos);
  ASSERT_TRUE(admitted.add({"n2", Role::node, n2.public_key}).ok());
  book = address_book(config, admitted);
  ASSERT_TRUE(book.ok());
  EXPECT_EQ(endpoint_of(book->at(NodeId{2}), Service::data), "tcp://10.0.0.2:7401");
  EXPECT_EQ(book->at(NodeId{2}).public_key, n2.public_key);
}

TEST(ConfigExamples, AreValidAndTheDocumentedDefaultsAreTheDefaults) {
  const std::filesystem::path configs = IDUNNO_CONFIGS_DIR;
  const auto local = ClusterConfig::load(configs / "local.toml");
  ASSERT_TRUE(local.ok()) << local.error().detail;
  EXPECT_EQ(local->nodes.size(), 3U);
  auto lab = ClusterConfig::load(configs / "lab-10.toml");
  ASSERT_TRUE(lab.ok()) << lab.error().detail;
  EXPECT_EQ(lab->nodes.size(), 10U);
  const std::string documented = lab->to_toml();
  lab->tuning = Tuning{};
  EXPECT_EQ(lab->to_toml(), documented);
}

}  // namespace
}  // namespace idunno

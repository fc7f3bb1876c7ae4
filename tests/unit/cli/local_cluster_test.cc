#include "cli/local_cluster.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace idunno::cli {
namespace {

namespace fs = std::filesystem;

class LocalClusterFolder : public ::testing::Test {
 protected:
  LocalClusterFolder() : folder_(fs::path(::testing::TempDir()) / ("idunno-local-" + std::to_string(getpid()))) {
    fs::remove_all(folder_);
  }
  ~LocalClusterFolder() override { fs::remove_all(folder_); }
  fs::path folder_;
};

TEST_F(LocalClusterFolder, HoldsConfigurationAndKeysForAllRoles) {
  auto made = LocalCluster::make(folder_, {3, 0, 2});
  ASSERT_TRUE(made.ok()) << made.error().detail;
  EXPECT_EQ(made->config().nodes.size(), 3U);
  EXPECT_EQ(made->config().tuning.slots, 2U);
  auto admitted = AdmittedKeys::load(folder_ / "keys" / "admitted.toml");
  ASSERT_TRUE(admitted.ok());
  for (const char* name : {"admin", "submit", "read", "n1", "n2", "n3"}) {
    EXPECT_NE(admitted->by_name(name), nullptr) << name;
    EXPECT_EQ(fs::status(folder_ / "keys" / (std::string(name) + ".key")).permissions(),
              fs::perms::owner_read | fs::perms::owner_write)
        << name;
  }
  EXPECT_TRUE(made->running().empty());
}

TEST_F(LocalClusterFolder, IsNeverMadeTwiceNorOverOtherFiles) {
  ASSERT_TRUE(LocalCluster::make(folder_, {1, 0, 1}).ok());
  EXPECT_EQ(LocalCluster::make(folder_, {1, 0, 1}).error().code, Errc::conflict);
  fs::remove_all(folder_);
  fs::create_directories(folder_);
  std::ofstream(folder_ / "diary.txt") << "mine";
  EXPECT_EQ(LocalCluster::make(folder_, {1, 0, 1}).error().code, Errc::conflict);
  EXPECT_TRUE(fs::exists(folder_ / "diary.txt"));
}

TEST_F(LocalClusterFolder, IsPurgedWithoutWhatOthersPutThere) {
  auto made = LocalCluster::make(folder_, {1, 0, 1});
  ASSERT_TRUE(made.ok());
  std::ofstream(folder_ / "diary.txt") << "mine";
  ASSERT_TRUE(made->purge().ok());
  EXPECT_TRUE(fs::exists(folder_ / "diary.txt"));
  EXPECT_FALSE(fs::exists(folder_ / "keys"));
  EXPECT_FALSE(fs::exists(folder_ / "cluster.toml"));
}

TEST_F(LocalClusterFolder, KeepsTheDataWhereItIsToldAndPurgesOnlyThat) {
  const fs::path root = folder_.string() + "-data";
  fs::remove_all(root);
  fs::create_directories(root);
  std::ofstream(root / "diary.txt") << "mine";
  LocalCluster::Options options{2, 0, 1};
  options.data_root = root;
  ASSERT_TRUE(LocalCluster::make(folder_, options).ok());
  auto made = LocalCluster::open(folder_ / "cluster.toml");
  ASSERT_TRUE(made.ok()) << made.error().detail;
  EXPECT_TRUE(fs::is_directory(root / "n2"));
  EXPECT_FALSE(fs::exists(folder_ / "n2"));
  EXPECT_EQ(LocalCluster::make(folder_.string() + "-2", options).error().code, Errc::conflict) << "another cluster's data";
  EXPECT_FALSE(fs::exists(folder_.string() + "-2"));
  ASSERT_TRUE(made->purge().ok());
  EXPECT_FALSE(fs::exists(root / "n1"));
  EXPECT_TRUE(fs::exists(root / "diary.txt"));
  EXPECT_FALSE(fs::exists(folder_));
  fs::remove_all(root);
}

TEST_F(LocalClusterFolder, MayBeNamedByAPathThatIsRelative) {
  const fs::path before = fs::current_path();
  fs::current_path(folder_.parent_path());
  auto made = LocalCluster::make(folder_.filename(), {1, 0, 1});
  fs::current_path(before);
  ASSERT_TRUE(made.ok()) << made.error().detail;
  EXPECT_TRUE(made->folder().is_absolute());
  EXPECT_TRUE(fs::exists(made->config().keys_dir / "admitted.toml")) << made->config().keys_dir;
}

TEST_F(LocalClusterFolder, TakesTuningAndIsNotMadeWithAWrongOne) {
  LocalCluster::Options options{1, 0, 0};
  options.tuning = {"disk_reserve=16M", "slots=3"};
  auto made = LocalCluster::make(folder_, options);
  ASSERT_TRUE(made.ok()) << made.error().detail;
  EXPECT_EQ(made->config().tuning.disk_reserve_bytes, 16U << 20U);
  EXPECT_EQ(made->config().tuning.slots, 3U);
  fs::remove_all(folder_);
  for (const char* wrong : {"disk_reserv=16M", "disk_reserve=much", "disk_reserve", "=1", "slots=99999", "x]\ny=1"}) {
    options.tuning = {wrong};
    EXPECT_EQ(LocalCluster::make(folder_, options).error().code, Errc::invalid) << wrong;
    EXPECT_FALSE(fs::exists(folder_)) << wrong;
  }
}

TEST_F(LocalClusterFolder, RefusesAClusterOfOtherMachines) {
  auto made = LocalCluster::make(folder_, {1, 0, 1});
  ASSERT_TRUE(made.ok());
  ClusterConfig config = made->config();
  config.nodes[0].host = "192.0.2.1";
  std::ofstream(folder_ / "cluster.toml") << config.to_toml();
  EXPECT_EQ(LocalCluster::open(folder_ / "cluster.toml").error().code, Errc::conflict);
  EXPECT_EQ(LocalCluster::open(folder_ / "other.toml").error().code, Errc::not_found);
}

TEST_F(LocalClusterFolder, MakesOnlyTheKeysThatAreMissing) {
  auto made = LocalCluster::make(folder_, {2, 0, 1});
  ASSERT_TRUE(made.ok());
  auto again = make_missing_keys(made->config(), true);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->empty());
}

TEST(PortRanges, OfNothingStartWhereAsked) { EXPECT_EQ(free_port_range(20000, 0), 20000); }

}  // namespace
}  // namespace idunno::cli

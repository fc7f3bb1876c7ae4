// Bad input gives one clear line, the right exit code and no change.

#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

/// Exit code as given, an error on stderr of one or two lines that contains `says`, nothing on stdout.
void refused(const CommandResult& result, int exit_code, const std::string& says) {
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  EXPECT_NE(result.err.find(says), std::string::npos) << "wanted \"" << says << "\" in: " << result.err;
  EXPECT_LE(std::count(result.err.begin(), result.err.end(), '\n'), 3) << result.err;
  EXPECT_TRUE(result.out.empty()) << result.out;
}

class BadInputCluster : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster = new TestCluster(2);
    const auto folder = cluster->make_images("images", 4, 28);
    cluster->expect(0, {"fs", "put", "-r", folder.string(), "/data"});
    cluster->expect(0, {"model", "init", "lenet5"});
    const auto text = cluster->scratch() / "text.txt";
    std::ofstream(text) << "words\n";
    cluster->expect(0, {"fs", "put", text.string(), "/texts/text.txt"});
  }
  static void TearDownTestSuite() { delete cluster; }
  void SetUp() override { before = fingerprint(); }
  void TearDown() override { EXPECT_EQ(fingerprint(), before) << "a refused command changed something"; }
  static std::string fingerprint() {
    return cluster->idunno({"fs", "ls", "-R", "/", "--json"}).out + cluster->idunno({"model", "list", "--json"}).out +
           cluster->idunno({"job", "list", "--json"}).out;
  }
  static std::string file(const std::string& name, const std::string& text) {
    const auto path = cluster->scratch() / name;
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }
  static CommandResult run(const std::vector<std::string>& arguments) { return cluster->idunno(arguments); }
  static TestCluster* cluster;
  std::string before;
};
TestCluster* BadInputCluster::cluster = nullptr;

TEST_F(BadInputCluster, MissingLocalFile) {
  refused(run({"fs", "put", "/no/such/file", "/x"}), 3, "/no/such/file");
  refused(run({"model", "add", "m", "/no/such/file.onnx"}), 3, "/no/such/file.onnx");
}

TEST_F(BadInputCluster, FileThatIsNoOnnxModel) {
  const std::string spec = file("spec.toml", "[input]\nsize = [28, 28]\nchannels = \"gray\"\n[output]\nkind = \"classify\"\n");
  refused(run({"model", "add", "m", file("no.onnx", "this is text"), "--spec", spec}), 2, "ONNX");
}

TEST_F(BadInputCluster, OperatorThatCannotBeLoaded) {
  const auto onnx = cluster->scratch() / "operator.onnx";
  cluster->expect(0, {"model", "init", "lenet5", "--output", onnx.string()});
  std::ifstream in(onnx, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const std::string relu = "\x22\x04Relu";  // the field op_type of a node
  ASSERT_NE(bytes.find(relu), std::string::npos);
  for (auto at = bytes.find(relu); at != std::string::npos; at = bytes.find(relu)) bytes.replace(at, relu.size(), "\x22\x04Size");
  std::ofstream(onnx, std::ios::binary) << bytes;
  const std::string spec = (cluster->scratch() / "operator.toml").string();
  refused(run({"model", "add", "m", onnx.string(), "--spec", spec}), 2, "Size");
  const CommandResult check = run({"model", "check", onnx.string(), "--spec", spec});
  EXPECT_EQ(check.exit_code, 2);
  EXPECT_NE(check.err.find("operator Size cannot be loaded"), std::string::npos) << check.err;
}

TEST_F(BadInputCluster, WrongSpecNamesTheKeyAndTheNearestKnownOne) {
  const auto onnx = cluster->scratch() / "lenet.onnx";
  cluster->expect(0, {"model", "init", "lenet5", "--output", onnx.string()});
  const std::string spec = file("wrong.toml", "[input]\nsize = [28, 28]\nchanels = \"gray\"\n[output]\nkind = \"classify\"\n");
  refused(run({"model", "add", "m", onnx.string(), "--spec", spec}), 2, "channels");
}

TEST_F(BadInputCluster, UnknownModelPathAndJob) {
  refused(run({"submit", "--model", "nobody", "--data", "/data"}), 3, "nobody");
  refused(run({"submit", "--model", "lenet5", "--data", "/nowhere"}), 3, "/nowhere");
  refused(run({"job", "show", "j999"}), 3, "j999");
  refused(run({"fs", "cat", "/nowhere"}), 3, "/nowhere");
}

TEST_F(BadInputCluster, FolderWithoutImagesBatchZeroAndNegativeRate) {
  refused(run({"submit", "--model", "lenet5", "--data", "/texts"}), 2, "/texts");
  refused(run({"submit", "--model", "lenet5", "--data", "/data", "--batch", "0"}), 2, "batch");
  refused(run({"submit", "--model", "lenet5", "--data", "/data", "--rate", "-5/s"}), 2, "rate");
}

TEST_F(BadInputCluster, UnknownCommandAndOption) {
  EXPECT_EQ(run({"sumbit"}).exit_code, 2);
  EXPECT_EQ(run({"fs", "ls", "--no-such-option"}).exit_code, 2);
}

TEST(BadInput, ConfigWithAnUnknownKeyNamesItAndTheNearest) {
  const TempDir temp;
  const auto config = temp.path() / "cluster.toml";
  std::ofstream(config) << "[cluster]\nid = \"x\"\n[[node]]\nid = 1\nhost = \"127.0.0.1\"\nport = 7400\ndata_dir = "
                           "\"n1\"\n[tuning]\nreplicaton = 3\n";
  const CommandResult node = run_program({(bin_dir() / "idunnod").string(), "--config", config.string(), "--node", "1"});
  EXPECT_EQ(node.exit_code, 2);
  EXPECT_NE(node.err.find("replicaton"), std::string::npos) << node.err;
  EXPECT_NE(node.err.find("replication\""), std::string::npos) << node.err;
}

TEST(BadInput, ClusterThatIsNotThereOrDoesNotAnswer) {
  const TempDir temp;
  const auto idunno = (bin_dir() / "idunno").string();
  const CommandResult none = run_program({idunno, "--dir", (temp.path() / "none").string(), "status"});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_NE(none.err.find("idunno up"), std::string::npos) << none.err;

  const TestCluster cluster(1);
  cluster.expect(0, {"kill-node", "n1"});
  const CommandResult silent = cluster.idunno({"status", "--timeout", "2s"});
  EXPECT_EQ(silent.exit_code, 4) << silent.err;
}

TEST(BadInput, KeyThatIsNotAdmittedIsRefused) {
  const TestCluster cluster(1);
  const TestCluster other(1);
  const CommandResult stranger =
      cluster.idunno({"--key", (other.dir() / "keys" / "admin.key").string(), "--timeout", "5s", "status"});
  EXPECT_EQ(stranger.exit_code, 10) << stranger.err;
  const CommandResult reader = cluster.idunno({"--key", (cluster.dir() / "keys" / "read.key").string(), "fs", "rm", "/x"});
  EXPECT_EQ(reader.exit_code, 10) << reader.err;
}

TEST(BadInput, KeyThatOnlyTheNodesRefuseIsRefusedToo) {
  const TestCluster cluster(1);
  cluster.expect(0, {"keys", "add", "alice", "--role", "read"});
  // A client with a list of its own, as on another machine, from before the key was revoked.
  const auto old = cluster.scratch() / "old";
  std::filesystem::create_directories(old);
  std::filesystem::copy(cluster.dir() / "keys", old / "keys", std::filesystem::copy_options::recursive);
  std::ifstream in(cluster.dir() / "cluster.toml");
  std::string config{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const std::string keys = (cluster.dir() / "keys").string();
  ASSERT_NE(config.find(keys), std::string::npos) << config;
  config.replace(config.find(keys), keys.size(), (old / "keys").string());
  std::ofstream(old / "cluster.toml") << config;
  const std::vector<std::string> status{(bin_dir() / "idunno").string(),
                                        "--config",
                                        (old / "cluster.toml").string(),
                                        "--key",
                                        (old / "keys" / "alice.key").string(),
                                        "--timeout",
                                        "5s",
                                        "status"};
  EXPECT_EQ(run_program(status).exit_code, 0);
  cluster.expect(0, {"keys", "revoke", "alice"});
  CommandResult late;
  EXPECT_TRUE(eventually([&] { return (late = run_program(status)).exit_code != 0; }, std::chrono::seconds(10)));
  refused(late, 10, "not admitted");
}

TEST(BadInput, FullDiskIsSaidAndNothingIsLost) {
  const TempDir disk;
  if (geteuid() != 0 || mount("tmpfs", disk.path().c_str(), "tmpfs", 0, "size=96m") != 0)
    GTEST_SKIP() << "cannot mount a small tmpfs";
  {
    const TestCluster cluster(1, {"--data-root", disk.path().string(), "--set", "disk_reserve=16M"});
    const auto good = cluster.scratch() / "good";
    std::ofstream(good) << "kept";
    cluster.expect(0, {"fs", "put", good.string(), "/good"});
    const auto large = cluster.scratch() / "large";
    std::ofstream(large) << std::string(200 << 20, 'x');
    const CommandResult put = cluster.idunno({"fs", "put", large.string(), "/large"});
    EXPECT_EQ(put.exit_code, 1) << put.err;
    EXPECT_NE(put.err.find("full"), std::string::npos) << put.err;
    cluster.expect(3, {"fs", "stat", "/large"});
    EXPECT_EQ(cluster.expect(0, {"fs", "cat", "/good"}).out, "kept");
    EXPECT_TRUE(cluster.status().is_object());
  }
  umount2(disk.path().c_str(), MNT_DETACH);
}

}  // namespace
}  // namespace idunno::testing

// Files in SDFS through the command line: what goes in comes out.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "bus/base/sanitizer.h"
#include "tests/cluster/harness.h"

namespace idunno::testing {
namespace {

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// `bytes` of text that differs from place to place.
void write_file(const std::filesystem::path& file, std::uint64_t bytes, unsigned seed) {
  std::ofstream out(file, std::ios::binary);
  std::uint64_t state = seed;
  std::string piece(1 << 16, '\0');
  while (bytes > 0) {
    for (std::size_t i = 0; i + 8 <= piece.size(); i += 8) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      piece.replace(i, 8, reinterpret_cast<const char*>(&state), 8);
    }
    const std::uint64_t part = std::min<std::uint64_t>(bytes, piece.size());
    out.write(piece.data(), static_cast<std::streamsize>(part));
    bytes -= part;
  }
}

std::uint64_t peak_rss_kib(int pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoull(line.substr(6));
  }
  return 0;
}

TEST(SdfsCluster, FilesVersionsAndFoldersComeBackAsTheyWere) {
  const TestCluster cluster(4);
  const auto folder = cluster.scratch() / "tree";
  std::filesystem::create_directories(folder / "sub" / "deep");
  write_file(folder / "empty", 0, 1);
  write_file(folder / "small", 10, 2);
  write_file(folder / "sub" / "block", 1 << 20, 3);
  write_file(folder / "sub" / "deep" / "large", (5 << 20) + 17, 4);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/tree"});
  const auto back = cluster.scratch() / "back";
  cluster.expect(0, {"fs", "get", "-r", "/tree", back.string()});
  for (const char* name : {"empty", "small", "sub/block", "sub/deep/large"}) {
    EXPECT_EQ(content(folder / name), content(back / name)) << name;
  }

  write_file(folder / "small", 20, 5);
  cluster.expect(0, {"fs", "put", (folder / "small").string(), "/tree/small"});
  EXPECT_EQ(cluster.expect(0, {"fs", "cat", "/tree/small"}).out, content(folder / "small"));
  const auto old = cluster.scratch() / "old";
  cluster.expect(0, {"fs", "get", "--version", "1", "/tree/small", old.string()});
  EXPECT_EQ(content(old).size(), 10U);
  EXPECT_NE(cluster.expect(0, {"fs", "versions", "/tree/small", "--json"}).out.find("\"version\": 2"), std::string::npos);
  EXPECT_NE(cluster.expect(0, {"fs", "ls", "-R", "/tree"}).out.find("/tree/sub/deep/large"), std::string::npos);
  EXPECT_EQ(cluster.expect(0, {"fs", "locate", "/tree/sub/deep/large", "--json"}).json()["blocks"].size(), 6U);
  cluster.expect(0, {"fs", "df"});
  cluster.expect(0, {"fs", "fsck"});
  cluster.expect(0, {"fs", "rm", "-r", "/tree"});
  cluster.expect(3, {"fs", "ls", "/tree"});
}

TEST(SdfsCluster, ReadsAndWritesGoOnWithThreeOfSevenNodesDead) {
  const TestCluster cluster(7);
  const auto file = cluster.scratch() / "file";
  write_file(file, (3 << 20) + 1, 7);
  cluster.expect(0, {"fs", "put", file.string(), "/a"});
  cluster.expect(0, {"kill-node", "--coordinator", "--random", "2"});
  EXPECT_EQ(cluster.expect(0, {"fs", "cat", "/a"}).out, content(file));
  cluster.expect(0, {"fs", "put", file.string(), "/b"});
  EXPECT_EQ(cluster.expect(0, {"fs", "cat", "/b"}).out, content(file));
}

TEST(SdfsCluster, DeadNodesBlocksAreCopiedToTheOthers) {
  const TestCluster cluster(5);
  const auto folder = cluster.make_images("images", 30, 64);
  cluster.expect(0, {"fs", "put", "-r", folder.string(), "/data"});
  cluster.expect(0, {"kill-node", "n5"});
  ASSERT_TRUE(eventually([&] {
    const nlohmann::json status = cluster.status();
    return status["nodes"][4].value("state", "") == "dead" && status.value("under_replicated_blocks", -1) == 0;
  }));
  cluster.expect(0, {"fs", "fsck"});
}

TEST(SdfsCluster, FileLargerThanMemoryLimitsStreams) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is larger than the limit that is tested";
  // 2 GiB through one replica less than the nodes: the resident memory of every process stays under 300 MB.
  constexpr std::uint64_t kBytes = 2ULL << 30U;
  constexpr std::uint64_t kRssKibMax = 300 * 1000;
  const TestCluster cluster(2);
  if (std::filesystem::space(cluster.scratch()).available < 8 * kBytes) GTEST_SKIP() << "needs 16 GiB of free disk";
  const auto file = cluster.scratch() / "large";
  write_file(file, kBytes, 11);
  const auto limited = [&](const std::vector<std::string>& arguments) {
    std::vector<std::string> all{
        "/usr/bin/env",
        "bash",
        "-c",
        "\"$0\" \"$@\" & pid=$!; peak=0; while kill -0 $pid 2>/dev/null; do "
        "now=$(awk '/VmHWM/{print $2}' /proc/$pid/status 2>/dev/null); [ -n \"$now\" ] && peak=$now; read -rt 0.1 <> <(:); "
        "done; wait $pid; code=$?; echo \"PEAK $peak\" >&2; exit $code",
        (bin_dir() / "idunno").string(),
        "--dir",
        cluster.dir().string(),
        "--timeout",
        "500s"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const CommandResult result = run_program(all, std::chrono::seconds(520));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto at = result.err.find("PEAK ");
    ASSERT_NE(at, std::string::npos) << result.err;
    EXPECT_LT(std::stoull(result.err.substr(at + 5)), kRssKibMax) << arguments[1];
  };
  limited({"fs", "put", file.string(), "/large"});
  const auto back = cluster.scratch() / "back";
  limited({"fs", "get", "/large", back.string()});
  EXPECT_EQ(run_program({"/usr/bin/cmp", file.string(), back.string()}).exit_code, 0);
  const nlohmann::json status = cluster.status();
  for (const auto& node : status["nodes"]) {
    EXPECT_LT(peak_rss_kib(node.value("pid", 0)), kRssKibMax) << node.dump();
  }
}

}  // namespace
}  // namespace idunno::testing

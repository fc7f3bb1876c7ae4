// The architecture's own rules (ARCHITECTURE.md, "The folders"), read from the sources: includes point one way, and pure code
// touches no clock, thread, random device or unordered container.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

namespace idunno {
namespace {

namespace fs = std::filesystem;

const fs::path kRoot = IDUNNO_SOURCE_DIR;

std::vector<fs::path> sources(const std::string& folder) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::recursive_directory_iterator(kRoot / folder)) {
    const auto extension = entry.path().extension();
    if (extension == ".h" || extension == ".cc") found.push_back(entry.path());
  }
  return found;
}

std::string text_of(const fs::path& file) {
  const std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::string> own_includes(const fs::path& file) {
  static const std::regex kInclude("#include \"([^\"]+)\"");
  const std::string text = text_of(file);
  std::vector<std::string> found;
  for (std::sregex_iterator at(text.begin(), text.end(), kInclude), end; at != end; ++at) found.push_back((*at)[1]);
  return found;
}

bool starts_with(const std::string& text, const std::string& prefix) { return text.rfind(prefix, 0) == 0; }

/// Comments and strings may name what code must not use.
std::string without_comments(const std::string& text) {
  static const std::regex kComment("//[^\n]*");
  return std::regex_replace(text, kComment, "");
}

std::vector<fs::path> pure_sources() {
  std::vector<fs::path> pure;
  for (const char* folder : {"nodes/jobs", "nodes/raft", "nodes/swim", "nodes/core", "bus/base"}) {
    for (const auto& file : sources(folder)) pure.push_back(file);
  }
  for (const auto& file : sources("storage/sdfs")) {
    const std::string name = file.filename();
    if (starts_with(name, "namespace") || starts_with(name, "placement")) pure.push_back(file);
  }
  return pure;
}

TEST(Structure, IncludesPointOneWay) {
  const std::map<std::string, std::vector<std::string>> allowed = {
      {"bus", {"bus/"}},
      {"storage", {"storage/", "bus/"}},
      {"nodes", {"nodes/", "storage/", "bus/"}},
      {"cli", {"cli/", "storage/", "bus/"}},
  };
  for (const auto& [folder, prefixes] : allowed) {
    for (const auto& file : sources(folder)) {
      for (const auto& include : own_includes(file)) {
        bool fine = false;
        for (const auto& prefix : prefixes) fine = fine || starts_with(include, prefix);
        EXPECT_TRUE(fine) << file << " includes " << include << ": " << folder << " may not";
      }
    }
  }
}

TEST(Structure, TheCoresOfANodeKnowOnlyWhatIsBelowThem) {
  // runtime -> core -> jobs and raft; swim stands alone. Of storage they may know the namespace and the interfaces of stores.
  const std::map<std::string, std::vector<std::string>> allowed = {
      {"nodes/raft", {"nodes/raft/", "storage/log_store.h", "bus/"}},
      {"nodes/swim", {"nodes/swim/", "bus/"}},
      {"nodes/jobs", {"nodes/jobs/", "storage/sdfs/", "storage/log_store.h", "bus/"}},
      {"nodes/core", {"nodes/core/", "nodes/jobs/", "nodes/raft/", "storage/outbox_store.h", "storage/log_store.h", "bus/"}},
      {"nodes/worker", {"nodes/worker/", "nodes/jobs/", "storage/models/", "bus/"}},
  };
  for (const auto& [folder, prefixes] : allowed) {
    for (const auto& file : sources(folder)) {
      for (const auto& include : own_includes(file)) {
        const bool fine = std::any_of(prefixes.begin(), prefixes.end(),
                                      [&include](const std::string& prefix) { return starts_with(include, prefix); });
        EXPECT_TRUE(fine) << file << " includes " << include << ": " << folder << " may not";
      }
    }
  }
}

TEST(Structure, BaseUsesNothingButItself) {
  for (const auto& file : sources("bus/base")) {
    for (const auto& include : own_includes(file))
      EXPECT_TRUE(starts_with(include, "bus/base/")) << file << " includes " << include;
  }
}

TEST(Structure, PureCodeHasNoClockThreadChanceOrUnorderedContainer) {
  const std::vector<std::regex> banned = {
      std::regex("_clock::now"), std::regex("monotonic_now"), std::regex("wall_now_ms"),  std::regex("random_device"),
      std::regex("\\brand\\("),  std::regex("<thread>"),      std::regex("<mutex>"),      std::regex("<atomic>"),
      std::regex("getenv"),      std::regex("unordered_"),    std::regex("std::shuffle"), std::regex("_distribution<"),
      std::regex("bus/clock.h"), std::regex("zmq"),           std::regex("rocksdb"),      std::regex("opencv"),
      std::regex("bus/rpc.h"),   std::regex("event_loop"),
  };
  for (const auto& file : pure_sources()) {
    const std::string text = without_comments(text_of(file));
    for (const auto& word : banned) {
      std::smatch hit;
      EXPECT_FALSE(std::regex_search(text, hit, word)) << file << " uses " << hit.str();
    }
  }
}

TEST(Structure, EveryFolderExplainsItself) {
  for (const char* folder : {"bus", "storage", "storage/sdfs", "storage/models", "nodes", "nodes/raft", "nodes/swim",
                             "nodes/jobs", "nodes/core", "nodes/worker", "nodes/runtime", "cli", "cli/models", "tests",
                             "tests/sim", "tests/chaos", "tests/unit/raft", "configs"}) {
    EXPECT_TRUE(fs::exists(kRoot / folder / "README.md")) << folder;
  }
}

}  // namespace
}  // namespace idunno

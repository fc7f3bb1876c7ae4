// Runs scenarios/*.txt: stories in the style of etcd's datadriven tests. A file is a list of blocks, each a few commands, a line
// `----`, and what they print. IDUNNO_REWRITE=1 writes what was printed into the file instead of comparing (then read the diff).
// The commands are listed in README.md.

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/unit/raft/raft_cluster.h"

namespace idunno::raft_test {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

/// One story: the cluster and the commands.
class Story {
 public:
  std::string run(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> words;
    for (std::string word; in >> word;) words.push_back(word);
    if (words.empty() || words[0][0] == '#') return "";
    std::string out = command(words);
    if (cluster_ && !cluster_->promises.broken.empty()) out += "BROKEN: " + cluster_->promises.broken.front() + "\n";
    return out;
  }

 private:
  static std::uint32_t number(const std::string& word) { return static_cast<std::uint32_t>(std::stoul(word)); }

  std::string command(const std::vector<std::string>& words) {
    const std::string& what = words[0];
    if (what == "cluster") {
      cluster_ = std::make_unique<RaftCluster>(number(words.at(1)), 1, words.size() > 2 ? number(words[2]) : 0);
      return "";
    }
    RaftCluster& c = *cluster_;
    if (what == "run") return c.run(milliseconds(number(words.at(1)))), "";
    if (what == "elect") return c.elect(number(words.at(1)), milliseconds(3000)) ? "" : "not elected\n";
    if (what == "propose") return propose(words);
    if (what == "append") return append(words);
    if (what == "show") return show(words);
    if (what == "cut" || what == "hold" || what == "separate") return links(words);
    if (what == "heal") return c.heal(), "";
    if (what == "release") return c.release(words.size() > 1), "";
    if (what == "drop") return c.drop_held(), "";
    if (what == "crash") return c.crash(number(words.at(1))), "";
    if (what == "kill") return c.crash(number(words.at(1)), true), "";
    if (what == "restart") return c.restart(number(words.at(1))), "";
    if (what == "wipe") return c.wipe(number(words.at(1))), "";
    if (what == "pause") return c.at(number(words.at(1))).paused = true, "";
    if (what == "resume") return c.at(number(words.at(1))).paused = false, "";
    if (what == "fail-write") return fault(words);
    if (what == "dead") return dead(words);
    if (what == "compact") return compact(words);
    return rare(words);
  }

  std::string rare(const std::vector<std::string>& words) {
    RaftCluster& c = *cluster_;
    const std::string& what = words[0];
    if (what == "transfer") {
      const auto done = c.at(number(words.at(1))).raft->transfer(NodeId{number(words.at(2))}, c.now());
      return done.ok() ? "" : done.error().detail + "\n";
    }
    if (what == "tick") {
      auto& server = c.at(number(words.at(1)));
      server.raft->tick(c.now());
      return fmt::format("n{} leading {} serving {}\n", words[1], server.raft->leading(), server.raft->serving());
    }
    if (what == "read") return c.at(number(words.at(1))).raft->read_barrier(number(words.at(2)), c.now()), "";
    if (what == "reads") {
      std::string out;
      for (const ReadBarrier& read : c.at(number(words.at(1))).reads) {
        out += fmt::format("{} {}\n", read.ticket, read.passed ? "passed" : "refused");
      }
      c.at(number(words.at(1))).reads.clear();
      return out;
    }
    if (what == "applied") {
      std::string out = "n" + words.at(1) + ":";
      for (const std::string& item : c.at(number(words[1])).applied) out += " " + item;
      return out + "\n";
    }
    if (what == "leader") {
      const NodeId leader = c.serving_leader();
      return leader ? to_string(leader) + "\n" : "none\n";
    }
    if (what == "count") {
      const std::size_t messages = std::exchange(c.appends_with_entries, 0);
      return words.size() > 1 ? fmt::format("at most {}: {}\n", words[1], messages <= number(words[1])) : "";
    }
    if (what == "lose-chunks") {
      auto left = std::make_shared<std::uint32_t>(number(words.at(1)));
      c.filter = [left](const Packet&, const RaftMessage& message) { return !message.chunk || *left == 0 || (*left)-- == 0; };
      return "";
    }
    if (what == "mute") {  // its entries and heartbeats are lost
      c.filter = [node = NodeId{number(words.at(1))}](const Packet& packet, const RaftMessage& message) {
        return packet.from != node || !message.append;
      };
      return "";
    }
    if (what == "strip") {  // entries of a leader's own epoch never leave it
      c.rewrite = [node = NodeId{number(words.at(1))}](RaftMessage& message) {
        if (message.from != node || !message.append) return;
        std::erase_if(message.append->entries, [&](const RaftEntry& entry) { return entry.epoch == message.epoch; });
      };
      return "";
    }
    if (what == "normal") return c.filter = nullptr, c.rewrite = nullptr, "";
    if (what == "writes")
      return fmt::format("n{} wrote {} times\n", words.at(1), std::exchange(c.at(number(words[1])).disk->writes, 0));
    return "no such command: " + what + "\n";
  }

  /// Proposed in one turn of the node.
  std::string propose(const std::vector<std::string>& words) {
    std::string out = append(words);
    cluster_->flush(number(words.at(1)));
    return out;
  }

  std::string append(const std::vector<std::string>& words) {
    std::string out;
    for (std::size_t i = 2; i < words.size(); ++i) {
      std::string command = words[i];
      if (command.rfind("x", 0) == 0 && command.size() > 1 && command.back() == 'k') {
        command = std::string(1024 * std::stoul(command.substr(1)), 'x');
      }
      const auto index = cluster_->propose(number(words.at(1)), command);
      if (!index) out += index.error().detail + "\n";
    }
    return out;
  }

  std::string show(const std::vector<std::string>& words) {
    std::string out;
    for (auto& [id, server] : cluster_->servers()) {
      bool wanted = words.size() == 1;
      for (std::size_t i = 1; i < words.size(); ++i) wanted = wanted || number(words[i]) == id.value;
      if (wanted) out += cluster_->describe(id.value) + "\n";
    }
    return out;
  }

  /// cut 1>2 2>3: one way; separate 1 4: these from all others, both ways.
  std::string links(const std::vector<std::string>& words) {
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto arrow = words[i].find('>');
      if (words[0] != "separate") {
        const std::uint32_t from = number(words[i].substr(0, arrow));
        const std::uint32_t to = number(words[i].substr(arrow + 1));
        words[0] == "cut" ? cluster_->cut(from, to) : cluster_->hold(from, to);
        continue;
      }
      for (auto& [id, server] : cluster_->servers()) {
        bool is_inside = false;
        for (std::size_t k = 1; k < words.size(); ++k) is_inside = is_inside || number(words[k]) == id.value;
        if (is_inside) continue;
        cluster_->cut(number(words[i]), id.value);
        cluster_->cut(id.value, number(words[i]));
      }
    }
    return "";
  }

  std::string fault(const std::vector<std::string>& words) {
    const std::string& how = words.at(2);
    cluster_->at(number(words[1])).disk->next = how == "before"  ? WriteFault::crash_before
                                                : how == "after" ? WriteFault::crash_after
                                                                 : WriteFault::error;
    return "";
  }

  std::string dead(const std::vector<std::string>& words) {
    for (auto& [id, server] : cluster_->servers()) {
      if (server.raft) server.raft->node_alive(NodeId{number(words.at(1))}, false, cluster_->now());
    }
    return "";
  }

  std::string compact(const std::vector<std::string>& words) {
    Server& server = cluster_->at(number(words.at(1)));
    std::string state;
    for (const std::string& item : server.applied) state += item + " ";
    const auto done = server.raft->compact(server.applied_index, state);
    return done.ok() ? "" : done.error().detail + "\n";
  }

  std::unique_ptr<RaftCluster> cluster_;
};

/// The file as it would be if everything printed were expected.
std::string replay(const fs::path& file) {
  std::ifstream in(file);
  Story story;
  std::string out;
  std::string printed;
  bool skipping = false;
  for (std::string line; std::getline(in, line);) {
    if (skipping && !line.empty()) continue;  // what was expected
    skipping = false;
    out += line + "\n";
    if (line == "----") {
      out += printed;
      printed.clear();
      skipping = true;
    } else {
      printed += story.run(line);
    }
  }
  return out;
}

std::string text_of(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

class RaftScenario : public ::testing::TestWithParam<std::string> {};

TEST_P(RaftScenario, GoesAsTold) {
  const fs::path file = fs::path(IDUNNO_SCENARIOS) / (GetParam() + ".txt");
  const std::string told = replay(file);
  if (std::getenv("IDUNNO_REWRITE") != nullptr) std::ofstream(file) << told;
  EXPECT_EQ(told, text_of(file));
}

std::vector<std::string> stories() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(IDUNNO_SCENARIOS)) names.push_back(entry.path().stem());
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Files, RaftScenario, ::testing::ValuesIn(stories()), [](const auto& story) { return story.param; });

}  // namespace
}  // namespace idunno::raft_test

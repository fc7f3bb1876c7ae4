// Random faults, many seeds: loss, doubling, reordering, cuts, crashes (also in the middle of a write), pauses, wiped minorities.
// Safety is checked at every step by RaftCluster; then all heals, and the cluster must commit something new within a bound.
// SEED=n replays one; SEEDS=n runs so many.

#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/unit/raft/raft_cluster.h"

namespace idunno::raft_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Faults {
  std::uint64_t loss_percent = 0;
  std::uint64_t delay_ms = 1;
  bool crashes = false;
  bool wipes = false;
  bool cuts = false;
  bool pauses = false;
  bool transfers = false;
};

class Torture {
 public:
  Torture(std::uint32_t nodes, std::uint64_t seed) : nodes_(nodes), cluster_(nodes, seed), random_(seed * 7919 + nodes) {
    faults_.loss_percent = random_.chance(0.5) ? random_.below(20) : 0;
    faults_.delay_ms = random_.chance(0.5) ? 1 + random_.below(40) : 1;
    faults_.crashes = random_.chance(0.7);
    faults_.wipes = random_.chance(0.3);
    faults_.cuts = random_.chance(0.5);
    faults_.pauses = random_.chance(0.4);
    faults_.transfers = random_.chance(0.3);
    cluster_.duplicate_percent = random_.chance(0.3) ? 10 : 0;
    cluster_.compact_every = random_.chance(0.5) ? 5 + random_.below(40) : 0;
    cluster_.filter = [this](const Packet&, const RaftMessage&) { return random_.below(100) >= faults_.loss_percent; };
    cluster_.delay = [this](const Packet&) { return milliseconds(1 + random_.below(faults_.delay_ms)); };
  }

  void run() {
    for (int i = 0; i < 60; ++i) {
      one_fault();
      for (std::uint64_t n = random_.below(4); n > 0; --n) propose();
      cluster_.run(milliseconds(random_.below(80)));
    }
    heal();
  }

  [[nodiscard]] const std::vector<std::string>& broken() const { return cluster_.promises.broken; }
  [[nodiscard]] bool recovered() const { return recovered_; }
  RaftCluster& cluster() { return cluster_; }

 private:
  std::uint32_t any_node() { return 1 + static_cast<std::uint32_t>(random_.below(nodes_)); }

  void propose() {
    const std::uint32_t node = any_node();
    if (cluster_.at(node).raft && !cluster_.at(node).paused) {
      static_cast<void>(cluster_.propose(node, "c" + std::to_string(++commands_)));
    }
  }

  void one_fault() {
    const std::uint32_t node = any_node();
    Server& server = cluster_.at(node);
    switch (random_.below(8)) {
      case 0:
        if (faults_.crashes && server.raft) {
          if (random_.chance(0.4)) cluster_.crash(node, random_.chance(0.5));
          server.disk->next = random_.chance(0.5) ? WriteFault::crash_before : WriteFault::crash_after;
        }
        break;
      case 1:
      case 2:
        if (!server.raft) cluster_.restart(node);
        break;
      case 3:
        if (faults_.cuts) cluster_.cut(node, any_node());
        break;
      case 4:
        cluster_.heal();
        break;
      case 5:
        if (faults_.pauses) server.paused = !server.paused;
        break;
      case 6:
        // Only when all others hold what is committed: a wipe is a lost disk, and a majority of disks must stay.
        if (faults_.wipes && may_wipe(node)) {
          cluster_.wipe(node);
          cluster_.restart(node);
        }
        break;
      default:
        if (faults_.transfers && cluster_.leader()) {
          static_cast<void>(cluster_.at(cluster_.leader().value).raft->transfer(NodeId{node}, cluster_.now()));
        }
    }
  }

  /// A majority without this node must hold everything committed, and must name this very life, so that lives are lost one by
  /// one.
  bool may_wipe(std::uint32_t node) {
    const NodeId lead = cluster_.serving_leader();
    if (!lead || lead.value == node) return false;
    const RaftStatus status = cluster_.at(lead.value).raft->status();
    std::size_t voters = 0;
    std::size_t holding = 0;
    for (const LogMember& member : status.members) {
      if (member.log_id != cluster_.at(member.node.value).disk->log.log_id) return false;
      if (!member.voter) continue;
      ++voters;
      const bool holds = cluster_.at(member.node.value).disk->last() >= status.last;
      if (member.node.value != node && holds) ++holding;
    }
    return voters == nodes_ && holding > nodes_ / 2;
  }

  void heal() {
    cluster_.heal();
    faults_ = Faults{};
    for (auto& [id, server] : cluster_.servers()) {
      server.paused = false;
      server.disk->next = WriteFault::none;
      if (!server.raft) cluster_.restart(id.value);
    }
    // A leader may be deposed, or handing over, when it is asked: ask again, as a client would.
    for (int attempt = 0; attempt < 10 && !recovered_; ++attempt) {
      if (!cluster_.run_until([this] { return static_cast<bool>(cluster_.serving_leader()); }, seconds(5))) return;
      const auto index = cluster_.propose(cluster_.serving_leader().value, "last");
      recovered_ = cluster_.run_until([&] { return index.ok() && all_applied(*index); }, seconds(1));
    }
  }

  bool all_applied(LogIndex index) {
    for (auto& [id, server] : cluster_.servers()) {
      if (server.applied_index < index) return false;
    }
    return true;
  }

  std::uint32_t nodes_;
  RaftCluster cluster_;
  Random random_;
  Faults faults_;
  std::uint64_t commands_ = 0;
  bool recovered_ = false;
};

std::uint64_t number_of(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

class RaftTorture : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(RaftTorture, KeepsItsPromisesAndRecovers) {
  const std::uint64_t only = number_of("SEED", 0);
  const std::uint64_t seeds = only != 0 ? only : number_of("SEEDS", 150);
  for (std::uint64_t seed = only != 0 ? only : 1; seed <= seeds; ++seed) {
    Torture torture(GetParam(), seed);
    torture.run();
    std::string state;
    for (std::uint32_t node = 1; node <= GetParam(); ++node) state += torture.cluster().describe(node) + "\n";
    ASSERT_TRUE(torture.broken().empty()) << "SEED=" << seed << ": " << torture.broken().front() << "\n" << state;
    ASSERT_TRUE(torture.recovered()) << "SEED=" << seed << ": no progress after healing\n" << state;
  }
}

INSTANTIATE_TEST_SUITE_P(Nodes, RaftTorture, ::testing::Values(3U, 5U, 7U));

}  // namespace
}  // namespace idunno::raft_test

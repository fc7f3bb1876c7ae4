#include "tests/sim/faults.h"

#include <algorithm>

namespace idunno::sim {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kOtherCopies = 2;  ///< of a block that is damaged, or whose disk is wiped

}  // namespace

Duration Faults::random_time(Duration low, Duration high) {
  return low + Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>((high - low).count()) + 1))};
}

void Faults::later(Duration wait, std::function<void()> action) {
  env_.agenda.after(wait, [this, action = std::move(action)] {
    if (!over_) action();
  });
}

void Faults::every(Duration mean, Fault fault) {
  if (mean == Duration{0}) return;
  later(random_time(mean / 4, mean * 7 / 4), [this, mean, fault] {
    (this->*fault)();
    every(mean, fault);
  });
}

void Faults::begin() {
  const Swarm& swarm = env_.swarm;
  every(swarm.crash_every, &Faults::crash);
  every(swarm.assassinate_every, &Faults::assassinate);
  every(swarm.cut_every, &Faults::cut);
  every(swarm.pause_every, &Faults::pause);
  every(swarm.slow_disk_every, &Faults::slow_disk);
  every(swarm.failed_write_every, &Faults::failed_write);
  every(swarm.full_disk_every, &Faults::full_disk);
  every(swarm.break_every, &Faults::break_connection);
  every(swarm.damage_every, &Faults::damage);
  every(swarm.wall_jump_every, &Faults::wall_jump);
  every(swarm.transfer_every, &Faults::transfer);
}

void Faults::heal() {
  over_ = true;
  env_.trace.note(0x4EA1, [] { return std::string("all is healed"); });
  env_.network.calm();
  env_.network.mend_all();
  for (const auto& node : nodes_) {
    node->disk().slow(Duration{0});
    node->disk().full(false);
    node->disk().fail_no_write();
    if (node->paused()) node->resume();
    if (!node->up()) node->start();
    node->process()->scrub();
  }
  // One that stopped itself in this very moment.
  env_.agenda.after(milliseconds(100), [this] {
    for (const auto& node : nodes_) {
      if (!node->up()) node->start();
    }
  });
}

// -- limits -----------------------------------------------------------------------------------------------------------

/// A wiped disk costs a vote until the new log is a voter, and not only in the tail of the leader's log: a configuration that no
/// other node has yet is gone with the next disk (seed 56664).
bool Faults::recovering(const SimNode& node) const {
  if (!wiped_.contains(node.id())) return false;
  if (OfficeChecker::coordinator(nodes_) == nullptr) return true;
  const auto knows = [&](const SimNode& other) {
    if (other.process()->control() == nullptr) return true;  // it keeps no log
    const std::vector<LogMember> members = other.process()->control()->log().members();
    return std::any_of(members.begin(), members.end(), [&](const LogMember& member) {
      return member.node == node.id() && member.log_id == node.disk().log_id() && member.voter;
    });
  };
  return !std::all_of(nodes_.begin(), nodes_.end(), [&](const auto& other) { return !other->up() || knows(*other); });
}

bool Faults::may_fail(const SimNode& node) const {
  std::size_t faulty = 1;
  for (const auto& other : nodes_) {
    if (other->id() == node.id()) continue;
    if (!other->up() || other->paused() || recovering(*other)) ++faulty;
  }
  return faulty <= (nodes_.size() - 1) / 2;
}

bool Faults::may_wipe(const SimNode& node) const {
  if (!may_fail(node) || nodes_.size() < 3) return false;
  const SimNode* leader = OfficeChecker::coordinator(nodes_);
  if (leader == nullptr) return false;
  for (const auto& other : nodes_) {
    if (recovering(*other)) return false;  // one disk after the other
  }
  for (const auto& [id, block] : node.disk().blocks()) {
    std::size_t others = 0;
    for (const auto& other : nodes_) {
      const StoredBlock* copy = other->id() == node.id() ? nullptr : other->disk().block(id);
      if (copy != nullptr && !copy->damaged) ++others;
    }
    if (others < kOtherCopies) return false;
  }
  // Copies that nobody knows of do not count: each block that is said to be here is said to be, and is, elsewhere.
  const Namespace& files = leader->process()->control()->state().files();
  constexpr BlockId kLast{~0ULL, ~0ULL};
  std::map<BlockId, std::size_t> elsewhere;
  for (const auto& other : nodes_) {
    if (other->id() == node.id()) continue;
    for (const BlockId id : files.held_by(other->id(), BlockId{}, kLast)) {
      const StoredBlock* copy = other->disk().block(id);
      if (copy != nullptr && !copy->damaged) ++elsewhere[id];
    }
  }
  for (const BlockId id : files.held_by(node.id(), BlockId{}, kLast)) {
    if (elsewhere[id] < kOtherCopies) return false;
  }
  return true;
}

// -- the faults -------------------------------------------------------------------------------------------------------

void Faults::crash_one(SimNode& node) {
  if (!node.up()) return;
  const bool power = random_.chance(env_.swarm.power_cut);
  const bool wipe = random_.chance(env_.swarm.wipe) && may_wipe(node);
  node.crash(power);
  if (wipe) {
    env_.trace.note(0x3195, [&] { return to_string(node.id()) + ": its disk is wiped"; });
    node.wipe();
    wiped_.insert(node.id());
    ++wipes_;
  }
  const Duration down = random_.chance(0.7) ? random_time(milliseconds(50), milliseconds(2500))
                                            : random_time(milliseconds(2500), milliseconds(8000));
  later(down, [&node] {
    if (!node.up()) node.start();
  });
}

void Faults::crash() {
  SimNode& node = any_node();
  if (env_.swarm.majority_may_go || may_fail(node)) crash_one(node);
}

void Faults::assassinate() {
  const SimNode* leader = OfficeChecker::coordinator(nodes_);
  if (leader == nullptr || !may_fail(*leader)) return;
  crash_one(*nodes_[leader->id().value - 1]);
}

void Faults::cut() {
  std::vector<std::pair<NodeId, NodeId>> links;
  const bool one_way = random_.chance(env_.swarm.one_way);
  if (random_.chance(env_.swarm.group_cut)) {
    std::vector<NodeId> ids;
    for (const auto& node : nodes_) ids.push_back(node->id());
    random_.shuffle(ids);
    const std::size_t apart =
        1 + random_.below(env_.swarm.majority_may_go ? ids.size() - 1 : std::max<std::size_t>(1, (ids.size() - 1) / 2));
    for (std::size_t i = 0; i < apart && i < ids.size(); ++i) {
      for (std::size_t j = apart; j < ids.size(); ++j) {
        links.emplace_back(ids[i], ids[j]);
        if (!one_way) links.emplace_back(ids[j], ids[i]);
      }
    }
  } else {
    const NodeId from = any_node().id();
    const NodeId to = any_node().id();
    if (from == to) return;
    links.emplace_back(from, to);
    if (!one_way) links.emplace_back(to, from);
  }
  for (const auto& [from, to] : links) {
    env_.trace.note(from.value << 8U | to.value,
                    [&, from = from, to = to] { return "cut " + to_string(from) + "->" + to_string(to); });
    env_.network.cut(from, to);
  }
  later(random_time(milliseconds(100), milliseconds(5000)), [this, links] {
    for (const auto& [from, to] : links) {
      env_.trace.note(to.value, [&, from = from, to = to] { return "mend " + to_string(from) + "->" + to_string(to); });
      env_.network.mend(from, to);
    }
  });
}

void Faults::pause() {
  SimNode& node = any_node();
  if (!node.up() || node.paused() || !(env_.swarm.majority_may_go || may_fail(node))) return;
  node.pause();
  const Duration stopped =
      random_.chance(0.5) ? random_time(milliseconds(20), milliseconds(600)) : random_time(milliseconds(600), milliseconds(5000));
  later(stopped, [&node, life = node.lives()] {
    if (node.lives() == life && node.paused()) node.resume();
  });
}

void Faults::slow_disk() {
  SimNode& node = any_node();
  node.disk().slow(random_time(milliseconds(2), milliseconds(120)));
  later(random_time(milliseconds(300), milliseconds(3000)), [&node] { node.disk().slow(Duration{0}); });
}

void Faults::failed_write() {
  SimNode& node = any_node();
  if (!node.up() || !may_fail(node)) return;
  env_.trace.note(0xE10, [&] { return to_string(node.id()) + ": the next write of its log fails"; });
  node.disk().fail_next_write();
  later(random_time(milliseconds(500), milliseconds(3000)), [&node] {
    if (!node.up()) node.start();
  });
}

/// Half of the disks may be full at once: results and files must then go to the others, or wait.
void Faults::full_disk() {
  SimNode& node = any_node();
  const auto is_full = [](const auto& other) { return other->disk().full(); };
  if (static_cast<std::size_t>(std::count_if(nodes_.begin(), nodes_.end(), is_full)) >= nodes_.size() / 2) return;
  env_.trace.note(0xF011, [&] { return to_string(node.id()) + ": its disk is full"; });
  node.disk().full(true);
  later(random_time(milliseconds(300), milliseconds(4000)), [&node] { node.disk().full(false); });
}

void Faults::break_connection() {
  const NodeId a = any_node().id();
  const NodeId b = random_.chance(0.3) ? NodeId{kFirstClient + static_cast<std::uint32_t>(random_.below(env_.swarm.clients))}
                                       : any_node().id();
  if (a != b) env_.network.break_connections(a, b);
}

void Faults::damage() {
  SimNode& node = any_node();
  const auto& blocks = node.disk().blocks();
  if (blocks.empty() || !node.up() || !may_wipe(node)) return;
  auto chosen = blocks.begin();
  std::advance(chosen, static_cast<std::ptrdiff_t>(random_.below(blocks.size())));
  node.disk().damage_block(chosen->first);
}

void Faults::wall_jump() { any_node().jump_wall(static_cast<std::int64_t>(random_.below(20000)) - 10000); }

void Faults::transfer() {
  const SimNode* leader = OfficeChecker::coordinator(nodes_);
  if (leader != nullptr)
    nodes_[leader->id().value - 1]->process()->transfer_leadership(random_.chance(0.5) ? NodeId{} : any_node().id());
}

}  // namespace idunno::sim

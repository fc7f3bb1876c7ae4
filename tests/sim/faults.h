#pragma once
/// What goes wrong, and when: one process for each kind of fault that the seed's mix has. What is broken heals after some time by
/// itself, and at the end of the faults all at once.
///
/// The limits of what the cluster promises to survive are kept: at most (n - 1) / 2 nodes are down, stopped or wiped at once (a
/// wiped one counts until its log is a voter again), and a disk is wiped or damaged only when its blocks are elsewhere, too.
/// In some runs more nodes than that are down at once, with their disks: then all must wait, and nothing may be lost.

#include <functional>
#include <set>
#include <string>

#include "tests/sim/checkers.h"
#include "tests/sim/node_process.h"

namespace idunno::sim {

class Faults {
 public:
  Faults(Env& env, Nodes& nodes, Random random) : env_(env), nodes_(nodes), random_(random) {}

  void begin();
  void heal();
  [[nodiscard]] std::size_t wipes() const { return wipes_; }
  /// A wiped node counts as faulty until its new log votes.
  [[nodiscard]] bool recovering(const SimNode& node) const;

 private:
  using Fault = void (Faults::*)();
  void every(Duration mean, Fault fault);
  void crash();
  void assassinate();
  void crash_one(SimNode& node);
  void cut();
  void pause();
  void slow_disk();
  void failed_write();
  void full_disk();
  void break_connection();
  void damage();
  void wall_jump();
  void transfer();

  [[nodiscard]] Duration random_time(Duration low, Duration high);
  [[nodiscard]] SimNode& any_node() { return *nodes_[random_.below(nodes_.size())]; }
  [[nodiscard]] bool may_fail(const SimNode& node) const;
  [[nodiscard]] bool may_wipe(const SimNode& node) const;
  void later(Duration wait, std::function<void()> action);

  Env& env_;
  Nodes& nodes_;
  Random random_;
  bool over_ = false;
  std::size_t wipes_ = 0;
  std::set<NodeId> wiped_;
};

}  // namespace idunno::sim

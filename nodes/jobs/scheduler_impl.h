#pragma once
/// Private to scheduler.cc and scheduler_leases.cc: what the scheduler keeps for each job and node.

#include <algorithm>

#include "bus/base/assert.h"
#include "nodes/jobs/scheduler.h"

namespace idunno {

/// A batch that did not go straight.
struct Scheduler::Trouble {
  std::uint32_t attempt = 0;  ///< of its next lease
  std::uint32_t deaths = 0;
  std::uint32_t inputs_missing = 0;
  std::set<NodeId> failed_at;  ///< gets it again only when all others failed too
};

struct Scheduler::JobEntry {
  struct Out {
    NodeId node;
    std::uint32_t attempt = 0;
    std::uint64_t pass = 0;
    Time told{};  ///< when the node was last told of it
  };
  SchedulerJob spec;
  std::uint64_t batches = 0;
  std::vector<bool> committed;
  std::uint64_t next = 0;  ///< lowest batch that was never leased
  std::set<BatchIndex> to_redo;
  std::map<BatchIndex, Out> out;
  std::map<BatchIndex, Trouble> trouble;  ///< at most the batches that are out or to be redone
  std::map<NodeId, std::uint32_t> held;   ///< leases on each node, none 0
  std::map<NodeId, std::uint64_t> local;  ///< what it was leased on each node, by weight, as StrideOrder counts (take_turns)
  std::set<NodeId> room;                  ///< nodes where it holds fewer leases than there are slots
  bool enabled = false;
  bool limited = false;  ///< waits in limited_ until limited_until
  Time limited_until{};
  std::uint64_t tokens_nano = 0;  ///< of a query; grows by rate_limit_milli each microsecond
  Time refilled{};
  std::uint64_t retried = 0;

  [[nodiscard]] bool has_work() const { return !to_redo.empty() || next < batches; }
  [[nodiscard]] std::uint32_t queries_of(std::uint64_t index) const {
    const std::uint64_t first = index * spec.batch;
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(spec.batch, spec.queries - first));
  }
  void skip_committed() {
    while (next < batches && committed[next]) ++next;
  }
};

struct Scheduler::NodeEntry {
  NodeId id;
  std::uint32_t slots = 1;
  bool open = true;
  bool refilling = false;  ///< between "much is free" and "full": leases go out in grants of many, not one by one
  bool listed = false;
  bool measured = false;  ///< the node itself said how long its batches take
  std::uint32_t mean_us = 0;
  std::uint32_t credit = 0;
  std::uint32_t leased = 0;
  std::uint64_t turn = 0;
  std::string last_model;
  std::uint64_t local_floor =
      0;  ///< where a job starts that comes to this node, or comes back: it claims nothing for its absence
  FreeKey key{};
};

}  // namespace idunno

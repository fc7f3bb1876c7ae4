#pragma once
/// Private to scheduler*.cc: what the scheduler keeps for each job and node.
///
/// Files: scheduler.cc (jobs, rate limits, commits, reports), _nodes (nodes and their credit, what they say they hold), _leases
/// (decisions), _progress (what is in work), _plan (the
/// order that nodes are told), _bounds (which nodes a job may use), _policies (those
/// for comparison), _losses (leases that come to nothing, isolation, second leases).

#include <algorithm>
#include <deque>

#include "bus/base/assert.h"
#include "nodes/jobs/scheduler.h"
#include "nodes/jobs/worker_queue.h"

namespace idunno {

/// A batch that did not go straight.
struct Scheduler::Trouble {
  std::uint32_t attempt = 0;  ///< of its next lease: higher than all before
  std::uint32_t deaths = 0;
  std::uint32_t inputs_missing = 0;
  Time input_missing_since{};               ///< of the first of them
  std::set<NodeId> failed_at;               ///< gets it again only when all others failed too
  std::optional<BatchIsolation> isolation;  ///< after attempts_max deaths

  /// Numbers from kGiveUpAttempt on say that a batch is given up; the next number does not depend on that.
  void attempted(std::uint32_t number) { attempt = std::min(std::max(attempt, number % kGiveUpAttempt + 1), kGiveUpAttempt - 1); }
};

struct Scheduler::JobEntry {
  struct Holder {
    NodeId node;
    std::uint32_t attempt = 0;
    std::uint64_t local_cost = 0;  ///< counted in `local`, given back when the lease comes to nothing
    Time told{};                   ///< when the node was last told of it
    bool adopted = false;          ///< it was given under another coordinator
    bool redo = false;             ///< it was given for a batch to redo
  };
  struct Out {
    std::vector<Holder> holders;  ///< one; two when it is hedged
    std::uint64_t pass = 0;
    std::uint64_t tokens_nano = 0;  ///< taken from the rate limit
    BatchIsolation::Trial trial;    ///< not empty: a trial
  };
  /// What it has at one node.
  struct Share {
    std::uint64_t local = 0;    ///< what it was leased there, by weight, as StrideOrder counts (take_turns)
    std::uint32_t held = 0;     ///< leases
    std::uint32_t begun = 0;    ///< of those, in NodeEntry::runs
    std::uint32_t took_us = 0;  ///< a batch, of late; 0 = not known
    std::uint32_t cpu_us = 0;   ///< of its executor's processor, a batch, of late; 0 = not known
    bool room = true;           ///< fewer of its leases wait than should (waiting_wanted)
  };
  SchedulerJob spec;
  std::uint64_t batches = 0;  ///< that are known, and of a job without end those of its window
  std::uint64_t batches_done = 0;
  std::uint64_t first = 0;     ///< of `committed`; all before are done
  std::deque<bool> committed;  ///< of batches first, first + 1, ...
  std::uint64_t next = 0;      ///< lowest batch that is to do and not in `out` or `to_redo`; none from here on was leased by us
  std::set<BatchIndex> to_redo;
  std::set<std::pair<Time, BatchIndex>> waiting;  ///< for their input, until then; may be out or done meanwhile
  std::map<BatchIndex, Out> out;
  std::map<BatchIndex, Trouble> trouble;  ///< at most the batches that are out or to be redone
  std::vector<Share> shares;              ///< by NodeEntry::index: a decision looks at many
  std::uint32_t holders = 0;              ///< nodes that hold leases of it
  std::uint32_t runs = 0;                 ///< leases that nodes have begun
  std::uint32_t took_us = 0;              ///< a batch, on all nodes, of late; 0 = not known
  std::uint32_t cpu_us = 0;               ///< of executors' processors, a batch, on all nodes, of late; 0 = not known
  bool arriving = true;                   ///< none of its batches was committed since it came: it has no claim to the time before
  bool settles = false;                   ///< it has just had its first result: what its other batches take is known only now
  bool wants_nodes = false;               ///< enabled, and has work
  std::uint32_t reserved = 0;             ///< nodes that are kept for it
  std::uint64_t split_served = 0;         ///< static_split: queries committed in this period
  bool enabled = false;
  bool limited = false;  ///< waits in limited_ until limited_until
  Time limited_until{};
  std::uint64_t tokens_nano = 0;  ///< of a query; grows by rate_limit_milli each microsecond
  Time refilled{};
  std::uint64_t retried = 0;
  std::uint64_t hedged = 0;

  [[nodiscard]] bool is_committed(std::uint64_t batch) const { return batch < first || committed[batch - first]; }
  [[nodiscard]] BatchPlace place(std::uint64_t index) const {
    return place_of(JobShape{spec.queries, spec.batch, spec.repeat}, spec.segments, index);
  }
  /// It has no claim and no debt yet.
  [[nodiscard]] bool is_new() const { return arriving || settles; }
  /// The lowest goes first; jobs of the same compete (StrideOrder::Key).
  [[nodiscard]] std::int64_t priority_down() const { return spec.urgent ? INT64_MIN : -std::int64_t{spec.priority}; }
  [[nodiscard]] bool has_work() const { return !to_redo.empty() || next < batches; }
  [[nodiscard]] std::uint32_t queries_of(std::uint64_t index) const { return place(index).queries; }
  /// Batches beyond `next` may be adopted, and lost again, before it comes to them.
  void skip_taken() {
    const auto taken = [&](BatchIndex batch) { return is_committed(batch) || out.contains(batch) || to_redo.contains(batch); };
    while (next < batches && taken(static_cast<BatchIndex>(next))) ++next;
  }
  [[nodiscard]] Lease lease_of(BatchIndex batch, const Out& given, const Holder& holder) const;
};

struct Scheduler::NodeEntry {
  NodeId id;
  std::size_t index = 0;  ///< of JobEntry::shares
  std::uint32_t slots = 1;
  bool open = true;
  bool refilling = false;  ///< between "much is free" and "full": leases go out in grants of many, not one by one
  bool listed = false;     ///< in free_
  bool spare = false;      ///< in spare_
  bool measured = false;   ///< the node itself said how long its batches take
  std::uint32_t mean_us = 0;
  std::uint32_t credit = 0;
  std::uint32_t leased = 0;
  std::uint32_t redo = 0;  ///< of those, given for batches to redo
  std::uint64_t turn = 0;
  std::string last_model;
  std::map<LeaseKey, Run> runs;       ///< what it has begun
  std::vector<PlannedStart> planned;  ///< what it has been told to start next
  JobId kept_for;                     ///< nodes_min, or static_split: only this job's leases; 0 = anybody's
  std::uint64_t local_floor =
      0;  ///< where a job starts that comes to this node, or comes back: it claims nothing for its absence
  FreeKey key{};

  /// Until one of its slots is free, as far as is known.
  [[nodiscard]] Duration next_slot(Time now) const {
    if (runs.size() < slots) return {};
    Duration shortest = Duration::max();
    for (const auto& [lease, run] : runs) {
      shortest = std::min(shortest, run.ended ? Duration{} : Duration(static_cast<Duration::rep>(run.left_us(now))));
    }
    return shortest;
  }
};

}  // namespace idunno

#pragma once
/// Which blocks are copied where, so that each has the wanted number of live copies, and which surplus copies go. Pure planner:
/// the coordinator sends its tasks, tells it the reports, and proposes its moves. Bounded: so many blocks and so many bytes per
/// second at once, the most endangered blocks first. A block whose holder is only suspect counts as safe. While the cluster
/// computes, blocks that still have kSafeCopies are copied at a part of the rate, so that jobs keep the processors they had.
///
/// A copy counts when the log says so: a block stays "busy" from the task until the move that came of it has been applied.

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"
#include "storage/sdfs/namespace.h"

namespace idunno {

inline constexpr Duration kRepairRetry = std::chrono::seconds(1);  ///< look again while something is misplaced and nothing moves
inline constexpr Duration kRepairAvoid = std::chrono::seconds(5);  ///< a target that failed gets no task for so long
inline constexpr Duration kRepairTaskTimeout = std::chrono::seconds(60);  ///< a task without a report is given up
inline constexpr Duration kRepairSettle = std::chrono::seconds(10);       ///< a proposed move that was not applied is forgotten
inline constexpr Duration kRepairScanPause =
    std::chrono::milliseconds(200);  ///< between looks at all blocks while files come and go
inline constexpr std::size_t kRepairBlocksPerTask = 32;
inline constexpr std::size_t kSafeCopies = 3;          ///< a block with so many live copies can wait
inline constexpr std::uint64_t kGentleRepairCost = 8;  ///< what a byte of it counts while the cluster computes

struct RepairConfig {
  std::uint32_t replication = 4;
  std::uint32_t blocks_in_flight = 32;
  std::uint64_t bytes_per_s = 64U << 20U;
};

/// The nodes as the coordinator sees them now.
struct RepairView {
  std::set<NodeId> live;               ///< alive or suspect: their copies count
  std::vector<PlacementNode> targets;  ///< alive, with a session: may get copies (weight > 0) and may drop some
  bool computing = false;              ///< nodes hold leases of batches
};

struct RepairOutput {
  std::vector<std::pair<NodeId, ReplicaTask>> tasks;
  std::vector<ReplicaMove> moves;  ///< to be proposed as one MoveReplicas
};

class RepairPlanner {
 public:
  RepairPlanner(RepairConfig config, Time now);

  void namespace_changed() { dirty_ = true; }
  /// Somebody joined or died: everything is looked at again, and what was sent to nodes that are gone is void.
  void membership_changed(const RepairView& view);
  /// Another session of `target` begins: its tasks are void and planned again.
  void forget_tasks(NodeId target);
  void step(const Namespace& files, const RepairView& view, Time now, RepairOutput& out);
  /// Returns how many blocks were copied. Reports about tasks that are not known (any more), or of another node, are ignored.
  std::size_t report(NodeId from, const ReplicaReport& report, const Namespace& files, const RepairView& view, Time now,
                     RepairOutput& out);
  /// A MoveReplicas was applied (by whomever proposed it). Copies that it made surplus are dropped now.
  void moved(const std::vector<ReplicaMove>& moves, const Namespace& files, RepairOutput& out);

  /// A task number for tasks of others (copies of freed blocks), so that numbers stay unique.
  std::uint64_t next_task() { return ++last_task_; }
  [[nodiscard]] Time wake_at() const;
  [[nodiscard]] std::uint64_t under_replicated() const { return under_replicated_; }
  [[nodiscard]] std::size_t in_flight() const { return copying_; }

 private:
  struct Task {
    NodeId target;
    std::vector<BlockPlace> places;
    Time give_up{};
  };
  struct Drop {
    NodeId node;
    Time give_up{};
  };

  template <class Which>
  void void_tasks(Which&& which);
  void refill(Time now);
  [[nodiscard]] std::uint64_t burst() const;
  [[nodiscard]] std::uint64_t cost_of(const BlockRef& block, const RepairView& view) const;
  void expire(Time now);
  void scan(const Namespace& files, const RepairView& view, Time now, RepairOutput& out);
  bool plan_copy(const BlockPlace& place, const RepairView& view, Time now, std::map<NodeId, std::vector<BlockPlace>>& copies);
  void plan_surplus(const BlockPlace& place, const RepairView& view, Time now, RepairOutput& out);
  [[nodiscard]] static const BlockRef* present(const Namespace& files, const BlockPlace& place);
  [[nodiscard]] std::uint32_t wanted(const RepairView& view) const;
  ReplicaMove move_to(const BlockPlace& place, const BlockRef& block, NodeId target, const RepairView& view) const;

  RepairConfig config_;
  bool dirty_ = true;
  bool urgent_ = true;  ///< does not wait for scan_from_
  Time scan_from_{};
  std::uint64_t under_replicated_ = 0;
  std::map<std::uint64_t, Task> tasks_;
  std::set<BlockId> busy_;            ///< in a task, or its move is proposed
  std::map<BlockId, Time> settling_;  ///< moves proposed, and when to stop waiting for them
  std::map<BlockId, Drop> drops_;     ///< surplus copies, dropped once the log says so
  std::map<NodeId, Time> avoid_;      ///< targets that failed
  std::size_t copying_ = 0;
  std::uint64_t tokens_ = 0;         ///< bytes that may be copied now
  std::uint64_t tokens_wanted_ = 0;  ///< a copy waits for so many
  Time refilled_;
  Time retry_at_ = kNever;
  std::uint64_t last_task_ = 0;
};

}  // namespace idunno

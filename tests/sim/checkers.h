#pragma once
/// The rules, each a class of its own. They look into the nodes and their disks from outside, at every turn or now and then, and
/// call `Env::violation` with what is wrong. Nothing of the nodes' own bookkeeping is believed where the disks can be asked.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "nodes/core/control_plane.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/truth.h"

namespace idunno::sim {

using Nodes = std::vector<std::unique_ptr<SimNode>>;
using Report = std::function<void(const std::string&)>;

/// At most one leader in an epoch (election safety).
class LeaderChecker {
 public:
  explicit LeaderChecker(Report violation) : violation_(std::move(violation)) {}
  void look(const SimNode& node, const ControlPlane& control);
  [[nodiscard]] std::size_t leaders() const { return leaders_.size(); }

 private:
  Report violation_;
  std::map<Epoch, std::pair<NodeId, std::uint64_t>> leaders_;  ///< node and life
};

/// What is on the disks of the logs: an epoch never goes back, a vote is never changed, a committed entry never changes or goes,
/// is the same on every node, and was on the disks of a majority of voters when it was called committed.
class LogChecker final : public LogWatcher {
 public:
  LogChecker(Report violation, const Nodes& nodes) : violation_(std::move(violation)), nodes_(nodes) {}

  void hard_state_changes(NodeId node, std::uint64_t log_id, const HardState& from, const HardState& to) override;
  void entries_go(NodeId node, std::uint64_t log_id, LogIndex from, LogIndex to) override;
  void look(const SimNode& node, const ControlPlane& control);

  struct Committed {
    Epoch epoch;
    Hash128 command;
    RequestId request;  ///< {0,0} when it is nobody's
  };
  [[nodiscard]] const std::map<LogIndex, Committed>& committed() const { return committed_; }
  [[nodiscard]] bool has_request(RequestId request) const { return requests_.contains(request); }

 private:
  void check_majority(const SimNode& node, LogIndex index, const std::vector<LogMember>& before,
                      const std::vector<LogMember>& now);
  [[nodiscard]] bool on_majority(LogIndex index, const std::vector<LogMember>& members) const;
  void remember(const SimNode& node, LogIndex index, const LogEntry& entry);

  struct Seen {
    std::uint64_t log_id = 0;
    std::uint64_t life = 0;
    LogIndex committed;  ///< of this log, over all lives
    LogIndex committed_in_life;
    std::vector<LogMember> members;
  };
  Report violation_;
  const Nodes& nodes_;
  std::map<LogIndex, Committed> committed_;
  std::set<RequestId> requests_;
  std::map<NodeId, Seen> seen_;
};

/// Nodes that have applied the same entries have the same state.
class StateChecker {
 public:
  explicit StateChecker(Report violation) : violation_(std::move(violation)) {}
  void look(const SimNode& node, const ControlPlane& control);

 private:
  Report violation_;
  std::map<LogIndex, std::pair<Hash128, NodeId>> hashes_;
};

/// A change is acknowledged only when its entry is committed; so a coordinator without a majority acknowledges nothing.
class AnswerChecker {
 public:
  AnswerChecker(Report violation, const LogChecker& log) : violation_(std::move(violation)), log_(log) {}
  void answered(const SimNode& node, const Envelope& question, MessageType type);
  [[nodiscard]] std::uint64_t acknowledged() const { return acknowledged_; }

 private:
  Report violation_;
  const LogChecker& log_;
  std::uint64_t acknowledged_ = 0;
};

/// Every job that was acknowledged is there and finished, no job twice, every query answered exactly once, with the result of an
/// undisturbed run. `lacks`: what is still missing, empty when nothing is.
class JobChecker {
 public:
  [[nodiscard]] static std::string lacks(const ClusterState& state, const Truth& truth);
};

/// Every acknowledged file is there, each block has the wanted number of good copies on disks that run, and no others are kept.
class FileChecker {
 public:
  [[nodiscard]] static std::string lacks(const ClusterState& state, const Truth& truth, const Nodes& nodes);
  /// While faults go on: every block of the namespace has at least one good copy on some disk.
  [[nodiscard]] static std::string lost(const ClusterState& state, const Nodes& nodes);
};

/// All that run are known to run, by each other and by the coordinator; the dead are known to be dead.
class MemberChecker {
 public:
  [[nodiscard]] static std::string lacks(const Nodes& nodes);
};

/// There is one coordinator, every node keeps the log that the configuration wants it to keep, and has applied all of it.
class OfficeChecker {
 public:
  /// The node that serves, or null.
  [[nodiscard]] static const SimNode* coordinator(const Nodes& nodes);
  [[nodiscard]] static std::string lacks(const Nodes& nodes);
};

}  // namespace idunno::sim

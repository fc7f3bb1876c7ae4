#pragma once
/// Entries of the replicated log: each changes the replicated state (nodes/jobs/cluster_state.h) in the same way on every node.
/// An entry is msgpack [kind, stamp, request id, body] (bus/codec.h). Time enters only as the coordinator's stamp.

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/messages.h"
#include "bus/types.h"

namespace idunno {

/// In the log on disk: never renumber.
enum class CommandKind : std::uint16_t {
  new_epoch = 1,
  register_node = 2,
  commit_files = 10,
  remove_files = 11,
  move_replicas = 12,
  forget_blocks = 13,
  add_model = 20,
  remove_model = 21,
  submit_job = 30,
  control_job = 31,
  set_job = 32,
  fail_job = 33,
  commit_batches = 34,
  set_phase = 35,
  extend_job = 36,
};

/// First entry of a coordinator's reign (the no-op of Raft 5.4.2).
struct NewEpoch {
  static constexpr auto kKind = CommandKind::new_epoch;
  Epoch epoch;
  NodeId leader;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.epoch, s.leader);
  }
  bool operator==(const NewEpoch&) const = default;
};

/// A node came with this incarnation and block store. With another store_id than before, its replicas are forgotten.
struct RegisterNode {
  static constexpr auto kKind = CommandKind::register_node;
  NodeId node;
  Incarnation incarnation;
  std::uint64_t store_id = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.incarnation, s.store_id);
  }
  bool operator==(const RegisterNode&) const = default;
};

struct CommitFiles {
  static constexpr auto kKind = CommandKind::commit_files;
  std::vector<FsFilePart> files;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.files);
  }
  bool operator==(const CommitFiles&) const = default;
};

struct RemoveFiles {
  static constexpr auto kKind = CommandKind::remove_files;
  std::vector<std::string> paths;
  bool recursive = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.paths, s.recursive);
  }
  bool operator==(const RemoveFiles&) const = default;
};

/// A node that gets copies, and the store that holds them.
struct AddedStore {
  NodeId node;
  std::uint64_t store_id = 0;  ///< as registered when the move was proposed
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.store_id);
  }
  bool operator==(const AddedStore&) const = default;
};

struct MoveReplicas {
  static constexpr auto kKind = CommandKind::move_replicas;
  std::vector<ReplicaMove> moves;
  std::vector<AddedStore> stores;  ///< of every node that a move adds; one that has another store by now is not added
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.moves, s.stores);
  }
  bool operator==(const MoveReplicas&) const = default;
};

/// The node turned out not to hold these blocks any more (inventory).
struct ForgetBlocks {
  static constexpr auto kKind = CommandKind::forget_blocks;
  NodeId node;
  std::vector<BlockId> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.blocks);
  }
  bool operator==(const ForgetBlocks&) const = default;
};

struct AddModel {
  static constexpr auto kKind = CommandKind::add_model;
  ModelVersion model;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.model);
  }
  bool operator==(const AddModel&) const = default;
};

struct RemoveModel {
  static constexpr auto kKind = CommandKind::remove_model;
  std::string name;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.name);
  }
  bool operator==(const RemoveModel&) const = default;
};

struct SubmitJob {
  static constexpr auto kKind = CommandKind::submit_job;
  JobSpec spec;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.spec);
  }
  bool operator==(const SubmitJob&) const = default;
};

struct ControlJob {
  static constexpr auto kKind = CommandKind::control_job;
  JobId job;
  JobAction action = JobAction::stop;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.action);
  }
  bool operator==(const ControlJob&) const = default;
};

struct SetJob {
  static constexpr auto kKind = CommandKind::set_job;
  JobId job;
  std::uint32_t weight_milli = 1000;
  std::uint32_t rate_limit_milli = 0;
  std::int32_t priority = 0;
  std::uint32_t nodes_min = 0;
  std::uint32_t nodes_max = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.weight_milli, s.rate_limit_milli, s.priority, s.nodes_min, s.nodes_max);
  }
  bool operator==(const SetJob&) const = default;
};

struct FailJob {
  static constexpr auto kKind = CommandKind::fail_job;
  JobId job;
  std::string reason;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.reason);
  }
  bool operator==(const FailJob&) const = default;
};

struct SetPhase {
  static constexpr auto kKind = CommandKind::set_phase;
  Phase phase = Phase::none;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.phase);
  }
  bool operator==(const SetPhase&) const = default;
};

/// New files came to the folder that a job follows. Ignored unless the segment goes on exactly where the job ends.
struct ExtendJob {
  static constexpr auto kKind = CommandKind::extend_job;
  JobId job;
  JobSegment segment;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.segment);
  }
  bool operator==(const ExtendJob&) const = default;
};

/// First commit of a batch wins; the same digest again is a duplicate; another digest is a conflict and raises an alarm.
struct CommitBatchResults {
  static constexpr auto kKind = CommandKind::commit_batches;
  std::vector<BatchCommit> commits;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.commits);
  }
  bool operator==(const CommitBatchResults&) const = default;
};

}  // namespace idunno

#pragma once
/// The part of a log node that decides for the cluster: keeps the replicated log (nodes/raft) and the state that follows from it
/// (nodes/jobs/cluster_state.h), and while this node leads, a Coordinator over that state. Pure: the shell
/// (nodes/runtime/control_shell.h) and the simulator (tests/sim) bring messages and time, and obey ControlOutput.
///
/// One turn: any number of request / log_message / member_changed / connection_lost / push_failed / tick, then end_turn once,
/// then the output is obeyed. Nothing is sent or answered that is not durable (persist before send). After end_turn has returned
/// an error the node must stop: what clients were told stays true, and nothing more is said.
///
/// Life of an office: when the log begins to serve (its own first entry is committed and applied), the state moves into a new
/// Coordinator; when the log stops serving, the state moves back, and every request that waits is answered not_leader: its
/// outcome is unknown, and asking again with the same request id is safe.
///
/// Reads: linearizable through a read barrier on the coordinator, or (RequestInfo::stale_ok) from this node's state at once, with
/// Reply::stale set when this node does not lead.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "nodes/jobs/coordinator.h"
#include "nodes/raft/raft_log.h"

namespace idunno {

inline constexpr std::size_t kReadsWaitingMax = 4096;  ///< reads that wait for a barrier; more are refused (full)
inline constexpr std::size_t kFlushesPerTurnMax =
    4;  ///< commands proposed while entries are applied get a flush in the same turn

struct ControlConfig {
  CoordinatorConfig coordinator;
  RaftConfig raft;
  std::uint32_t versions_max = 8;  ///< of a file
  std::size_t compact_bytes_min =
      64U << 20U;  ///< the log is replaced by a snapshot when it has outgrown this and 2 x the last one
};

struct ControlOutput {
  struct Reply {
    Ticket ticket = 0;
    Answer answer;
    NodeId leader;       ///< of a not_leader error: who leads as far as is known
    bool stale = false;  ///< from this node's state, which may be old
  };
  std::vector<std::pair<NodeId, Bytes>> log_messages;  ///< first: to other log nodes
  std::vector<Reply> replies;
  std::vector<std::pair<NodeId, Answer>> pushes;  ///< to a node's session, under epoch()
  std::vector<Event> events;                      ///< `at_ms` and `node` are set by the shell
  std::vector<FollowNotice> follow;               ///< of following jobs, under epoch()
};

class ControlPlane {
 public:
  /// Restores what the store holds. `random` seeds election timeouts.
  [[nodiscard]] static Result<std::unique_ptr<ControlPlane>> open(ControlConfig config, std::unique_ptr<LogStore> store,
                                                                  Random random, Time now, WallMs wall);
  ~ControlPlane();

  /// One for each type of ReadRequests, ChangeRequests and NodeRequests, and TransferLeadership. Instantiated in the .cc.
  template <class Req>
  void request(const RequestInfo& info, const Req& request, Time now);
  void log_message(NodeId from, ByteView message, Time now);
  /// Membership's word on a node: suspect nodes get no leases, dead ones lose theirs and their blocks are copied.
  void member_changed(NodeId node, NodeState state, Incarnation incarnation, Time now);
  /// The connection to a node's process closed. For the log only; what membership makes of it comes by member_changed.
  void connection_lost(NodeId node, Time now);
  /// A push could not be delivered: the node's session is over until its next hello.
  void push_failed(NodeId node, Time now);
  /// As the coordinator (nodes/jobs/coordinator.h); not_leader while this node does not serve.
  [[nodiscard]] Status may_extend(JobId job, Epoch epoch, std::uint64_t after) const;
  [[nodiscard]] Status extend(const FollowSegment& segment, Time now);
  void tick(Time now, WallMs wall);
  [[nodiscard]] Time wake_at() const;

  [[nodiscard]] Status end_turn(Time now, WallMs wall, ControlOutput& out);

  [[nodiscard]] bool serving() const;
  [[nodiscard]] Epoch epoch() const;
  [[nodiscard]] NodeId leader() const;
  [[nodiscard]] const ReplicatedLog& log() const;
  [[nodiscard]] const ClusterState& state() const;  ///< as applied here
  /// What StatsNotice carries; empty while this node does not serve.
  [[nodiscard]] JobReportsReply reports(std::uint32_t window_s, Time now) const;
  [[nodiscard]] std::vector<NodeReport> node_reports(Time now) const;
  /// As BatchLivesRequest wants it; none while this node does not serve.
  [[nodiscard]] std::optional<BatchLivesReply> batch_lives(JobId job, std::int64_t batch, Time now) const;
  /// As `status` answers it, without a barrier; none while this node does not serve.
  [[nodiscard]] std::optional<StatusReply> status() const;
  [[nodiscard]] RaftStatus raft_status() const;
  /// For the simulator's checkers and tests.
  void check_invariants() const;

 private:
  struct Impl;
  explicit ControlPlane(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

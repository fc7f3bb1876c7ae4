#pragma once
/// What the coordinator decides: answers to clients, who computes which batch (scheduler.h), who is alive, which blocks must be
/// copied (repair.h). Pure: no clock, socket, disk or thread; nodes/core/control_plane.h calls it and obeys the output.
///
/// Life: constructed over the replicated state when the log begins to serve; `member_changed` for what membership knows, then
/// `start`; then `handle` for each message, `applied` for each committed entry in order, `tick` no later than wake_at(); at the
/// end of the reign `release_state`. Every call appends to the output given, which is obeyed in the order: propose; after the
/// log's flush: answers, pushes; events at any time.
///
/// Takeover: who computes what is not in the replicated state; the nodes say it in their hellos. So that nothing is computed
/// twice without need, no lease is given before every node that membership calls alive has said hello to this coordinator, or
/// kTakeoverGrace is over.
///
/// A request that changes the replicated state is checked, proposed with its request id, and answered when its entry is applied;
/// the same request id again gets the remembered answer (or joins the wait). Requests that only read are answered at once.

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bus/base/random.h"
#include "bus/base/time.h"
#include "bus/log_messages.h"
#include "bus/messages.h"
#include "bus/schedule_policy.h"
#include "nodes/jobs/cluster_state.h"
#include "nodes/jobs/follow.h"

namespace idunno {

/// The longest wait for the hellos of nodes that are alive, at the start of a reign.
inline constexpr Duration kTakeoverGrace = std::chrono::milliseconds(500);
/// No node is told to delete blocks as orphans in the first time of a reign.
inline constexpr Duration kOrphanReign = std::chrono::seconds(60);

struct CoordinatorConfig {
  struct Member {
    NodeId id;
    std::string host;
    std::uint16_t base_port = 0;
  };
  NodeId self;
  std::vector<Member> members;    ///< all nodes of the configuration
  std::uint32_t replication = 4;  ///< wanted copies: min(this, members)
  /// A session without heartbeats for twice as long ends; a node that was there under the last coordinator, and of which
  /// membership knows nothing, has so long to come.
  Duration dead_after = std::chrono::milliseconds(3000);
  Duration lease_horizon = std::chrono::milliseconds(1000);
  std::uint32_t attempts_max = 3;
  SchedulePolicy policy = SchedulePolicy::fair_rate;
  Duration split_period = std::chrono::seconds(30);
  std::uint32_t prefetch_models = 4;  ///< that a node which joins is to have on its disk; 0 = models come with the first lease
  std::uint32_t repair_blocks_in_flight = 32;  ///< bound of the copying that repair does at once, all nodes together
  std::uint64_t repair_bytes_per_s = 64U << 20U;
};

/// The shell's name for a request that waits for an answer.
using Ticket = std::uint64_t;

struct RequestInfo {
  Ticket ticket = 0;
  RequestId request;
  std::string key_name;   ///< of the sender's CURVE key: "n3", "admin"
  WallMs wall_ms = 0;     ///< the coordinator's clock, stamped into what is proposed
  Epoch epoch;            ///< of the sender, 0 from clients
  bool stale_ok = false;  ///< a read that may be answered from a state that is old (kFlagStale)
};

template <class... T>
struct TypeList {
  template <class F>
  static void for_each(F&& visit) {
    (visit.template operator()<T>(), ...);
  }
};
/// Requests that only read: answered after a read barrier of the log, or by any log node when the asker takes a stale answer.
using ReadRequests = TypeList<StatusRequest, PlacementRequest, FsListRequest, FsStatRequest, FsStoreRequest, ModelListRequest,
                              JobReportsRequest, JobResultsRequest>;
/// Requests that propose, and those that nodes send.
using ChangeRequests = TypeList<FsCommitRequest, FsRemoveRequest, FsMoveReplicasRequest, ModelAddRequest, ModelRemoveRequest,
                                SubmitRequest, JobControlRequest, JobSetRequest, PhaseRequest>;
using NodeRequests = TypeList<NodeHello, Heartbeat, CommitBatches, BatchFailed, ReplicaReport, Inventory, DamagedBlocks>;

struct CoordinatorOutput {
  std::vector<Bytes> propose;  ///< encoded commands, in order
  std::vector<std::pair<Ticket, Answer>> answers;
  std::vector<std::pair<NodeId, Answer>> pushes;  ///< LeaseGrant, LeaseDrop, JobOrder, ReplicaTask to a node's connection
  std::vector<Event> events;                      ///< published and logged; at_ms and node are set by the shell
  std::vector<FollowNotice> follow;               ///< for whoever writes the segments of following jobs
};

/// What `status` says of the log's servers.
struct LogServers {
  NodeId standby;
  std::vector<NodeId> voters;
  std::vector<NodeId> learners;
};

class Coordinator {
 public:
  Coordinator(CoordinatorConfig config, ClusterState state, Random random);
  ~Coordinator();

  /// The reign begins: the log serves under `epoch`, whose NewEpoch is applied.
  void start(Epoch epoch, Time now, WallMs wall, CoordinatorOutput& out);
  /// The reign is over: gives the state back. Nothing but the destructor may be called afterwards; requests that wait are the
  /// caller's to answer.
  [[nodiscard]] ClusterState release_state();

  void handle(const RequestInfo&, const StatusRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const PlacementRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsListRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsStatRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsCommitRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsRemoveRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsMoveReplicasRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const FsStoreRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const ModelAddRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const ModelListRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const ModelRemoveRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const SubmitRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const JobControlRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const JobSetRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const PhaseRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const JobReportsRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const JobResultsRequest&, Time now, CoordinatorOutput& out);
  // from nodes: key_name must be the name of the node that the message speaks for, else forbidden; a node that has seen a later
  // epoch than this one is answered stale_epoch
  void handle(const RequestInfo&, const NodeHello&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const Heartbeat&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const CommitBatches&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const BatchFailed&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const ReplicaReport&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const Inventory&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const DamagedBlocks&, Time now, CoordinatorOutput& out);

  /// Membership's word (nodes/swim): a suspect gets no new leases, the leases of a dead node go to others and its blocks are
  /// copied. Words about an earlier life than the one that is known are ignored. Before `start` it is only noted.
  void member_changed(NodeId node, NodeState state, Incarnation incarnation, Time now, CoordinatorOutput& out);
  /// A push could not be delivered: the node's session is over until its next hello. It keeps its leases for the time being.
  void push_failed(NodeId node, Time now, CoordinatorOutput& out);
  /// The log did not take a command of `propose`, and never will: who waits for it is told.
  void refused_by_log(ByteView command, const Error& why, CoordinatorOutput& out);
  void log_servers(LogServers servers);

  /// Whether the job takes a segment now: conflict when it is over or has other segments than the caller thinks, full when
  /// kSegmentsAheadMax have work left.
  [[nodiscard]] Status may_extend(JobId job, Epoch epoch, std::uint64_t after) const;
  /// Proposes it; what becomes of it is told by a FollowNotice.
  [[nodiscard]] Status extend(const FollowSegment& segment, Time now, CoordinatorOutput& out);

  void applied(const LogEntry& entry, Time now, WallMs wall, CoordinatorOutput& out);
  void tick(Time now, WallMs wall, CoordinatorOutput& out);
  [[nodiscard]] Time wake_at() const;

  [[nodiscard]] const ClusterState& state() const;
  /// What StatsNotice carries, once a second.
  [[nodiscard]] JobReportsReply reports(const std::vector<JobId>& jobs, std::uint32_t window_s, Time now) const;
  [[nodiscard]] std::vector<NodeReport> node_reports(Time now) const;
  /// What it remembers of a batch (batch < 0: of the job), and why the job waits.
  [[nodiscard]] BatchLivesReply batch_lives(JobId job, std::int64_t batch, Time now) const;
  [[nodiscard]] StatusReply status() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

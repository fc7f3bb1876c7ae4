#pragma once
/// What the coordinator decides: answers to clients, who computes which batch (scheduler.h), who is alive, which blocks must be
/// copied (repair.h). Pure: no clock, socket, disk or thread; the shell (nodes/runtime/node_shell.h) calls it and obeys the
/// output.
///
/// Life: constructed over the restored state; `start` when this node begins to lead; then handle_* for each message, `applied`
/// for each committed entry in order, `tick` no later than wake_at(). Every call appends to the output given, which the shell
/// obeys in the order: propose; after the log's flush: answers, pushes; events and notes at any time.
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
#include "bus/messages.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {

struct CoordinatorConfig {
  struct Member {
    NodeId id;
    std::string host;
    std::uint16_t base_port = 0;
  };
  NodeId self;
  std::vector<Member> members;  ///< all nodes of the configuration
  std::vector<NodeId> voters;
  std::uint32_t replication = 4;  ///< wanted copies: min(this, members)
  Duration dead_after = std::chrono::milliseconds(3000);
  Duration lease_horizon = std::chrono::milliseconds(1000);
  std::uint32_t attempts_max = 3;
  std::uint32_t repair_blocks_in_flight = 32;  ///< bound of the copying that repair does at once, all nodes together
  std::uint64_t repair_bytes_per_s = 64U << 20U;
};

/// The shell's name for a request that waits for an answer.
using Ticket = std::uint64_t;

struct RequestInfo {
  Ticket ticket = 0;
  RequestId request;
  std::string key_name;  ///< of the sender's CURVE key: "n3", "admin"
  WallMs wall_ms = 0;    ///< the coordinator's clock, stamped into what is proposed
};

struct CoordinatorOutput {
  std::vector<Bytes> propose;  ///< encoded commands, in order
  std::vector<std::pair<Ticket, Answer>> answers;
  std::vector<std::pair<NodeId, Answer>> pushes;  ///< LeaseGrant, LeaseDrop, ReplicaTask to a node's connection
  std::vector<Event> events;                      ///< published and logged; at_ms and node are set by the shell
  std::vector<NodeId> probe;                      ///< ping these now and report pong / disconnect
};

class Coordinator {
 public:
  Coordinator(CoordinatorConfig config, ClusterState state, Random random);
  ~Coordinator();

  /// The reign begins: proposes NewEpoch. Requests may be handled from now on.
  void start(Epoch epoch, Time now, WallMs wall, CoordinatorOutput& out);

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
  void handle(const RequestInfo&, const JobReportsRequest&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const JobResultsRequest&, Time now, CoordinatorOutput& out);
  // from nodes: key_name must be the name of the node that the message speaks for, else forbidden
  void handle(const RequestInfo&, const NodeHello&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const Heartbeat&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const CommitBatches&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const BatchFailed&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const ReplicaReport&, Time now, CoordinatorOutput& out);
  void handle(const RequestInfo&, const Inventory&, Time now, CoordinatorOutput& out);

  void pong(NodeId node, Incarnation incarnation, Time now, CoordinatorOutput& out);
  /// The connection to a node's ping service closed: a hint. The node is suspect and probed; without a pong within a short time
  /// it is dead.
  void connection_lost(NodeId node, Time now, CoordinatorOutput& out);
  /// A push could not be delivered: the node's session is over (its leases go to others when it does not come back in time).
  void push_failed(NodeId node, Time now, CoordinatorOutput& out);

  void applied(const LogEntry& entry, Time now, WallMs wall, CoordinatorOutput& out);
  void tick(Time now, WallMs wall, CoordinatorOutput& out);
  [[nodiscard]] Time wake_at() const;

  [[nodiscard]] const ClusterState& state() const;
  /// What StatsNotice carries, once a second.
  [[nodiscard]] JobReportsReply reports(const std::vector<JobId>& jobs, std::uint32_t window_s, Time now) const;
  [[nodiscard]] std::vector<NodeReport> node_reports(Time now) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

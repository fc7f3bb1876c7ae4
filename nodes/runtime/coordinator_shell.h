#pragma once
/// The shell around the pure Coordinator: brings it requests from the rpc socket, writes what it proposes to the log (one synced
/// write a loop turn), feeds back what is committed, sends its answers and pushes, pings whom it doubts.

#include <map>
#include <memory>
#include <string>

#include "nodes/jobs/coordinator.h"
#include "nodes/raft/replicated_log.h"
#include "nodes/runtime/node_context.h"

namespace idunno {

class CoordinatorShell {
 public:
  /// Restores the state from the log in the node's folder and begins to lead. `rpc` and `events` outlive it.
  [[nodiscard]] static Result<std::unique_ptr<CoordinatorShell>> start(NodeContext& context, RpcServer& rpc, Publisher& events);
  ~CoordinatorShell();

  [[nodiscard]] bool serving() const { return log_->serving(); }
  [[nodiscard]] Epoch epoch() const { return log_->epoch(); }

 private:
  CoordinatorShell(NodeContext& context, RpcServer& rpc, Publisher& events, std::unique_ptr<ReplicatedLog> log,
                   ClusterState state);

  template <class Req>
  void route();
  void route_all();
  void obey(CoordinatorOutput&& out);
  void end_turn();
  void compact_when_due();
  void arm_timer();
  void probe(NodeId node);
  void push(NodeId node, const Answer& message);
  void publish_stats();

  NodeContext& context_;
  RpcServer& rpc_;
  Publisher& events_;
  std::unique_ptr<ReplicatedLog> log_;
  std::unique_ptr<Coordinator> coordinator_;
  std::map<Ticket, RequestContext> waiting_;
  std::map<NodeId, PeerHandle> sessions_;  ///< where pushes to a node go: the connection of its last hello
  Ticket last_ticket_ = 0;
  bool proposed_ = false;      ///< something awaits the flush
  std::size_t log_bytes_ = 0;  ///< appended since the last snapshot
  std::size_t snapshot_bytes_ = 0;
  LogIndex applied_;
  EventLoop::TimerId timer_ = 0;
  Time timer_at_ = kNever;
  std::uint64_t stats_sequence_ = 0;
};

}  // namespace idunno

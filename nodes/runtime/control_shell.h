#pragma once
/// The shell around the pure ControlPlane (nodes/core) on a node that keeps the log: brings it requests from the rpc socket and
/// messages of the other log nodes (bus/log_link.h), ends its turn at the end of each turn of the loop (one synced write), and
/// then sends what it says. Any error of the log or its store ends the process. Control thread.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "bus/log_link.h"
#include "nodes/core/control_plane.h"
#include "nodes/runtime/node_context.h"
#include "nodes/swim/swim.h"

namespace idunno {

class ControlShell {
 public:
  struct Sockets {
    ZmqContext& zmq;
    RpcServer& rpc;  ///< gets handlers for all requests to the control plane
    Publisher& events;
    const KeyPair& keys;
    const AddressBook& peers;
  };
  /// The log of this node knows who leads, 0 = nobody.
  using OnLeader = std::function<void(NodeId leader, Epoch epoch)>;

  /// Opens the log in the node's folder. A log that cannot be used is put aside: the node comes back as a new, empty log server.
  /// `context` and the sockets outlive this.
  [[nodiscard]] static Result<std::unique_ptr<ControlShell>> start(NodeContext& context, const Sockets& sockets,
                                                                   OnLeader on_leader);
  ~ControlShell();

  void member_changed(const MemberChange& change);
  [[nodiscard]] bool serving() const { return control_->serving(); }
  [[nodiscard]] std::optional<BatchLivesReply> batch_lives(JobId job, std::int64_t batch) const;
  [[nodiscard]] NodeId leader() const { return control_->leader(); }
  [[nodiscard]] const ControlPlane& plane() const { return *control_; }
  [[nodiscard]] const LogLink& link() const { return *link_; }
  /// `handler` also gets what this node publishes as coordinator, once a second.
  void on_stats(std::function<void(const StatsNotice&, Epoch)> handler) { on_stats_ = std::move(handler); }
  /// `handler` is told of jobs that follow a folder while this node coordinates.
  using OnFollow = std::function<void(Epoch, const FollowNotice&)>;
  void on_follow(OnFollow handler) { on_follow_ = std::move(handler); }
  [[nodiscard]] Status may_extend(JobId job, Epoch epoch, std::uint64_t after) const {
    return control_->may_extend(job, epoch, after);
  }
  [[nodiscard]] Status extend(const FollowSegment& segment);
  /// Tries to give the coordinator's office to the standby; `done` is called when that is over, however it ended.
  void hand_over(std::function<void()> done);

 private:
  ControlShell(NodeContext& context, const Sockets& sockets, OnLeader on_leader, std::unique_ptr<ControlPlane> control);
  [[nodiscard]] Status open_link(const Sockets& sockets);

  template <class Req>
  void route();
  void route_all();
  template <class Req>
  void request(Ticket ticket, const Header& header, const std::string& key_name, const Req& body);
  void end_turn();
  void obey(ControlOutput&& out);
  void reply(const ControlOutput::Reply& reply);
  void push(NodeId node, const Answer& message);
  void tell_leader();
  void tell_vote();
  void arm_timer();
  void publish_stats();

  NodeContext& context_;
  RpcServer& rpc_;
  Publisher& events_;
  OnLeader on_leader_;
  OnFollow on_follow_;
  std::function<void(const StatsNotice&, Epoch)> on_stats_;
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<LogLink> link_;
  std::map<Ticket, RequestContext> waiting_;  ///< bounded by what the control plane lets wait
  std::map<NodeId, PeerHandle> sessions_;     ///< where pushes to a node go: the connection of its last hello
  Ticket last_ticket_ = 0;
  Ticket hand_over_ticket_ = 0;
  std::function<void()> handed_over_;
  bool due_ = true;      ///< something came in: the turn must be ended
  bool failed_ = false;  ///< the log is broken: nothing more is said
  bool votes_ = false;
  NodeId told_leader_;
  Epoch told_epoch_;
  EventLoop::TimerId timer_ = 0;
  Time timer_at_ = kNever;
  std::uint64_t stats_sequence_ = 0;
};

}  // namespace idunno

#pragma once
/// Runs the membership core (nodes/swim) on a node: its messages as calls between ping services, its timer on the EventLoop,
/// closed ping connections as hints, its changes as a callback. Answers MemberListRequest and MemberHistoryRequest on the rpc
/// service.
///
/// Belongs to the thread of the EventLoop, which must not run any more when this is destroyed; the client and the servers must
/// not be used after that either (they hold handlers of this).

#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "bus/event_loop.h"
#include "bus/rpc.h"
#include "nodes/swim/swim.h"

namespace idunno {

class SwimShell {
 public:
  struct Options {
    NodeId self;
    std::vector<NodeId> members;  ///< all configured nodes, self among them
    Incarnation incarnation;      ///< start time of this process (bus/base/ids.h)
    std::uint64_t seed = 0;       ///< of the core's randomness: any number that differs from start to start
    SwimConfig config;
  };
  using OnChange = std::function<void(const MemberChange&)>;

  SwimShell(EventLoop& loop, RpcClient& client, RpcServer& ping, RpcServer& rpc, const Options& options, OnChange on_change);
  ~SwimShell();
  SwimShell(const SwimShell&) = delete;
  SwimShell& operator=(const SwimShell&) = delete;

  /// Says good-bye. The messages leave while the loop goes on: give it some 100 ms before the process ends.
  void leave();
  [[nodiscard]] std::vector<MemberInfo> members() const { return core_.members(); }
  [[nodiscard]] NodeState state_of(NodeId node) const { return core_.state_of(node); }
  [[nodiscard]] std::uint32_t awareness() const { return core_.awareness(); }
  [[nodiscard]] std::uint64_t refused() const { return refused_; }  ///< probes whose sender's key is not that node's

 private:
  using Question = std::pair<NodeId, std::uint64_t>;

  void serve(RpcServer& rpc);
  void on_probe(const RequestContext& request, const SwimMessage& message);
  void send(NodeId to, SwimMessage message);
  void pump();
  void arm();
  [[nodiscard]] MemberListReply list() const;
  [[nodiscard]] MemberHistoryReply history(std::uint32_t last) const;

  EventLoop& loop_;
  RpcClient& client_;
  RpcServer& ping_;
  NodeId self_;
  OnChange on_change_;
  Swim core_;
  EventLoop::TimerId timer_ = 0;
  Time timer_at_ = kNever;
  bool pumping_ = false;
  std::map<Question, RequestContext> open_;  ///< questions of others that the core has not answered; at most kOpenMax
  std::deque<Question> open_order_;
  std::map<NodeId, WallMs> since_ms_;
  std::deque<MemberEvent> events_;  ///< at most kMemberHistoryMax
  std::uint64_t refused_ = 0;
};

}  // namespace idunno

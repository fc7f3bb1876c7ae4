#pragma once
/// One life of a node's process: the real cores (ControlPlane, NodeAgent, Swim) and what the shells in nodes/runtime do around
/// them: turns, sessions, timers, executors, inputs and results. One turn takes as long as its write of the log; what comes
/// meanwhile waits for the next one. Membership and the blocks have threads of their own and wait for nothing but a stop of the
/// process.

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nodes/core/control_plane.h"
#include "nodes/core/node_agent.h"
#include "nodes/swim/swim.h"
#include "tests/sim/block_io.h"
#include "tests/sim/fake_executors.h"
#include "tests/sim/sim_node.h"

namespace idunno::sim {

class NodeProcess final : public Process {
 public:
  NodeProcess(Env& env, SimNode& node, Truth& truth, Observer& observer, Incarnation incarnation, Random random);
  ~NodeProcess() override;

  void start();  ///< once it is held by a shared_ptr
  void on_request(const ConnectionId& from, Bytes frame, Payload payload) override;
  void on_message(const ConnectionId& from, const Bytes& frame, const Payload& payload) override;
  void on_broken(const ConnectionId& connection) override;
  void on_log_message(NodeId from, Bytes message);
  void on_swim_message(NodeId from, const Bytes& message);
  void transfer_leadership(NodeId to);
  /// Reads all blocks; damaged ones go, as the scrubber has it.
  void scrub();

  [[nodiscard]] const ControlPlane* control() const { return control_.get(); }
  [[nodiscard]] const NodeAgent& agent() const { return *agent_; }
  [[nodiscard]] const Swim& swim() const { return *swim_; }

 private:
  struct Turn {
    ControlOutput out;
    std::vector<AgentOutput::Call> calls;
    Epoch epoch;
  };
  struct Waiting {
    ConnectionId connection;
    Envelope question;
  };

  // node_process.cc
  void in_turn(Agenda::Action action);
  void want_turn();
  void turn();
  void tick_cores();
  void release();
  void arm();
  void reconnect();
  void swim_turn();
  void dispatch(const ConnectionId& from, const Envelope& envelope);
  template <class Req>
  bool dispatch_as(const ConnectionId& from, const Envelope& envelope);
  void reply(const ConnectionId& to, RequestId request, Epoch epoch, MessageType type, ByteView body, std::uint8_t flags,
             const Payload& payload);
  void send_reply(const ControlOutput::Reply& reply, Epoch epoch);
  void send_push(NodeId to, const Answer& push, Epoch epoch);
  [[nodiscard]] Time now() const { return node_.local_now(); }
  [[nodiscard]] WallMs wall() const { return node_.wall(); }

  // node_worker.cc
  void obey_agent();
  void pushed(NodeId from, const Envelope& envelope);
  void fetch(const Lease& lease);
  void fetch_blocks(const LeaseKey& lease, const std::vector<BlockRef>& blocks, std::size_t next);
  void began(std::uint32_t slot, const LeaseKey& lease, Time at);
  [[nodiscard]] static std::uint64_t executor_us(Time at);
  void executed(const ExecutorOutcome& outcome);
  void store(const LeaseKey& lease, Bytes rows);
  void drop_block(BlockId block, const char* why);
  void do_task(const ReplicaTask& task);
  void copied(const BlockRef& block, const Result<BlockIo::SharedBytes>& bytes);
  void list_blocks(BlockId after);
  void report_usage();
  void send_call(AgentOutput::Call call);

  SimNode& node_;
  Truth& truth_;
  Observer& observer_;
  Incarnation incarnation_;
  Random random_;
  std::unique_ptr<ControlPlane> control_;
  std::unique_ptr<OutboxStore> outbox_;
  std::unique_ptr<NodeAgent> agent_;
  std::unique_ptr<Swim> swim_;
  Caller caller_;
  BlockIo blocks_;
  FakeExecutors executors_;

  std::deque<Agenda::Action> inbox_;
  bool turn_wanted_ = false;
  bool busy_ = false;
  Turn done_;  ///< waits for its write
  std::vector<AgentOutput::Call> calls_;
  Time armed_ = kNever;  ///< of the world
  Time swim_armed_ = kNever;
  Ticket last_ticket_ = 0;
  std::map<Ticket, Waiting> waiting_;
  std::map<NodeId, ConnectionId> sessions_;
  std::map<NodeId, std::uint64_t> connected_;
  NodeId leader_told_;
  Epoch epoch_told_;

  std::map<JobId, JobDescription> described_;
  std::vector<PlacementNode> placement_;
  std::uint32_t copies_ = 1;
  std::uint64_t spins_ = 0;
  Time spun_at_{};
};

}  // namespace idunno::sim

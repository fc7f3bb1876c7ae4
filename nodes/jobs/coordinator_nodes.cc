// Who is there: sessions of nodes, signs of life, suspicion and death. One coordinator watches all; its hints (a closed
// connection, a push that failed, silence) make a node suspect, and only a missing pong makes it dead.

#include <fmt/core.h>

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"
#include "storage/sdfs/placement.h"

namespace idunno {

namespace {

/// Free space moves all the time; a weight follows when it is off by more than an eighth, so that placements stay as they are.
bool worth_a_change(std::uint32_t old_weight, std::uint32_t new_weight) {
  if ((old_weight == 0) != (new_weight == 0)) return true;
  const std::uint32_t difference = std::max(old_weight, new_weight) - std::min(old_weight, new_weight);
  return difference > old_weight / 8;
}

}  // namespace

bool Coordinator::Impl::speaks_for(const RequestInfo& info, NodeId node, CoordinatorOutput& out) const {
  if (info.key_name == to_string(node) && nodes_.contains(node)) return true;
  refuse(info,
         Error{Errc::forbidden,
               fmt::format("key {} may not speak for node {}; each node uses its own key", info.key_name, to_string(node))},
         out);
  return false;
}

Coordinator::Impl::NodeEntry* Coordinator::Impl::sender(const RequestInfo& info, CoordinatorOutput& out) {
  for (auto& [id, node] : nodes_) {
    if (info.key_name == to_string(id)) return &node;
  }
  refuse(info, Error{Errc::forbidden, fmt::format("key {} is not the key of a configured node", info.key_name)}, out);
  return nullptr;
}

// ---- sessions ---------------------------------------------------------------------------------------------------------

void Coordinator::Impl::hello(const RequestInfo& info, const NodeHello& hello, Time now, CoordinatorOutput& out) {
  if (!speaks_for(info, hello.node, out)) return;
  if (hello.slots > kSlotsMax) {
    return refuse(info,
                  Error{Errc::invalid,
                        fmt::format("{} says it has {} slots; {} are possible", to_string(hello.node), hello.slots, kSlotsMax)},
                  out);
  }
  NodeEntry& node = nodes_.at(hello.node);
  const auto known = state_.nodes().find(hello.node);
  if (known != state_.nodes().end() && hello.incarnation < known->second.incarnation) {
    return refuse(
        info,
        Error{Errc::conflict, fmt::format("hello of {}: a later life of this node is known already; the older process must end",
                                          to_string(hello.node))},
        out);
  }
  if (known != state_.nodes().end() && known->second.incarnation == hello.incarnation &&
      known->second.store_id == hello.store_id) {
    begin_session(node, hello, now, out);
    return answer(info, NodeHelloReply{config_.self}, out);
  }
  // Another life: what the last one held is lost, whether or not anybody has noticed yet.
  if (node.session && node.incarnation != hello.incarnation) dead(node, "started anew", now, out);
  const bool waits =
      node.registering && node.registering->incarnation == hello.incarnation && node.registering->store_id == hello.store_id;
  if (node.registering_tickets.size() >= kJoinedTicketsMax) node.registering_tickets.erase(node.registering_tickets.begin());
  node.registering_tickets.push_back(info.ticket);
  node.registering = hello;
  if (!waits) propose(RegisterNode{hello.node, hello.incarnation, hello.store_id}, now, out);
}

void Coordinator::Impl::registered(const RegisterNode& command, const Answer& result, Time now, CoordinatorOutput& out) {
  const auto found = nodes_.find(command.node);
  if (found == nodes_.end()) return;
  NodeEntry& node = found->second;
  if (!node.registering || node.registering->incarnation != command.incarnation || node.registering->store_id != command.store_id)
    return;
  const NodeHello hello = *node.registering;
  node.registering.reset();
  const std::vector<Ticket> tickets = std::exchange(node.registering_tickets, {});
  const bool accepted = result.type != MessageType::error_reply;
  for (const Ticket ticket : tickets) {
    out.answers.emplace_back(ticket, accepted ? make_answer(NodeHelloReply{config_.self}) : result);
  }
  if (accepted) begin_session(node, hello, now, out);
}

void Coordinator::Impl::begin_session(NodeEntry& node, const NodeHello& hello, Time now, CoordinatorOutput& out) {
  const bool was_alive = node.state == NodeState::alive && node.incarnation == hello.incarnation;
  scheduler_.remove_node(hello.node);  // what an earlier session held: the worker forgot what had not started
  node.hello = hello;
  node.incarnation = hello.incarnation;
  node.session = true;
  node.heard = now;
  node.dead_at = kNever;
  node.described.clear();
  node.describe_again.clear();
  node.placement_sent = 0;
  node.missing.clear();
  scheduler_.add_node(hello.node, hello.slots);
  supervise_by(now + config_.dead_after / 2);
  if (!was_alive) {
    node.state = NodeState::alive;
    node.since_ms = wall_at(now);
    node.heartbeat = Heartbeat{};
    event(out, "node_joined", JobId{}, -1,
          fmt::format("{} joined with {} slots, pid {}", to_string(hello.node), hello.slots, hello.pid));
    membership_changed();
  }
  schedule(now, out);
}

void Coordinator::Impl::heartbeat(const RequestInfo& info, const Heartbeat& beat, Time now, CoordinatorOutput& out) {
  if (!speaks_for(info, beat.node, out)) return;
  NodeEntry& node = nodes_.at(beat.node);
  const bool known = node.session && node.incarnation == beat.incarnation;
  answer(info, HeartbeatReply{known}, out);
  if (!known) return;
  node.heard = now;
  node.heartbeat = beat;
  alive_again(node, now);
  const std::uint32_t weight = placement_weight(beat.free_bytes, beat.read_only);
  if (worth_a_change(node.weight, weight)) {
    node.weight = weight;
    ++placement_version_;
  }
  scheduler_.batch_time(beat.node, beat.mean_batch_us);
  schedule(now, out);
}

// ---- suspicion --------------------------------------------------------------------------------------------------------

void Coordinator::Impl::suspect(NodeEntry& node, Time dead_at, const char* why, Time now, CoordinatorOutput& out) {
  const NodeId id = node.member.id;
  node.dead_at = std::min(node.dead_at, dead_at);
  supervise_by(node.dead_at);
  out.probe.push_back(id);
  if (node.state == NodeState::suspect) return;
  node.state = NodeState::suspect;
  node.since_ms = wall_at(now);
  scheduler_.set_open(id, false);
  ++placement_version_;
  wanted_copies_ = placement_reply().replication;
  event(out, "node_suspect", JobId{}, -1, to_string(id) + ": " + why);
}

void Coordinator::Impl::alive_again(NodeEntry& node, Time now) {
  if (node.state != NodeState::suspect || !node.session) return;
  node.state = NodeState::alive;
  node.since_ms = wall_at(now);
  node.dead_at = kNever;
  scheduler_.set_open(node.member.id, true);
  supervise_by(now + config_.dead_after / 2);
  membership_changed();
}

void Coordinator::Impl::pong(NodeId id, Incarnation incarnation, Time now, CoordinatorOutput& out) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || !incarnation) return;
  NodeEntry& node = found->second;
  if (node.state != NodeState::alive && node.state != NodeState::suspect) return;
  if (incarnation != node.incarnation) return dead(node, "another process answers in its place", now, out);
  node.heard = now;
  if (node.session) {
    alive_again(node, now);
    schedule(now, out);
  } else {
    // It lives, but pushes do not reach it: its heartbeat will be told to say hello again, and it has the usual time for that.
    node.dead_at = now + config_.dead_after;
    supervise_by(node.dead_at);
  }
}

void Coordinator::Impl::dead(NodeEntry& node, const char* why, Time now, CoordinatorOutput& out) {
  const NodeId id = node.member.id;
  const std::size_t leases = scheduler_.remove_node(id);
  node.state = NodeState::dead;
  node.session = false;
  node.dead_at = kNever;
  node.since_ms = wall_at(now);
  node.described.clear();
  node.describe_again.clear();
  node.heartbeat = Heartbeat{};
  event(out, "node_dead", JobId{}, -1, fmt::format("{}: {}; {} leases go to others", to_string(id), why, leases));
  membership_changed();
}

void Coordinator::Impl::membership_changed() {
  ++placement_version_;
  wanted_copies_ = placement_reply().replication;
  if (repair_) repair_->membership_changed(repair_view());
}

void Coordinator::Impl::supervise(Time now, CoordinatorOutput& out) {
  supervise_at_ = kNever;
  for (auto& [id, node] : nodes_) {
    if (node.state == NodeState::alive && now >= node.heard + config_.dead_after / 2) {
      suspect(node, node.heard + config_.dead_after, "is silent", now, out);
    }
    if (node.state == NodeState::alive) supervise_by(node.heard + config_.dead_after / 2);
    if (node.dead_at == kNever) continue;
    if (now >= node.dead_at) {
      dead(node, node.state == NodeState::unknown ? "did not come to the new coordinator" : "does not answer", now, out);
    } else {
      supervise_by(node.dead_at);
    }
  }
}

// ---- placement --------------------------------------------------------------------------------------------------------

std::vector<PlacementNode> Coordinator::Impl::placement() const {
  std::vector<PlacementNode> nodes;
  for (const auto& [id, node] : nodes_) {
    if (node.session && node.state == NodeState::alive) nodes.push_back(PlacementNode{id, node.weight});
  }
  return nodes;
}

PlacementReply Coordinator::Impl::placement_reply() const {
  PlacementReply reply;
  reply.nodes = placement();
  reply.replication = std::max(1U, std::min(replication_, static_cast<std::uint32_t>(reply.nodes.size())));
  return reply;
}

// ---- the public face --------------------------------------------------------------------------------------------------

void Coordinator::handle(const RequestInfo& info, const NodeHello& hello, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->hello(info, hello, now, out);
}

void Coordinator::handle(const RequestInfo& info, const Heartbeat& beat, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->heartbeat(info, beat, now, out);
}

void Coordinator::pong(NodeId node, Incarnation incarnation, Time now, CoordinatorOutput& out) {
  impl_->pong(node, incarnation, now, out);
}

void Coordinator::connection_lost(NodeId id, Time now, CoordinatorOutput& out) {
  const auto node = impl_->nodes_.find(id);
  if (node == impl_->nodes_.end()) return;
  const bool there = node->second.state == NodeState::alive || node->second.state == NodeState::suspect;
  if (there) impl_->suspect(node->second, now + kProbeTimeout, "its connection closed", now, out);
}

void Coordinator::push_failed(NodeId id, Time now, CoordinatorOutput& out) {
  const auto node = impl_->nodes_.find(id);
  if (node == impl_->nodes_.end() || !node->second.session) return;
  node->second.session = false;
  impl_->suspect(node->second, now + kProbeTimeout, "a message could not be delivered", now, out);
}

}  // namespace idunno

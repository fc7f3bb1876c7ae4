// Who is there: sessions of nodes, and what membership (nodes/swim) says of them. Membership decides who is suspect or dead; the
// one rule of the coordinator's own is that a session without heartbeats ends.

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

bool Coordinator::Impl::is_stale(const RequestInfo& info, CoordinatorOutput& out) const {
  if (info.epoch <= epoch_) return false;
  refuse(info,
         Error{Errc::stale_epoch, fmt::format("{} coordinates under epoch {}, and epoch {} has begun: ask who leads now",
                                              to_string(config_.self), epoch_.value, info.epoch.value)},
         out);
  return true;
}

bool Coordinator::Impl::speaks_for(const RequestInfo& info, NodeId node, CoordinatorOutput& out) const {
  if (info.key_name == to_string(node) && nodes_.contains(node)) return !is_stale(info, out);
  refuse(info,
         Error{Errc::forbidden,
               fmt::format("key {} may not speak for node {}; each node uses its own key", info.key_name, to_string(node))},
         out);
  return false;
}

Coordinator::Impl::NodeEntry* Coordinator::Impl::sender(const RequestInfo& info, CoordinatorOutput& out) {
  for (auto& [id, node] : nodes_) {
    if (info.key_name == to_string(id)) return is_stale(info, out) ? nullptr : &node;
  }
  refuse(info, Error{Errc::forbidden, fmt::format("key {} is not the key of a configured node", info.key_name)}, out);
  return nullptr;
}

// ---- sessions ---------------------------------------------------------------------------------------------------------

void Coordinator::Impl::hello(const RequestInfo& info, const NodeHello& hello, Time now, CoordinatorOutput& out) {
  if (!speaks_for(info, hello.node, out)) return;
  if (hello.slots > kSlotsMax || hello.held.size() > kLeasesInHelloMax) {
    return refuse(
        info,
        Error{Errc::invalid, fmt::format("{} says it has {} slots and holds {} leases; {} and {} are possible",
                                         to_string(hello.node), hello.slots, hello.held.size(), kSlotsMax, kLeasesInHelloMax)},
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
    answer(info, begin_session(node, hello, now, out), out);
    schedule(now, out);
    return prefetch_newest(node, out);
  }
  // Another life: what the last one held is lost, whether or not anybody has noticed yet.
  if (node.schedulable && node.incarnation != hello.incarnation) dead(node, NodeState::dead, "started anew", now, out);
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
  const Answer told = accepted ? make_answer(begin_session(node, hello, now, out)) : result;
  for (const Ticket ticket : tickets) out.answers.emplace_back(ticket, told);
  if (!accepted) return;
  schedule(now, out);
  prefetch_newest(node, out);
}

/// The sign of life counts, whether or not membership has heard of the node. Within the same life, what is out at it stays out as
/// far as it still holds it.
NodeHelloReply Coordinator::Impl::begin_session(NodeEntry& node, const NodeHello& hello, Time now, CoordinatorOutput& out) {
  const bool same_life = node.incarnation == hello.incarnation;
  if (!same_life) end_session(node);
  if (!same_life || node.state != NodeState::alive) node.since_ms = wall_at(now);
  if (!same_life || !node.joined) {
    node.heartbeat = Heartbeat{};
    fairness_.happened(second_of(now), to_string(hello.node) + " joined");
    event(out, "node_joined", JobId{}, -1,
          fmt::format("{} joined with {} slots, pid {}", to_string(hello.node), hello.slots, hello.pid));
  }
  node.joined = true;
  node.state = NodeState::alive;
  node.hello = hello;
  node.incarnation = hello.incarnation;
  node.session = true;
  node.heard = now;
  node.expected_until = kNever;
  node.described.clear();
  node.describe_again.clear();
  node.placement_sent = 0;
  node.missing.clear();
  if (!std::exchange(node.schedulable, true)) scheduler_.add_node(hello.node, hello.slots);
  scheduler_.set_open(hello.node, true);
  supervise_by(now + 2 * config_.dead_after);
  if (repair_) repair_->forget_tasks(hello.node);  // what was sent to the session before may never have come
  membership_changed();
  NodeHelloReply reply;
  reply.coordinator = config_.self;
  adopt_held(node, hello, now, reply, out);
  judge_takeover(now);
  return reply;
}

std::size_t Coordinator::Impl::end_session(NodeEntry& node) {
  const std::size_t leases = scheduler_.remove_node(node.member.id);
  node.schedulable = false;
  node.session = false;
  node.described.clear();
  node.describe_again.clear();
  return leases;
}

void Coordinator::Impl::heartbeat(const RequestInfo& info, const Heartbeat& beat, Time now, CoordinatorOutput& out) {
  if (!speaks_for(info, beat.node, out)) return;
  NodeEntry& node = nodes_.at(beat.node);
  const bool known = node.session && node.incarnation == beat.incarnation;
  answer(info, HeartbeatReply{known}, out);
  if (!known) return;
  node.heard = now;
  node.heartbeat = beat;
  const std::uint32_t weight = placement_weight(beat.free_bytes, beat.read_only);
  if (worth_a_change(node.weight, weight)) {
    node.weight = weight;
    ++placement_version_;
  }
  scheduler_.batch_time(beat.node, beat.mean_batch_us);
  scheduler_.progress(beat.node, beat.running_batches, now);
  watch_stragglers(node, beat, now, out);
  schedule(now, out);
}

void Coordinator::Impl::judge_takeover(Time now) {
  if (serving_ || !repair_) return;
  const bool all_here = std::none_of(nodes_.begin(), nodes_.end(), [](const auto& entry) {
    return entry.second.state == NodeState::alive && !entry.second.session;
  });
  serving_ = all_here || now >= grace_until_;
  if (serving_) scheduler_.redo_gaps();
}

// ---- membership -------------------------------------------------------------------------------------------------------

void Coordinator::Impl::member_changed(NodeEntry& node, NodeState state, Incarnation incarnation, Time now,
                                       CoordinatorOutput& out) {
  if (incarnation < node.incarnation || state == NodeState::unknown) return;
  const bool reigns = repair_.has_value();  // else `start` looks at everything
  if (state == NodeState::dead || state == NodeState::left) {
    if (!reigns)
      node.state = state;
    else if (node.state != NodeState::dead && node.state != NodeState::left)
      dead(node, state, state == NodeState::left ? "left" : "does not answer", now, out);
    return judge_takeover(now);
  }
  // What an earlier life held is lost; its next hello registers the new one.
  if (node.schedulable && incarnation > node.incarnation && state == NodeState::alive)
    dead(node, NodeState::dead, "started anew", now, out);
  if (node.state == state) return;
  node.state = state;
  node.since_ms = wall_at(now);
  node.expected_until = kNever;
  if (!reigns) return;
  if (node.schedulable) scheduler_.set_open(node.member.id, state == NodeState::alive && node.session);
  if (state == NodeState::suspect) {
    // Its copies count, so nothing is repaired; but nothing new is sent there.
    ++placement_version_;
    wanted_copies_ = placement_reply().replication;
    event(out, "node_suspect", JobId{}, -1, to_string(node.member.id) + " does not answer");
  } else {
    membership_changed();
  }
  judge_takeover(now);
  schedule(now, out);
}

void Coordinator::Impl::push_failed(NodeEntry& node) {
  if (!node.session) return;
  node.session = false;
  scheduler_.set_open(node.member.id, false);
  ++placement_version_;
  wanted_copies_ = placement_reply().replication;
}

void Coordinator::Impl::dead(NodeEntry& node, NodeState state, const char* why, Time now, CoordinatorOutput& out) {
  const std::size_t leases = end_session(node);
  node.state = state;
  node.expected_until = kNever;
  node.since_ms = wall_at(now);
  node.joined = false;
  node.heartbeat = Heartbeat{};
  fairness_.happened(second_of(now), to_string(node.member.id) + (state == NodeState::left ? " left" : " died"));
  note(BatchEvent::lost, {}, node.member.id, now,
       to_string(node.member.id) + (state == NodeState::left ? std::string(" left") : std::string(" died: ") + why));
  event(out, state == NodeState::left ? "node_left" : "node_dead", JobId{}, -1,
        fmt::format("{}: {}; {} leases go to others", to_string(node.member.id), why, leases));
  membership_changed();
  schedule(now, out);
}

void Coordinator::Impl::membership_changed() {
  ++placement_version_;
  wanted_copies_ = placement_reply().replication;
  if (repair_) repair_->membership_changed(repair_view());
}

void Coordinator::Impl::supervise(Time now, CoordinatorOutput& out) {
  supervise_at_ = kNever;
  for (auto& [id, node] : nodes_) {
    if (node.expected_until != kNever) {
      if (now >= node.expected_until)
        dead(node, NodeState::dead, "did not come to the new coordinator", now, out);
      else
        supervise_by(node.expected_until);
    }
    if (!node.schedulable) continue;
    const Time ends = node.heard + 2 * config_.dead_after;
    if (now < ends) {
      supervise_by(ends);
      continue;
    }
    const std::size_t leases = end_session(node);
    note(BatchEvent::lost, {}, id, now, to_string(id) + " sends no heartbeats");
    event(out, "session_ended", JobId{}, -1,
          fmt::format("{} sends no heartbeats; {} leases go to others", to_string(id), leases));
    membership_changed();
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

void Coordinator::member_changed(NodeId id, NodeState state, Incarnation incarnation, Time now, CoordinatorOutput& out) {
  const auto node = impl_->nodes_.find(id);
  if (node != impl_->nodes_.end()) impl_->member_changed(node->second, state, incarnation, now, out);
}

void Coordinator::push_failed(NodeId id, Time, CoordinatorOutput&) {
  const auto node = impl_->nodes_.find(id);
  if (node != impl_->nodes_.end()) impl_->push_failed(node->second);
}

}  // namespace idunno

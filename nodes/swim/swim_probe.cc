// Questions and answers: who is asked, what a message carries, what an answer settles.

#include <utility>

#include "nodes/swim/swim.h"

namespace idunno {
namespace {

constexpr std::size_t kRelaysMax = 256;
constexpr Duration kRelayLife = std::chrono::seconds(2);

}  // namespace

void Swim::probe_next() {
  next_probe_ = now_ + stretched(config_.probe_interval);
  for (std::size_t i = 0; i < others_.size(); ++i) {
    if (probe_position_ >= others_.size()) {
      random_.shuffle(others_);
      probe_position_ = 0;
    }
    const Member& member = *find(others_[probe_position_++]);
    if (can_be_alive(member)) return start_probe(member.id, false);
  }
}

void Swim::start_probe(NodeId target, bool hint, std::optional<MemberClaim> charge) {
  for (const auto& [sequence, probe] : probes_) {
    if (probe.target == target && probe.hint == hint) return;
  }
  const std::uint64_t sequence = ++sequence_;
  Probe& probe = probes_[sequence];
  probe.target = target;
  probe.hint = hint;
  probe.charge = std::move(charge);
  // A hint is not stretched by awareness: it comes from the kernel of the other machine, which is not slow.
  probe.indirect_at = hint ? now_ : now_ + stretched(config_.probe_timeout);
  probe.deadline = hint ? now_ + config_.hint_probe_timeout : probe.indirect_at + stretched(config_.indirect_timeout);
  send(target, SwimKind::ping, sequence, {}, probe.charge);
  if (hint) ask_helpers(sequence, probe);
}

void Swim::ask_helpers(std::uint64_t sequence, Probe& probe) {
  probe.indirect_at = kNever;
  for (const NodeId helper : pick(config_.indirect_probes, Among::alive, probe.target)) {
    probe.asked.insert(helper);
    probe.silent.insert(helper);
    send(helper, SwimKind::ping_request, sequence, probe.target, probe.charge);
  }
}

void Swim::probe_failed(const Probe& probe) {
  Member& member = *find(probe.target);
  if (!can_be_alive(member)) return;
  if (probe.hint) {
    if (probe.charge) member.refutations = std::max(member.refutations, probe.charge->refutations);
    change(member, NodeState::dead,
           probe.charge ? "others say so, and it did not answer" : "its connection was closed, and it did not answer");
    return spread(member.id);
  }
  // Helpers that do not even say "no answer" show that this node's own messages do not get through (Lifeguard).
  if (probe.asked.empty() || !probe.silent.empty()) worse();
  suspect(member, {self_}, "no answer to a probe of " + to_string(self_));
  suspicions_.at(member.id).checked = true;
  member.told = now_;
  ping_only(member.id);
}

void Swim::on_ping_request(NodeId from, const SwimMessage& message) {
  if (message.target == self_) return send(from, SwimKind::ack, message.sequence, self_);
  if (find(message.target) == nullptr || relays_.size() >= kRelaysMax) {
    return send(from, SwimKind::nack, message.sequence, message.target);
  }
  const std::uint64_t sequence = ++sequence_;
  relays_[sequence] = Relay{from, message.sequence, message.target, now_ + config_.probe_timeout * 4 / 5, now_ + kRelayLife};
  std::optional<MemberClaim> charge;  // what the asker holds against the target: the target has to hear it
  for (const MemberClaim& claim : message.claims) {
    if (claim.node == message.target && claim.state != NodeState::alive) charge = claim;
  }
  send(message.target, SwimKind::ping, sequence, {}, charge);
}

void Swim::on_answer(NodeId from, const SwimMessage& message) {
  if (message.kind == SwimKind::table) {
    synced_ = true;
    return;
  }
  if (const auto found = relays_.find(message.sequence); found != relays_.end()) {
    const Relay relay = found->second;
    if (from != relay.target || message.kind != SwimKind::ack) return;
    relays_.erase(found);
    return send(relay.asker, SwimKind::ack, relay.asked, relay.target);
  }
  const auto found = probes_.find(message.sequence);
  if (found == probes_.end()) return;
  Probe& probe = found->second;
  if (message.kind == SwimKind::nack) {
    probe.silent.erase(from);
    return;
  }
  if (from != probe.target && !probe.asked.contains(from)) return;
  if (from == probe.target && !probe.hint && probe.indirect_at != kNever) better();  // in time, without help
  probes_.erase(found);
}

SwimMessage Swim::make(SwimKind kind, std::uint64_t sequence) const {
  SwimMessage message;
  message.kind = kind;
  message.from = self_;
  message.sequence = sequence;
  message.incarnation = me().incarnation;
  message.refutations = me().refutations;
  message.leaving = has_left();
  return message;
}

void Swim::send(NodeId to, SwimKind kind, std::uint64_t sequence, NodeId target, const std::optional<MemberClaim>& charge) {
  SwimMessage message = make(kind, sequence);
  message.target = target;
  if (charge) message.claims.push_back(*charge);
  add_claims(message, to);
  output_.messages.emplace_back(to, std::move(message));
}

void Swim::send_table(NodeId to, SwimKind kind, std::uint64_t sequence) {
  SwimMessage message = make(kind, sequence);
  for (std::size_t i = 0; i < members_.size() && message.claims.size() < kClaimsPerTableMax; ++i) {
    const Member& member = members_[table_position_];
    table_position_ = (table_position_ + 1) % members_.size();
    if (member.state != NodeState::unknown && member.id != self_) message.claims.push_back(claim_about(member));
  }
  output_.messages.emplace_back(to, std::move(message));
}

/// First what is held against the receiver (it is told first: Lifeguard's buddy system) and what is known of the target, then the
/// news told least often.
void Swim::add_claims(SwimMessage& message, NodeId to) {
  const auto holds = [&](NodeId node) {
    return std::any_of(message.claims.begin(), message.claims.end(),
                       [&](const MemberClaim& claim) { return claim.node == node; });
  };
  const Member& receiver = *find(to);
  const bool accused =
      receiver.state == NodeState::suspect || receiver.state == NodeState::dead || receiver.state == NodeState::left;
  if (accused && !holds(to)) message.claims.push_back(claim_about(receiver));
  if (message.target && message.target != self_ && !holds(message.target)) {
    const Member* target = find(message.target);
    if (target != nullptr && target->state != NodeState::unknown) message.claims.push_back(claim_about(*target));
  }
  std::vector<News> picked;
  for (auto at = news_.begin(); at != news_.end() && message.claims.size() < kClaimsPerMessageMax; ++at) {
    if (at->about == to || holds(at->about)) continue;
    message.claims.push_back(claim_about(*find(at->about)));
    picked.push_back(*at);
  }
  const std::uint32_t enough = retransmissions(could_be_alive_);
  for (News& news : picked) {
    news_.erase(news);
    if (++news.told >= enough) {
      news_about_.erase(news.about);
    } else {
      news_.insert(news);
      news_about_[news.about] = news;
    }
  }
}

MemberClaim Swim::claim_about(const Member& member) const {
  MemberClaim claim{member.id, member.state, member.incarnation, member.refutations, {}};
  const auto found = suspicions_.find(member.id);
  if (found != suspicions_.end()) claim.accusers.assign(found->second.accusers.begin(), found->second.accusers.end());
  return claim;
}

/// Some at random, never self. A part of a shuffle of the same list every time: no copy of a large list.
std::vector<NodeId> Swim::pick(std::size_t count, Among among, NodeId but) {
  std::vector<NodeId> picked;
  for (std::size_t i = 0; i < pick_order_.size() && picked.size() < count; ++i) {
    std::swap(pick_order_[i], pick_order_[i + random_.below(pick_order_.size() - i)]);
    const Member& member = *find(pick_order_[i]);
    if (member.id == but) continue;
    const bool wanted = among == Among::alive      ? member.state == NodeState::alive
                        : among == Among::not_left ? member.state != NodeState::left
                                                   : can_be_alive(member);
    if (wanted) picked.push_back(member.id);
  }
  return picked;
}

}  // namespace idunno

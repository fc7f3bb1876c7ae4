// Beliefs: how claims about members, this node's own silence included, change what it believes.

#include <utility>

#include "nodes/swim/swim.h"

namespace idunno {
namespace {

// Far above all that can be true, and far enough below the types' ends to count on.
constexpr std::uint64_t kIncarnationMax = 1ULL << 53U;
constexpr std::uint32_t kRefutationsMax = 1U << 31U;

bool plausible(const MemberClaim& claim) {
  return claim.state != NodeState::unknown && claim.incarnation && claim.incarnation.value < kIncarnationMax &&
         claim.refutations < kRefutationsMax && claim.accusers.size() <= kAccusersPerClaimMax;
}

}  // namespace

void Swim::heard_from(Member& member, const SwimMessage& message) {
  const NodeState says = message.leaving ? NodeState::left : NodeState::alive;
  const MemberClaim claim{member.id, says, message.incarnation, message.refutations, {}};
  if (!plausible(claim)) return;
  const bool outdated = claim.incarnation < member.incarnation;
  if (!outdated) member.heard = now_;
  apply(claim, member.id, false);
  // It lives and does not know what is held against it, or that a life of it with a later stamp is known.
  const bool accused = !message.leaving && member.state != NodeState::alive;
  if ((!accused && !outdated) || (member.told && now_ - *member.told < config_.gossip_interval)) return;
  member.told = now_;
  send(member.id, SwimKind::ping, ++sequence_, {}, claim_about(member));
}

void Swim::apply(const MemberClaim& claim, NodeId teller, bool from_table) {
  if (!plausible(claim)) return;
  if (claim.node == self_) return apply_own(claim);
  Member* member = find(claim.node);
  if (member == nullptr || claim.incarnation < member->incarnation) return;
  if (claim.incarnation > member->incarnation) return new_life(*member, claim, teller, from_table);
  if (member->state == NodeState::left) return;  // that life is over, by its own word
  if (claim.state == NodeState::left) {
    change(*member, NodeState::left, "it said good-bye");
    return spread(member->id);
  }
  if (claim.refutations < member->refutations) return;
  if (claim.state == NodeState::alive) return claimed_alive(*member, claim, from_table);
  if (claim.state == NodeState::suspect) return claimed_suspect(*member, claim, teller);
  claimed_dead(*member, claim, teller, from_table);
}

/// What is held against this node is refuted, by a claim that outranks it.
void Swim::apply_own(const MemberClaim& claim) {
  Member& self = *find(self_);
  if (has_left() || claim.incarnation < self.incarnation) return;
  const bool same_life = claim.incarnation == self.incarnation;
  if (same_life && claim.state != NodeState::left) {
    if (claim.state == NodeState::alive || claim.refutations < self.refutations) return;
    self.refutations = claim.refutations + 1;
    worse();
  } else {
    // Somebody knows a life of this node that started later than now: the wall clock was set back between the two starts.
    self.incarnation = Incarnation{claim.incarnation.value + 1};
    self.refutations = 0;
  }
  spread(self_);
}

void Swim::new_life(Member& member, const MemberClaim& claim, NodeId teller, bool from_table) {
  if (can_be_alive(member)) change(member, NodeState::dead, "a new life of it has begun");
  const bool first = member.state == NodeState::unknown;
  member.incarnation = claim.incarnation;
  member.refutations = claim.refutations;
  if (claim.state == NodeState::dead || claim.state == NodeState::left) {
    change(member, claim.state, "told by " + to_string(teller));
    return spread(member.id);
  }
  const std::string how = teller == member.id ? "itself" : to_string(teller);
  change(member, NodeState::alive, (first ? "joined, heard from " : "joined again, heard from ") + how);
  if (!from_table) spread(member.id);  // what a table told is in tables; news of all members at once would crowd out the rest
  if (claim.state == NodeState::suspect) claimed_suspect(member, claim, teller);
}

void Swim::claimed_alive(Member& member, const MemberClaim& claim, bool from_table) {
  if (claim.refutations == member.refutations) return;
  refuted(member, claim.refutations);
  const bool news = member.state != NodeState::alive;
  if (news) change(member, NodeState::alive, member.state == NodeState::dead ? "it was not dead" : "it refuted the suspicion");
  if (news || !from_table) spread(member.id);
}

void Swim::claimed_suspect(Member& member, const MemberClaim& claim, NodeId teller) {
  if (claim.refutations > member.refutations) {
    suspicions_.erase(member.id);  // an older one
    refuted(member, claim.refutations);
    if (member.state == NodeState::suspect) change(member, NodeState::alive, "it refuted the suspicion");
  } else if (member.state == NodeState::dead) {
    return;
  }
  std::set<NodeId> accusers;
  for (const NodeId accuser : claim.accusers) {
    if (accuser != member.id && find(accuser) != nullptr) accusers.insert(accuser);
  }
  if (accusers.empty()) accusers.insert(teller);
  const bool new_to_me = !suspicions_.contains(member.id);
  suspect(member, std::move(accusers), "suspected by " + to_string(teller));
  // A few look for themselves at once: a true suspicion is confirmed soon, a wrong one refuted. Not all: it would be a flood.
  const double chance = static_cast<double>(config_.checks_of_suspicion) / static_cast<double>(could_be_alive_);
  if (!new_to_me || has_left() || !random_.chance(chance)) return;
  suspicions_.at(member.id).checked = true;
  start_probe(member.id, false);
}

/// A death that somebody else has found. Believed, unless this node has reason to doubt it.
void Swim::claimed_dead(Member& member, const MemberClaim& claim, NodeId teller, bool from_table) {
  if (member.state == NodeState::dead) {
    member.refutations = claim.refutations;
    return;
  }
  // Who was cut off found all others dead, and says so when the cut has healed.
  if (member.heard && now_ - *member.heard < config_.contact_fresh && !has_left()) return start_probe(member.id, true, claim);
  member.refutations = claim.refutations;
  if (from_table) return suspect(member, {teller}, "dead in the table of " + to_string(teller));
  change(member, NodeState::dead, "told by " + to_string(teller));
  spread(member.id);
}

void Swim::suspect(Member& member, std::set<NodeId> accusers, const std::string& why) {
  auto [at, fresh] = suspicions_.try_emplace(member.id);
  Suspicion& suspicion = at->second;
  const std::size_t before = suspicion.accusers.size();
  for (const NodeId accuser : accusers) {
    if (suspicion.accusers.size() < kAccusersPerClaimMax) suspicion.accusers.insert(accuser);
  }
  if (fresh) {
    suspicion.since = now_;
    change(member, NodeState::suspect, why);
  }
  if (suspicion.accusers.size() == before) return;
  set_end(suspicion);
  spread(member.id);
}

/// It has spoken since: that answers what was asked before. Otherwise, where many messages are lost, the many who look after a
/// suspect would raise the next suspicion with every one that they refute.
void Swim::refuted(Member& member, std::uint32_t refutations) {
  member.refutations = refutations;
  std::erase_if(probes_, [&](const auto& entry) {
    const Probe& probe = entry.second;
    return probe.target == member.id && (!probe.hint || probe.charge);
  });
}

void Swim::spread(NodeId about) {
  const News news{0, news_age_--, about};
  const auto [at, first] = news_about_.try_emplace(about, news);
  if (!first) {
    news_.erase(at->second);
    at->second = news;
  }
  news_.insert(news);
}

void Swim::change(Member& member, NodeState to, std::string why) {
  if (member.state == to) return;
  const bool could = can_be_alive(member);
  const NodeState from = std::exchange(member.state, to);
  if (could && !can_be_alive(member)) --could_be_alive_;
  if (!could && can_be_alive(member)) ++could_be_alive_;
  member.since = now_;
  if (to != NodeState::suspect) suspicions_.erase(member.id);
  if (!can_be_alive(member)) std::erase_if(probes_, [&](const auto& entry) { return entry.second.target == member.id; });
  history_.push_back({member.id, from, to, member.incarnation, std::move(why), now_});
  if (history_.size() > kMemberHistoryMax) history_.pop_front();
  output_.changes.push_back(history_.back());
}

}  // namespace idunno

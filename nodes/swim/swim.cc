#include "nodes/swim/swim.h"

#include <utility>

#include "bus/base/assert.h"

namespace idunno {
namespace {

constexpr Duration kLateTolerance = std::chrono::milliseconds(10);  ///< a call that much after wake_at is in time
constexpr Duration kReadTime = std::chrono::milliseconds(10);       ///< from a late call until all that waits has been received
constexpr Duration kSyncRetry = std::chrono::seconds(1);            ///< until the first table has come
constexpr std::size_t kGreetingsMax = 4;                            ///< a round
constexpr std::size_t kFarewellsMax = 64;                           ///< members that are told directly; gossip tells the rest

}  // namespace

Swim::Swim(const SwimConfig& config, std::vector<NodeId> members, NodeId self, Incarnation incarnation, Random random, Time now)
    : config_(config), self_(self), random_(random), now_(now) {
  ASSERT(incarnation);
  std::sort(members.begin(), members.end());
  ASSERT(std::adjacent_find(members.begin(), members.end()) == members.end());
  for (const NodeId id : members) {
    Member member;
    member.id = id;
    member.since = now;
    if (id == self) {
      member.state = NodeState::alive;
      member.incarnation = incarnation;
    } else {
      others_.push_back(id);
    }
    members_.push_back(std::move(member));
  }
  ASSERT(find(self) != nullptr);
  random_.shuffle(others_);
  pick_order_ = others_;
  sequence_ = random_.next() >> 16U;  // answers to a former life do not fit
  greet_position_ = random_.below(members_.size());
  const auto interval = static_cast<std::uint64_t>(config_.probe_interval.count());
  next_probe_ = now + Duration(static_cast<Duration::rep>(random_.below(interval)));
  next_gossip_ = next_greeting_ = next_sync_ = wake_at_ = now;
}

const Swim::Member* Swim::find(NodeId node) const {
  const auto found = std::lower_bound(members_.begin(), members_.end(), node,
                                      [](const Member& member, NodeId wanted) { return member.id < wanted; });
  return found == members_.end() || found->id != node ? nullptr : &*found;
}

std::vector<MemberInfo> Swim::members() const {
  std::vector<MemberInfo> infos;
  infos.reserve(members_.size());
  for (const Member& member : members_) {
    infos.push_back({member.id, member.state, member.incarnation, member.refutations, member.since});
  }
  return infos;
}

NodeState Swim::state_of(NodeId node) const {
  const Member* member = find(node);
  return member == nullptr ? NodeState::unknown : member->state;
}

SwimOutput Swim::take_output() { return std::exchange(output_, {}); }

// ---- inputs ---------------------------------------------------------------------------------------------------------

void Swim::receive(NodeId from, const SwimMessage& message, Time now) {
  begin(now);
  Member* member = find(from);
  const bool table = message.kind == SwimKind::sync || message.kind == SwimKind::table;
  const bool fits = message.claims.size() <= (table ? kClaimsPerTableMax : kClaimsPerMessageMax);
  if (member == nullptr || from == self_ || message.from != from || !fits) return end();
  // Claims first: the answer then carries the refutation of what was claimed about this node.
  heard_from(*member, message);
  for (const MemberClaim& claim : message.claims) apply(claim, from, table);
  switch (message.kind) {
    case SwimKind::ping:
      send(from, SwimKind::ack, message.sequence);
      break;
    case SwimKind::ping_request:
      on_ping_request(from, message);
      break;
    case SwimKind::sync:
      send_table(from, SwimKind::table, message.sequence);
      break;
    case SwimKind::ack:
    case SwimKind::nack:
    case SwimKind::table:
      on_answer(from, message);
      break;
  }
  end();
}

void Swim::tick(Time now) {
  begin(now);
  suspicion_timers();
  probe_timers();
  relay_timers();
  if (!has_left() && now_ >= next_probe_) probe_next();
  if (!has_left() && now_ >= next_greeting_) greet();
  if (!has_left() && now_ >= next_sync_) sync();
  if (!news_.empty() && now_ >= next_gossip_) gossip();
  end();
}

void Swim::connection_lost(NodeId node, Time now) {
  begin(now);
  const Member* member = find(node);
  if (member != nullptr && node != self_ && can_be_alive(*member) && !has_left()) start_probe(node, true);
  end();
}

void Swim::connection_made(NodeId node, Time now) {
  begin(now);
  const Member* member = find(node);
  if (member != nullptr && node != self_ && !can_be_alive(*member) && !has_left()) ping_only(node);
  end();
}

void Swim::leave(Time now) {
  begin(now);
  if (!has_left()) {
    change(*find(self_), NodeState::left, "it was told to leave");
    probes_.clear();
    suspicions_.clear();
    spread(self_);
    for (const NodeId id : pick(kFarewellsMax, Among::alive_or_suspect)) ping_only(id);
  }
  end();
}

// ---- time -----------------------------------------------------------------------------------------------------------

void Swim::begin(Time now) {
  now_ = std::max(now_, now);
  const Duration late = last_call_ == kNever ? Duration(0) : now_ - std::max(wake_at_, last_call_);
  last_call_ = now_;
  if (late > kLateTolerance) after_own_delay(late);
}

/// Answers may have come meanwhile and wait unread: nobody is blamed for the time that this node did not run. What would end now
/// is put off once more, until they have been read; once only, or a node that is always late would never come to an end.
void Swim::after_own_delay(Duration late) {
  // Long by the measure of this node's present health, for the same reason.
  const bool pause = late > stretched(config_.probe_timeout);
  if (late > config_.probe_timeout / 2) worse();
  std::vector<Probe> again;
  for (auto at = probes_.begin(); at != probes_.end();) {
    Probe& probe = at->second;
    if (pause) {
      if (probe.hint) again.push_back(std::move(probe));
      at = probes_.erase(at);
      continue;
    }
    probe.deadline += late;
    if (probe.indirect_at != kNever) probe.indirect_at += late;
    if (probe.deadline <= now_ && !std::exchange(probe.put_off, true)) probe.deadline = now_ + kReadTime;
    ++at;
  }
  for (Probe& probe : again) start_probe(probe.target, true, std::move(probe.charge));
  for (auto& [node, suspicion] : suspicions_) {
    suspicion.since += late;
    suspicion.ends += late;
    if (suspicion.ends <= now_ && !std::exchange(suspicion.put_off, true)) suspicion.ends = now_ + kReadTime;
  }
}

void Swim::end() {
  Time wake = kNever;
  if (!has_left()) wake = std::min({next_probe_, next_greeting_, next_sync_});
  if (!news_.empty()) wake = std::min(wake, next_gossip_);
  for (const auto& [sequence, probe] : probes_) wake = std::min({wake, probe.indirect_at, probe.deadline});
  for (const auto& [sequence, relay] : relays_) wake = std::min({wake, relay.nack_at, relay.over_at});
  for (const auto& [node, suspicion] : suspicions_) wake = std::min({wake, check_of(suspicion), suspicion.ends});
  wake_at_ = wake;
}

void Swim::probe_timers() {
  std::vector<Probe> failed;
  for (auto at = probes_.begin(); at != probes_.end();) {
    if (now_ >= at->second.indirect_at) ask_helpers(at->first, at->second);
    if (now_ < at->second.deadline) {
      ++at;
      continue;
    }
    failed.push_back(std::move(at->second));
    at = probes_.erase(at);
  }
  for (const Probe& probe : failed) probe_failed(probe);
}

void Swim::relay_timers() {
  for (auto at = relays_.begin(); at != relays_.end();) {
    Relay& relay = at->second;
    if (now_ >= relay.nack_at) {
      relay.nack_at = kNever;
      send(relay.asker, SwimKind::nack, relay.asked, relay.target);
    }
    at = now_ >= relay.over_at ? relays_.erase(at) : std::next(at);
  }
}

void Swim::set_end(Suspicion& suspicion) const {
  const std::size_t others = could_be_alive_ > 2 ? could_be_alive_ - 2 : 0;  // that could confirm
  const auto k = static_cast<std::uint32_t>(std::min<std::size_t>(config_.confirmations, others));
  const auto confirmations = std::min(static_cast<std::uint32_t>(suspicion.accusers.size() - 1), k);
  const Duration min = suspicion_min(config_, could_be_alive_);
  suspicion.ends =
      suspicion.since + remaining_suspicion(confirmations, k, Duration(0), min, suspicion_max(config_, could_be_alive_));
}

/// Nobody is called dead on hearsay alone. The refutation may have passed this node by: half way it looks for itself.
Time Swim::check_of(const Suspicion& suspicion) const {
  return suspicion.checked || has_left() ? kNever : suspicion.since + (suspicion.ends - suspicion.since) / 2;
}

void Swim::suspicion_timers() {
  std::vector<NodeId> over;
  for (auto& [node, suspicion] : suspicions_) {
    if (now_ >= suspicion.ends) {
      over.push_back(node);
    } else if (now_ >= check_of(suspicion)) {
      suspicion.checked = true;
      start_probe(node, false);
    }
  }
  for (const NodeId node : over) {
    const std::size_t accusers = suspicions_.at(node).accusers.size();
    change(*find(node), NodeState::dead, "silent; suspected by " + std::to_string(accusers) + " and not refuted");
    spread(node);
  }
}

/// Those that cannot be alive are not probed, but may have come back, or were behind a cut that has healed.
void Swim::greet() {
  next_greeting_ = now_ + config_.greet_interval;
  std::size_t greeted = 0;
  for (std::size_t i = 0; i < members_.size() && greeted < kGreetingsMax; ++i) {
    const Member& member = members_[greet_position_];
    greet_position_ = (greet_position_ + 1) % members_.size();
    if (member.state != NodeState::dead && member.state != NodeState::unknown) continue;
    ping_only(member.id);
    ++greeted;
  }
}

void Swim::sync() {
  std::vector<NodeId> whom = pick(1, Among::alive);
  if (whom.empty()) whom = pick(1, Among::not_left);
  for (const NodeId id : whom) send_table(id, SwimKind::sync, ++sequence_);
  if (!synced_) {
    next_sync_ = now_ + kSyncRetry;
    return;
  }
  const auto interval = static_cast<std::uint64_t>(config_.sync_interval.count());
  next_sync_ = now_ + Duration(static_cast<Duration::rep>(interval / 2 + random_.below(interval)));  // not all at once
}

void Swim::gossip() {
  next_gossip_ = now_ + config_.gossip_interval;
  const std::vector<NodeId> whom = pick(config_.gossip_fanout, Among::alive_or_suspect);
  // Alone: old news would mislead whoever comes back. What is true then travels with probes and tables.
  if (whom.empty()) {
    news_.clear();
    news_about_.clear();
  }
  for (const NodeId id : whom) ping_only(id);
}

}  // namespace idunno

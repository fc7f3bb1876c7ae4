/// Who keeps the log: announcements, the first configuration, and the leader's changes of it (Raft dissertation 4.1 to 4.4: one
/// server at a time, the next only when the last is committed, and none before an entry of the leader's own epoch is).

#include <algorithm>

#include "nodes/raft/quorum.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {
namespace {

constexpr int kAnnounceFresh = 5;       ///< an announcement older than so many intervals says nothing about now
constexpr int kBootstrapIntervals = 2;  ///< the time that other log nodes get to say that there is a log already

}  // namespace

bool RaftLog::Impl::is_log_node(NodeId node) const {
  return std::find(config.log_nodes.begin(), config.log_nodes.end(), node) != config.log_nodes.end();
}

void RaftLog::Impl::on_announce(const RaftMessage& message, const Announce& announce) {
  const bool to_this_life = message.to_log == log_id;
  Announced& known = announced[message.from];
  known.empty_now = !announce.has_log && (to_this_life || (known.empty_now && known.log_id == message.from_log));
  known.log_id = message.from_log;
  known.at = now;
  known.epoch = message.epoch;
  if (announce.has_log) bootstrap_stopped = true;  // there is a cluster: wait to be added to it
  if (announce.reply) {
    bootstrap_if_ready();
    return;
  }
  RaftMessage answer;
  answer.announce = Announce{!configuration().empty(), true};
  send(message.from, message.from_log, std::move(answer));
}

/// When the next announcement is due: a node that has not heard a leader for long repeats it.
Time RaftLog::Impl::announce_due() const {
  if (role == RaftRole::leader) return kNever;
  const Time silent_at = leader ? leader_contact + config.election_timeout_max : now;
  return std::max(announce_at, silent_at);
}

void RaftLog::Impl::announce_if_alone() {
  if (now < announce_due()) return;
  announce_at = now + config.announce_every;
  for (const NodeId node : config.log_nodes) {
    if (node == config.self) continue;
    const auto known = announced.find(node);
    RaftMessage message;
    message.announce = Announce{!configuration().empty(), false};
    send(node, known == announced.end() ? 0 : known->second.log_id, std::move(message));
  }
}

/// The first start of a cluster. Only the first node does it, only with an empty log, and only when every other initial voter has
/// said to this very life of the log that it has none: a wiped first node can then found no second cluster beside the first.
void RaftLog::Impl::bootstrap_if_ready() {
  if (config.self != config.log_nodes.front() || bootstrap_stopped || !configuration().empty() || log.last().value > 0) return;
  LogConfiguration first;
  Epoch newest = hard.epoch;
  bool all_announced = true;
  for (std::size_t i = 0; i < config.log_nodes.size(); ++i) {
    const NodeId node = config.log_nodes[i];
    const auto known = announced.find(node);
    const bool is_empty = node == config.self || (known != announced.end() && known->second.empty_now);
    all_announced = all_announced && is_empty;
    if (known != announced.end()) newest = std::max(newest, known->second.epoch);
    if (i >= config.voters_wanted) continue;
    if (!is_empty) return;
    first.members.push_back(LogMember{node, node == config.self ? log_id : known->second.log_id, true});
  }
  initial_voters_at = std::min(initial_voters_at, now);
  const bool waited = now - initial_voters_at >= config.announce_every * kBootstrapIntervals;
  if (config.voters_wanted > 1 && !all_announced && !waited) return;
  std::sort(first.members.begin(), first.members.end(), [](const LogMember& a, const LogMember& b) { return a.node < b.node; });
  hard = HardState{Epoch{newest.value + 1}, config.self};
  hard_dirty = true;
  log.append(hard.epoch, mark_entry(encode(first), EntryKind::configuration));
  election_deadline = now;
}

/// The leader's peers are the members of the newest configuration, committed or not (4.1).
void RaftLog::Impl::sync_peers() {
  std::erase_if(peers, [this](const auto& item) {
    const LogMember* member = configuration().find(item.first);
    return member == nullptr || member->log_id != item.second.log_id;
  });
  for (const LogMember& member : configuration().members) {
    if (member.node == config.self || peers.contains(member.node)) continue;
    Progress peer;
    peer.log_id = member.log_id;
    peer.next = LogIndex{log.last().value + 1};
    peer.heard = now;
    peers.emplace(member.node, std::move(peer));
  }
}

bool RaftLog::Impl::has_active_majority(const LogConfiguration& voters_of) const {
  std::size_t active = 0;
  for (const LogMember& member : voters_of.members) {
    if (!member.voter) continue;
    const auto peer = peers.find(member.node);
    const bool is_self = member.node == config.self;
    if (is_self || (peer != peers.end() && is_active(member.node, peer->second))) ++active;
  }
  return active >= majority_of(voters_of.voters());
}

void RaftLog::Impl::reconfigure() {
  // The last condition is the correction of single-server changes (4.1, Ongaro 2015): first an entry of the own epoch.
  if (role != RaftRole::leader || transfer_to || log.configuration_index() > commit || commit < begin_index) return;
  auto next = next_configuration();
  if (!next || !has_active_majority(*next)) return;
  Bytes marked = mark_entry(encode(*next), EntryKind::configuration);
  uncommitted_bytes += marked.size();
  log.append(hard.epoch, std::move(marked));
  sync_peers();
  order_successors();
}

/// One change, the most urgent first; nothing when all is as wanted.
std::optional<LogConfiguration> RaftLog::Impl::next_configuration() const {
  LogConfiguration next = configuration();
  auto& members = next.members;
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!is_replaced(members[i])) continue;
    members.erase(members.begin() + static_cast<std::ptrdiff_t>(i));
    return next;
  }
  for (const auto& [node, known] : announced) {
    if (next.find(node) != nullptr || now - known.at > config.announce_every * kAnnounceFresh) continue;
    const auto at = std::find_if(members.begin(), members.end(), [n = node](const LogMember& m) { return m.node > n; });
    members.insert(at, LogMember{node, known.log_id, false});
    return next;
  }
  const std::size_t voters = next.voters();
  if (voters > config.voters_wanted) {
    const NodeId spare = voter_to_demote();
    for (LogMember& member : members) member.voter = member.voter && member.node != spare;
    return next;
  }
  const bool has_dead =
      std::any_of(members.begin(), members.end(), [this](const LogMember& m) { return m.voter && is_dead_for_long(m.node); });
  if (voters == config.voters_wanted && !has_dead) return {};
  for (LogMember& member : members) {
    if (!is_caught_up(member)) continue;
    member.voter = true;  // in place of a dead one, which is demoted next
    return next;
  }
  return {};
}

/// Its node has come back with another log. An old announcement that arrives late is told by the member's own answers.
bool RaftLog::Impl::is_replaced(const LogMember& member) const {
  const auto known = announced.find(member.node);
  if (member.node == config.self || known == announced.end() || known->second.log_id == member.log_id) return false;
  const Progress& peer = peers.at(member.node);
  return !is_active(member.node, peer) && known->second.at > peer.heard &&
         now - known->second.at <= config.announce_every * kAnnounceFresh;
}

/// A learner that has by now what was committed at the heartbeat before: it is not more than a heartbeat behind (4.2.1).
bool RaftLog::Impl::is_caught_up(const LogMember& member) const {
  if (member.voter || member.node == config.self) return false;
  const Progress& peer = peers.at(member.node);
  return is_active(member.node, peer) && peer.state == Progress::State::replicate && peer.match >= commit_at_beat;
}

bool RaftLog::Impl::is_dead_for_long(NodeId node) const {
  const auto dead = dead_since.find(node);
  return node != config.self && dead != dead_since.end() && now - dead->second >= config.voter_replace_after;
}

/// One that is dead for long, else the one that would lead last.
NodeId RaftLog::Impl::voter_to_demote() const {
  for (const LogMember& member : configuration().members) {
    if (member.voter && is_dead_for_long(member.node)) return member.node;
  }
  return successors.empty() ? NodeId{} : successors.back();
}

}  // namespace idunno

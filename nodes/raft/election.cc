/// Who leads: pre-votes, votes, leases, leadership transfer (Raft dissertation 3.4, 3.10, 6.2, 6.4.1, 9.6).

#include <fmt/core.h>

#include <algorithm>

#include "nodes/raft/quorum.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {
namespace {

RaftMessage vote_reply(const VoteRequest& request, bool granted) {
  RaftMessage message;
  message.vote_reply = VoteReply{request.pre, request.asked, granted};
  return message;
}

}  // namespace

/// Only a voter of its own newest configuration, as this very log: a wiped node is none until the leader has made it one again.
bool RaftLog::Impl::may_campaign() const { return configuration().is_voter(config.self, log_id) && !install_drops_tail; }

/// A voter that has heard a living leader helps nobody to replace it (6.4.1, 9.6).
bool RaftLog::Impl::in_lease() const {
  if (role == RaftRole::leader) return true;  // observe() has just seen that a majority answers
  return leader && now - leader_contact < config.election_timeout_min;
}

Duration RaftLog::Impl::random_timeout() {
  const auto span = static_cast<std::uint64_t>((config.election_timeout_max - config.election_timeout_min).count());
  return config.election_timeout_min + Duration{static_cast<Duration::rep>(random.below(span))};
}

/// Leader Completeness rests on this (3.6.1): a log that lacks what the voter has gets no vote.
bool RaftLog::Impl::is_up_to_date(const VoteRequest& request) const {
  if (request.last_epoch != log.last_epoch()) return request.last_epoch > log.last_epoch();
  return request.last_index >= log.last();
}

void RaftLog::Impl::adopt_epoch(Epoch newer) {
  hard = HardState{newer, NodeId{}};
  hard_dirty = true;
  become_follower(NodeId{});
}

void RaftLog::Impl::become_follower(NodeId new_leader) {
  if (role != RaftRole::follower) election_deadline = now + random_timeout();
  if (role == RaftRole::leader) fail_reads();
  role = RaftRole::follower;
  if (new_leader != leader) successors.clear();
  leader = new_leader;
  if (!leader) leader_contact = kLongAgo;
  grants.clear();
  peers.clear();
  begin_index = LogIndex{};
  beat_at = kNever;
  beat_due = false;
  retry_at = kNever;
  end_transfer();
}

void RaftLog::Impl::start_pre_vote() {
  if (configuration().voters() == 1) {
    campaign(false);
    return;
  }
  ++pre_votes_started;
  role = RaftRole::pre_candidate;
  leader = NodeId{};
  leader_contact = kLongAgo;
  grants.clear();
  transferred = false;
  election_deadline = now + random_timeout();
  ask_for_votes();
}

void RaftLog::Impl::campaign(bool for_transfer) {
  ++elections_started;
  hard = HardState{Epoch{hard.epoch.value + 1}, config.self};
  hard_dirty = true;
  own_vote_durable = false;  // counts, and is asked to be followed, only when it is on disk
  role = RaftRole::candidate;
  leader = NodeId{};
  leader_contact = kLongAgo;
  grants.clear();
  transferred = for_transfer;
  election_deadline = now + random_timeout();
  ask_for_votes();
}

void RaftLog::Impl::ask_for_votes() {
  retry_step = config.rank_step / 3;  // before the voter of the next rank begins, then less and less often
  retry_at = now + retry_step;
  const bool pre = role == RaftRole::pre_candidate;
  const Epoch asked = pre ? Epoch{hard.epoch.value + 1} : hard.epoch;
  for (const LogMember& member : configuration().members) {
    if (!member.voter || member.node == config.self || grants.contains(member.node)) continue;
    RaftMessage message;
    message.vote = VoteRequest{pre, asked, log.last(), log.last_epoch(), transferred};
    send(member.node, member.log_id, std::move(message));
  }
}

void RaftLog::Impl::retry_votes() {
  const Duration step = retry_step * 2;
  ask_for_votes();
  retry_step = step;
  retry_at = now + step;
}

void RaftLog::Impl::on_vote_request(const RaftMessage& message, const VoteRequest& request) {
  bool granted = false;
  const bool forbidden = in_lease() && !request.transfer;
  if (!forbidden) {
    if (message.epoch > hard.epoch) adopt_epoch(message.epoch);
    if (request.pre) {
      granted = request.asked > hard.epoch && is_up_to_date(request);
    } else if (request.asked == hard.epoch && message.epoch == hard.epoch) {
      const bool is_free = !hard.voted_for || hard.voted_for == message.from;  // one vote an epoch
      granted = is_free && is_up_to_date(request);
    }
    if (granted && !request.pre) {
      if (hard.voted_for != message.from) hard_dirty = true;
      hard.voted_for = message.from;
      become_follower(NodeId{});
      election_deadline = now + random_timeout();
    }
  }
  send(message.from, message.from_log, vote_reply(request, granted));
}

void RaftLog::Impl::on_vote_reply(const RaftMessage& message, const VoteReply& reply) {
  if (!reply.granted || !configuration().is_voter(message.from, message.from_log)) return;
  if (reply.pre) {
    if (role != RaftRole::pre_candidate || reply.asked.value != hard.epoch.value + 1) return;
    grants.insert(message.from);
    if (grants.size() + 1 >= majority_of(configuration().voters())) campaign(false);
  } else {
    if (role != RaftRole::candidate || reply.asked != hard.epoch) return;
    grants.insert(message.from);
    count_votes();
  }
}

void RaftLog::Impl::count_votes() {
  std::size_t votes = own_vote_durable ? 1 : 0;
  for (const LogMember& member : configuration().members) {
    if (member.voter && grants.contains(member.node)) ++votes;
  }
  if (votes >= majority_of(configuration().voters())) become_leader();
}

void RaftLog::Impl::become_leader() {
  role = RaftRole::leader;
  leader = config.self;
  grants.clear();
  retry_at = kNever;
  peers.clear();
  sync_peers();
  uncommitted_bytes = 0;
  for (std::uint64_t i = commit.value + 1; i <= log.last().value; ++i) uncommitted_bytes += log.at(LogIndex{i}).command.size();
  // The no-op (6.4, 5.4.2): entries of earlier epochs are committed together with it, without waiting for a client.
  Bytes begin = mark_entry(config.begin_command ? config.begin_command(hard.epoch) : Bytes{}, EntryKind::command);
  uncommitted_bytes += begin.size();
  log.append(hard.epoch, std::move(begin));
  begin_index = log.last();
  commit_at_beat = commit;
  order_successors();
  beat_at = now + config.heartbeat;
  beat_due = true;
}

/// A closed connection to the leader ends the lease, and the voters try one after the other, the standby at once: safe, because
/// whoever tries still needs a majority of pre-votes.
void RaftLog::Impl::connection_lost(NodeId node) {
  if (role != RaftRole::follower || !leader || node != leader) return;
  leader_contact = kLongAgo;
  const std::size_t rank = own_rank();
  leader = NodeId{};
  if (!may_campaign()) return;
  election_deadline = std::min(election_deadline, now + config.rank_step * static_cast<Duration::rep>(rank));
  if (rank == 0) start_pre_vote();
}

/// As the leader told; without its word the place by id among the voters that are left.
std::size_t RaftLog::Impl::own_rank() const {
  const auto told = std::find(successors.begin(), successors.end(), config.self);
  if (told != successors.end()) return static_cast<std::size_t>(told - successors.begin());
  const auto& members = configuration().members;
  return static_cast<std::size_t>(std::count_if(members.begin(), members.end(), [this](const LogMember& member) {
    return member.voter && member.node != leader && member.node < config.self;
  }));
}

Status RaftLog::Impl::transfer(NodeId to) {
  if (role != RaftRole::leader) return Error{Errc::not_leader, "hand over leadership: this node does not lead"};
  const LogMember* member = configuration().find(to);
  if (to == config.self || member == nullptr || !member->voter) {
    return Error{Errc::invalid, fmt::format("hand over leadership: {} is no other voter", to_string(to))};
  }
  transfer_to = to;
  transfer_told = false;
  transfer_deadline = now + config.election_timeout_max;
  return {};
}

void RaftLog::Impl::end_transfer() {
  transfer_to = NodeId{};
  transfer_deadline = kNever;
  transfer_told = false;
}

void RaftLog::Impl::on_timeout_now(const RaftMessage& message) {
  if (message.epoch != hard.epoch || message.from != leader || role != RaftRole::follower || !may_campaign()) return;
  campaign(true);
}

}  // namespace idunno

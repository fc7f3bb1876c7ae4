/// The follower's side of replication: what is taken, and what may be said about it (Raft dissertation 3.5, 3.6).

#include <algorithm>

#include "nodes/raft/raft_impl.h"

namespace idunno {

/// A message of the leader of this epoch: there is at most one (Election Safety), so whoever sends it leads.
void RaftLog::Impl::follow(NodeId who) {
  if (role != RaftRole::follower || leader != who) become_follower(who);
  leader_contact = now;
  election_deadline = now + random_timeout();
}

bool RaftLog::Impl::is_well_formed(const RaftMessage& message, const AppendRequest& request) const {
  if (request.entries.size() > kAppendEntriesMax || request.successors.size() > kLogNodesMax) return false;
  if (request.prev_index.value > std::numeric_limits<std::uint64_t>::max() / 2) return false;
  if ((request.prev_index.value == 0) != (request.prev_epoch.value == 0)) return false;
  Epoch newest = request.prev_epoch;
  for (const RaftEntry& entry : request.entries) {
    if (entry.epoch < newest || !kind_of_entry(entry.command)) return false;
    newest = entry.epoch;
  }
  return newest <= message.epoch;
}

void RaftLog::Impl::on_append(const RaftMessage& message, const AppendRequest& request) {
  if (role == RaftRole::leader && message.epoch == hard.epoch) {
    ++messages_refused;  // nobody else leads in this epoch
    return;
  }
  if (message.epoch < hard.epoch) {  // a deposed leader learns the newer epoch from the answer
    refuse_append(message, request);
    return;
  }
  if (!is_well_formed(message, request)) {
    ++messages_refused;
    return;
  }
  follow(message.from);
  if (!request.successors.empty()) successors = request.successors;
  if (install_drops_tail) return;  // not on disk yet: the leader asks again
  const LogIndex prev = request.prev_index;
  const bool is_gone = prev < log.base();  // committed, so the leader has the same
  if (!is_gone && (prev > log.last() || log.epoch_at(prev) != request.prev_epoch)) {
    refuse_append(message, request);
    return;
  }
  if (!accept_entries(request)) {
    ++messages_refused;  // contradicts what is committed here: that leader's log is not this log
    return;
  }
  // Only what this message has shown to match may be acknowledged or committed, never the whole log: a tail beyond it may be
  // another leader's (prototypes/raft, cases 1 and 2).
  const LogIndex matched{prev.value + request.entries.size()};
  learn_commit(std::min(request.commit, matched));
  RaftMessage answer;
  answer.append_reply = AppendReply{request.sequence, true, matched, {}, {}};
  send(message.from, message.from_log, std::move(answer));
}

/// Takes what is new; an entry that contradicts one here removes it and all behind it. False, and nothing changed, when that one
/// is committed.
bool RaftLog::Impl::accept_entries(const AppendRequest& request) {
  std::size_t i = 0;
  LogIndex index{request.prev_index.value + 1};
  while (i < request.entries.size() && index <= log.last() &&
         (index <= log.base() || log.epoch_at(index) == request.entries[i].epoch)) {
    ++i;
    ++index.value;
  }
  if (i == request.entries.size()) return true;
  if (index <= commit) return false;
  log.truncate_from(index);
  for (; i < request.entries.size(); ++i) log.append(request.entries[i].epoch, request.entries[i].command);
  return true;
}

void RaftLog::Impl::refuse_append(const RaftMessage& message, const AppendRequest& request) {
  const LogIndex hint = log.agreement_before(request.prev_index, request.prev_epoch);
  RaftMessage answer;
  answer.append_reply = AppendReply{request.sequence, false, request.prev_index, hint, log.epoch_at(hint)};
  send(message.from, message.from_log, std::move(answer));
}

void RaftLog::Impl::learn_commit(LogIndex index) { commit = std::max(commit, index); }

}  // namespace idunno

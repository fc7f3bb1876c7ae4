/// The leader's side of replication: what is sent to whom, and what is committed (Raft dissertation 3.5, 3.6, 10.2).

#include <algorithm>
#include <tuple>
#include <utility>

#include "nodes/raft/quorum.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {

/// Who answered, when the answer counts: in this epoch, from the very log that the configuration names.
Progress* RaftLog::Impl::peer_of(const RaftMessage& message) {
  if (role != RaftRole::leader || message.epoch != hard.epoch) return nullptr;
  const auto at = peers.find(message.from);
  return at == peers.end() || at->second.log_id != message.from_log ? nullptr : &at->second;
}

void RaftLog::Impl::heard_from(Progress& peer, std::uint64_t answered) {
  peer.heard = now;
  peer.acked_sequence = std::max(peer.acked_sequence, std::min(answered, sequence));
}

void RaftLog::Impl::on_append_reply(const RaftMessage& message, const AppendReply& reply) {
  Progress* peer = peer_of(message);
  if (peer == nullptr || reply.index > log.last()) return;
  heard_from(*peer, reply.sequence);
  if (reply.accepted) {
    on_accepted(*peer, reply.index);
  } else {
    on_refused(*peer, reply);
  }
}

void RaftLog::Impl::on_accepted(Progress& peer, LogIndex index) {
  peer.match = std::max(peer.match, index);
  peer.next = std::max(peer.next, LogIndex{peer.match.value + 1});
  while (!peer.in_flight.empty() && peer.in_flight.front() <= peer.match) peer.in_flight.pop_front();
  if (peer.state == Progress::State::probe && index.value + 1 == peer.next.value) {
    peer.state = Progress::State::replicate;
    peer.waiting = false;
  }
}

/// Goes back to where the logs may agree (5.3). One refusal of one series of messages counts, else reordered messages would start
/// the same series again and again.
void RaftLog::Impl::on_refused(Progress& peer, const AppendReply& reply) {
  if (reply.sequence < peer.reset_sequence || reply.index <= peer.match || peer.state == Progress::State::snapshot) return;
  const LogIndex agreed = log.agreement_before(std::min(reply.hint_index, reply.index), reply.hint_epoch);
  const LogIndex before{reply.index.value - 1};
  peer.next = LogIndex{std::max(peer.match, std::min(agreed, before)).value + 1};
  peer.state = Progress::State::probe;
  peer.waiting = false;
  peer.in_flight.clear();
  peer.reset_sequence = sequence + 1;
}

/// The newest entry that a majority has on disk (this node counts with what it has flushed, not with what it has in memory), and
/// only when it is of this epoch: earlier ones are committed by what follows them (3.6.2, figure 8 of the paper).
void RaftLog::Impl::advance_commit() {
  std::vector<LogIndex> on_disk;
  for (const LogMember& member : configuration().members) {
    if (!member.voter) continue;
    on_disk.push_back(member.node == config.self ? log.durable() : peers.at(member.node).match);
  }
  const LogIndex reached = majority_value(std::move(on_disk));
  if (reached <= commit || log.epoch_at(reached) != hard.epoch) return;
  for (std::uint64_t i = commit.value + 1; i <= reached.value; ++i) uncommitted_bytes -= log.at(LogIndex{i}).command.size();
  commit = reached;
}

bool RaftLog::Impl::is_active(NodeId node, const Progress& peer) const {
  return node == config.self || now - peer.heard <= config.election_timeout_max;
}

/// Check-quorum (6.2).
bool RaftLog::Impl::hears_majority() const { return has_active_majority(configuration()); }

void RaftLog::Impl::send_appends() {
  const bool beat = std::exchange(beat_due, false);
  if (beat) order_successors();
  for (auto& [node, peer] : peers) {
    send_to(node, peer, beat);
    if (beat_timed) peer.match_at_beat = peer.match;
    if (node == transfer_to && (beat || !transfer_told) && peer.match == log.last()) {
      transfer_told = true;
      RaftMessage message;
      message.timeout_now = TimeoutNow{};
      send(node, peer.log_id, std::move(message));
    }
  }
  if (beat_timed) commit_at_beat = commit;
  beat_timed = false;
}

void RaftLog::Impl::send_to(NodeId node, Progress& peer, bool beat) {
  if (peer.state != Progress::State::snapshot && LogIndex{peer.next.value - 1} < log.base()) {
    peer.state = Progress::State::snapshot;
    peer.in_flight.clear();
    peer.snapshot_index = LogIndex{};
    peer.chunk_sequence = 0;
    ++snapshots_sent;
  }
  if (beat) send_heartbeat(node, peer);
  if (peer.state == Progress::State::snapshot) {
    if (peer.chunk_sequence == 0 || peer.acked_sequence > peer.chunk_sequence) send_chunk(node, peer);
    return;
  }
  if (peer.state == Progress::State::probe) {
    if (!peer.waiting && peer.next <= log.last()) send_entries(node, peer);
    return;
  }
  while (peer.next <= log.last() && peer.in_flight.size() < kAppendsInFlightMax) send_entries(node, peer);
}

void RaftLog::Impl::send_entries(NodeId node, Progress& peer) {
  const LogIndex prev{peer.next.value - 1};
  AppendRequest request;
  request.sequence = ++sequence;
  request.prev_index = prev;
  request.prev_epoch = log.epoch_at(prev);
  request.commit = commit;
  std::size_t bytes = 0;
  LogIndex next = peer.next;
  while (next <= log.last() && request.entries.size() < kAppendEntriesMax) {
    const LogEntry& entry = log.at(next);
    bytes += entry.command.size() + 16;
    if (!request.entries.empty() && bytes > kAppendBytesMax) break;
    request.entries.push_back(RaftEntry{entry.epoch, entry.command});
    ++next.value;
  }
  if (peer.state == Progress::State::replicate) {
    peer.next = next;  // optimistic: a lost message shows at the next heartbeat
    peer.in_flight.push_back(LogIndex{next.value - 1});
  } else {
    peer.waiting = true;
  }
  RaftMessage message;
  message.append = std::move(request);
  send(node, peer.log_id, std::move(message));
}

/// Empty, so that a silent peer costs nothing. It asks about what is certain; when nothing has been acknowledged since the last
/// one, about everything that was sent: the refusal tells what was lost, and that alone is sent again.
void RaftLog::Impl::send_heartbeat(NodeId node, Progress& peer) {
  LogIndex prev{peer.next.value - 1};
  const bool in_doubt = beat_timed && peer.match == peer.match_at_beat;
  if (peer.state == Progress::State::replicate && !peer.in_flight.empty() && !in_doubt) prev = peer.match;
  if (peer.state == Progress::State::snapshot || prev < log.base()) prev = LogIndex{};
  AppendRequest request;
  request.sequence = ++sequence;
  request.prev_index = prev;
  request.prev_epoch = prev.value == 0 ? Epoch{} : log.epoch_at(prev);
  request.commit = commit;
  request.successors = successors;
  RaftMessage message;
  message.append = std::move(request);
  send(node, peer.log_id, std::move(message));
}

/// Those that answer first, then by how much of what is committed they have, then by id.
void RaftLog::Impl::order_successors() {
  using Key = std::tuple<bool, std::uint64_t, NodeId>;
  std::vector<Key> order;
  for (const LogMember& member : configuration().members) {
    if (!member.voter || member.node == config.self) continue;
    const Progress& peer = peers.at(member.node);
    const std::uint64_t missing = commit.value - std::min(peer.match, commit).value;
    order.emplace_back(!is_active(member.node, peer), missing, member.node);
  }
  std::sort(order.begin(), order.end());
  successors.clear();
  for (const Key& key : order) successors.push_back(std::get<NodeId>(key));
}

}  // namespace idunno

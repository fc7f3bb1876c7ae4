/// What must hold between any two calls, after LogCabin's RaftConsensusInvariants.

#include <algorithm>

#include "bus/base/assert.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {

void RaftLog::Impl::check_invariants() const {
  ASSERT(log.base() <= log.snapshot_index() || log.base().value == 0);
  ASSERT(log.snapshot_index() <= commit);
  ASSERT(commit <= log.last());
  ASSERT(install_drops_tail || applied <= commit);
  ASSERT(install_drops_tail || applied >= log.snapshot_index());
  ASSERT(log.durable() <= log.last());
  ASSERT(log.last_epoch() <= hard.epoch);
  Epoch newest = log.epoch_at(log.base());
  for (std::uint64_t i = log.base().value + 1; i <= log.last().value; ++i) {
    const LogEntry& entry = log.at(LogIndex{i});
    ASSERT(entry.index.value == i);
    ASSERT(entry.epoch >= newest);
    newest = entry.epoch;
  }
  ASSERT(log.configuration_index() <= log.last());
  ASSERT(grants.empty() || role == RaftRole::pre_candidate || role == RaftRole::candidate);
  ASSERT(role != RaftRole::candidate || hard.voted_for == config.self);
  if (role == RaftRole::leader) {
    check_leader();
  } else {
    ASSERT(peers.empty());
    ASSERT(barriers.empty());
    ASSERT(!transfer_to);
    ASSERT(leader != config.self);
  }
}

void RaftLog::Impl::check_leader() const {
  ASSERT(leader == config.self);
  ASSERT(hard.voted_for == config.self);
  ASSERT(configuration().is_voter(config.self, log_id));
  ASSERT(begin_index > LogIndex{});
  ASSERT(begin_index <= log.last());
  ASSERT(log.last_epoch() == hard.epoch);
  std::size_t waiting_bytes = 0;
  std::size_t changes = 0;
  for (std::uint64_t i = commit.value + 1; i <= log.last().value; ++i) {
    const Bytes& command = log.at(LogIndex{i}).command;
    waiting_bytes += command.size();
    if (command.back() == static_cast<char>(EntryKind::configuration)) ++changes;
  }
  ASSERT(uncommitted_bytes == waiting_bytes);
  ASSERT(changes <= 1 || commit < begin_index);  // one change of the configuration at a time
  for (const LogMember& member : configuration().members) ASSERT(member.node == config.self || peers.contains(member.node));
  for (const auto& [node, peer] : peers) {
    const LogMember* member = configuration().find(node);
    ASSERT(member != nullptr);
    ASSERT(member->log_id == peer.log_id);
    ASSERT(peer.match < peer.next);
    ASSERT(peer.next.value <= log.last().value + 1);
    ASSERT(peer.in_flight.size() <= kAppendsInFlightMax);
    ASSERT(std::is_sorted(peer.in_flight.begin(), peer.in_flight.end()));
    ASSERT(peer.acked_sequence <= sequence);
  }
}

}  // namespace idunno

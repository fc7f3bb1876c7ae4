/// Linearizable reads without a log entry (Raft dissertation 6.4): remember what is committed, let a majority confirm by
/// answering a message sent later that this node still leads, and wait until that much is handed out.

#include <limits>

#include "nodes/raft/quorum.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {

void RaftLog::Impl::read_barrier(std::uint64_t ticket) {
  if (!failure.ok() || role != RaftRole::leader || barriers.size() >= kReadBarriersMax) {
    reads.push_back(ReadBarrier{ticket, false});
    return;
  }
  // Before the first entry of this epoch is committed the commit index may lag behind what an earlier leader has committed.
  barriers.push_back(Barrier{ticket, sequence, std::max(commit, begin_index)});
  beat_due = true;  // one round for all reads of this turn
}

void RaftLog::Impl::confirm_reads() {
  if (role != RaftRole::leader || barriers.empty()) return;
  std::vector<std::uint64_t> answered;
  for (const LogMember& member : configuration().members) {
    if (!member.voter) continue;
    const bool is_self = member.node == config.self;
    answered.push_back(is_self ? std::numeric_limits<std::uint64_t>::max() : peers.at(member.node).acked_sequence);
  }
  const std::uint64_t confirmed = majority_value(std::move(answered));
  while (!barriers.empty() && confirmed > barriers.front().sequence && applied >= barriers.front().index) {
    reads.push_back(ReadBarrier{barriers.front().ticket, true});
    barriers.pop_front();
  }
}

void RaftLog::Impl::fail_reads() {
  for (const Barrier& barrier : barriers) reads.push_back(ReadBarrier{barrier.ticket, false});
  barriers.clear();
}

}  // namespace idunno

/// A follower that needs entries which are gone gets the snapshot in chunks (Raft dissertation 5.1), one under way at a time. The
/// follower says which byte it wants next, so a lost chunk, a restart of the leader or another leader with the same snapshot
/// costs no more than that.

#include <algorithm>

#include "bus/hash.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {

void RaftLog::Impl::send_chunk(NodeId node, Progress& peer) {
  const Snapshot& snapshot = *log.snapshot();
  if (peer.snapshot_index != snapshot.index || peer.snapshot_offset > snapshot.state.size()) {
    peer.snapshot_index = snapshot.index;  // a newer snapshot: from its beginning
    peer.snapshot_offset = 0;
  }
  SnapshotChunk chunk;
  chunk.sequence = ++sequence;
  chunk.index = snapshot.index;
  chunk.entry_epoch = snapshot.epoch;
  chunk.size = snapshot.state.size();
  chunk.hash = log.snapshot_hash();
  chunk.offset = peer.snapshot_offset;
  chunk.bytes = snapshot.state.substr(peer.snapshot_offset, kSnapshotChunkBytes);
  peer.chunk_sequence = chunk.sequence;
  RaftMessage message;
  message.chunk = std::move(chunk);
  send(node, peer.log_id, std::move(message));
}

void RaftLog::Impl::on_snapshot_reply(const RaftMessage& message, const SnapshotReply& reply) {
  Progress* peer = peer_of(message);
  if (peer == nullptr || reply.index > commit) return;
  heard_from(*peer, reply.sequence);
  if (reply.installed) {
    on_accepted(*peer, reply.index);
    if (peer->state == Progress::State::snapshot && peer->match >= log.base()) {
      peer->state = Progress::State::replicate;
      peer->next = LogIndex{peer->match.value + 1};
    }
    peer->chunk_sequence = 0;
    return;
  }
  if (peer->state != Progress::State::snapshot || reply.sequence != peer->chunk_sequence) return;
  const bool is_current = reply.index == log.snapshot_index() && reply.hash == log.snapshot_hash();
  peer->snapshot_index = is_current ? reply.index : LogIndex{};
  peer->snapshot_offset = is_current ? reply.offset : 0;
  peer->chunk_sequence = 0;
}

void RaftLog::Impl::on_chunk(const RaftMessage& message, const SnapshotChunk& chunk) {
  if ((role == RaftRole::leader && message.epoch == hard.epoch) || chunk.size > kSnapshotBytesMax || chunk.index.value == 0 ||
      chunk.bytes.size() > kSnapshotChunkBytes || chunk.offset > chunk.size || chunk.bytes.size() > chunk.size - chunk.offset ||
      chunk.entry_epoch > message.epoch) {
    ++messages_refused;
    return;
  }
  SnapshotReply reply{chunk.sequence, chunk.index, chunk.hash, 0, false};
  if (message.epoch == hard.epoch) {
    follow(message.from);
    if (install_drops_tail) return;  // the one before is not on disk yet
    if (chunk.index <= commit) {
      incoming.reset();
      reply.installed = true;  // what is committed here is the leader's, too
    } else {
      if (!incoming || incoming->index != chunk.index || incoming->hash != chunk.hash || incoming->size != chunk.size ||
          incoming->entry_epoch != chunk.entry_epoch) {
        incoming = Incoming{chunk.index, chunk.entry_epoch, chunk.size, chunk.hash, {}};
      }
      if (chunk.offset == incoming->bytes.size()) incoming->bytes += chunk.bytes;
      if (incoming->bytes.size() == incoming->size) {
        if (log.dirty()) return;  // first what is there goes to disk; the leader sends the last chunk again
        reply.installed = install_incoming();
      }
      reply.offset = incoming ? incoming->bytes.size() : 0;
    }
  }
  RaftMessage answer;
  answer.snapshot_reply = reply;
  send(message.from, message.from_log, std::move(answer));
}

/// Whatever comes of it, nothing is incoming any more. False when the bytes are not what the leader promised.
bool RaftLog::Impl::install_incoming() {
  Incoming whole = *std::exchange(incoming, {});
  auto unwrapped = unwrap_state(whole.bytes);
  if (hash128(whole.bytes) != whole.hash || !unwrapped) {
    ++messages_refused;
    return false;
  }
  Snapshot snapshot{whole.index, whole.entry_epoch, std::move(whole.bytes)};
  install_drops_tail = log.install(std::move(snapshot), std::move(unwrapped->configuration));
  commit = std::max(commit, whole.index);
  ++snapshots_installed;
  return true;
}

}  // namespace idunno

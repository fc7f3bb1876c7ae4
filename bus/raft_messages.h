#pragma once
/// Messages of the job log (nodes/raft) between the nodes that keep it, one RaftMessage each, carried by bus/log_link.h. They may
/// be lost, doubled and reordered. Every message names the lives of both logs: one that is meant for an earlier life of the
/// receiver's log is ignored, so a wiped node can neither vote twice nor be counted for what it held before.

#include <cstdint>
#include <optional>
#include <tuple>
#include <vector>

#include "bus/codec.h"

namespace idunno {

inline constexpr std::size_t kAppendBytesMax = 256U << 10U;  ///< of the entries of one message; a single larger entry goes alone
inline constexpr std::size_t kAppendEntriesMax = 4096;       ///< in one message
inline constexpr std::size_t kAppendsInFlightMax = 16;       ///< to one follower
inline constexpr std::size_t kSnapshotChunkBytes = 256U << 10U;
inline constexpr std::uint64_t kSnapshotBytesMax = 4ULL << 30U;
inline constexpr std::size_t kRaftMessageBytesMax =
    codec::kCommandBytesMax + (64U << 10U);  ///< encoded, the largest command in it

struct RaftEntry {
  Epoch epoch;
  Bytes command;  ///< with the mark of its kind (nodes/raft/log_view.h)
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.epoch, s.command);
  }
  bool operator==(const RaftEntry&) const = default;
};

/// Entries, or none: a heartbeat.
struct AppendRequest {
  std::uint64_t sequence = 0;  ///< of the leader's messages, ascending; repeated in the answer
  LogIndex prev_index;         ///< the entry before the first of `entries`
  Epoch prev_epoch;
  LogIndex commit;
  std::vector<RaftEntry> entries;
  std::vector<NodeId> successors;  ///< in heartbeats: the voters in the order in which they shall lead next
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.prev_index, s.prev_epoch, s.commit, s.entries, s.successors);
  }
  bool operator==(const AppendRequest&) const = default;
};
struct AppendReply {
  std::uint64_t sequence = 0;
  bool accepted = false;
  LogIndex index;  ///< accepted: the last entry that is known to match (prev + n). Refused: the prev_index that was asked for
  LogIndex hint_index;  ///< refused: the logs may agree up to here ...
  Epoch hint_epoch;     ///< ... where the follower has this epoch
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.accepted, s.index, s.hint_index, s.hint_epoch);
  }
  bool operator==(const AppendReply&) const = default;
};

struct VoteRequest {
  bool pre = false;  ///< only asks whether it would be granted
  Epoch asked;       ///< the epoch to be led; the sender's own when `pre` is not set
  LogIndex last_index;
  Epoch last_epoch;
  bool transfer = false;  ///< the leader itself wants it
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.pre, s.asked, s.last_index, s.last_epoch, s.transfer);
  }
  bool operator==(const VoteRequest&) const = default;
};
struct VoteReply {
  bool pre = false;
  Epoch asked;
  bool granted = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.pre, s.asked, s.granted);
  }
  bool operator==(const VoteReply&) const = default;
};

/// A part of the leader's snapshot; `hash` is that of the whole.
struct SnapshotChunk {
  std::uint64_t sequence = 0;
  LogIndex index;
  Epoch entry_epoch;  ///< of the entry `index`
  std::uint64_t size = 0;
  Hash128 hash;
  std::uint64_t offset = 0;
  Bytes bytes;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.index, s.entry_epoch, s.size, s.hash, s.offset, s.bytes);
  }
  bool operator==(const SnapshotChunk&) const = default;
};
struct SnapshotReply {
  std::uint64_t sequence = 0;
  LogIndex index;
  Hash128 hash;
  std::uint64_t offset = 0;  ///< the next byte that is wanted
  bool installed = false;    ///< all of it is on disk, or the log has passed it
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.index, s.hash, s.offset, s.installed);
  }
  bool operator==(const SnapshotReply&) const = default;
};

/// Leadership transfer: start an election now.
struct TimeoutNow {
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const TimeoutNow&) const = default;
};

/// Who I am: sent by nodes that hear no leader, and as the answer to such a message.
struct Announce {
  bool has_log = false;  ///< it knows a configuration
  bool reply = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.has_log, s.reply);
  }
  bool operator==(const Announce&) const = default;
};

/// Exactly one body is there.
struct RaftMessage {
  NodeId from;
  std::uint64_t from_log = 0;
  std::uint64_t to_log = 0;  ///< the life of the receiver's log that is meant; 0 only in Announce
  Epoch epoch;               ///< of the sender
  std::optional<AppendRequest> append;
  std::optional<AppendReply> append_reply;
  std::optional<VoteRequest> vote;
  std::optional<VoteReply> vote_reply;
  std::optional<SnapshotChunk> chunk;
  std::optional<SnapshotReply> snapshot_reply;
  std::optional<TimeoutNow> timeout_now;
  std::optional<Announce> announce;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.from, s.from_log, s.to_log, s.epoch, s.append, s.append_reply, s.vote, s.vote_reply, s.chunk,
                    s.snapshot_reply, s.timeout_now, s.announce);
  }
  bool operator==(const RaftMessage&) const = default;

  [[nodiscard]] int bodies() const {
    return int{append.has_value()} + int{append_reply.has_value()} + int{vote.has_value()} + int{vote_reply.has_value()} +
           int{chunk.has_value()} + int{snapshot_reply.has_value()} + int{timeout_now.has_value()} + int{announce.has_value()};
  }
};

}  // namespace idunno

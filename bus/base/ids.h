#pragma once
/// Names of things that live for ever: an id is never used again (requirement R12). Each kind is its own type, so a job can
/// not be passed where a node is wanted. Printed forms: node `n3`, job `j12`, batch `j12/b47`.

#include <compare>
#include <cstdint>
#include <string>

namespace idunno {

template <class Tag, class Rep>
struct StrongId {
  using rep = Rep;
  Rep value{};
  auto operator<=>(const StrongId&) const = default;
  explicit operator bool() const { return value != 0; }  ///< 0 means "none"
};

using NodeId = StrongId<struct NodeTag, std::uint32_t>;              ///< a machine; from the cluster's configuration, from 1
using JobId = StrongId<struct JobTag, std::uint64_t>;                ///< given by the state machine, from 1, never again
using BatchIndex = std::uint32_t;                                    ///< batch b of a job is queries [b*B, (b+1)*B)
using Epoch = StrongId<struct EpochTag, std::uint64_t>;              ///< one reign of a coordinator (the Raft term)
using LogIndex = StrongId<struct LogTag, std::uint64_t>;             ///< position in the replicated log, from 1
using Incarnation = StrongId<struct IncarnationTag, std::uint64_t>;  ///< one life of a node process; grows at each start

/// A block of SDFS. Made by whoever writes the block: `hi` is a random writer id, drawn once per process, `lo` counts.
/// No two writes share an id, so a retried batch can never overwrite a committed block.
struct BlockId {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;
  auto operator<=>(const BlockId&) const = default;
};

/// Made by the client and kept over retries, so the cluster does a request once (design.md 4).
struct RequestId {
  std::uint64_t client = 0;
  std::uint64_t sequence = 0;
  auto operator<=>(const RequestId&) const = default;
  explicit operator bool() const { return client != 0; }
};

/// xxh3-128 of some bytes.
struct Hash128 {
  std::uint64_t hi = 0;
  std::uint64_t lo = 0;
  auto operator<=>(const Hash128&) const = default;
};

inline std::string to_string(NodeId id) { return "n" + std::to_string(id.value); }
inline std::string to_string(JobId id) { return "j" + std::to_string(id.value); }
inline std::string to_string(Epoch epoch) { return std::to_string(epoch.value); }
inline std::string batch_name(JobId job, BatchIndex batch) { return to_string(job) + "/b" + std::to_string(batch); }

/// 32 hexadecimal digits, high half first.
inline std::string to_hex(std::uint64_t hi, std::uint64_t lo) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text(32, '0');
  for (unsigned i = 0; i < 16; ++i) {
    text[15 - i] = kDigits[(hi >> (4 * i)) & 15U];
    text[31 - i] = kDigits[(lo >> (4 * i)) & 15U];
  }
  return text;
}
inline std::string to_string(const Hash128& hash) { return to_hex(hash.hi, hash.lo); }
inline std::string to_string(const BlockId& id) { return to_hex(id.hi, id.lo); }

}  // namespace idunno

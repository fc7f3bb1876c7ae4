#pragma once
/// Keeps the ends of the logs of other machines, so that the last lines of one that died can be read: for each machine a bounded
/// number of bytes in a folder of its own, in files named by the position of their first byte. Bytes that were missed (this node
/// was away, or the other one wrote too fast) are a gap: the next file begins behind it. Any thread.

#include <cstdint>
#include <filesystem>
#include <map>
#include <mutex>

#include "bus/base/result.h"
#include "bus/log_messages.h"
#include "nodes/runtime/log_files.h"

namespace idunno {

class LogKeeper {
 public:
  /// `bytes_max`: of one machine; the oldest quarter goes when it is full.
  LogKeeper(std::filesystem::path folder, std::uint64_t bytes_max);

  /// Appends, and says from where it wants to go on. What it has already is passed over. An empty text only asks.
  [[nodiscard]] Result<LogPosition> take(const LogTail& tail);
  /// What it has of that machine's log; nothing for one it never heard of.
  [[nodiscard]] LogPieces pieces(NodeId node) const;

 private:
  struct Tail {
    LogPieces pieces;
    LogPosition end;
    std::uint64_t last_bytes = 0;  ///< in the last piece
  };
  [[nodiscard]] std::filesystem::path folder_of(NodeId node) const;
  Tail& open_tail(NodeId node);
  void make_room(Tail& tail) const;

  std::filesystem::path folder_;
  std::uint64_t bytes_max_;
  mutable std::mutex mutex_;
  std::map<NodeId, Tail> tails_;  ///< of those that were heard in this life
};

}  // namespace idunno

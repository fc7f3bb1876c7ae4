#pragma once
/// Who keeps the end of this node's log, and what is sent to whom next: the next kLogKeepers nodes in the ring of the configured
/// ones that are not known to be dead. Decides only: log_shell.h reads, sends and tells the answers. One thread.
///
/// A keeper is first asked from where it goes on (an empty LogTail); then pieces follow, one under way at a time, when
/// kTailWorthSending bytes wait or kTailInterval has passed. A keeper that does not answer is asked again after kTailRetry. A
/// node that writes faster than kTailSendsPerTick pieces a tick allow skips: the newest lines matter most.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/time.h"
#include "bus/log_messages.h"

namespace idunno {

inline constexpr std::size_t kLogKeepers = 2;
inline constexpr std::uint64_t kTailPieceBytes = 60U << 10U;  ///< of one LogTail: a string in a message has 64 KiB at most
inline constexpr std::uint64_t kTailWorthSending = 48U << 10U;
inline constexpr std::uint64_t kTailBacklogBytesMax = 1U << 20U;  ///< what lies further back is not sent any more
inline constexpr Duration kTailTick = std::chrono::milliseconds(250);
inline constexpr Duration kTailInterval = std::chrono::seconds(1);
inline constexpr Duration kTailRetry = std::chrono::seconds(2);
inline constexpr std::uint32_t kTailSendsPerTick = 5;

class LogTails {
 public:
  /// `members`: all configured nodes, self among them, by id.
  LogTails(NodeId self, std::vector<NodeId> members);

  /// A node that comes back is asked anew: its folder may have been wiped.
  void member(NodeId node, bool may_live);
  [[nodiscard]] std::vector<NodeId> keepers() const;

  struct Send {
    NodeId to;
    std::optional<LogPosition> from;  ///< none: ask the keeper
  };
  /// What is to be sent now; each is answered by `sent` or `failed`. `tick`: a new tick begins, every kTailTick.
  [[nodiscard]] std::vector<Send> due(LogPosition end, Time now, bool tick);
  /// The keeper goes on from there.
  void sent(NodeId to, LogPosition wanted, Time now);
  void failed(NodeId to, Time now);
  /// There was nothing to send after all.
  void nothing(NodeId to, Time now);

 private:
  struct Keeper {
    std::optional<LogPosition> next;
    bool under_way = false;
    std::uint32_t sends_left = 0;  ///< in this tick
    Time not_before{};
    Time last{};  ///< sent
  };
  [[nodiscard]] static bool worth_sending(const Keeper& keeper, LogPosition end, Time now);

  NodeId self_;
  std::vector<NodeId> members_;
  std::set<NodeId> dead_;
  std::map<NodeId, Keeper> keepers_;
};

}  // namespace idunno

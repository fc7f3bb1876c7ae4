#pragma once
/// Messages of the membership (nodes/swim): probes on the ping service between nodes, and two read requests on the rpc service.
/// A probe and its acknowledgement carry one SwimMessage each; the core sees SwimMessages only.

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/codec.h"
#include "bus/messages.h"

namespace idunno {

inline constexpr std::size_t kClaimsPerTableMax = 1024;  ///< in a sync or table message
inline constexpr std::size_t kClaimsPerMessageMax = 64;  ///< in any other
inline constexpr std::size_t kAccusersPerClaimMax = 4;   ///< the first and those that confirm
inline constexpr std::size_t kMemberHistoryMax = 1024;   ///< changes that a node remembers

/// One node's belief about one member. `incarnation` is the start time of the member's process; `refutations` counts how often
/// that life has contradicted a suspicion. Claims are ordered by both, and then by state.
struct MemberClaim {
  NodeId node;
  NodeState state = NodeState::alive;  ///< never unknown
  Incarnation incarnation;
  std::uint32_t refutations = 0;
  std::vector<NodeId> accusers;  ///< of a suspicion: who found the member silent; at most kAccusersPerClaimMax
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.state, s.incarnation, s.refutations, s.accusers);
  }
  bool operator==(const MemberClaim&) const = default;
};

enum class SwimKind : std::uint8_t {
  ping = 0,          ///< answered with ack; with a sequence nobody waits for it only carries claims
  ping_request = 1,  ///< ping `target` for me: answered with ack (it answered) or nack (it has not so far)
  sync = 2,          ///< all that the sender knows; answered with table
  ack = 3,
  nack = 4,
  table = 5,  ///< all that the answering node knows
};
template <>
struct EnumRange<SwimKind> : ContiguousEnum<SwimKind, SwimKind::table> {};

struct SwimMessage {
  SwimKind kind = SwimKind::ping;
  NodeId from;
  std::uint64_t sequence = 0;     ///< given by who asks, repeated in the answer
  NodeId target;                  ///< of a ping_request; else 0
  Incarnation incarnation;        ///< of the sender
  std::uint32_t refutations = 0;  ///< of the sender
  bool leaving = false;           ///< the sender says good-bye
  std::vector<MemberClaim> claims;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.kind, s.from, s.sequence, s.target, s.incarnation, s.refutations, s.leaving, s.claims);
  }
  bool operator==(const SwimMessage&) const = default;
};

// ---- ping service ---------------------------------------------------------------------------------------------------

struct SwimAck {
  static constexpr auto kType = MessageType::swim_ack;
  SwimMessage message;  ///< ack, nack or table
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.message);
  }
  bool operator==(const SwimAck&) const = default;
};
struct SwimProbe {
  static constexpr auto kType = MessageType::swim_probe;
  static constexpr Role kRole = Role::node;
  using Reply = SwimAck;
  SwimMessage message;  ///< ping, ping_request or sync
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.message);
  }
  bool operator==(const SwimProbe&) const = default;
};

// ---- rpc service ----------------------------------------------------------------------------------------------------

/// A member as the answering node sees it.
struct MemberEntry {
  NodeId id;
  NodeState state = NodeState::unknown;
  Incarnation incarnation;
  std::uint32_t refutations = 0;
  WallMs since_ms = 0;  ///< when it entered this state, by the answering node's clock
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.state, s.incarnation, s.refutations, s.since_ms);
  }
  bool operator==(const MemberEntry&) const = default;
};
struct MemberListReply {
  static constexpr auto kType = MessageType::member_list_reply;
  NodeId answered_by;
  std::uint32_t awareness = 0;  ///< of the answering node: 0 = it trusts its own clock and network, more = it is slow itself
  std::vector<MemberEntry> members;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.answered_by, s.awareness, s.members);
  }
  bool operator==(const MemberListReply&) const = default;
};
struct MemberListRequest {
  static constexpr auto kType = MessageType::member_list;
  static constexpr Role kRole = Role::read;
  using Reply = MemberListReply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const MemberListRequest&) const = default;
};

/// One change, as the answering node saw it.
struct MemberEvent {
  WallMs at_ms = 0;
  NodeId node;
  NodeState from = NodeState::unknown;
  NodeState to = NodeState::unknown;
  Incarnation incarnation;
  std::string why;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.at_ms, s.node, s.from, s.to, s.incarnation, s.why);
  }
  bool operator==(const MemberEvent&) const = default;
};
struct MemberHistoryReply {
  static constexpr auto kType = MessageType::member_history_reply;
  NodeId answered_by;
  std::vector<MemberEvent> events;  ///< the oldest first; at most kMemberHistoryMax
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.answered_by, s.events);
  }
  bool operator==(const MemberHistoryReply&) const = default;
};
struct MemberHistoryRequest {
  static constexpr auto kType = MessageType::member_history;
  static constexpr Role kRole = Role::read;
  using Reply = MemberHistoryReply;
  std::uint32_t last = 0;  ///< so many of the newest; 0 = all
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.last);
  }
  bool operator==(const MemberHistoryRequest&) const = default;
};

#define IDUNNO_SWIM_MESSAGES(X) \
  X(SwimAck) X(SwimProbe) X(MemberListReply) X(MemberListRequest) X(MemberHistoryReply) X(MemberHistoryRequest)
IDUNNO_SWIM_MESSAGES(IDUNNO_DECLARED_MESSAGE)  // bus/codec_instances.h

}  // namespace idunno

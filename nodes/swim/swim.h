#pragma once
/// Who is in the cluster: SWIM (Das, Gupta, Motivala, DSN 2002) with Lifeguard (Dadgar, Phillips, Currey, 2017), as a pure state
/// machine. Each node probes one member after the other, asks others to probe when there is no answer, suspects, and declares
/// dead when nobody contradicts in time; news travels on the probes. Lifeguard: a node that is slow itself gives others more time
/// (awareness), a suspicion ends sooner the more nodes confirm it, and a suspect is told first.
///
/// Beyond the papers, because the transport has connections: `connection_lost` is a hint that is confirmed by a short probe; and
/// a death that somebody else claims is checked by a short probe when this node has heard from the member lately, so a node that
/// was cut off cannot make the others bury each other. A node that was paused blames nobody for its own pause.
///
/// Not thread-safe; touches no clock and no socket. Same arguments and inputs give the same outputs. The driver calls `tick` no
/// later than `wake_at()`, feeds received messages, and after every call sends and tells what `take_output()` gives. Messages may
/// be lost, doubled and reordered. Every table is bounded by the number of configured members.

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "bus/base/time.h"
#include "bus/swim_messages.h"
#include "nodes/swim/suspicion.h"

namespace idunno {

struct MemberChange {
  NodeId node;
  NodeState from = NodeState::unknown;
  NodeState to = NodeState::unknown;
  Incarnation incarnation;  ///< the life it is about; a restart seen without a death between is told as dead, then alive
  std::string why;          ///< for people
  Time at;
  bool operator==(const MemberChange&) const = default;
};

struct SwimOutput {
  std::vector<std::pair<NodeId, SwimMessage>> messages;
  std::vector<MemberChange> changes;
};

struct MemberInfo {
  NodeId id;
  NodeState state = NodeState::unknown;
  Incarnation incarnation;
  std::uint32_t refutations = 0;
  Time since;
};

class Swim {
 public:
  /// `members`: all configured nodes, `self` among them. `now`: also the time of the first probes.
  Swim(const SwimConfig& config, std::vector<NodeId> members, NodeId self, Incarnation incarnation, Random random, Time now);

  /// A message of a configured member (the shell has checked who sent it); anything else is ignored.
  void receive(NodeId from, const SwimMessage& message, Time now);
  void tick(Time now);
  [[nodiscard]] Time wake_at() const { return wake_at_; }
  /// The connection to a member's process was closed: dead after `hint_probe_timeout` unless it answers somebody.
  void connection_lost(NodeId node, Time now);
  /// A connection to it was made: worth a ping if it is not alive.
  void connection_made(NodeId node, Time now);
  /// This node goes on purpose: tells others at once. It still answers.
  void leave(Time now);
  [[nodiscard]] SwimOutput take_output();

  [[nodiscard]] std::vector<MemberInfo> members() const;                              ///< by id; self is one of them
  [[nodiscard]] NodeState state_of(NodeId node) const;                                ///< unknown when it is not configured
  [[nodiscard]] const std::deque<MemberChange>& history() const { return history_; }  ///< the last kMemberHistoryMax
  [[nodiscard]] std::uint32_t awareness() const { return awareness_; }                ///< Lifeguard's local health: 0 is good
  /// As others know this life: the constructor's, or more when a life with a later stamp was known (a clock set back).
  [[nodiscard]] Incarnation incarnation() const { return me().incarnation; }

 private:
  struct Member {
    NodeId id;
    NodeState state = NodeState::unknown;
    Incarnation incarnation;
    std::uint32_t refutations = 0;
    Time since;
    std::optional<Time> heard;  ///< last message from itself
    std::optional<Time> told;   ///< when it was last pinged only to tell it that it is suspected or dead
  };
  struct Suspicion {
    std::set<NodeId> accusers;
    Time since;
    Time ends;             ///< kept, because a crowd of suspicions is looked at after every message
    bool checked = false;  ///< by a probe of our own
    bool put_off = false;  ///< its end, because this node was late
  };
  /// A question of ours that waits for its answer.
  struct Probe {
    NodeId target;
    bool hint = false;
    Time indirect_at;      ///< others are asked then; kNever when they have been
    Time deadline;         ///< nobody answered by then: suspected, or dead after a hint
    bool put_off = false;  ///< the deadline, because this node was late
    std::set<NodeId> asked;
    std::set<NodeId> silent;            ///< of those asked: have sent neither ack nor nack
    std::optional<MemberClaim> charge;  ///< the claim that is checked, for the target to refute
  };
  /// A ping that we do for another.
  struct Relay {
    NodeId asker;
    std::uint64_t asked = 0;  ///< the asker's sequence
    NodeId target;
    Time nack_at;  ///< kNever when it was sent
    Time over_at;  ///< an answer after that is no use any more
  };
  /// Something that is still to be told. Sorted by what goes first: told least often, then the newest.
  struct News {
    std::uint32_t told = 0;
    std::uint64_t age = 0;  ///< counts down
    NodeId about;
    auto operator<=>(const News&) const = default;
  };

  [[nodiscard]] const Member* find(NodeId node) const;
  [[nodiscard]] Member* find(NodeId node) { return const_cast<Member*>(std::as_const(*this).find(node)); }
  [[nodiscard]] const Member& me() const { return *find(self_); }
  [[nodiscard]] bool has_left() const { return me().state == NodeState::left; }
  [[nodiscard]] static bool can_be_alive(const Member& member) {
    return member.state == NodeState::alive || member.state == NodeState::suspect;
  }

  // swim.cc: time
  void begin(Time now);
  void end();
  void after_own_delay(Duration late);
  [[nodiscard]] Duration stretched(Duration duration) const { return duration * (awareness_ + 1); }
  void worse() { awareness_ = std::min(awareness_ + 1, config_.awareness_max); }
  void better() { awareness_ -= awareness_ > 0 ? 1 : 0; }
  void probe_timers();
  void relay_timers();
  void suspicion_timers();
  void set_end(Suspicion& suspicion) const;
  [[nodiscard]] Time check_of(const Suspicion& suspicion) const;
  void greet();
  void sync();
  void gossip();

  // swim_probe.cc: questions and answers
  void probe_next();
  void start_probe(NodeId target, bool hint, std::optional<MemberClaim> charge = {});
  void ask_helpers(std::uint64_t sequence, Probe& probe);
  void probe_failed(const Probe& probe);
  void on_ping_request(NodeId from, const SwimMessage& message);
  void on_answer(NodeId from, const SwimMessage& message);
  [[nodiscard]] SwimMessage make(SwimKind kind, std::uint64_t sequence) const;
  void send(NodeId to, SwimKind kind, std::uint64_t sequence, NodeId target = {}, const std::optional<MemberClaim>& charge = {});
  void send_table(NodeId to, SwimKind kind, std::uint64_t sequence);
  void ping_only(NodeId to) { send(to, SwimKind::ping, ++sequence_); }
  void add_claims(SwimMessage& message, NodeId to);
  [[nodiscard]] MemberClaim claim_about(const Member& member) const;
  enum class Among { alive, alive_or_suspect, not_left };
  [[nodiscard]] std::vector<NodeId> pick(std::size_t count, Among among, NodeId but = {});

  // swim_claims.cc: beliefs
  void heard_from(Member& member, const SwimMessage& message);
  void apply(const MemberClaim& claim, NodeId teller, bool from_table);
  void apply_own(const MemberClaim& claim);
  void new_life(Member& member, const MemberClaim& claim, NodeId teller, bool from_table);
  void claimed_alive(Member& member, const MemberClaim& claim, bool from_table);
  void claimed_suspect(Member& member, const MemberClaim& claim, NodeId teller);
  void claimed_dead(Member& member, const MemberClaim& claim, NodeId teller, bool from_table);
  void suspect(Member& member, std::set<NodeId> accusers, const std::string& why);
  void change(Member& member, NodeState to, std::string why);
  void refuted(Member& member, std::uint32_t refutations);
  void spread(NodeId about);

  SwimConfig config_;
  NodeId self_;
  Random random_;
  std::vector<Member> members_;     ///< sorted by id
  std::size_t could_be_alive_ = 1;  ///< alive and suspect, self included
  std::map<NodeId, Suspicion> suspicions_;
  std::map<std::uint64_t, Probe> probes_;  ///< at most two a member
  std::map<std::uint64_t, Relay> relays_;  ///< at most kRelaysMax
  std::set<News> news_;                    ///< at most one about each member
  std::map<NodeId, News> news_about_;      ///< the same by member
  std::deque<MemberChange> history_;
  SwimOutput output_;

  std::vector<NodeId> others_;      ///< all but self, in the order of this round of probes
  std::size_t probe_position_ = 0;  ///< in others_
  std::size_t greet_position_ = 0;  ///< in members_
  std::size_t table_position_ = 0;  ///< in members_
  std::vector<NodeId> pick_order_;  ///< all but self, shuffled a little with every pick
  std::uint64_t sequence_;
  std::uint64_t news_age_ = ~0ULL;
  std::uint32_t awareness_ = 0;
  bool synced_ = false;  ///< has had a table since the start
  Time now_;
  Time last_call_ = kNever;  ///< kNever before the first call: a late start is no delay
  Time next_probe_;
  Time next_gossip_;
  Time next_greeting_;
  Time next_sync_;
  Time wake_at_;
};

}  // namespace idunno

// One core, message by message.

#include "nodes/swim/swim.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace idunno {
namespace {

using namespace std::chrono_literals;

constexpr Incarnation kLife{1000};

class SwimTest : public testing::Test {
 protected:
  static std::vector<NodeId> ids(std::uint32_t count) {
    std::vector<NodeId> all;
    for (std::uint32_t i = 1; i <= count; ++i) all.push_back(NodeId{i});
    return all;
  }
  explicit SwimTest(std::uint32_t count = 5)
      : count_(count), swim_(SwimConfig{}, ids(count), NodeId{1}, kLife, Random(3), now_) {}

  SwimMessage message(std::uint32_t from, SwimKind kind, std::uint64_t sequence = 0) const {
    SwimMessage m;
    m.kind = kind;
    m.from = NodeId{from};
    m.sequence = sequence;
    m.incarnation = kLife;
    return m;
  }
  static MemberClaim claim(std::uint32_t node, NodeState state, std::uint32_t refutations = 0, Incarnation life = kLife,
                           std::vector<NodeId> accusers = {}) {
    return {NodeId{node}, state, life, refutations, std::move(accusers)};
  }
  void receive(const SwimMessage& m) {
    swim_.receive(m.from, m, now_);
    collect();
  }
  void tell(std::uint32_t from, MemberClaim what) {
    SwimMessage m = message(from, SwimKind::ping, 77);
    m.claims = {std::move(what)};
    receive(m);
  }
  void collect() {
    SwimOutput output = swim_.take_output();
    for (auto& sent : output.messages) sent_.push_back(std::move(sent));
    for (auto& change : output.changes) changes_.push_back(std::move(change));
  }
  /// All others have said something: alive.
  void join_all() {
    for (std::uint32_t i = 2; i <= count_; ++i) receive(message(i, SwimKind::ping, 1));
    SwimMessage table = message(2, SwimKind::table);
    receive(table);
    run(3s, {});
    sent_.clear();
    changes_.clear();
  }
  /// Ticks when due; members but `silent` ones answer at once.
  void run(Duration length, const std::set<std::uint32_t>& silent) {
    const Time until = now_ + length;
    while (true) {
      for (std::size_t i = 0; i < sent_.size(); ++i) {
        if (answered_.contains(sent_[i].second.sequence)) continue;
        const auto& [to, m] = sent_[i];
        if (silent.contains(to.value) || m.kind == SwimKind::ack || m.kind == SwimKind::nack || m.kind == SwimKind::table)
          continue;
        answered_.insert(m.sequence);
        const bool nack = m.kind == SwimKind::ping_request && silent.contains(m.target.value);
        receive(message(to.value,
                        nack                       ? SwimKind::nack
                        : m.kind == SwimKind::sync ? SwimKind::table
                                                   : SwimKind::ack,
                        m.sequence));
      }
      if (swim_.wake_at() > until) break;
      now_ = std::max(now_, swim_.wake_at());
      swim_.tick(now_);
      collect();
    }
    now_ = until;
  }
  std::vector<SwimMessage> sent_to(std::uint32_t node, SwimKind kind) const {
    std::vector<SwimMessage> found;
    for (const auto& [to, m] : sent_) {
      if (to.value == node && m.kind == kind) found.push_back(m);
    }
    return found;
  }
  static bool holds(const SwimMessage& m, std::uint32_t node, NodeState state) {
    return std::any_of(m.claims.begin(), m.claims.end(),
                       [&](const MemberClaim& c) { return c.node.value == node && c.state == state; });
  }
  NodeState state(std::uint32_t node) const { return swim_.state_of(NodeId{node}); }
  std::uint32_t refutations(std::uint32_t node) const { return swim_.members()[node - 1].refutations; }

  std::uint32_t count_;
  Time now_{100s};
  Swim swim_;
  std::vector<std::pair<NodeId, SwimMessage>> sent_;
  std::vector<MemberChange> changes_;
  std::set<std::uint64_t> answered_;
};

TEST_F(SwimTest, StartsByGreetingAndAskingForATable) {
  EXPECT_EQ(swim_.wake_at(), now_);
  swim_.tick(now_);
  collect();
  const auto syncs = std::count_if(sent_.begin(), sent_.end(), [](const auto& s) { return s.second.kind == SwimKind::sync; });
  EXPECT_EQ(syncs, 1);
  for (std::uint32_t i = 2; i <= 5; ++i) {
    EXPECT_EQ(sent_to(i, SwimKind::ping).size(), 1U);
    EXPECT_EQ(state(i), NodeState::unknown);
  }
  sent_.clear();
  run(5s, {2, 3, 4, 5});
  EXPECT_TRUE(changes_.empty()) << "who was never there is not called dead";
  const auto again = std::count_if(sent_.begin(), sent_.end(), [](const auto& s) { return s.second.kind == SwimKind::sync; });
  EXPECT_EQ(again, 5) << "a table is asked for until it comes";
}

TEST_F(SwimTest, APingIsAnsweredAndItsSenderHasJoined) {
  receive(message(3, SwimKind::ping, 99));
  const auto acks = sent_to(3, SwimKind::ack);
  ASSERT_EQ(acks.size(), 1U);
  EXPECT_EQ(acks[0].sequence, 99U);
  EXPECT_EQ(acks[0].incarnation, kLife);
  ASSERT_EQ(changes_.size(), 1U);
  EXPECT_EQ(changes_[0].node, NodeId{3});
  EXPECT_EQ(changes_[0].from, NodeState::unknown);
  EXPECT_EQ(changes_[0].to, NodeState::alive);
}

TEST_F(SwimTest, ASyncIsAnsweredWithAllThatIsKnown) {
  for (std::uint32_t i = 2; i <= 4; ++i) receive(message(i, SwimKind::ping));
  receive(message(2, SwimKind::sync, 5));
  const auto tables = sent_to(2, SwimKind::table);
  ASSERT_EQ(tables.size(), 1U);
  EXPECT_EQ(tables[0].sequence, 5U);
  EXPECT_EQ(tables[0].claims.size(), 3U) << "not itself (in the head), not the unknown";
}

TEST_F(SwimTest, WithoutAnAnswerOthersAreAskedAndTheirAnswerIsEnough) {
  join_all();
  // n2 answers nobody directly, but helpers reach it.
  bool asked = false;
  for (int i = 0; i < 100 && !asked; ++i) {
    run(50ms, {2});
    for (const auto& [to, m] : sent_) {
      if (m.kind == SwimKind::ping_request) asked = true;
    }
  }
  ASSERT_TRUE(asked);
  for (const auto& [to, m] : sent_) {
    if (m.kind != SwimKind::ping_request) continue;
    EXPECT_EQ(m.target, NodeId{2});
    EXPECT_NE(to, NodeId{2});
  }
  const auto request =
      std::find_if(sent_.begin(), sent_.end(), [](const auto& s) { return s.second.kind == SwimKind::ping_request; });
  SwimMessage ack = message(request->first.value, SwimKind::ack, request->second.sequence);
  ack.target = NodeId{2};
  receive(ack);
  // The next probe of n2 is a round away.
  run(450ms, {2});
  EXPECT_EQ(state(2), NodeState::alive);
}

TEST_F(SwimTest, AnAckOfSomebodyWhoWasNotAskedSettlesNothing) {
  join_all();
  std::uint64_t sequence = 0;
  while (sequence == 0) {
    run(10ms, {2});
    const auto pings = sent_to(2, SwimKind::ping);
    if (!pings.empty()) sequence = pings[0].sequence;
  }
  receive(message(2, SwimKind::ack, sequence + 1000));
  receive(message(3, SwimKind::ack, sequence));
  run(600ms, {2});
  EXPECT_EQ(state(2), NodeState::suspect);
}

TEST_F(SwimTest, SilenceIsASuspicionThenADeathAndTheSuspectIsToldFirst) {
  join_all();
  const Time silent = now_;
  while (state(2) == NodeState::alive && now_ < silent + 5s) run(10ms, {2});
  ASSERT_EQ(state(2), NodeState::suspect);
  const auto last = sent_to(2, SwimKind::ping);
  ASSERT_FALSE(last.empty());
  EXPECT_TRUE(holds(last.back(), 2, NodeState::suspect)) << "its buddy tells it at once";
  EXPECT_GE(now_ - silent, 490ms);
  const Time suspected = now_;
  EXPECT_EQ(state(2), NodeState::suspect);
  while (state(2) == NodeState::suspect && now_ < suspected + 60s) run(10ms, {2});
  EXPECT_EQ(state(2), NodeState::dead);
  EXPECT_GE(now_ - suspected, suspicion_max(SwimConfig{}, 5) - 20ms) << "nobody confirmed";
  ASSERT_EQ(changes_.size(), 2U);
  EXPECT_EQ(changes_[1].from, NodeState::suspect);
  EXPECT_EQ(changes_[1].incarnation, kLife);
}

TEST_F(SwimTest, ConfirmationsByOthersShortenASuspicionOncePerAccuser) {
  join_all();
  tell(3, claim(2, NodeState::suspect, 0, kLife, {NodeId{3}}));
  ASSERT_EQ(state(2), NodeState::suspect);
  const Time suspected = now_;
  for (int i = 0; i < 5; ++i) tell(3, claim(2, NodeState::suspect, 0, kLife, {NodeId{3}}));  // the same again is no confirmation
  tell(3, claim(2, NodeState::suspect, 0, kLife, {NodeId{2}, NodeId{90}, NodeId{91}}));      // nor itself, nor strangers
  run(suspicion_min(SwimConfig{}, 5) + 100ms, {});  // answers without refutation: state says nothing about that
  tell(4, claim(2, NodeState::suspect, 0, kLife, {NodeId{3}, NodeId{4}}));
  tell(5, claim(2, NodeState::suspect, 0, kLife, {NodeId{5}}));
  const Time confirmed = now_;
  EXPECT_EQ(state(2), NodeState::suspect);
  tell(5, claim(2, NodeState::suspect, 0, kLife, {NodeId{1}}));  // three confirmations: the minimum, which is over
  run(10ms, {2});
  EXPECT_EQ(state(2), NodeState::dead);
  EXPECT_LT(now_ - suspected, suspicion_max(SwimConfig{}, 5) / 2);
  EXPECT_LE(now_ - confirmed, 20ms);
}

TEST_F(SwimTest, ARefutationEndsASuspicionAndOldClaimsDoNotBringItBack) {
  join_all();
  tell(3, claim(2, NodeState::suspect));
  ASSERT_EQ(state(2), NodeState::suspect);
  tell(4, claim(2, NodeState::alive, 0));
  EXPECT_EQ(state(2), NodeState::suspect) << "alive of the same refutation does not outrank suspect";
  tell(4, claim(2, NodeState::alive, 1));
  EXPECT_EQ(state(2), NodeState::alive);
  tell(3, claim(2, NodeState::suspect, 0));
  tell(3, claim(2, NodeState::dead, 0));
  EXPECT_EQ(state(2), NodeState::alive);
  tell(3, claim(2, NodeState::suspect, 1));
  EXPECT_EQ(state(2), NodeState::suspect);
}

TEST_F(SwimTest, ARefutationAnswersWhatWasAskedBefore) {
  join_all();
  tell(3, claim(2, NodeState::suspect));  // with so few members everybody looks for itself
  ASSERT_FALSE(sent_to(2, SwimKind::ping).empty());
  run(400ms, {2, 3, 4, 5});
  tell(4, claim(2, NodeState::alive, 1));
  changes_.clear();
  run(150ms, {2, 3, 4, 5});
  for (const MemberChange& change : changes_) EXPECT_NE(change.node, NodeId{2}) << change.why;
  EXPECT_EQ(state(2), NodeState::alive) << "the probe of the former suspicion is no new one";
}

TEST_F(SwimTest, RefutesWhatIsSaidAboutItself) {
  join_all();
  tell(2, claim(1, NodeState::suspect));
  EXPECT_EQ(refutations(1), 1U);
  const auto acks = sent_to(2, SwimKind::ack);
  ASSERT_FALSE(acks.empty());
  EXPECT_EQ(acks.back().refutations, 1U) << "in the very answer";
  EXPECT_EQ(swim_.awareness(), 1U) << "somebody found it slow";
  tell(2, claim(1, NodeState::suspect));
  EXPECT_EQ(refutations(1), 1U) << "answered already";
  tell(2, claim(1, NodeState::dead, 7));
  EXPECT_EQ(refutations(1), 8U);
  EXPECT_EQ(state(1), NodeState::alive);
  tell(2, claim(1, NodeState::alive, 3, Incarnation{5000}));
  EXPECT_EQ(swim_.incarnation(), Incarnation{5001}) << "a life stamped later is known: this one has to outrank it";
}

TEST_F(SwimTest, AClosedConnectionIsADeathAfterAShortProbeOnly) {
  join_all();
  swim_.connection_lost(NodeId{2}, now_);
  collect();
  EXPECT_EQ(state(2), NodeState::alive);
  EXPECT_EQ(sent_to(2, SwimKind::ping).size(), 1U);
  std::size_t helpers = 0;
  for (std::uint32_t i = 3; i <= 5; ++i) helpers += sent_to(i, SwimKind::ping_request).size();
  EXPECT_EQ(helpers, 3U) << "at once, not after the direct probe";
  const Time lost = now_;
  while (state(2) == NodeState::alive && now_ < lost + 1s) run(1ms, {2});
  EXPECT_EQ(state(2), NodeState::dead);
  EXPECT_LE(now_ - lost, SwimConfig{}.hint_probe_timeout + 1ms);
  swim_.connection_lost(NodeId{3}, now_);
  collect();
  run(300ms, {2});
  EXPECT_EQ(state(3), NodeState::alive) << "it answered";
  const std::size_t sent = sent_.size();
  swim_.connection_lost(NodeId{2}, now_);
  swim_.connection_lost(NodeId{1}, now_);
  swim_.connection_lost(NodeId{42}, now_);
  collect();
  EXPECT_EQ(sent_.size(), sent) << "dead already, itself, unknown: nothing to do";
}

TEST_F(SwimTest, AClaimedDeathIsCheckedWhenTheMemberWasHeardLately) {
  join_all();
  receive(message(2, SwimKind::ping));
  sent_.clear();
  tell(3, claim(2, NodeState::dead));
  EXPECT_EQ(state(2), NodeState::alive);
  const auto pings = sent_to(2, SwimKind::ping);
  ASSERT_EQ(pings.size(), 1U);
  EXPECT_TRUE(holds(pings[0], 2, NodeState::dead)) << "it is to refute this";
  SwimMessage ack = message(2, SwimKind::ack, pings[0].sequence);
  ack.refutations = 1;
  receive(ack);
  run(2s, {});
  EXPECT_EQ(state(2), NodeState::alive);
  EXPECT_EQ(refutations(2), 1U);
  tell(3, claim(2, NodeState::dead, 1));
  run(121ms, {2});
  EXPECT_EQ(state(2), NodeState::dead) << "and believed when it does not answer";
}

TEST_F(SwimTest, AClaimedDeathOfOneNotHeardForLongIsBelievedButFromATableOnlySuspected) {
  SwimMessage table = message(2, SwimKind::table);
  table.claims = {claim(3, NodeState::alive), claim(4, NodeState::alive)};
  receive(table);
  EXPECT_EQ(state(3), NodeState::alive);
  tell(2, claim(3, NodeState::dead));
  EXPECT_EQ(state(3), NodeState::dead);
  table.claims = {claim(4, NodeState::dead)};
  receive(table);
  EXPECT_EQ(state(4), NodeState::suspect);
}

TEST_F(SwimTest, DeadIsOverByRefutationOrANewLifeOnly) {
  join_all();
  swim_.connection_lost(NodeId{2}, now_);
  run(200ms, {2});
  ASSERT_EQ(state(2), NodeState::dead);
  sent_.clear();
  receive(message(2, SwimKind::ack, 5));
  EXPECT_EQ(state(2), NodeState::dead) << "the same claim as before";
  ASSERT_FALSE(sent_to(2, SwimKind::ping).empty()) << "it is told at once";
  EXPECT_TRUE(holds(sent_to(2, SwimKind::ping).back(), 2, NodeState::dead));
  SwimMessage refuted = message(2, SwimKind::ack, 5);
  refuted.refutations = 1;
  receive(refuted);
  EXPECT_EQ(state(2), NodeState::alive);

  changes_.clear();
  SwimMessage restarted = message(2, SwimKind::ping);
  restarted.incarnation = Incarnation{2000};
  receive(restarted);
  ASSERT_EQ(changes_.size(), 2U) << "dead, then alive";
  EXPECT_EQ(changes_[0].to, NodeState::dead);
  EXPECT_EQ(changes_[0].incarnation, kLife);
  EXPECT_EQ(changes_[1].to, NodeState::alive);
  EXPECT_EQ(changes_[1].incarnation, Incarnation{2000});
  tell(3, claim(2, NodeState::dead, 9));
  run(1s, {});
  EXPECT_EQ(state(2), NodeState::alive) << "that was the former life";
}

TEST_F(SwimTest, LeftIsFinalForThatLife) {
  join_all();
  SwimMessage bye = message(2, SwimKind::ping);
  bye.leaving = true;
  receive(bye);
  EXPECT_EQ(state(2), NodeState::left);
  receive(message(2, SwimKind::ack));
  tell(3, claim(2, NodeState::alive, 5));
  tell(3, claim(2, NodeState::dead, 5));
  EXPECT_EQ(state(2), NodeState::left);
  SwimMessage back = message(2, SwimKind::ping);
  back.incarnation = Incarnation{3000};
  receive(back);
  EXPECT_EQ(state(2), NodeState::alive);
}

TEST_F(SwimTest, LeavingTellsAllAtOnceAndAnswersOn) {
  join_all();
  swim_.leave(now_);
  collect();
  for (std::uint32_t i = 2; i <= 5; ++i) {
    ASSERT_EQ(sent_to(i, SwimKind::ping).size(), 1U);
    EXPECT_TRUE(sent_to(i, SwimKind::ping)[0].leaving);
  }
  EXPECT_EQ(state(1), NodeState::left);
  tell(2, claim(1, NodeState::dead));
  EXPECT_EQ(state(1), NodeState::left) << "nothing to refute";
  EXPECT_EQ(sent_to(2, SwimKind::ack).size(), 1U);
  sent_.clear();
  run(60s, {2, 3, 4, 5});
  for (const auto& [to, m] : sent_) EXPECT_TRUE(m.leaving);
  EXPECT_EQ(state(2), NodeState::alive) << "it watches nobody any more";
}

TEST_F(SwimTest, APauseThrowsAwayProbesAndGivesSuspicionsTheirTimeBack) {
  join_all();
  tell(3, claim(2, NodeState::suspect));
  const std::uint32_t before = swim_.awareness();
  run(300ms, {2, 3, 4, 5});  // probes wait for answers now
  changes_.clear();
  now_ += 30s;
  swim_.tick(now_);
  collect();
  EXPECT_TRUE(changes_.empty()) << to_string(changes_[0].node) << ": " << changes_[0].why;
  EXPECT_GT(swim_.awareness(), before);
  run(400ms, {});
  EXPECT_TRUE(changes_.empty());
}

TEST_F(SwimTest, AfterADelayOfItsOwnTheAnswersThatWaitAreReadFirst) {
  join_all();
  swim_.connection_lost(NodeId{2}, now_);
  collect();
  const std::uint64_t sequence = sent_to(2, SwimKind::ping).back().sequence;
  now_ += 200ms;  // past the deadline, and no pause
  swim_.tick(now_);
  collect();
  EXPECT_EQ(state(2), NodeState::alive);
  now_ += 1ms;
  receive(message(2, SwimKind::ack, sequence));
  run(300ms, {});
  EXPECT_EQ(state(2), NodeState::alive);
}

TEST_F(SwimTest, ASuspicionDoesNotEndBeforeWhatWaitsIsRead) {
  join_all();
  tell(3, claim(2, NodeState::suspect, 0, kLife, {NodeId{3}}));
  Swim before = swim_;
  Time at = now_;
  while (state(2) == NodeState::suspect) {
    before = swim_;
    at = now_;
    run(5ms, {2});
  }
  ASSERT_EQ(state(2), NodeState::dead);
  swim_ = before;  // back to 5 ms before its end
  now_ = at;
  now_ += 100ms;
  swim_.tick(now_);
  collect();
  EXPECT_EQ(state(2), NodeState::suspect);
  now_ += 1ms;
  SwimMessage refuted = message(2, SwimKind::ack, 5);
  refuted.refutations = 1;
  receive(refuted);
  EXPECT_EQ(state(2), NodeState::alive);
}

TEST_F(SwimTest, AHintBeforeAPauseIsProbedAgainAfterIt) {
  join_all();
  swim_.connection_lost(NodeId{2}, now_);
  collect();
  sent_.clear();
  now_ += 10s;
  swim_.tick(now_);
  collect();
  EXPECT_EQ(state(2), NodeState::alive) << "its answer may wait unread";
  EXPECT_FALSE(sent_to(2, SwimKind::ping).empty());
  run(121ms, {2});
  EXPECT_EQ(state(2), NodeState::dead);
}

TEST_F(SwimTest, AwarenessRisesWhenHelpersAreSilentTooAndFallsWithAnswers) {
  join_all();
  ASSERT_EQ(swim_.awareness(), 0U);
  run(1500ms, {2, 3, 4, 5});
  const std::uint32_t bad = swim_.awareness();
  EXPECT_GT(bad, 0U);
  run(30s, {});
  EXPECT_EQ(swim_.awareness(), 0U);
}

TEST_F(SwimTest, PingRequestsAreRelayedOrNacked) {
  join_all();
  SwimMessage request = message(3, SwimKind::ping_request, 500);
  request.target = NodeId{2};
  request.claims = {claim(2, NodeState::suspect)};
  receive(request);
  auto pings = sent_to(2, SwimKind::ping);
  ASSERT_FALSE(pings.empty());
  EXPECT_TRUE(holds(pings.back(), 2, NodeState::suspect)) << "the target hears what is held against it";
  SwimMessage ack = message(2, SwimKind::ack, pings.back().sequence);
  ack.refutations = 1;
  receive(ack);
  auto relayed = sent_to(3, SwimKind::ack);
  ASSERT_EQ(relayed.size(), 1U);
  EXPECT_EQ(relayed[0].sequence, 500U);
  EXPECT_TRUE(holds(relayed[0], 2, NodeState::alive)) << "with the refutation";

  sent_.clear();
  request.sequence = 501;
  request.claims.clear();
  receive(request);
  run(SwimConfig{}.probe_timeout - 10ms, {2});
  const auto nacks = sent_to(3, SwimKind::nack);
  ASSERT_EQ(nacks.size(), 1U) << "in time for who asked";
  EXPECT_EQ(nacks[0].sequence, 501U);
  request.target = NodeId{99};
  request.sequence = 502;
  receive(request);
  EXPECT_EQ(sent_to(3, SwimKind::nack).size(), 2U);
}

TEST_F(SwimTest, RelaysAreBounded) {
  join_all();
  SwimMessage request = message(3, SwimKind::ping_request);
  request.target = NodeId{2};
  for (std::uint64_t i = 0; i < 1000; ++i) {
    request.sequence = 10'000 + i;
    receive(request);
  }
  EXPECT_EQ(sent_to(2, SwimKind::ping).size(), 256U);
  EXPECT_EQ(sent_to(3, SwimKind::nack).size(), 1000U - 256U);
}

TEST_F(SwimTest, NonsenseChangesNothing) {
  join_all();
  const auto before = swim_.members();
  tell(2, claim(99, NodeState::alive));
  tell(2, claim(3, NodeState::unknown));
  tell(2, claim(3, NodeState::dead, 0, Incarnation{}));
  tell(2, claim(3, NodeState::alive, 0, Incarnation{~0ULL}));
  tell(2, claim(3, NodeState::alive, ~0U));
  tell(2, claim(1, NodeState::dead, 0, Incarnation{~0ULL}));
  tell(2, claim(1, NodeState::dead, ~0U));
  tell(2, claim(3, NodeState::suspect, 0, kLife, std::vector<NodeId>(kAccusersPerClaimMax + 1)));
  SwimMessage crowded = message(2, SwimKind::ping);
  crowded.claims.assign(kClaimsPerMessageMax + 1, claim(3, NodeState::suspect));
  receive(crowded);
  SwimMessage borrowed = message(3, SwimKind::ping);
  borrowed.leaving = true;
  swim_.receive(NodeId{2}, borrowed, now_);
  swim_.receive(NodeId{99}, message(99, SwimKind::ping), now_);
  swim_.receive(NodeId{1}, message(1, SwimKind::ping), now_);
  collect();
  EXPECT_TRUE(changes_.empty());
  EXPECT_EQ(swim_.incarnation(), kLife);
  EXPECT_EQ(swim_.members().size(), before.size());
}

TEST_F(SwimTest, ALifeOlderThanTheKnownOneIsTold) {
  join_all();
  SwimMessage old = message(2, SwimKind::ack);
  old.incarnation = Incarnation{500};  // its clock was set back before this start
  receive(old);
  const auto pings = sent_to(2, SwimKind::ping);
  ASSERT_EQ(pings.size(), 1U);
  ASSERT_TRUE(holds(pings[0], 2, NodeState::alive));
  EXPECT_EQ(pings[0].claims[0].incarnation, kLife) << "it has to outrank this";
  receive(old);
  EXPECT_EQ(sent_to(2, SwimKind::ping).size(), 1U) << "not with every message";
}

TEST_F(SwimTest, WhoWasAloneBringsNoOldNews) {
  join_all();
  for (std::uint32_t i = 2; i <= 5; ++i) swim_.connection_lost(NodeId{i}, now_);
  collect();
  run(250ms, {2, 3, 4, 5});
  for (std::uint32_t i = 2; i <= 5; ++i) ASSERT_EQ(state(i), NodeState::dead);
  SwimMessage back = message(2, SwimKind::ping, 9);
  back.refutations = 1;
  sent_.clear();
  receive(back);
  ASSERT_EQ(sent_to(2, SwimKind::ack).size(), 1U);
  for (std::uint32_t i = 3; i <= 5; ++i) EXPECT_FALSE(holds(sent_to(2, SwimKind::ack)[0], i, NodeState::dead));
}

class ManyMembers : public SwimTest {
 protected:
  ManyMembers() : SwimTest(100) {}
};

TEST_F(ManyMembers, NobodyIsCalledDeadOnHearsayAlone) {
  for (std::uint32_t i = 2; i <= 100; ++i) receive(message(i, SwimKind::ping, 1));
  std::set<std::uint32_t> silent;
  for (std::uint32_t i = 10; i < 20; ++i) {
    tell(2, claim(i, NodeState::suspect, 0, kLife, {NodeId{2}}));
    silent.insert(i);
  }
  sent_.clear();
  run(suspicion_max(SwimConfig{}, 100) / 2 + 20ms, silent);
  for (const std::uint32_t i : silent) {
    EXPECT_EQ(state(i), NodeState::suspect);
    const auto pings = sent_to(i, SwimKind::ping);
    ASSERT_FALSE(pings.empty()) << i;
    EXPECT_TRUE(holds(pings[0], i, NodeState::suspect));
  }
}

TEST_F(ManyMembers, NewsTravelsOnAFewMessagesOnlyLeastToldFirst) {
  std::map<NodeId, std::uint32_t> told;
  for (int i = 0; i < 2000; ++i) {
    receive(message(2 + static_cast<std::uint32_t>(i % 99), SwimKind::ping, 9));  // in the first round they join
    EXPECT_LE(sent_.back().second.claims.size(), kClaimsPerMessageMax);
    for (const MemberClaim& c : sent_.back().second.claims) ++told[c.node];
  }
  EXPECT_EQ(told.size(), 99U) << "all news went out";
  for (const auto& [node, times] : told) EXPECT_LE(times, retransmissions(100)) << to_string(node);
  EXPECT_TRUE(sent_.back().second.claims.empty()) << "and then no more";

  tell(2, claim(3, NodeState::suspect));
  receive(message(50, SwimKind::ping, 9));
  EXPECT_TRUE(holds(sent_.back().second, 3, NodeState::suspect));
}

}  // namespace
}  // namespace idunno

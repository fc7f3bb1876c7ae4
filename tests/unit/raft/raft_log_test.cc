// What the stories do not tell: single rules of RaftLog, by messages made by hand.

#include "nodes/raft/raft_log.h"

#include <gtest/gtest.h>

#include "bus/hash.h"
#include "nodes/raft/log_view.h"
#include "nodes/raft/quorum.h"
#include "tests/unit/raft/raft_cluster.h"

namespace idunno::raft_test {
namespace {

using std::chrono::milliseconds;

class RaftLogRules : public ::testing::Test {
 protected:
  void SetUp() override {
    cluster_.run(milliseconds(1500));
    ASSERT_TRUE(cluster_.elect(1, milliseconds(3000)));
    cluster_.run(milliseconds(200));
  }
  void TearDown() override { EXPECT_TRUE(cluster_.promises.broken.empty()) << cluster_.promises.broken.front(); }

  /// A message of server 3, addressed to the log that server 2 has.
  RaftMessage to_second() {
    RaftMessage message;
    message.from = NodeId{3};
    message.from_log = cluster_.at(3).disk->log.log_id;
    message.to_log = cluster_.at(2).disk->log.log_id;
    message.epoch = cluster_.at(2).raft->epoch();
    return message;
  }
  RaftMessage vote_request(std::uint64_t last_index, std::uint64_t last_epoch) {
    RaftMessage message = to_second();
    ++message.epoch.value;
    message.vote = VoteRequest{false, message.epoch, LogIndex{last_index}, Epoch{last_epoch}, false};
    return message;
  }
  RaftLog& second() { return *cluster_.at(2).raft; }
  void give(const RaftMessage& message) { second().receive(message.from, encode(message), cluster_.now()); }
  /// What server 2 answers in this turn.
  std::vector<RaftMessage> answers() {
    EXPECT_TRUE(second().flush(cluster_.now()).ok());
    std::vector<RaftMessage> found;
    for (auto& [to, bytes] : second().take_messages()) found.push_back(*decode<RaftMessage>(bytes, kRaftMessageBytesMax));
    return found;
  }
  /// The leader and its connection are gone, as server 2 sees it.
  void lose_leader() {
    cluster_.crash(1);
    cluster_.at(2).raft->connection_lost(NodeId{1}, cluster_.now());
    static_cast<void>(answers());
  }

  RaftCluster cluster_{3, 1};
};

TEST_F(RaftLogRules, HasOddVoters) {
  const std::vector<std::uint32_t> wanted{1, 1, 3, 3, 5, 5, 7, 7, 7};
  for (std::size_t nodes = 1; nodes <= wanted.size(); ++nodes) EXPECT_EQ(voters_wanted_for(nodes), wanted[nodes - 1]);
  EXPECT_EQ(log_nodes_of(std::vector<NodeId>(12, NodeId{1})).size(), kLogNodesMax);
  EXPECT_EQ(majority_value(std::vector<int>{5, 1, 3}), 3);
  EXPECT_EQ(majority_value(std::vector<int>{5, 1, 3, 4}), 3);
}

TEST_F(RaftLogRules, AVoterWithALivingLeaderVotesForNobody) {
  const Epoch before = second().epoch();
  give(vote_request(100, 100));
  const auto said = answers();
  ASSERT_EQ(said.size(), 1U);
  EXPECT_FALSE(said[0].vote_reply->granted);
  EXPECT_EQ(second().epoch(), before);
  EXPECT_EQ(second().leader(), NodeId{1});
}

TEST_F(RaftLogRules, VotesWhenTheLeaderItselfWantsIt) {
  RaftMessage message = vote_request(100, 100);
  message.vote->transfer = true;
  give(message);
  const auto said = answers();
  ASSERT_EQ(said.size(), 1U);
  EXPECT_TRUE(said[0].vote_reply->granted);
}

TEST_F(RaftLogRules, SaysNothingBeforeItIsOnDisk) {
  lose_leader();
  give(vote_request(100, 100));
  EXPECT_TRUE(second().take_messages().empty());
  EXPECT_EQ(answers().size(), 1U);
}

TEST_F(RaftLogRules, AsksForNoVoteBeforeItsEpochAndItsOwnVoteAreOnDisk) {
  lose_leader();
  ASSERT_EQ(second().status().role, RaftRole::pre_candidate);
  RaftMessage vote = to_second();
  vote.vote_reply = VoteReply{true, Epoch{second().epoch().value + 1}, true};
  give(vote);
  ASSERT_EQ(second().status().role, RaftRole::candidate);
  EXPECT_TRUE(second().take_messages().empty());
  const auto asked = answers();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_TRUE(asked[0].vote && !asked[0].vote->pre);
}

TEST_F(RaftLogRules, GivesOneVoteAnEpoch) {
  lose_leader();
  give(vote_request(100, 100));
  ASSERT_TRUE(answers().at(0).vote_reply->granted);
  RaftMessage other = vote_request(100, 100);
  other.from = NodeId{1};
  other.from_log = cluster_.at(1).disk->log.log_id;
  other.epoch = second().epoch();
  other.vote->asked = other.epoch;
  give(other);
  EXPECT_FALSE(answers().at(0).vote_reply->granted);
}

TEST_F(RaftLogRules, GivesNoVoteToALogThatLacksEntries) {
  lose_leader();
  give(vote_request(second().last_index().value - 1, 2));
  EXPECT_FALSE(answers().at(0).vote_reply->granted);
  give(vote_request(100, 1));
  EXPECT_FALSE(answers().at(0).vote_reply->granted);
}

TEST_F(RaftLogRules, IgnoresWhatIsMeantForAnEarlierLife) {
  lose_leader();
  RaftMessage message = vote_request(100, 100);
  ++message.to_log;
  give(message);
  EXPECT_TRUE(answers().empty());
  EXPECT_EQ(second().status().messages_misdirected, 1U);
}

TEST_F(RaftLogRules, CountsNoVoteOfAnotherLife) {
  lose_leader();
  ASSERT_EQ(second().status().role, RaftRole::pre_candidate);
  RaftMessage vote = to_second();
  vote.vote_reply = VoteReply{true, Epoch{vote.epoch.value + 1}, true};
  ++vote.from_log;
  give(vote);
  EXPECT_EQ(second().status().role, RaftRole::pre_candidate);
  --vote.from_log;
  give(vote);
  EXPECT_EQ(second().status().role, RaftRole::candidate);
}

TEST_F(RaftLogRules, ADeposedLeaderIsRefusedAndTold) {
  RaftMessage message = to_second();
  --message.epoch.value;
  message.append = AppendRequest{1, LogIndex{1}, Epoch{1}, LogIndex{1}, {}, {}};
  give(message);
  const auto said = answers();
  ASSERT_EQ(said.size(), 1U);
  EXPECT_FALSE(said[0].append_reply->accepted);
  EXPECT_EQ(said[0].epoch, second().epoch());
  EXPECT_EQ(second().leader(), NodeId{1});
}

/// A snapshot of a later leader, server 3.
class RaftSnapshotRules : public RaftLogRules {
 protected:
  void SetUp() override {
    RaftLogRules::SetUp();
    message_ = to_second();
    message_.epoch.value += 2;
    message_.chunk = SnapshotChunk{1, LogIndex{4}, message_.epoch, whole_.size(), hash128(whole_), 0, whole_.substr(0, 4)};
  }
  SnapshotReply reply() {
    const auto said = answers();
    return said.empty() || !said.back().snapshot_reply ? SnapshotReply{} : *said.back().snapshot_reply;
  }
  Bytes whole_ = wrap_state("a b ", LogConfiguration{{LogMember{NodeId{3}, 301, true}}});
  RaftMessage message_;
};

TEST_F(RaftSnapshotRules, ReplacesATailThatIsAnotherLeaders) {
  RaftMessage tail = to_second();
  ++tail.epoch.value;
  const RaftEntry entry{tail.epoch, mark_entry("x", EntryKind::command)};
  tail.append = AppendRequest{1, LogIndex{2}, Epoch{2}, LogIndex{2}, {entry, entry, entry, entry}, {}};
  give(tail);
  static_cast<void>(answers());
  ASSERT_EQ(cluster_.at(2).disk->last(), LogIndex{6});
  message_.chunk->bytes = whole_;
  give(message_);
  EXPECT_TRUE(reply().installed);
  EXPECT_EQ(second().last_index(), LogIndex{4});
  EXPECT_EQ(cluster_.at(2).disk->last(), LogIndex{4});
  EXPECT_EQ(second().take_snapshot()->state, "a b ");
}

TEST_F(RaftSnapshotRules, TakesChunksInOrderOnly) {
  give(message_);
  EXPECT_EQ(reply().offset, 4U);
  give(message_);  // doubled
  EXPECT_EQ(reply().offset, 4U);
  message_.chunk->offset = 6;  // one was lost
  message_.chunk->bytes = whole_.substr(6);
  give(message_);
  EXPECT_EQ(reply().offset, 4U);
  message_.chunk->offset = 4;
  message_.chunk->bytes = whole_.substr(4);
  give(message_);
  EXPECT_TRUE(reply().installed);
}

TEST_F(RaftSnapshotRules, InstallsNothingWithAnotherHash) {
  message_.chunk->bytes = whole_;
  message_.chunk->bytes[0] = 'z';
  give(message_);
  const SnapshotReply said = reply();
  EXPECT_FALSE(said.installed);
  EXPECT_EQ(said.offset, 0U);
  EXPECT_EQ(second().status().snapshots_installed, 0U);
}

TEST_F(RaftLogRules, ServesOnlyWhenItsFirstEntryIsCommitted) {
  cluster_.crash(1);
  cluster_.filter = [](const Packet&, const RaftMessage& message) { return !message.append_reply; };
  ASSERT_TRUE(cluster_.elect(2, milliseconds(3000)));
  cluster_.run(milliseconds(100));
  EXPECT_TRUE(second().leading());
  EXPECT_FALSE(second().serving());
  cluster_.filter = nullptr;
  cluster_.run(milliseconds(100));
  EXPECT_TRUE(second().serving());
}

std::size_t configurations(const Disk& disk, Epoch epoch) {
  std::size_t found = 0;
  for (const LogEntry& entry : disk.log.entries) {
    if (entry.epoch == epoch && kind_of_entry(entry.command) == EntryKind::configuration) ++found;
  }
  return found;
}

TEST(RaftMembership, ChangesOneServerAtATime) {
  RaftCluster cluster(5, 1, 3);
  cluster.crash(4);
  cluster.crash(5);
  cluster.run(milliseconds(1500));
  ASSERT_TRUE(cluster.elect(1, milliseconds(3000)));
  cluster.run(milliseconds(200));
  cluster.filter = [](const Packet&, const RaftMessage& message) { return !message.append_reply; };
  cluster.restart(4);
  cluster.restart(5);
  cluster.run(milliseconds(300));  // both have announced themselves; nothing is committed
  const Epoch epoch = cluster.at(1).raft->epoch();
  EXPECT_EQ(configurations(*cluster.at(1).disk, epoch), 1U);
  cluster.filter = nullptr;
  cluster.run(milliseconds(3000));
  EXPECT_EQ(cluster.at(1).raft->members().size(), 5U);
  EXPECT_TRUE(cluster.promises.broken.empty());
}

TEST(RaftMembership, ChangesNothingBeforeAnEntryOfItsOwnEpochIsCommitted) {
  RaftCluster cluster(4, 1);
  cluster.crash(4);
  cluster.run(milliseconds(1500));
  cluster.filter = [](const Packet&, const RaftMessage& message) { return !message.append_reply; };
  cluster.run(milliseconds(700));
  cluster.restart(4);
  ASSERT_TRUE(cluster.elect(2, milliseconds(3000)));
  cluster.run(milliseconds(300));
  ASSERT_TRUE(cluster.at(2).raft->leading());
  EXPECT_EQ(configurations(*cluster.at(2).disk, cluster.at(2).raft->epoch()), 0U);
}

TEST(RaftMembership, AnyLogForbidsToFoundAnother) {
  RaftCluster cluster(4, 1);
  cluster.run(milliseconds(3000));
  for (const std::uint32_t node : {1U, 2U, 3U}) {
    cluster.wipe(node);
    cluster.restart(node);
  }
  cluster.run(milliseconds(3000));
  EXPECT_TRUE(cluster.at(1).raft->members().empty());
  EXPECT_FALSE(cluster.leader());
}

TEST_F(RaftLogRules, RefusesGarbageAndStrangers) {
  const Bytes good = encode(vote_request(100, 100));
  for (std::size_t length = 0; length < good.size(); ++length)
    second().receive(NodeId{3}, ByteView(good).substr(0, length), cluster_.now());
  EXPECT_EQ(second().status().messages_refused, good.size());
  second().receive(NodeId{1}, good, cluster_.now());   // not the sender that it names
  second().receive(NodeId{17}, good, cluster_.now());  // no log node
  RaftMessage two = vote_request(1, 1);
  two.timeout_now = TimeoutNow{};
  give(two);
  EXPECT_EQ(second().status().messages_refused, good.size() + 3);
  EXPECT_TRUE(answers().empty());
}

TEST_F(RaftLogRules, RefusesEntriesThatContradictWhatIsCommitted) {
  cluster_.crash(1);
  RaftMessage message = to_second();
  message.epoch.value += 5;
  message.append =
      AppendRequest{1, LogIndex{1}, Epoch{1}, LogIndex{9}, {RaftEntry{Epoch{6}, mark_entry("evil", EntryKind::command)}}, {}};
  give(message);
  EXPECT_TRUE(answers().empty());
  EXPECT_EQ(second().status().messages_refused, 1U);
  EXPECT_EQ(second().last_index(), LogIndex{2});
}

TEST_F(RaftLogRules, WritesOnceATurnAndNothingWhenNothingChanged) {
  Server& leader = cluster_.at(1);
  leader.disk->writes = 0;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(leader.raft->propose("x").ok());
  cluster_.flush(1);
  EXPECT_EQ(leader.disk->writes, 1U);
  cluster_.run(milliseconds(500));
  EXPECT_EQ(leader.disk->writes, 1U);
  EXPECT_EQ(cluster_.at(2).applied.size(), 101U);
}

TEST_F(RaftLogRules, BoundsProposalsAndMessages) {
  RaftLog& leader = *cluster_.at(1).raft;
  EXPECT_EQ(leader.propose(Bytes(codec::kCommandBytesMax, 'x')).error().code, Errc::too_large);
  cluster_.crash(2);
  cluster_.crash(3);
  Errc code = Errc::internal;
  for (int i = 0; i < 100 && code == Errc::internal; ++i) {
    const auto proposed = leader.propose(Bytes(1U << 20U, 'x'));
    if (!proposed) code = proposed.error().code;
  }
  EXPECT_EQ(code, Errc::full);
  ASSERT_TRUE(leader.flush(cluster_.now()).ok());
  for (auto& [to, bytes] : leader.take_messages()) EXPECT_LE(bytes.size(), kRaftMessageBytesMax);
}

TEST_F(RaftLogRules, SendsNoMoreThanTheWindowToAFollowerThatIsSilent) {
  cluster_.crash(3);
  cluster_.appends_with_entries = 0;
  cluster_.filter = [](const Packet&, const RaftMessage& message) { return !message.append_reply || message.from != NodeId{3}; };
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(cluster_.propose(1, std::string(200'000, 'x')).ok());
    cluster_.run(milliseconds(2));
  }
  EXPECT_LE(cluster_.appends_with_entries, 200U + kAppendsInFlightMax + 4);
}

TEST_F(RaftLogRules, TellsTheStandbyAndItTakesOverAtOnce) {
  EXPECT_EQ(cluster_.at(1).raft->standby(), NodeId{2});
  EXPECT_EQ(cluster_.at(3).raft->standby(), NodeId{2});
  cluster_.crash(1, true);
  EXPECT_TRUE(cluster_.run_until([&] { return cluster_.serving_leader() == NodeId{2}; }, milliseconds(20)));
}

TEST_F(RaftLogRules, RemovedConfigurationsComeBack) {
  auto view = LogView::restore(LoadedLog{7, {}, {}, {}});
  ASSERT_TRUE(view.ok());
  const LogConfiguration first{{LogMember{NodeId{1}, 7, true}}};
  const LogConfiguration second_one{{LogMember{NodeId{1}, 7, true}, LogMember{NodeId{2}, 8, false}}};
  view->append(Epoch{1}, mark_entry(encode(first), EntryKind::configuration));
  view->append(Epoch{2}, mark_entry(encode(second_one), EntryKind::configuration));
  EXPECT_EQ(view->configuration(), second_one);
  EXPECT_EQ(view->configuration_at(LogIndex{1}), first);
  view->truncate_from(LogIndex{2});
  EXPECT_EQ(view->configuration(), first);
}

TEST_F(RaftLogRules, DoesNotOpenALogWithAHole) {
  LoadedLog loaded{7, {Epoch{1}, {}}, {}, {LogEntry{LogIndex{2}, Epoch{1}, mark_entry("x", EntryKind::command)}}};
  EXPECT_EQ(LogView::restore(loaded).error().code, Errc::damaged);
  loaded.entries[0].index = LogIndex{1};
  EXPECT_TRUE(LogView::restore(loaded).ok());
  loaded.entries[0].epoch = Epoch{2};
  EXPECT_EQ(LogView::restore(loaded).error().code, Errc::damaged);
  loaded.entries[0] = LogEntry{LogIndex{1}, Epoch{1}, ""};
  EXPECT_EQ(LogView::restore(loaded).error().code, Errc::damaged);
}

}  // namespace
}  // namespace idunno::raft_test

#include "nodes/jobs/repair.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bus/hash.h"
#include "storage/sdfs/placement.h"

namespace idunno {
namespace {

constexpr Time kStart = Time{} + std::chrono::seconds(100);

class Repair : public ::testing::Test {
 protected:
  void nodes(std::vector<std::uint32_t> live) {
    view = {};
    for (const std::uint32_t id : live) {
      view.live.insert(NodeId{id});
      view.targets.push_back(PlacementNode{NodeId{id}, 10});
    }
    planner.membership_changed(view);
  }
  void put(const std::string& path, std::uint64_t blocks, std::vector<std::uint32_t> holders, std::uint32_t length = 1000) {
    FsFilePart part;
    part.path = path;
    part.upload = ++last_block;
    for (std::uint64_t i = 0; i < blocks; ++i) {
      BlockRef block{BlockId{1, ++last_block}, length, hash128(std::to_string(last_block)), {}};
      for (const std::uint32_t id : holders) block.replicas.push_back(NodeId{id});
      part.blocks.push_back(block);
    }
    FreedBlocks freed;
    ASSERT_TRUE(files.commit({part}, 1, {}, freed).ok());
    planner.namespace_changed();
  }
  RepairOutput step() {
    RepairOutput out;
    planner.step(files, view, now, out);
    return out;
  }
  RepairOutput report(const std::pair<NodeId, ReplicaTask>& task, BlockStatus status = BlockStatus::ok) {
    RepairOutput out;
    const std::vector<BlockStatus> statuses(task.second.pull.size(), status);
    copied += planner.report(task.first, ReplicaReport{task.second.task, statuses}, files, view, now, out);
    return out;
  }
  RepairOutput apply(const std::vector<ReplicaMove>& moves) {
    files.move_replicas(moves);
    RepairOutput out;
    planner.moved(moves, files, out);
    return out;
  }
  void later(Duration by) { now += by; }
  /// Steps, reports and moves until nothing happens any more.
  void settle() {
    for (int i = 0; i < 2000; ++i) {
      RepairOutput out = step();
      for (const auto& task : out.tasks) {
        for (const ReplicaMove& move : report(task).moves) out.moves.push_back(move);
      }
      for (const auto& [node, task] : apply(out.moves).tasks) {
        for (const BlockId block : task.drop) dropped.emplace_back(node, block);
      }
      later(std::chrono::milliseconds(250));
    }
  }
  void expect_copied(const std::vector<std::uint32_t>& live, bool computing, std::size_t least, std::size_t most);
  const std::vector<NodeId>& holders(const std::string& path, std::size_t index = 0) {
    return files.find(path)->blocks[index].replicas;
  }

  Namespace files;
  RepairView view;
  Time now = kStart;
  RepairPlanner planner{RepairConfig{4, 32, 64U << 20U}, kStart};
  std::uint64_t last_block = 0;
  std::size_t copied = 0;
  std::vector<std::pair<NodeId, BlockId>> dropped;
};

TEST_F(Repair, LeavesBlocksAloneThatHaveAllTheirCopies) {
  nodes({1, 2, 3, 4, 5});
  put("/a", 10, {1, 2, 3, 4});
  const RepairOutput out = step();
  EXPECT_TRUE(out.tasks.empty());
  EXPECT_TRUE(out.moves.empty());
  EXPECT_EQ(planner.wake_at(), kNever);
}

TEST_F(Repair, CopiesToANodeThatDoesNotHoldTheBlockAndThenTellsTheLog) {
  nodes({1, 2, 3, 5, 6});
  put("/a", 1, {1, 2, 3, 4});
  const RepairOutput out = step();
  ASSERT_EQ(out.tasks.size(), 1U);
  EXPECT_EQ(planner.under_replicated(), 1U);
  const NodeId target = out.tasks[0].first;
  EXPECT_TRUE(target == NodeId{5} || target == NodeId{6});
  EXPECT_TRUE(step().tasks.empty()) << "once only";
  const RepairOutput done = report(out.tasks[0]);
  ASSERT_EQ(done.moves.size(), 1U);
  EXPECT_EQ(done.moves[0].replicas, (std::vector<NodeId>{NodeId{1}, NodeId{2}, NodeId{3}, target})) << "the dead holder goes";
  EXPECT_TRUE(step().tasks.empty()) << "the move is under way";
  apply(done.moves);
  EXPECT_TRUE(step().tasks.empty());
  EXPECT_EQ(planner.under_replicated(), 0U);
}

TEST_F(Repair, KeepsDeadHoldersUntilThereAreEnoughLiveOnes) {
  nodes({1, 5, 6, 7});
  put("/a", 1, {1, 2, 3, 4});
  const RepairOutput out = step();
  ASSERT_EQ(out.tasks.size(), 1U);
  const RepairOutput done = report(out.tasks[0]);
  ASSERT_EQ(done.moves.size(), 1U);
  EXPECT_EQ(done.moves[0].replicas.size(), 5U);
  apply(done.moves);
  settle();
  EXPECT_EQ(holders("/a").size(), 4U);
  for (const NodeId id : holders("/a")) EXPECT_TRUE(view.live.contains(id));
}

TEST_F(Repair, TheMostEndangeredBlocksGoFirst) {
  nodes({1, 2, 3, 7, 8});
  put("/three", 40, {1, 2, 3, 4});
  put("/one", 3, {1, 4, 5, 6});
  const RepairOutput out = step();
  std::set<BlockId> first;
  for (const auto& [node, task] : out.tasks) {
    for (const BlockRef& block : task.pull) first.insert(block.id);
  }
  EXPECT_EQ(first.size(), 32U);
  for (const BlockRef& block : files.find("/one")->blocks) EXPECT_TRUE(first.contains(block.id));
}

TEST_F(Repair, KeepsItsBoundOfBlocksInFlight) {
  nodes({1, 2, 3, 5});
  put("/a", 500, {1, 2, 3, 4});
  const RepairOutput out = step();
  EXPECT_EQ(planner.in_flight(), 32U);
  later(std::chrono::seconds(1));
  EXPECT_TRUE(step().tasks.empty()) << "32 reports are awaited";
  for (const auto& task : out.tasks) apply(report(task).moves);
  EXPECT_EQ(planner.in_flight(), 0U);
  step();
  EXPECT_EQ(planner.in_flight(), 32U);
}

/// At 64 MiB/s, in ten seconds: so many of 800 blocks of 1 MiB that were on the nodes 1 to 4.
void Repair::expect_copied(const std::vector<std::uint32_t>& live, bool computing, std::size_t least, std::size_t most) {
  planner = RepairPlanner(RepairConfig{4, 1000, 64U << 20U}, kStart);
  nodes(live);
  put("/a", 800, {1, 2, 3, 4}, 1U << 20U);
  view.computing = computing;
  std::size_t blocks = 0;
  for (const Time end = now + std::chrono::seconds(10); now < end; later(std::chrono::milliseconds(50))) {
    RepairOutput out = step();
    for (const auto& task : out.tasks) {
      blocks += task.second.pull.size();
      apply(report(task).moves);
    }
    ASSERT_NE(planner.wake_at(), kNever);
  }
  EXPECT_GE(blocks, least);
  EXPECT_LE(blocks, most);
}

TEST_F(Repair, KeepsItsRate) { expect_copied({1, 2, 3, 5}, false, 624, 664); }

TEST_F(Repair, WhileTheClusterComputesSafeBlocksAreCopiedAtAPartOfTheRate) { expect_copied({1, 2, 3, 5}, true, 76, 86); }

TEST_F(Repair, WhileTheClusterComputesBlocksInDangerAreCopiedAtTheFullRate) { expect_copied({1, 2, 5, 6}, true, 624, 664); }

TEST_F(Repair, ATargetThatFailsIsAvoidedForAWhile) {
  nodes({1, 2, 3, 5, 6});
  put("/a", 1, {1, 2, 3, 4});
  const RepairOutput first = step();
  ASSERT_EQ(first.tasks.size(), 1U);
  EXPECT_TRUE(report(first.tasks[0], BlockStatus::full).moves.empty());
  const RepairOutput second = step();
  ASSERT_EQ(second.tasks.size(), 1U);
  EXPECT_NE(second.tasks[0].first, first.tasks[0].first);
  report(second.tasks[0], BlockStatus::failed);
  EXPECT_TRUE(step().tasks.empty());
  ASSERT_NE(planner.wake_at(), kNever);
  later(std::chrono::seconds(6));
  EXPECT_EQ(step().tasks.size(), 1U);
}

TEST_F(Repair, ReportsOfOthersAndOldReportsAreIgnored) {
  nodes({1, 2, 3, 5});
  put("/a", 1, {1, 2, 3, 4});
  const RepairOutput out = step();
  ASSERT_EQ(out.tasks.size(), 1U);
  EXPECT_TRUE(report({NodeId{1}, out.tasks[0].second}).moves.empty());
  EXPECT_EQ(report(out.tasks[0]).moves.size(), 1U);
  EXPECT_TRUE(report(out.tasks[0]).moves.empty());
}

TEST_F(Repair, TasksOfASessionThatEndedArePlannedAgain) {
  nodes({1, 2, 3, 5});
  put("/a", 3, {1, 2, 3, 4});
  const RepairOutput lost = step();
  ASSERT_EQ(lost.tasks.size(), 1U);
  planner.forget_tasks(NodeId{3});
  EXPECT_EQ(planner.in_flight(), 3U) << "of another node";
  planner.forget_tasks(NodeId{5});
  EXPECT_EQ(planner.in_flight(), 0U);
  EXPECT_LE(planner.wake_at(), now) << "at once";
  const RepairOutput again = step();
  ASSERT_EQ(again.tasks.size(), 1U);
  EXPECT_EQ(again.tasks[0].first, NodeId{5});
  EXPECT_EQ(again.tasks[0].second.pull, lost.tasks[0].second.pull);
  EXPECT_TRUE(report(lost.tasks[0]).moves.empty()) << "the late report of a void task";
  EXPECT_EQ(report(again.tasks[0]).moves.size(), 3U);
}

TEST_F(Repair, AMoveDoesNotBringBackWhatWasForgottenMeanwhile) {
  nodes({1, 2, 3, 5});
  put("/a", 1, {1, 2, 3, 4});
  const BlockId id = files.find("/a")->blocks[0].id;
  const RepairOutput done = report(step().tasks.at(0));
  ASSERT_EQ(done.moves.size(), 1U);
  files.forget_blocks(NodeId{2}, {id});
  apply(done.moves);
  EXPECT_EQ(holders("/a"), (std::vector<NodeId>{NodeId{1}, NodeId{3}, NodeId{5}}));
}

TEST_F(Repair, ATargetThatDiesIsReplaced) {
  nodes({1, 2, 3, 5, 6});
  put("/a", 1, {1, 2, 3, 4});
  const NodeId target = step().tasks.at(0).first;
  nodes(target == NodeId{5} ? std::vector<std::uint32_t>{1, 2, 3, 6} : std::vector<std::uint32_t>{1, 2, 3, 5});
  const RepairOutput again = step();
  ASSERT_EQ(again.tasks.size(), 1U);
  EXPECT_NE(again.tasks[0].first, target);
}

TEST_F(Repair, SurplusCopiesAreDroppedOnceTheLogSaysSo) {
  nodes({1, 2, 3, 4, 5});
  put("/a", 1, {1, 2, 3, 4});
  const BlockRef before = files.find("/a")->blocks[0];
  files.move_replicas(
      {ReplicaMove{"/a", 1, 0, before.id, {NodeId{1}, NodeId{2}, NodeId{3}, NodeId{4}, NodeId{5}}, before.replicas}});
  planner.namespace_changed();
  later(std::chrono::seconds(1));
  const RepairOutput out = step();
  EXPECT_TRUE(out.tasks.empty());
  ASSERT_EQ(out.moves.size(), 1U);
  ASSERT_EQ(out.moves[0].replicas.size(), 4U);
  const RepairOutput dropped_now = apply(out.moves);
  ASSERT_EQ(dropped_now.tasks.size(), 1U);
  EXPECT_EQ(dropped_now.tasks[0].second.drop, std::vector<BlockId>{before.id});
  const NodeId loser = dropped_now.tasks[0].first;
  EXPECT_EQ(loser, placement_order(before.id, view.targets).back());
  EXPECT_EQ(std::count(holders("/a").begin(), holders("/a").end(), loser), 0);
}

TEST_F(Repair, ABlockWithoutALiveCopyIsCountedButNotTried) {
  nodes({5, 6, 7, 8});
  put("/a", 1, {1, 2, 3, 4});
  EXPECT_TRUE(step().tasks.empty());
  EXPECT_EQ(planner.under_replicated(), 1U);
}

TEST_F(Repair, ASuspectHolderCountsButGetsNothing) {
  nodes({1, 2, 3, 4, 5});
  view.targets.pop_back();  // n5 is suspect
  planner.membership_changed(view);
  put("/a", 1, {1, 2, 3, 5});
  put("/b", 1, {1, 2, 3, 9});
  const RepairOutput out = step();
  ASSERT_EQ(out.tasks.size(), 1U);
  EXPECT_EQ(out.tasks[0].first, NodeId{4});
  EXPECT_EQ(out.tasks[0].second.pull.at(0).id, files.find("/b")->blocks[0].id);
}

TEST_F(Repair, BringsEverythingBackAfterADeath) {
  nodes({1, 2, 3, 4, 5});
  put("/a", 300, {1, 2, 3, 4});
  nodes({1, 2, 3, 5});
  settle();
  EXPECT_EQ(copied, 300U);
  EXPECT_EQ(planner.under_replicated(), 0U);
  nodes({1, 2, 3, 4, 5});  // n4 returns with its old copies: nobody refers to them
  settle();
  EXPECT_EQ(planner.under_replicated(), 0U);
  for (std::size_t i = 0; i < 300; ++i) ASSERT_EQ(holders("/a", i).size(), 4U);
}

}  // namespace
}  // namespace idunno

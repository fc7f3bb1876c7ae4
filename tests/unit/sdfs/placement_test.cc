#include "storage/sdfs/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

namespace idunno {
namespace {

std::vector<PlacementNode> nodes_with(std::vector<std::uint32_t> weights) {
  std::vector<PlacementNode> nodes;
  for (std::uint32_t i = 0; i < weights.size(); ++i) nodes.push_back({NodeId{i + 1}, weights[i]});
  return nodes;
}

BlockId block(std::uint64_t i) { return BlockId{0x1234567890ABCDEFULL, i}; }

TEST(Placement, NamesDistinctNodesAndNoMoreThanThereAre) {
  const auto nodes = nodes_with({1, 1, 1});
  for (std::uint64_t i = 0; i < 100; ++i) {
    const auto placed = place_block(block(i), nodes, 4);
    EXPECT_EQ(placed.size(), 3U);
    EXPECT_EQ(std::set<NodeId>(placed.begin(), placed.end()).size(), 3U);
  }
  EXPECT_TRUE(place_block(block(1), {}, 4).empty());
}

TEST(Placement, PlacesAtTheFirstNodesOfTheOrder) {
  const auto nodes = nodes_with({3, 1, 4, 1, 5, 9, 2, 6});
  for (std::uint64_t i = 0; i < 200; ++i) {
    auto order = placement_order(block(i), nodes);
    ASSERT_EQ(order.size(), nodes.size());
    order.resize(4);
    EXPECT_EQ(place_block(block(i), nodes, 4), order);
  }
}

TEST(Placement, DoesNotDependOnTheOrderOfTheNodes) {
  auto nodes = nodes_with({1, 2, 3, 4, 5});
  const auto reversed = std::vector<PlacementNode>(nodes.rbegin(), nodes.rend());
  for (std::uint64_t i = 0; i < 200; ++i) EXPECT_EQ(placement_order(block(i), nodes), placement_order(block(i), reversed));
}

TEST(Placement, LeavesOutNodesOfWeightZero) {
  const auto nodes = nodes_with({1, 0, 1});
  for (std::uint64_t i = 0; i < 100; ++i) {
    for (const NodeId node : placement_order(block(i), nodes)) EXPECT_NE(node, NodeId{2});
  }
}

TEST(Placement, SpreadsEquallyOverEqualNodes) {
  const auto nodes = nodes_with(std::vector<std::uint32_t>(10, 7));
  std::map<NodeId, int> held;
  constexpr int kBlocks = 20000;
  for (std::uint64_t i = 0; i < kBlocks; ++i) {
    for (const NodeId node : place_block(block(i), nodes, 4)) ++held[node];
  }
  for (const auto& [node, count] : held) EXPECT_NEAR(count, kBlocks * 4 / 10, kBlocks * 4 / 10 / 20) << to_string(node);
}

TEST(Placement, GivesShareByWeight) {
  const auto nodes = nodes_with({1, 2, 4, 8, 1000});
  std::map<NodeId, int> first;
  constexpr int kBlocks = 100000;
  for (std::uint64_t i = 0; i < kBlocks; ++i) ++first[place_block(block(i), nodes, 1).front()];
  EXPECT_NEAR(first[NodeId{5}], kBlocks * 1000 / 1015, kBlocks / 200);
  EXPECT_NEAR(first[NodeId{4}], kBlocks * 8 / 1015, 120);
  EXPECT_NEAR(first[NodeId{1}], kBlocks / 1015, 45);
}

TEST(Placement, MovesOnlyTheShareOfANodeThatGoes) {
  const auto all = nodes_with(std::vector<std::uint32_t>(8, 1));
  auto without = all;
  without.erase(without.begin() + 2);
  const NodeId gone{3};
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto before = place_block(block(i), all, 4);
    const auto after = place_block(block(i), without, 4);
    for (const NodeId node : before) {
      if (node == gone) continue;
      EXPECT_NE(std::find(after.begin(), after.end(), node), after.end());
    }
    const bool was_there = std::find(before.begin(), before.end(), gone) != before.end();
    if (was_there) continue;
    EXPECT_EQ(before, after);
  }
}

TEST(Placement, StaysAsItIs) {  // on every machine and compiler: copies lie where this says
  const auto nodes = nodes_with({1, 2, 3, 4, 5, 6});
  std::string text;
  for (std::uint64_t i = 0; i < 8; ++i) {
    for (const NodeId node : placement_order(BlockId{42, i}, nodes)) text += std::to_string(node.value);
    text += ' ';
  }
  EXPECT_EQ(text, "623451 365412 634251 634152 416523 465321 263541 532641 ");
}

TEST(Placement, WeighsByWholeGibibytesOfFreeSpace) {
  EXPECT_EQ(placement_weight(0, false), 1U);
  EXPECT_EQ(placement_weight((1ULL << 30U) - 1, false), 1U);
  EXPECT_EQ(placement_weight(5ULL << 30U, false), 5U);
  EXPECT_EQ(placement_weight(5ULL << 30U, true), 0U);
}

}  // namespace
}  // namespace idunno

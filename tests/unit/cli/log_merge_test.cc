#include "cli/log_merge.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bus/base/random.h"

namespace idunno::cli {
namespace {

constexpr NodeId kOne{1};
constexpr NodeId kTwo{2};

LogLine line(WallMs at, const std::string& text) { return {at, LogLevel::info, text}; }

std::vector<std::string> drain(LogMerge& merge) {
  std::vector<std::string> texts;
  while (auto next = merge.next()) texts.push_back(next->line.text);
  return texts;
}

TEST(LogMerge, WaitsForMachinesThatMayHaveAnOlderLine) {
  LogMerge merge;
  merge.open(kOne);
  merge.open(kTwo);
  merge.add(kOne, {line(10, "a"), line(30, "c")}, {});
  EXPECT_FALSE(merge.next());
  merge.add(kTwo, {line(20, "b")}, {});
  EXPECT_EQ(drain(merge), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(merge.waiting(kOne), 1U);
  merge.close(kTwo);
  EXPECT_EQ(drain(merge), (std::vector<std::string>{"c"}));
  EXPECT_FALSE(merge.done());
  merge.close(kOne);
  EXPECT_TRUE(merge.done());
}

TEST(LogMerge, OneMachineKeepsItsOrderWhenItsClockWasSetBack) {
  LogMerge merge;
  merge.add(kOne, {line(100, "first"), line(50, "clock set back"), line(0, "no time"), line(120, "last")}, {});
  merge.add(kTwo, {line(90, "x"), line(110, "y")}, NodeId{3});
  EXPECT_EQ(drain(merge), (std::vector<std::string>{"x", "first", "clock set back", "no time", "y", "last"}));
}

TEST(LogMerge, SaysWhoseLineItIsAndWhoKeptIt) {
  LogMerge merge;
  merge.add(kTwo, {line(1, "x")}, NodeId{3});
  const auto next = merge.next();
  ASSERT_TRUE(next);
  EXPECT_EQ(next->node, kTwo);
  EXPECT_EQ(next->kept_by, NodeId{3});
}

TEST(LogMerge, PagesInAnyOrderOfArrivalGiveTheOrderOfTime) {
  Random random(3);
  for (int round = 0; round < 50; ++round) {
    std::map<NodeId, std::vector<LogLine>> logs;
    std::vector<std::pair<WallMs, std::string>> expected;
    for (std::uint32_t node = 1; node <= 4; ++node) {
      WallMs at = 0;
      for (std::uint64_t n = random.below(40); n > 0; --n) {
        at += 4 + random.below(50) * 4;
        logs[NodeId{node}].push_back(line(at + node - 1, std::to_string(at + node - 1)));
        expected.emplace_back(at + node - 1, std::to_string(at + node - 1));
      }
    }
    std::sort(expected.begin(), expected.end());
    LogMerge merge;
    for (std::uint32_t node = 1; node <= 4; ++node) merge.open(NodeId{node});
    std::map<NodeId, std::size_t> sent;
    std::vector<std::string> seen;
    for (int open = 4; open > 0;) {
      const NodeId node{1 + static_cast<std::uint32_t>(random.below(4))};
      auto& log = logs[node];
      std::size_t& at = sent[node];
      if (at > log.size()) continue;
      if (at == log.size()) {
        merge.close(node);
        ++at;
        --open;
      } else {
        const std::size_t page = std::min<std::size_t>(1 + random.below(5), log.size() - at);
        const auto begin = log.begin() + static_cast<std::ptrdiff_t>(at);
        merge.add(node, std::vector<LogLine>(begin, begin + static_cast<std::ptrdiff_t>(page)), {});
        at += page;
      }
      for (auto& text : drain(merge)) seen.push_back(text);
    }
    ASSERT_EQ(seen.size(), expected.size());
    for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], expected[i].second);
  }
}

}  // namespace
}  // namespace idunno::cli

#include "nodes/swim/suspicion.h"

#include <gtest/gtest.h>

namespace idunno {
namespace {

using namespace std::chrono_literals;

// log(2) / log(4) is a half, log(3) / log(4) is 0.79248.
TEST(Suspicion, EndsSoonerTheMoreConfirm) {
  struct Case {
    std::uint32_t confirmations;
    std::uint32_t k;
    Duration elapsed;
    Duration left;
  };
  for (const Case& c : {Case{0, 3, 0s, 30s}, Case{0, 3, 2s, 28s}, Case{1, 3, 0s, 16s}, Case{1, 3, 10s, 6s},
                        Case{2, 3, 0s, 7'810'525us}, Case{3, 3, 0s, 2s}, Case{3, 3, 2s, 0s}, Case{3, 3, 5s, -3s},
                        Case{7, 3, 0s, 2s}, Case{0, 0, 0s, 2s}, Case{5, 0, 1s, 1s}, Case{1, 1, 0s, 2s}, Case{0, 1, 0s, 30s}}) {
    EXPECT_EQ(remaining_suspicion(c.confirmations, c.k, c.elapsed, 2s, 30s), c.left)
        << c.confirmations << " of " << c.k << " after " << c.elapsed.count();
  }
}

TEST(Suspicion, MinimumGrowsWithTheLogarithmOfTheMembers) {
  SwimConfig config;
  config.probe_interval = 500ms;
  config.suspicion_multiplier = 3;
  config.suspicion_max_factor = 4;
  for (const auto& [members, min] : {std::pair<std::size_t, Duration>{1, 1500ms}, {10, 1500ms}, {100, 3000ms}, {1000, 4500ms}}) {
    EXPECT_EQ(suspicion_min(config, members), min) << members;
    EXPECT_EQ(suspicion_max(config, members), min * 4) << members;
  }
}

TEST(Suspicion, NewsIsToldAMultipleOfTheLogarithmTimes) {
  for (const auto& [members, times] :
       {std::pair<std::size_t, std::uint32_t>{1, 2}, {2, 2}, {9, 4}, {10, 5}, {99, 8}, {999, 12}}) {
    EXPECT_EQ(retransmissions(members), times) << members;
  }
}

}  // namespace
}  // namespace idunno

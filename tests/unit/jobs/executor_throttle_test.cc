// When an executor is stopped for a moment, and when it goes on.

#include "nodes/jobs/executor_throttle.h"

#include <gtest/gtest.h>

namespace idunno {
namespace {

using std::chrono::milliseconds;

constexpr ProcessorLoad kCrowded{8, 2};
constexpr Duration kAhead = kThrottleLead + milliseconds(1);
constexpr Duration kLook = milliseconds(20);

class ExecutorThrottleTest : public ::testing::Test {
 protected:
  /// Looks until the executor is stopped, or `looks` are over. Returns how many it took.
  int look(int looks, Duration gained, Duration lead = kAhead, ProcessorLoad load = kCrowded) {
    const bool before = throttle.stopped();
    for (int i = 1; i <= looks; ++i) {
      now += kLook;
      throttle.look(lead, gained, load, now);
      if (throttle.stopped() != before) return i;
    }
    return looks + 1;
  }
  ExecutorThrottle throttle;
  Time now{std::chrono::seconds(100)};
};

TEST_F(ExecutorThrottleTest, StopsWhatRunsAwayUntilItIsBackAtTheCommonPace) {
  EXPECT_EQ(look(1, kThrottleBurst), 2) << "not more than it may";
  EXPECT_EQ(look(1, milliseconds(1)), 1);
  EXPECT_TRUE(throttle.stopped());
  EXPECT_EQ(look(20, -kLook), 3) << "51 ms at 20 ms a look";
  EXPECT_FALSE(throttle.stopped());
}

TEST_F(ExecutorThrottleTest, LeavesAloneWhatGoesAtTheCommonPaceHoweverFarItIsAhead) {
  EXPECT_EQ(look(100, Duration::zero(), std::chrono::seconds(10)), 101);
}

TEST_F(ExecutorThrottleTest, LeavesAloneWhatIsNotAhead) {
  EXPECT_EQ(look(10, kLook, kThrottleLead), 11);
  EXPECT_EQ(look(10, kLook, -std::chrono::seconds(1)), 11) << "it catches up";
}

TEST_F(ExecutorThrottleTest, LetsGoWhatIsNoLongerAhead) {
  ASSERT_EQ(look(5, milliseconds(60)), 1);
  EXPECT_EQ(look(5, Duration::zero(), Duration::zero()), 1);
}

TEST_F(ExecutorThrottleTest, NoProcessorIdlesForIt) {
  EXPECT_EQ(look(20, kLook, kAhead, {3, 2}), 21) << "itself, who looks, and one more: it would leave a processor";
  EXPECT_EQ(look(20, kLook, kAhead, {4, 2}), 1) << "two more";
  EXPECT_EQ(look(1, -milliseconds(1), kAhead, {3, 2}), 2) << "these still fill two processors";
  EXPECT_EQ(look(1, -milliseconds(1), kAhead, {2, 2}), 1) << "one of them has ended";
  EXPECT_EQ(look(20, kLook, kAhead, {}), 21) << "not known";
}

TEST_F(ExecutorThrottleTest, NoStopIsLong) {
  ASSERT_EQ(look(1, kThrottleBurst * 100), 1);
  EXPECT_EQ(look(100, Duration::zero()), kThrottleTimeMax / kLook);
  EXPECT_EQ(look(3, kLook - milliseconds(5)), 4) << "and all is forgotten";
}

TEST_F(ExecutorThrottleTest, CreditFromSlowTimesIsBounded) {
  look(100, -kLook);
  EXPECT_EQ(look(1, kThrottleBurst + kThrottleCredit), 2);
  EXPECT_EQ(look(1, milliseconds(1)), 1);
  throttle.reset();
  EXPECT_FALSE(throttle.stopped());
}

}  // namespace
}  // namespace idunno

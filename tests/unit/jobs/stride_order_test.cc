#include "nodes/jobs/stride_order.h"

#include <gtest/gtest.h>

#include <vector>

namespace idunno {
namespace {

constexpr JobId kOne{1};
constexpr JobId kTwo{2};
constexpr JobId kThree{3};

std::vector<JobId> order_of(const StrideOrder& stride) {
  std::vector<JobId> jobs;
  for (const StrideOrder::Key& key : stride.order()) jobs.push_back(key.job);
  return jobs;
}

class Stride : public testing::Test {
 protected:
  static void add(StrideOrder& into, JobId job, std::uint32_t weight = 1000, std::int32_t priority = 0, bool urgent = false) {
    into.add(job, weight, priority, urgent);
    into.set_runnable(job, true, false);
  }
  StrideOrder stride;
};

TEST_F(Stride, LeasesCountByWeight) {
  add(stride, kOne, 3000);
  add(stride, kTwo, 1000);
  stride.leased(kOne, 20);
  stride.leased(kTwo, 10);
  EXPECT_EQ(order_of(stride), (std::vector<JobId>{kOne, kTwo}));
  stride.leased(kOne, 20);
  EXPECT_EQ(order_of(stride), (std::vector<JobId>{kTwo, kOne}));
}

TEST_F(Stride, AResultKeepsThePlaceAndALossGivesItBack) {
  add(stride, kOne);
  const std::uint64_t before = stride.pass(kOne);
  stride.leased(kOne, 16);
  stride.leased(kOne, 16);
  stride.served(kOne, 16);
  EXPECT_EQ(stride.pass(kOne), before + 32 * kPassPerQuery);
  EXPECT_EQ(stride.served_pass(kOne), before + 16 * kPassPerQuery);
  stride.lost(kOne, 16);
  EXPECT_EQ(stride.pass(kOne), before + 16 * kPassPerQuery);
}

TEST_F(Stride, UrgentGoesBeforePriorityAndPriorityBeforeAnyPass) {
  add(stride, kOne);
  add(stride, kTwo, 1000, INT32_MAX);
  add(stride, kThree, 1000, INT32_MIN, true);
  stride.leased(kTwo, 1000);
  stride.leased(kThree, 1'000'000);
  EXPECT_EQ(order_of(stride), (std::vector<JobId>{kThree, kTwo, kOne}));
}

TEST_F(Stride, AnUrgentJobStartsAmongUrgentOnes) {
  add(stride, kOne);
  stride.leased(kOne, 10);
  stride.served(kOne, 10);
  add(stride, kTwo, 1000, 0, true);
  stride.leased(kTwo, 500);
  stride.served(kTwo, 500);
  stride.add(kThree, 1000, 0, true);
  EXPECT_EQ(stride.pass(kThree), stride.pass(kTwo));
}

TEST_F(Stride, AShiftMovesAJobBothWays) {
  add(stride, kOne);
  add(stride, kTwo);
  const std::uint64_t before = stride.served_pass(kOne);
  stride.shift(kOne, 500);
  EXPECT_EQ(stride.served_pass(kOne), before + 500);
  EXPECT_EQ(order_of(stride), (std::vector<JobId>{kTwo, kOne}));
  stride.shift(kOne, -1500);
  EXPECT_EQ(stride.served_pass(kOne), before - 1000);
  EXPECT_EQ(order_of(stride), (std::vector<JobId>{kOne, kTwo}));
  stride.shift(kOne, INT64_MIN + 1);
  EXPECT_EQ(stride.served_pass(kOne), 0U) << "not below nothing";
}

TEST_F(Stride, RoundRobinCountsBatchesAndForgetsWeights) {
  StrideOrder turns(SchedulePolicy::round_robin);
  add(turns, kOne, 3000);
  add(turns, kTwo, 1000);
  EXPECT_EQ(turns.cost(kOne, 16), turns.cost(kTwo, 1));
  turns.leased(kOne, 16);
  turns.leased(kTwo, 1);
  EXPECT_EQ(turns.pass(kOne), turns.pass(kTwo));
}

TEST_F(Stride, LeastLoadForgetsWhatIsDone) {
  StrideOrder load(SchedulePolicy::least_load);
  add(load, kOne);
  add(load, kTwo);
  load.leased(kOne, 100);
  load.leased(kTwo, 50);
  EXPECT_EQ(order_of(load), (std::vector<JobId>{kTwo, kOne}));
  load.served(kOne, 100);
  EXPECT_EQ(order_of(load), (std::vector<JobId>{kOne, kTwo}));
}

}  // namespace
}  // namespace idunno

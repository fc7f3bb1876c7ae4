#include "nodes/jobs/isolation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

#include "bus/base/random.h"

namespace idunno {
namespace {

using Places = std::vector<std::uint32_t>;
/// Whether an executor that computes these places ends.
using Kills = std::function<bool(const Places&)>;

struct Outcome {
  Places quarantined;
  bool given_up = false;
  std::uint32_t deaths = 0;
  std::uint32_t leases = 0;
};

Places computed_places(const BatchIsolation& isolation, std::uint32_t queries) {
  const auto range = isolation.step() == BatchIsolation::Step::trial ? isolation.trial() : BatchIsolation::Trial{0, queries};
  const Places masked = isolation.masked();
  Places computed;
  for (std::uint32_t place = range.from; place < range.to; ++place) {
    if (!std::binary_search(masked.begin(), masked.end(), place)) computed.push_back(place);
  }
  return computed;
}

Outcome run(std::uint32_t queries, const Kills& kills) {
  constexpr std::uint32_t kLeasesMax = 100'000;
  BatchIsolation isolation(queries);
  Outcome outcome;
  while (outcome.leases < kLeasesMax) {
    const auto step = isolation.step();
    if (step == BatchIsolation::Step::give_up) {
      outcome.given_up = true;
      break;
    }
    ++outcome.leases;
    if (kills(computed_places(isolation, queries))) {
      ++outcome.deaths;
      isolation.died();
    } else if (step == BatchIsolation::Step::trial) {
      isolation.passed();
    } else {
      break;  // committed
    }
  }
  EXPECT_LT(outcome.leases, kLeasesMax);
  outcome.quarantined = isolation.quarantined();
  return outcome;
}

Kills any_of(const std::set<std::uint32_t>& poison) {
  return [poison](const Places& computed) {
    return std::any_of(computed.begin(), computed.end(), [&](std::uint32_t place) { return poison.contains(place); });
  };
}

TEST(BatchIsolation, BeginsWithZerosOnly) {
  BatchIsolation isolation(4);
  EXPECT_EQ(isolation.step(), BatchIsolation::Step::trial);
  EXPECT_EQ(isolation.trial(), (BatchIsolation::Trial{0, 4}));
  EXPECT_EQ(isolation.masked(), (Places{0, 1, 2, 3}));
  isolation.passed();
  EXPECT_EQ(isolation.trial(), (BatchIsolation::Trial{0, 2}));
  EXPECT_TRUE(isolation.masked().empty());
}

TEST(BatchIsolation, FindsEachSingleQueryOfEachSize) {
  for (std::uint32_t queries = 1; queries <= 33; ++queries) {
    for (std::uint32_t poison = 0; poison < queries; ++poison) {
      const Outcome outcome = run(queries, any_of({poison}));
      EXPECT_FALSE(outcome.given_up);
      EXPECT_EQ(outcome.quarantined, Places{poison}) << queries;
      EXPECT_LE(outcome.leases, 1 + 6 + 2 + 1U) << queries << " " << poison;  // control, log2(33), twice alone, whole
    }
  }
}

TEST(BatchIsolation, TwoDeathsAloneAreNeeded) {
  BatchIsolation isolation(1);
  isolation.passed();  // the control
  ASSERT_EQ(isolation.trial(), (BatchIsolation::Trial{0, 1}));
  EXPECT_FALSE(isolation.died());
  EXPECT_EQ(isolation.step(), BatchIsolation::Step::trial);
  EXPECT_TRUE(isolation.quarantined().empty());
  EXPECT_TRUE(isolation.died());
  EXPECT_EQ(isolation.last_quarantined(), 0U);
  EXPECT_EQ(isolation.step(), BatchIsolation::Step::whole);
  EXPECT_EQ(isolation.masked(), Places{0});
}

TEST(BatchIsolation, FindsAnySetOfQueriesAndDoesNotLookTwice) {
  Random random(7);
  for (int round = 0; round < 300; ++round) {
    const auto queries = static_cast<std::uint32_t>(1 + random.below(70));
    std::set<std::uint32_t> poison;
    for (std::uint64_t i = random.below(queries + 1); i > 0; --i)
      poison.insert(static_cast<std::uint32_t>(random.below(queries)));
    if (poison.empty()) continue;
    const Outcome outcome = run(queries, any_of(poison));
    EXPECT_FALSE(outcome.given_up);
    EXPECT_EQ(outcome.quarantined, Places(poison.begin(), poison.end()));
    EXPECT_LE(outcome.deaths, poison.size() * (7 + 3)) << queries;
  }
}

TEST(BatchIsolation, AModelThatEndsItsExecutorOnZerosIsGivenUpAtOnce) {
  const Outcome outcome = run(64, [](const Places&) { return true; });
  EXPECT_TRUE(outcome.given_up);
  EXPECT_EQ(outcome.deaths, 2U);
  EXPECT_TRUE(outcome.quarantined.empty());
}

TEST(BatchIsolation, AnAccidentIsNobodysFault) {
  // Somebody killed the executors; all that follows goes well: nobody is in quarantine and the batch is whole.
  const Outcome calm = run(16, [](const Places&) { return false; });
  EXPECT_FALSE(calm.given_up);
  EXPECT_TRUE(calm.quarantined.empty());
  // One accident at each possible moment beside a real poison query changes nothing in the outcome.
  for (std::uint32_t accident = 0; accident < 12; ++accident) {
    std::uint32_t lease = 0;
    const Outcome outcome = run(16, [&](const Places& computed) { return lease++ == accident || any_of({5})(computed); });
    EXPECT_FALSE(outcome.given_up) << accident;
    EXPECT_EQ(outcome.quarantined, Places{5}) << accident;
  }
}

TEST(BatchIsolation, QueriesThatKillOnlyTogetherAreGivenUpAfterSoManyRounds) {
  std::uint32_t whole = 0;
  const Outcome outcome = run(16, [&](const Places& computed) {
    if (computed.size() == 16) ++whole;
    return computed.size() > 8;  // of memory, say
  });
  EXPECT_TRUE(outcome.given_up);
  EXPECT_TRUE(outcome.quarantined.empty());
  EXPECT_EQ(whole, kIsolationRounds - 1) << "after each search in vain but the last, the whole is tried";
}

}  // namespace
}  // namespace idunno

// Clocks jump and processors are busy: nobody is called dead for it.

#include <gtest/gtest.h>

#include <thread>

#include "tests/chaos/work.h"

namespace idunno::testing {
namespace {

TEST_F(ChaosShort, ClockJumpsChangeNothing) {
  if (!shell("ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1")) GTEST_SKIP() << "needs faketime";
  Lab::Options options = Lab::Options::of(3);
  options.fake_clock = true;
  Lab lab(options);
  ASSERT_TRUE(lab.up());
  Work work(lab);
  work.begin();
  ASSERT_TRUE(work.reached(10));
  const auto epoch = lab.status().value("epoch", 0);
  lab.jump_clock(1, 86400);
  lab.jump_clock(2, -3600);
  work.put_file();
  lab.jump_clock(1, -86400);
  work.check();
  work.check_whole();
  work.check_files();
  EXPECT_EQ(lab.status().value("epoch", 0), epoch);  // no election: elections go by the monotonic clock
}

/// At 100 % CPU nobody dies and nobody is elected. MINUTES sets the time.
TEST_F(ChaosLong, BusyProcessorsKillNobody) {
  Lab lab(Lab::Options{});
  ASSERT_TRUE(lab.up());
  Work work(lab);
  const auto epoch = lab.status().value("epoch", 0);
  const char* given = std::getenv("MINUTES");
  const auto minutes = std::chrono::minutes(given != nullptr ? std::stol(given) : 10);
  lab.burn(2 * static_cast<int>(std::thread::hardware_concurrency()));
  const auto end = std::chrono::steady_clock::now() + minutes;
  while (std::chrono::steady_clock::now() < end) {
    work.begin(0);
    work.check();
    if (HasFailure()) break;
  }
  lab.calm();
  EXPECT_EQ(lab.status().value("epoch", 0), epoch);
  const nlohmann::json history = lab.expect(0, {"member", "history", "--json"}).json();
  ASSERT_TRUE(history.is_object());
  ASSERT_FALSE(history.at("events").empty());  // they joined, at least
  for (const auto& change : history.at("events")) EXPECT_NE(change.at("state"), "dead") << change.dump();
}

}  // namespace
}  // namespace idunno::testing

#include "nodes/runtime/process_usage.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>

#include "bus/clock.h"

namespace idunno {
namespace {

// As in proc(5): pid, (name), state, then 21 figures up to the resident pages.
const char kStat[] =
    "4711 (a ) b) (c) S 1 4711 4711 0 -1 4194560 5000 0 7 0 120 35 0 0 20 0 3 0 987654 220000000 2500 18446744073709551615 1 1\n";

TEST(ProcessStat, IsReadBehindANameWithBracketsAndSpaces) {
  const auto stat = parse_process_stat(kStat);
  ASSERT_TRUE(stat.has_value());
  EXPECT_EQ(*stat, (ProcessStat{155, 987654, 2500}));
}

TEST(ProcessStat, OfAnotherFormIsNothing) {
  const std::string text = kStat;
  for (std::size_t length = 0; length < text.find("2500"); ++length) {
    EXPECT_FALSE(parse_process_stat(text.substr(0, length)).has_value()) << length;
  }
  EXPECT_FALSE(parse_process_stat("1 (x) S 1 1 1 0 -1 1 1 0 1 0 many 35 0 0 20 0 3 0 9 1 2 3").has_value());
}

/// A child that computes until it has used this much processor time, says so, and waits to be ended.
class BusyChild {
 public:
  explicit BusyChild(double seconds) {
    int ends[2];
    EXPECT_EQ(pipe(ends), 0);
    pid_ = fork();
    if (pid_ == 0) {
      while (static_cast<double>(clock()) / CLOCKS_PER_SEC < seconds) {
      }
      (void)!write(ends[1], "x", 1);
      while (true) pause();
    }
    char said = 0;
    EXPECT_EQ(read(ends[0], &said, 1), 1);
    close(ends[0]);
    close(ends[1]);
  }
  ~BusyChild() { end(); }
  void end() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }
  [[nodiscard]] int pid() const { return pid_; }

 private:
  int pid_ = 0;
};

TEST(ProcessUsageTest, CountsExecutorsAndForgetsNothingWhenTheyEnd) {
  ProcessUsage usage;
  const Time start = monotonic_now();
  EXPECT_EQ(usage.sample({}, start).cpu_milli, 0U) << "nothing to compare with yet";
  BusyChild child(0.2);
  const auto busy = usage.sample({child.pid()}, start + std::chrono::seconds(1));
  EXPECT_GE(busy.executor_cpu_s, 0.18);  // ticks of 10 ms
  EXPECT_GE(busy.cpu_milli, 180U);       // 0.2 s in what the caller says was one second
  EXPECT_GT(busy.executor_rss_bytes, 0U);
  EXPECT_GT(busy.rss_bytes, busy.executor_rss_bytes / 100);
  const auto idle = usage.sample({child.pid()}, start + std::chrono::seconds(1000));
  EXPECT_LT(idle.cpu_milli, 10U) << "the same processor time is not counted twice";
  const int gone = child.pid();
  child.end();
  const auto after = usage.sample({gone}, start + std::chrono::seconds(1001));
  EXPECT_EQ(after.executor_rss_bytes, 0U);
  EXPECT_GE(after.executor_cpu_s, busy.executor_cpu_s) << "a counter never falls";
  EXPECT_EQ(usage.age(start + std::chrono::seconds(1003)), std::chrono::seconds(2));
}

TEST(ProcessorLoad, CountsTheThreadsThatRunOrWait) {
  EXPECT_EQ(parse_runnable("1.44 0.97 1.59 3/345 18396"), 3U);
  EXPECT_EQ(parse_runnable("201.44 0.97 1.59 1234/2345 18396"), 1234U);
  for (const char* text : {"", "1.44", "1.44 0.97 1.59", "1.44 0.97 1.59 ", "1.44 0.97 1.59 3", "1.44 0.97 1.59 x/4 5"})
    EXPECT_EQ(parse_runnable(text), 0U) << text;
}

TEST(ProcessorLoad, OfThisMachineHoldsAtLeastThisThread) {
  EXPECT_GE(processor_load().runnable, 1U);
  EXPECT_GE(processor_load().processors, 1U);
}

}  // namespace
}  // namespace idunno

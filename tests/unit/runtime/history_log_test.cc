#include "nodes/runtime/history_log.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>

namespace idunno {
namespace {

constexpr NodeId kSelf{1};

Time at_s(std::int64_t seconds) { return Time(std::chrono::seconds(seconds)); }

StatsNotice notice(std::int64_t seconds, bool running) {
  StatsNotice out;
  out.at_ms = 1'000'000 + static_cast<WallMs>(seconds) * 1000;
  JobReport job;
  job.id = JobId{3};
  job.spec.name = "cats";
  job.state = running ? JobState::running : JobState::done;
  job.leased = running ? 2 : 0;
  job.finished_ms = running ? 0 : out.at_ms;
  job.done = static_cast<std::uint64_t>(seconds) * 5;
  job.rate_milli_qps = 5000;
  job.window_latency = {50, 200'000, 1, 190'000, 210'000, 220'000, 230'000};
  out.stats.jobs.push_back(job);
  NodeReport node;
  node.id = NodeId{2};
  node.state = NodeState::alive;
  node.cpu_milli = 1700;
  out.nodes.push_back(node);
  return out;
}

std::vector<HistorySample> samples_of(const Bytes& text) {
  std::vector<HistorySample> samples;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    auto sample = parse_history_line(std::string_view(text).substr(at, end - at));
    EXPECT_TRUE(sample.ok());
    if (sample) samples.push_back(*sample);
    at = end + 1;
  }
  return samples;
}

/// Runs second by second as the shell does; writes take effect at once unless `fails`.
struct World {
  explicit World(Epoch epoch = Epoch{7}) : log(epoch) {}
  void run(std::int64_t from, std::int64_t to, bool running) {
    for (std::int64_t second = from; second < to; ++second) {
      log.stats(notice(second, running), kSelf, at_s(second));
      auto write = log.take_write(at_s(second));
      if (!write) continue;
      ++writes;
      if (fails) {
        log.written(false, at_s(second));
        continue;
      }
      if (write->begins_file) ++begun;
      files[write->path] = write->bytes;
      log.written(true, at_s(second));
    }
  }
  HistoryLog log;
  std::map<std::string, Bytes> files;
  int writes = 0;
  int begun = 0;
  bool fails = false;
};

TEST(HistoryLine, ComesBackAsItWas) {
  HistorySample sample;
  sample.at_ms = 123;
  sample.coordinator = "n1";
  sample.max_min_milli = 1042;
  sample.jobs = {{"j1", "a \"name\"", "m", "running", 10, 1, 5000, 3000, 4, {7, 1, 2, 3, 4, 5, 6}}};
  sample.nodes = {{"n2", "alive", 1700, 2, 3, 4, 5}};
  const std::string line = history_line(sample);
  const auto back = parse_history_line(line);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, sample);
  for (std::size_t length = 0; length + 2 < line.size(); ++length) {
    EXPECT_FALSE(parse_history_line(line.substr(0, length)).ok()) << length;
  }
  EXPECT_FALSE(parse_history_line("{\"at_ms\":\"soon\"}").ok());
  EXPECT_FALSE(parse_history_line("{\"at_ms\":1,\"jobs\":[3]}").ok());
  EXPECT_TRUE(parse_history_line("{\"at_ms\":1,\"of_a_later_version\":[3]}").ok());
}

TEST(HistoryPath, SortsByTimeAndIsTheOnlyFormThatIsOurs) {
  EXPECT_LT(history_path(999, Epoch{9}), history_path(1000, Epoch{10}));
  EXPECT_EQ(history_begin(history_path(1764000000000, Epoch{7})), WallMs{1764000000000});
  for (const char* path : {"/system/history/notes.jsonl", "/data/00001764000000000-e7.jsonl", "/system/history/", ""}) {
    EXPECT_EQ(history_begin(path), std::nullopt) << path;
  }
}

TEST(History, NothingIsWrittenWhileNothingRuns) {
  World world;
  world.run(0, 100'000, false);
  EXPECT_EQ(world.writes, 0);
}

TEST(History, ASampleEveryTenSecondsWrittenEveryThirtyAndAtTheEnd) {
  World world;
  world.run(0, 95, true);
  ASSERT_EQ(world.files.size(), 1U);
  EXPECT_EQ(samples_of(world.files.begin()->second).size(), 7U) << "up to the write at 70 s";
  EXPECT_EQ(world.writes, 2) << "30 s after the first sample, and 30 s later";
  world.run(95, 1000, false);
  EXPECT_EQ(world.writes, 3) << "one at the end, and then never again";
  const auto samples = samples_of(world.files.begin()->second);
  ASSERT_EQ(samples.size(), 10U) << "9 while it ran, and one of the end";
  for (std::size_t i = 0; i + 1 < samples.size(); ++i) EXPECT_EQ(samples[i].at_ms, 1'000'000 + 10'000 * (i + 1));
  EXPECT_EQ(samples.back().jobs[0].state, "done");
  EXPECT_EQ(samples[0].jobs[0].latency.p99_us, 230'000U);
  EXPECT_EQ(samples[0].nodes[0].cpu_milli, 1700U);
}

TEST(History, AJobThatHasNoLeaseOutForAMomentHasNotEnded) {
  HistoryLog log(Epoch{7});
  for (std::int64_t second = 0; second <= 30; ++second) {
    StatsNotice now = notice(second, true);
    now.stats.jobs[0].leased = second % 2 == 0 ? 1 : 0;
    now.stats.jobs[0].window_done = 10;
    log.stats(now, kSelf, at_s(second));
    EXPECT_FALSE(log.take_write(at_s(second)).has_value()) << second;
  }
  const auto write = log.take_write(at_s(40));
  ASSERT_TRUE(write.has_value());
  EXPECT_EQ(samples_of(write->bytes).size(), 3U);
}

TEST(History, AFileAnHourAndNoSampleLost) {
  World world;
  world.run(0, 3 * 3600, true);
  world.run(3 * 3600, 3 * 3600 + 100, false);
  EXPECT_EQ(world.files.size(), 3U);
  EXPECT_EQ(world.begun, 3);
  std::set<WallMs> times;
  for (const auto& [path, bytes] : world.files) {
    EXPECT_LE(bytes.size(), kHistoryFileBytesMax);
    for (const HistorySample& sample : samples_of(bytes)) EXPECT_TRUE(times.insert(sample.at_ms).second) << "told twice";
  }
  EXPECT_EQ(times.size(), 3U * 360U);
}

TEST(History, EachReignHasFilesOfItsOwn) {
  World one(Epoch{7});
  World two(Epoch{8});
  one.run(0, 60, true);
  two.run(0, 60, true);
  ASSERT_EQ(one.files.size(), 1U);
  ASSERT_EQ(two.files.size(), 1U);
  EXPECT_NE(one.files.begin()->first, two.files.begin()->first);
}

TEST(History, AFailedWriteIsTriedAgainWithItsSamplesAndGivenUpInTheEnd) {
  World world;
  world.fails = true;
  world.run(0, 100, true);
  EXPECT_EQ(world.writes, 2) << "30 s after the first sample, and 30 s later";
  world.fails = false;
  world.run(100, 140, true);
  ASSERT_EQ(world.files.size(), 1U);
  EXPECT_EQ(samples_of(world.files.begin()->second).front().at_ms, 1'010'000U) << "the first sample is not lost";

  World broken;
  broken.fails = true;
  broken.run(0, 20, true);
  broken.run(20, 100'000, false);
  EXPECT_EQ(broken.writes, static_cast<int>(kHistoryRetriesMax) + 1) << "then nothing more is tried";
  broken.fails = false;
  broken.run(100'000, 100'060, true);
  EXPECT_EQ(broken.files.size(), 1U) << "and the next job's history is written";
}

TEST(History, WhatCannotBeWrittenIsBounded) {
  World world;
  StatsNotice large = notice(0, true);
  large.stats.jobs.resize(200, large.stats.jobs.front());
  for (JobReport& job : large.stats.jobs) job.spec.name = std::string(3000, 'x');
  for (std::int64_t second = 0; second < 1'000; ++second) world.log.stats(large, kSelf, at_s(second));
  const auto write = world.log.take_write(at_s(1'000));
  ASSERT_TRUE(write.has_value());
  EXPECT_LE(write->bytes.size(), kHistoryFileBytesMax);
  const auto samples = samples_of(write->bytes);
  ASSERT_FALSE(samples.empty());
  EXPECT_EQ(samples[0].jobs.size(), kHistoryJobsMax);
}

}  // namespace
}  // namespace idunno

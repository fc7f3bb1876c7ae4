#include "cli/watch_frame.h"

#include <gtest/gtest.h>

#include "cli/watch_keys.h"

namespace idunno::cli {
namespace {

constexpr Time kStart{std::chrono::seconds(100)};
constexpr WallMs kWall = 1'780'000'000'000;

Event event(const char* type, NodeId node, const char* text = "", JobId job = {}, std::int64_t batch = -1) {
  Event out;
  out.at_ms = kWall;
  out.node = node;
  out.type = type;
  out.job = job;
  out.batch = batch;
  out.text = text;
  return out;
}

StatsNotice numbers(std::size_t jobs, std::size_t nodes) {
  StatsNotice notice;
  notice.at_ms = kWall;
  for (std::size_t i = 1; i <= jobs; ++i) {
    JobReport job;
    job.id = JobId{i};
    job.spec.name = i == 1 ? "cats\x1b[2J" : i == 2 ? "猫の写真をたくさん調べる" : "resnet18";
    job.spec.model = "resnet18";
    job.spec.queries = 100;
    job.spec.repeat = i == 3 ? 0 : 1;
    job.done = 25 * (i % 5);
    job.state = static_cast<JobState>(1 + (i - 1) % 5);
    job.rate_milli_qps = 12'345 * i;
    job.latency.count = 10;
    job.latency.p99_us = 4'538'000;
    job.reason = "asked \x07 for";
    notice.stats.jobs.push_back(job);
  }
  for (std::size_t i = 1; i <= nodes; ++i) {
    NodeReport node;
    node.id = NodeId{static_cast<std::uint32_t>(i)};
    node.state = i % 7 == 0 ? NodeState::dead : NodeState::alive;
    node.coordinator = i == 1;
    node.slots = 2;
    node.running = 2;
    node.cpu_milli = 1900;
    node.models = {"resnet18:1"};
    notice.nodes.push_back(node);
  }
  notice.stats.fairness.jobs = 2;
  notice.stats.fairness.max_min_milli = 1009;
  notice.stats.fairness.windows = 50;
  notice.stats.fairness.in10_windows = 49;
  notice.stats.fairness.worst_max_min_milli = 1400;
  notice.stats.fairness.worst_cause = "n3 died";
  return notice;
}

ClusterPicture busy(std::size_t jobs, std::size_t nodes) {
  ClusterPicture picture("local-猫");
  StatusReply status;
  status.coordinator = NodeId{1};
  status.standby = NodeId{2};
  status.epoch = Epoch{3};
  status.phase = "inference";
  status.voters = {NodeId{1}, NodeId{2}, NodeId{3}};
  picture.apply(status, kStart);
  picture.apply(numbers(jobs, nodes), kStart);
  picture.apply(event("batch_started", NodeId{1}, "slot 0", JobId{1}, 4), kStart);
  for (std::uint32_t i = 0; i < 30; ++i)
    picture.apply(event("node_dead", NodeId{2 + i % 2}, "n7: \xff silent \xe2\x80\xae 🎉"), kStart);
  return picture;
}

FrameInput at(const ClusterPicture& picture, std::size_t width, std::size_t height) {
  return {picture, {}, kStart, kWall, width, height, Glyphs::unicode};
}

std::string joined(const Frame& frame) {
  std::string out;
  for (const TextLine& line : frame.lines) out += line.plain() + "\n";
  return out;
}

void expect_fits(const FrameInput& input) {
  const Frame frame = render_frame(input);
  ASSERT_EQ(frame.lines.size(), input.height);
  for (const TextLine& line : frame.lines) {
    const std::string text = line.plain();
    ASSERT_EQ(columns_of(text), input.width) << input.width << "x" << input.height << ": " << text;
    for (const char c : text) ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7F) << text;
    if (input.glyphs != Glyphs::ascii) continue;
    for (const char c : text) ASSERT_LT(static_cast<unsigned char>(c), 0x80U) << text;
  }
}

TEST(WatchFrame, FillsAnyTerminalExactlyAndLetsNoCommandThrough) {
  for (const auto& [jobs, nodes] : {std::pair<std::size_t, std::size_t>{0, 0}, {1, 3}, {12, 30}}) {
    ClusterPicture picture = busy(jobs, nodes);
    if (jobs == 0) picture = ClusterPicture("");
    for (std::size_t width = 1; width <= 220; width += width < 100 ? 1 : 17) {
      for (const std::size_t height : {1U, 2U, 3U, 4U, 5U, 7U, 8U, 12U, 13U, 14U, 20U, 24U, 60U}) {
        FrameInput input = at(picture, width, height);
        for (int pane = 0; pane < kPanes; ++pane) {
          input.ui.pane = static_cast<Pane>(pane);
          input.ui.scroll = height * static_cast<std::size_t>(pane);
          input.ui.help = (width + height) % 5 == 0;
          input.ui.paused = width % 3 == 0;
          input.ui.batches = width % 2 == 0;
          input.glyphs = height % 2 == 0 ? Glyphs::unicode : Glyphs::ascii;
          input.now = kStart + std::chrono::milliseconds(width % 4 == 0 ? 0 : 3000);
          expect_fits(input);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST(WatchFrame, NothingIsDrawnOnATerminalOfNoSize) {
  EXPECT_TRUE(render_frame(at(busy(1, 1), 0, 10)).lines.empty());
  EXPECT_TRUE(render_frame(at(busy(1, 1), 10, 0)).lines.empty());
}

TEST(WatchFrame, ShowsJobsNodesFairnessAndEvents) {
  const std::string screen = joined(render_frame(at(busy(2, 3), 160, 40)));
  for (const char* text :
       {"25%", "cats?[2J", "猫の写真", "coordinator n1", "standby n2", "epoch 3", "phase inference", "4538", "12.3",
        "★ coordinator", "j1/b4", "190%", "max/min 1.009", "within 10% in 98%", "n3 died", "node_dead", "37.0 queries/s"}) {
    EXPECT_NE(screen.find(text), std::string::npos) << text << "\n" << screen;
  }
}

TEST(WatchFrame, TheSmallestWindowsStillTellRatesOfJobs) {
  const std::string screen = joined(render_frame(at(busy(2, 3), 20, 5)));
  EXPECT_NE(screen.find("j1"), std::string::npos) << screen;
  EXPECT_NE(screen.find("12.3"), std::string::npos) << screen;
  EXPECT_NE(screen.find("24.7"), std::string::npos) << screen;
}

TEST(WatchFrame, MoreColumnsComeWithMoreWidth) {
  const ClusterPicture picture = busy(2, 3);
  EXPECT_EQ(joined(render_frame(at(picture, 60, 24))).find("WEIGHT"), std::string::npos);
  EXPECT_NE(joined(render_frame(at(picture, 200, 24))).find("WEIGHT"), std::string::npos);
}

TEST(WatchFrame, TheSameEventAgainAndAgainIsOneLine) {
  ClusterPicture picture("c");
  for (int i = 0; i < 8; ++i) picture.apply(event("block_repaired", NodeId{2}, "32 blocks copied to n5"), kStart);
  picture.apply(event("block_repaired", NodeId{2}, "6 blocks copied to n5"), kStart);
  const auto lines = event_lines(at(picture, 100, 24));
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_NE(lines[0].plain().find("8 times: 32 blocks copied to n5"), std::string::npos) << lines[0].plain();
  EXPECT_EQ(lines[1].plain().find("times"), std::string::npos);
}

TEST(WatchFrame, SaysHowManyAreLeftOut) {
  const std::string screen = joined(render_frame(at(busy(40, 30), 100, 24)));
  EXPECT_NE(screen.find("more jobs"), std::string::npos) << screen;
  EXPECT_NE(screen.find("more nodes"), std::string::npos) << screen;
  EXPECT_NE(screen.find("node_dead"), std::string::npos) << "events keep a few lines\n" << screen;
}

TEST(WatchFrame, TellsOfACoordinatorThatIsBeingReplaced) {
  const ClusterPicture picture = busy(1, 3);
  FrameInput input = at(picture, 80, 24);
  EXPECT_EQ(joined(render_frame(input)).find("being replaced"), std::string::npos);
  input.now = kStart + std::chrono::milliseconds(2300);
  EXPECT_NE(joined(render_frame(input)).find("coordinator is being replaced, last data 2.3 s old"), std::string::npos);
  input.height = 5;
  EXPECT_NE(joined(render_frame(input)).find("being replaced"), std::string::npos);
}

TEST(WatchFrame, PausedIsSeenWhateverTheSize) {
  const ClusterPicture picture = busy(1, 3);
  for (const std::size_t height : {3U, 5U, 24U}) {
    FrameInput input = at(picture, 40, height);
    input.ui.paused = true;
    EXPECT_NE(joined(render_frame(input)).find("PAUSED"), std::string::npos) << height;
  }
}

TEST(WatchFrame, ScrollStopsAtBothEnds) {
  const ClusterPicture picture = busy(12, 30);
  FrameInput input = at(picture, 80, 12);
  input.ui.pane = Pane::jobs;
  input.ui.scroll = 1'000'000;
  const Frame end = render_frame(input);
  EXPECT_GT(end.scroll_max, 30U);
  input.ui.scroll = end.scroll_max;
  EXPECT_EQ(joined(render_frame(input)), joined(end));
}

TEST(WatchKeys, PanesScrollAndToggles) {
  WatchUi ui;
  press(Key::next, ui, 0, 1);
  EXPECT_EQ(ui.pane, Pane::jobs);
  press(Key::previous, ui, 0, 1);
  press(Key::previous, ui, 0, 1);
  EXPECT_EQ(ui.pane, Pane::events);
  press(Key::up, ui, 10, 4);  // back in time
  EXPECT_EQ(ui.scroll, 1U);
  press(Key::page_up, ui, 10, 4);
  EXPECT_EQ(ui.scroll, 5U);
  press(Key::home, ui, 10, 4);
  EXPECT_EQ(ui.scroll, 10U);
  press(Key::end, ui, 10, 4);
  EXPECT_EQ(ui.scroll, 0U);
  press(Key::two, ui, 10, 4);
  EXPECT_EQ(ui.pane, Pane::jobs);
  press(Key::down, ui, 1, 4);
  press(Key::page_down, ui, 1, 4);
  EXPECT_EQ(ui.scroll, 1U);
  press(Key::pause, ui, 0, 1);
  press(Key::help, ui, 0, 1);
  EXPECT_TRUE(ui.paused && ui.help);
}

}  // namespace
}  // namespace idunno::cli

#include "cli/live_view.h"

#include <gtest/gtest.h>

#include "cli/text.h"

namespace idunno::cli {
namespace {

StatsNotice busy() {
  StatsNotice notice;
  JobReport job;
  job.id = JobId{1};
  job.spec.name = "cats\x1b[2J";
  job.spec.queries = 100;
  job.done = 25;
  job.state = JobState::running;
  notice.stats.jobs = {job};
  NodeReport node;
  node.id = NodeId{1};
  node.state = NodeState::alive;
  notice.nodes = {node};
  return notice;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string out;
  for (const std::string& line : lines) out += line + "\n";
  return out;
}

TEST(LiveScreen, ShowsJobsNodesAndEvents) {
  Event event;
  event.node = NodeId{2};
  event.type = "node_dead";
  const std::string screen = joined(live_screen("all", busy(), NodeId{1}, {event}, 160, 40));
  EXPECT_NE(screen.find(" 25%"), std::string::npos) << screen;
  EXPECT_NE(screen.find("n1 *"), std::string::npos);
  EXPECT_NE(screen.find("node_dead"), std::string::npos);
}

TEST(LiveScreen, ShowsOnlyWhatWasAskedFor) {
  EXPECT_EQ(joined(live_screen("nodes", busy(), NodeId{1}, {}, 160, 40)).find("cats"), std::string::npos);
  EXPECT_EQ(joined(live_screen("jobs", busy(), NodeId{1}, {}, 160, 40)).find("n1 *"), std::string::npos);
}

TEST(LiveScreen, FitsAnyTerminalAndLetsNoCommandThrough) {
  std::deque<Event> events(50);
  for (std::size_t width = 1; width < 200; width += 13) {
    for (std::size_t height = 1; height < 40; height += 5) {
      const auto lines = live_screen("all", busy(), NodeId{1}, events, width, height);
      EXPECT_LE(lines.size(), height);
      for (const std::string& line : lines) {
        EXPECT_LE(display_width(line), width);
        EXPECT_EQ(line.find('\x1b'), std::string::npos);
      }
    }
  }
}

}  // namespace
}  // namespace idunno::cli

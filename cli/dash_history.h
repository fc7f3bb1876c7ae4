#pragma once
/// What the dashboard tells a browser: the state now, and the last minutes, so that a page that has just been opened (or has lost
/// its connection) is whole at once. Pure: everything that it is made from comes as an argument.

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "bus/security.h"
#include "cli/app.h"
#include "cli/watch_picture.h"

namespace idunno::cli {

class DashHistory {
 public:
  static constexpr std::size_t kSamplesMax = 600;  ///< one a second: ten minutes
  static constexpr std::size_t kJobsPerSampleMax = 24;
  static constexpr std::size_t kSpansMax = 4000;
  static constexpr WallMs kShortSpanMs = 60;    ///< shorter ones of the same job are drawn as one
  static constexpr WallMs kMergedSpanMs = 400;  ///< and that one is at most so long
  static constexpr std::size_t kEventsMax = 200;

  /// Takes the newest numbers of the picture. Once a second, when they have come.
  void sample(const ClusterPicture& picture, WallMs at);
  void add(const Event& event);
  void add(const BatchSpan& span);

  /// A message for all pages with what came since the last call; null when nothing did.
  [[nodiscard]] Json take_news(const ClusterPicture& picture, Time now);
  /// The newest sample.
  [[nodiscard]] Json tick(const ClusterPicture& picture, Time now, WallMs wall) const;
  /// Everything, for a page that has just been opened.
  [[nodiscard]] Json whole(const ClusterPicture& picture, Time now, WallMs wall) const;

 private:
  [[nodiscard]] Json running(const ClusterPicture& picture) const;

  std::deque<Json> samples_;
  std::deque<BatchSpan> spans_;
  std::deque<Event> events_;
  std::vector<Event> new_events_;
  std::vector<BatchSpan> new_spans_;
  /// Spans since the last sample, for the machines that each job used.
  std::vector<BatchSpan> since_sample_;
  WallMs sampled_at_ = 0;
  std::string told_banner_;
  std::string told_running_;
};

/// What the page shows of the cluster and its jobs, nodes and files.
[[nodiscard]] Json dash_state(const ClusterPicture& picture, Time now, WallMs wall);

}  // namespace idunno::cli

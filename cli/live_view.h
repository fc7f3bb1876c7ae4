#pragma once
/// The screen of `idunno watch`: jobs with progress, nodes, the last events; redrawn in place on the alternate screen, which
/// the destructor leaves again.

#include <deque>
#include <string>

#include "bus/messages.h"

namespace idunno::cli {

/// The lines of one screen, at most `height` of them and `width` columns each; pure.
[[nodiscard]] std::vector<std::string> live_screen(const std::string& what, const StatsNotice& stats, NodeId coordinator,
                                                   const std::deque<Event>& events, std::size_t width, std::size_t height);

class LiveView {
 public:
  /// `what`: jobs, nodes, events or all.
  LiveView(std::string what, const StatusReply& status);
  ~LiveView();
  LiveView(const LiveView&) = delete;
  LiveView& operator=(const LiveView&) = delete;

  void add(const Event& event);
  void add(const StatsNotice& notice);
  void resized() { changed_ = true; }
  /// Draws when something has changed.
  void draw();

 private:
  std::string what_;
  NodeId coordinator_;
  StatsNotice stats_;
  std::deque<Event> events_;  ///< newest last, bounded
  bool changed_ = true;
};

}  // namespace idunno::cli

#pragma once
/// The screen of `idunno watch` as a function of what is known of the cluster, what the user looks at, and the size of the
/// terminal. Pure: no clock, no terminal; never throws, whatever the size.

#include <string>
#include <vector>

#include "cli/watch_picture.h"
#include "cli/watch_text.h"

namespace idunno::cli {

enum class Pane : std::uint8_t { overview, jobs, nodes, events };
inline constexpr int kPanes = 4;

struct WatchUi {
  Pane pane = Pane::overview;
  std::size_t scroll = 0;  ///< lines from the top; for events, from the newest
  bool paused = false;
  bool help = false;
  bool batches = false;  ///< events of single batches, too
};

struct FrameInput {
  const ClusterPicture& picture;
  WatchUi ui;
  Time now;
  WallMs wall_ms = 0;
  std::size_t width = 80;
  std::size_t height = 24;
  Glyphs glyphs = Glyphs::unicode;
};

struct Frame {
  std::vector<TextLine> lines;  ///< exactly `height`, each exactly `width` columns wide
  std::size_t scroll_max = 0;   ///< of the pane shown
  std::size_t page = 1;         ///< lines that a page key moves
};

[[nodiscard]] Frame render_frame(const FrameInput& input);

// The parts, for render_frame (cli/watch_panes.cc).

/// A heading and a line a job, at most `rows` of them (the last says how many are left out).
[[nodiscard]] std::vector<TextLine> job_lines(const FrameInput& input, std::size_t rows);
/// With three more lines a job: model, data, settings; times; what went wrong.
[[nodiscard]] std::vector<TextLine> job_details(const FrameInput& input);
[[nodiscard]] std::vector<TextLine> node_lines(const FrameInput& input, std::size_t rows);
/// One line an event; the same several times in a row is one line that counts them.
[[nodiscard]] std::vector<TextLine> event_lines(const FrameInput& input);
/// "" when there is nothing to compare.
[[nodiscard]] TextLine fairness_line(const FrameInput& input);
/// "16:59:03"; "--:--:--" for 0.
[[nodiscard]] std::string clock_text(WallMs at);

}  // namespace idunno::cli

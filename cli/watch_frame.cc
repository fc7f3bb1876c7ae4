#include "cli/watch_frame.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>

#include "bus/names.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

// From so many rows on there is room for the line of panes, the line of keys, and blank lines.
constexpr std::size_t kRowsForPanes = 8;
constexpr std::size_t kRowsForKeys = 14;
constexpr std::size_t kRowsForGaps = 20;
constexpr std::size_t kTableRowsMin = 4;  ///< of jobs and nodes together
constexpr std::size_t kEventRowsMin = 4;  ///< their heading among them
constexpr std::array<const char*, kPanes> kPaneNames{"Overview", "Jobs", "Nodes", "Events"};

std::string dot(const FrameInput& input) { return input.glyphs == Glyphs::unicode ? " · " : " | "; }

struct Piece {
  std::string text;
  int rank;
};

std::vector<Piece> header_pieces(const ClusterPicture& picture) {
  const StatusReply& status = picture.status();
  std::vector<Piece> pieces{{"idunno", 3},
                            {picture.name(), 6},
                            {"coordinator " + (picture.coordinator() ? to_string(picture.coordinator()) : "none"), 0}};
  if (!picture.has_status()) return pieces;
  const bool standby = status.standby && status.standby != picture.coordinator();
  pieces.push_back({standby ? "standby " + to_string(status.standby) : "no standby", 2});
  pieces.push_back({fmt::format("epoch {}", picture.epoch().value), 4});
  pieces.push_back({"phase " + (status.phase.empty() ? "-" : status.phase), 5});
  return pieces;
}

/// Name, office holders, health, clock: what does not fit is left out, the least important first.
TextLine header(const FrameInput& input) {
  const std::vector<std::string> troubles = input.picture.troubles();
  const bool unicode = input.glyphs == Glyphs::unicode;
  std::string health =
      troubles.empty() ? (unicode ? "● healthy" : "healthy") : std::string(unicode ? "▲ " : "! ") + troubles.front();
  for (std::size_t i = 1; i < troubles.size(); ++i) health += ", " + troubles[i];
  const std::string clock = clock_text(input.wall_ms) + " ";
  std::vector<Piece> pieces = header_pieces(input.picture);
  const auto used = [&] {
    std::size_t sum = columns_of(health) + clock.size() + 3;
    for (const Piece& piece : pieces) sum += columns_of(piece.text) + 3;
    return sum;
  };
  while (pieces.size() > 1 && used() > input.width) {
    pieces.erase(std::max_element(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) { return a.rank < b.rank; }));
  }
  TextLine line(input.glyphs);
  line.add(" ", Ink::title);
  for (const Piece& piece : pieces) line.add((&piece == pieces.data() ? "" : dot(input)) + piece.text, Ink::title);
  line.add(dot(input), Ink::title).add(health, troubles.empty() ? Ink::title : Ink::alert);
  if (line.width() + clock.size() + 1 <= input.width) {
    line.pad_to(input.width - clock.size(), Ink::title);
    line.add(clock, Ink::title);
  }
  line.fit(input.width, Ink::title);
  return line;
}

TextLine banner(const FrameInput& input, const std::string& text) {
  const Ink ink = input.picture.silent(input.now) ? Ink::alert : Ink::notice;
  TextLine line(input.glyphs);
  line.add(" " + text, ink);
  line.fit(input.width, ink);
  return line;
}

/// "2 running · 37.1 queries/s · 10/10 slots busy", as much of it as fits.
std::string sum_text(const FrameInput& input, std::size_t width) {
  std::uint64_t rate = 0;
  std::size_t running = 0;
  for (const JobReport& job : input.picture.jobs()) {
    if (is_over(job.state)) continue;
    rate += job.rate_milli_qps;
    running += job.state == JobState::running ? 1 : 0;
  }
  std::uint32_t slots = 0;
  std::uint32_t busy = 0;
  for (const NodeReport& node : input.picture.nodes()) {
    if (node.state != NodeState::alive) continue;
    slots += node.slots;
    busy += std::min(node.running, node.slots);
  }
  std::string text = fmt::format("{:.1f} queries/s ", from_milli(rate));
  if (columns_of(text) > width) return "";
  const std::string with_slots = fmt::format("{:.1f} queries/s{}{}/{} slots busy ", from_milli(rate), dot(input), busy, slots);
  if (columns_of(with_slots) <= width) text = with_slots;
  const std::string all = fmt::format("{} running{}{}", running, dot(input), with_slots);
  return columns_of(all) <= width ? all : text;
}

TextLine panes(const FrameInput& input) {
  static constexpr std::size_t kWidthForNames = 60;
  TextLine line(input.glyphs);
  for (std::size_t i = 0; i < kPanes; ++i) {
    const bool here = i == static_cast<std::size_t>(input.ui.pane);
    const std::string name = here || input.width >= kWidthForNames ? fmt::format(" {}", kPaneNames.at(i)) : "";
    line.add(i == 0 ? "" : " ").add(fmt::format(" {}{} ", i + 1, name), here ? Ink::title : Ink::dim);
  }
  static constexpr std::size_t kGap = 2;
  const std::string sum = sum_text(input, input.width - std::min(input.width, line.width() + kGap));
  line.pad_to(input.width - std::min(input.width, columns_of(sum)));
  line.add(sum, Ink::strong);
  line.fit(input.width);
  return line;
}

TextLine keys(const FrameInput& input) {
  TextLine line(input.glyphs);
  if (input.ui.paused) line.add(" PAUSED: p goes on ", Ink::notice).add(" ");
  const std::string arrows = input.glyphs == Glyphs::unicode ? "↑↓" : "arrows";
  const std::array<std::pair<std::string, const char*>, 6> all{
      {{"q", "quit"},
       {"tab", "next view"},
       {"p", "pause"},
       {"?", "help"},
       {arrows, "scroll"},
       {"b", input.ui.batches ? "hide batch events" : "show batch events"}}};
  for (const auto& [key, what] : all) {
    TextLine one(input.glyphs);
    one.add(" ").add(key, Ink::accent).add(fmt::format(" {} ", what), Ink::dim);
    if (line.width() + one.width() <= input.width) line.append(one);
  }
  line.fit(input.width);
  return line;
}

std::vector<TextLine> help(const FrameInput& input) {
  static constexpr std::array<std::pair<const char*, const char*>, 9> kKeys{
      {{"q, Ctrl-C", "leave; the cluster and its jobs go on"},
       {"tab, 1 to 4", "overview, jobs, nodes, events"},
       {"up, down", "scroll by a line"},
       {"page up, down", "scroll by a page"},
       {"home, end", "to the beginning, to the end"},
       {"p, space", "pause: the screen stays as it is, what happens is kept"},
       {"b", "show or hide the events of single batches"},
       {"Ctrl-L", "draw everything again"},
       {"?", "this help, and back"}}};
  std::vector<TextLine> lines;
  lines.emplace_back(input.glyphs).add(" Keys", Ink::accent);
  for (const auto& [key, what] : kKeys) {
    TextLine& line = lines.emplace_back(input.glyphs);
    line.add("  ").cell(key, 14, false, Ink::strong).add(" ").add(what);
  }
  lines.emplace_back(input.glyphs);
  lines.emplace_back(input.glyphs).add(" What the columns mean", Ink::accent);
  for (const char* text :
       {"RATE/s         queries over the last 10 s", "MEDIAN to P99  from the start of a query's batch to its commit",
        "CPU            of idunnod and its executors; 100% is one core", "BUSY           slots that run a batch",
        "FAIRNESS       largest rate / smallest rate, each divided by its job's weight"}) {
    lines.emplace_back(input.glyphs).add("  ").add(text);
  }
  return lines;
}

void append(std::vector<TextLine>& lines, std::vector<TextLine>&& more) {
  for (TextLine& line : more) lines.push_back(std::move(line));
}

/// The newest `rows` events, newest last, `scroll` lines back in time.
std::vector<TextLine> newest(const std::vector<TextLine>& events, std::size_t rows, std::size_t scroll) {
  const std::size_t end = events.size() - std::min(scroll, events.size());
  const std::size_t begin = end - std::min(rows, end);
  return {events.begin() + static_cast<std::ptrdiff_t>(begin), events.begin() + static_cast<std::ptrdiff_t>(end)};
}

struct Shares {
  std::size_t jobs = 0;
  std::size_t nodes = 0;
};

/// Rows below their headings. What both want, else half each, else what the other one leaves.
Shares share_rows(std::size_t room, std::size_t jobs, std::size_t nodes) {
  Shares out;
  out.jobs = std::min(jobs, std::max(room - std::min(room, nodes), (room + 1) / 2));
  out.nodes = std::min(nodes, room - out.jobs);
  return out;
}

/// Jobs, fairness, nodes and events share the rows: the first ones by need, events what is left.
void overview(const FrameInput& input, std::size_t rows, std::vector<TextLine>& lines, Frame& frame) {
  const bool gaps = rows >= kRowsForGaps;
  const std::size_t jobs = std::max<std::size_t>(1, input.picture.jobs().size());
  TextLine fairness = fairness_line(input);
  const bool fair = fairness.width() > 0 && rows >= 6;
  const std::size_t fixed = 2 + (fair ? 1U : 0U) + (gaps ? 2U : 0U);
  if (rows < fixed + kTableRowsMin) {  // room for one of them
    return append(lines, job_lines(input, rows > 0 ? rows - 1 : 0));
  }
  const std::size_t room = rows - fixed;
  const std::size_t events_min = room >= 8 ? std::max(room / 4, kEventRowsMin) : 0;
  const Shares shares = share_rows(room - events_min, jobs, input.picture.nodes().size());
  append(lines, job_lines(input, shares.jobs));
  if (fair) lines.push_back(std::move(fairness));
  if (gaps) lines.emplace_back(input.glyphs);
  append(lines, node_lines(input, shares.nodes));
  std::size_t left = room - shares.jobs - shares.nodes;
  if (left == 0) return;
  if (gaps) lines.emplace_back(input.glyphs);
  if (left >= kEventRowsMin) {
    lines.emplace_back(input.glyphs)
        .add("EVENTS", Ink::accent)
        .add(input.ui.batches ? " with those of each batch" : "", Ink::dim);
    --left;
  }
  const std::vector<TextLine> events = event_lines(input);
  frame.scroll_max = events.size() > left ? events.size() - left : 0;
  frame.page = left;
  append(lines, newest(events, left, std::min(input.ui.scroll, frame.scroll_max)));
}

/// A list of its own, scrolled; the first `heading` lines stay.
void one_list(const FrameInput& input, const std::vector<TextLine>& list, std::size_t heading, std::size_t rows,
              std::vector<TextLine>& lines, Frame& frame) {
  heading = std::min({heading, list.size(), rows});
  const std::size_t room = rows - heading;
  const std::size_t length = list.size() - heading;
  frame.scroll_max = length > room ? length - room : 0;
  frame.page = std::max<std::size_t>(1, room);
  const std::size_t from = heading + std::min(input.ui.scroll, frame.scroll_max);
  for (std::size_t i = 0; i < heading; ++i) lines.push_back(list[i]);
  for (std::size_t i = from; i < std::min(list.size(), from + room); ++i) lines.push_back(list[i]);
}

void jobs_pane(const FrameInput& input, std::size_t rows, std::vector<TextLine>& lines, Frame& frame) {
  static constexpr std::size_t kRowsForFairness = 5;
  TextLine fairness = fairness_line(input);
  const bool fair = fairness.width() > 0 && rows >= kRowsForFairness;
  one_list(input, job_details(input), 1, rows - (fair ? 1 : 0), lines, frame);
  if (fair) lines.push_back(std::move(fairness));
}

void events_pane(const FrameInput& input, std::size_t rows, std::vector<TextLine>& lines, Frame& frame) {
  const std::vector<TextLine> events = event_lines(input);
  if (events.empty()) lines.emplace_back(input.glyphs).add(" nothing has happened since this view was opened", Ink::dim);
  frame.scroll_max = events.size() > rows ? events.size() - rows : 0;
  frame.page = std::max<std::size_t>(1, rows);
  append(lines, newest(events, rows, std::min(input.ui.scroll, frame.scroll_max)));
}

void body(const FrameInput& input, std::size_t rows, std::vector<TextLine>& lines, Frame& frame) {
  if (input.ui.help) return one_list(input, help(input), 0, rows, lines, frame);
  switch (input.ui.pane) {
    case Pane::overview:
      return overview(input, rows, lines, frame);
    case Pane::jobs:
      return jobs_pane(input, rows, lines, frame);
    case Pane::nodes:
      return one_list(input, node_lines(input, input.picture.nodes().size()), 1, rows, lines, frame);
    case Pane::events:
      return events_pane(input, rows, lines, frame);
  }
}

}  // namespace

Frame render_frame(const FrameInput& input) {
  Frame frame;
  if (input.width == 0 || input.height == 0) return frame;
  std::vector<TextLine>& lines = frame.lines;
  lines.push_back(header(input));
  const std::string told = input.picture.banner(input.now);
  if (!told.empty() && input.height >= 3) {
    lines.push_back(banner(input, told));
  } else if (input.height >= kRowsForPanes) {
    lines.push_back(panes(input));
  }
  // Paused must be seen whatever the size.
  const bool with_keys = input.height >= kRowsForKeys || (input.ui.paused && input.height >= 3);
  const std::size_t rows = input.height - std::min(input.height, lines.size() + (with_keys ? 1U : 0U));
  std::vector<TextLine> shown;
  body(input, rows, shown, frame);
  shown.resize(rows, TextLine(input.glyphs));
  append(lines, std::move(shown));
  if (with_keys) lines.push_back(keys(input));
  lines.resize(input.height, TextLine(input.glyphs));
  for (TextLine& line : lines) line.fit(input.width);
  return frame;
}

}  // namespace idunno::cli

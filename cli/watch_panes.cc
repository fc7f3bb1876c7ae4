#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "bus/clock.h"
#include "bus/names.h"
#include "bus/units.h"
#include "cli/reports.h"
#include "cli/text.h"
#include "cli/watch_frame.h"
#include "cli/watch_table.h"

namespace idunno::cli {

namespace {

constexpr std::size_t kSparkWidth = 16;

LiveCell cell(const FrameInput& input, std::string_view text, Ink ink = Ink::plain) {
  LiveCell out{TextLine(input.glyphs), {}, Ink::plain};
  out.text.add(text, ink);
  return out;
}

std::string ms_text(const LatencySummary& latency, std::uint64_t us) {
  if (latency.count == 0) return "-";
  const double value = static_cast<double>(us) / 1000;
  return value < 10 ? fmt::format("{:.2f}", value) : value < 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

std::string rate_text(std::uint64_t milli) {
  const double rate = from_milli(milli);
  return rate < 1000 ? fmt::format("{:.1f}", rate) : fmt::format("{:.0f}", rate);
}

struct Mark {
  const char* unicode;
  const char* ascii;
  Ink ink;
};

Mark mark_of(JobState state) {
  switch (state) {
    case JobState::queued:
      return {"○", "o", Ink::dim};
    case JobState::running:
      return {"●", "*", Ink::good};
    case JobState::paused:
      return {"‖", "=", Ink::warn};
    case JobState::done:
      return {"✓", "+", Ink::dim};
    case JobState::failed:
      return {"✗", "x", Ink::bad};
    case JobState::stopped:
      return {"■", "#", Ink::dim};
  }
  return {"?", "?", Ink::plain};
}

Mark mark_of(NodeState state) {
  switch (state) {
    case NodeState::alive:
      return {"●", "*", Ink::good};
    case NodeState::suspect:
      return {"◐", "?", Ink::warn};
    case NodeState::dead:
      return {"✗", "x", Ink::bad};
    case NodeState::left:
      return {"○", "o", Ink::dim};
    case NodeState::unknown:
      break;
  }
  return {"?", "?", Ink::warn};
}

template <class State>
LiveCell state_cell(const FrameInput& input, State state) {
  const Mark mark = mark_of(state);
  LiveCell out = cell(input, input.glyphs == Glyphs::unicode ? mark.unicode : mark.ascii, mark.ink);
  out.text.add(" " + to_string(state), mark.ink == Ink::good ? Ink::plain : mark.ink);
  return out;
}

std::string done_text(const JobReport& job) {
  const std::uint64_t total = goal_of(job);
  return total == 0 ? fmt::format("{}", job.done) : fmt::format("{}/{}", job.done, total);
}

std::string eta_of(const JobReport& job) {
  if (is_over(job.state)) return "-";
  const std::uint64_t total = goal_of(job);
  if (total == 0) return "endless";
  const std::uint64_t rate = job.rate_milli_qps != 0 ? job.rate_milli_qps : job.rate_all_milli_qps;
  if (rate == 0 || job.state != JobState::running || job.done > total) return "-";
  return eta_text(static_cast<double>(total - job.done) / from_milli(rate));
}

std::vector<LiveCell> job_row(const FrameInput& input, const JobReport& job) {
  const bool over = is_over(job.state);
  const Ink ink = over ? Ink::dim : job_ink(job.id.value);
  const Ink text = over ? Ink::dim : Ink::plain;
  const LatencySummary& latency = recent_latency(job);
  const auto fraction = fraction_of(job);
  LiveCell bar = cell(input, fraction ? "" : "endless", Ink::dim);
  bar.bar = fraction;
  bar.ink = ink;
  return {cell(input, to_string(job.id), ink),
          cell(input, job.spec.name, text),
          state_cell(input, job.state),
          std::move(bar),
          cell(input, fraction ? fmt::format("{:.0f}%", std::floor(*fraction * 100)) : "-", text),
          cell(input, done_text(job), text),
          cell(input, over ? "-" : rate_text(job.rate_milli_qps), over ? text : Ink::strong),
          cell(input, over ? "" : sparkline(input.picture.rates(job.id), kSparkWidth, input.glyphs), ink),
          cell(input, eta_of(job), text),
          cell(input, ms_text(latency, latency.median_us), text),
          cell(input, ms_text(latency, latency.p90_us), text),
          cell(input, ms_text(latency, latency.p95_us), text),
          cell(input, ms_text(latency, latency.p99_us), text),
          cell(input, ms_text(latency, latency.mean_us), text),
          cell(input, ms_text(latency, latency.sd_us), text),
          cell(input, fmt::format("{}", job.errors), job.errors > 0 ? Ink::warn : text),
          cell(input, fmt::format("{}", job.nodes.size()), text),
          cell(input, fmt::format("{}", job.spec.batch), text),
          cell(input, fmt::format("{:g}", from_milli(job.spec.weight_milli)), text)};
}

std::vector<LiveColumn> job_columns() {
  return {{"JOB", 0},          {"NAME", 3, false, 16}, {"STATE", 2},        {"PROGRESS", 4, false, 8, 32, 8},
          {"", 1, true},       {"DONE", 9, true},      {"RATE/s", 0, true}, {"OF LATE", 14, false, kSparkWidth, 0, kSparkWidth},
          {"ETA", 5, true},    {"MEDIAN ms", 8, true}, {"P90", 10, true},   {"P95", 16, true},
          {"P99", 7, true},    {"MEAN", 17, true},     {"SD", 18, true},    {"ERR", 6, true},
          {"NODES", 11, true}, {"BATCH", 13, true},    {"WEIGHT", 12, true}};
}

std::string running_text(const FrameInput& input, const LiveBatch& batch) {
  std::string out = batch_name(batch.job, batch.batch);
  if (batch.started_ms != 0 && input.wall_ms >= batch.started_ms)
    out += fmt::format(" {:.1f}s", static_cast<double>(input.wall_ms - batch.started_ms) / 1000);
  return out;
}

LiveCell running_cell(const FrameInput& input, const NodeReport& node, bool gone) {
  LiveCell running = cell(input, "");
  for (const LiveBatch& batch : input.picture.running(node.id)) {
    if (running.text.width() > 0) running.text.add("  ");
    running.text.add(running_text(input, batch), job_ink(batch.job.value));
  }
  if (running.text.width() == 0) running.text.add(gone ? "-" : "idle", Ink::dim);
  return running;
}

std::vector<LiveCell> node_row(const FrameInput& input, const NodeReport& node) {
  const ClusterPicture& picture = input.picture;
  const bool gone = node.state == NodeState::dead || node.state == NodeState::left;
  const Ink text = gone ? Ink::dim : Ink::plain;
  const std::vector<std::string> roles = picture.roles(node.id);
  const bool leads = node.id == picture.coordinator() && !gone;
  const std::string star = input.glyphs == Glyphs::unicode ? "★ " : "* ";
  LiveCell cpu = cell(input, "");
  cpu.bar = gone || node.slots == 0 ? 0 : static_cast<double>(node.cpu_milli) / (1000.0 * node.slots);
  cpu.ink = Ink::good;
  std::string models;
  for (const std::string& model : node.models) models += (models.empty() ? "" : " ") + model;
  return {cell(input, to_string(node.id), leads ? Ink::accent : text),
          cell(input, roles.empty() ? "worker" : (leads ? star : "") + roles.front(), leads ? Ink::accent : text),
          state_cell(input, node.state),
          std::move(cpu),
          cell(input, gone ? "-" : fmt::format("{:.0f}%", static_cast<double>(node.cpu_milli) / 10), text),
          cell(input, gone ? "-" : format_size(node.rss_bytes + node.executor_rss_bytes), text),
          cell(input, gone ? "-" : fmt::format("{}", node.leased), text),
          cell(input, gone ? "-" : fmt::format("{}/{}", node.running, node.slots), text),
          running_cell(input, node, gone),
          cell(input, fmt::format("{}", node.blocks), text),
          cell(input, format_size(node.block_bytes), text),
          cell(input, node.read_only ? "full" : format_size(node.free_bytes), node.read_only ? Ink::bad : text),
          cell(input, models.empty() ? "-" : models, text),
          cell(input, clock_text(node.since_ms), text)};
}

std::vector<LiveColumn> node_columns() {
  return {{"NODE", 0},
          {"ROLE", 4},
          {"STATE", 1},
          {"CPU", 9, false, 8, 10, 8},
          {"", 5, true},
          {"MEMORY", 6, true},
          {"LEASED", 7, true},
          {"BUSY", 2, true},
          {"RUNNING", 3, false, 18, 60, 7},
          {"BLOCKS", 12, true},
          {"STORED", 10, true},
          {"FREE", 11, true},
          {"MODELS", 14, false, 30},
          {"SINCE", 13}};
}

/// At most `rows` lines after the heading; when there are more, the last one says so, unless it is needed more.
void bound_rows(std::vector<TextLine>& lines, std::size_t rows, const FrameInput& input, const char* what) {
  static constexpr std::size_t kRowsToSaySo = 3;
  if (lines.size() <= rows + 1 || rows < kRowsToSaySo) {
    lines.resize(std::min(lines.size(), rows + 1), TextLine(input.glyphs));
    return;
  }
  const std::size_t left_out = lines.size() - rows;
  lines.resize(rows, TextLine(input.glyphs));
  lines.emplace_back(input.glyphs).add(fmt::format("  and {} more {}", left_out, what), Ink::dim);
}

std::vector<TextLine> job_table(const FrameInput& input) {
  std::vector<std::vector<LiveCell>> rows;
  for (const JobReport& job : input.picture.jobs()) rows.push_back(job_row(input, job));
  return live_table(job_columns(), rows, input.width, input.glyphs);
}

Ink event_ink(const std::string& type) {
  if (type == "alarm" || type == "node_dead" || type == "job_failed" || type == "block_damaged") return Ink::bad;
  if (type == "node_suspect" || type == "batch_failed" || type == "batch_hedged" || type == "batch_given_up") return Ink::warn;
  if (type == "coordinator_changed") return Ink::accent;
  if (type == "job_done" || type == "node_joined" || type == "block_repaired") return Ink::good;
  return Ink::plain;
}

constexpr char kNoJobs[] = "no jobs yet: idunno submit --model M --data /PATH";

}  // namespace

std::string clock_text(WallMs at) {
  static constexpr std::size_t kBegin = 11;  // of "2026-01-02T03:04:05.678Z"
  static constexpr std::size_t kLength = 8;
  const std::string text = rfc3339(at);
  return text.size() < kBegin + kLength ? "--:--:--" : text.substr(kBegin, kLength);
}

std::vector<TextLine> job_lines(const FrameInput& input, std::size_t rows) {
  std::vector<TextLine> lines = job_table(input);
  if (input.picture.jobs().empty()) lines.emplace_back(input.glyphs).add(kNoJobs, Ink::dim);
  bound_rows(lines, rows, input, "jobs");
  return lines;
}

std::vector<TextLine> job_details(const FrameInput& input) {
  const std::vector<TextLine> table = job_table(input);
  std::vector<TextLine> lines{table.front()};
  const auto& jobs = input.picture.jobs();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    const JobReport& job = jobs[i];
    const JobSpec& spec = job.spec;
    lines.push_back(table[i + 1]);
    const auto detail = [&](const std::string& text, Ink ink = Ink::dim) {
      lines.emplace_back(input.glyphs).add("     ").add(text, ink);
    };
    detail(fmt::format("{}:{}  {}  batch {}  weight {:g}  priority {}{}", spec.model, spec.model_version, spec.data_path,
                       spec.batch, from_milli(spec.weight_milli), spec.priority,
                       spec.rate_limit_milli == 0 ? "" : fmt::format("  at most {:g}/s", from_milli(spec.rate_limit_milli))));
    const LatencySummary& all = job.latency;
    detail(fmt::format("whole job: {}/s  mean {} ms  sd {}  median {}  p90 {}  p95 {}  p99 {}", rate_text(job.rate_all_milli_qps),
                       ms_text(all, all.mean_us), ms_text(all, all.sd_us), ms_text(all, all.median_us), ms_text(all, all.p90_us),
                       ms_text(all, all.p95_us), ms_text(all, all.p99_us)));
    std::string odd = fmt::format("{} errors  {} leased  {} retried  {} hedged  {} model loads", job.errors, job.leased,
                                  job.retried, job.hedged, job.model_loads);
    if (!job.reason.empty()) odd += "  " + job.reason;
    detail(odd, job.errors > 0 || job.state == JobState::failed ? Ink::warn : Ink::dim);
  }
  if (jobs.empty()) lines.emplace_back(input.glyphs).add(kNoJobs, Ink::dim);
  return lines;
}

std::vector<TextLine> node_lines(const FrameInput& input, std::size_t rows) {
  std::vector<std::vector<LiveCell>> table;
  for (const NodeReport& node : input.picture.nodes()) table.push_back(node_row(input, node));
  std::vector<TextLine> lines = live_table(node_columns(), table, input.width, input.glyphs);
  bound_rows(lines, rows, input, "nodes");
  return lines;
}

std::vector<TextLine> event_lines(const FrameInput& input) {
  static constexpr std::size_t kTypeWidth = 19;  // "coordinator_changed"
  const auto same = [](const Event& a, const Event& b) {
    return a.type == b.type && a.node == b.node && a.job == b.job && a.text == b.text;
  };
  std::vector<TextLine> lines;
  const std::vector<const Event*> events = input.picture.events(input.ui.batches);
  for (std::size_t i = 0; i < events.size();) {
    const Event* event = events[i];
    std::size_t times = 0;
    for (; i < events.size() && same(*events[i], *event); ++i) ++times;
    TextLine line(input.glyphs);
    line.add(clock_text(event->at_ms), Ink::dim).add(" ").cell(to_string(event->node), 4).add(" ");
    line.cell(event->type, kTypeWidth, false, event_ink(event->type)).add(" ");
    if (times > 1) line.add(fmt::format("{} times: ", times), Ink::dim);
    if (event->job) line.add(to_string(event->job), job_ink(event->job.value)).add(" ");
    line.add(event->text);
    lines.push_back(std::move(line));
  }
  return lines;
}

TextLine fairness_line(const FrameInput& input) {
  TextLine line(input.glyphs);
  const FairnessReport& fair = input.picture.fairness();
  const std::uint64_t ratio = fair.max_min_milli != 0 ? fair.max_min_milli : fair.last_max_min_milli;
  if (ratio == 0) return line;
  static constexpr std::uint64_t kWithinTenPercent = 1100;
  line.add("FAIRNESS ", Ink::accent);
  line.add(fmt::format("max/min {:.3f}", from_milli(ratio)), ratio <= kWithinTenPercent ? Ink::good : Ink::warn);
  line.add(fair.max_min_milli != 0 ? fmt::format(" ({} jobs)", fair.jobs) : " (when two last ran)");
  if (fair.windows > 0) {
    line.add(fmt::format("  within 10% in {:.0f}%, 20% in {:.0f}% of {} windows", 100.0 * fair.in10_windows / fair.windows,
                         100.0 * fair.in20_windows / fair.windows, fair.windows));
  }
  if (fair.worst_max_min_milli != 0) {
    line.add(fmt::format("  worst {:.2f} at {}{}", from_milli(fair.worst_max_min_milli), clock_text(fair.worst_at_ms),
                         fair.worst_cause.empty() ? "" : ": " + fair.worst_cause),
             Ink::dim);
  }
  return line;
}

}  // namespace idunno::cli

#include "cli/stats_history.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/reports.h"

namespace idunno::cli {
namespace {

/// A file is written for an hour at most, so one that begins earlier than this before `since` holds nothing of interest. Twice
/// the span, because the last write of a file may have been tried again for a while.
constexpr WallMs kFileSpanMs = 2 * 3600 * 1000;
constexpr std::size_t kHistoryFileBytesMax = 16U << 20U;  ///< of one file that is read; more is not ours

bool wanted(const std::vector<std::string>& ids, const std::string& id) {
  return ids.empty() || std::find(ids.begin(), ids.end(), id) != ids.end();
}

double ms(std::uint64_t us) { return static_cast<double>(us) / 1000.0; }
Json ms_or_null(const LatencySummary& latency, std::uint64_t us) { return latency.count == 0 ? Json(nullptr) : Json(ms(us)); }

std::string span_text(WallMs from, WallMs to) { return format_duration(std::chrono::milliseconds(to > from ? to - from : 0)); }

struct JobCurve {
  HistoryJob last;
  WallMs from = 0;
  WallMs to = 0;
  std::vector<double> rates;
  std::uint64_t p99_us = 0;  ///< the worst
};
struct NodeCurve {
  HistoryNode last;
  std::vector<double> cores;
  std::uint64_t rss_bytes = 0;  ///< the most
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

/// "j10" after "j9".
struct ById {
  bool operator()(const std::string& a, const std::string& b) const { return a.size() != b.size() ? a.size() < b.size() : a < b; }
};

}  // namespace

void add_lines(std::string_view text, WallMs since, History& history) {
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    auto sample = parse_history_line(line);
    if (!sample) {
      ++history.damaged;
    } else if (sample->at_ms >= since) {
      history.samples.push_back(std::move(*sample));
    }
  }
}

Result<History> read_history(SdfsClient& sdfs, WallMs since) {
  History history;
  auto files = sdfs.list_all(kHistoryFolder, false);
  if (!files) return files.error().code == Errc::not_found ? Result<History>(std::move(history)) : files.error();
  for (const FileVersion& file : *files) {
    const auto begins = history_begin(file.path);
    if (!begins || *begins + kFileSpanMs < since || file.size > kHistoryFileBytesMax) continue;
    std::string text;
    const Status got = sdfs.get(file.path, 0, [&](ByteView bytes) {
      text.append(bytes);
      return Status{};
    });
    // The oldest file may have been removed since the listing.
    if (!got && got.error().code == Errc::not_found) continue;
    if (!got) return annotate(got.error(), "reading " + file.path);
    ++history.files;
    add_lines(text, since, history);
  }
  std::stable_sort(history.samples.begin(), history.samples.end(),
                   [](const HistorySample& a, const HistorySample& b) { return a.at_ms < b.at_ms; });
  return history;
}

std::string sparkline(const std::vector<double>& values, std::size_t width, bool unicode) {
  static constexpr std::array<const char*, 8> kBlocks{"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  static constexpr std::array<const char*, 8> kPlain{" ", ".", ":", "-", "=", "+", "*", "#"};
  if (values.empty() || width == 0) return "";
  const std::size_t columns = std::min(values.size(), width);
  std::vector<double> heights;
  for (std::size_t k = 0; k < columns; ++k) {
    const std::size_t from = k * values.size() / columns;
    const std::size_t to = (k + 1) * values.size() / columns;
    heights.push_back(
        mean_of({values.begin() + static_cast<std::ptrdiff_t>(from), values.begin() + static_cast<std::ptrdiff_t>(to)}));
  }
  const double most = *std::max_element(heights.begin(), heights.end());
  std::string out;
  for (const double height : heights) {
    const double part = most > 0 ? std::clamp(height / most, 0.0, 1.0) : 0;
    const auto step = static_cast<std::size_t>(std::lround(part * 7));
    out += unicode ? kBlocks[step] : kPlain[step];
  }
  return out;
}

Listing history_rows(const History& history, const std::vector<std::string>& jobs, bool nodes) {
  if (nodes) {
    Listing listing("idunno.stats_history_nodes.v1", "samples",
                    {{"at", ""},
                     {"id", ""},
                     {"state", ""},
                     {"cpu_cores", ""},
                     {"running", ""},
                     {"rss_bytes", ""},
                     {"block_bytes", ""},
                     {"free_bytes", ""},
                     {"coordinator", ""}});
    for (const HistorySample& sample : history.samples) {
      for (const HistoryNode& node : sample.nodes) {
        listing.add({{rfc3339(sample.at_ms), ""},
                     {node.id, ""},
                     {node.state, ""},
                     {from_milli(node.cpu_milli), ""},
                     {node.running, ""},
                     {node.rss_bytes, ""},
                     {node.block_bytes, ""},
                     {node.free_bytes, ""},
                     {node.id == sample.coordinator, ""}});
      }
    }
    return listing;
  }
  Listing listing("idunno.stats_history.v1", "samples",
                  {{"at", ""},
                   {"id", ""},
                   {"name", ""},
                   {"model", ""},
                   {"state", ""},
                   {"done", ""},
                   {"errors", ""},
                   {"rate_qps", ""},
                   {"weight", ""},
                   {"nodes", ""},
                   {"window_mean_ms", ""},
                   {"window_sd_ms", ""},
                   {"window_median_ms", ""},
                   {"window_p90_ms", ""},
                   {"window_p95_ms", ""},
                   {"window_p99_ms", ""},
                   {"max_min_ratio", ""},
                   {"coordinator", ""}});
  for (const HistorySample& sample : history.samples) {
    for (const HistoryJob& job : sample.jobs) {
      if (!wanted(jobs, job.id)) continue;
      const LatencySummary& l = job.latency;
      listing.add({{rfc3339(sample.at_ms), ""},
                   {job.id, ""},
                   {job.name, ""},
                   {job.model, ""},
                   {job.state, ""},
                   {job.done, ""},
                   {job.errors, ""},
                   {from_milli(job.rate_milli_qps), ""},
                   {from_milli(job.weight_milli), ""},
                   {job.nodes, ""},
                   {ms_or_null(l, l.mean_us), ""},
                   {ms_or_null(l, l.sd_us), ""},
                   {ms_or_null(l, l.median_us), ""},
                   {ms_or_null(l, l.p90_us), ""},
                   {ms_or_null(l, l.p95_us), ""},
                   {ms_or_null(l, l.p99_us), ""},
                   {sample.max_min_milli == 0 ? Json(nullptr) : Json(from_milli(sample.max_min_milli)), ""},
                   {sample.coordinator, ""}});
    }
  }
  return listing;
}

namespace {

std::string footer_of(const History& history) {
  if (history.samples.empty()) return "no samples: one is taken every 10 s while a job runs, and is kept after 30 s";
  std::string text = fmt::format("{} samples in {} files, {} to {}", history.samples.size(), history.files,
                                 rfc3339(history.samples.front().at_ms), rfc3339(history.samples.back().at_ms));
  if (history.damaged > 0) text += fmt::format("; {} lines could not be read", history.damaged);
  return text;
}

Listing nodes_summary(const History& history, bool unicode) {
  std::map<std::string, NodeCurve, ById> curves;
  for (const HistorySample& sample : history.samples) {
    for (const HistoryNode& node : sample.nodes) {
      NodeCurve& curve = curves[node.id];
      curve.last = node;
      curve.cores.push_back(from_milli(node.cpu_milli));
      curve.rss_bytes = std::max(curve.rss_bytes, node.rss_bytes);
    }
  }
  Listing listing("idunno.stats_history_nodes.v1", "nodes",
                  {{"id", "NODE"},
                   {"state", "STATE"},
                   {"samples", "SAMPLES", true},
                   {"cpu_cores", "CPU MEAN", true},
                   {"rss_bytes", "RSS MAX", true},
                   {"block_bytes", "STORED", true},
                   {"curve", "CPU OVER TIME"}});
  for (const auto& [id, curve] : curves) {
    const double mean = mean_of(curve.cores);
    listing.add({{id, ""},
                 {curve.last.state, ""},
                 {curve.cores.size(), ""},
                 {mean, fmt::format("{:.2f}", mean)},
                 {curve.rss_bytes, format_size(curve.rss_bytes)},
                 {curve.last.block_bytes, format_size(curve.last.block_bytes)},
                 {sparkline(curve.cores, kSparklineWidth, unicode), ""}});
  }
  listing.footer = footer_of(history);
  return listing;
}

}  // namespace

Listing history_summary(const History& history, const std::vector<std::string>& jobs, bool nodes, bool unicode) {
  if (nodes) return nodes_summary(history, unicode);
  std::map<std::string, JobCurve, ById> curves;
  for (const HistorySample& sample : history.samples) {
    for (const HistoryJob& job : sample.jobs) {
      if (!wanted(jobs, job.id)) continue;
      JobCurve& curve = curves[job.id];
      if (curve.rates.empty()) curve.from = sample.at_ms;
      curve.last = job;
      curve.to = sample.at_ms;
      curve.rates.push_back(from_milli(job.rate_milli_qps));
      curve.p99_us = std::max(curve.p99_us, job.latency.p99_us);
    }
  }
  Listing listing("idunno.stats_history.v1", "jobs",
                  {{"id", "JOB"},
                   {"name", "NAME"},
                   {"state", "STATE"},
                   {"from", "FROM"},
                   {"span", "OVER", true},
                   {"done", "DONE", true},
                   {"errors", "ERRORS", true},
                   {"rate_mean_qps", "RATE/s MEAN", true},
                   {"rate_max_qps", "MAX", true},
                   {"p99_max_ms", "P99 MAX ms", true},
                   {"curve", "RATE OVER TIME"}});
  for (const auto& [id, curve] : curves) {
    const double mean = mean_of(curve.rates);
    const double most = *std::max_element(curve.rates.begin(), curve.rates.end());
    listing.add({{id, ""},
                 {curve.last.name, ""},
                 {curve.last.state, ""},
                 {rfc3339(curve.from), ""},
                 {(curve.to - curve.from) / 1000, span_text(curve.from, curve.to)},
                 {curve.last.done, ""},
                 {curve.last.errors, ""},
                 {mean, fmt::format("{:.1f}", mean)},
                 {most, fmt::format("{:.1f}", most)},
                 {ms(curve.p99_us), curve.p99_us == 0 ? "-" : fmt::format("{:.0f}", ms(curve.p99_us))},
                 {sparkline(curve.rates, kSparklineWidth, unicode), ""}});
  }
  listing.footer = footer_of(history);
  return listing;
}

}  // namespace idunno::cli

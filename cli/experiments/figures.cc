#include "cli/experiments/figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <numeric>

namespace idunno::cli {

namespace {

struct Entry {
  const char* name;
  const char* what;
  bool shown;
};
/// Also the order of the table.
constexpr Entry kCatalogue[] = {
    {"start_s", "from the submit being accepted to the second job's first batch starting", true},
    {"command_s", "from the command, which indexes the data first, to that batch", true},
    {"start_batches", "start_s in batch times of the first job", true},
    {"first_result_s", "from the submit being accepted to its first result", true},
    {"batch_s", "mean batch time of the first job before", false},
    {"rate_ratio", "ratio of the two jobs' queries/s from then on", true},
    {"machine_ratio", "ratio of the executors at work for the two", true},
    {"machines_first", "executors at work for the first job, mean", true},
    {"machines_second", "executors at work for the second job, mean", true},
    {"rate_first_qps", "queries/s of the first job from then on", false},
    {"rate_second_qps", "queries/s of the second job from then on", false},
    {"detected_ms", "known dead after (as an event or the statistics of each second tell)", true},
    {"takeover_ms", "another coordinator has committed after", true},
    {"reassigned_ms", "the dead ones' batches leased again or committed after", true},
    {"normal_s", "time to normal: nothing outstanding, rates at 90 % of what is left", true},
    {"before_s", "rates of all jobs at 90 % of before again after", true},
    {"dip_pct", "depth of the dip in queries/s", true},
    {"dip_s", "length of the dip", true},
    {"gap_s", "longest time without a commit", true},
    {"repeated_batches", "batches leased again", true},
    {"lost_queries", "neither committed nor leased again", true},
    {"windows", "windows of 10 s", false},
    {"in5_pct", "share of the windows with a max/min ratio of at most 1.05", true},
    {"in10_pct", "share of the windows with a max/min ratio of at most 1.10", true},
    {"ratio", "max/min ratio of rate/weight in a window, mean", true},
    {"worst_ratio", "max/min ratio of rate/weight in the worst window", true},
    {"in5_after_pct", "share at most 1.05 of the windows from 10 s after the failure on", true},
    {"in10_after_pct", "share at most 1.10 of the windows from 10 s after the failure on", true},
    {"worst_after_ratio", "the worst of the windows from 10 s after the failure on", true},
    {"offered_qps", "queries/s offered", true},
    {"rate_qps", "queries/s, all jobs", true},
    {"workers_ratio", "queries/s over workers x one worker's", true},
    {"utilisation_pct", "service time of the queries done, in per cent of the workers' time", true},
    {"mean_ms", "query processing time: mean", true},
    {"sd_ms", "query processing time: standard deviation", true},
    {"median_ms", "query processing time: median", true},
    {"p90_ms", "query processing time: 90th percentile", true},
    {"p95_ms", "query processing time: 95th percentile", true},
    {"p99_ms", "query processing time: 99th percentile", true},
    {"model_loads", "times a model was loaded", true},
    {"hedged_batches", "stragglers leased a second time", false},
    {"conflicts", "results that differed from the committed ones", false},
    {"lost_notices", "events that did not reach this client", false},
};
constexpr double kAfterFailureS = 10;
constexpr double kSettledS = 2;  ///< a second job's first seconds are its start, not its share

double to_s(Duration duration) { return std::chrono::duration<double>(duration).count(); }

std::size_t entry_of(const std::string& name) {
  std::size_t best = std::size(kCatalogue);
  std::size_t length = 0;
  for (std::size_t i = 0; i < std::size(kCatalogue); ++i) {
    const std::string known = kCatalogue[i].name;
    const bool fits = name == known || name.ends_with("_" + known);
    if (fits && known.size() > length) {
      best = i;
      length = known.size();
    }
  }
  return best;
}

void add_latency(Figures& figures, const LatencyPoint& point) {
  if (point.queries == 0) return;
  figures["mean_ms"] = point.mean_ms;
  figures["sd_ms"] = point.sd_ms;
  figures["median_ms"] = point.median_ms;
  figures["p90_ms"] = point.p90_ms;
  figures["p95_ms"] = point.p95_ms;
  figures["p99_ms"] = point.p99_ms;
}

double total_rate(const Recording& recording, double from_s, double until_s) {
  double sum = 0;
  for (std::size_t i = 0; i < recording.jobs.size(); ++i) sum += recording.processed_rate(i, from_s, until_s);
  return sum;
}

double ratio_of(double one, double other) { return std::max(one, other) / std::min(one, other); }

void add_windows(Figures& figures, const std::vector<FairWindow>& windows, bool after) {
  if (windows.empty()) return;
  const auto share = [&](double limit) {
    const auto inside = std::count_if(windows.begin(), windows.end(), [&](const FairWindow& one) { return one.ratio <= limit; });
    return 100.0 * static_cast<double>(inside) / static_cast<double>(windows.size());
  };
  double worst = 0;
  double sum = 0;
  for (const FairWindow& one : windows) {
    worst = std::max(worst, one.ratio);
    sum += one.ratio;
  }
  figures[after ? "in5_after_pct" : "in5_pct"] = share(1.05);
  figures[after ? "in10_after_pct" : "in10_pct"] = share(1.10);
  figures[after ? "worst_after_ratio" : "worst_ratio"] = worst;
  if (after) return;
  figures["windows"] = static_cast<double>(windows.size());
  figures["ratio"] = sum / static_cast<double>(windows.size());
}

void second_job(Figures& figures, const Recording& recording) {
  if (recording.jobs.size() != 2) return;
  // The one that was there from the beginning is the first, whatever the order in the file.
  const std::size_t second = recording.jobs[0].accepted_s > recording.jobs[1].accepted_s ? 0 : 1;
  const std::size_t first = 1 - second;
  const JobTrack& late = recording.jobs[second];
  const double batch_s = recording.latency(first, -1e9, late.accepted_s).mean_ms / 1000;
  if (batch_s > 0) figures["batch_s"] = batch_s;
  if (!late.started_s) return;
  const double start_s = std::max(0.0, *late.started_s - late.accepted_s);
  figures["start_s"] = start_s;
  figures["command_s"] = *late.started_s - late.commanded_s;
  if (batch_s > 0) figures["start_batches"] = start_s / batch_s;
  if (late.committed_s) figures["first_result_s"] = *late.committed_s - late.accepted_s;
  const double from = *late.started_s + kSettledS;
  const double until = recording.complete_until();
  const double rate_first = recording.processed_rate(first, from, until);
  const double rate_second = recording.processed_rate(second, from, until);
  if (until <= from || rate_first <= 0 || rate_second <= 0) return;
  figures["rate_first_qps"] = rate_first;
  figures["rate_second_qps"] = rate_second;
  figures["rate_ratio"] = ratio_of(rate_first / recording.jobs[first].weight, rate_second / late.weight);
  figures["machines_first"] = recording.machines(first, from, until);
  figures["machines_second"] = recording.machines(second, from, until);
  figures["machine_ratio"] = ratio_of(figures["machines_first"], figures["machines_second"]);
}

void failures(Figures& figures, const Recording& recording, const RoundFacts& facts) {
  for (const KillRecord& kill : recording.kills) {
    const std::string prefix = prefix_of(kill.name, recording.kills.size());
    const Timeline& timeline = kill.timeline;
    const auto add = [&](const char* name, const std::optional<Duration>& value, double unit_s) {
      if (value) figures[prefix + name] = to_s(*value) / unit_s;
    };
    // The next failure ends the time that this one is judged by.
    double end_s = recording.end_s;
    for (const KillRecord& other : recording.kills) {
      if (other.at_s > kill.at_s) end_s = std::min(end_s, other.at_s);
    }
    const Time end =
        timeline.killed_at() + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(end_s - kill.at_s));
    std::optional<Duration> detected = Duration::zero();
    std::optional<Duration> reassigned = Duration::zero();
    for (const NodeId victim : kill.victims) {
      const auto worse = [](std::optional<Duration>& sum, const std::optional<Duration>& one) {
        sum = sum && one ? std::optional<Duration>(std::max(*sum, *one)) : std::nullopt;
      };
      worse(detected, timeline.detected(victim));
      worse(reassigned, timeline.reassigned(victim));
    }
    add("detected_ms", detected, 0.001);
    add("reassigned_ms", reassigned, 0.001);
    if (kill.coordinator && !timeline.changes().empty())
      add("takeover_ms", timeline.changes().front().at - timeline.killed_at(), 0.001);
    const auto steady = timeline.normal(kill.before, kill.window, end, kNormalShare * kill.slots_left);
    if (steady && reassigned) add("normal_s", std::max(*steady, *reassigned), 1);
    add("before_s", timeline.normal(kill.before, kill.window, end), 1);
    const Timeline::Dip dip = timeline.dip(kill.before, std::min<Duration>(kill.window, std::chrono::seconds(2)), end);
    figures[prefix + "dip_pct"] = dip.depth_pct;
    add("dip_s", dip.length, 1);
    add("gap_s", dip.longest_gap, 1);
    figures[prefix + "repeated_batches"] = static_cast<double>(timeline.repeated_batches());
    const auto lost = facts.lost_queries.find(kill.name);
    if (lost != facts.lost_queries.end()) figures[prefix + "lost_queries"] = static_cast<double>(lost->second);
  }
}

void fairness(Figures& figures, const Recording& recording) {
  add_windows(figures, recording.fair_windows(0, recording.end_s), false);
  if (recording.kills.empty()) return;
  add_windows(figures, recording.fair_windows(recording.kills.back().at_s + kAfterFailureS, recording.end_s), true);
}

void curve(Figures& figures, const ExpCase& one, const Recording& recording, const RoundFacts& facts) {
  const double until = recording.end_s;
  const double offered = one.load * facts.capacity_qps;
  figures["rate_qps"] = recording.committed_rate(std::nullopt, 0, until);
  if (offered > 0) figures["offered_qps"] = offered;
  add_latency(figures, offered > 0 ? due_latency(recording, 0, offered, 0, until) : recording.latency(std::nullopt, 0, until));
}

void scaling(Figures& figures, const ExpCase& one, const Recording& recording, const RoundFacts& facts) {
  const double until = recording.complete_until();
  if (until <= 0) return;
  figures["rate_qps"] = total_rate(recording, 0, until);
  double busy = 0;
  bool known = facts.services_s.size() == recording.jobs.size();
  for (std::size_t i = 0; known && i < recording.jobs.size(); ++i) {
    known = facts.services_s[i] > 0;
    busy += recording.processed_rate(i, 0, until) * facts.services_s[i];
  }
  if (known) figures["utilisation_pct"] = 100 * busy / (one.nodes * one.slots);
}

}  // namespace

Figures figures_of(Measure measure, const ExpCase& one, const Recording& recording, const RoundFacts& facts) {
  Figures figures;
  figures["hedged_batches"] = static_cast<double>(facts.hedged);
  figures["conflicts"] = static_cast<double>(facts.conflicts);
  figures["lost_notices"] = static_cast<double>(recording.lost_notices);
  switch (measure) {
    case Measure::second_job:
      second_job(figures, recording);
      break;
    case Measure::failure:
      failures(figures, recording, facts);
      break;
    case Measure::script:
      failures(figures, recording, facts);
      figures["rate_qps"] = total_rate(recording, 0, recording.complete_until());
      add_latency(figures, recording.latency(std::nullopt, 0, recording.end_s));
      fairness(figures, recording);
      break;
    case Measure::fairness:
      failures(figures, recording, facts);
      fairness(figures, recording);
      figures["rate_qps"] = total_rate(recording, 0, recording.complete_until());
      figures["model_loads"] = static_cast<double>(facts.model_loads);
      break;
    case Measure::curve:
      curve(figures, one, recording, facts);
      break;
    case Measure::scaling:
      scaling(figures, one, recording, facts);
      add_latency(figures, recording.latency(std::nullopt, 0, recording.end_s));
      break;
  }
  return figures;
}

void add_figures_across(Measure measure, std::vector<CaseFigures>& cases) {
  if (measure != Measure::scaling) return;
  std::map<std::string, std::vector<double>> single;  // of one worker, by group
  for (const CaseFigures& one : cases) {
    for (const Figures& round : one.rounds) {
      const auto rate = round.find("rate_qps");
      if (one.workers == 1 && rate != round.end()) single[one.group].push_back(rate->second);
    }
  }
  for (CaseFigures& one : cases) {
    const auto rates = single.find(one.group);
    if (rates == single.end()) continue;
    const double mean =
        std::accumulate(rates->second.begin(), rates->second.end(), 0.0) / static_cast<double>(rates->second.size());
    for (Figures& round : one.rounds) {
      const auto rate = round.find("rate_qps");
      if (rate != round.end() && mean > 0) round["workers_ratio"] = rate->second / (one.workers * mean);
    }
  }
}

FigureText figure_text(const std::string& name) {
  const std::size_t found = entry_of(name);
  if (found == std::size(kCatalogue)) return {name, true};
  const Entry& entry = kCatalogue[found];
  const std::size_t prefix = name.size() - std::string(entry.name).size();
  std::string who = name.substr(0, prefix == 0 ? 0 : prefix - 1);
  std::replace(who.begin(), who.end(), '_', ' ');
  return {who.empty() ? entry.what : who + ": " + entry.what, entry.shown};
}

std::vector<std::string> in_table_order(const std::vector<std::string>& names) {
  std::vector<std::string> ordered = names;
  const auto key = [](const std::string& name) {
    const std::size_t entry = entry_of(name);
    const std::size_t length = entry == std::size(kCatalogue) ? name.size() : std::string(kCatalogue[entry].name).size();
    return std::make_tuple(name.substr(0, name.size() - length), entry, name);
  };
  std::stable_sort(ordered.begin(), ordered.end(),
                   [&](const std::string& one, const std::string& other) { return key(one) < key(other); });
  return ordered;
}

std::string prefix_of(const std::string& action, std::size_t actions) {
  if (actions < 2) return "";
  std::string out;
  for (const char c : action) out += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return out + "_";
}

std::string number_text(double value) {
  const double size = std::abs(value);
  if (value == std::round(value) && size < 1e15) return fmt::format("{:.0f}", value);
  if (size >= 1000) return fmt::format("{:.0f}", value);
  if (size >= 100) return fmt::format("{:.1f}", value);
  if (size >= 10) return fmt::format("{:.2f}", value);
  if (size >= 0.1) return fmt::format("{:.3f}", value);
  return fmt::format("{:.2g}", value);
}

std::size_t knee_of(const std::vector<CurvePoint>& points) {
  std::size_t best = points.size();
  double most = 0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (!(points[i].latency > 0)) continue;
    const double power = points[i].throughput / points[i].latency;
    if (best == points.size() || power > most) {
      best = i;
      most = power;
    }
  }
  return best;
}

LatencyPoint due_latency(const Recording& recording, std::size_t job, double offered_qps, double from_s, double to_s) {
  Recording due;
  due.jobs = recording.jobs;
  const double batch = recording.jobs.at(job).batch;
  // The least belated lease says when the offer began; what was late before the clock started is not made good.
  double first = std::numeric_limits<double>::infinity();
  for (const BatchRecord& one : recording.batches) {
    if (one.job == job && one.leased_s >= from_s)
      first = std::min(first, one.leased_s - static_cast<double>(one.batch) * batch / offered_qps);
  }
  for (BatchRecord one : recording.batches) {
    if (one.job != job || one.leased_s < from_s) continue;
    one.started_s = first + static_cast<double>(one.batch) * batch / offered_qps;
    due.batches.push_back(one);
  }
  return due.latency(job, from_s, to_s);
}

}  // namespace idunno::cli

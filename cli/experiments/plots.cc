#include "cli/experiments/plots.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>

#include "cli/failover_rounds.h"

namespace idunno::cli {

namespace {

constexpr double kRateStepS = 0.5;
constexpr double kRateWindowS = 2;
constexpr double kScriptWindowS = 10;
constexpr std::size_t kCurvesMax = 8;

struct Drawing {
  const Experiment& experiment;
  const RunResult& result;
  const Systems& systems;
  const std::string& engine;
  std::vector<ExpPlot> plots;

  /// A long title would run out of the picture: what the engine is goes on a second line.
  [[nodiscard]] std::string titled(const std::string& title) const { return engine.empty() ? title : title + "\n" + engine; }
  void add(const std::string& stem, Plot plot) {
    const std::string title = plot.title;
    plot.title = titled(title);
    const std::string program = gnuplot_program(plot, stem + ".svg");
    if (!program.empty()) plots.push_back({stem, title, program});
  }
  void add(const std::string& stem, BarPlot plot) {
    const std::string title = plot.title;
    plot.title = titled(title);
    const std::string program = gnuplot_program(plot, stem + ".svg");
    if (!program.empty()) plots.push_back({stem, title, program});
  }
};

Summary summary_for(const CaseResult& one, const std::string& figure) {
  std::vector<double> values;
  for (const RoundResult& round : one.rounds) {
    const auto found = round.figures.find(figure);
    if (found != round.figures.end()) values.push_back(found->second);
  }
  return summary_of(values);
}

/// This system's figure, one bar a case, above those of the others.
void add_bars(Drawing& drawing, const std::string& figure, const std::string& title, const std::string& unit) {
  BarPlot plot;
  plot.title = title;
  plot.x_label = unit;
  for (const CaseResult& one : drawing.result.cases) {
    const Summary summary = summary_for(one, figure);
    if (summary.count == 0) continue;
    const std::string sd = summary.count < 2 ? "" : fmt::format(" (sd {}, n {})", number_text(summary.sd), summary.count);
    plot.bars.push_back({"IDunno" + (one.about.name.empty() ? "" : ", " + one.about.name), summary.mean, summary.sd, true,
                         number_text(summary.mean) + (unit == "seconds" ? " s" : "") + sd});
  }
  if (plot.bars.empty()) return;
  for (const SystemFigure& other : drawing.systems.figures) {
    if (other.experiment != drawing.experiment.name || other.figure != figure) continue;
    plot.bars.push_back({"system " + other.system, other.mean, other.sd, false, other.text});
  }
  drawing.add(figure, std::move(plot));
}

std::vector<PlotMark> marks_of(const Recording& recording, double from_s, double to_s) {
  std::vector<PlotMark> marks;
  for (const KillRecord& kill : recording.kills) {
    if (kill.at_s >= from_s && kill.at_s <= to_s) marks.push_back({kill.at_s, kill.name + " killed"});
  }
  for (const JobTrack& job : recording.jobs) {
    if (job.accepted_s > from_s && job.accepted_s <= to_s && job.accepted_s > 0)
      marks.push_back({job.accepted_s, job.name + " submitted"});
  }
  return marks;
}

/// Queries/s of each job over time.
Plot rates_plot(const Recording& recording, double from_s, double to_s, double window_s) {
  Plot plot;
  plot.x_min = from_s;
  plot.x_max = to_s;
  plot.x_label = "seconds";
  plot.y_label = fmt::format("queries/s processed (last {:g} s)", window_s);
  for (std::size_t i = 0; i < recording.jobs.size(); ++i) {
    PlotSeries series;
    series.title = recording.jobs[i].name;
    for (double at = from_s + window_s; at <= to_s; at += kRateStepS)
      series.points.emplace_back(at, recording.processed_rate(i, at - window_s, at));
    plot.series.push_back(std::move(series));
  }
  plot.marks = marks_of(recording, from_s, to_s);
  return plot;
}

void second_job(Drawing& drawing) {
  add_bars(drawing, "start_s", "Second job: from its submit to its first batch", "seconds");
  add_bars(drawing, "rate_ratio", "Second job: ratio of the two jobs' query rates", "ratio of the larger to the smaller");
  const CaseResult& one = drawing.result.cases.front();
  const Recording& recording = one.rounds.front().recording;
  const double to = recording.complete_until();
  Plot rates = rates_plot(recording, -2, to, kRateWindowS);
  rates.title = "A second job comes: queries/s (round 1)";
  drawing.add("rates", std::move(rates));
  Plot machines;
  machines.title = "A second job comes: executors at work for each (round 1)";
  machines.x_label = "seconds";
  machines.y_label = "executors at work (last 2 s)";
  for (std::size_t i = 0; i < recording.jobs.size(); ++i) {
    PlotSeries series;
    series.title = recording.jobs[i].name;
    for (double at = -2 + kRateWindowS; at <= to; at += kRateStepS)
      series.points.emplace_back(at, recording.machines(i, at - kRateWindowS, at));
    machines.series.push_back(std::move(series));
  }
  machines.x_min = -2;
  machines.x_max = to;
  machines.marks = marks_of(recording, -2, to);
  drawing.add("machines", std::move(machines));
}

/// The mean over the rounds of all jobs' commits, around the first failure.
void failure(Drawing& drawing) {
  add_bars(drawing, "normal_s", drawing.experiment.title + ": time to normal", "seconds");
  Plot plot;
  plot.title = drawing.experiment.title + ": queries/s around it";
  plot.x_label = "seconds since the failure";
  plot.y_label = "queries/s processed, all jobs (1 s windows)";
  plot.marks.push_back({0, "failure"});
  static constexpr double kBeforeS = 5;
  static constexpr double kWindowS = 1;
  for (const CaseResult& one : drawing.result.cases) {
    PlotSeries series;
    series.title = one.about.name.empty()
                       ? fmt::format("mean of {} round{}", one.rounds.size(), one.rounds.size() == 1 ? "" : "s")
                       : one.about.name;
    double after = 30;
    for (const RoundResult& round : one.rounds) {
      if (!round.recording.kills.empty()) after = std::min(after, round.recording.end_s - round.recording.kills.front().at_s);
    }
    for (double at = -kBeforeS; at + kWindowS <= after; at += kRateStepS / 2) {
      double sum = 0;
      std::size_t count = 0;
      for (const RoundResult& round : one.rounds) {
        if (round.recording.kills.empty()) continue;
        const double from = round.recording.kills.front().at_s + at;
        for (std::size_t i = 0; i < round.recording.jobs.size(); ++i)
          sum += round.recording.processed_rate(i, from, from + kWindowS);
        ++count;
      }
      if (count > 0) series.points.emplace_back(at + kWindowS / 2, sum / static_cast<double>(count));
    }
    plot.series.push_back(std::move(series));
  }
  drawing.add("rates", std::move(plot));
}

void script(Drawing& drawing) {
  const Recording& recording = drawing.result.cases.front().rounds.front().recording;
  const double end = recording.end_s;
  // A quick form is over before a window of the whole one is full.
  const double window_s = end < 10 * kScriptWindowS ? kRateWindowS : kScriptWindowS;
  Plot rates = rates_plot(recording, 0, recording.complete_until(), window_s);
  rates.title = drawing.experiment.title + ": queries/s";
  drawing.add("rates", std::move(rates));
  const auto latency = [&](const std::string& stem, const std::string& title, const std::string& label,
                           const std::function<double(double)>& from) {
    Plot plot;
    plot.title = title;
    plot.x_label = "seconds";
    plot.y_label = label;
    plot.marks = marks_of(recording, 0, end);
    plot.x_max = end;
    static constexpr std::pair<const char*, double LatencyPoint::*> kCurves[] = {
        {"mean", &LatencyPoint::mean_ms}, {"sd", &LatencyPoint::sd_ms},   {"median", &LatencyPoint::median_ms},
        {"p90", &LatencyPoint::p90_ms},   {"p95", &LatencyPoint::p95_ms}, {"p99", &LatencyPoint::p99_ms}};
    std::vector<LatencyPoint> points;
    for (double at = 1; at <= end; at += 1) points.push_back(recording.latency(std::nullopt, std::max(0.0, from(at)), at));
    for (const auto& [name, member] : kCurves) {
      PlotSeries series;
      series.title = name;
      for (const LatencyPoint& point : points) {
        if (point.queries > 0) series.points.emplace_back(point.at_s, point.*member);
      }
      plot.series.push_back(std::move(series));
    }
    drawing.add(stem, std::move(plot));
  };
  latency("latency", drawing.experiment.title + ": query processing time", fmt::format("ms (windows of {:g} s)", window_s),
          [window_s](double at) { return at - window_s; });
  latency("latency-since-start", drawing.experiment.title + ": query processing time since the start, as system B draws it",
          "ms (all queries so far)", [](double) { return 0.0; });
  for (const KillRecord& kill : recording.kills) {
    const std::string prefix = prefix_of(kill.name, recording.kills.size());
    add_bars(drawing, prefix + "normal_s", fmt::format("{}: time to normal", kill.name), "seconds");
  }
}

void fairness(Drawing& drawing) {
  BarPlot share;
  share.title = "Fairness: share of 10 s windows with a max/min ratio of at most 1.05";
  share.x_label = "per cent of the windows";
  BarPlot worst;
  worst.title = "Fairness: max/min ratio of rate/weight in the worst 10 s window";
  worst.x_label = "ratio";
  for (const CaseResult& one : drawing.result.cases) {
    const Summary in5 = summary_for(one, "in5_pct");
    const Summary in10 = summary_for(one, "in10_pct");
    const Summary ratio = summary_for(one, "worst_ratio");
    const std::string& name = one.about.name;
    if (in5.count > 0)
      share.bars.push_back({name, in5.mean, 0, one.about.policy.empty() || one.about.policy == "fair-rate",
                            fmt::format("{} % (1.10: {} %)", number_text(in5.mean), number_text(in10.mean))});
    if (ratio.count > 0)
      worst.bars.push_back(
          {name, ratio.max, 0, one.about.policy.empty() || one.about.policy == "fair-rate", number_text(ratio.max)});
  }
  drawing.add("windows", std::move(share));
  drawing.add("worst", std::move(worst));
  // Over time: those of the policy that is to be judged; the others would flatten the picture.
  Plot plot;
  plot.title = "Fairness: max/min ratio of rate/weight over the last 10 s (round 1)";
  plot.x_label = "seconds";
  plot.y_label = "ratio";
  plot.y_min = 1;
  plot.levels = {{1.05, "1.05"}, {1.10, "1.10"}};
  for (const CaseResult& one : drawing.result.cases) {
    if (plot.series.size() >= kCurvesMax || !(one.about.policy.empty() || one.about.policy == "fair-rate")) continue;
    PlotSeries series;
    series.title = one.about.name;
    const Recording& recording = one.rounds.front().recording;
    for (const FairWindow& window : recording.fair_windows(0, recording.end_s))
      series.points.emplace_back(window.end_s, window.ratio);
    plot.series.push_back(std::move(series));
  }
  drawing.add("over-time", std::move(plot));
}

/// Latency over throughput, one curve a group, with its knee.
void curve(Drawing& drawing, const std::string& figure, const std::string& what) {
  Plot plot;
  plot.title = drawing.experiment.title + ": " + what;
  plot.x_label = "queries/s";
  plot.y_label = "ms from when a batch was due to its commit";
  plot.y_log = true;
  plot.height = 460;
  std::map<std::string, std::vector<CurvePoint>> groups;
  std::vector<std::string> order;
  for (const CaseResult& one : drawing.result.cases) {
    if (one.about.load <= 0) continue;
    const Summary rate = summary_for(one, "rate_qps");
    const Summary latency = summary_for(one, figure);
    if (rate.count == 0 || latency.count == 0) continue;
    if (groups.count(one.about.group) == 0) order.push_back(one.about.group);
    groups[one.about.group].push_back({rate.mean, latency.mean});
  }
  int colour = 0;
  for (const std::string& group : order) {
    PlotSeries series;
    series.title = group;
    series.style = PlotSeries::Style::lines_points;
    series.colour = ++colour;
    const std::vector<CurvePoint>& points = groups[group];
    for (const CurvePoint& point : points) series.points.emplace_back(point.throughput, point.latency);
    plot.series.push_back(std::move(series));
    const std::size_t knee = knee_of(points);
    if (knee < points.size()) plot.marks.push_back({points[knee].throughput, "knee", points[knee].latency, true});
  }
  drawing.add(figure == "mean_ms" ? "latency-mean" : "latency-p99", std::move(plot));
}

void scaling(Drawing& drawing) {
  std::map<std::string, std::vector<const CaseResult*>> groups;
  for (const CaseResult& one : drawing.result.cases) groups[one.about.group].push_back(&one);
  Plot rates;
  rates.title = drawing.experiment.title + ": throughput";
  rates.x_label = "workers";
  rates.y_label = "queries/s";
  rates.x_log = true;
  rates.y_log = true;
  Plot ratios;
  ratios.title = drawing.experiment.title + ": of workers x one worker's throughput";
  ratios.x_label = "workers";
  ratios.y_label = "ratio";
  ratios.x_log = true;
  ratios.y_max = 1.1;
  ratios.levels = {{0.97, "0.97"}};
  int colour = 0;
  for (const auto& [group, cases] : groups) {
    PlotSeries measured;
    PlotSeries ideal;
    PlotSeries ratio;
    PlotSeries used;
    measured.title = group.empty() ? "measured" : group;
    measured.style = ratio.style = used.style = PlotSeries::Style::lines_points;
    measured.colour = ideal.colour = ratio.colour = ++colour;
    ideal.title = (group.empty() ? "" : group + ": ") + "workers x one worker's";
    ideal.dashed = true;
    ratio.title = group.empty() ? "throughput" : group;
    used.title = (group.empty() ? "" : group + ": ") + "service time / workers' time";
    used.dashed = true;
    double one_worker = 0;
    for (const CaseResult* one : cases) {
      const Summary rate = summary_for(*one, "rate_qps");
      const Summary share = summary_for(*one, "workers_ratio");
      const Summary use = summary_for(*one, "utilisation_pct");
      const double workers = one->about.nodes * one->about.slots;
      if (workers == 1) one_worker = rate.mean;
      measured.points.emplace_back(workers, rate.mean);
      measured.errors.push_back(rate.sd);
      if (one_worker > 0) ideal.points.emplace_back(workers, one_worker * workers);
      if (share.count > 0) ratio.points.emplace_back(workers, share.mean);
      if (use.count > 0) used.points.emplace_back(workers, use.mean / 100);
      if (std::find(rates.x_ticks.begin(), rates.x_ticks.end(), workers) == rates.x_ticks.end()) rates.x_ticks.push_back(workers);
    }
    for (PlotSeries* series : {&measured, &ideal}) rates.series.push_back(*series);
    for (PlotSeries* series : {&ratio, &used}) ratios.series.push_back(*series);
  }
  ratios.x_ticks = rates.x_ticks;
  drawing.add("throughput", std::move(rates));
  drawing.add("ratio", std::move(ratios));
}

}  // namespace

std::vector<ExpPlot> plots_of(const Experiment& experiment, const RunResult& result, const Systems& systems,
                              const std::string& engine) {
  RunResult played;
  for (const CaseResult& one : result.cases) {
    if (!one.rounds.empty()) played.cases.push_back(one);
  }
  if (played.cases.empty()) return {};
  Drawing drawing{experiment, played, systems, engine, {}};
  switch (experiment.measure) {
    case Measure::second_job:
      second_job(drawing);
      break;
    case Measure::failure:
      failure(drawing);
      break;
    case Measure::script:
      script(drawing);
      break;
    case Measure::fairness:
      fairness(drawing);
      break;
    case Measure::curve:
      curve(drawing, "mean_ms", "mean");
      curve(drawing, "p99_ms", "99th percentile");
      break;
    case Measure::scaling:
      scaling(drawing);
      break;
  }
  return drawing.plots;
}

}  // namespace idunno::cli

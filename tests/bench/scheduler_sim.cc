// scheduler_sim: the real scheduler, worker queues and fairness monitor in virtual time: how equal the rates are, how soon, and
// what it costs, from 10 workers and 2 jobs to 1,000 workers and 100 jobs, for each policy.
//   scheduler_sim [--only judged] [--seed 1] [--repeat 5] [--csv FILE] [--svg FILE]

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/bench/scheduler_world.h"

namespace idunno::bench {
namespace {

/// What scenarios are called by --only; and what of their windows counts.
struct Group {
  const char* name;
  std::vector<Scenario> scenarios;
};

constexpr double kResnetS = 0.95;  // a batch of 16 on one core, as the experiments measure it
constexpr double kAlexnetS = 0.48;
constexpr double kAfterDisturbanceS = 20;  // a window that begins 10 s after a death ends 20 s after it

Scenario shared(const std::string& name, std::uint32_t workers, std::vector<SimJob> jobs) {
  Scenario scenario;
  scenario.name = name;
  scenario.workers = workers;
  scenario.cores = 2;
  scenario.seconds = 180;
  scenario.noise = 0.1;
  scenario.jobs = std::move(jobs);
  for (std::size_t i = 1; i < scenario.jobs.size(); ++i) scenario.jobs[i].arrives_s = 10;
  return scenario;
}

std::vector<SimJob> pairs(std::size_t count) {
  std::vector<SimJob> jobs;
  for (std::size_t i = 0; i < count; ++i) jobs.push_back({i % 2 == 0 ? kResnetS : kAlexnetS, 16, 1, 0, 0});
  return jobs;
}

Group judged() {
  Group group{"judged", {}};
  for (const std::uint32_t workers : {2U, 5U, 10U}) {
    const auto add = [&](const char* name, std::vector<SimJob> jobs) {
      group.scenarios.push_back(shared(fmt::format("{}, 2 cores", name), workers, std::move(jobs)));
      return &group.scenarios.back();
    };
    add("ResNet-18 + AlexNet", pairs(2));
    add("batch 16 + batch 4", {{kResnetS, 16, 1, 0, 0}, {kAlexnetS / 4, 4, 1, 0, 0}});
    add("weights 3:1", {{kResnetS, 16, 3, 0, 0}, {kAlexnetS, 16, 1, 0, 0}});
    add("costs 50:1", {{kResnetS, 16, 1, 0, 0}, {kResnetS / 50, 16, 1, 0, 0}});
    add("3 jobs", pairs(3));
    add("10 jobs", pairs(10));
    if (workers == 5) add("10 jobs, two slots each", pairs(10))->slots = 2;
    add("10 jobs, batch 4", {});
    for (int i = 0; i < 10; ++i)
      group.scenarios.back().jobs.push_back({(i % 2 == 0 ? kResnetS : kAlexnetS) / 4, 4, 1, i == 0 ? 0. : 10., 0});
    add("worker dies", pairs(2))->worker_dies_s = 60;
    add("coordinator dies", pairs(2))->coordinator_dies_s = 60;
  }
  return group;
}

/// Costs from 1 to `spread`. Batch sizes 16, or from 1 to 256 (a batch of four times the queries takes twice as long).
std::vector<SimJob> mixed(std::size_t count, double spread, bool sizes) {
  constexpr double kMeanS = 0.3;
  constexpr std::uint32_t kBatches[] = {16, 4, 64, 1, 32, 256, 8, 128};
  std::vector<SimJob> jobs;
  for (std::size_t i = 0; i < count; ++i) {
    const double part = static_cast<double>(i) / static_cast<double>(count - 1);
    SimJob job;
    if (sizes) job.batch = kBatches[i % std::size(kBatches)];
    job.batch_s = kMeanS * std::pow(spread, part - 0.5) * std::sqrt(job.batch / 16.0);
    jobs.push_back(job);
  }
  return jobs;
}

Group scale() {
  Group group{"scale", {}};
  const auto add = [&](std::uint32_t workers, std::size_t jobs, double seconds, double spread, bool sizes) {
    Scenario scenario;
    scenario.name = fmt::format("costs 1:{:.0f}, batches {}", spread, sizes ? "1 to 256" : "of 16");
    scenario.workers = workers;
    scenario.seconds = seconds;
    scenario.jobs = mixed(jobs, spread, sizes);
    group.scenarios.push_back(scenario);
  };
  for (const auto& [workers, jobs, seconds] :
       {std::tuple(10U, 2U, 120.), std::tuple(10U, 10U, 120.), std::tuple(100U, 2U, 90.), std::tuple(100U, 20U, 90.),
        std::tuple(1000U, 2U, 90.), std::tuple(1000U, 100U, 90.)}) {
    for (const double spread : {1.0, 10.0, 100.0}) add(workers, jobs, seconds, spread, false);
    if (jobs > 2) add(workers, jobs, seconds, 10, true);
  }
  return group;
}

Group trouble() {
  Group group{"trouble", {}};
  const auto add = [&](const char* name, std::uint32_t workers) {
    Scenario& scenario = group.scenarios.emplace_back();
    scenario.name = name;
    scenario.workers = workers;
    scenario.seconds = 150;
    scenario.jobs = {{kResnetS, 16, 1, 0, 0}, {kAlexnetS, 16, 1, 10, 0}, {0.2, 8, 2, 10, 0}};
    return &scenario;
  };
  add("speeds +-50 %", 20)->speed_spread = 0.5;
  add("1 % stragglers", 20)->straggler = 0.01;
  add("slow messages (100 ms)", 20)->message_s = 0.1;
  add("a worker dies", 20)->worker_dies_s = 60;
  add("a worker joins", 20)->worker_joins_s = 60;
  add("coordinator away 5 s", 20)->coordinator_dies_s = 60;
  group.scenarios.back().takeover_s = 5;
  return group;
}

Group policies() {
  Group group{"policies", {}};
  for (const auto& [policy, name] : kSchedulePolicies) {
    Scenario scenario = shared(std::string(name), 10, pairs(2));
    scenario.policy = policy;
    group.scenarios.push_back(scenario);
  }
  return group;
}

Group memory() {
  Group group{"memory", {}};
  for (const int lag_ms : {0, 300, 1000, 2000}) {
    Scenario scenario;
    scenario.name = fmt::format("1 of 2 models fits, reload_lag {} ms", lag_ms);
    scenario.workers = 10;
    scenario.seconds = 150;
    scenario.jobs = {{kResnetS, 16, 1, 0, 0}, {kAlexnetS, 16, 1, 10, 0}};
    scenario.models_fit = 1;
    scenario.reload_lag = std::chrono::milliseconds(lag_ms);
    group.scenarios.push_back(scenario);
    scenario.name = fmt::format("2 of 4 models fit, reload_lag {} ms", lag_ms);
    scenario.models_fit = 2;
    scenario.jobs = pairs(4);
    group.scenarios.push_back(scenario);
  }
  return group;
}

struct Row {
  std::string group;
  Scenario scenario;
  std::vector<double> ratios;  ///< of the windows that count, sorted
  double in5 = 0, in10 = 0, in20 = 0;
  double long_run = 0;
  double to_fair_s = 0;  ///< after the first window, or the disturbance, until all windows are within 10 %; mean
  double second_start_s = 0;
  double mean_batch_s = 0;
  double utilisation = 0;
  double reloads_per_100 = 0;
  double decisions_per_s = 0;
  std::vector<Window> series;  ///< of the first run
  [[nodiscard]] double quantile(double q) const {
    return ratios.empty() ? 0 : ratios[static_cast<std::size_t>(q * static_cast<double>(ratios.size() - 1))];
  }
};

double time_to_fair(const std::vector<Window>& windows, double from_s) {
  double until = from_s;
  for (const Window& window : windows) {
    if (window.end_s > from_s && window.ratio > 1.1) until = window.end_s;
  }
  return until - from_s;
}

Row measure(const Group& group, Scenario scenario, std::uint64_t seed, std::uint32_t repeat) {
  Row row;
  row.group = group.name;
  row.scenario = scenario;
  double decisions = 0;
  double scheduler_s = 0;
  double batches = 0;
  double reloads = 0;
  for (std::uint32_t i = 0; i < repeat; ++i) {
    scenario.seed = seed + i;
    const Outcome outcome = World(scenario).run();
    if (i == 0) row.series = outcome.windows;
    const double first = outcome.windows.empty() ? 0 : outcome.windows.front().end_s;
    const double from = outcome.disturbed_s > 0 ? outcome.disturbed_s + kAfterDisturbanceS + outcome.mean_batch_s : first;
    for (const Window& window : outcome.windows) {
      if (window.end_s > from) row.ratios.push_back(window.ratio);
    }
    const auto runs = static_cast<double>(repeat);
    row.to_fair_s += time_to_fair(outcome.windows, outcome.disturbed_s > 0 ? outcome.disturbed_s : first) / runs;
    row.second_start_s += outcome.second_start_s / runs;
    row.mean_batch_s += outcome.mean_batch_s / runs;
    row.utilisation += outcome.utilisation / runs;
    row.long_run = std::max(row.long_run, outcome.long_run);
    decisions += static_cast<double>(outcome.decisions);
    scheduler_s += outcome.scheduler_s;
    batches += static_cast<double>(outcome.batches);
    reloads += static_cast<double>(outcome.reloads);
  }
  std::sort(row.ratios.begin(), row.ratios.end());
  const auto within = [&](double most) {
    const auto count = std::upper_bound(row.ratios.begin(), row.ratios.end(), most) - row.ratios.begin();
    return row.ratios.empty() ? 0 : static_cast<double>(count) / static_cast<double>(row.ratios.size());
  };
  row.in5 = within(1.05);
  row.in10 = within(1.10);
  row.in20 = within(1.20);
  row.reloads_per_100 = batches > 0 ? 100 * reloads / batches : 0;
  row.decisions_per_s = scheduler_s > 0 ? decisions / scheduler_s : 0;
  return row;
}

void print(const Row& row) {
  fmt::print(
      "| {} | {} | {} | {} | {:.0f} % | {:.0f} % | {:.0f} % | {:.3f} | {:.3f} | {:.1f} s | {:.2f} s ({:.2f} s) | {:.3f} | {:.1f} "
      "| {:.0f}k |\n",
      row.scenario.name, row.scenario.workers, row.scenario.jobs.size(), row.ratios.size(), 100 * row.in5, 100 * row.in10,
      100 * row.in20, row.quantile(1), row.long_run, row.to_fair_s, row.second_start_s, row.mean_batch_s, row.utilisation,
      row.reloads_per_100, row.decisions_per_s / 1000);
  std::fflush(stdout);
}

void write_csv(const std::string& file, const std::vector<Row>& rows) {
  const std::unique_ptr<FILE, int (*)(FILE*)> out(std::fopen(file.c_str(), "w"), &std::fclose);
  if (!out) {
    fmt::print(stderr, "cannot write {}\n", file);
    return;
  }
  fmt::print(out.get(),
             "group,scenario,policy,workers,slots,jobs,windows,in5,in10,in20,median,p95,worst,long_run,to_fair_s,second_start_s,"
             "mean_batch_s,utilisation,reloads_per_100,decisions_per_s\n");
  for (const Row& row : rows) {
    fmt::print(
        out.get(),
        "{},\"{}\",{},{},{},{},{},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.4f},{:.1f},{:.3f},{:.3f},{:.4f},{:.2f},{:.0f}\n",
        row.group, row.scenario.name, to_string(row.scenario.policy), row.scenario.workers, row.scenario.slots,
        row.scenario.jobs.size(), row.ratios.size(), row.in5, row.in10, row.in20, row.quantile(0.5), row.quantile(0.95),
        row.quantile(1), row.long_run, row.to_fair_s, row.second_start_s, row.mean_batch_s, row.utilisation, row.reloads_per_100,
        row.decisions_per_s);
  }
}

/// The ratio over time of the policies, or of the first scenarios when those were not run.
int draw(const std::string& file, const std::vector<Row>& rows) {
  std::vector<const Row*> drawn;
  for (const Row& row : rows) {
    if (row.group == "policies") drawn.push_back(&row);
  }
  for (std::size_t i = 0; drawn.empty() && i < rows.size() && i < 6; ++i) drawn.push_back(&rows[i]);
  FILE* gnuplot = popen("gnuplot", "w");
  if (gnuplot == nullptr) return 1;
  fmt::print(gnuplot,
             "set terminal svg size 760,420 font 'sans,12' background 'white'\nset output '{}'\nset logscale y\n"
             "set xlabel 'end of the 10 s window (s)'\nset ylabel 'max / min of rate / weight'\nset key outside right\nset grid\n"
             "set ytics (1, 1.05, 1.1, 1.2, 1.5, 2, 3, 5)\nset yrange [1:5]\nplot ",
             file);
  std::string separator;
  for (const Row* row : drawn) {
    fmt::print(gnuplot, "{}'-' with lines lw 2 title '{}'", separator, row->scenario.name);
    separator = ", ";
  }
  fmt::print(gnuplot, "\n");
  for (const Row* row : drawn) {
    for (const Window& window : row->series) fmt::print(gnuplot, "{} {}\n", window.end_s, std::max(window.ratio, 1.0));
    fmt::print(gnuplot, "e\n");
  }
  return pclose(gnuplot);
}

}  // namespace
}  // namespace idunno::bench

int main(int argc, char** argv) {
  using namespace idunno::bench;
  CLI::App app{"How fair the scheduler is, how soon, and at what cost, simulated around the real code"};
  std::string csv;
  std::string svg;
  std::string only;
  std::string name;
  std::uint64_t seed = 1;
  std::uint32_t repeat = 3;
  double noise = -1;
  app.add_option("--csv", csv, "write the table to this file");
  app.add_option("--svg", svg, "draw the ratio over time with gnuplot");
  app.add_option("--seed", seed, "of the first run of each scenario");
  app.add_option("--repeat", repeat, "runs of each scenario, with seeds one after the other");
  app.add_option("--only", only, "one group: judged, trouble, memory, policies, scale");
  app.add_option("--name", name, "scenarios whose name contains this");
  app.add_option("--noise", noise, "standard deviation of a batch's time, as a part of it (0.1 where processors are shared)");
  CLI11_PARSE(app, argc, argv);

  std::vector<Row> rows;
  for (const Group& group : {judged(), trouble(), memory(), policies(), scale()}) {
    if (!only.empty() && only != group.name) continue;
    fmt::print(
        "\n{}\n\n| scenario | workers | jobs | windows | <= 1.05 | <= 1.10 | <= 1.20 | worst | long run | fair after | last "
        "job's "
        "first start (a batch) | utilisation | reloads per 100 batches | decisions/s |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        group.name);
    for (Scenario scenario : group.scenarios) {
      if (scenario.name.find(name) == std::string::npos) continue;
      if (noise >= 0) scenario.noise = noise;
      rows.push_back(measure(group, scenario, seed, scenario.workers >= 1000 ? 1 : repeat));
      print(rows.back());
    }
  }
  if (!csv.empty()) write_csv(csv, rows);
  if (!svg.empty() && draw(svg, rows) != 0) {
    fmt::print(stderr, "gnuplot failed (package gnuplot-nox)\n");
    return 1;
  }
  return 0;
}

/// `idunno bench curve`: latency against throughput over batch sizes and load, with the knee of each curve. The same engine as
/// `idunno exp run latency-throughput`, with the choice on the command line.

#include <fmt/core.h>

#include <map>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/bench.h"
#include "cli/experiments/plots.h"
#include "cli/experiments/result.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "bench curve";
constexpr double kLoadMaxPct = 200;

struct Options {
  std::string model = "resnet18";
  std::string service;
  std::string batches = "1,4,16";
  std::string loads = "25,50,70,80,90,100,110";
  unsigned nodes = 2;
  std::string seconds = "10s";
  unsigned repeat = 1;
  std::string images;
  std::string csv;
  std::string svg;
};

Result<Experiment> experiment_of(const Options& options) {
  Experiment experiment;
  experiment.name = "curve";
  experiment.measure = Measure::curve;
  ExpModel model;
  model.name = options.model;
  model.init = options.model;
  if (!options.service.empty()) {
    auto service = parse_duration(options.service);
    if (!service) return service.error();
    model.name = "known";
    model.init.clear();
    model.service = *service;
  }
  experiment.title = "Latency against throughput" + (model.nothing() ? "" : ", " + model.name);
  experiment.models.push_back(model);
  experiment.data.path = options.images;
  auto batches = parse_numbers(options.batches, 65536);
  if (!batches) return Error{Errc::invalid, "--batches: " + batches.error().detail};
  experiment.batches.assign(batches->begin(), batches->end());
  auto loads = parse_numbers(options.loads, static_cast<std::uint32_t>(kLoadMaxPct));
  if (!loads) return Error{Errc::invalid, "--loads: " + loads.error().detail};
  for (const std::uint32_t load : *loads) experiment.loads.push_back(load / 100.0);
  auto duration = parse_duration(options.seconds);
  if (!duration) return Error{Errc::invalid, "--for: " + duration.error().detail};
  experiment.base.duration = *duration;
  experiment.base.nodes = options.nodes;
  ExpJob job;
  job.name = job.model = model.name;
  experiment.base.jobs.push_back(job);
  experiment.repeat = options.repeat;
  return experiment;
}

/// The mean over the rounds.
std::optional<double> mean_of(const CaseResult& one, const std::string& figure) {
  double sum = 0;
  std::size_t count = 0;
  for (const RoundResult& round : one.rounds) {
    const auto found = round.figures.find(figure);
    if (found == round.figures.end()) continue;
    sum += found->second;
    ++count;
  }
  return count == 0 ? std::nullopt : std::optional<double>(sum / static_cast<double>(count));
}

BenchTable table_of(const RunResult& result) {
  static constexpr const char* kTimes[] = {"mean_ms", "median_ms", "p90_ms", "p95_ms", "p99_ms"};
  BenchTable table("idunno.bench_curve.v1", {{"batch", "BATCH", true},
                                             {"load_pct", "LOAD %", true},
                                             {"offered_qps", "OFFERED/s", true},
                                             {"throughput_qps", "RATE/s", true},
                                             {"mean_ms", "MEAN ms", true},
                                             {"median_ms", "MEDIAN", true},
                                             {"p90_ms", "P90", true},
                                             {"p95_ms", "P95", true},
                                             {"p99_ms", "P99", true},
                                             {"knee", "KNEE"}});
  std::map<std::string, std::vector<CurvePoint>> curves;
  std::map<std::string, std::vector<const CaseResult*>> cases;
  for (const CaseResult& one : result.cases) {
    const auto rate = mean_of(one, "rate_qps");
    const auto latency = mean_of(one, "mean_ms");
    if (one.about.load <= 0 || !rate || !latency) continue;
    curves[one.about.group].push_back({*rate, *latency});
    cases[one.about.group].push_back(&one);
  }
  for (const CaseResult& one : result.cases) {
    const auto cell = [&](const char* figure) -> Listing::Cell {
      const auto value = mean_of(one, figure);
      return value ? Listing::Cell{rounded_to(*value, 2), ""} : Listing::Cell{nullptr, "-"};
    };
    const auto& group = cases[one.about.group];
    const std::size_t knee = knee_of(curves[one.about.group]);
    const bool here = knee < group.size() && group[knee] == &one;
    std::vector<Listing::Cell> row{
        {one.about.jobs.front().batch, ""},
        {one.about.load > 0 ? Json(100 * one.about.load) : Json(nullptr), one.about.load > 0 ? "" : "no limit"},
        cell("offered_qps"),
        cell("rate_qps")};
    for (const char* time : kTimes) row.push_back(cell(time));
    row.push_back({here, here ? "knee" : " "});
    table.add(std::move(row));
  }
  table.footer =
      "load: of what the batch size reaches without a limit; times: from when a batch was due at this load to its commit "
      "(without a\n"
      "limit: from its start); knee: the most throughput per mean latency";
  return table;
}

void curve(App& app, const Options& options) {
  clean_up_when_interrupted();
  auto experiment = experiment_of(options);
  if (!experiment) return app.usage("bench curve: " + experiment.error().detail);
  auto plan = make_plan(*experiment, {});
  if (!plan) return app.fail(plan.error(), kDoing);
  auto scratch = ScratchFolder::make();
  if (!scratch) return app.fail(scratch.error(), kDoing);
  const RunResult result = run_plan(app, *experiment, *plan, {1, (*scratch)->path() / "raw"});
  if (auto finished = table_of(result).finish(app.globals, options.csv); !finished) return app.fail(finished.error(), kDoing);
  if (!options.svg.empty()) {
    for (ExpPlot& plot : plots_of(*experiment, result, {}, engine_note(*experiment, *plan))) {
      if (plot.stem != "latency-mean") continue;
      const std::string own = gnuplot_quoted(plot.stem + ".svg");
      plot.program.replace(plot.program.find(own), own.size(), gnuplot_quoted(options.svg));
      if (auto drawn = run_gnuplot(plot.program); !drawn) return app.fail(drawn.error(), kDoing);
    }
  }
  if (!result.status) app.fail(result.status.error(), kDoing);
}

}  // namespace

void add_bench_curve_command(CLI::App& bench, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand("curve", "latency against throughput over batch sizes and load, with the knee");
  command->add_option("--model", options->model, "a published architecture, random weights (default resnet18)")
      ->type_name("NAME");
  command
      ->add_option("--service", options->service,
                   "instead of a model: an engine that takes TIME for a query and computes nothing")
      ->type_name("TIME");
  command->add_option("--batches", options->batches, "batch sizes (default 1,4,16)")->type_name("N,...");
  command->add_option("--loads", options->loads, "per cent of what a batch size reaches (default 25,50,70,80,90,100,110)")
      ->type_name("PCT,...");
  command->add_option("--nodes", options->nodes, "of the temporary cluster, one slot each (default 2)")
      ->check(CLI::Range(1U, kLocalNodesMax))
      ->type_name("N");
  command->add_option("--for", options->seconds, "how long each point is measured (default 10s)")->type_name("TIME");
  command->add_option("--repeat", options->repeat, "rounds of each point (default 1)")
      ->check(CLI::Range(1U, 1000U))
      ->type_name("N");
  command->add_option("--images", options->images, "folder of JPEG or PNG files (default: made-up ones)")->type_name("DIR");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->add_option("--svg", options->svg, "draw mean latency against throughput (needs gnuplot)")->type_name("FILE");
  command->callback([&app, options] { curve(app, *options); });
  command->footer(
      "Example:\n  idunno bench curve --batches 1,16 --csv curve.csv --svg curve.svg\n"
      "  idunno bench curve --service 5ms --nodes 4 --for 5s");
}

}  // namespace idunno::cli

/// From an experiment to its cases: sweeps are spelled out, --quick is put in.

#include <fmt/core.h>

#include <algorithm>

#include "cli/experiments/experiment.h"

namespace idunno::cli {

namespace {

Duration scaled(Duration duration, double scale) {
  return std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, Duration::period>(static_cast<double>(duration.count()) * scale));
}

void scale_times(ExpCase& one, double scale) {
  one.duration = scaled(one.duration, scale);
  for (ExpJob& job : one.jobs) job.at = scaled(job.at, scale);
  for (ExpAction& action : one.actions) action.at = scaled(action.at, scale);
}

std::string joined(const std::string& name, const std::string& more) { return name.empty() ? more : name + ", " + more; }

/// One case for each number of workers.
std::vector<ExpCase> over_workers(const ExpCase& from, const std::vector<std::int64_t>& workers) {
  std::vector<ExpCase> cases;
  for (const std::int64_t count : workers) {
    ExpCase& one = cases.emplace_back(from);
    one.group = from.name;
    one.nodes = static_cast<unsigned>(count);
    one.slots = 1;
    one.name = joined(from.name, fmt::format("{} worker{}", count, count == 1 ? "" : "s"));
  }
  return cases;
}

/// For each batch size first as much as goes, which the loads are shares of.
std::vector<ExpCase> over_loads(const ExpCase& from, const std::vector<std::int64_t>& batches, const std::vector<double>& loads) {
  std::vector<ExpCase> cases;
  for (const std::int64_t batch : batches) {
    ExpCase sized = from;
    sized.group = joined(from.name, fmt::format("batch {}", batch));
    for (ExpJob& job : sized.jobs) job.batch = static_cast<std::uint32_t>(batch);
    ExpCase& full = cases.emplace_back(sized);
    full.name = sized.group + ", no limit";
    for (const double load : loads) {
      ExpCase& one = cases.emplace_back(sized);
      one.load = load;
      one.name = fmt::format("{}, load {:g} %", sized.group, 100 * load);
    }
  }
  return cases;
}

}  // namespace

Result<ExpPlan> make_plan(const Experiment& experiment, const PlanOptions& options) {
  const ExpQuick& quick = experiment.quick;
  const auto either = [&](const auto& whole, const auto& short_form) {
    return options.quick && !short_form.empty() ? short_form : whole;
  };
  ExpPlan plan;
  plan.quick = options.quick;
  plan.repeat = options.repeat != 0 ? options.repeat : options.quick ? quick.repeat : experiment.repeat;
  plan.images = options.quick && quick.images != 0 ? quick.images : experiment.data.images;
  std::vector<ExpCase> cases = experiment.cases.empty() ? std::vector<ExpCase>{experiment.base} : experiment.cases;
  // The choice of the command line goes before that of the file.
  const std::vector<std::string> chosen = !options.cases.empty() ? options.cases : options.quick ? quick.cases : options.cases;
  if (!chosen.empty()) {
    std::vector<ExpCase> some;
    for (const std::string& name : chosen) {
      const auto found = std::find_if(cases.begin(), cases.end(), [&](const ExpCase& one) { return one.name == name; });
      if (found == cases.end()) {
        std::string known;
        for (const ExpCase& one : cases) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", one.name);
        return Error{Errc::not_found, fmt::format("{} has no case '{}'; there are {}", experiment.name, name, known)};
      }
      some.push_back(*found);
    }
    cases = std::move(some);
  }
  for (ExpCase& one : cases) {
    if (options.quick) {
      scale_times(one, quick.scale);
      if (quick.nodes != 0) one.nodes = quick.nodes;
    }
    std::vector<ExpCase> spelled{one};
    if (experiment.measure == Measure::scaling) spelled = over_workers(one, either(experiment.workers, quick.workers));
    if (experiment.measure == Measure::curve)
      spelled = over_loads(one, either(experiment.batches, quick.batches), either(experiment.loads, quick.loads));
    plan.cases.insert(plan.cases.end(), spelled.begin(), spelled.end());
  }
  return plan;
}

Duration planned_duration(const Experiment& experiment, const ExpPlan& plan) {
  Duration sum{};
  for (const ExpCase& one : plan.cases) sum += (one.duration + experiment.settle) * static_cast<int>(plan.repeat);
  return sum;
}

}  // namespace idunno::cli

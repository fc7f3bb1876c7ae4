#pragma once
/// The pictures of an experiment. Pure: gnuplot programs.

#include <string>
#include <vector>

#include "cli/experiments/experiment.h"
#include "cli/experiments/runner.h"
#include "cli/gnuplot.h"

namespace idunno::cli {

struct ExpPlot {
  std::string stem;  ///< of the file: "latency" for latency.svg and latency.gnuplot
  std::string title;
  std::string program;  ///< draws into stem.svg of the working folder
};
/// `engine`: what every title says of an engine that does not infer; empty for real models.
[[nodiscard]] std::vector<ExpPlot> plots_of(const Experiment& experiment, const RunResult& result, const Systems& systems,
                                            const std::string& engine);

}  // namespace idunno::cli

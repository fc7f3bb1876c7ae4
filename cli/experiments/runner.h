#pragma once
/// Plays a plan: clusters, rounds, scripts; everything is measured from the event stream. Raw data go into the folder as each
/// round ends, so that what was measured is there also when a later round fails or is interrupted.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/experiments/experiment.h"
#include "cli/experiments/figures.h"

namespace idunno::cli {

struct RoundResult {
  Recording recording;
  RoundFacts facts;
  Figures figures;
  std::vector<std::string> notes;  ///< what went wrong, for people
};
struct CaseResult {
  ExpCase about;
  std::vector<RoundResult> rounds;
};
struct RunResult {
  std::vector<CaseResult> cases;
  WallMs started = 0;
  WallMs finished = 0;
  Status status;  ///< an error: the cases are those until then
};

struct RunOptions {
  std::uint64_t seed = 1;            ///< of the choice of workers
  std::filesystem::path raw_folder;  ///< for events and batches
};
[[nodiscard]] RunResult run_plan(App& app, const Experiment& experiment, const ExpPlan& plan, const RunOptions& options);

}  // namespace idunno::cli

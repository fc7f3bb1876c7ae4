#pragma once
/// The result of an experiment as one JSON object (result.json, "idunno.experiment.v1"), and what is made of that: the table on
/// the screen. Pure but for reading files.

#include <filesystem>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/experiments/runner.h"

namespace idunno::cli {

/// `systems`: figures to stand beside. `command`: what the user typed.
[[nodiscard]] Json result_json(const Experiment& experiment, const ExpPlan& plan, const RunResult& result, const Systems& systems,
                               std::uint64_t seed, const std::string& command, const Json& machine);

/// One row a figure, the other systems' beside; many cases: one row a case. `result` is of result_json.
[[nodiscard]] Listing result_listing(const Json& result);
/// How many of the wanted figures were missed or could not be judged.
[[nodiscard]] std::size_t wanted_missed(const Json& result);
/// "load 100 %: p99_ms max 812 wanted at most 500" for those.
[[nodiscard]] std::vector<std::string> wanted_lines(const Json& result, bool missed_only);

/// "22.6 ± 2.3", or the mean alone for one value; "-" when nothing was measured.
[[nodiscard]] std::string spread_text(const Json& figure);
/// "with an engine of known service time (20 ms a query), not real inference" when any model of the experiment is such a one.
[[nodiscard]] std::string engine_note(const Experiment& experiment, const ExpPlan& plan);

/// result.json of a folder; not_found, damaged (not JSON or another schema).
[[nodiscard]] Result<Json> read_result(const std::filesystem::path& folder);

}  // namespace idunno::cli

#pragma once
/// The figures of one round of an experiment, and what each means. Pure.

#include <map>
#include <string>
#include <vector>

#include "cli/experiments/experiment.h"
#include "cli/experiments/recording.h"

namespace idunno::cli {

using Figures = std::map<std::string, double>;  ///< by name; a figure that was not reached is absent

/// What the stream does not tell; asked for at the end of a round.
struct RoundFacts {
  std::map<std::string, std::uint64_t> lost_queries;  ///< by action: neither committed nor leased again
  std::uint64_t model_loads = 0;
  std::uint64_t hedged = 0;
  std::uint64_t conflicts = 0;     ///< results that differ from the committed ones
  double capacity_qps = 0;         ///< of a curve: what the batch size reaches without a limit
  std::vector<double> services_s;  ///< one a job: of a query with an engine of known service time; 0 = a real model
};

[[nodiscard]] Figures figures_of(Measure measure, const ExpCase& one, const Recording& recording, const RoundFacts& facts);

/// What follows only from all cases together: throughput over that of one worker.
struct CaseFigures {
  std::string group;
  unsigned workers = 0;
  std::vector<Figures> rounds;
};
void add_figures_across(Measure measure, std::vector<CaseFigures>& cases);

struct FigureText {
  std::string what;   ///< for people; the unit is in the name
  bool shown = true;  ///< in the table on the screen; others only in result.json
};
/// By the name with or without the prefix of an action. Unknown names describe themselves.
[[nodiscard]] FigureText figure_text(const std::string& name);
/// In the order of the table: those of the catalogue first to last, each with its prefixes.
[[nodiscard]] std::vector<std::string> in_table_order(const std::vector<std::string>& names);
/// "worker_" where there are several actions, else "".
[[nodiscard]] std::string prefix_of(const std::string& action, std::size_t actions);
/// Four digits that count: "0.1834", "22.6", "1835".
[[nodiscard]] std::string number_text(double value);

/// One point of a latency-throughput curve.
struct CurvePoint {
  double throughput = 0;
  double latency = 0;
};
/// The knee: the point of the most throughput per latency ("power", Kleinrock 1979), where a line from the origin touches the
/// curve. Index, or the number of points when there are none.
[[nodiscard]] std::size_t knee_of(const std::vector<CurvePoint>& points);

/// Query times of a curve under an offered rate, as a client that does not wait sees them: batch b is due at `first + b * batch /
/// rate`, and what it waits for its lease counts ("no coordinated omission"). In (from, to].
[[nodiscard]] LatencyPoint due_latency(const Recording& recording, std::size_t job, double offered_qps, double from_s,
                                       double to_s);

}  // namespace idunno::cli

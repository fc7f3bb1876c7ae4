#pragma once
/// The figures of `idunno bench failover`: many rounds of killing and measuring, as a table and as a plot. Pure.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/bench.h"

namespace idunno::cli {

/// What one round gave. A figure that was not reached in time is absent, and counts as missed.
struct FailoverRound {
  std::string target;  ///< "coordinator", "worker"
  std::string signal;  ///< "KILL", "STOP"
  std::map<std::string, double> figures;
  std::vector<double> rates;  ///< committed queries/s, one each kRateStep from kRatesBefore before the kill on
};
inline constexpr Duration kRateStep = std::chrono::milliseconds(250);
inline constexpr Duration kRatesBefore = std::chrono::seconds(2);
inline constexpr Duration kRatesAfter = std::chrono::seconds(6);

/// One thing that is measured, in the order of the table.
struct FailoverFigure {
  std::string name;    ///< "detected_ms"
  std::string what;    ///< for people
  std::string wanted;  ///< "" = nothing is asked
};
[[nodiscard]] std::vector<FailoverFigure> failover_figures(const std::string& target, const std::string& signal);

struct Summary {
  std::size_t count = 0;
  double mean = 0;
  double sd = 0;  ///< of the sample (n - 1); 0 for one value
  double min = 0;
  double median = 0;
  double p99 = 0;  ///< nearest rank: with fewer than 100 values the largest
  double max = 0;
};
[[nodiscard]] Summary summary_of(std::vector<double> values);

[[nodiscard]] BenchTable failover_table(const std::vector<FailoverRound>& rounds);
/// A gnuplot program that draws the mean rates around the kill, one curve for each target and signal, into `svg_file`.
[[nodiscard]] std::string failover_plot(const std::vector<FailoverRound>& rounds, const std::string& svg_file);

}  // namespace idunno::cli

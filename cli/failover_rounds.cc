#include "cli/failover_rounds.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cli/gnuplot.h"

namespace idunno::cli {

namespace {

using Kind = std::pair<std::string, std::string>;  // target, signal

std::map<Kind, std::vector<const FailoverRound*>> by_kind(const std::vector<FailoverRound>& rounds) {
  std::map<Kind, std::vector<const FailoverRound*>> kinds;
  for (const FailoverRound& round : rounds) kinds[{round.target, round.signal}].push_back(&round);
  return kinds;
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

std::vector<FailoverFigure> failover_figures(const std::string& target, const std::string& signal) {
  const bool killed = signal == "KILL";
  std::vector<FailoverFigure> figures;
  figures.push_back({"detected_ms", "known dead", killed && target == "worker" ? "250 (p99)" : ""});
  figures.push_back({"reassigned_ms", "its work leased again or committed", killed && target == "worker" ? "500" : ""});
  if (target == "coordinator") {
    figures.push_back({"takeover_ms", "new coordinator committing", killed ? "100 (median), 500 (p99)" : "1500"});
  }
  figures.push_back({"submit_ms", "a new submit accepted", ""});
  figures.push_back({"normal_ms", "both jobs within 10 % again", ""});
  figures.push_back({"dip_pct", "depth of the dip in queries/s", ""});
  figures.push_back({"dip_ms", "length of the dip", ""});
  figures.push_back({"longest_gap_ms", "longest time without a commit", ""});
  figures.push_back({"gap_batches", "the same in batch times", "1"});
  for (const char* second : {"1", "2", "3"})
    figures.push_back(
        {std::string("second_") + second + "_pct", std::string("queries committed in second ") + second + ", % of before", ""});
  for (const char* second : {"1", "2", "3"})
    figures.push_back({std::string("second_") + second + "_work_pct",
                       std::string("queries computed in second ") + second + ", % of before", "90"});
  figures.push_back({"lost_queries", "neither committed nor leased again", "0"});
  return figures;
}

Summary summary_of(std::vector<double> values) {
  Summary summary;
  summary.count = values.size();
  if (values.empty()) return summary;
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  summary.mean = std::accumulate(values.begin(), values.end(), 0.0) / count;
  double squares = 0;
  for (const double value : values) squares += (value - summary.mean) * (value - summary.mean);
  summary.sd = values.size() < 2 ? 0 : std::sqrt(squares / (count - 1));
  const Spread spread = spread_of(values);
  summary.min = spread.min;
  summary.median = spread.median;
  summary.max = spread.max;
  summary.p99 = values[static_cast<std::size_t>(std::ceil(0.99 * count)) - 1];
  return summary;
}

BenchTable failover_table(const std::vector<FailoverRound>& rounds) {
  BenchTable table("idunno.bench_failover.v1", {{"target", "TARGET"},
                                                {"signal", "SIGNAL"},
                                                {"figure", ""},
                                                {"what", "WHAT"},
                                                {"rounds", "ROUNDS", true},
                                                {"missed", "MISSED", true},
                                                {"mean", "MEAN", true},
                                                {"sd", "SD", true},
                                                {"min", "MIN", true},
                                                {"median", "MEDIAN", true},
                                                {"p99", "P99", true},
                                                {"max", "MAX", true},
                                                {"wanted", "WANTED"}});
  for (const auto& [kind, of_kind] : by_kind(rounds)) {
    for (const FailoverFigure& figure : failover_figures(kind.first, kind.second)) {
      std::vector<double> values;
      for (const FailoverRound* round : of_kind) {
        const auto found = round->figures.find(figure.name);
        if (found != round->figures.end()) values.push_back(found->second);
      }
      const Summary summary = summary_of(values);
      const auto cell = [&](double value) -> Listing::Cell {
        return summary.count == 0 ? Listing::Cell{nullptr, "-"} : Listing::Cell{rounded_to(value, 1), ""};
      };
      const bool per_cent = figure.name.ends_with("_pct");
      const bool times = figure.name.ends_with("_ms");
      table.add({{kind.first, ""},
                 {kind.second, ""},
                 {figure.name, ""},
                 {figure.what, figure.what + (times                                  ? ", ms"
                                              : per_cent && figure.name == "dip_pct" ? ", %"
                                                                                     : "")},
                 {of_kind.size(), ""},
                 {of_kind.size() - summary.count, ""},
                 cell(summary.mean),
                 cell(summary.sd),
                 cell(summary.min),
                 cell(summary.median),
                 cell(summary.p99),
                 cell(summary.max),
                 {figure.wanted, figure.wanted.empty() ? "-" : figure.wanted}});
    }
  }
  table.footer =
      "from the signal to the moment this client heard of it (events of the nodes' PUB sockets; submit: the answer);\n"
      "p99: nearest rank, the largest of fewer than 100 rounds; a second counts whole, from the signal on";
  return table;
}

std::string failover_plot(const std::vector<FailoverRound>& rounds, const std::string& svg_file) {
  std::string program = "set terminal svg size 900,420 background rgb 'white'\nset output " + gnuplot_quoted(svg_file) +
                        "\nset xlabel 'seconds since the signal'\nset ylabel 'committed queries/s, both jobs'\n"
                        "set yrange [0:*]\nset grid\nset key bottom right\n"
                        "set arrow from 0, graph 0 to 0, graph 1 nohead dashtype 2\n";
  std::string plots;
  std::size_t number = 0;
  for (const auto& [kind, of_kind] : by_kind(rounds)) {
    const std::string name = fmt::format("$rates{}", ++number);
    program += name + " << EOD\n";
    std::size_t steps = 0;
    for (const FailoverRound* round : of_kind) steps = std::max(steps, round->rates.size());
    for (std::size_t i = 0; i < steps; ++i) {
      double sum = 0;
      std::size_t count = 0;
      for (const FailoverRound* round : of_kind) {
        if (i >= round->rates.size()) continue;
        sum += round->rates[i];
        ++count;
      }
      const double middle = seconds(kRateStep) * (static_cast<double>(i) + 0.5) - seconds(kRatesBefore);
      program += fmt::format("{:.3f} {:.3f}\n", middle, sum / static_cast<double>(count));
    }
    program += "EOD\n";
    const std::string title = fmt::format("SIG{} to the {} (mean of {} rounds)", kind.second, kind.first, of_kind.size());
    plots += fmt::format("{}{} with lines linewidth 2 title {}", plots.empty() ? "plot " : ", ", name, gnuplot_quoted(title));
  }
  return plots.empty() ? program : program + plots + "\n";
}

}  // namespace idunno::cli

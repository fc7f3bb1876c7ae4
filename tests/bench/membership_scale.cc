// membership_scale: the real membership core (nodes/swim) of 10, 100 and 1,000 nodes on a simulated network that loses 0 %, 5 %
// and 30 % of the messages. How long until a silent death is known, how many deaths are false, what it costs. Single-threaded,
// seeded.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/swim/swim_sim.h"

namespace idunno {
namespace {

using namespace std::chrono_literals;
using test::SwimSim;

constexpr Duration kWarmUp = 10s;
constexpr Duration kDeathWaitMax = 30s;

struct Row {
  std::uint32_t nodes = 0;
  double loss = 0;
  std::vector<double> seconds;  ///< one for each death and survivor, sorted
  std::uint32_t deaths = 0;
  std::uint32_t missed = 0;  ///< survivors that did not know in kDeathWaitMax
  double false_deaths_per_node_hour = 0;
  double messages_per_node_second = 0;
  [[nodiscard]] double quantile(double q) const {
    if (seconds.empty()) return 0;
    return seconds[static_cast<std::size_t>(q * static_cast<double>(seconds.size() - 1))];
  }
};

/// One observer's view "the node is dead" counts once for each time it changes to it.
std::size_t wrong_since(const SwimSim& sim, std::size_t from) {
  std::set<std::pair<NodeId, Incarnation>> victims;
  std::size_t count = 0;
  Time last{};
  for (std::size_t i = from; i < sim.told.size(); ++i) {
    if (!sim.told[i].wrong) continue;
    // The same false death spreads to many observers: one event as long as it comes within the same few seconds.
    if (sim.told[i].change.at - last > 5s) victims.clear();
    last = sim.told[i].change.at;
    if (victims.emplace(sim.told[i].change.node, sim.told[i].change.incarnation).second) ++count;
  }
  return count;
}

Row measure(std::uint32_t nodes, double loss, std::uint32_t deaths, Duration quiet, std::uint64_t seed) {
  SwimSim::Options options;
  options.nodes = nodes;
  options.loss = loss;
  options.seed = seed;
  options.deaths_only = true;
  SwimSim sim(options);
  sim.start_all();
  sim.run_for(kWarmUp);

  Row row{nodes, loss, {}, deaths, 0, 0, 0};
  const std::uint64_t messages = sim.messages;
  std::size_t told = sim.told.size();
  sim.run_for(quiet);
  const double node_seconds = static_cast<double>(nodes) * std::chrono::duration<double>(quiet).count();
  row.messages_per_node_second = static_cast<double>(sim.messages - messages) / node_seconds;
  row.false_deaths_per_node_hour = static_cast<double>(wrong_since(sim, told)) * 3600 / node_seconds;

  for (std::uint32_t i = 0; i < deaths; ++i) {
    const NodeId victim{1 + static_cast<std::uint32_t>(sim.random().below(nodes))};
    told = sim.told.size();
    const Time died = sim.now();
    sim.kill(victim, false);
    std::set<NodeId> know;
    const auto look = [&] {
      for (; told < sim.told.size(); ++told) {
        const auto& [observer, change, wrong] = sim.told[told];
        if (change.node != victim || change.to != NodeState::dead || !know.insert(observer).second) continue;
        row.seconds.push_back(std::chrono::duration<double>(change.at - died).count());
      }
      return know.size() + 1 == nodes;
    };
    sim.run_for(kDeathWaitMax, look);
    row.missed += nodes - 1 - static_cast<std::uint32_t>(know.size());
    sim.start(victim);
    sim.run_for(5s);
  }
  std::sort(row.seconds.begin(), row.seconds.end());
  return row;
}

int draw(const std::string& file, const std::vector<Row>& rows) {
  FILE* gnuplot = popen("gnuplot", "w");
  if (gnuplot == nullptr) return 1;
  fmt::print(
      gnuplot,
      "set terminal svg size 640,400 font 'sans,12'\nset output '{}'\nset logscale x\nset xlabel 'nodes'\n"
      "set ylabel 'silent death known after (s)'\nset key left top\nset grid\nset yrange [0:*]\nset xrange [8:1300]\nplot ",
      file);
  std::vector<double> losses;
  for (const Row& row : rows) {
    if (std::find(losses.begin(), losses.end(), row.loss) == losses.end()) losses.push_back(row.loss);
  }
  std::string separator;
  for (std::size_t i = 0; i < losses.size(); ++i) {
    for (const auto& [what, dash] : {std::pair("p50", 2), std::pair("p99", 1)}) {
      fmt::print(gnuplot, "{}'-' with linespoints lc {} dt {} title '{}, loss {:.0f} %'", separator, i + 1, dash, what,
                 losses[i] * 100);
      separator = ", ";
    }
  }
  fmt::print(gnuplot, "\n");
  for (const double loss : losses) {
    for (const double q : {0.5, 0.99}) {
      for (const Row& row : rows) {
        if (row.loss == loss) fmt::print(gnuplot, "{} {}\n", row.nodes, row.quantile(q));
      }
      fmt::print(gnuplot, "e\n");
    }
  }
  return pclose(gnuplot);
}

void write_csv(const std::string& file, const std::vector<Row>& rows) {
  const std::unique_ptr<FILE, int (*)(FILE*)> out(std::fopen(file.c_str(), "w"), &std::fclose);
  if (!out) {
    fmt::print(stderr, "cannot write {}\n", file);
    return;
  }
  fmt::print(out.get(), "nodes,loss,deaths,p50_s,p99_s,max_s,missed,false_deaths_per_node_hour,messages_per_node_second\n");
  for (const Row& row : rows) {
    fmt::print(out.get(), "{},{},{},{:.3f},{:.3f},{:.3f},{},{:.4f},{:.2f}\n", row.nodes, row.loss, row.deaths, row.quantile(0.5),
               row.quantile(0.99), row.quantile(1), row.missed, row.false_deaths_per_node_hour, row.messages_per_node_second);
  }
}

}  // namespace
}  // namespace idunno

int main(int argc, char** argv) {
  using namespace idunno;
  CLI::App app{"Time to detect a silent death, false deaths and messages of the membership core, simulated"};
  std::string csv;
  std::string svg;
  std::uint64_t seed = 1;
  std::uint32_t smallest = 10;
  std::uint32_t largest = 1000;
  app.add_option("--csv", csv, "write the table to this file");
  app.add_option("--svg", svg, "draw the times with gnuplot");
  app.add_option("--seed", seed, "of the simulation");
  app.add_option("--smallest", smallest, "leave out smaller clusters");
  app.add_option("--largest", largest, "leave out larger clusters");
  CLI11_PARSE(app, argc, argv);

  struct Size {
    std::uint32_t nodes;
    std::uint32_t deaths;
    Duration quiet;
  };
  std::vector<Row> rows;
  fmt::print(
      "| nodes | loss | deaths | known after, p50 | p99 | worst | false deaths per node-hour | messages per node and second |\n"
      "|---|---|---|---|---|---|---|---|\n");
  for (const Size& size : {Size{10, 200, 6h}, Size{100, 30, 30min}, Size{1000, 2, 15s}}) {
    if (size.nodes < smallest || size.nodes > largest) continue;
    for (const double loss : {0.0, 0.05, 0.3}) {
      // Where a suspicion is always on its way to a thousand nodes, a second of the simulation takes many.
      const bool heavy = size.nodes >= 1000 && loss > 0.1;
      const Row row = measure(size.nodes, loss, heavy ? 1 : size.deaths, heavy ? 5s : size.quiet, seed);
      fmt::print("| {} | {:.0f} % | {} | {:.2f} s | {:.2f} s | {:.2f} s{} | {:.3f} | {:.1f} |\n", row.nodes, row.loss * 100,
                 row.deaths, row.quantile(0.5), row.quantile(0.99), row.quantile(1),
                 row.missed == 0 ? "" : fmt::format(" ({} views missed)", row.missed), row.false_deaths_per_node_hour,
                 row.messages_per_node_second);
      std::fflush(stdout);
      rows.push_back(row);
    }
  }
  if (!csv.empty()) write_csv(csv, rows);
  if (!svg.empty() && draw(svg, rows) != 0) {
    fmt::print(stderr, "gnuplot failed (package gnuplot-nox)\n");
    return 1;
  }
  return 0;
}

#pragma once
/// What the benchmarks have in common. Each prints a table (or -o json, csv), and writes it as CSV with --csv FILE.

#include <string>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

// One function a benchmark; `bench` is the command `idunno bench`.
void add_bench_infer_command(CLI::App& bench, App& app);     // cli/bench_infer.cc
void add_bench_dispatch_command(CLI::App& bench, App& app);  // cli/bench_dispatch.cc
void add_bench_fs_command(CLI::App& bench, App& app);        // cli/bench_fs.cc

struct Spread {
  double min = 0;
  double median = 0;
  double max = 0;
};
[[nodiscard]] Spread spread_of(std::vector<double> values);

/// Rounded for people and files alike: digits behind the point of a measurement mean something.
[[nodiscard]] double rounded_to(double value, int digits);

/// A table of measurements. `schema` is "idunno.bench_infer.v1" or the like.
class BenchTable {
 public:
  BenchTable(std::string schema, std::vector<Column> columns) : schema_(std::move(schema)), columns_(std::move(columns)) {}
  void add(std::vector<Listing::Cell> row) { rows_.push_back(std::move(row)); }
  std::string footer;
  /// Prints, and writes `csv_file` unless that is empty.
  [[nodiscard]] Status finish(const Globals& globals, const std::string& csv_file) const;

 private:
  std::string schema_;
  std::vector<Column> columns_;
  std::vector<std::vector<Listing::Cell>> rows_;
};

/// "1,4,16" as numbers from 1 to `max`.
[[nodiscard]] Result<std::vector<std::uint32_t>> parse_numbers(const std::string& text, std::uint32_t max);
/// "resnet18,alexnet" in parts.
[[nodiscard]] std::vector<std::string> split_commas(const std::string& text);

}  // namespace idunno::cli

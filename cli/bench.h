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
void add_bench_grep_command(CLI::App& bench, App& app);      // cli/bench_grep.cc

void add_bench_curve_command(CLI::App& bench, App& app);     // cli/bench_curve.cc
void add_bench_query_command(CLI::App& bench, App& app);     // cli/bench_query.cc
void add_bench_failover_command(CLI::App& bench, App& app);  // cli/bench_failover.cc

/// A published architecture with random weights, as files.
struct BenchModel {
  std::string name;
  std::filesystem::path onnx;
  std::filesystem::path spec;
  std::string spec_toml;
};
[[nodiscard]] Result<BenchModel> make_bench_model(const std::string& name, const std::filesystem::path& folder,
                                                  std::uint64_t seed = 1);
/// The data set in SDFS: `count` queries, made of the image files of `folder` over and over.
[[nodiscard]] Status upload_images(Session& session, const std::filesystem::path& folder, std::uint64_t count,
                                   const std::string& to);
/// An engine that computes nothing, for `service` a query, and a data set of `queries` lines at `data`.
[[nodiscard]] Status prepare_nothing(Session& session, const std::string& data, const std::string& model, Duration service,
                                     std::uint64_t queries);

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

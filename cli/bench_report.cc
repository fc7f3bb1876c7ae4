#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "bus/units.h"
#include "cli/bench.h"
#include "cli/result_writer.h"
#include "cli/text.h"

namespace idunno::cli {

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {values.front(), median, values.back()};
}

double rounded_to(double value, int digits) {
  const double scale = std::pow(10.0, digits);
  return std::round(value * scale) / scale;
}

Status BenchTable::finish(const Globals& globals, const std::string& csv_file) const {
  Listing listing(schema_, "rows", columns_);
  for (const auto& row : rows_) listing.add(row);
  listing.footer = footer;
  listing.print(globals);
  if (csv_file.empty()) return {};
  auto file = AtomicFile::create(csv_file);
  if (!file) return file.error();
  if (auto written = (*file)->write(render_csv(columns_, rows_)); !written) return written;
  return (*file)->commit();
}

std::vector<std::string> split_commas(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

Result<std::vector<std::uint32_t>> parse_numbers(const std::string& text, std::uint32_t max) {
  std::vector<std::uint32_t> numbers;
  for (const std::string& part : split_commas(text)) {
    auto number = parse_count(part);
    if (!number) return number.error();
    if (*number == 0 || *number > max) return Error{Errc::invalid, fmt::format("'{}' must be from 1 to {}", part, max)};
    numbers.push_back(static_cast<std::uint32_t>(*number));
  }
  if (numbers.empty()) return Error{Errc::invalid, "no number given"};
  return numbers;
}

}  // namespace idunno::cli

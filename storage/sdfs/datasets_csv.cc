/// CSV of numbers: one item a line. A first line that is not numeric is a header; empty lines are skipped; lines may end in CRLF.

#include <cstdlib>
#include <utility>

#include "storage/sdfs/dataset_formats.h"

namespace idunno {
namespace {

constexpr std::size_t kLineBytesMax = 1U << 20U;
constexpr std::size_t kReadBytes = 1U << 20U;

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r'; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool is_number(std::string_view field) {
  const std::string text(trimmed(field));
  if (text.empty()) return false;
  char* end = nullptr;
  (void)std::strtod(text.c_str(), &end);
  return end == text.c_str() + text.size();
}

bool is_numeric_row(std::string_view line) {
  while (true) {
    const std::size_t comma = line.find(',');
    if (!is_number(line.substr(0, comma))) return false;
    if (comma == std::string_view::npos) return true;
    line.remove_prefix(comma + 1);
  }
}

class CsvFormat : public DatasetFormat {
 public:
  std::string name() const override { return "csv"; }

  bool recognises(const std::string& path, ByteView) const override { return lower_extension(path) == ".csv"; }

  Status index(ByteSource& source, const std::string& path, DatasetIndex& out) const override {
    out.kind = ItemKind::numbers;
    std::uint64_t number = 0;  // of the line, from 1
    bool first_row = true;
    std::string line;
    std::uint64_t line_start = 0;
    const auto end_line = [&]() -> Status {
      ++number;
      std::size_t skip = 0;
      if (number == 1 && line.compare(0, 3, "\xEF\xBB\xBF") == 0) skip = 3;  // byte order mark
      const std::string_view row = trimmed(std::string_view(line).substr(skip));
      if (row.empty()) return {};
      const bool header = std::exchange(first_row, false) && !is_numeric_row(row);
      if (header) return {};
      if (out.items.size() >= kDatasetItemsMax) return Error{Errc::too_large, "the CSV file '" + path + "' has too many lines"};
      const auto offset = static_cast<std::uint64_t>(row.data() - line.data());
      out.items.push_back(DatasetItem{path + "#" + std::to_string(out.items.size()), line_start + offset, row.size(), 0});
      return {};
    };
    for (std::uint64_t at = 0; at < source.size();) {
      auto bytes = source.read(at, kReadBytes);
      if (!bytes) return bytes.error();
      if (bytes->empty()) break;
      std::string_view rest = *bytes;
      while (!rest.empty()) {
        const std::size_t newline = rest.find('\n');
        line += rest.substr(0, newline);
        if (line.size() > kLineBytesMax) {
          return Error{Errc::invalid,
                       "the CSV file '" + path + "' has a line of more than 1 MiB: line " + std::to_string(number + 1)};
        }
        if (newline == std::string_view::npos) break;
        if (auto status = end_line(); !status) return status;
        rest.remove_prefix(newline + 1);
        line.clear();
        line_start = at + (bytes->size() - rest.size());
      }
      at += bytes->size();
    }
    if (!line.empty()) {
      if (auto status = end_line(); !status) return status;
    }
    if (out.items.empty()) return Error{Errc::invalid, "the CSV file '" + path + "' holds no rows of numbers"};
    return {};
  }
};

}  // namespace

std::unique_ptr<DatasetFormat> make_csv_format() { return std::make_unique<CsvFormat>(); }

}  // namespace idunno

#include "nodes/worker/result_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>

namespace idunno {
namespace {

/// Length of the well-formed UTF-8 sequence at the start of `text`, 0 when there is none (Unicode 15, table 3-7).
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
  const auto tail = [&](std::size_t i, unsigned low = 0x80, unsigned high = 0xbf) { return byte(i) >= low && byte(i) <= high; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return tail(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    return tail(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    return tail(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3) ? 4 : 0;
  }
  return 0;
}

void begin_row(std::string& rows, std::uint64_t index, std::string_view query) {
  fmt::format_to(std::back_inserter(rows), "{{\"index\":{},\"query\":", index);
  append_json_string(rows, query);
}

}  // namespace

void softmax(float* values, std::size_t count) {
  if (count == 0) return;
  const float largest = *std::max_element(values, values + count);
  float sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    values[i] = std::exp(values[i] - largest);
    sum += values[i];
  }
  for (std::size_t i = 0; i < count; ++i) values[i] /= sum;
}

std::vector<RankedClass> top_classes(const float* values, std::size_t count, std::size_t top) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  top = std::min(top, count);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
                    [&](std::uint32_t a, std::uint32_t b) { return values[a] != values[b] ? values[a] > values[b] : a < b; });
  std::vector<RankedClass> ranked;
  ranked.reserve(top);
  for (std::size_t i = 0; i < top; ++i) ranked.push_back({order[i], values[order[i]]});
  return ranked;
}

bool all_finite(const float* values, std::size_t count) {
  return std::all_of(values, values + count, [](float value) { return std::isfinite(value); });
}

void append_classes_row(std::string& rows, std::uint64_t index, std::string_view query, const std::vector<RankedClass>& top,
                        const std::vector<std::string>& labels) {
  begin_row(rows, index, query);
  rows += ",\"top\":[";
  const char* separator = "{\"label\":";
  for (const RankedClass& ranked : top) {
    rows += separator;
    separator = ",{\"label\":";
    if (ranked.index < labels.size()) {
      append_json_string(rows, labels[ranked.index]);
    } else {
      fmt::format_to(std::back_inserter(rows), "\"{}\"", ranked.index);
    }
    double p = std::round(static_cast<double>(ranked.p) * 1e4) / 1e4;
    if (p == 0) p = 0;  // no "-0.0000"
    fmt::format_to(std::back_inserter(rows), ",\"index\":{},\"p\":{:.4f}}}", ranked.index, p);
  }
  rows += "]}\n";
}

void append_tensor_row(std::string& rows, std::uint64_t index, std::string_view query, const std::vector<int>& shape,
                       const float* data, std::size_t count) {
  begin_row(rows, index, query);
  fmt::format_to(std::back_inserter(rows), ",\"shape\":[{}],\"data\":[", fmt::join(shape, ","));
  for (std::size_t i = 0; i < count; ++i) {
    if (i != 0) rows += ',';
    fmt::format_to(std::back_inserter(rows), "{:.6g}", data[i] == 0 ? 0.0F : data[i]);
  }
  rows += "]}\n";
}

void append_error_row(std::string& rows, std::uint64_t index, std::string_view query, std::string_view error) {
  begin_row(rows, index, query);
  rows += ",\"error\":";
  append_json_string(rows, error);
  rows += "}\n";
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    std::size_t length = 1;
    if (c == '"' || c == '\\') {
      out += '\\';
      out += text.front();
    } else if (c < 0x20 || c == 0x7f) {
      fmt::format_to(std::back_inserter(out), "\\u{:04x}", static_cast<unsigned>(c));
    } else if (length = utf8_length(text); length != 0) {
      out += text.substr(0, length);
    } else {
      out += "\xef\xbf\xbd";
      length = 1;
    }
    text.remove_prefix(length);
  }
  out += '"';
}

}  // namespace idunno

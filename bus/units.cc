#include "bus/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

namespace idunno {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

constexpr std::array<Unit, 5> kTimes = {{{"us", 1.0}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}}};
constexpr std::array<Unit, 5> kSizes = {{{"", 1.0}, {"K", 0x1p10}, {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40}}};
constexpr double kExactMax = 0x1p63;  // the largest magnitude both int64 and the products here can hold

std::string quoted(std::string_view text) { return "\"" + std::string(text) + "\""; }

/// Splits "12.5ms" into 12.5 and "ms"; false when it does not start with a plain decimal number.
bool split(std::string_view text, double& number, std::string_view& unit) {
  if (text.empty() || text.front() < '0' || text.front() > '9') return false;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  if (parsed.ec != std::errc{} || !std::isfinite(number)) return false;
  unit = text.substr(static_cast<std::size_t>(parsed.ptr - text.data()));
  return true;
}

template <std::size_t N>
const Unit* find_unit(const std::array<Unit, N>& units, std::string_view name) {
  for (const Unit& unit : units) {
    if (unit.name == name) return &unit;
  }
  return nullptr;
}

std::string print(const char* format, double value, const char* unit) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), format, value, unit);
  return text.data();
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  double number = 0;
  std::string_view name;
  const Unit* unit = split(text, number, name) ? find_unit(kTimes, name) : nullptr;
  if (unit == nullptr) return Error{Errc::invalid, quoted(text) + " is no duration; write for example 250ms, 10s, 5m"};
  const double microseconds = std::round(number * unit->factor);
  if (microseconds >= kExactMax) return Error{Errc::invalid, quoted(text) + " is too long"};
  return Duration(static_cast<std::int64_t>(microseconds));
}

Result<std::uint64_t> parse_size(std::string_view text) {
  double number = 0;
  std::string_view name;
  const Unit* unit = split(text, number, name) ? find_unit(kSizes, name) : nullptr;
  if (unit == nullptr) return Error{Errc::invalid, quoted(text) + " is no size; write for example 4096, 64K, 1M, 2G"};
  if (name.empty()) return parse_count(text);
  const double bytes = std::round(number * unit->factor);
  if (bytes >= kExactMax) return Error{Errc::invalid, quoted(text) + " is too large"};
  return static_cast<std::uint64_t>(bytes);
}

Result<double> parse_rate(std::string_view text) {
  const auto slash = text.find('/');
  double number = 0;
  std::string_view rest;
  const Error wrong{Errc::invalid, quoted(text) + " is no rate; write for example 100/s or 5/m"};
  if (slash == std::string_view::npos || !split(text.substr(0, slash), number, rest) || !rest.empty()) return wrong;
  const Unit* unit = find_unit(kTimes, text.substr(slash + 1));
  if (unit == nullptr) return wrong;
  if (!(number > 0)) return Error{Errc::invalid, quoted(text) + " is not a positive rate"};
  return number / (unit->factor / 1e6);
}

Result<std::uint64_t> parse_count(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  if (parsed.ec == std::errc::result_out_of_range) return Error{Errc::invalid, quoted(text) + " is too large"};
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size()) {
    return Error{Errc::invalid, quoted(text) + " is no whole number"};
  }
  return value;
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  static constexpr std::array<const char*, 6> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t name = 0;
  while (value >= 1023.95 && name + 1 < kNames.size()) {
    value /= 1024.0;
    ++name;
  }
  return print("%.1f %s", value, kNames[name]);
}

std::string format_duration(Duration duration) {
  const std::int64_t us = duration.count();
  if (us < 0) return us == std::numeric_limits<std::int64_t>::min() ? "for ever" : "-" + format_duration(-duration);
  if (us < 1000) return std::to_string(us) + " us";
  if (us < 999'950) return print("%.1f %s", static_cast<double>(us) / 1e3, "ms");
  if (us < 59'950'000) return print("%.1f %s", static_cast<double>(us) / 1e6, "s");
  const std::int64_t seconds = (us + 500'000) / 1'000'000;
  if (seconds < 3600) return std::to_string(seconds / 60) + " m " + std::to_string(seconds % 60) + " s";
  return std::to_string(seconds / 3600) + " h " + std::to_string(seconds % 3600 / 60) + " m";
}

}  // namespace idunno

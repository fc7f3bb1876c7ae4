#pragma once
/// Numbers with units as people type and read them: `10s 5m 250ms`, `64K 1M 2G` (powers of 1024), `100/s`.

#include <cstdint>
#include <string>
#include <string_view>

#include "bus/base/result.h"
#include "bus/base/time.h"

namespace idunno {

[[nodiscard]] Result<Duration> parse_duration(std::string_view text);    ///< us, ms, s, m, h; not negative
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);   ///< bytes; K, M, G, T
[[nodiscard]] Result<double> parse_rate(std::string_view text);          ///< "100/s", "5/m": per second; positive
[[nodiscard]] Result<std::uint64_t> parse_count(std::string_view text);  ///< a whole number
[[nodiscard]] std::string format_size(std::uint64_t bytes);              ///< "1.4 GiB"
[[nodiscard]] std::string format_duration(Duration duration);            ///< "850 us", "12.3 ms", "4.2 s", "3 m 20 s"

}  // namespace idunno

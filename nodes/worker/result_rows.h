#pragma once
/// The rows of a result: JSON Lines as cli.md gives them, written straight into one string. The bytes are a pure function of the
/// values, since the digest of a job's result is compared between nodes.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/bytes.h"

namespace idunno {

struct RankedClass {
  std::uint32_t index = 0;
  float p = 0;
  bool operator==(const RankedClass&) const = default;
};

/// In place; the largest is taken off first, so no exponential overflows.
void softmax(float* values, std::size_t count);

/// The `top` largest, largest first; of equal ones the smaller index first. Values must not be NaN.
[[nodiscard]] std::vector<RankedClass> top_classes(const float* values, std::size_t count, std::size_t top);

[[nodiscard]] bool all_finite(const float* values, std::size_t count);

/// Each appends one line with its newline. `labels` may be empty: then the label is the class number as text.
void append_classes_row(std::string& rows, std::uint64_t index, std::string_view query, const std::vector<RankedClass>& top,
                        const std::vector<std::string>& labels);
void append_tensor_row(std::string& rows, std::uint64_t index, std::string_view query, const std::vector<int>& shape,
                       const float* data, std::size_t count);
void append_error_row(std::string& rows, std::uint64_t index, std::string_view query, std::string_view error);

/// `text` between quotes. Control characters, quotes and backslashes are escaped; bytes that are not UTF-8 become U+FFFD, so that
/// a row is always valid JSON whatever a file was called.
void append_json_string(std::string& out, std::string_view text);

}  // namespace idunno

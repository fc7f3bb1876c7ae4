#pragma once
/// `job verify`: proves that a result has exactly one row for each query, in order, and recomputes its digest. Pure.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "bus/base/ids.h"
#include "bus/base/result.h"

namespace idunno::cli {

/// Fed the blocks of batches 0, 1, ... in order.
class ResultCheck {
 public:
  /// `name_of(k)` is what the manifest calls query k.
  ResultCheck(std::uint64_t queries, std::uint32_t batch, std::function<Result<std::string>(std::uint64_t)> name_of);

  /// damaged says which row is wrong, and how.
  [[nodiscard]] Status block(std::uint64_t batch, std::string_view rows);
  /// damaged when rows are missing at the end.
  [[nodiscard]] Status finish() const;

  [[nodiscard]] std::uint64_t rows() const { return next_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  /// xxh3-128 over the batches' hashes, 16 bytes big-endian each, in order.
  [[nodiscard]] Hash128 digest() const;

 private:
  [[nodiscard]] Status row(std::string_view line);
  std::uint64_t queries_;
  std::uint32_t batch_;
  std::function<Result<std::string>(std::uint64_t)> name_of_;
  std::uint64_t next_ = 0;
  std::uint64_t next_batch_ = 0;
  std::uint64_t errors_ = 0;
  std::string hashes_;
};

}  // namespace idunno::cli

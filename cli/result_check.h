#pragma once
/// `job verify`: proves that a result has exactly one row for each query, in order, and recomputes its digest. Pure.

#include <cstdint>
#include <functional>
#include <optional>
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

  /// Before the first block. Of a repeated job, whose passes have `queries` each: all must have the same rows, numbered anew.
  void passes_of(std::uint64_t queries) { pass_ = queries; }
  /// Likewise. Of a following job: `end` says where the segment of a query ends, which its batch does not cross.
  void parts_end(std::function<std::uint64_t(std::uint64_t)> end) { part_end_ = std::move(end); }

  /// damaged says which row is wrong, and how.
  [[nodiscard]] Status block(std::uint64_t batch, std::string_view rows);
  /// damaged when rows are missing at the end.
  [[nodiscard]] Status finish() const;

  [[nodiscard]] std::uint64_t rows() const { return next_; }
  [[nodiscard]] std::uint64_t errors() const { return errors_; }
  /// xxh3-128 over the batches' hashes, 16 bytes big-endian each, in order; of a repeated job: those of one pass.
  [[nodiscard]] Hash128 digest() const;

 private:
  [[nodiscard]] Status row(std::string_view line);
  [[nodiscard]] std::uint64_t batch_end() const;
  [[nodiscard]] Status end_pass();
  std::uint64_t queries_;
  std::uint32_t batch_;
  std::function<Result<std::string>(std::uint64_t)> name_of_;
  std::uint64_t next_ = 0;
  std::uint64_t next_batch_ = 0;
  std::uint64_t errors_ = 0;
  std::string hashes_;
  std::uint64_t pass_ = 0;  ///< 0 = not repeated
  std::function<std::uint64_t(std::uint64_t)> part_end_;
  std::optional<Hash128> first_pass_;
};

}  // namespace idunno::cli

#pragma once
/// Result rows (JSON Lines, cli.md `job results`) written as JSON Lines, CSV or a NumPy array. Pure but for `open_result_file`.

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "bus/base/result.h"

namespace idunno::cli {

enum class ResultFormat { jsonl, csv, npy };

/// By the name's ending: .jsonl (also .json, .ndjson), .csv, .npy. invalid otherwise.
[[nodiscard]] Result<ResultFormat> result_format_of(const std::string& file);

class ResultWriter {
 public:
  using Out = std::function<Status(std::string_view)>;
  virtual ~ResultWriter() = default;
  /// Whole lines, in order.
  [[nodiscard]] virtual Status rows(std::string_view lines) = 0;
  [[nodiscard]] virtual Status finish() { return {}; }
};
/// `queries` is the number of rows of a complete result; the NumPy form needs it beforehand. CSV: index, query, error, then
/// label_1, class_1, p_1, ... for as many labels as the first rows have, or the numbers of a tensor as value_1, ...
[[nodiscard]] std::unique_ptr<ResultWriter> make_result_writer(ResultFormat format, std::uint64_t queries, ResultWriter::Out out);

/// A file that appears under its name only when complete.
class AtomicFile {
 public:
  [[nodiscard]] static Result<std::unique_ptr<AtomicFile>> create(const std::filesystem::path& file);
  ~AtomicFile();  ///< removes what was not committed
  [[nodiscard]] Status write(std::string_view bytes);
  [[nodiscard]] Status commit();

 private:
  AtomicFile() = default;
  std::filesystem::path file_;
  std::filesystem::path fresh_;
  std::FILE* stream_ = nullptr;
};

}  // namespace idunno::cli

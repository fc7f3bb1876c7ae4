#pragma once
/// Asks idunno-executor, the program that will run the model later, whether it can. A separate process: a hostile or huge model
/// costs that process, not this one.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/base/time.h"
#include "cli/app.h"

namespace idunno::cli {

struct ChildOutput {
  int exit_code = -1;  ///< -1 = ended by a signal
  int signal = 0;
  std::string out;
  std::string err;  ///< the last few KiB of stderr
};
/// Runs a program to its end with both outputs captured. timeout: it was killed after `limit`. `out_max` bounds its stdout.
[[nodiscard]] Result<ChildOutput> run_captured(const std::vector<std::string>& arguments, Duration limit,
                                               std::size_t out_max = 8U << 20U);

struct ExecutorCheck {
  std::filesystem::path onnx;
  std::filesystem::path spec;
  std::filesystem::path labels;           ///< may be empty
  std::vector<std::uint32_t> batches{1};  ///< that are run and timed
  Duration limit = std::chrono::seconds(120);
};
/// The report of `idunno-executor check` (schema idunno.model_check.v1), with "ok" false when it cannot be used; `problems` say
/// why. An error only when the program itself is not there or ends without a report.
[[nodiscard]] Result<Json> check_in_executor(const ExecutorCheck& check);

/// The problems of a report in one line.
[[nodiscard]] std::string problems_of(const Json& report);

}  // namespace idunno::cli

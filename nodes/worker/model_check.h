#pragma once
/// `idunno-executor check`: what a model is and whether this OpenCV runs it, before a job is ever submitted.

#include <cstdint>
#include <string>
#include <vector>

namespace idunno {

struct CheckOptions {
  std::string onnx_file;
  std::string spec_file;
  std::string labels_file;  ///< empty: the one the spec names, beside the spec
  std::vector<std::uint32_t> batches{1, 16};
};

/// Prints one JSON object on stdout (schema idunno.model_check.v1). 0 = the model can be used, 1 = see `problems`.
[[nodiscard]] int check_model(const CheckOptions& options);

}  // namespace idunno

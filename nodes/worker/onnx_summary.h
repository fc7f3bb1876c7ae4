#pragma once
/// What an ONNX file says about its graph: inputs, outputs, operators, number of parameters. Reads the protobuf wire format
/// itself (onnx.proto of ONNX 1.x) and skips the weights, so a file of any size costs one pass over its top levels. cv::dnn gives
/// none of this back, and the ONNX library would double the start-up time of an executor.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"

namespace idunno {

struct OnnxTensor {
  std::string name;
  std::vector<std::string> shape;  ///< "224", a symbolic name, or "?"
};

struct OnnxNode {
  std::string name;
  std::string op_type;
  std::vector<std::string> outputs;
};

struct OnnxSummary {
  std::vector<OnnxTensor> inputs;  ///< without those that have an initializer
  std::vector<OnnxTensor> outputs;
  std::vector<OnnxNode> nodes;
  std::uint64_t parameters = 0;  ///< elements of all initializers
  std::uint64_t file_bytes = 0;

  /// Name of the node that makes `output`, or empty.
  [[nodiscard]] std::string producer_of(const std::string& output) const;
};

[[nodiscard]] Result<OnnxSummary> parse_onnx_summary(ByteView bytes);
[[nodiscard]] Result<OnnxSummary> read_onnx_summary(const std::string& file);

/// "a, b, c", for messages.
[[nodiscard]] std::string join_names(const std::vector<OnnxTensor>& tensors);

}  // namespace idunno

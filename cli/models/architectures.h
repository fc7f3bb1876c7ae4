#pragma once
/// Published network architectures, built with weights drawn from a seed: real work for a cluster on a machine without downloads.

#include <cstdint>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "storage/models/model_spec.h"

namespace idunno::models {

struct Architecture {
  std::string name;
  std::string source;            ///< paper, and whose layer table is followed
  std::uint64_t parameters = 0;  ///< published number of trained parameters
  std::uint32_t side = 0;        ///< width and height of the input
  std::uint32_t channels = 0;
  std::uint32_t classes = 0;
};

[[nodiscard]] const std::vector<Architecture>& architectures();
/// not_found names the known ones.
[[nodiscard]] Result<Architecture> find_architecture(const std::string& name);

/// The ONNX file: input float32 N x channels x side x side named "input", output logits N x classes. Checked by the ONNX checker
/// and strict shape inference; a number of parameters other than the published one is an internal error.
[[nodiscard]] Result<Bytes> build_architecture(const std::string& name, std::uint64_t seed);

/// Preprocessing as torchvision publishes it (MNIST's own mean and deviation for lenet5), softmax, class numbers for labels.
[[nodiscard]] ModelSpec architecture_spec(const Architecture& architecture);

}  // namespace idunno::models

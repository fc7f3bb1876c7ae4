#pragma once
/// The pre-trained classifiers that `idunno model pull` knows: where a file is, its size and SHA-256 as the zoo's repository pins
/// them (its Git LFS pointers), and how images have to be prepared.

#include <cstdint>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "storage/models/model_spec.h"

namespace idunno::models {

/// The mirror that the zoo names since its own downloads ended in July 2025. `--url-base` replaces it.
inline constexpr const char* kZooUrlBase = "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/";

struct ZooModel {
  std::string name;        ///< file name without .onnx, and the default name in the cluster
  std::string path;        ///< below the base address
  std::uint64_t size = 0;  ///< bytes
  std::string sha256;      ///< lower-case hexadecimal
  std::string about;       ///< network, data set, published accuracy
  std::string licence;
  ModelSpec spec;
};

[[nodiscard]] const std::vector<ZooModel>& zoo();
/// not_found names the nearest one.
[[nodiscard]] Result<ZooModel> find_zoo_model(const std::string& name);

}  // namespace idunno::models

#pragma once
/// The TOML beside an ONNX file: how to turn a query into the network's input and its output into a row (README,
/// "Your own model"). Strict: unknown keys are errors that name the key and the nearest known one.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/result.h"

namespace idunno {

enum class ResizeKind : std::uint8_t { stretch, crop };
enum class Interpolation : std::uint8_t { area, linear };
enum class ChannelOrder : std::uint8_t { rgb, bgr, gray };
enum class OutputKind : std::uint8_t { classify, tensor };

struct ModelSpec {
  struct Input {
    std::string name;         ///< empty when the graph has one input
    std::uint32_t width = 0;  ///< pixels; 0 for models of numbers
    std::uint32_t height = 0;
    std::vector<std::int64_t> shape;  ///< for models of numbers: one item without the batch dimension, e.g. {16}
    ResizeKind resize = ResizeKind::stretch;
    std::uint32_t shorter = 0;  ///< crop: the shorter side is brought to this first
    Interpolation interpolation = Interpolation::area;
    ChannelOrder channels = ChannelOrder::rgb;
    std::vector<float> mean;    ///< one a channel, subtracted, on 0..255, in the order of `channels`
    std::vector<float> scale;   ///< one a channel, multiplied after that
    std::uint32_t columns = 0;  ///< CSV: use the first so many columns; 0 = all must be there and no more
  } input;
  struct Output {
    std::string name;  ///< empty = the graph's (first) output
    OutputKind kind = OutputKind::classify;
    std::string labels;  ///< file name beside the spec, empty = class numbers
    bool softmax = false;
    std::uint32_t top = 5;
  } output;
  bool nothing = false;          ///< [engine] kind = "nothing": computes nothing; for `bench dispatch` only
  std::uint32_t nothing_us = 0;  ///< ... and takes this long for each query (an engine of known service time)
  /// ... and, for tests of isolation, ends its executor at queries whose names contain this text (empty = none): by a crash, by
  /// not coming back, by asking for more memory than it may have.
  std::string nothing_crash_on;
  std::string nothing_hang_on;
  std::string nothing_memory_on;
};

[[nodiscard]] Result<ModelSpec> parse_model_spec(std::string_view toml, const std::string& source_name);
[[nodiscard]] std::string to_toml(const ModelSpec& spec);

}  // namespace idunno

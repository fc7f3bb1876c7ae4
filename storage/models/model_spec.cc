#include "storage/models/model_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <utility>

#include "bus/strict_toml.h"

namespace idunno {
namespace {

constexpr std::size_t kSpecBytesMax = 64U << 10U;
constexpr std::int64_t kSideMax = 8192;  // pixels of one side of the network's input
constexpr std::size_t kShapeDimensionsMax = 6;
constexpr std::int64_t kShapeElementsMax = 16 << 20;  // floats of one item
constexpr std::int64_t kTopMax = 1000;
constexpr std::int64_t kNothingUsMax = 60'000'000;

std::size_t channel_count(ChannelOrder order) { return order == ChannelOrder::gray ? 1 : 3; }

/// An error about `key`, with its place and its name.
void refuse(TomlTable& table, const char* key, const std::string& what) { table.fail(key, fmt::format("`{}` {}", key, what)); }

/// One word of a fixed list; the error names them all.
template <class Enum, std::size_t N>
void get_word(TomlTable& table, const char* key, const std::pair<const char*, Enum> (&words)[N], Enum& value) {
  if (!table.has(key)) return;
  std::string text;
  table.get(key, text);
  if (text.empty()) return refuse(table, key, "is empty");
  std::string known;
  for (const auto& [word, meaning] : words) {
    if (text == word) {
      value = meaning;
      return;
    }
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", word);
  }
  refuse(table, key, fmt::format("is \"{}\", not one of {}", text, known));
}

constexpr std::pair<const char*, ResizeKind> kResizeWords[] = {{"stretch", ResizeKind::stretch}, {"crop", ResizeKind::crop}};
constexpr std::pair<const char*, Interpolation> kInterpolationWords[] = {{"area", Interpolation::area},
                                                                         {"linear", Interpolation::linear}};
constexpr std::pair<const char*, ChannelOrder> kChannelWords[] = {
    {"RGB", ChannelOrder::rgb}, {"BGR", ChannelOrder::bgr}, {"gray", ChannelOrder::gray}};

template <class Enum, std::size_t N>
const char* word_of(const std::pair<const char*, Enum> (&words)[N], Enum value) {
  for (const auto& [word, meaning] : words) {
    if (meaning == value) return word;
  }
  return words[0].first;
}

/// `mean` and `scale`: one finite number for each channel, or absent: then all are `absent`.
void get_per_channel(TomlTable& table, const char* key, std::size_t channels, float absent, std::vector<float>& value) {
  value.assign(channels, absent);
  if (!table.has(key)) return;
  std::vector<double> numbers;
  table.get(key, numbers);
  if (numbers.size() != channels) {
    return refuse(table, key,
                  fmt::format("has {} numbers, but the input has {} channel{}: give one for each", numbers.size(), channels,
                              channels == 1 ? "" : "s"));
  }
  for (std::size_t i = 0; i < channels; ++i) {
    if (!std::isfinite(numbers[i]) || std::abs(numbers[i]) > static_cast<double>(std::numeric_limits<float>::max())) {
      return refuse(table, key, "has a number that is not finite");
    }
    value[i] = static_cast<float>(numbers[i]);
  }
}

/// Keys that mean something for images only (or numbers only) are refused elsewhere, so that a misunderstanding is not silent.
void refuse_keys(TomlTable& table, std::initializer_list<const char*> keys, const char* why) {
  for (const char* key : keys) {
    if (table.has(key)) refuse(table, key, why);
  }
}

void read_image_input(TomlTable& table, ModelSpec::Input& input) {
  std::vector<std::int64_t> size;
  table.get("size", size, 1, kSideMax);
  if (size.size() != 2) return refuse(table, "size", "must be [width, height] in pixels, e.g. [224, 224]");
  input.width = static_cast<std::uint32_t>(size[0]);
  input.height = static_cast<std::uint32_t>(size[1]);
  refuse_keys(table, {"columns"}, "is for models of numbers (with `shape`), this one takes images (`size`)");

  get_word(table, "resize", kResizeWords, input.resize);
  if (input.resize == ResizeKind::crop) {
    if (!table.has("shorter")) {
      return refuse(table, "resize", "is \"crop\", which needs `shorter`: the pixels of the shorter side before the cut");
    }
    std::int64_t shorter = 0;
    table.get("shorter", shorter, 1, kSideMax);
    input.shorter = static_cast<std::uint32_t>(shorter);
    if (shorter > 0 && input.shorter < std::max(input.width, input.height)) {
      refuse(table, "shorter",
             fmt::format("is {}, less than the size {} x {} that is cut out of it", shorter, input.width, input.height));
    }
  } else {
    refuse_keys(table, {"shorter"}, "is for resize = \"crop\" only");
  }
  get_word(table, "interpolation", kInterpolationWords, input.interpolation);
  get_word(table, "channels", kChannelWords, input.channels);
  get_per_channel(table, "mean", channel_count(input.channels), 0.0F, input.mean);
  get_per_channel(table, "scale", channel_count(input.channels), 1.0F, input.scale);
  for (const float factor : input.scale) {
    if (factor == 0.0F) return refuse(table, "scale", "has a 0, which would wipe out the channel");
  }
}

void read_numbers_input(TomlTable& table, ModelSpec::Input& input) {
  table.get("shape", input.shape, 1, kShapeElementsMax);
  if (input.shape.empty() || input.shape.size() > kShapeDimensionsMax) {
    return refuse(table, "shape",
                  fmt::format("must have 1 to {} numbers: one item without the batch dimension, e.g. [16]", kShapeDimensionsMax));
  }
  std::int64_t elements = 1;
  for (const std::int64_t dimension : input.shape) {
    if (dimension < 1 || dimension > kShapeElementsMax) return;  // `get` has failed and noted it
    elements *= dimension;
    if (elements > kShapeElementsMax) return refuse(table, "shape", fmt::format("has more than {} elements", kShapeElementsMax));
  }
  refuse_keys(table, {"resize", "shorter", "interpolation", "channels", "mean", "scale"},
              "is for models of images (with `size`), this one takes numbers (`shape`)");
  std::int64_t columns = 0;
  table.get("columns", columns, 0, kShapeElementsMax);
  if (columns != 0 && columns != elements) {
    refuse(table, "columns", fmt::format("is {}, but one item of this shape is {} numbers", columns, elements));
  }
  input.columns = static_cast<std::uint32_t>(columns);
}

void read_input(TomlTable& table, ModelSpec::Input& input) {
  table.get("name", input.name);
  const bool image = table.has("size");
  const bool numbers = table.has("shape");
  if (image && numbers) return refuse(table, "shape", "and size exclude each other: size is for images, shape for numbers");
  if (numbers) return read_numbers_input(table, input);
  if (!image) return refuse(table, "size", "is missing: give size = [width, height] for images, or shape = [...] for numbers");
  read_image_input(table, input);
}

void read_output(TomlTable& table, ModelSpec::Output& output) {
  table.get("name", output.name);
  std::string kind = "classify";
  table.get("kind", kind);
  if (kind == "sequence")
    return refuse(table, "kind", "\"sequence\" is not supported by this version; use \"classify\" or \"tensor\"");
  if (kind != "classify" && kind != "tensor") {
    return refuse(table, "kind", fmt::format("is \"{}\", not one of \"classify\", \"tensor\"", kind));
  }
  if (kind == "tensor") {
    output.kind = OutputKind::tensor;
    return refuse_keys(table, {"labels", "softmax", "top"}, "is for kind = \"classify\" only");
  }
  table.get("labels", output.labels);
  if (output.labels.find('/') != std::string::npos || output.labels == "." || output.labels == "..") {
    refuse(table, "labels", "must be the name of a file beside the spec, without a folder");
  }
  table.get("softmax", output.softmax);
  std::int64_t top = output.top;
  table.get("top", top, 1, kTopMax);
  output.top = static_cast<std::uint32_t>(top);
}

void read_engine(TomlTable& table, ModelSpec& spec) {
  std::string kind = "dnn";
  table.get("kind", kind);
  if (kind != "dnn" && kind != "nothing")
    return refuse(table, "kind", fmt::format("is \"{}\", not one of \"dnn\", \"nothing\"", kind));
  spec.nothing = kind == "nothing";
  if (!spec.nothing) {
    return refuse_keys(table, {"nothing_us", "nothing_crash_on", "nothing_hang_on", "nothing_memory_on"},
                       "is for kind = \"nothing\" only");
  }
  std::int64_t us = 0;
  table.get("nothing_us", us, 0, kNothingUsMax);
  spec.nothing_us = static_cast<std::uint32_t>(us);
  table.get("nothing_crash_on", spec.nothing_crash_on);
  table.get("nothing_hang_on", spec.nothing_hang_on);
  table.get("nothing_memory_on", spec.nothing_memory_on);
}

/// TOML tells integers from floats, so a whole number gets its ".0".
std::string float_list(const std::vector<float>& values) {
  std::string text = "[";
  for (const float value : values) {
    std::string number = fmt::format("{}", value);
    if (number.find_first_of(".en") == std::string::npos) number += ".0";
    text += (text.size() == 1 ? "" : ", ") + number;
  }
  return text + "]";
}

/// A TOML basic string.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out + '"';
}

}  // namespace

Result<ModelSpec> parse_model_spec(std::string_view toml, const std::string& source_name) {
  if (toml.size() > kSpecBytesMax) {
    return Error{Errc::too_large,
                 fmt::format("{}: a model spec has at most {} bytes, this has {}", source_name, kSpecBytesMax, toml.size())};
  }
  auto root = TomlTable::parse(toml, source_name);
  if (!root) return root.error();
  ModelSpec spec;
  if (auto engine = root->table("engine")) read_engine(*engine, spec);
  auto input = root->table("input");
  if (input) {
    read_input(*input, spec.input);
  } else if (!spec.nothing) {
    refuse(*root, "input",
           "is missing: a spec starts with [input] and size = [width, height] (images) or shape = [...] (numbers)");
  }
  if (auto output = root->table("output")) read_output(*output, spec.output);
  if (const Status status = root->finish(); !status) return status.error();
  return spec;
}

std::string to_toml(const ModelSpec& spec) {
  std::string text;
  if (spec.nothing) {
    text += fmt::format("[engine]\nkind = \"nothing\"\nnothing_us = {}\n", spec.nothing_us);
    const std::pair<const char*, const std::string&> faults[] = {{"nothing_crash_on", spec.nothing_crash_on},
                                                                 {"nothing_hang_on", spec.nothing_hang_on},
                                                                 {"nothing_memory_on", spec.nothing_memory_on}};
    for (const auto& [key, text_of_query] : faults) {
      if (!text_of_query.empty()) text += fmt::format("{} = {}\n", key, quoted(text_of_query));
    }
  }
  const ModelSpec::Input& input = spec.input;
  if (input.width != 0 || !input.shape.empty()) {
    text += "[input]\n";
    if (!input.name.empty()) text += fmt::format("name = {}\n", quoted(input.name));
  }
  if (input.width != 0) {
    text += fmt::format("size = [{}, {}]\nresize = \"{}\"\n", input.width, input.height, word_of(kResizeWords, input.resize));
    if (input.resize == ResizeKind::crop) text += fmt::format("shorter = {}\n", input.shorter);
    text += fmt::format("interpolation = \"{}\"\nchannels = \"{}\"\n", word_of(kInterpolationWords, input.interpolation),
                        word_of(kChannelWords, input.channels));
    if (!input.mean.empty()) text += fmt::format("mean = {}\n", float_list(input.mean));
    if (!input.scale.empty()) text += fmt::format("scale = {}\n", float_list(input.scale));
  } else if (!input.shape.empty()) {
    text += fmt::format("shape = [{}]\n", fmt::join(input.shape, ", "));
    if (input.columns != 0) text += fmt::format("columns = {}\n", input.columns);
  }
  if (spec.nothing && input.width == 0 && input.shape.empty()) return text;

  const ModelSpec::Output& output = spec.output;
  text += "[output]\n";
  if (!output.name.empty()) text += fmt::format("name = {}\n", quoted(output.name));
  if (output.kind == OutputKind::tensor) return text + "kind = \"tensor\"\n";
  text += "kind = \"classify\"\n";
  if (!output.labels.empty()) text += fmt::format("labels = {}\n", quoted(output.labels));
  return text + fmt::format("softmax = {}\ntop = {}\n", output.softmax, output.top);
}

}  // namespace idunno

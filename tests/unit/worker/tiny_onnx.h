#pragma once
/// Writes small ONNX files byte by byte (onnx.proto of ONNX 1.x), so that tests of the engine need no other library and no file.

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace idunno::testing {

class ProtoWriter {
 public:
  ProtoWriter& number(std::uint32_t field, std::uint64_t value) {
    varint(std::uint64_t{field} << 3U);
    varint(value);
    return *this;
  }
  ProtoWriter& bytes(std::uint32_t field, const std::string& value) {
    varint((std::uint64_t{field} << 3U) | 2U);
    varint(value.size());
    out_ += value;
    return *this;
  }
  ProtoWriter& message(std::uint32_t field, const ProtoWriter& value) { return bytes(field, value.out_); }
  [[nodiscard]] const std::string& str() const { return out_; }

 private:
  void varint(std::uint64_t value) {
    while (value >= 0x80) {
      out_ += static_cast<char>((value & 0x7fU) | 0x80U);
      value >>= 7U;
    }
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

inline ProtoWriter onnx_tensor(const std::string& name, const std::vector<std::uint64_t>& shape,
                               const std::vector<float>& values) {
  ProtoWriter tensor;
  for (const std::uint64_t dimension : shape) tensor.number(1, dimension);
  std::string raw(values.size() * sizeof(float), '\0');
  std::memcpy(raw.data(), values.data(), raw.size());
  return tensor.number(2, 1).bytes(8, name).bytes(9, raw);
}

/// A float tensor; a dimension of 0 is symbolic ("N").
inline ProtoWriter onnx_value(const std::string& name, const std::vector<std::uint64_t>& shape) {
  ProtoWriter dimensions;
  for (const std::uint64_t dimension : shape) {
    dimensions.message(1, dimension == 0 ? ProtoWriter().bytes(2, "N") : ProtoWriter().number(1, dimension));
  }
  return ProtoWriter().bytes(1, name).message(2, ProtoWriter().message(1, ProtoWriter().number(1, 1).message(2, dimensions)));
}

inline ProtoWriter onnx_int_attribute(const std::string& name, std::uint64_t value) {
  return ProtoWriter().bytes(1, name).number(3, value).number(20, 2);
}

inline ProtoWriter onnx_node(const std::string& op, const std::string& name, const std::vector<std::string>& inputs,
                             const std::vector<std::string>& outputs, const std::vector<ProtoWriter>& attributes = {}) {
  ProtoWriter node;
  for (const std::string& input : inputs) node.bytes(1, input);
  for (const std::string& output : outputs) node.bytes(2, output);
  node.bytes(3, name).bytes(4, op);
  for (const ProtoWriter& attribute : attributes) node.message(5, attribute);
  return node;
}

struct OnnxGraph {
  std::vector<ProtoWriter> nodes;
  std::vector<ProtoWriter> weights;
  std::vector<ProtoWriter> inputs;
  std::vector<ProtoWriter> outputs;

  [[nodiscard]] std::string file() const {
    ProtoWriter graph;
    for (const auto& node : nodes) graph.message(1, node);
    graph.bytes(2, "g");
    for (const auto& weight : weights) graph.message(5, weight);
    for (const auto& input : inputs) graph.message(11, input);
    for (const auto& output : outputs) graph.message(12, output);
    return ProtoWriter()
        .number(1, 6)
        .bytes(2, "pytorch")
        .message(7, graph)
        .message(8, ProtoWriter().bytes(1, "").number(2, 11))
        .str();
  }
};

/// out = x * transposed(weight) + bias, for x of `inputs` numbers.
inline std::string gemm_model(std::uint64_t inputs, std::uint64_t outputs, const std::vector<float>& weight,
                              const std::vector<float>& bias) {
  OnnxGraph graph;
  graph.nodes = {onnx_node("Gemm", "fc", {"x", "w", "b"}, {"out"}, {onnx_int_attribute("transB", 1)})};
  graph.weights = {onnx_tensor("w", {outputs, inputs}, weight), onnx_tensor("b", {outputs}, bias)};
  graph.inputs = {onnx_value("x", {0, inputs}), onnx_value("w", {outputs, inputs}), onnx_value("b", {outputs})};
  graph.outputs = {onnx_value("out", {0, outputs})};
  return graph.file();
}

/// One value per channel: the mean of each channel's plane, for images of 3 x height x width.
inline std::string channel_means_model(std::uint64_t height, std::uint64_t width) {
  OnnxGraph graph;
  graph.nodes = {onnx_node("GlobalAveragePool", "pool", {"x"}, {"pooled"}),
                 onnx_node("Flatten", "flat", {"pooled"}, {"out"}, {onnx_int_attribute("axis", 1)})};
  graph.inputs = {onnx_value("x", {0, 3, height, width})};
  graph.outputs = {onnx_value("out", {0, 3})};
  return graph.file();
}

}  // namespace idunno::testing

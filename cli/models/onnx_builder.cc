#include "cli/models/onnx_builder.h"

#include <onnx/checker.h>
#include <onnx/shape_inference/implementation.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <exception>

namespace idunno::models {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kLn2 = 0.69314718055994530942;

/// Natural logarithm of 0 < x < 1, to about 1e-14: x = m 2^e with m near 1, ln m = 2 artanh((m - 1) / (m + 1)).
double portable_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  auto exponent = static_cast<std::int64_t>(bits >> 52U) - 1022;
  double m = std::bit_cast<double>((bits & 0xFFFFFFFFFFFFFULL) | 0x3FE0000000000000ULL);  // in [0.5, 1)
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1) / (m + 1);
  const double t = s * s;
  const double series =
      1 + t * (1.0 / 3 + t * (1.0 / 5 + t * (1.0 / 7 + t * (1.0 / 9 + t * (1.0 / 11 + t * (1.0 / 13 + t * (1.0 / 15)))))));
  return static_cast<double>(exponent) * kLn2 + 2 * s * series;
}

/// Sine and cosine of 2 pi u for 0 <= u < 1: Taylor series around the nearest multiple of a quarter turn.
std::pair<double, double> portable_sin_cos(double u) {
  const auto quarter = static_cast<int>(u * 4 + 0.5);
  const double x = 2 * kPi * (u - quarter * 0.25);
  const double t = x * x;
  const double s = x * (1 - t / 6 * (1 - t / 20 * (1 - t / 42 * (1 - t / 72 * (1 - t / 110 * (1 - t / 156))))));
  const double c = 1 - t / 2 * (1 - t / 12 * (1 - t / 30 * (1 - t / 56 * (1 - t / 90 * (1 - t / 132 * (1 - t / 182))))));
  switch (quarter % 4) {
    case 0:
      return {s, c};
    case 1:
      return {c, -s};
    case 2:
      return {-s, -c};
    default:
      return {-c, s};
  }
}

std::int64_t elements(const std::vector<std::int64_t>& shape, std::size_t from = 0) {
  std::int64_t count = 1;
  for (std::size_t i = from; i < shape.size(); ++i) count *= shape[i];
  return count;
}

std::int64_t window_steps(std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  return (size + 2 * pad - kernel) / stride + 1;
}

void declare(onnx::ValueInfoProto& value, const Tensor& tensor) {
  value.set_name(tensor.name);
  auto* type = value.mutable_type()->mutable_tensor_type();
  type->set_elem_type(onnx::TensorProto::FLOAT);
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    auto* dimension = type->mutable_shape()->add_dim();
    if (i == 0) {
      dimension->set_dim_param("N");
    } else {
      dimension->set_dim_value(tensor.shape[i]);
    }
  }
}

onnx::AttributeProto& fresh_attribute(onnx::NodeProto& node, const std::string& name, onnx::AttributeProto::AttributeType type) {
  onnx::AttributeProto* found = nullptr;
  for (auto& attribute : *node.mutable_attribute()) {
    if (attribute.name() == name) found = &attribute;
  }
  if (found == nullptr) found = node.add_attribute();
  found->Clear();
  found->set_name(name);
  found->set_type(type);
  return *found;
}

}  // namespace

Bytes NormalSource::floats(std::size_t count, double deviation) {
  Bytes bytes(count * sizeof(float), '\0');
  for (std::size_t i = 0; i < count; i += 2) {
    // The half step keeps u above 0, where the logarithm has no value.
    const double u = (static_cast<double>(random_.next() >> 11U) + 0.5) * 0x1.0p-53;
    const double radius = std::sqrt(-2 * portable_log(u)) * deviation;
    const auto [sine, cosine] = portable_sin_cos(random_.unit());
    const std::array<float, 2> pair{static_cast<float>(radius * cosine), static_cast<float>(radius * sine)};
    std::memcpy(bytes.data() + i * sizeof(float), pair.data(), std::min<std::size_t>(2, count - i) * sizeof(float));
  }
  return bytes;
}

void set_attribute(onnx::NodeProto& node, const std::string& name, std::int64_t value) {
  fresh_attribute(node, name, onnx::AttributeProto::INT).set_i(value);
}

void set_attribute(onnx::NodeProto& node, const std::string& name, float value) {
  fresh_attribute(node, name, onnx::AttributeProto::FLOAT).set_f(value);
}

void set_attribute(onnx::NodeProto& node, const std::string& name, const std::vector<std::int64_t>& values) {
  auto& attribute = fresh_attribute(node, name, onnx::AttributeProto::INTS);
  for (const auto value : values) attribute.add_ints(value);
}

OnnxBuilder::OnnxBuilder(const std::string& name, std::uint64_t seed, int opset) : normal_(seed) {
  model_.set_ir_version(6);
  model_.set_producer_name("pytorch");
  model_.mutable_graph()->set_name(name);
  auto* import = model_.add_opset_import();
  import->set_domain("");
  import->set_version(opset);
}

std::string OnnxBuilder::fresh(const std::string& stem) { return stem + "_" + std::to_string(++names_); }

onnx::NodeProto& OnnxBuilder::node(const std::string& op, std::vector<std::string> inputs, const std::string& output) {
  auto* added = model_.mutable_graph()->add_node();
  added->set_op_type(op);
  added->set_name(output);
  for (auto& input_name : inputs) added->add_input(std::move(input_name));
  added->add_output(output);
  return *added;
}

onnx::TensorProto& OnnxBuilder::initializer(const std::string& name, const std::vector<std::int64_t>& shape, bool trained) {
  auto* tensor = model_.mutable_graph()->add_initializer();
  tensor->set_name(name);
  tensor->set_data_type(onnx::TensorProto::FLOAT);
  for (const auto dimension : shape) tensor->add_dims(dimension);
  if (trained) parameters_ += static_cast<std::uint64_t>(elements(shape));
  return *tensor;
}

std::string OnnxBuilder::weight(const std::string& name, const std::vector<std::int64_t>& shape, double deviation) {
  initializer(name, shape, true).set_raw_data(normal_.floats(static_cast<std::size_t>(elements(shape)), deviation));
  return name;
}

std::string OnnxBuilder::constant(const std::string& name, const std::vector<std::int64_t>& shape, float value, bool trained) {
  const std::vector<float> values(static_cast<std::size_t>(elements(shape)), value);
  initializer(name, shape, trained).set_raw_data(values.data(), values.size() * sizeof(float));
  return name;
}

Tensor OnnxBuilder::input(std::vector<std::int64_t> shape, const std::string& name) {
  Tensor tensor{name, std::move(shape)};
  declare(*model_.mutable_graph()->add_input(), tensor);
  return tensor;
}

Tensor OnnxBuilder::conv(const Tensor& x, std::int64_t channels, Window kernel, ConvOptions options) {
  const std::string name = fresh("conv");
  const std::vector<std::int64_t> shape{channels, x.shape[1], kernel.height, kernel.width};
  std::vector<std::string> inputs{x.name,
                                  weight(name + ".weight", shape, std::sqrt(2.0 / static_cast<double>(elements(shape, 1))))};
  if (options.bias) inputs.push_back(constant(name + ".bias", {channels}, 0));
  auto& added = node("Conv", std::move(inputs), name);
  set_attribute(added, "dilations", {1, 1});
  set_attribute(added, "group", std::int64_t{1});
  set_attribute(added, "kernel_shape", {kernel.height, kernel.width});
  set_attribute(added, "pads", {options.pad.height, options.pad.width, options.pad.height, options.pad.width});
  set_attribute(added, "strides", {options.stride, options.stride});
  return {name,
          {x.shape[0], channels, window_steps(x.shape[2], kernel.height, options.stride, options.pad.height),
           window_steps(x.shape[3], kernel.width, options.stride, options.pad.width)}};
}

Tensor OnnxBuilder::batch_norm(const Tensor& x, float epsilon, float gamma) {
  const std::string name = fresh("bn");
  const std::vector<std::int64_t> shape{x.shape[1]};
  auto& added = node("BatchNormalization",
                     {x.name, constant(name + ".weight", shape, gamma), constant(name + ".bias", shape, 0),
                      constant(name + ".running_mean", shape, 0, false), constant(name + ".running_var", shape, 1, false)},
                     name);
  set_attribute(added, "epsilon", epsilon);
  set_attribute(added, "momentum", 0.9F);
  return {name, x.shape};
}

Tensor OnnxBuilder::unary(const std::string& op, const std::string& stem, const Tensor& x) {
  const std::string name = fresh(stem);
  node(op, {x.name}, name);
  return {name, x.shape};
}

Tensor OnnxBuilder::relu(const Tensor& x) { return unary("Relu", "relu", x); }

Tensor OnnxBuilder::pool(const std::string& op, const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  Tensor y = unary(op, op == "MaxPool" ? "maxpool" : "avgpool", x);
  auto& added = *model_.mutable_graph()->mutable_node(model_.graph().node_size() - 1);
  set_attribute(added, "kernel_shape", {kernel, kernel});
  set_attribute(added, "pads", {pad, pad, pad, pad});
  set_attribute(added, "strides", {stride, stride});
  if (op == "AveragePool") set_attribute(added, "count_include_pad", std::int64_t{1});
  for (std::size_t i = 2; i < 4; ++i) y.shape[i] = window_steps(x.shape[i], kernel, stride, pad);
  return y;
}

Tensor OnnxBuilder::max_pool(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  return pool("MaxPool", x, kernel, stride, pad);
}

Tensor OnnxBuilder::average_pool(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad) {
  return pool("AveragePool", x, kernel, stride, pad);
}

Tensor OnnxBuilder::global_average_pool(const Tensor& x) {
  Tensor y = unary("GlobalAveragePool", "gap", x);
  y.shape = {x.shape[0], x.shape[1], 1, 1};
  return y;
}

Tensor OnnxBuilder::flatten(const Tensor& x) {
  Tensor y = unary("Flatten", "flatten", x);
  set_attribute(*model_.mutable_graph()->mutable_node(model_.graph().node_size() - 1), "axis", std::int64_t{1});
  y.shape = {x.shape[0], elements(x.shape, 1)};
  return y;
}

Tensor OnnxBuilder::fully_connected(const Tensor& x, std::int64_t outputs, double gain) {
  const std::string name = fresh("fc");
  const std::int64_t inputs = x.shape[1];
  auto& added = node("Gemm",
                     {x.name, weight(name + ".weight", {outputs, inputs}, std::sqrt(gain / static_cast<double>(inputs))),
                      constant(name + ".bias", {outputs}, 0)},
                     name);
  set_attribute(added, "alpha", 1.0F);
  set_attribute(added, "beta", 1.0F);
  set_attribute(added, "transB", std::int64_t{1});
  return {name, {x.shape[0], outputs}};
}

Tensor OnnxBuilder::add(const Tensor& a, const Tensor& b) {
  const std::string name = fresh("add");
  node("Add", {a.name, b.name}, name);
  return {name, a.shape};
}

Tensor OnnxBuilder::concat(const std::vector<Tensor>& parts) {
  const std::string name = fresh("concat");
  Tensor y{name, parts.front().shape};
  std::vector<std::string> inputs;
  y.shape[1] = 0;
  for (const auto& part : parts) {
    inputs.push_back(part.name);
    y.shape[1] += part.shape[1];
  }
  set_attribute(node("Concat", std::move(inputs), name), "axis", std::int64_t{1});
  return y;
}

Tensor OnnxBuilder::dropout(const Tensor& x, float ratio) {
  Tensor y = unary("Dropout", "dropout", x);
  set_attribute(*model_.mutable_graph()->mutable_node(model_.graph().node_size() - 1), "ratio", ratio);
  return y;
}

Tensor OnnxBuilder::softmax(const Tensor& x) {
  Tensor y = unary("Softmax", "softmax", x);
  set_attribute(*model_.mutable_graph()->mutable_node(model_.graph().node_size() - 1), "axis", std::int64_t{1});
  return y;
}

Result<Bytes> OnnxBuilder::finish(const Tensor& output) {
  declare(*model_.mutable_graph()->add_output(), output);
  if (Status valid = validate_onnx(model_); !valid) return annotate(valid.error(), "building " + model_.graph().name());
  return serialize_onnx(model_);
}

Status validate_onnx(const onnx::ModelProto& model) {
  try {
    onnx::checker::check_model(model);
    onnx::ModelProto inferred = model;  // inference writes its findings into the graph
    onnx::shape_inference::InferShapes(inferred, onnx::OpSchemaRegistry::Instance(),
                                       onnx::ShapeInferenceOptions(/*check_type=*/true, /*strict_mode=*/1, /*data_prop=*/false));
  } catch (const std::exception& e) {
    std::string why = e.what();
    for (auto& c : why) {
      if (c == '\n') c = ' ';
    }
    return Error{Errc::invalid, "the graph is not valid ONNX: " + why};
  }
  return {};
}

Result<Bytes> serialize_onnx(const onnx::ModelProto& model) {
  Bytes bytes;
  if (!model.SerializeToString(&bytes)) return Error{Errc::too_large, "an ONNX file holds at most 2 GiB"};
  return bytes;
}

}  // namespace idunno::models

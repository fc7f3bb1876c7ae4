#include "cli/models/graph_view.h"

#include <onnx/shape_inference/implementation.h>

#include <cstring>
#include <exception>

namespace idunno::models {
namespace {

std::vector<std::int64_t> declared_shape(const onnx::ValueInfoProto& value, bool& known) {
  std::vector<std::int64_t> shape;
  known = value.type().has_tensor_type() && value.type().tensor_type().has_shape();
  if (!known) return shape;
  for (const auto& dimension : value.type().tensor_type().shape().dim()) {
    shape.push_back(dimension.has_dim_value() ? dimension.dim_value() : -1);
  }
  return shape;
}

}  // namespace

GraphView::GraphView(onnx::ModelProto& model, GraphReport& report) : model_(model), report_(report) {
  refresh();
  try {
    // Shapes of the graph as it came: the rewrites keep them. Lenient: a rule asks only where the shape could be inferred.
    onnx::ModelProto inferred = model_;
    onnx::shape_inference::InferShapes(inferred);
    for (const auto* values : {&inferred.graph().value_info(), &inferred.graph().input(), &inferred.graph().output()}) {
      for (const auto& value : *values) {
        bool known = false;
        auto shape = declared_shape(value, known);
        if (known) shapes_[value.name()] = std::move(shape);
      }
    }
  } catch (const std::exception&) {  // no shapes, then
  }
}

void GraphView::refresh() {
  constants_.clear();
  producers_.clear();
  for (const auto& tensor : model_.graph().initializer()) {
    constants_[tensor.name()] = &tensor;
    names_.insert(tensor.name());
  }
  for (const auto& input : model_.graph().input()) names_.insert(input.name());
  for (const auto& node : model_.graph().node()) {
    for (const auto& output : node.output()) {
      producers_[output] = &node;
      names_.insert(output);
    }
    if (node.op_type() != "Constant" || node.output_size() != 1) continue;
    const auto* value = attribute(node, "value");
    if (value != nullptr && value->has_t()) constants_[node.output(0)] = &value->t();
  }
}

std::int64_t GraphView::opset() const {
  for (const auto& import : model_.opset_import()) {
    if (import.domain().empty() || import.domain() == "ai.onnx") return import.version();
  }
  return 1;
}

const onnx::TensorProto* GraphView::constant(const std::string& value) const {
  const auto found = constants_.find(value);
  return found == constants_.end() ? nullptr : found->second;
}

const onnx::NodeProto* GraphView::producer(const std::string& value) const {
  const auto found = producers_.find(value);
  return found == producers_.end() ? nullptr : found->second;
}

bool GraphView::has_operator(const std::string& op) const {
  for (const auto& node : model_.graph().node()) {
    if (node.op_type() == op) return true;
  }
  return false;
}

std::optional<std::vector<std::int64_t>> GraphView::shape(const std::string& value) const {
  if (const auto* tensor = constant(value)) return std::vector<std::int64_t>(tensor->dims().begin(), tensor->dims().end());
  const auto found = shapes_.find(value);
  if (found == shapes_.end()) return std::nullopt;
  return found->second;
}

std::string GraphView::add_initializer(onnx::TensorProto tensor, const std::string& stem) {
  std::string name = stem;
  for (int i = 2; !names_.insert(name).second; ++i) name = stem + "_" + std::to_string(i);
  tensor.set_name(name);
  auto* added = graph().add_initializer();
  *added = std::move(tensor);
  constants_[name] = added;
  // Before version 4 of the format every initializer had to be an input as well.
  if (model_.ir_version() < 4) model_.set_ir_version(4);
  return name;
}

void GraphView::replace_uses(const std::string& value, const std::string& by) {
  for (auto& node : *graph().mutable_node()) {
    for (auto& input : *node.mutable_input()) {
      if (input == value) input = by;
    }
  }
}

void GraphView::find(FindingKind kind, const onnx::NodeProto& node, const std::string& problem, const std::string& advice) {
  const std::string name = !node.name().empty() ? node.name() : node.output_size() > 0 ? node.output(0) : "";
  report_.findings.push_back({kind, name, node.op_type(), problem, advice});
}

void GraphView::rewritten(const onnx::NodeProto& node, const std::string& problem, const std::string& done) {
  find(FindingKind::rewritten, node, problem, done);
}
void GraphView::warn(const onnx::NodeProto& node, const std::string& problem, const std::string& advice) {
  find(FindingKind::warning, node, problem, advice);
}
void GraphView::refuse(const onnx::NodeProto& node, const std::string& problem, const std::string& advice) {
  find(FindingKind::refused, node, problem, advice);
}

const onnx::AttributeProto* attribute(const onnx::NodeProto& node, const std::string& name) {
  for (const auto& candidate : node.attribute()) {
    if (candidate.name() == name) return &candidate;
  }
  return nullptr;
}

std::int64_t int_attribute(const onnx::NodeProto& node, const std::string& name, std::int64_t otherwise) {
  const auto* found = attribute(node, name);
  return found != nullptr ? found->i() : otherwise;
}

float float_attribute(const onnx::NodeProto& node, const std::string& name, float otherwise) {
  const auto* found = attribute(node, name);
  return found != nullptr ? found->f() : otherwise;
}

std::vector<std::int64_t> ints_attribute(const onnx::NodeProto& node, const std::string& name) {
  const auto* found = attribute(node, name);
  if (found == nullptr) return {};
  return {found->ints().begin(), found->ints().end()};
}

std::string string_attribute(const onnx::NodeProto& node, const std::string& name) {
  const auto* found = attribute(node, name);
  return found != nullptr ? found->s() : std::string();
}

void remove_attribute(onnx::NodeProto& node, const std::string& name) {
  for (int i = node.attribute_size() - 1; i >= 0; --i) {
    if (node.attribute(i).name() == name) node.mutable_attribute()->DeleteSubrange(i, 1);
  }
}

namespace {
template <class T>
std::vector<T> raw_values(const std::string& raw) {
  std::vector<T> values(raw.size() / sizeof(T));
  std::memcpy(values.data(), raw.data(), values.size() * sizeof(T));
  return values;
}
}  // namespace

std::vector<float> float_values(const onnx::TensorProto& tensor) {
  if (tensor.data_type() != onnx::TensorProto::FLOAT) return {};
  if (tensor.has_raw_data()) return raw_values<float>(tensor.raw_data());
  return {tensor.float_data().begin(), tensor.float_data().end()};
}

std::vector<std::int64_t> integer_values(const onnx::TensorProto& tensor) {
  if (tensor.data_type() == onnx::TensorProto::INT64) {
    if (tensor.has_raw_data()) return raw_values<std::int64_t>(tensor.raw_data());
    return {tensor.int64_data().begin(), tensor.int64_data().end()};
  }
  if (tensor.data_type() == onnx::TensorProto::INT32) {
    if (!tensor.has_raw_data()) return {tensor.int32_data().begin(), tensor.int32_data().end()};
    const auto narrow = raw_values<std::int32_t>(tensor.raw_data());
    return {narrow.begin(), narrow.end()};
  }
  return {};
}

onnx::TensorProto float_tensor(const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::FLOAT);
  for (const auto dimension : shape) tensor.add_dims(dimension);
  tensor.set_raw_data(values.data(), values.size() * sizeof(float));
  return tensor;
}

onnx::TensorProto integer_tensor(const std::vector<std::int64_t>& values) {
  onnx::TensorProto tensor;
  tensor.set_data_type(onnx::TensorProto::INT64);
  tensor.add_dims(static_cast<std::int64_t>(values.size()));
  tensor.set_raw_data(values.data(), values.size() * sizeof(std::int64_t));
  return tensor;
}

}  // namespace idunno::models

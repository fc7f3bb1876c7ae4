// What cv::dnn 4.6 is known to compute wrongly, or refuses, and an equivalent graph can mend.
#include <algorithm>
#include <functional>

#include "cli/models/graph_view.h"

namespace idunno::models {
namespace {

/// Weights that pass through Identity (exporters do that for shared weights) are refused: use the source directly.
void bypass_identity(GraphView& view) {
  for (const auto& node : view.graph().node()) {
    if (node.op_type() != "Identity" || node.input_size() != 1 || node.output_size() != 1) continue;
    if (view.constant(node.input(0)) == nullptr) continue;
    const auto& outputs = view.graph().output();
    if (std::any_of(outputs.begin(), outputs.end(), [&](const auto& o) { return o.name() == node.output(0); })) continue;
    view.replace_uses(node.output(0), node.input(0));
    view.rewritten(node, "weights that pass through Identity cannot be loaded", "its readers now use the weights directly");
  }
  auto* nodes = view.graph().mutable_node();
  for (int i = nodes->size() - 1; i >= 0; --i) {
    const auto& node = nodes->Get(i);
    const bool unused = node.op_type() == "Identity" && node.input_size() == 1 && view.constant(node.input(0)) != nullptr;
    const auto& outputs = view.graph().output();
    if (!unused || std::any_of(outputs.begin(), outputs.end(), [&](const auto& o) { return o.name() == node.output(0); }))
      continue;
    nodes->DeleteSubrange(i, 1);
  }
  view.refresh();
}

/// cv::dnn asserts on a convolution without kernel_shape; the weights tell it.
void fill_kernel_shape(GraphView& view) {
  for (auto& node : *view.graph().mutable_node()) {
    if ((node.op_type() != "Conv" && node.op_type() != "ConvTranspose") || attribute(node, "kernel_shape") != nullptr) continue;
    const auto shape = node.input_size() > 1 ? view.shape(node.input(1)) : std::nullopt;
    const bool known =
        shape && shape->size() > 2 && std::all_of(shape->begin() + 2, shape->end(), [](std::int64_t d) { return d > 0; });
    if (!known) {
      view.refuse(node, "it has no kernel_shape and its weights have no known shape", "export the model with constant weights");
      continue;
    }
    auto* added = node.add_attribute();
    added->set_name("kernel_shape");
    added->set_type(onnx::AttributeProto::INTS);
    for (std::size_t i = 2; i < shape->size(); ++i) added->add_ints((*shape)[i]);
    view.rewritten(node, "cv::dnn needs kernel_shape", "taken from the shape of the weights");
  }
}

std::vector<float> transposed(const std::vector<float>& values, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out(values.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      out[static_cast<std::size_t>(c * rows + r)] = values[static_cast<std::size_t>(r * columns + c)];
    }
  }
  return out;
}

void set_transposed_weights(onnx::NodeProto& node) {
  remove_attribute(node, "transB");
  auto* added = node.add_attribute();
  added->set_name("transB");
  added->set_type(onnx::AttributeProto::INT);
  added->set_i(1);
}

/// Multiplies a constant input of `node` by `factor` in a copy of its own (others may share the original).
bool fold_factor(GraphView& view, onnx::NodeProto& node, int input, float factor) {
  const auto* tensor = view.constant(node.input(input));
  auto values = tensor != nullptr ? float_values(*tensor) : std::vector<float>();
  if (values.empty()) return false;
  for (auto& value : values) value *= factor;
  const std::vector<std::int64_t> shape(tensor->dims().begin(), tensor->dims().end());
  node.set_input(input, view.add_initializer(float_tensor(shape, values), node.input(input) + "_scaled"));
  return true;
}

/// alpha and beta are ignored; they can be multiplied into constant weights and bias.
void fold_gemm_factors(GraphView& view, onnx::NodeProto& node) {
  const float alpha = float_attribute(node, "alpha", 1);
  const float beta = float_attribute(node, "beta", 1);
  const bool has_bias = node.input_size() > 2 && !node.input(2).empty();
  const bool fold_beta = has_bias && beta != 1;
  if (alpha != 1 && !fold_factor(view, node, 1, alpha)) {
    return view.refuse(node, "cv::dnn ignores alpha, and the weights are not constant", "multiply in a Mul node of its own");
  }
  if (fold_beta && !fold_factor(view, node, 2, beta)) {
    return view.refuse(node, "cv::dnn ignores beta, and the bias is not constant", "multiply in a Mul node of its own");
  }
  remove_attribute(node, "alpha");
  remove_attribute(node, "beta");
  if (alpha != 1 || fold_beta) view.rewritten(node, "cv::dnn ignores alpha and beta", "multiplied into weights and bias");
}

/// transB = 0: refused with a bias, wrong with a square weight. transA is ignored.
void mend_gemm(GraphView& view) {
  for (auto& node : *view.graph().mutable_node()) {
    if (node.op_type() != "Gemm" || node.input_size() < 2) continue;
    if (int_attribute(node, "transA", 0) != 0) {
      view.refuse(node, "cv::dnn ignores transA", "transpose the input in a Transpose node");
      continue;
    }
    fold_gemm_factors(view, node);
    if (int_attribute(node, "transB", 0) != 0) continue;
    const auto* weights = view.constant(node.input(1));
    auto values = weights != nullptr ? float_values(*weights) : std::vector<float>();
    if (weights == nullptr || weights->dims_size() != 2 || values.empty()) {
      view.refuse(node, "cv::dnn computes Gemm with transB = 0 wrongly, and the weights are not a constant float matrix",
                  "use MatMul and Add, or constant weights");
      continue;
    }
    const std::int64_t rows = weights->dims(0);
    const std::int64_t columns = weights->dims(1);
    node.set_input(
        1, view.add_initializer(float_tensor({columns, rows}, transposed(values, rows, columns)), node.input(1) + "_transposed"));
    set_transposed_weights(node);
    view.rewritten(node, "cv::dnn computes Gemm with transB = 0 wrongly or not at all", "weights transposed, transB = 1");
  }
}

std::size_t uses_of(GraphView& view, const std::string& value) {
  std::size_t uses = 0;
  for (const auto& node : view.graph().node())
    uses += static_cast<std::size_t>(std::count(node.input().begin(), node.input().end(), value));
  for (const auto& output : view.graph().output()) uses += output.name() == value ? 1U : 0U;
  return uses;
}

/// Weights that the graph reshapes at every run become weights of that shape.
void fold_constant_reshape(GraphView& view) {
  auto* nodes = view.graph().mutable_node();
  for (int i = nodes->size() - 1; i >= 0; --i) {
    const onnx::NodeProto& node = nodes->Get(i);
    if (node.op_type() != "Reshape" || node.input_size() < 2) continue;
    const auto* data = view.constant(node.input(0));
    const auto* target = view.constant(node.input(1));
    const auto dimensions = target != nullptr ? integer_values(*target) : std::vector<std::int64_t>();
    const bool plain = data != nullptr && !dimensions.empty() &&
                       std::all_of(dimensions.begin(), dimensions.end(), [](std::int64_t d) { return d > 0; });
    const auto& outputs = view.graph().output();
    if (!plain || std::any_of(outputs.begin(), outputs.end(), [&](const auto& o) { return o.name() == node.output(0); }))
      continue;
    onnx::TensorProto reshaped = *data;
    reshaped.clear_dims();
    for (const auto dimension : dimensions) reshaped.add_dims(dimension);
    view.replace_uses(node.output(0), view.add_initializer(std::move(reshaped), node.output(0) + "_folded"));
    view.rewritten(node, "weights are reshaped at every run", "stored in that shape");
    nodes->DeleteSubrange(i, 1);
  }
  view.refresh();
}

/// MatMul by weights and Add of one row: cv::dnn fixes the batch of the Add at 1. One Gemm means the same for any batch.
bool fuse_one_bias(GraphView& view, onnx::NodeProto& add) {
  if (add.op_type() != "Add" || add.input_size() != 2) return false;
  const int bias_at = view.constant(add.input(1)) != nullptr ? 1 : 0;
  const auto* bias = view.constant(add.input(bias_at));
  const auto* product = view.producer(add.input(1 - bias_at));
  if (bias == nullptr || product == nullptr || product->op_type() != "MatMul" || product->input_size() != 2) return false;
  const auto* weights = view.constant(product->input(1));
  const auto from = view.shape(product->input(0));
  if (weights == nullptr || weights->dims_size() != 2 || !from || from->size() != 2) return false;
  const std::int64_t rows = weights->dims(0);
  const std::int64_t columns = weights->dims(1);
  const auto matrix = float_values(*weights);
  const auto row = float_values(*bias);
  const bool one_row = bias->dims_size() == 1 || (bias->dims_size() == 2 && bias->dims(0) == 1);
  if (matrix.empty() || !one_row || static_cast<std::int64_t>(row.size()) != columns || uses_of(view, product->output(0)) != 1)
    return false;
  view.rewritten(add, "cv::dnn runs MatMul and this Add for a batch of 1 only", "both are one Gemm now");
  const std::string x = product->input(0);
  const std::string w =
      view.add_initializer(float_tensor({columns, rows}, transposed(matrix, rows, columns)), product->input(1) + "_transposed");
  const std::string b = view.add_initializer(float_tensor({columns}, row), add.input(bias_at) + "_row");
  add.set_op_type("Gemm");
  add.clear_input();
  for (const auto& name : {x, w, b}) add.add_input(name);
  set_transposed_weights(add);
  return true;
}

void fuse_bias(GraphView& view) {
  std::vector<std::string> unused;
  for (auto& node : *view.graph().mutable_node()) {
    const auto inputs = node.input();
    if (!fuse_one_bias(view, node)) continue;
    for (const auto& input : inputs) {
      const auto* producer = view.producer(input);
      if (producer != nullptr && producer->op_type() == "MatMul") unused.push_back(input);
    }
  }
  auto* nodes = view.graph().mutable_node();
  for (int i = nodes->size() - 1; i >= 0; --i) {
    if (std::find(unused.begin(), unused.end(), nodes->Get(i).output(0)) != unused.end()) nodes->DeleteSubrange(i, 1);
  }
  view.refresh();
}

bool is_padded(const onnx::NodeProto& node) {
  const auto pads = ints_attribute(node, "pads");
  const auto auto_pad = string_attribute(node, "auto_pad");
  return std::any_of(pads.begin(), pads.end(), [](std::int64_t p) { return p != 0; }) || auto_pad.rfind("SAME", 0) == 0;
}

/// cv::dnn counts padding in averages when, and only when, the producer is "pytorch", whatever count_include_pad says.
void mend_average_pool(GraphView& view) {
  const onnx::NodeProto* counts = nullptr;
  const onnx::NodeProto* excludes = nullptr;
  for (const auto& node : view.graph().node()) {
    if (node.op_type() != "AveragePool" || !is_padded(node)) continue;
    (int_attribute(node, "count_include_pad", 0) != 0 ? counts : excludes) = &node;
  }
  if (counts != nullptr && excludes != nullptr) {
    return view.refuse(*counts,
                       "it counts its padding (count_include_pad = 1) and '" + excludes->name() +
                           "' does not; cv::dnn treats all padded AveragePools of a model alike",
                       "put the padding of one of them in a Pad node");
  }
  const onnx::NodeProto* node = counts != nullptr ? counts : excludes;
  const bool is_pytorch = view.model().producer_name() == "pytorch";
  if (node == nullptr || is_pytorch == (counts != nullptr)) return;
  if (view.has_operator("Upsample")) {  // its interpolation depends on the same word
    return view.refuse(*node, "cv::dnn takes count_include_pad from the producer's name, on which Upsample depends too",
                       "put the padding in a Pad node");
  }
  view.model().set_producer_name(counts != nullptr ? "pytorch" : "not pytorch");
  view.rewritten(*node, "cv::dnn takes count_include_pad from the producer's name",
                 "producer_name is now \"" + view.model().producer_name() + "\"");
}

/// Operators whose opset 11 to 13 form, as far as a graph uses attributes alone, means the same in opset 10.
bool same_in_opset_10(const std::string& op) {
  static const std::vector<std::string> kSame{"Add",
                                              "AveragePool",
                                              "BatchNormalization",
                                              "Cast",
                                              "Concat",
                                              "Constant",
                                              "Conv",
                                              "ConvTranspose",
                                              "Div",
                                              "Dropout",
                                              "Exp",
                                              "Flatten",
                                              "Gather",
                                              "Gemm",
                                              "Identity",
                                              "LRN",
                                              "LeakyRelu",
                                              "MatMul",
                                              "MaxPool",
                                              "GlobalAveragePool",
                                              "GlobalMaxPool",
                                              "Mul",
                                              "PRelu",
                                              "ReduceMean",
                                              "Relu",
                                              "Reshape",
                                              "Shape",
                                              "Sigmoid",
                                              "Sqrt",
                                              "Sub",
                                              "Sum",
                                              "Tanh",
                                              "Transpose",
                                              "Clip",
                                              "Elu"};
  return std::find(kSame.begin(), kSame.end(), op) != kSame.end();
}

/// A bound of Clip: from input `index` when there is one. False when it is computed or not one number.
bool clip_bound(const GraphView& view, const onnx::NodeProto& node, int index, float& bound) {
  if (node.input_size() <= index || node.input(index).empty()) return true;
  const auto* tensor = view.constant(node.input(index));
  const auto values = tensor != nullptr ? float_values(*tensor) : std::vector<float>();
  if (values.size() != 1) return false;
  bound = values.front();
  return true;
}

/// cv::dnn reads the bounds of Clip from attributes (opset 6) only. The stored file then says opset 10, which has attributes, so
/// every other operator must mean the same there.
void mend_clip(GraphView& view) {
  bool lowered = false;
  for (auto& node : *view.graph().mutable_node()) {
    if (node.op_type() != "Clip" || node.input_size() < 2) continue;
    float low = -3.402823466e+38F;
    float high = 3.402823466e+38F;
    if (!clip_bound(view, node, 1, low) || !clip_bound(view, node, 2, high)) {
      view.refuse(node, "its bounds are not constant float32 numbers", "export the model with constant bounds");
      continue;
    }
    const auto& nodes = view.graph().node();
    const auto other = std::find_if(nodes.begin(), nodes.end(), [](const auto& n) { return !same_in_opset_10(n.op_type()); });
    if (view.opset() > 13 || other != nodes.end()) {
      view.refuse(node,
                  "cv::dnn takes the bounds of Clip only as attributes, which opset " + std::to_string(view.opset()) + " has not",
                  "export the model with opset 10 or lower");
      continue;
    }
    node.mutable_input()->DeleteSubrange(1, node.input_size() - 1);
    for (const auto& [name, value] : {std::pair<const char*, float>{"min", low}, {"max", high}}) {
      auto* added = node.add_attribute();
      added->set_name(name);
      added->set_type(onnx::AttributeProto::FLOAT);
      added->set_f(value);
    }
    lowered = true;
    view.rewritten(node, "cv::dnn takes the bounds of Clip only as attributes", "bounds made attributes, opset 10");
  }
  if (!lowered) return;
  for (auto& import : *view.model().mutable_opset_import()) {
    if (import.domain().empty()) import.set_version(10);
  }
}

/// A graph whose batch is fixed at 1, but which only carries the batch along, serves any batch: the input gets a free dimension
/// and Reshapes to {1, ...} copy the batch (0). Exact for a batch of 1 by the meaning of 0 in Reshape.
void free_batch(GraphView& view) {
  for (auto& node : *view.graph().mutable_node()) {
    if (node.op_type() != "Reshape" || node.input_size() < 2 || view.constant(node.input(0)) != nullptr) continue;
    const auto* target = view.constant(node.input(1));
    const auto from = view.shape(node.input(0));
    if (target == nullptr || !from || from->empty() || from->front() != 1) continue;
    auto dimensions = integer_values(*target);
    if (dimensions.size() < 2 || dimensions.front() != 1 || int_attribute(node, "allowzero", 0) != 0) continue;
    const bool fixed = std::all_of(dimensions.begin() + 1, dimensions.end(), [](std::int64_t d) { return d > 0; });
    if (!fixed) continue;
    dimensions.front() = 0;
    node.set_input(1, view.add_initializer(integer_tensor(dimensions), node.input(1) + "_any_batch"));
    view.rewritten(node, kBatchFixed, "the batch is copied from its input");
  }
}

}  // namespace

void apply_rules(GraphView& view) {
  bypass_identity(view);
  fold_constant_reshape(view);
  fill_kernel_shape(view);
  mend_gemm(view);
  fuse_bias(view);
  mend_average_pool(view);
  mend_clip(view);
  free_batch(view);
}

}  // namespace idunno::models

// What no rewriting helps: forms that cv::dnn 4.6 computes wrongly, and operators it has no layer for.
#include <algorithm>
#include <set>

#include "cli/models/graph_view.h"

namespace idunno::models {
namespace {

/// The operators of the ONNX importer of OpenCV 4.6.
bool has_layer(const std::string& op) {
  static const std::set<std::string> kLayers{"Abs",
                                             "Acos",
                                             "Acosh",
                                             "Add",
                                             "ArgMax",
                                             "ArgMin",
                                             "Asin",
                                             "Asinh",
                                             "Atan",
                                             "Atanh",
                                             "AveragePool",
                                             "BatchNormalization",
                                             "Cast",
                                             "Ceil",
                                             "Celu",
                                             "Clip",
                                             "Concat",
                                             "Constant",
                                             "ConstantFill",
                                             "ConstantOfShape",
                                             "Conv",
                                             "ConvTranspose",
                                             "Cos",
                                             "Cosh",
                                             "CumSum",
                                             "DepthToSpace",
                                             "DequantizeLinear",
                                             "DetectionOutput",
                                             "Div",
                                             "Dropout",
                                             "Elu",
                                             "Equal",
                                             "Erf",
                                             "Exp",
                                             "Expand",
                                             "Flatten",
                                             "Floor",
                                             "GRU",
                                             "Gather",
                                             "Gemm",
                                             "GlobalAveragePool",
                                             "GlobalMaxPool",
                                             "Greater",
                                             "HardSigmoid",
                                             "HardSwish",
                                             "Identity",
                                             "ImageScaler",
                                             "InstanceNormalization",
                                             "LRN",
                                             "LSTM",
                                             "LeakyRelu",
                                             "Less",
                                             "Log",
                                             "LogSoftmax",
                                             "MatMul",
                                             "Max",
                                             "MaxPool",
                                             "MaxUnpool",
                                             "Min",
                                             "Mish",
                                             "Mul",
                                             "Neg",
                                             "Not",
                                             "PRelu",
                                             "Pad",
                                             "Pow",
                                             "QLinearAdd",
                                             "QLinearAveragePool",
                                             "QLinearConcat",
                                             "QLinearConv",
                                             "QLinearGlobalAveragePool",
                                             "QLinearLeakyRelu",
                                             "QLinearMatMul",
                                             "QLinearMul",
                                             "QLinearSigmoid",
                                             "QuantizeLinear",
                                             "Reciprocal",
                                             "ReduceL1",
                                             "ReduceL2",
                                             "ReduceLogSum",
                                             "ReduceLogSumExp",
                                             "ReduceMax",
                                             "ReduceMean",
                                             "ReduceMin",
                                             "ReduceProd",
                                             "ReduceSum",
                                             "ReduceSumSquare",
                                             "Relu",
                                             "Reshape",
                                             "Resize",
                                             "Round",
                                             "Selu",
                                             "Shape",
                                             "Shrink",
                                             "Sigmoid",
                                             "Sign",
                                             "Sin",
                                             "Sinh",
                                             "Slice",
                                             "Softmax",
                                             "Softplus",
                                             "Softsign",
                                             "SpaceToDepth",
                                             "Split",
                                             "Sqrt",
                                             "Squeeze",
                                             "Sub",
                                             "Sum",
                                             "Tan",
                                             "Tanh",
                                             "ThresholdedRelu",
                                             "Transpose",
                                             "Unsqueeze",
                                             "Upsample"};
  return kLayers.count(op) > 0;
}

void refuse_unknown_operators(GraphView& view, std::vector<std::string>& unsupported) {
  std::set<std::string> seen;
  for (const auto& node : view.graph().node()) {
    const bool standard = node.domain().empty() || node.domain() == "ai.onnx" || node.domain() == "com.microsoft";
    if (standard && has_layer(node.op_type())) continue;
    const std::string op = node.domain().empty() ? node.op_type() : node.domain() + "." + node.op_type();
    if (!seen.insert(op).second) continue;
    unsupported.push_back(op);
    view.refuse(node, "operator " + op + " cannot be loaded by cv::dnn 4.6", "export the model without it");
  }
}

void refuse_recurrent_forms(GraphView& view) {
  for (const auto& node : view.graph().node()) {
    const bool lstm = node.op_type() == "LSTM";
    if (!lstm && node.op_type() != "GRU") continue;
    for (int i = 5; i < node.input_size() && i < 7; ++i) {
      if (node.input(i).empty()) continue;
      view.refuse(node, "cv::dnn cannot load a recurrent layer with an initial state", "export the model with a zero state");
      break;
    }
    const std::string direction = string_attribute(node, "direction");
    if (view.opset() >= 13 && direction != "bidirectional") {
      view.refuse(node, "cv::dnn cannot load a one-directional recurrent layer of opset 13 or later", "export with opset 11");
    }
    const auto shape = node.input_size() > 0 ? view.shape(node.input(0)) : std::nullopt;
    if (shape && !shape->empty() && shape->front() < 0) {
      view.refuse(node, "the length of its sequences is not fixed", "export the model for one sequence length");
    }
  }
}

/// A table look-up by computed indices (embedding). Gather from shapes is folded away by the importer and works.
void refuse_embeddings(GraphView& view) {
  for (const auto& node : view.graph().node()) {
    if (node.op_type() != "Gather" || node.input_size() < 2) continue;
    const auto* table = view.constant(node.input(0));
    if (table == nullptr || table->dims_size() < 2 || view.constant(node.input(1)) != nullptr) continue;
    view.refuse(node, "cv::dnn cannot look up rows of a table (Gather, Embedding) by computed numbers",
                "feed the rows, or one-hot vectors and a MatMul");
  }
}

/// MatMul, a scale, an optional mask, Softmax: wrong as soon as layers are fused.
void refuse_scaled_attention(GraphView& view) {
  for (const auto& softmax : view.graph().node()) {
    if (softmax.op_type() != "Softmax" || softmax.input_size() < 1) continue;
    const onnx::NodeProto* before = view.producer(softmax.input(0));
    if (before != nullptr && before->op_type() == "Add") {
      const onnx::NodeProto* scores = nullptr;
      for (const auto& input : before->input()) {
        const auto* candidate = view.producer(input);
        const bool matches = candidate != nullptr &&
                             (candidate->op_type() == "Mul" || candidate->op_type() == "Div" || candidate->op_type() == "MatMul");
        if (matches) scores = candidate;
      }
      before = scores;
    }
    if (before == nullptr || (before->op_type() != "Mul" && before->op_type() != "Div")) continue;
    const onnx::NodeProto* product = view.producer(before->input(0));
    if (product == nullptr || product->op_type() != "MatMul" || view.constant(product->input(1)) != nullptr) continue;
    view.refuse(*before, "cv::dnn computes scaled attention (MatMul, scale, Softmax) wrongly",
                "scale the input of the MatMul instead");
  }
}

void refuse_external_weights(GraphView& view) {
  for (const auto& tensor : view.graph().initializer()) {
    if (tensor.data_location() != onnx::TensorProto::EXTERNAL) continue;
    onnx::NodeProto place;
    place.set_name(tensor.name());
    place.set_op_type("initializer");
    return view.refuse(place, "its numbers are in another file", "save the model as a single file");
  }
}

}  // namespace

void apply_refusals(GraphView& view, std::vector<std::string>& unsupported) {
  refuse_external_weights(view);
  refuse_unknown_operators(view, unsupported);
  refuse_recurrent_forms(view);
  refuse_embeddings(view);
  refuse_scaled_attention(view);
}

}  // namespace idunno::models

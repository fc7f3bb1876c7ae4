#include "cli/models/graph_check.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <limits>
#include <map>

#include "cli/models/graph_view.h"
#include "cli/models/onnx_builder.h"

namespace idunno::models {
namespace {

std::string type_name(std::int32_t type) {
  switch (type) {
    case onnx::TensorProto::FLOAT:
      return "float32";
    case onnx::TensorProto::FLOAT16:
      return "float16";
    case onnx::TensorProto::DOUBLE:
      return "float64";
    case onnx::TensorProto::INT64:
      return "int64";
    case onnx::TensorProto::INT32:
      return "int32";
    case onnx::TensorProto::INT8:
      return "int8";
    case onnx::TensorProto::UINT8:
      return "uint8";
    case onnx::TensorProto::BOOL:
      return "bool";
    case onnx::TensorProto::STRING:
      return "string";
    default:
      return "other";
  }
}

GraphPort port_of(const onnx::ValueInfoProto& value) {
  GraphPort port{value.name(), type_name(value.type().tensor_type().elem_type()), {}};
  for (const auto& dimension : value.type().tensor_type().shape().dim()) {
    if (dimension.has_dim_value()) {
      port.shape.push_back(std::to_string(dimension.dim_value()));
    } else {
      port.shape.push_back(dimension.dim_param().empty() ? "?" : dimension.dim_param());
    }
  }
  return port;
}

std::uint64_t element_count(const onnx::TensorProto& tensor) {
  std::uint64_t count = 1;
  for (const auto dimension : tensor.dims()) count *= dimension > 0 ? static_cast<std::uint64_t>(dimension) : 0;
  return count;
}

void count_weights(const onnx::ModelProto& model, GraphReport& report) {
  const auto count = [&](const onnx::TensorProto& tensor) {
    const bool wide = tensor.data_type() == onnx::TensorProto::DOUBLE;
    const bool half = tensor.data_type() == onnx::TensorProto::FLOAT16;
    if (!wide && !half && tensor.data_type() != onnx::TensorProto::FLOAT) return;
    report.parameters += element_count(tensor);
    report.weight_bytes += element_count(tensor) * (wide ? 8 : half ? 2 : 4);
  };
  for (const auto& tensor : model.graph().initializer()) count(tensor);
  // Running statistics are not trained: published numbers of parameters leave them out.
  std::map<std::string, std::uint64_t> statistics;
  for (const auto& node : model.graph().node()) {
    if (node.op_type() == "Constant" && node.attribute_size() == 1 && node.attribute(0).has_t()) count(node.attribute(0).t());
    if (node.op_type() != "BatchNormalization") continue;
    for (int i = 3; i < node.input_size() && i < 5; ++i) statistics[node.input(i)] = 0;
  }
  for (const auto& tensor : model.graph().initializer()) {
    const auto found = statistics.find(tensor.name());
    if (found != statistics.end()) report.parameters -= element_count(tensor);
  }
}

void describe(const onnx::ModelProto& model, const GraphView& view, GraphReport& report) {
  report.ir_version = model.ir_version();
  report.opset = view.opset();
  report.producer = model.producer_name();
  for (const auto& input : model.graph().input()) {
    if (view.constant(input.name()) == nullptr) report.inputs.push_back(port_of(input));
  }
  for (const auto& output : model.graph().output()) report.outputs.push_back(port_of(output));
  std::map<std::string, std::uint32_t> counts;
  for (const auto& node : model.graph().node()) ++counts[node.op_type()];
  report.operators.assign(counts.begin(), counts.end());
  std::stable_sort(report.operators.begin(), report.operators.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  count_weights(model, report);
}

/// The batch of a mended graph is free: its declaration has to say so, and values inside must not say otherwise.
void declare_free_batch(onnx::ModelProto& model, const GraphReport& report) {
  const bool any = std::any_of(report.findings.begin(), report.findings.end(), [](const GraphFinding& finding) {
    return finding.kind == FindingKind::rewritten && finding.problem == kBatchFixed;
  });
  if (!any) return;
  auto* graph = model.mutable_graph();
  const auto free = [](onnx::ValueInfoProto& value) {
    auto* shape = value.mutable_type()->mutable_tensor_type()->mutable_shape();
    if (shape->dim_size() > 1 && shape->dim(0).dim_value() == 1) shape->mutable_dim(0)->set_dim_param("N");
  };
  for (auto& input : *graph->mutable_input()) {
    const bool is_port =
        std::any_of(report.inputs.begin(), report.inputs.end(), [&](const GraphPort& p) { return p.name == input.name(); });
    if (is_port) free(input);
  }
  for (auto& output : *graph->mutable_output()) free(output);
  graph->clear_value_info();
}

bool parse(ByteView bytes, onnx::ModelProto& model) {
  if (bytes.empty() || bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return false;
  google::protobuf::io::ArrayInputStream array(bytes.data(), static_cast<int>(bytes.size()));
  google::protobuf::io::CodedInputStream input(&array);
  // Damaged protobuf often parses into nothing: what makes a model is asked for as well.
  return model.ParseFromCodedStream(&input) && input.ConsumedEntireMessage() && model.ir_version() > 0 && model.has_graph() &&
         model.graph().node_size() > 0;
}

}  // namespace

std::string to_string(FindingKind kind) {
  switch (kind) {
    case FindingKind::rewritten:
      return "rewritten";
    case FindingKind::warning:
      return "warning";
    default:
      return "refused";
  }
}

std::string to_string(const GraphFinding& finding) {
  return finding.op + " '" + finding.node + "': " + finding.problem + "; " + finding.advice;
}

std::string to_string(const GraphPort& port) {
  std::string text = port.name + " " + port.type + " ";
  for (std::size_t i = 0; i < port.shape.size(); ++i) text += (i > 0 ? "x" : "") + port.shape[i];
  return text;
}

bool GraphReport::usable() const {
  return std::none_of(findings.begin(), findings.end(), [](const auto& f) { return f.kind == FindingKind::refused; });
}

bool GraphReport::rewritten() const {
  return std::any_of(findings.begin(), findings.end(), [](const auto& f) { return f.kind == FindingKind::rewritten; });
}

Result<CheckedGraph> check_graph(ByteView bytes, const std::string& source_name) {
  onnx::ModelProto model;
  if (!parse(bytes, model)) return Error{Errc::invalid, source_name + " is not an ONNX model file"};
  CheckedGraph checked;
  GraphView view(model, checked.report);
  describe(model, view, checked.report);
  apply_refusals(view, checked.report.unsupported);
  if (!checked.report.usable()) return checked;
  if (Status valid = validate_onnx(model); !valid) return annotate(valid.error(), source_name);
  apply_rules(view);
  if (!checked.report.usable() || !checked.report.rewritten()) return checked;
  declare_free_batch(model, checked.report);
  if (Status valid = validate_onnx(model); !valid) {
    return Error{Errc::internal, source_name + ": the rewritten graph is not valid, please report this: " + valid.error().detail};
  }
  auto rewritten = serialize_onnx(model);
  if (!rewritten) return annotate(rewritten.error(), source_name);
  checked.onnx = std::move(*rewritten);
  return checked;
}

}  // namespace idunno::models

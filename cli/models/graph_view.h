#pragma once
/// A mutable ONNX graph with look-ups by name, for the rules of graph_rules.cc. Includes libonnx.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/models/graph_check.h"

namespace idunno::models {

class GraphView {
 public:
  /// Refers to `model` and adds findings to `report`; both must outlive it.
  GraphView(onnx::ModelProto& model, GraphReport& report);

  [[nodiscard]] onnx::ModelProto& model() { return model_; }
  [[nodiscard]] onnx::GraphProto& graph() { return *model_.mutable_graph(); }
  [[nodiscard]] std::int64_t opset() const;

  /// The constant behind a value: an initializer or the tensor of a Constant node; null when it is computed.
  [[nodiscard]] const onnx::TensorProto* constant(const std::string& value) const;
  /// The node that computes a value; null for inputs and initializers.
  [[nodiscard]] const onnx::NodeProto* producer(const std::string& value) const;
  [[nodiscard]] bool has_operator(const std::string& op) const;
  /// Inferred or declared shape; -1 for a free dimension; nothing when unknown.
  [[nodiscard]] std::optional<std::vector<std::int64_t>> shape(const std::string& value) const;

  /// Adds an initializer with an unused name made from `stem`; returns the name.
  std::string add_initializer(onnx::TensorProto tensor, const std::string& stem);
  /// Replaces every use of a value by another one.
  void replace_uses(const std::string& value, const std::string& by);
  /// To be called after nodes were added or removed.
  void refresh();

  void rewritten(const onnx::NodeProto& node, const std::string& problem, const std::string& done);
  void warn(const onnx::NodeProto& node, const std::string& problem, const std::string& advice);
  void refuse(const onnx::NodeProto& node, const std::string& problem, const std::string& advice);

 private:
  void find(FindingKind kind, const onnx::NodeProto& node, const std::string& problem, const std::string& advice);

  onnx::ModelProto& model_;
  GraphReport& report_;
  std::map<std::string, const onnx::TensorProto*> constants_;
  std::map<std::string, const onnx::NodeProto*> producers_;
  std::map<std::string, std::vector<std::int64_t>> shapes_;
  std::set<std::string> names_;
};

[[nodiscard]] const onnx::AttributeProto* attribute(const onnx::NodeProto& node, const std::string& name);
[[nodiscard]] std::int64_t int_attribute(const onnx::NodeProto& node, const std::string& name, std::int64_t otherwise);
[[nodiscard]] float float_attribute(const onnx::NodeProto& node, const std::string& name, float otherwise);
[[nodiscard]] std::vector<std::int64_t> ints_attribute(const onnx::NodeProto& node, const std::string& name);
[[nodiscard]] std::string string_attribute(const onnx::NodeProto& node, const std::string& name);
void remove_attribute(onnx::NodeProto& node, const std::string& name);

[[nodiscard]] std::vector<float> float_values(const onnx::TensorProto& tensor);           ///< empty unless float32
[[nodiscard]] std::vector<std::int64_t> integer_values(const onnx::TensorProto& tensor);  ///< empty unless int64 or int32
[[nodiscard]] onnx::TensorProto float_tensor(const std::vector<std::int64_t>& shape, const std::vector<float>& values);
[[nodiscard]] onnx::TensorProto integer_tensor(const std::vector<std::int64_t>& values);

/// The problem that free_batch mends; the declarations of the graph follow it.
inline constexpr const char* kBatchFixed = "its target shape fixes the batch at 1";

/// The rules, in the order they have to run (graph_rules.cc). A rule adds findings and may rewrite.
void apply_rules(GraphView& view);
/// What refuses a graph whatever its weights: operators without a layer, recurrent networks in unsupported forms, ...
/// (graph_refusals.cc)
void apply_refusals(GraphView& view, std::vector<std::string>& unsupported);

}  // namespace idunno::models

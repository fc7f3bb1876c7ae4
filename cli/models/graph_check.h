#pragma once
/// Looks through an ONNX file before it is ever run. cv::dnn 4.6, which the executors use, computes some graphs wrongly without a
/// word and refuses others with a message about its own source code. Each rule here knows one such case: it rewrites the graph
/// when the rewritten one means exactly the same, and otherwise refuses it by the name of the node, with what to do.
///
/// The rules come from comparing small graphs between cv::dnn 4.6 and other runtimes; graph_rules.cc lists them. Loading in an
/// executor (cli/model_store.h) remains the last word on what can be run.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"

namespace idunno::models {

enum class FindingKind : std::uint8_t {
  rewritten,  ///< mended in the stored copy
  warning,    ///< works, with a limit people should know
  refused,    ///< would be computed wrongly or not at all
};

struct GraphFinding {
  FindingKind kind = FindingKind::warning;
  std::string node;  ///< name of the node, or of its first output when it has none
  std::string op;
  std::string problem;
  std::string advice;  ///< what was done, or what the user can do
};
[[nodiscard]] std::string to_string(FindingKind kind);
[[nodiscard]] std::string to_string(const GraphFinding& finding);  ///< one line

struct GraphPort {
  std::string name;
  std::string type;                ///< "float32"
  std::vector<std::string> shape;  ///< numbers, or the symbol of a free dimension; "?" when unknown
};
[[nodiscard]] std::string to_string(const GraphPort& port);  ///< "input float32 Nx3x224x224"

struct GraphReport {
  std::int64_t ir_version = 0;
  std::int64_t opset = 0;
  std::string producer;
  std::vector<GraphPort> inputs;  ///< without initializers
  std::vector<GraphPort> outputs;
  std::vector<std::pair<std::string, std::uint32_t>> operators;  ///< with counts, most frequent first
  std::vector<std::string> unsupported;                          ///< operators that cv::dnn 4.6 has no layer for
  std::uint64_t parameters = 0;                                  ///< elements of float tensors stored in the graph
  std::uint64_t weight_bytes = 0;
  std::vector<GraphFinding> findings;

  [[nodiscard]] bool usable() const;  ///< no finding is a refusal
  [[nodiscard]] bool rewritten() const;
};

struct CheckedGraph {
  GraphReport report;
  Bytes onnx;  ///< the file to store: the rewritten graph; empty when nothing was rewritten
};

/// invalid when the bytes are not an ONNX model or the graph breaks the ONNX rules; otherwise a report, which may refuse.
/// `source_name` appears in errors.
[[nodiscard]] Result<CheckedGraph> check_graph(ByteView bytes, const std::string& source_name);

}  // namespace idunno::models

#include "nodes/worker/model_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <set>

#include "nodes/worker/dnn_engine.h"
#include "nodes/worker/image_input.h"
#include "nodes/worker/local_runs.h"
#include "nodes/worker/onnx_summary.h"
#include "nodes/worker/result_rows.h"

namespace idunno {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr int kTimedRunsMax = 5;
constexpr auto kTimedFor = std::chrono::seconds(2);
constexpr std::size_t kUnsupportedMax = 32;

double ms_since(Clock::time_point begin) { return std::chrono::duration<double, std::milli>(Clock::now() - begin).count(); }
double rounded(double value) { return std::round(value * 1000) / 1000; }
double mebibytes(std::uint64_t bytes) { return std::round(static_cast<double>(bytes) / 1048576.0 * 10) / 10; }

Json tensors(const std::vector<OnnxTensor>& list) {
  Json out = Json::array();
  for (const OnnxTensor& tensor : list) out.push_back({{"name", tensor.name}, {"shape", tensor.shape}});
  return out;
}

/// The operators this OpenCV has no layer for. The importer stops at the first; with its diagnostics on it goes on with empty
/// layers in their place, which is of use for this list only.
Json unsupported_operators(const OnnxSummary& graph, const std::string& onnx_file) {
  std::set<std::string> known;
  std::map<std::string, std::string> missing;  // operator, node
  try {
    cv::dnn::enableModelDiagnostics(true);
    const cv::dnn::Net net = cv::dnn::readNetFromONNX(onnx_file);
    cv::dnn::enableModelDiagnostics(false);
    for (const std::string& layer : net.getLayerNames()) {
      const auto instance = net.getLayer(net.getLayerId(layer));
      if (instance->type != "NotImplemented") continue;
      for (const OnnxNode& node : graph.nodes) {
        const bool same = layer == node.name || layer == "onnx_node!" + node.name ||
                          std::any_of(node.outputs.begin(), node.outputs.end(), [&](const std::string& output) {
                            return layer == output || layer == "onnx_node_output_0!" + output;
                          });
        if (same) missing.emplace(node.op_type, node.name.empty() ? node.outputs.front() : node.name);
      }
    }
  } catch (const std::exception&) {
    cv::dnn::enableModelDiagnostics(false);  // the message of a plain load says more
  }
  Json out = Json::array();
  for (const auto& [op_type, node] : missing) {
    if (out.size() < kUnsupportedMax) out.push_back({{"operator", op_type}, {"node", node}});
  }
  return out;
}

/// `Node [Foo@ai.onnx]:(bar)` in an importer's message.
void add_from_message(const std::string& message, Json& unsupported) {
  static const std::regex kNode(R"(Node \[([A-Za-z0-9_]+)@[^\]]*\]:\(([^)]*)\))");
  std::smatch match;
  if (!unsupported.empty() || !std::regex_search(message, match, kNode)) return;
  unsupported.push_back({{"operator", match[1].str()}, {"node", match[2].str()}});
}

Json layers_by_type(const std::string& onnx_file) {
  std::map<std::string, int> counts;
  const cv::dnn::Net net = cv::dnn::readNetFromONNX(onnx_file);
  for (const std::string& name : net.getLayerNames()) ++counts[net.getLayer(net.getLayerId(name))->type];
  return Json(counts);
}

/// One line for each thing in the spec that does not fit the graph.
void compare_with_graph(const ModelSpec& spec, const OnnxSummary& graph, std::vector<std::string>& problems) {
  if (graph.inputs.size() > 1 && spec.input.name.empty()) {
    problems.push_back(
        fmt::format("the graph has {} inputs ({}): name one in [input]", graph.inputs.size(), join_names(graph.inputs)));
  }
  const OnnxTensor* input = graph.inputs.empty() ? nullptr : &graph.inputs.front();
  if (!spec.input.name.empty()) {
    const auto found =
        std::find_if(graph.inputs.begin(), graph.inputs.end(), [&](const auto& one) { return one.name == spec.input.name; });
    if (found == graph.inputs.end()) {
      problems.push_back(fmt::format("the graph has no input \"{}\"; its inputs: {}", spec.input.name, join_names(graph.inputs)));
      return;
    }
    input = &*found;
  }
  if (input == nullptr) return problems.emplace_back("the graph has no input"), void();
  const std::vector<int> blob = blob_shape(spec.input, 1);
  bool same = input->shape.size() == blob.size();
  for (std::size_t i = 1; same && i < blob.size(); ++i) {
    const std::string& have = input->shape[i];
    const bool fixed =
        !have.empty() && std::all_of(have.begin(), have.end(), [](char c) { return c >= '0' && c <= '9'; }) && have != "0";
    same = !fixed || have == std::to_string(blob[i]);
  }
  if (!same && !input->shape.empty()) {
    problems.push_back(fmt::format("the graph's input \"{}\" has shape [{}], the spec makes [batch, {}]", input->name,
                                   fmt::join(input->shape, ", "), fmt::join(blob.begin() + 1, blob.end(), ", ")));
  }
}

/// Milliseconds of a batch of zeros: the first with its set-up, and the median of those after.
std::optional<Json> time_batch(DnnEngine& engine, std::uint32_t batch, std::vector<std::string>& problems) {
  auto begin = Clock::now();
  engine.begin_batch(batch);
  for (std::uint32_t item = 0; item < batch; ++item) engine.clear_item(item);
  if (const auto output = engine.forward(); !output) {
    problems.push_back(fmt::format("batch of {}: {}", batch, output.error().detail));
    return std::nullopt;
  } else if (!all_finite(output->ptr<float>(), output->total())) {
    problems.push_back(fmt::format("batch of {}: the output for an input of zeros is not finite", batch));
  }
  const double first = ms_since(begin);
  std::vector<double> runs;
  const auto until = Clock::now() + kTimedFor;
  while (runs.empty() || (static_cast<int>(runs.size()) < kTimedRunsMax && Clock::now() < until)) {
    begin = Clock::now();
    if (!engine.forward()) break;
    runs.push_back(ms_since(begin));
  }
  std::sort(runs.begin(), runs.end());
  return Json{{"batch", batch}, {"first_ms", rounded(first)}, {"ms", rounded(runs.empty() ? first : runs[runs.size() / 2])}};
}

void check_graph(const CheckOptions& options, const ModelSpec* spec, Json& report, std::vector<std::string>& problems) {
  const auto graph = read_onnx_summary(options.onnx_file);
  if (!graph) return problems.push_back(graph.error().detail);
  report["file_bytes"] = graph->file_bytes;
  report["parameters"] = graph->parameters;
  report["inputs"] = tensors(graph->inputs);
  report["outputs"] = tensors(graph->outputs);
  std::map<std::string, int> operators;
  for (const OnnxNode& node : graph->nodes) ++operators[node.op_type];
  report["operators"] = operators;
  if (spec == nullptr) return;
  compare_with_graph(*spec, *graph, problems);

  const auto begin = Clock::now();
  auto engine = DnnEngine::load(*spec, options.onnx_file, options.labels_file);
  if (!engine) {
    report["unsupported"] = unsupported_operators(*graph, options.onnx_file);
    add_from_message(engine.error().detail, report["unsupported"]);
    for (const Json& missing : report["unsupported"]) {
      problems.push_back(fmt::format("OpenCV cannot load operator {} (node {})", missing["operator"].get<std::string>(),
                                     missing["node"].get<std::string>()));
    }
    return problems.push_back(engine.error().detail);
  }
  report["load_ms"] = rounded(ms_since(begin));
  if (!problems.empty()) return;  // a graph that does not fit its spec is not worth running
  for (const std::uint32_t batch : options.batches) {
    if (auto timing = time_batch(**engine, batch, problems)) report["timings"].push_back(*timing);
  }
  report["memory_mb"] = {{"peak", mebibytes(process_memory("VmHWM"))}, {"after", mebibytes(process_memory("VmRSS"))}};
  report["layers"] = layers_by_type(options.onnx_file);
}

}  // namespace

int check_model(const CheckOptions& options) {
  Json report{{"schema", "idunno.model_check.v1"},
              {"ok", false},
              {"onnx", options.onnx_file},
              {"file_bytes", 0},
              {"parameters", 0},
              {"inputs", Json::array()},
              {"outputs", Json::array()},
              {"operators", Json::object()},
              {"layers", Json::object()},
              {"unsupported", Json::array()},
              {"load_ms", nullptr},
              {"memory_mb", {{"peak", nullptr}, {"after", nullptr}}},
              {"timings", Json::array()},
              {"problems", Json::array()}};
  std::vector<std::string> problems;
  const auto spec = read_spec_file(options.spec_file);
  if (!spec) problems.push_back(spec.error().detail);
  CheckOptions used = options;
  if (spec && used.labels_file.empty()) used.labels_file = labels_beside(*spec, options.spec_file);
  try {
    if (spec && spec->nothing) {
      problems.emplace_back("this spec is of the engine that does nothing; there is no model to check");
    } else {
      check_graph(used, spec ? &*spec : nullptr, report, problems);
    }
  } catch (const std::exception& error) {
    problems.push_back(fmt::format("checking {}: {}", options.onnx_file, error.what()));
  }
  report["ok"] = problems.empty();
  report["problems"] = problems;
  fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
  return problems.empty() ? 0 : 1;
}

}  // namespace idunno

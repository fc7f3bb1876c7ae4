#include "nodes/worker/dnn_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <opencv2/core/ocl.hpp>
#include <opencv2/core/utils/logger.hpp>

#include "nodes/worker/image_input.h"
#include "nodes/worker/onnx_summary.h"
#include "nodes/worker/result_rows.h"

namespace idunno {
namespace {

constexpr std::size_t kLabelsBytesMax = 16U << 20U;
constexpr std::uint64_t kBlobBytesMax = 2ULL << 30U;

std::uint64_t us_since(std::chrono::steady_clock::time_point begin) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count());
}

/// cv::dnn names a layer after its ONNX node, with a prefix; the network's outputs are asked for by the name in the file.
Result<std::string> find_output_layer(const cv::dnn::Net& net, const OnnxSummary& graph, const std::string& wanted) {
  if (graph.outputs.empty()) return Error{Errc::invalid, "the graph has no output"};
  const std::string& name = wanted.empty() ? graph.outputs.front().name : wanted;
  const auto known =
      std::find_if(graph.outputs.begin(), graph.outputs.end(), [&](const OnnxTensor& output) { return output.name == name; });
  if (known == graph.outputs.end()) {
    return Error{Errc::invalid, fmt::format("the graph has no output \"{}\"; its outputs: {}", name, join_names(graph.outputs))};
  }
  const std::string producer = graph.producer_of(name);
  for (const std::string& layer : {name, "onnx_node_output_0!" + name, producer, "onnx_node!" + producer}) {
    if (!layer.empty() && net.getLayerId(layer) >= 0) return layer;
  }
  if (graph.outputs.size() == 1) return std::string();  // the last layer computes it
  return Error{Errc::invalid, fmt::format("OpenCV does not give output \"{}\" of this graph", name)};
}

}  // namespace

std::string one_line(const cv::Exception& error) {
  std::string text = error.err.empty() ? std::string(error.what()) : error.err;
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

void set_up_opencv() {
  cv::setNumThreads(1);
  cv::ocl::setUseOpenCL(false);
  cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);  // what matters comes back as an exception
}

Result<std::vector<std::string>> read_labels(const std::string& file) {
  std::ifstream in(file);
  if (!in) return Error{Errc::not_found, fmt::format("cannot read the labels from {}", file)};
  std::vector<std::string> labels;
  std::size_t bytes = 0;
  for (std::string line; std::getline(in, line);) {
    bytes += line.size() + 1;
    if (bytes > kLabelsBytesMax)
      return Error{Errc::too_large, fmt::format("the labels in {} are over {} bytes", file, kLabelsBytesMax)};
    if (!line.empty() && line.back() == '\r') line.pop_back();
    labels.push_back(line);
  }
  while (!labels.empty() && labels.back().empty()) labels.pop_back();
  return labels;
}

std::uint64_t process_memory(const char* field) {
  std::ifstream status("/proc/self/status");
  const std::string wanted = std::string(field) + ":";
  for (std::string word; status >> word;) {
    std::uint64_t kib = 0;
    if (word == wanted && status >> kib) return kib * 1024;
  }
  return 0;
}

Result<std::unique_ptr<Engine>> load_dnn_engine(const ModelSpec& spec, const std::string& onnx_file,
                                                const std::string& labels_file) {
  auto engine = DnnEngine::load(spec, onnx_file, labels_file);
  if (!engine) return engine.error();
  return std::unique_ptr<Engine>(std::move(engine).value());
}

Result<std::unique_ptr<DnnEngine>> DnnEngine::load(const ModelSpec& spec, const std::string& onnx_file,
                                                   const std::string& labels_file) {
  std::vector<std::string> labels;
  if (!labels_file.empty()) {
    auto read = read_labels(labels_file);
    if (!read) return read.error();
    labels = std::move(read).value();
  }
  const std::uint64_t before = process_memory("VmRSS");
  try {
    const auto graph = read_onnx_summary(onnx_file);
    if (!graph) return graph.error();
    cv::dnn::Net net = cv::dnn::readNetFromONNX(onnx_file);
    if (net.empty()) return Error{Errc::invalid, "OpenCV finds no layers in the file"};
    net.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
    net.setPreferableTarget(cv::dnn::DNN_TARGET_CPU);
    auto layer = find_output_layer(net, *graph, spec.output.name);
    if (!layer) return layer.error();
    std::unique_ptr<DnnEngine> engine(new DnnEngine(spec, std::move(net)));
    engine->output_layer_ = std::move(layer).value();
    engine->labels_ = std::move(labels);
    const std::uint64_t after = process_memory("VmRSS");
    engine->memory_bytes_ = std::max(2 * graph->file_bytes, after > before ? after - before : 0);
    return engine;
  } catch (const cv::Exception& error) {
    return Error{Errc::invalid, "OpenCV cannot load it: " + one_line(error)};
  } catch (const std::bad_alloc&) {
    return Error{Errc::full, "it does not fit into the executor's memory"};
  } catch (const std::exception& error) {
    return Error{Errc::invalid, fmt::format("OpenCV cannot load it: {}", error.what())};
  }
}

void DnnEngine::begin_batch(std::uint32_t batch_size) {
  if (batch_size == batch_size_) return;
  blob_.create(blob_shape(spec_.input, batch_size), CV_32F);
  batch_size_ = batch_size;
}

Status DnnEngine::decode(const ExecuteBatch& batch, std::size_t item, ByteView bytes) {
  float* const target = blob_.ptr<float>() + item * item_elements(spec_.input);
  switch (batch.item_kind) {
    case ItemKind::image:
      return image_to_floats(bytes, spec_.input, target);
    case ItemKind::pixels:
      return pixels_to_floats(bytes, batch.item_shape, spec_.input, target);
    case ItemKind::numbers:
      return numbers_to_floats(bytes, spec_.input, target);
    case ItemKind::nothing:
      break;
  }
  return Error{Errc::invalid, "these inputs are for the engine that does nothing only"};
}

void DnnEngine::clear_item(std::size_t item) {
  const std::size_t elements = item_elements(spec_.input);
  std::fill_n(blob_.ptr<float>() + item * elements, elements, 0.0F);
}

Result<cv::Mat> DnnEngine::forward() {
  try {
    net_.setInput(blob_, spec_.input.name);
    cv::Mat output = output_layer_.empty() ? net_.forward() : net_.forward(output_layer_);
    if (const Status status = check_output(output); !status) return status.error();
    return output;
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) return Error{Errc::full, "the batch does not fit into the executor's memory"};
    return Error{Errc::invalid, "OpenCV cannot compute it: " + one_line(error)};
  } catch (const std::bad_alloc&) {
    return Error{Errc::full, "the batch does not fit into the executor's memory"};
  } catch (const std::exception& error) {
    return Error{Errc::invalid, fmt::format("OpenCV cannot compute it: {}", error.what())};
  }
}

Status DnnEngine::check_output(cv::Mat& output) const {
  std::vector<int> shape(output.size.p, output.size.p + output.dims);
  if (output.type() != CV_32F || !output.isContinuous()) return Error{Errc::invalid, "the output is not float32"};
  if (shape.empty() || shape[0] != static_cast<int>(batch_size_)) {
    return Error{Errc::invalid, fmt::format("the output has shape [{}] for a batch of {}: its first dimension must be the batch",
                                            fmt::join(shape, ", "), batch_size_)};
  }
  if (spec_.output.kind == OutputKind::tensor) return {};
  // Graphs that end in a pooling give [batch, classes, 1, 1].
  const bool flat =
      shape.size() >= 2 && std::all_of(shape.begin() + 2, shape.end(), [](int dimension) { return dimension == 1; });
  if (!flat) {
    return Error{Errc::invalid,
                 fmt::format("the output has shape [{}], a classifier gives [batch, classes]; use kind = \"tensor\"",
                             fmt::join(shape, ", "))};
  }
  const auto classes = static_cast<std::size_t>(shape[1]);
  if (!labels_.empty() && labels_.size() != classes) {
    return Error{Errc::invalid, fmt::format("the model gives {} classes, the labels file has {} lines", classes, labels_.size())};
  }
  output = output.reshape(1, shape[0]);
  return {};
}

void DnnEngine::append_row(const ExecuteBatch& batch, std::size_t item, const cv::Mat& output, std::string& rows,
                           std::uint32_t& errors) const {
  const std::uint64_t index = batch.first_query + item;
  const std::string& query = batch.queries[item];
  const std::size_t count = output.total() / batch_size_;
  const float* const values = output.ptr<float>() + item * count;
  if (!all_finite(values, count)) {
    ++errors;
    return append_error_row(rows, index, query, "the model's output is not a finite number");
  }
  if (spec_.output.kind == OutputKind::tensor) {
    const std::vector<int> shape(output.size.p + 1, output.size.p + output.dims);
    return append_tensor_row(rows, index, query, shape, values, count);
  }
  std::vector<float> scores(values, values + count);
  if (spec_.output.softmax) softmax(scores.data(), count);
  append_classes_row(rows, index, query, top_classes(scores.data(), count, batch.top != 0 ? batch.top : spec_.output.top),
                     labels_);
}

BatchExecuted DnnEngine::run(const ExecuteBatch& batch, ByteView payload, std::string& rows) {
  BatchExecuted done;
  const auto fail = [&](const std::string& why, Errc code = Errc::invalid) {
    done.why = code == Errc::full ? BatchFailure::executor_died : BatchFailure::model_unusable;
    done.detail = fmt::format("model {} cannot be used: {}", batch.model_key, why);
    return done;
  };
  if (item_elements(spec_.input) * sizeof(float) * batch.batch_size > kBlobBytesMax) {
    return fail(fmt::format("a batch of {} is over {} bytes; submit with a smaller batch", batch.batch_size, kBlobBytesMax));
  }
  auto begin = std::chrono::steady_clock::now();
  std::vector<std::string> bad(batch.queries.size());
  try {
    begin_batch(batch.batch_size);
  } catch (const std::exception&) {
    return fail("the batch does not fit into the executor's memory", Errc::full);
  }
  auto masked = batch.masked.begin();
  for (std::size_t item = 0, offset = 0; item < batch.batch_size; ++item) {
    if (item >= batch.queries.size()) {
      clear_item(item);
      continue;
    }
    if (masked != batch.masked.end() && *masked == item) {
      ++masked;
      bad[item] = kQuarantinedText;
      ++done.errors;
      clear_item(item);
    } else if (const Status status = decode(batch, item, payload.substr(offset, batch.item_lengths[item])); !status) {
      bad[item] = status.error().detail;
      ++done.errors;
      clear_item(item);
    }
    offset += batch.item_lengths[item];
  }
  done.decode_us = us_since(begin);

  begin = std::chrono::steady_clock::now();
  cv::Mat output;
  if (done.errors < batch.queries.size() || batch.trial) {  // else no row needs it
    const auto computed = forward();
    if (!computed) return fail(computed.error().detail, computed.error().code);
    output = *computed;
  }
  done.infer_us = us_since(begin);
  for (std::size_t item = 0; item < batch.queries.size(); ++item) {
    if (bad[item].empty()) {
      append_row(batch, item, output, rows, done.errors);
    } else {
      append_error_row(rows, batch.first_query + item, batch.queries[item], bad[item]);
    }
  }
  done.ok = true;
  return done;
}

}  // namespace idunno

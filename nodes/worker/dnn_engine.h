#pragma once
/// One ONNX model in cv::dnn. The same object serves the cluster's batches, the single-process reference loop (`idunno-executor
/// run`), the bare loop that `bench infer` compares with, and the tests, so that all of them give the same rows.

#include <cstdint>
#include <memory>
#include <opencv2/dnn.hpp>
#include <string>
#include <vector>

#include "nodes/worker/engine.h"

namespace idunno {

class DnnEngine final : public Engine {
 public:
  [[nodiscard]] static Result<std::unique_ptr<DnnEngine>> load(const ModelSpec& spec, const std::string& onnx_file,
                                                               const std::string& labels_file);

  [[nodiscard]] BatchExecuted run(const ExecuteBatch& batch, ByteView payload, std::string& rows) override;
  [[nodiscard]] std::uint64_t memory_bytes() const override { return memory_bytes_; }

  /// The steps of run(), for measurements. `decode` fills item `item` of the blob; a slot that is not filled, or not well, must
  /// be cleared.
  void begin_batch(std::uint32_t batch_size);
  [[nodiscard]] Status decode(const ExecuteBatch& batch, std::size_t item, ByteView bytes);
  void clear_item(std::size_t item);
  /// float32; [batch, classes] for classify, [batch, ...] for tensor. Errors: in one line, from cv::dnn or about the shape.
  [[nodiscard]] Result<cv::Mat> forward();

 private:
  DnnEngine(const ModelSpec& spec, const cv::dnn::Net& net) : spec_(spec), net_(net) {}
  [[nodiscard]] Status check_output(cv::Mat& output) const;
  void append_row(const ExecuteBatch& batch, std::size_t item, const cv::Mat& output, std::string& rows,
                  std::uint32_t& errors) const;

  ModelSpec spec_;
  cv::dnn::Net net_;
  std::string output_layer_;  ///< empty: the last layer
  std::vector<std::string> labels_;
  cv::Mat blob_;  ///< input of the present batch
  std::uint32_t batch_size_ = 0;
  std::uint64_t memory_bytes_ = 0;
};

/// What OpenCV says, without its file names and line breaks.
[[nodiscard]] std::string one_line(const cv::Exception& error);
/// Threads, OpenCL and log level of this process; once, before anything else of OpenCV.
void set_up_opencv();

/// One label a line; trailing empty lines do not count.
[[nodiscard]] Result<std::vector<std::string>> read_labels(const std::string& file);

/// Resident memory of this process from /proc/self/status, in bytes: "VmRSS" or "VmHWM" (the peak). 0 when unknown.
[[nodiscard]] std::uint64_t process_memory(const char* field);

}  // namespace idunno

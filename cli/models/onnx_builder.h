#pragma once
/// Writes ONNX graphs: one call a layer, weights drawn from a seed. For cli/models/architectures.cc and for the small graphs of
/// tests.
///
/// The files suit cv::dnn 4.6 as well as any other reader: opset 11, Gemm with transB = 1, kernel_shape always written, and
/// producer_name "pytorch", because cv::dnn takes count_include_pad of AveragePool from that word alone.
/// Includes libonnx: only for files of idunno_model_tools and its tests.

#include <onnx/onnx_pb.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/random.h"
#include "bus/base/result.h"

namespace idunno::models {

/// Normally distributed numbers, Box-Muller over splitmix64. Logarithm, sine and cosine are our own polynomials of plain IEEE
/// operations, so that a seed gives the same bits with every compiler and C library.
class NormalSource {
 public:
  explicit NormalSource(std::uint64_t seed) : random_(seed) {}
  /// `count` float32 numbers (little endian) with mean 0 and the given standard deviation.
  [[nodiscard]] Bytes floats(std::size_t count, double deviation);

 private:
  Random random_;
};

/// A value of the graph: its name and shape; shape[0] is the batch, written as the symbol "N".
struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
};

/// A square window, or a rectangular one: height first.
struct Window {
  Window(std::int64_t side) : height(side), width(side) {}  // NOLINT(google-explicit-constructor): conv(x, 64, 3)
  Window(std::int64_t h, std::int64_t w) : height(h), width(w) {}
  std::int64_t height;
  std::int64_t width;
};

class OnnxBuilder {
 public:
  OnnxBuilder(const std::string& name, std::uint64_t seed, int opset = 11);

  [[nodiscard]] Tensor input(std::vector<std::int64_t> shape, const std::string& name = "input");

  struct ConvOptions {
    std::int64_t stride = 1;
    Window pad = 0;
    bool bias = true;
  };
  [[nodiscard]] Tensor conv(const Tensor& x, std::int64_t channels, Window kernel, ConvOptions options);
  [[nodiscard]] Tensor conv(const Tensor& x, std::int64_t channels, Window kernel) {
    return conv(x, channels, kernel, ConvOptions());
  }
  /// Running mean 0 and variance 1, as before any training; `weight` is gamma.
  [[nodiscard]] Tensor batch_norm(const Tensor& x, float epsilon = 1e-5F, float weight = 1.0F);
  [[nodiscard]] Tensor relu(const Tensor& x);
  [[nodiscard]] Tensor max_pool(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad = 0);
  /// Padding counts as zeros (count_include_pad = 1).
  [[nodiscard]] Tensor average_pool(const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad = 0);
  [[nodiscard]] Tensor global_average_pool(const Tensor& x);
  [[nodiscard]] Tensor flatten(const Tensor& x);
  /// `gain`: 2 before a ReLU (He), 1 for the last layer.
  [[nodiscard]] Tensor fully_connected(const Tensor& x, std::int64_t outputs, double gain = 2.0);
  [[nodiscard]] Tensor add(const Tensor& a, const Tensor& b);
  [[nodiscard]] Tensor concat(const std::vector<Tensor>& parts);
  [[nodiscard]] Tensor dropout(const Tensor& x, float ratio = 0.5F);
  [[nodiscard]] Tensor softmax(const Tensor& x);

  /// Numbers of trained parameters so far (running statistics are not trained).
  [[nodiscard]] std::uint64_t parameters() const { return parameters_; }

  /// Declares the output, checks the graph with onnx::checker and strict shape inference, and returns the file's bytes.
  [[nodiscard]] Result<Bytes> finish(const Tensor& output);

  // The parts below are for graphs that the layers above do not cover.
  onnx::NodeProto& node(const std::string& op, std::vector<std::string> inputs, const std::string& output);
  std::string weight(const std::string& name, const std::vector<std::int64_t>& shape, double deviation);
  std::string constant(const std::string& name, const std::vector<std::int64_t>& shape, float value, bool trained = true);
  [[nodiscard]] onnx::ModelProto& model() { return model_; }

 private:
  std::string fresh(const std::string& stem);
  onnx::TensorProto& initializer(const std::string& name, const std::vector<std::int64_t>& shape, bool trained);
  Tensor unary(const std::string& op, const std::string& stem, const Tensor& x);
  Tensor pool(const std::string& op, const Tensor& x, std::int64_t kernel, std::int64_t stride, std::int64_t pad);

  onnx::ModelProto model_;
  NormalSource normal_;
  std::uint64_t parameters_ = 0;
  int names_ = 0;
};

void set_attribute(onnx::NodeProto& node, const std::string& name, std::int64_t value);
void set_attribute(onnx::NodeProto& node, const std::string& name, float value);
void set_attribute(onnx::NodeProto& node, const std::string& name, const std::vector<std::int64_t>& values);

/// onnx::checker and strict shape inference, as a Status.
[[nodiscard]] Status validate_onnx(const onnx::ModelProto& model);
[[nodiscard]] Result<Bytes> serialize_onnx(const onnx::ModelProto& model);

}  // namespace idunno::models

#pragma once
/// Runs an ONNX file in cv::dnn as the executors do, for tests of what is written and rewritten.

#include <opencv2/dnn.hpp>
#include <string>
#include <vector>

namespace idunno::models {

/// The flat output for a float input of the given shape; throws cv::Exception when the graph cannot be loaded or run.
inline std::vector<float> run_in_dnn(const std::string& onnx, const std::vector<int>& shape, std::vector<float> input,
                                     std::vector<int>* output_shape = nullptr) {
  cv::dnn::Net net = cv::dnn::readNetFromONNX(onnx.data(), onnx.size());
  net.setPreferableBackend(cv::dnn::DNN_BACKEND_OPENCV);
  net.setInput(cv::Mat(shape, CV_32F, input.data()));
  const cv::Mat out = net.forward();
  if (output_shape != nullptr) output_shape->assign(out.size.p, out.size.p + out.dims);
  return {out.ptr<float>(), out.ptr<float>() + out.total()};
}

}  // namespace idunno::models

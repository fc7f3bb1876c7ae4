#include "nodes/worker/onnx_summary.h"

#include <gtest/gtest.h>

#include "tests/unit/worker/tiny_onnx.h"

namespace idunno {
namespace {

TEST(OnnxSummary, NamesInputsOutputsNodesAndCountsParameters) {
  const auto summary = parse_onnx_summary(testing::gemm_model(2, 3, std::vector<float>(6, 1.0F), {1, 2, 3}));
  ASSERT_TRUE(summary.ok()) << summary.error().detail;
  ASSERT_EQ(summary->inputs.size(), 1U);  // weights are no inputs
  EXPECT_EQ(summary->inputs[0].name, "x");
  EXPECT_EQ(summary->inputs[0].shape, (std::vector<std::string>{"N", "2"}));
  ASSERT_EQ(summary->outputs.size(), 1U);
  EXPECT_EQ(summary->outputs[0].name, "out");
  ASSERT_EQ(summary->nodes.size(), 1U);
  EXPECT_EQ(summary->nodes[0].op_type, "Gemm");
  EXPECT_EQ(summary->producer_of("out"), "fc");
  EXPECT_EQ(summary->producer_of("nobody"), "");
  EXPECT_EQ(summary->parameters, 9U);
}

TEST(OnnxSummary, RefusesOtherFiles) {
  EXPECT_FALSE(parse_onnx_summary("").ok());
  EXPECT_FALSE(parse_onnx_summary("this is no model, it is a line of text").ok());
  EXPECT_FALSE(parse_onnx_summary(std::string(1000, '\xff')).ok());
  EXPECT_FALSE(read_onnx_summary("/nonexistent/model.onnx").ok());
}

TEST(OnnxSummary, NoTruncationOrFlippedBitIsReadBeyondItsEnd) {
  const std::string whole = testing::gemm_model(2, 3, std::vector<float>(6, 1.0F), {1, 2, 3});
  for (std::size_t length = 0; length < whole.size(); ++length) (void)parse_onnx_summary(std::string(whole, 0, length));
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << (bit % 8)));
    (void)parse_onnx_summary(damaged);
  }
}

}  // namespace
}  // namespace idunno

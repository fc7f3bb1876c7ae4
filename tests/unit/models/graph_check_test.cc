#include "cli/models/graph_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cli/models/graph_view.h"
#include "cli/models/onnx_builder.h"
#include "tests/unit/models/test_nets.h"

namespace idunno::models {
namespace {

/// A graph with one input "input" and one output, from nodes of the test's own.
class SmallGraph {
 public:
  explicit SmallGraph(std::vector<std::int64_t> input_shape, int opset = 11, const std::string& producer = "test")
      : builder("small", 1, opset) {
    builder.model().set_producer_name(producer);
    x = builder.input(std::move(input_shape));
  }
  std::string floats(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    onnx::TensorProto tensor = float_tensor(shape, values);
    tensor.set_name(name);
    *builder.model().mutable_graph()->add_initializer() = tensor;
    return name;
  }
  std::string integers(const std::string& name, const std::vector<std::int64_t>& values) {
    onnx::TensorProto tensor = integer_tensor(values);
    tensor.set_name(name);
    *builder.model().mutable_graph()->add_initializer() = tensor;
    return name;
  }
  Bytes finish(const std::string& output, std::vector<std::int64_t> shape) {
    auto bytes = builder.finish({output, std::move(shape)});
    if (!bytes) throw std::runtime_error(bytes.error().detail);
    return *bytes;
  }
  OnnxBuilder builder;
  Tensor x;
};

CheckedGraph checked(const Bytes& onnx) {
  auto result = check_graph(onnx, "test.onnx");
  if (!result) throw std::runtime_error(result.error().detail);
  return *result;
}

void expect_refused(const Bytes& onnx, const std::string& node, const std::string& word) {
  const auto graph = checked(onnx);
  EXPECT_FALSE(graph.report.usable());
  EXPECT_TRUE(graph.onnx.empty());
  const auto& findings = graph.report.findings;
  const auto found = std::find_if(findings.begin(), findings.end(), [&](const GraphFinding& f) {
    return f.kind == FindingKind::refused && f.node == node && to_string(f).find(word) != std::string::npos;
  });
  EXPECT_NE(found, findings.end()) << "no refusal of '" << node << "' with '" << word << "'";
  EXPECT_TRUE(found == findings.end() || !found->advice.empty());
}

void expect_near(const std::vector<float>& got, const std::vector<float>& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << i;
}

TEST(GraphCheck, RefusesWhatIsNotOnnxInOneLine) {
  for (const Bytes& bytes : {Bytes(), Bytes("hello, this is no model\n"), Bytes(1000, '\0'), Bytes("\x89PNG\r\n\x1a\n")}) {
    const auto result = check_graph(bytes, "cat.png");
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::invalid);
    EXPECT_EQ(result.error().detail, "cat.png is not an ONNX model file");
  }
}

TEST(GraphCheck, RefusesAFileCutShort) {
  OnnxBuilder builder("cut", 1);
  const Tensor x = builder.input({1, 4});
  const Bytes onnx = *builder.finish(builder.fully_connected(x, 3));
  for (std::size_t length = 0; length < onnx.size(); length += 7) {
    EXPECT_FALSE(check_graph(ByteView(onnx).substr(0, length), "cut.onnx")) << length;
  }
}

TEST(GraphCheck, DescribesTheGraph) {
  OnnxBuilder builder("described", 1);
  const Tensor x = builder.input({1, 3, 8, 8}, "data");
  const Tensor y = builder.relu(builder.batch_norm(builder.relu(builder.conv(x, 4, 3))));
  const auto graph = checked(*builder.finish(y));
  EXPECT_TRUE(graph.report.usable());
  EXPECT_EQ(to_string(graph.report.inputs.at(0)), "data float32 Nx3x8x8");
  EXPECT_EQ(to_string(graph.report.outputs.at(0)), y.name + " float32 Nx4x6x6");
  EXPECT_EQ(graph.report.opset, 11);
  EXPECT_EQ(graph.report.parameters, 3U * 4 * 9 + 4 + 2 * 4);  // running statistics are not parameters
  EXPECT_EQ(graph.report.operators.at(0), (std::pair<std::string, std::uint32_t>{"Relu", 2}));
}

// cv::dnn takes a square weight the wrong way round, without a word.
TEST(GraphCheck, MendsAGemmWithoutTransB) {
  SmallGraph small({1, 2});
  const auto weights = small.floats("w", {2, 2}, {1, 2, 3, 4});
  small.builder.node("Gemm", {"input", weights}, "y");
  const auto graph = checked(small.finish("y", {1, 2}));
  ASSERT_TRUE(graph.report.rewritten());
  expect_near(run_in_dnn(graph.onnx, {1, 2}, {10, 1}), {13, 24});
}

TEST(GraphCheck, MendsAGemmWithBiasAlphaAndBeta) {
  SmallGraph small({1, 3});
  const auto weights = small.floats("w", {3, 2}, {1, 2, 3, 4, 5, 6});
  const auto bias = small.floats("c", {2}, {100, 200});
  auto& gemm = small.builder.node("Gemm", {"input", weights, bias}, "y");
  set_attribute(gemm, "alpha", 2.0F);
  set_attribute(gemm, "beta", 0.5F);
  const auto graph = checked(small.finish("y", {1, 2}));
  ASSERT_TRUE(graph.report.usable());
  expect_near(run_in_dnn(graph.onnx, {1, 3}, {1, 1, 1}), {68, 124});
  expect_near(run_in_dnn(graph.onnx, {2, 3}, {1, 0, 0, 0, 0, 1}), {52, 104, 60, 112});
}

// Two layers share one bias: scaling it for one must leave the other alone.
TEST(GraphCheck, LeavesSharedWeightsOfOthersAlone) {
  SmallGraph small({1, 2});
  const auto weights = small.floats("w", {2, 2}, {1, 0, 0, 1});
  const auto bias = small.floats("c", {2}, {10, 20});
  set_attribute(small.builder.node("Gemm", {"input", weights, bias}, "a"), "beta", 3.0F);
  small.builder.node("Gemm", {"a", weights, bias}, "y");
  const auto graph = checked(small.finish("y", {1, 2}));
  expect_near(run_in_dnn(graph.onnx, {1, 2}, {1, 2}), {41, 82});
}

TEST(GraphCheck, RefusesGemmThatItCannotMend) {
  SmallGraph computed({2, 2});
  computed.builder.node("Gemm", {"input", "input"}, "y");
  expect_refused(computed.finish("y", {2, 2}), "y", "transB");
  SmallGraph transposed({2, 2});
  const auto weights = transposed.floats("w", {2, 2}, {1, 2, 3, 4});
  set_attribute(transposed.builder.node("Gemm", {"input", weights}, "y"), "transA", std::int64_t{1});
  expect_refused(transposed.finish("y", {2, 2}), "y", "transA");
}

TEST(GraphCheck, FillsKernelShape) {
  SmallGraph small({1, 1, 3, 3});
  const auto weights = small.floats("w", {1, 1, 2, 2}, {1, 1, 1, 1});
  small.builder.node("Conv", {"input", weights}, "y");
  const Bytes onnx = small.finish("y", {1, 1, 2, 2});
  EXPECT_THROW(run_in_dnn(onnx, {1, 1, 3, 3}, std::vector<float>(9, 1)), cv::Exception);
  const auto graph = checked(onnx);
  ASSERT_TRUE(graph.report.rewritten());
  expect_near(run_in_dnn(graph.onnx, {1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9}), {12, 16, 24, 28});
}

Bytes padded_average(std::int64_t count_include_pad, const std::string& producer) {
  SmallGraph small({1, 1, 2, 2}, 11, producer);
  auto& pool = small.builder.node("AveragePool", {"input"}, "y");
  set_attribute(pool, "kernel_shape", {3, 3});
  set_attribute(pool, "pads", {1, 1, 1, 1});
  set_attribute(pool, "count_include_pad", count_include_pad);
  return small.finish("y", {1, 1, 2, 2});
}

TEST(GraphCheck, MakesPaddedAveragesCountAsTheGraphSays) {
  for (const auto& producer : {"pytorch", "test"}) {
    for (const std::int64_t counts : {0, 1}) {
      const Bytes onnx = padded_average(counts, producer);
      const auto graph = checked(onnx);
      ASSERT_TRUE(graph.report.usable());
      EXPECT_EQ(graph.report.rewritten(), (std::string(producer) == "pytorch") != (counts == 1));
      const float each = counts == 1 ? 9.0F : 4.0F;
      const auto out = run_in_dnn(graph.onnx.empty() ? onnx : graph.onnx, {1, 1, 2, 2}, {9, 9, 9, 9});
      expect_near(out, std::vector<float>(4, 36 / each));
    }
  }
}

TEST(GraphCheck, RefusesPaddedAveragesThatDisagree) {
  SmallGraph small({1, 1, 2, 2});
  std::string from = "input";
  for (const std::int64_t counts : {0, 1}) {
    const std::string name = counts == 1 ? "counting" : "excluding";
    auto& pool = small.builder.node("AveragePool", {from}, name);
    set_attribute(pool, "kernel_shape", {3, 3});
    set_attribute(pool, "pads", {1, 1, 1, 1});
    set_attribute(pool, "count_include_pad", counts);
    from = name;
  }
  expect_refused(small.finish("counting", {1, 1, 2, 2}), "counting", "excluding");
}

TEST(GraphCheck, TurnsConstantClipBoundsIntoAttributes) {
  SmallGraph small({1, 4});
  const auto low = small.floats("low", {}, {0});
  const auto high = small.floats("high", {}, {6});
  small.builder.node("Clip", {"input", low, high}, "y");
  const auto graph = checked(small.finish("y", {1, 4}));
  ASSERT_TRUE(graph.report.usable());
  expect_near(run_in_dnn(graph.onnx, {1, 4}, {-3, 2, 6, 9}), {0, 2, 6, 6});
}

TEST(GraphCheck, RefusesClipWhenTheOpsetCannotBeLowered) {
  SmallGraph small({1, 4});
  const auto low = small.floats("low", {}, {0});
  const auto high = small.floats("high", {}, {6});
  small.builder.node("Clip", {"input", low, high}, "clipped");
  set_attribute(small.builder.node("Softmax", {"clipped"}, "y"), "axis", std::int64_t{1});
  small.builder.node("Round", {"y"}, "z");
  expect_refused(small.finish("z", {1, 4}), "clipped", "opset");
}

TEST(GraphCheck, UsesWeightsBehindIdentityDirectly) {
  SmallGraph small({1, 1, 3, 3});
  const auto weights = small.floats("w", {1, 1, 2, 2}, {1, 1, 1, 1});
  small.builder.node("Identity", {weights}, "same");
  set_attribute(small.builder.node("Conv", {"input", "same"}, "y"), "kernel_shape", {2, 2});
  const auto graph = checked(small.finish("y", {1, 1, 2, 2}));
  ASSERT_TRUE(graph.report.usable());
  ASSERT_TRUE(graph.report.rewritten());
  expect_near(run_in_dnn(graph.onnx, {1, 1, 3, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9}), {12, 16, 24, 28});
}

// A file exported for one image: with the batch freed it gives for each of two what it gives for one.
TEST(GraphCheck, FreesABatchThatAReshapeFixes) {
  SmallGraph small({1, 1, 2, 2});
  small.builder.model()
      .mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_value(1);
  const auto shape = small.integers("shape", {1, 4});
  const auto weights = small.floats("w", {4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  small.builder.node("Reshape", {"input", shape}, "flat");
  small.builder.node("MatMul", {"flat", weights}, "y");
  const auto graph = checked(small.finish("y", {1, 2}));
  ASSERT_TRUE(graph.report.rewritten());
  EXPECT_EQ(to_string(checked(graph.onnx).report.inputs.at(0)), "input float32 Nx1x2x2");
  expect_near(run_in_dnn(graph.onnx, {1, 1, 2, 2}, {1, 0, 0, 0}), {1, 2});
  expect_near(run_in_dnn(graph.onnx, {2, 1, 2, 2}, {1, 0, 0, 0, 0, 0, 0, 1}), {1, 2, 7, 8});
}

// Files of the zoo's early days: every weight is listed among the inputs, too.
TEST(GraphCheck, MendsFilesOfOldFormatVersions) {
  SmallGraph small({1, 2});
  small.builder.model().set_ir_version(3);
  const auto weights = small.floats("w", {2, 2}, {1, 2, 3, 4});
  const auto listed = small.builder.input({2, 2}, weights);
  small.builder.model()
      .mutable_graph()
      ->mutable_input(1)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_value(2);
  small.builder.node("Gemm", {"input", listed.name}, "y");
  const auto graph = checked(small.finish("y", {1, 2}));
  ASSERT_TRUE(graph.report.rewritten());
  EXPECT_EQ(graph.report.inputs.size(), 1U);
  expect_near(run_in_dnn(graph.onnx, {1, 2}, {10, 1}), {13, 24});
}

// The last layer of the zoo's mnist-8: reshaped weights, MatMul, Add of a row.
TEST(GraphCheck, MakesOneGemmOfMatMulAndBias) {
  SmallGraph small({1, 4});
  const auto weights = small.floats("w", {2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  small.builder.node("Reshape", {weights, small.integers("to", {4, 2})}, "matrix");
  small.builder.node("MatMul", {"input", "matrix"}, "product");
  small.builder.node("Add", {"product", small.floats("b", {1, 2}, {100, 200})}, "y");
  const auto graph = checked(small.finish("y", {1, 2}));
  ASSERT_TRUE(graph.report.rewritten());
  expect_near(run_in_dnn(graph.onnx, {1, 4}, {1, 0, 0, 0}), {101, 202});
  expect_near(run_in_dnn(graph.onnx, {2, 4}, {1, 0, 0, 0, 0, 0, 0, 1}), {101, 202, 107, 208});
}

TEST(GraphCheck, NamesOperatorsWithoutALayer) {
  SmallGraph small({1, 4});
  small.builder.node("IsNaN", {"input"}, "nan");
  set_attribute(small.builder.node("Cast", {"nan"}, "y"), "to", std::int64_t{1});
  const Bytes onnx = small.finish("y", {1, 4});
  expect_refused(onnx, "nan", "IsNaN");
  EXPECT_EQ(checked(onnx).report.unsupported, std::vector<std::string>{"IsNaN"});
}

TEST(GraphCheck, RefusesEmbeddings) {
  SmallGraph small({1, 4});
  set_attribute(small.builder.node("Cast", {"input"}, "index"), "to", std::int64_t{7});
  const auto table = small.floats("table", {5, 2}, std::vector<float>(10, 1));
  small.builder.node("Gather", {table, "index"}, "y");
  expect_refused(small.finish("y", {1, 4, 2}), "y", "Embedding");
}

TEST(GraphCheck, RefusesScaledAttention) {
  SmallGraph small({1, 4, 4});
  const auto scale = small.floats("scale", {1}, {0.5F});
  small.builder.node("MatMul", {"input", "input"}, "scores");
  small.builder.node("Mul", {"scores", scale}, "scaled");
  set_attribute(small.builder.node("Softmax", {"scaled"}, "y"), "axis", std::int64_t{2});
  expect_refused(small.finish("y", {1, 4, 4}), "scaled", "attention");
}

TEST(GraphCheck, RefusesRecurrentLayersWithAnInitialState) {
  SmallGraph small({3, 1, 2});
  small.builder.model()
      .mutable_graph()
      ->mutable_input(0)
      ->mutable_type()
      ->mutable_tensor_type()
      ->mutable_shape()
      ->mutable_dim(0)
      ->set_dim_value(3);
  const auto w = small.floats("w", {1, 12, 2}, std::vector<float>(24, 0.1F));
  const auto r = small.floats("r", {1, 12, 3}, std::vector<float>(36, 0.1F));
  const auto b = small.floats("b", {1, 24}, std::vector<float>(24, 0));
  const auto h = small.floats("h", {1, 1, 3}, {1, 1, 1});
  set_attribute(small.builder.node("LSTM", {"input", w, r, b, "", h}, "y"), "hidden_size", std::int64_t{3});
  expect_refused(small.finish("y", {3, 1, 1, 3}), "y", "initial state");
}

}  // namespace
}  // namespace idunno::models

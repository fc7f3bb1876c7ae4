#include "nodes/worker/dnn_engine.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <opencv2/imgcodecs.hpp>

#include "nodes/worker/executor_service.h"
#include "tests/unit/worker/engine_fixture.h"

namespace idunno {
namespace {

using testing::request;
using testing::rows_of;

constexpr char kNumbers[] = "[input]\nshape = [2]\n[output]\ntop = 3\n";

class DnnEngineTest : public testing::EngineFiles {
 protected:
  /// Why a model or its first batch of one pair of numbers fails; empty when it does not.
  std::string failure(const std::string& onnx, const std::string& spec_toml, const std::string& labels = "") {
    const auto spec = parse_model_spec(spec_toml, "spec");
    EXPECT_TRUE(spec.ok());
    auto engine = DnnEngine::load(*spec, write("model.onnx", onnx), labels.empty() ? "" : write("labels.txt", labels));
    if (!engine) return engine.error().detail;
    const auto one = request(ItemKind::numbers, {"1,2"}, 1);
    std::string rows;
    const BatchExecuted done = (*engine)->run(one.batch, one.payload, rows);
    EXPECT_TRUE(done.ok || done.why == BatchFailure::model_unusable);
    EXPECT_EQ(done.detail.find('\n'), std::string::npos);
    return done.detail;
  }
};

TEST_F(DnnEngineTest, GivesTheGoldenOutputs) {
  const auto engine = load(testing::small_gemm(), kNumbers, "a\nb\nc\n");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(rows_of(*engine, request(ItemKind::numbers, {"1,2", "0,-1"}, 2)),
            "{\"index\":0,\"query\":\"/"
            "q0\",\"top\":[{\"label\":\"c\",\"index\":2,\"p\":16.0000},{\"label\":\"b\",\"index\":1,\"p\":11.0000},"
            "{\"label\":\"a\",\"index\":0,\"p\":5.5000}]}\n"
            "{\"index\":1,\"query\":\"/"
            "q1\",\"top\":[{\"label\":\"a\",\"index\":0,\"p\":-1.5000},{\"label\":\"b\",\"index\":1,\"p\":-4.0000},"
            "{\"label\":\"c\",\"index\":2,\"p\":-7.0000}]}\n");
}

TEST_F(DnnEngineTest, GivesTensors) {
  const auto engine = load(testing::small_gemm(), "[input]\nshape = [2]\n[output]\nkind = \"tensor\"\n");
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(rows_of(*engine, request(ItemKind::numbers, {"1,2"}, 4)),
            "{\"index\":0,\"query\":\"/q0\",\"shape\":[3],\"data\":[5.5,11,16]}\n");
}

TEST_F(DnnEngineTest, AppliesSoftmaxAndTheJobsTop) {
  const auto engine = load(testing::small_gemm(), "[input]\nshape = [2]\n[output]\nsoftmax = true\n");
  ASSERT_NE(engine, nullptr);
  auto one = request(ItemKind::numbers, {"0,-1"}, 1);
  one.batch.top = 1;
  EXPECT_EQ(rows_of(*engine, one), "{\"index\":0,\"query\":\"/q0\",\"top\":[{\"label\":\"0\",\"index\":0,\"p\":0.9207}]}\n");
}

TEST_F(DnnEngineTest, AShortLastBatchGivesTheRowsOfAFullOne) {
  const auto engine = load(testing::small_gemm(), kNumbers);
  ASSERT_NE(engine, nullptr);
  const std::string full = rows_of(*engine, request(ItemKind::numbers, {"1,2", "3,4", "5,6", "7,8"}, 4));
  const std::string some = rows_of(*engine, request(ItemKind::numbers, {"1,2", "3,4"}, 4));
  EXPECT_EQ(full.substr(0, some.size()), some);
  EXPECT_EQ(std::count(some.begin(), some.end(), '\n'), 2);
}

TEST_F(DnnEngineTest, BadItemsBecomeErrorRowsAndChangeNoOtherRow) {
  const auto engine = load(testing::small_gemm(), kNumbers);
  ASSERT_NE(engine, nullptr);
  const auto mixed = request(ItemKind::numbers, {"1,2", "x,4", "5,6", ""}, 4, 100);
  std::string rows;
  const BatchExecuted done = engine->run(mixed.batch, mixed.payload, rows);
  EXPECT_TRUE(done.ok);
  EXPECT_EQ(done.errors, 2U);
  const std::string good = rows_of(*engine, request(ItemKind::numbers, {"1,2"}, 4, 100));
  EXPECT_EQ(rows.substr(0, good.size()), good);
  EXPECT_NE(rows.find("{\"index\":101,\"query\":\"/q101\",\"error\":\"column 1 is not a number: \\\"x\\\"\"}\n"),
            std::string::npos)
      << rows;
  EXPECT_EQ(std::count(rows.begin(), rows.end(), '\n'), 4);

  const auto all_bad = request(ItemKind::numbers, {"x", "y"}, 4);
  rows.clear();
  EXPECT_EQ(engine->run(all_bad.batch, all_bad.payload, rows).errors, 2U);
}

TEST_F(DnnEngineTest, ComputesImagesOfAnyBatchSize) {
  const auto engine = load(testing::channel_means_model(4, 4),
                           "[input]\nsize = [4, 4]\nmean = [0, 0, 0]\nscale = [1, 1, 1]\n[output]\nkind = \"tensor\"\n");
  ASSERT_NE(engine, nullptr);
  std::vector<unsigned char> png;
  ASSERT_TRUE(cv::imencode(".png", cv::Mat(8, 8, CV_8UC3, cv::Scalar(10, 20, 30)), png));
  const Bytes image(png.begin(), png.end());
  for (const std::uint32_t batch : {1U, 3U, 2U}) {
    EXPECT_EQ(rows_of(*engine, request(ItemKind::image, {image}, batch)),
              "{\"index\":0,\"query\":\"/q0\",\"shape\":[3],\"data\":[30,20,10]}\n");
  }
  const std::string rows = rows_of(*engine, request(ItemKind::image, {"no image", image}, 2));
  EXPECT_EQ(rows.find("{\"index\":0,\"query\":\"/q0\",\"error\":\"cannot decode image: not a JPEG or PNG file\"}\n"), 0U) << rows;
}

TEST_F(DnnEngineTest, AMaskedItemIsLikeOneThatCannotBeDecodedButForItsText) {
  const auto engine = load(testing::small_gemm(), kNumbers);
  ASSERT_NE(engine, nullptr);
  const std::string broken = rows_of(*engine, request(ItemKind::numbers, {"1,2", "no numbers", "0,-1"}, 4));
  auto masked = request(ItemKind::numbers, {"1,2", "3,4", "0,-1"}, 4);
  masked.batch.masked = {1};
  const std::string rows = rows_of(*engine, masked);
  const auto line = [](const std::string& text, int number) {
    std::size_t begin = 0;
    for (; number > 0; --number) begin = text.find('\n', begin) + 1;
    return text.substr(begin, text.find('\n', begin) - begin);
  };
  EXPECT_EQ(line(rows, 0), line(broken, 0));
  EXPECT_EQ(line(rows, 2), line(broken, 2));
  EXPECT_EQ(line(rows, 1), "{\"index\":1,\"query\":\"/q1\",\"error\":\"" + std::string(kQuarantinedText) + "\"}");
  EXPECT_EQ(rows_of(*engine, masked), rows) << "nothing of an earlier batch is left in its place";
}

TEST_F(DnnEngineTest, AMaskedItemIsNotLookedAt) {
  const auto engine = load(testing::small_gemm(), kNumbers);
  ASSERT_NE(engine, nullptr);
  auto first = request(ItemKind::numbers, {"1,2", "no numbers"}, 2);
  auto second = request(ItemKind::numbers, {"1,2", "5,6"}, 2);
  first.batch.masked = second.batch.masked = {1};
  EXPECT_EQ(rows_of(*engine, first), rows_of(*engine, second));
}

TEST_F(DnnEngineTest, AnOutputThatIsNoNumberIsAnErrorRow) {
  const auto engine = load(testing::gemm_model(2, 1, {3e38F, 3e38F}, {0}), "[input]\nshape = [2]\n");
  ASSERT_NE(engine, nullptr);
  const std::string rows = rows_of(*engine, request(ItemKind::numbers, {"10,10", "0,1"}, 2));
  EXPECT_NE(rows.find("\"error\":\"the model's output is not a finite number\""), std::string::npos) << rows;
  EXPECT_NE(rows.find("\"index\":1,\"query\":\"/q1\",\"top\""), std::string::npos) << rows;
}

TEST_F(DnnEngineTest, SaysWhyAModelCannotBeUsed) {
  EXPECT_EQ(failure(testing::small_gemm(), kNumbers), "");
  EXPECT_NE(failure("no model at all", kNumbers).find("not an ONNX file"), std::string::npos);
  EXPECT_NE(failure(testing::small_gemm(), "[input]\nshape = [2]\n[output]\nname = \"prob\"\n")
                .find("no output \"prob\"; its outputs: out"),
            std::string::npos);
  EXPECT_NE(failure(testing::small_gemm(), "[input]\nshape = [2]\nname = \"data\"\n").find("OpenCV"), std::string::npos);
  EXPECT_NE(failure(testing::small_gemm(), kNumbers, "a\nb\n").find("3 classes, the labels file has 2 lines"), std::string::npos);

  testing::OnnxGraph odd;
  odd.nodes = {testing::onnx_node("Erf2000", "mystery", {"x"}, {"out"})};
  odd.inputs = {testing::onnx_value("x", {0, 2})};
  odd.outputs = {testing::onnx_value("out", {0, 2})};
  EXPECT_NE(failure(odd.file(), kNumbers).find("Erf2000"), std::string::npos) << failure(odd.file(), kNumbers);
}

TEST_F(DnnEngineTest, AClassifierMustGiveOneNumberAClass) {
  testing::OnnxGraph graph;
  graph.nodes = {testing::onnx_node("Relu", "r", {"x"}, {"out"})};
  graph.inputs = {testing::onnx_value("x", {0, 2, 2})};
  graph.outputs = {testing::onnx_value("out", {0, 2, 2})};
  const auto engine = load(graph.file(), "[input]\nshape = [2, 2]\n");
  ASSERT_NE(engine, nullptr);
  const auto one = request(ItemKind::numbers, {"1,2,3,4"}, 1);
  std::string rows;
  const BatchExecuted done = engine->run(one.batch, one.payload, rows);
  EXPECT_FALSE(done.ok);
  EXPECT_EQ(done.why, BatchFailure::model_unusable);
  EXPECT_NE(done.detail.find("shape [1, 2, 2]"), std::string::npos) << done.detail;
}

TEST_F(DnnEngineTest, ChoosesTheOutputThatTheSpecNames) {
  testing::OnnxGraph graph;
  graph.nodes = {testing::onnx_node("Neg", "first", {"x"}, {"negative"}),
                 testing::onnx_node("Relu", "second", {"x"}, {"positive"})};
  graph.inputs = {testing::onnx_value("x", {0, 2})};
  graph.outputs = {testing::onnx_value("negative", {0, 2}), testing::onnx_value("positive", {0, 2})};
  const auto one = request(ItemKind::numbers, {"1,-2"}, 1);
  const auto named = load(graph.file(), "[input]\nshape = [2]\n[output]\nkind = \"tensor\"\nname = \"positive\"\n");
  ASSERT_NE(named, nullptr);
  EXPECT_NE(rows_of(*named, one).find("[1,0]"), std::string::npos);
  const auto first = load(graph.file(), "[input]\nshape = [2]\n[output]\nkind = \"tensor\"\n");
  ASSERT_NE(first, nullptr);
  EXPECT_NE(rows_of(*first, one).find("[-1,2]"), std::string::npos);
}

TEST_F(DnnEngineTest, LabelsMayHaveWindowsLineEnds) {
  const auto labels = read_labels(write("l.txt", "tench\r\ngold fish\r\n\r\n"));
  ASSERT_TRUE(labels.ok());
  EXPECT_EQ(*labels, (std::vector<std::string>{"tench", "gold fish"}));
  EXPECT_FALSE(read_labels("/nonexistent").ok());
}

}  // namespace
}  // namespace idunno

#include "cli/models/architectures.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "bus/hash.h"
#include "cli/models/graph_check.h"
#include "cli/models/onnx_builder.h"
#include "tests/unit/models/test_nets.h"

namespace idunno::models {
namespace {

// Of the first 100,000 weights of seed 1. It must never change: clusters were loaded with such files.
constexpr std::uint64_t kGoldenNormalHash = 5'247'325'728'550'353'245;

std::vector<float> numbers_of(const Bytes& bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

TEST(NormalSource, HasTheMomentsOfANormalDistribution) {
  const auto values = numbers_of(NormalSource(7).floats(200'001, 2.0));
  ASSERT_EQ(values.size(), 200'001U);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  std::size_t within = 0;
  for (const float v : values) {
    sum += v;
    squares += v * v;
    fourth += std::pow(v, 4);
    if (std::abs(v) < 2.0F) ++within;
  }
  const double n = static_cast<double>(values.size());
  EXPECT_NEAR(sum / n, 0, 0.02);
  EXPECT_NEAR(squares / n, 4, 0.05);
  EXPECT_NEAR(fourth / n, 48, 2);  // 3 sigma^4
  EXPECT_NEAR(static_cast<double>(within) / n, 0.6827, 0.005);
}

// The polynomials against the C library, through the published pairs: a wrong quadrant or coefficient would show at once.
TEST(NormalSource, AgreesWithBoxMullerOfTheCLibrary) {
  Random random(3);
  const auto values = numbers_of(NormalSource(3).floats(2'000, 1.0));
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const double u = (static_cast<double>(random.next() >> 11U) + 0.5) * 0x1.0p-53;
    const double angle = 6.28318530717958647692 * random.unit();
    const double radius = std::sqrt(-2 * std::log(u));
    ASSERT_NEAR(values[i], radius * std::cos(angle), 1e-6) << i;
    ASSERT_NEAR(values[i + 1], radius * std::sin(angle), 1e-6) << i;
  }
}

TEST(NormalSource, GivesTheSameBitsForASeedEverywhere) {
  EXPECT_EQ(hash64(NormalSource(1).floats(100'000, 0.05)), kGoldenNormalHash);
  EXPECT_NE(hash64(NormalSource(2).floats(100'000, 0.05)), kGoldenNormalHash);
}

struct Expected {
  const char* name;
  std::uint64_t parameters;
};

class EveryArchitecture : public testing::TestWithParam<Expected> {};

TEST_P(EveryArchitecture, HasThePublishedParametersAndPassesTheGraphCheckUnchanged) {
  const auto about = find_architecture(GetParam().name);
  ASSERT_TRUE(about);
  EXPECT_EQ(about->parameters, GetParam().parameters);
  const auto onnx = build_architecture(GetParam().name, 1);
  ASSERT_TRUE(onnx) << onnx.error().detail;
  const auto checked = check_graph(*onnx, "built");
  ASSERT_TRUE(checked) << checked.error().detail;
  EXPECT_EQ(checked->report.parameters, GetParam().parameters);
  EXPECT_TRUE(checked->report.findings.empty()) << to_string(checked->report.findings.front());
  EXPECT_TRUE(checked->onnx.empty());
  ASSERT_EQ(checked->report.inputs.size(), 1U);
  EXPECT_EQ(
      checked->report.inputs[0].shape,
      (std::vector<std::string>{"N", std::to_string(about->channels), std::to_string(about->side), std::to_string(about->side)}));
}

// The three large ones take seconds each: `idunno model init` asserts their counts at every use.
INSTANTIATE_TEST_SUITE_P(Small, EveryArchitecture,
                         testing::Values(Expected{"lenet5", 61'706}, Expected{"squeezenet1_1", 1'235'496},
                                         Expected{"resnet18", 11'689'512}),
                         [](const auto& each) { return std::string(each.param.name); });

void expect_sane(const std::string& name, const std::vector<int>& shape) {
  const auto about = find_architecture(name);
  const auto onnx = build_architecture(name, 1);
  ASSERT_TRUE(onnx);
  std::size_t count = 1;
  for (const int d : shape) count *= static_cast<std::size_t>(d);
  std::vector<int> output_shape;
  const auto out = run_in_dnn(*onnx, shape, numbers_of(NormalSource(5).floats(count, 1.0)), &output_shape);
  EXPECT_EQ(output_shape, (std::vector<int>{shape[0], static_cast<int>(about->classes)}));
  double largest = 0;
  for (const float v : out) {
    ASSERT_TRUE(std::isfinite(v));
    largest = std::max(largest, static_cast<double>(std::abs(v)));
  }
  EXPECT_GT(largest, 0.05);
  EXPECT_LT(largest, 40);  // a softmax of it is not one certain class
  EXPECT_NE(out.front(), out.back());
}

TEST(Architectures, RunInDnnForAnyBatch) {
  expect_sane("lenet5", {1, 1, 28, 28});
  expect_sane("lenet5", {5, 1, 28, 28});
  expect_sane("squeezenet1_1", {2, 3, 224, 224});
}

TEST(Architectures, DifferBySeedOnly) {
  const auto a = build_architecture("lenet5", 1);
  const auto b = build_architecture("lenet5", 1);
  const auto c = build_architecture("lenet5", 2);
  ASSERT_TRUE(a && b && c);
  EXPECT_EQ(*a, *b);
  EXPECT_NE(*a, *c);
  EXPECT_EQ(a->size(), c->size());
}

TEST(Architectures, AnUnknownNameListsTheKnownOnes) {
  const auto result = build_architecture("resnet19", 1);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::not_found);
  EXPECT_NE(result.error().detail.find("resnet18"), std::string::npos);
}

TEST(Architectures, HaveSpecsThatParse) {
  for (const auto& architecture : architectures()) {
    const auto spec = parse_model_spec(to_toml(architecture_spec(architecture)), "spec.toml");
    ASSERT_TRUE(spec) << architecture.name << ": " << spec.error().detail;
    EXPECT_EQ(spec->input.width, architecture.side);
    EXPECT_TRUE(spec->output.labels.empty());
    EXPECT_TRUE(spec->output.softmax);
  }
}

}  // namespace
}  // namespace idunno::models

#include "storage/models/model_spec.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace idunno {
namespace {

constexpr char kFull[] = R"(
[input]
name = "data"
size = [224, 200]
resize = "crop"
shorter = 256
interpolation = "linear"
channels = "BGR"
mean = [104.0, 117, 123.5]
scale = [1.0, 0.5, 2]
[output]
name = "prob"
kind = "classify"
labels = "names.txt"
softmax = true
top = 3
)";

std::string error_of(const std::string& toml) {
  const auto spec = parse_model_spec(toml, "m.toml");
  EXPECT_FALSE(spec.ok()) << toml;
  return spec.ok() ? "" : spec.error().detail;
}

/// The smallest image spec with `more` lines in [input].
std::string image(const std::string& more) { return "[input]\nsize = [8, 8]\n" + more + "\n"; }
std::string output(const std::string& more) { return "[input]\nsize = [8, 8]\n[output]\n" + more + "\n"; }

testing::AssertionResult says(const std::string& error, const std::string& wanted) {
  if (error.find(wanted) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "\"" << error << "\" does not say \"" << wanted << "\"";
}

TEST(ModelSpec, ReadsEveryKey) {
  const auto spec = parse_model_spec(kFull, "m.toml");
  ASSERT_TRUE(spec.ok()) << spec.error().detail;
  EXPECT_EQ(spec->input.name, "data");
  EXPECT_EQ(spec->input.width, 224U);
  EXPECT_EQ(spec->input.height, 200U);
  EXPECT_EQ(spec->input.resize, ResizeKind::crop);
  EXPECT_EQ(spec->input.shorter, 256U);
  EXPECT_EQ(spec->input.interpolation, Interpolation::linear);
  EXPECT_EQ(spec->input.channels, ChannelOrder::bgr);
  EXPECT_EQ(spec->input.mean, (std::vector<float>{104.0F, 117.0F, 123.5F}));
  EXPECT_EQ(spec->input.scale, (std::vector<float>{1.0F, 0.5F, 2.0F}));
  EXPECT_EQ(spec->output.name, "prob");
  EXPECT_EQ(spec->output.kind, OutputKind::classify);
  EXPECT_EQ(spec->output.labels, "names.txt");
  EXPECT_TRUE(spec->output.softmax);
  EXPECT_EQ(spec->output.top, 3U);
  EXPECT_FALSE(spec->nothing);
}

TEST(ModelSpec, HasDefaultsForAllButTheSize) {
  const auto spec = parse_model_spec("[input]\nsize = [28, 28]\nchannels = \"gray\"\n", "m.toml");
  ASSERT_TRUE(spec.ok()) << spec.error().detail;
  EXPECT_EQ(spec->input.resize, ResizeKind::stretch);
  EXPECT_EQ(spec->input.interpolation, Interpolation::area);
  EXPECT_EQ(spec->input.mean, std::vector<float>{0.0F});
  EXPECT_EQ(spec->input.scale, std::vector<float>{1.0F});
  EXPECT_EQ(spec->output.kind, OutputKind::classify);
  EXPECT_FALSE(spec->output.softmax);
  EXPECT_EQ(spec->output.top, 5U);
}

TEST(ModelSpec, ReadsModelsOfNumbersAndTensorOutputs) {
  const auto spec = parse_model_spec("[input]\nshape = [4, 4]\ncolumns = 16\n[output]\nkind = \"tensor\"\n", "m.toml");
  ASSERT_TRUE(spec.ok()) << spec.error().detail;
  EXPECT_EQ(spec->input.shape, (std::vector<std::int64_t>{4, 4}));
  EXPECT_EQ(spec->input.columns, 16U);
  EXPECT_EQ(spec->output.kind, OutputKind::tensor);
}

TEST(ModelSpec, TheEngineThatDoesNothingNeedsNoInput) {
  const auto spec = parse_model_spec("[engine]\nkind = \"nothing\"\nnothing_us = 250\n", "m.toml");
  ASSERT_TRUE(spec.ok()) << spec.error().detail;
  EXPECT_TRUE(spec->nothing);
  EXPECT_EQ(spec->nothing_us, 250U);
  EXPECT_TRUE(spec->nothing_crash_on.empty());
  const auto poison = parse_model_spec(
      "[engine]\nkind = \"nothing\"\nnothing_crash_on = \"a\\\"b\"\nnothing_hang_on = \"c\"\nnothing_memory_on = \"d\"\n",
      "m.toml");
  ASSERT_TRUE(poison.ok()) << poison.error().detail;
  EXPECT_EQ(poison->nothing_crash_on, "a\"b");
  EXPECT_EQ(poison->nothing_hang_on, "c");
  EXPECT_EQ(poison->nothing_memory_on, "d");
  const auto again = parse_model_spec(to_toml(*poison), "m.toml");
  ASSERT_TRUE(again.ok()) << again.error().detail;
  EXPECT_EQ(again->nothing_crash_on, poison->nothing_crash_on);
  EXPECT_EQ(again->nothing_memory_on, poison->nothing_memory_on);
}

TEST(ModelSpec, NamesAnUnknownKeyAndTheNearestKnownOne) {
  const std::string error = error_of(image("chanels = \"RGB\""));
  EXPECT_TRUE(says(error, "chanels"));
  EXPECT_TRUE(says(error, "channels"));
  EXPECT_TRUE(says(error_of("[input]\nsize = [8, 8]\n[outputs]\ntop = 1\n"), "outputs"));
}

TEST(ModelSpec, RefusesWhatIsMissing) {
  EXPECT_TRUE(says(error_of(""), "input"));
  EXPECT_TRUE(says(error_of("[input]\nname = \"x\"\n"), "size"));
  EXPECT_TRUE(says(error_of(image("resize = \"crop\"")), "shorter"));
}

TEST(ModelSpec, RefusesWrongSizes) {
  EXPECT_TRUE(says(error_of("[input]\nsize = [8]\n"), "[width, height]"));
  EXPECT_TRUE(says(error_of("[input]\nsize = [8, 8, 3]\n"), "[width, height]"));
  EXPECT_TRUE(says(error_of("[input]\nsize = [0, 8]\n"), "size"));
  EXPECT_TRUE(says(error_of("[input]\nsize = [8, 9000]\n"), "size"));
  EXPECT_TRUE(says(error_of("[input]\nsize = \"big\"\n"), "size"));
  EXPECT_TRUE(says(error_of("[input]\nsize = [8, 8]\nshape = [16]\n"), "exclude"));
  EXPECT_TRUE(says(error_of("[input]\nshape = []\n"), "shape"));
  EXPECT_TRUE(says(error_of("[input]\nshape = [-1]\n"), "shape"));
  EXPECT_TRUE(says(error_of("[input]\nshape = [16777216, 16777216]\n"), "elements"));
  EXPECT_TRUE(says(error_of("[input]\nshape = [16]\ncolumns = 17\n"), "17"));
}

TEST(ModelSpec, RefusesWordsItDoesNotKnow) {
  EXPECT_TRUE(says(error_of(image("resize = \"pad\"")), "\"stretch\", \"crop\""));
  EXPECT_TRUE(says(error_of(image("interpolation = \"cubic\"")), "\"area\", \"linear\""));
  EXPECT_TRUE(says(error_of(image("channels = \"rgb\"")), "\"RGB\", \"BGR\", \"gray\""));
  EXPECT_TRUE(says(error_of(output("kind = \"box\"")), "\"classify\", \"tensor\""));
  EXPECT_TRUE(says(error_of(output("kind = \"sequence\"")), "not supported"));
  EXPECT_TRUE(says(error_of("[engine]\nkind = \"gpu\"\n" + image("")), "\"dnn\", \"nothing\""));
}

TEST(ModelSpec, RefusesKeysThatHaveNoMeaningThere) {
  EXPECT_TRUE(says(error_of(image("shorter = 9")), "crop"));
  EXPECT_TRUE(says(error_of(image("columns = 3")), "columns"));
  EXPECT_TRUE(says(error_of("[input]\nshape = [16]\nmean = [1.0]\n"), "mean"));
  EXPECT_TRUE(says(error_of(output("kind = \"tensor\"\ntop = 5")), "top"));
  EXPECT_TRUE(says(error_of("[engine]\nnothing_us = 5\n" + image("")), "nothing_us"));
}

TEST(ModelSpec, RefusesAWrongNumberOfChannelValues) {
  EXPECT_TRUE(says(error_of(image("mean = [1.0, 2.0]")), "3 channels"));
  EXPECT_TRUE(says(error_of(image("channels = \"gray\"\nscale = [1.0, 2.0, 3.0]")), "1 channel:"));
  EXPECT_TRUE(says(error_of(image("mean = [1.0, nan, 3.0]")), "mean"));
  EXPECT_TRUE(says(error_of(image("scale = [1.0, 0.0, 1.0]")), "0"));
}

TEST(ModelSpec, RefusesACropThatIsLargerThanTheImage) {
  EXPECT_TRUE(says(error_of(image("resize = \"crop\"\nshorter = 7")), "less than the size 8 x 8"));
}

TEST(ModelSpec, RefusesLabelsInAnotherFolderAndWrongTops) {
  EXPECT_TRUE(says(error_of(output("labels = \"../secret\"")), "labels"));
  EXPECT_TRUE(says(error_of(output("top = 0")), "top"));
  EXPECT_TRUE(says(error_of(output("top = 1001")), "top"));
  EXPECT_TRUE(says(error_of(output("softmax = 1")), "softmax"));
}

TEST(ModelSpec, RefusesWhatIsNotToml) {
  EXPECT_TRUE(says(error_of("[input\nsize = 1"), "m.toml"));
  EXPECT_FALSE(parse_model_spec(std::string(70000, '#'), "m.toml").ok());
}

TEST(ModelSpec, WhatIsWrittenIsReadBackTheSame) {
  for (const std::string& text :
       {std::string(kFull), std::string("[input]\nshape = [16]\ncolumns = 16\n[output]\nkind = \"tensor\"\nname = \"a\\\"b\"\n"),
        std::string("[engine]\nkind = \"nothing\"\nnothing_us = 9\n"), image("scale = [0.01712475, 1e-20, 3e20]")}) {
    const auto spec = parse_model_spec(text, "m.toml");
    ASSERT_TRUE(spec.ok()) << spec.error().detail;
    const std::string written = to_toml(*spec);
    const auto again = parse_model_spec(written, "written");
    ASSERT_TRUE(again.ok()) << again.error().detail << "\n" << written;
    EXPECT_EQ(to_toml(*again), written);
    EXPECT_EQ(again->input.scale, spec->input.scale);
    EXPECT_EQ(again->input.mean, spec->input.mean);
    EXPECT_EQ(again->output.name, spec->output.name);
    EXPECT_EQ(again->nothing_us, spec->nothing_us);
  }
}

TEST(ModelSpec, TheExamplesAreValid) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(IDUNNO_SOURCE_DIR "/configs/models")) {
    if (entry.path().extension() != ".toml") continue;
    std::ifstream in(entry.path());
    const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    const auto spec = parse_model_spec(text, entry.path().string());
    EXPECT_TRUE(spec.ok()) << spec.error().detail;
    ++count;
  }
  EXPECT_GE(count, 6);
}

}  // namespace
}  // namespace idunno

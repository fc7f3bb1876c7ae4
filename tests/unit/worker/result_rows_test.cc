#include "nodes/worker/result_rows.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace idunno {
namespace {

std::string classes_row(const std::vector<RankedClass>& top, const std::vector<std::string>& labels,
                        const std::string& query = "/data/a.jpg") {
  std::string rows;
  append_classes_row(rows, 7, query, top, labels);
  return rows;
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(ResultRows, AreWrittenAsTheCommandLineDocumentsThem) {
  EXPECT_EQ(classes_row({{1, 0.83119F}, {0, 0.1F}}, {"tench", "tabby"}),
            "{\"index\":7,\"query\":\"/data/a.jpg\",\"top\":[{\"label\":\"tabby\",\"index\":1,\"p\":0.8312},"
            "{\"label\":\"tench\",\"index\":0,\"p\":0.1000}]}\n");
  std::string rows;
  append_error_row(rows, 1, "/data/b.jpg", "cannot decode image");
  EXPECT_EQ(rows, "{\"index\":1,\"query\":\"/data/b.jpg\",\"error\":\"cannot decode image\"}\n");
}

TEST(ResultRows, WithoutLabelsALabelIsTheClassNumber) {
  EXPECT_EQ(classes_row({{281, 1.0F}}, {}),
            "{\"index\":7,\"query\":\"/data/a.jpg\",\"top\":[{\"label\":\"281\",\"index\":281,\"p\":1.0000}]}\n");
  EXPECT_EQ(classes_row({}, {}), "{\"index\":7,\"query\":\"/data/a.jpg\",\"top\":[]}\n");
}

TEST(ResultRows, TinyNegativeValuesHaveNoSign) {
  EXPECT_NE(classes_row({{0, -0.00001F}}, {}).find("\"p\":0.0000}"), std::string::npos);
  EXPECT_NE(classes_row({{0, -12.5F}}, {}).find("\"p\":-12.5000}"), std::string::npos);
}

TEST(ResultRows, TensorsGiveShapeAndData) {
  const std::vector<float> data{1.0F, -2.5F, 1e-10F, 123456.7F, -0.0F, 0.333333343F};
  std::string rows;
  append_tensor_row(rows, 2, "q", {2, 3}, data.data(), data.size());
  EXPECT_EQ(rows, "{\"index\":2,\"query\":\"q\",\"shape\":[2,3],\"data\":[1,-2.5,1e-10,123457,0,0.333333]}\n");
}

TEST(ResultRows, EscapeWhateverAFileIsCalled) {
  EXPECT_EQ(json_string("a\"b\\c\n\x01"), "\"a\\\"b\\\\c\\u000a\\u0001\"");
  EXPECT_EQ(json_string("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88"), "\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x88\"");
}

TEST(ResultRows, BytesThatAreNotUtf8AreReplaced) {
  const std::string bad = "\xef\xbf\xbd";
  EXPECT_EQ(json_string("a\xff"), "\"a" + bad + "\"");
  EXPECT_EQ(json_string("\xc3"), "\"" + bad + "\"");                      // cut off
  EXPECT_EQ(json_string("\xc0\x80"), "\"" + bad + bad + "\"");            // overlong
  EXPECT_EQ(json_string("\xed\xa0\x80"), "\"" + bad + bad + bad + "\"");  // surrogate
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::string text(2, static_cast<char>(byte));
    EXPECT_FALSE(nlohmann::json::parse(json_string(text), nullptr, false).is_discarded()) << byte;
  }
}

TEST(TopClasses, AreSortedWithTiesByIndex) {
  const std::vector<float> values{0.1F, 0.4F, 0.2F, 0.4F, 0.4F};
  EXPECT_EQ(top_classes(values.data(), values.size(), 3), (std::vector<RankedClass>{{1, 0.4F}, {3, 0.4F}, {4, 0.4F}}));
  EXPECT_EQ(top_classes(values.data(), values.size(), 99).size(), 5U);
  EXPECT_EQ(top_classes(values.data(), values.size(), 4)[3], (RankedClass{2, 0.2F}));
}

TEST(Softmax, SumsToOneAndDoesNotOverflow) {
  std::vector<float> values{1000.0F, 1000.0F, 999.0F};
  softmax(values.data(), values.size());
  EXPECT_NEAR(values[0], 0.42232F, 1e-5);
  EXPECT_NEAR(values[2], 0.15536F, 1e-5);
  EXPECT_NEAR(values[0] + values[1] + values[2], 1.0F, 1e-6);
}

TEST(AllFinite, FindsNanAndInfinity) {
  std::vector<float> values{1.0F, 2.0F};
  EXPECT_TRUE(all_finite(values.data(), 2));
  values[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(all_finite(values.data(), 2));
  values[1] = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(all_finite(values.data(), 2));
}

}  // namespace
}  // namespace idunno

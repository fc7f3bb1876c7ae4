#include "cli/result_writer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

namespace idunno::cli {
namespace {

std::string written(ResultFormat format, std::uint64_t queries, const std::vector<std::string>& blocks) {
  std::string out;
  auto writer = make_result_writer(format, queries, [&](std::string_view bytes) {
    out += bytes;
    return Status();
  });
  for (const std::string& block : blocks) {
    if (auto status = writer->rows(block); !status) return "refused: " + status.error().detail;
  }
  if (auto status = writer->finish(); !status) return "refused: " + status.error().detail;
  return out;
}

TEST(ResultFormats, GoByTheName) {
  EXPECT_EQ(result_format_of("a.jsonl").value(), ResultFormat::jsonl);
  EXPECT_EQ(result_format_of("a.csv").value(), ResultFormat::csv);
  EXPECT_EQ(result_format_of("dir.csv/a.npy").value(), ResultFormat::npy);
  EXPECT_EQ(result_format_of("a.txt").error().code, Errc::invalid);
}

TEST(ResultRows, AsJsonLinesAreAsStored) {
  const std::string rows = "{\"index\":0,\"query\":\"/a\",\"top\":[]}\n";
  EXPECT_EQ(written(ResultFormat::jsonl, 2, {rows, rows}), rows + rows);
}

TEST(ResultRows, AsCsvHaveAColumnForEachLabel) {
  EXPECT_EQ(
      written(ResultFormat::csv, 2,
              {"{\"index\":0,\"query\":\"/b,c.jpg\",\"error\":\"cannot decode image\"}\n"
               "{\"index\":1,\"query\":\"/"
               "a.jpg\",\"top\":[{\"label\":\"tabby\",\"index\":281,\"p\":0.8312},{\"label\":\"x\",\"index\":1,\"p\":0.1}]}\n"}),
      "index,query,error,label_1,class_1,p_1,label_2,class_2,p_2\n"
      "0,\"/b,c.jpg\",cannot decode image,,,,,,\n"
      "1,/a.jpg,,tabby,281,0.8312,x,1,0.1\n");
}

TEST(ResultRows, AsCsvOfTensorsHaveAColumnForEachValue) {
  EXPECT_EQ(written(ResultFormat::csv, 1, {"{\"index\":0,\"query\":\"/a#0\",\"shape\":[2],\"data\":[1.5,-2]}\n"}),
            "index,query,error,value_1,value_2\n0,/a#0,,1.5,-2\n");
}

TEST(ResultRows, AsNumpyAreOneArrayWithNanForErrors) {
  const std::string out = written(ResultFormat::npy, 3,
                                  {"{\"index\":0,\"query\":\"a\",\"error\":\"bad\"}\n",
                                   "{\"index\":1,\"query\":\"b\",\"shape\":[1,2],\"data\":[1.5,2]}\n{\"index\":2,\"query\":\"c\","
                                   "\"shape\":[1,2],\"data\":[3,4]}\n"});
  ASSERT_EQ(out.compare(0, 8, std::string("\x93NUMPY\x01\x00", 8)), 0) << out;
  const std::size_t header = static_cast<unsigned char>(out[8]) + 256U * static_cast<unsigned char>(out[9]);
  EXPECT_EQ((10 + header) % 64, 0U);
  EXPECT_NE(out.find("'descr': '<f4', 'fortran_order': False, 'shape': (3, 1, 2,)"), std::string::npos) << out;
  ASSERT_EQ(out.size(), 10 + header + 6 * sizeof(float));
  float values[6];
  std::memcpy(values, out.data() + 10 + header, sizeof values);
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_TRUE(std::isnan(values[1]));
  EXPECT_EQ(values[2], 1.5F);
  EXPECT_EQ(values[5], 4.0F);
}

TEST(ResultRows, AsNumpyAreRefusedForLabelsAndForIncompleteJobs) {
  EXPECT_NE(written(ResultFormat::npy, 1, {"{\"index\":0,\"query\":\"a\",\"top\":[]}\n"}).find("tensor"), std::string::npos);
  EXPECT_NE(written(ResultFormat::npy, 2, {"{\"index\":0,\"query\":\"a\",\"shape\":[1],\"data\":[1]}\n"}).find("1 of 2"),
            std::string::npos);
}

TEST(AtomicFiles, AppearOnlyWhenComplete) {
  const auto file = std::filesystem::path(::testing::TempDir()) / "idunno-atomic.csv";
  std::filesystem::remove(file);
  {
    auto out = AtomicFile::create(file);
    ASSERT_TRUE(out.ok());
    ASSERT_TRUE((*out)->write("half").ok());
    EXPECT_FALSE(std::filesystem::exists(file));
  }
  EXPECT_FALSE(std::filesystem::exists(file));
  auto out = AtomicFile::create(file);
  ASSERT_TRUE(out.ok());
  ASSERT_TRUE((*out)->write("whole").ok());
  ASSERT_TRUE((*out)->commit().ok());
  std::ifstream in(file);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "whole");
  std::filesystem::remove(file);
}

}  // namespace
}  // namespace idunno::cli

#include "storage/sdfs/local_files.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace idunno {
namespace {

namespace fs = std::filesystem;

class LocalFiles : public testing::Test {
 protected:
  void SetUp() override {
    char pattern[] = "/tmp/idunno-local-files-XXXXXX";
    ASSERT_NE(mkdtemp(pattern), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string in(const std::string& name) const { return (folder_ / name).string(); }
  Bytes content(const std::string& name) const {
    std::ifstream file(folder_ / name, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(file), {});
  }
  std::size_t entries() const {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::recursive_directory_iterator(folder_)) ++count;
    return count;
  }
  fs::path folder_;
};

TEST_F(LocalFiles, AreReadInPieces) {
  std::ofstream(in("a"), std::ios::binary) << "0123456789";
  auto reader = LocalFileReader::open(in("a"));
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader->next(4)->view(), "0123");
  EXPECT_EQ(reader->next(4)->view(), "4567");
  EXPECT_FALSE(reader->at_end());
  EXPECT_EQ(reader->next(4)->view(), "89");
  EXPECT_TRUE(reader->at_end());
}

TEST_F(LocalFiles, ThatCannotBeReadAreNamed) {
  EXPECT_EQ(check_readable_file(in("none")).error().code, Errc::not_found);
  EXPECT_NE(check_readable_file(in("none")).error().detail.find(in("none")), std::string::npos);
  EXPECT_EQ(check_readable_file(folder_.string()).error().code, Errc::invalid);
  EXPECT_NE(check_readable_file(folder_.string()).error().detail.find("-r"), std::string::npos);
  EXPECT_EQ(check_readable_file("/dev/null").error().code, Errc::invalid);
  EXPECT_EQ(LocalFileReader::open(in("none")).error().code, Errc::not_found);
}

TEST_F(LocalFiles, AppearTogetherWhenFinished) {
  LocalFileBatch batch;
  ASSERT_EQ(batch.add(in("x/y/a")).value(), 0U);
  ASSERT_EQ(batch.add(in("x/b")).value(), 1U);
  ASSERT_TRUE(batch.write(0, 3, "def").ok());
  ASSERT_TRUE(batch.write(1, 0, "B").ok());
  ASSERT_TRUE(batch.write(0, 0, "abc").ok());
  EXPECT_FALSE(fs::exists(in("x/y/a")));
  ASSERT_TRUE(batch.finish().ok());
  EXPECT_EQ(content("x/y/a"), "abcdef");
  EXPECT_EQ(content("x/b"), "B");
  EXPECT_EQ(entries(), 4U);
}

TEST_F(LocalFiles, LeaveNothingBehindWhenNotFinished) {
  std::ofstream(in("old")) << "old";
  {
    LocalFileBatch batch;
    ASSERT_TRUE(batch.add(in("x/y/a")).ok());
    ASSERT_TRUE(batch.add(in("old")).ok());
    ASSERT_TRUE(batch.write(1, 0, "new").ok());
  }
  EXPECT_EQ(content("old"), "old");
  EXPECT_EQ(entries(), 1U);
}

TEST_F(LocalFiles, DoNotReplaceFolders) {
  LocalFileBatch batch;
  EXPECT_EQ(batch.add(folder_.string()).error().code, Errc::invalid);
  std::ofstream(in("file")) << "x";
  EXPECT_FALSE(batch.add(in("file/a")).ok());
}

}  // namespace
}  // namespace idunno

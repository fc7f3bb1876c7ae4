#include "storage/sdfs/dataset_formats.h"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "tests/unit/sdfs/memory_source.h"

namespace idunno {
namespace {

Result<DatasetIndex> index_with(const DatasetFormat& format, const std::string& path, const Bytes& bytes) {
  MemorySource source(bytes);
  DatasetIndex index;
  index.path = path;
  if (auto status = format.index(source, path, index); !status) return status.error();
  return index;
}

/// What the items of an index consist of, by query.
std::map<std::string, Bytes> contents(const DatasetIndex& index, const Bytes& bytes) {
  std::map<std::string, Bytes> all;
  for (const DatasetItem& item : index.items) all[item.query] = bytes.substr(item.offset, item.length);
  return all;
}

const DatasetFormat* recogniser(const std::string& path, ByteView head) {
  for (const auto& format : dataset_formats()) {
    if (format->recognises(path, head)) return format.get();
  }
  return nullptr;
}

// ---- images ---------------------------------------------------------------------------------------------------------

TEST(ImageFolder, TakesJpegAndPngWhateverTheCase) {
  for (const std::string yes : {"/a.jpg", "/a.JPEG", "/x/b.Png", "/a.b.jpeg"}) EXPECT_TRUE(has_image_name(yes)) << yes;
  for (const std::string no : {"/a", "/a.txt", "/jpg", "/a.jpg/b", "/._a.jpg", "/a.jpgx"}) EXPECT_FALSE(has_image_name(no)) << no;
}

TEST(ImageFolder, ListsImagesByNameAndSkipsTheRest) {
  DatasetIndex index;
  index.path = "/d";
  const auto file = [](const std::string& path, std::uint64_t size, bool open = false) {
    return FileVersion{path, 1, size, 0, open, {}};
  };
  ASSERT_TRUE(
      index_images({file("/d/b.png", 3), file("/d/labels.csv", 9), file("/d/a.jpg", 5), file("/d/o.jpg", 5, true)}, index).ok());
  ASSERT_EQ(index.items.size(), 2U);
  EXPECT_EQ(index.items[0].query, "/d/a.jpg");
  EXPECT_EQ(index.items[0].length, 5U);
  EXPECT_EQ(index.files[index.items[1].file].path, "/d/b.png");
  EXPECT_EQ(index.format, "images");
}

TEST(ImageFolder, IsRefusedWithoutAnImage) {
  DatasetIndex index;
  index.path = "/d";
  const Status status = index_images({FileVersion{"/d/x.txt", 1, 1, 0, false, {}}}, index);
  EXPECT_EQ(status.error().code, Errc::invalid);
  EXPECT_NE(status.error().detail.find("holds no JPEG or PNG images"), std::string::npos);
}

// ---- tar ------------------------------------------------------------------------------------------------------------

struct Member {
  std::string name;
  Bytes bytes;
  mode_t type = AE_IFREG;
};

Bytes make_tar(const std::vector<Member>& members, int (*format)(archive*)) {
  Bytes out;
  archive* writer = archive_write_new();
  format(writer);
  archive_write_set_bytes_per_block(writer, 10240);
  archive_write_open2(
      writer, &out, nullptr,
      [](archive*, void* client, const void* data, size_t length) -> la_ssize_t {
        static_cast<Bytes*>(client)->append(static_cast<const char*>(data), length);
        return static_cast<la_ssize_t>(length);
      },
      nullptr, nullptr);
  for (const Member& member : members) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.name.c_str());
    archive_entry_set_filetype(entry, member.type);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, static_cast<la_int64_t>(member.bytes.size()));
    archive_entry_set_mtime(entry, 1000000000, 123456789);  // pax writes an extra header for the fraction
    archive_write_header(writer, entry);
    archive_write_data(writer, member.bytes.data(), member.bytes.size());
    archive_entry_free(entry);
  }
  archive_write_close(writer);
  archive_write_free(writer);
  return out;
}

TEST(TarFormat, FindsTheBytesOfEachImageInEveryDialect) {
  const std::string long_name = "./" + std::string(120, 'l') + "/" + std::string(120, 'm') + ".jpg";
  const std::vector<Member> members{{"z/2.png", Bytes(70000, 'p')}, {"a dir/", "", AE_IFDIR},    {"a dir/1.jpg", "one"},
                                    {"notes.txt", Bytes(513, 't')}, {"empty.jpg", ""},           {long_name, Bytes(512, 'q')},
                                    {"a dir/1.jpg", "newer"},       {"last.JPEG", Bytes(1, 'x')}};
  for (const auto format : {archive_write_set_format_ustar, archive_write_set_format_pax, archive_write_set_format_gnutar,
                            archive_write_set_format_pax_restricted}) {
    const bool ustar = format == archive_write_set_format_ustar;  // 100 + 155 bytes of name are too few for one of them
    std::vector<Member> mine = members;
    if (ustar) mine.erase(mine.begin() + 5);
    const Bytes tar = make_tar(mine, format);
    const DatasetFormat* recognised = recogniser("/d/set", ByteView(tar).substr(0, 512));
    ASSERT_NE(recognised, nullptr);
    EXPECT_EQ(recognised->name(), "tar");
    const auto index = index_with(*recognised, "/d/set.tar", tar);
    ASSERT_TRUE(index.ok()) << index.error().detail;
    std::map<std::string, Bytes> expected{{"/d/set.tar#z/2.png", Bytes(70000, 'p')},
                                          {"/d/set.tar#a dir/1.jpg", "newer"},
                                          {"/d/set.tar#empty.jpg", ""},
                                          {"/d/set.tar#last.JPEG", "x"}};
    if (!ustar) expected["/d/set.tar#" + long_name.substr(2)] = Bytes(512, 'q');
    EXPECT_EQ(contents(*index, tar), expected);
    EXPECT_TRUE(std::is_sorted(index->items.begin(), index->items.end(),
                               [](const DatasetItem& a, const DatasetItem& b) { return a.query < b.query; }));
  }
}

TEST(TarFormat, RefusesTruncatedDamagedAndImageLessFiles) {
  const auto format = make_tar_format();
  const Bytes tar = make_tar({{"a.jpg", Bytes(5000, 'a')}, {"b.jpg", Bytes(5000, 'b')}}, archive_write_set_format_ustar);
  for (const std::size_t size : {std::size_t{100}, std::size_t{600}, std::size_t{3000}, std::size_t{5900}, std::size_t{8000}}) {
    const auto index = index_with(*format, "/x.tar", tar.substr(0, size));
    ASSERT_FALSE(index.ok()) << size;
    EXPECT_EQ(index.error().code, Errc::invalid);
    EXPECT_NE(index.error().detail.find("/x.tar"), std::string::npos);
  }
  EXPECT_FALSE(index_with(*format, "/x.tar", Bytes(10240, 'n')).ok());
  EXPECT_FALSE(index_with(*format, "/x.tar", Bytes(10240, '\0')).ok());
  EXPECT_FALSE(index_with(*format, "/x.tar", "").ok());
  EXPECT_FALSE(index_with(*format, "/x.tar", make_tar({{"a.txt", "x"}}, archive_write_set_format_ustar)).ok());
  EXPECT_FALSE(index_with(*format, "/x.tar", make_tar({{"../a.jpg", "x"}}, archive_write_set_format_ustar)).ok());
}

// ---- IDX ------------------------------------------------------------------------------------------------------------

Bytes make_idx(std::uint32_t magic, std::vector<std::uint32_t> dimensions, std::size_t data) {
  Bytes out;
  const auto number = [&](std::uint32_t value) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
  };
  number(magic);
  for (const std::uint32_t dimension : dimensions) number(dimension);
  for (std::size_t i = 0; i < data; ++i) out.push_back(static_cast<char>(i));
  return out;
}

TEST(IdxFormat, GivesOneItemAnImageInFileOrder) {
  const Bytes idx = make_idx(0x803, {12, 2, 3}, 72);
  const DatasetFormat* format = recogniser("/mnist/t10k-images-idx3-ubyte", idx);
  ASSERT_NE(format, nullptr);
  EXPECT_EQ(format->name(), "idx");
  const auto index = index_with(*format, "/m", idx);
  ASSERT_TRUE(index.ok()) << index.error().detail;
  ASSERT_EQ(index->items.size(), 12U);
  EXPECT_EQ(index->kind, ItemKind::pixels);
  EXPECT_EQ(index->item_shape, (std::vector<std::uint32_t>{2, 3}));
  EXPECT_EQ(index->items[10].query, "/m#10");
  EXPECT_EQ(contents(*index, idx).at("/m#11"), idx.substr(16 + 66, 6));
}

TEST(IdxFormat, RefusesWhatIsNotImagesOrNotWhole) {
  const auto format = make_idx_format();
  const struct {
    Bytes bytes;
    const char* says;
  } cases[] = {
      {make_idx(0x801, {10}, 10), "labels"},
      {make_idx(0x801, {}, 0), "labels"},
      {make_idx(0x803, {2, 2}, 0), "truncated"},
      {make_idx(0x803, {2, 2, 2}, 7), "truncated"},
      {make_idx(0x803, {2, 2, 2}, 9), "too many"},
      {make_idx(0x803, {0, 2, 2}, 0), "no images"},
      {make_idx(0x803, {1, 0, 2}, 0), "0 x 2"},
      {make_idx(0x803, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, 5), "pixels"},
      {make_idx(0x803, {0xFFFFFFFF, 16384, 16384}, 5), "more than"},
      {make_idx(0xD03, {1, 1, 1}, 4), "unsigned bytes"},
      {"", "truncated"},
  };
  for (const auto& c : cases) {
    const auto index = index_with(*format, "/m.idx", c.bytes);
    ASSERT_FALSE(index.ok()) << c.says;
    EXPECT_EQ(index.error().code, Errc::invalid);
    EXPECT_NE(index.error().detail.find(c.says), std::string::npos) << index.error().detail;
  }
}

// ---- CSV ------------------------------------------------------------------------------------------------------------

TEST(CsvFormat, GivesOneItemALine) {
  const struct {
    Bytes csv;
    std::map<std::string, Bytes> items;
  } cases[] = {
      {"1,2\n3,4\n", {{"/c#0", "1,2"}, {"/c#1", "3,4"}}},
      {"a,b\n1,2\n", {{"/c#0", "1,2"}}},
      {"1,b\n1,2", {{"/c#0", "1,2"}}},
      {"\r\n x,y\r\n\r\n1.5e3, -2\r\n  \r\n3,4\r\n", {{"/c#0", "1.5e3, -2"}, {"/c#1", "3,4"}}},
      {"\xEF\xBB\xBF"
       "7,8\n9,10\n",
       {{"/c#0", "7,8"}, {"/c#1", "9,10"}}},
      {"1\nnot a number\n", {{"/c#0", "1"}, {"/c#1", "not a number"}}},
  };
  const auto format = make_csv_format();
  for (const auto& c : cases) {
    const auto index = index_with(*format, "/c", c.csv);
    ASSERT_TRUE(index.ok()) << index.error().detail;
    EXPECT_EQ(contents(*index, c.csv), c.items) << c.csv;
    EXPECT_EQ(index->kind, ItemKind::numbers);
  }
}

TEST(CsvFormat, KeepsOffsetsRightAcrossReads) {
  Bytes csv = "h1,h2\n";
  for (int i = 0; i < 300000; ++i) csv += std::to_string(i) + "," + std::to_string(i * 2) + (i % 3 == 0 ? "\r\n" : "\n");
  const auto index = index_with(*make_csv_format(), "/c", csv);
  ASSERT_TRUE(index.ok());
  ASSERT_EQ(index->items.size(), 300000U);
  for (std::size_t i = 0; i < index->items.size(); i += 997) {
    EXPECT_EQ(csv.substr(index->items[i].offset, index->items[i].length), std::to_string(i) + "," + std::to_string(i * 2));
  }
}

TEST(CsvFormat, RefusesEmptyFilesAndEndlessLines) {
  const auto format = make_csv_format();
  for (const Bytes& csv :
       {Bytes(""), Bytes("\n\n"), Bytes("a,b\n"), Bytes((1U << 20U) + 1, '1'), "1\n" + Bytes(3U << 20U, '1')}) {
    EXPECT_FALSE(index_with(*format, "/c", csv).ok());
  }
  EXPECT_TRUE(index_with(*format, "/c", Bytes(1U << 20U, '1') + "\n").ok());
}

TEST(DatasetFormats, DoNotRecogniseOtherFiles) {
  EXPECT_EQ(recogniser("/a.txt", "hello"), nullptr);
  EXPECT_EQ(recogniser("/a", ""), nullptr);
  EXPECT_EQ(recogniser("/a.onnx", ByteView("\x08\x03\x12\x07", 4)), nullptr);
}

}  // namespace
}  // namespace idunno

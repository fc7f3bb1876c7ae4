#include "cli/image_set.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <iterator>

namespace idunno::cli {
namespace {

std::uint32_t big_endian(const Bytes& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(bytes.at(at + i));
  return value;
}

/// A decoder of just what the encoder writes: checks every CRC, returns the pixels.
Bytes decode(const Bytes& png, std::uint32_t& width, std::uint32_t& height) {
  EXPECT_EQ(png.substr(0, 8), Bytes("\x89PNG\r\n\x1a\n", 8));
  Bytes packed;
  bool ended = false;
  for (std::size_t at = 8; at < png.size();) {
    const std::uint32_t length = big_endian(png, at);
    const Bytes type = png.substr(at + 4, 4);
    const Bytes data = png.substr(at + 8, length);
    const Bytes covered = png.substr(at + 4, 4 + std::size_t{length});
    EXPECT_EQ(crc32(0, reinterpret_cast<const Bytef*>(covered.data()), static_cast<uInt>(covered.size())),
              big_endian(png, at + 8 + length))
        << type;
    if (type == "IHDR") {
      width = big_endian(data, 0);
      height = big_endian(data, 4);
      EXPECT_EQ(data.substr(8), Bytes("\x08\x02\x00\x00\x00", 5));
    }
    if (type == "IDAT") packed += data;
    ended = type == "IEND";
    at += 12 + length;
  }
  EXPECT_TRUE(ended);
  const std::size_t stride = std::size_t{width} * 3;
  Bytes raw((stride + 1) * height, '\0');
  uLongf size = raw.size();
  EXPECT_EQ(uncompress(reinterpret_cast<Bytef*>(raw.data()), &size, reinterpret_cast<const Bytef*>(packed.data()), packed.size()),
            Z_OK);
  EXPECT_EQ(size, raw.size());
  Bytes pixels;
  for (std::uint32_t y = 0; y < height; ++y) {
    const std::size_t row = y * (stride + 1);
    EXPECT_EQ(raw[row], '\x01');
    for (std::size_t x = 0; x < stride; ++x) {
      const auto left = x < 3 ? 0U : static_cast<unsigned char>(pixels[pixels.size() - 3]);
      pixels += static_cast<char>(static_cast<unsigned char>(static_cast<unsigned char>(raw[row + 1 + x]) + left));
    }
  }
  return pixels;
}

TEST(Png, DecodesToThePixelsThatWereEncoded) {
  Bytes pixels;
  for (unsigned i = 0; i < 7 * 5 * 3; ++i) pixels += static_cast<char>(static_cast<unsigned char>(i * 37 % 256));
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  EXPECT_EQ(decode(encode_png(7, 5, pixels), width, height), pixels);
  EXPECT_EQ(width, 7U);
  EXPECT_EQ(height, 5U);
}

TEST(Images, AreTheSameForTheSameSeedOnly) {
  EXPECT_EQ(draw_image(1, 0, 32), draw_image(1, 0, 32));
  EXPECT_NE(draw_image(1, 0, 32), draw_image(1, 1, 32));
  EXPECT_NE(draw_image(1, 0, 32), draw_image(2, 0, 32));
}

TEST(Images, OfOnePixelAreValid) {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  EXPECT_EQ(decode(draw_image(3, 0, 1), width, height).size(), 3U);
}

TEST(Images, AreWrittenUnderSortedNames) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / "idunno-images";
  ASSERT_TRUE(make_images(folder, 2, 16, 1).ok());
  std::ifstream in(folder / "image-00001.png", std::ios::binary);
  const Bytes written{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  EXPECT_EQ(written, draw_image(1, 1, 16));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace idunno::cli

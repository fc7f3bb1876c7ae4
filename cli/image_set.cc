#include "cli/image_set.h"

#include <fmt/core.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "bus/base/random.h"

namespace idunno::cli {

namespace {

void append_big_endian(Bytes& out, std::uint32_t value) {
  for (unsigned shift = 32; shift > 0; shift -= 8) out += static_cast<char>((value >> (shift - 8)) & 0xFFU);
}

/// PNG specification, 5.3: length, type, data, CRC of type and data.
void append_chunk(Bytes& out, const char* type, const Bytes& data) {
  append_big_endian(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t from = out.size();
  out.append(type, 4);
  out += data;
  const uLong crc = crc32(0, reinterpret_cast<const Bytef*>(out.data() + from), static_cast<uInt>(out.size() - from));
  append_big_endian(out, static_cast<std::uint32_t>(crc));
}

Bytes deflated(const Bytes& raw) {
  uLongf size = compressBound(static_cast<uLong>(raw.size()));
  Bytes out(size, '\0');
  // The bound is large enough for every input, so the call can fail only for want of memory.
  const int error = compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(raw.data()),
                              static_cast<uLong>(raw.size()), Z_BEST_SPEED);
  ASSERT(error == Z_OK);
  out.resize(size);
  return out;
}

}  // namespace

Bytes encode_png(std::uint32_t width, std::uint32_t height, const Bytes& pixels) {
  const std::size_t stride = std::size_t{width} * 3;
  ASSERT(pixels.size() == stride * height);
  Bytes raw;
  raw.reserve((stride + 1) * height);
  for (std::uint32_t y = 0; y < height; ++y) {
    const char* row = pixels.data() + y * stride;
    raw += '\x01';  // filter "Sub": the difference from the pixel to the left, which compresses gradients well
    for (std::size_t x = 0; x < stride; ++x) {
      const auto left = x < 3 ? 0U : static_cast<unsigned char>(row[x - 3]);
      raw += static_cast<char>(static_cast<unsigned char>(static_cast<unsigned char>(row[x]) - left));
    }
  }
  Bytes header;
  append_big_endian(header, width);
  append_big_endian(header, height);
  header += '\x08';                // bits a channel
  header += '\x02';                // RGB
  header += std::string(3, '\0');  // deflate, filters by row, not interlaced
  Bytes out("\x89PNG\r\n\x1a\n", 8);
  append_chunk(out, "IHDR", header);
  append_chunk(out, "IDAT", deflated(raw));
  append_chunk(out, "IEND", "");
  return out;
}

Bytes draw_image(std::uint64_t seed, std::uint64_t index, std::uint32_t side) {
  // Mixed so that neighbouring seeds and indexes have nothing in common.
  Random random(Random(seed).next() ^ (index * 0xD1B54A32D192ED03ULL));
  struct Shape {
    std::uint64_t x, y, radius;
    unsigned colour[3];
    bool round;
  };
  std::vector<Shape> shapes(3 + random.below(5));
  for (Shape& shape : shapes) {
    shape.x = random.below(side);
    shape.y = random.below(side);
    shape.radius = 1 + random.below(std::max(side / 3, 1U));
    for (unsigned& channel : shape.colour) channel = static_cast<unsigned>(random.below(256));
    shape.round = random.chance(0.5);
  }
  unsigned corner[4][3];
  for (auto& colour : corner) {
    for (unsigned& channel : colour) channel = static_cast<unsigned>(random.below(256));
  }
  static constexpr unsigned kNoise = 8;
  const std::uint64_t last = std::max<std::uint64_t>(side - 1, 1);
  Bytes pixels;
  pixels.reserve(std::size_t{side} * side * 3);
  for (std::uint64_t y = 0; y < side; ++y) {
    for (std::uint64_t x = 0; x < side; ++x) {
      const Shape* inside = nullptr;
      for (const Shape& shape : shapes) {
        const std::uint64_t dx = x > shape.x ? x - shape.x : shape.x - x;
        const std::uint64_t dy = y > shape.y ? y - shape.y : shape.y - y;
        if (shape.round ? dx * dx + dy * dy <= shape.radius * shape.radius : std::max(dx, dy) <= shape.radius) inside = &shape;
      }
      std::uint64_t noise = random.next();
      for (std::size_t c = 0; c < 3; ++c) {
        const std::uint64_t top = corner[0][c] * (last - x) + corner[1][c] * x;
        const std::uint64_t bottom = corner[2][c] * (last - x) + corner[3][c] * x;
        std::uint64_t value = inside != nullptr ? inside->colour[c] : (top * (last - y) + bottom * y) / (last * last);
        value = std::min<std::uint64_t>(value + noise % kNoise, 255);
        noise >>= 8U;
        pixels += static_cast<char>(static_cast<unsigned char>(value));
      }
    }
  }
  return encode_png(side, side, pixels);
}

Status make_images(const std::filesystem::path& folder, std::uint64_t count, std::uint32_t side, std::uint64_t seed) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Error{Errc::invalid, fmt::format("making the folder {}: {}", folder.string(), error.message())};
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto file = folder / fmt::format("image-{:05}.png", i);
    const Bytes bytes = draw_image(seed, i, side);
    std::ofstream out(file, std::ios::binary | std::ios::trunc);
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.flush();
    if (!out) return Error{Errc::full, fmt::format("writing {}: {}", file.string(), std::strerror(errno))};
  }
  return {};
}

}  // namespace idunno::cli

#pragma once
/// Made-up photographs for benchmarks and the demo, so that neither needs a download: the same seed gives the same bytes. Pure
/// but for `make_images`.

#include <cstdint>
#include <filesystem>
#include <string>

#include "bus/base/bytes.h"
#include "bus/base/result.h"

namespace idunno::cli {

inline constexpr std::uint32_t kImageSideMax = 4096;

/// A PNG file (8-bit RGB, zlib-compressed) of `pixels`: width x height x 3 bytes, rows from the top.
[[nodiscard]] Bytes encode_png(std::uint32_t width, std::uint32_t height, const Bytes& pixels);

/// Image `index` of a set: colour gradients, some shapes and a little noise, `side` x `side`.
[[nodiscard]] Bytes draw_image(std::uint64_t seed, std::uint64_t index, std::uint32_t side);

/// Writes image-00000.png, ... into `folder`, which is made when it is not there.
[[nodiscard]] Status make_images(const std::filesystem::path& folder, std::uint64_t count, std::uint32_t side,
                                 std::uint64_t seed);

}  // namespace idunno::cli

#pragma once
/// From the bytes of one query to the float32 numbers of one item of the network's input. Thread-safe: no state. Errors are
/// short sentences that stand in the query's row; no exception of OpenCV leaves.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "storage/models/model_spec.h"

namespace idunno {

inline constexpr std::uint64_t kImagePixelsMax = 1U << 25U;  ///< 33,554,432, as OPENCV_IO_MAX_IMAGE_PIXELS in the environment
inline constexpr std::uint32_t kImageSideMax = 16384;

struct ImageSize {
  std::uint32_t width = 0;
  std::uint32_t height = 0;
  bool operator==(const ImageSize&) const = default;
};

/// Reads magic and header of a JPEG or PNG, without decoding: a bomb or a file of another kind is refused before any decoder sees
/// it.
[[nodiscard]] Result<ImageSize> inspect_image(ByteView bytes);

/// What resize = "crop" does to an image: it is brought to `scaled`, then `target` pixels are cut out at (x, y). Half pixels
/// round away from zero for `scaled` and towards zero for (x, y).
struct CropGeometry {
  ImageSize scaled;
  std::uint32_t x = 0;
  std::uint32_t y = 0;
  bool operator==(const CropGeometry&) const = default;
};
[[nodiscard]] CropGeometry crop_geometry(ImageSize image, std::uint32_t shorter, ImageSize target);

/// Number of floats of one item.
[[nodiscard]] std::size_t item_elements(const ModelSpec::Input& input);
/// Shape of a batch: NCHW for images, [batch, shape...] for numbers.
[[nodiscard]] std::vector<int> blob_shape(const ModelSpec::Input& input, std::uint32_t batch);

/// Each writes item_elements() floats to `out`, channel planes one after the other; on an error `out` may be half written.
/// Orientation in EXIF is ignored: a network was trained on pixels as they are stored.
[[nodiscard]] Status image_to_floats(ByteView bytes, const ModelSpec::Input& input, float* out);
/// 8-bit gray rows, `shape` = {height, width}.
[[nodiscard]] Status pixels_to_floats(ByteView bytes, const std::vector<std::uint32_t>& shape, const ModelSpec::Input& input,
                                      float* out);
/// One line of comma-separated numbers; white space around a number is allowed.
[[nodiscard]] Status numbers_to_floats(ByteView line, const ModelSpec::Input& input, float* out);

}  // namespace idunno

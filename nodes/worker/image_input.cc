#include "nodes/worker/image_input.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <optional>

namespace idunno {
namespace {

Error undecodable(const std::string& why) { return Error{Errc::invalid, "cannot decode image: " + why}; }

std::uint32_t big_endian(ByteView bytes, std::size_t offset, std::size_t count) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < count; ++i) value = (value << 8U) | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

constexpr ByteView kPngMagic("\x89PNG\r\n\x1a\n", 8);
constexpr ByteView kJpegMagic("\xff\xd8\xff", 3);
constexpr ByteView kJpegEnd("\xff\xd9", 2);

std::optional<ImageSize> png_size(ByteView bytes) {
  constexpr std::size_t kHeaderEnd = 24;  // magic, length and "IHDR", width, height
  if (bytes.size() < kHeaderEnd || bytes.substr(12, 4) != "IHDR") return std::nullopt;
  return ImageSize{big_endian(bytes, 16, 4), big_endian(bytes, 20, 4)};
}

/// Start-of-frame markers: C0..CF but for C4 (Huffman tables), C8 (reserved) and CC (arithmetic coding).
bool is_frame(unsigned marker) { return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc; }

/// The size in the frame header. Also looks for the end marker after the pixels: libjpeg fills what is missing with gray and is
/// content, so a download that broke off would be classified as if it were whole.
std::optional<ImageSize> jpeg_size(ByteView bytes, bool& cut_off) {
  std::optional<ImageSize> size;
  std::size_t at = 2;
  while (at + 4 <= bytes.size()) {
    if (static_cast<unsigned char>(bytes[at]) != 0xff) return std::nullopt;
    const unsigned marker = static_cast<unsigned char>(bytes[at + 1]);
    if (marker == 0xff) {  // fill byte
      ++at;
      continue;
    }
    if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {  // markers without a segment
      at += 2;
      continue;
    }
    const std::size_t length = big_endian(bytes, at + 2, 2);
    if (length < 2) return std::nullopt;
    if (is_frame(marker)) {
      if (at + 9 > bytes.size()) return std::nullopt;
      size = ImageSize{big_endian(bytes, at + 7, 2), big_endian(bytes, at + 5, 2)};
    }
    if (marker == 0xda) {  // start of scan: pixels follow
      const std::size_t end = bytes.rfind(kJpegEnd);
      cut_off = end == ByteView::npos || end < at;
      return size;
    }
    at += 2 + length;
  }
  cut_off = true;
  return size;
}

int interpolation_flag(Interpolation kind) { return kind == Interpolation::area ? cv::INTER_AREA : cv::INTER_LINEAR; }

cv::Size cv_size(ImageSize size) { return {static_cast<int>(size.width), static_cast<int>(size.height)}; }

/// Brings 8-bit pixels to the input's size.
cv::Mat resized(const cv::Mat& image, const ModelSpec::Input& input) {
  const ImageSize target{input.width, input.height};
  cv::Mat out;
  if (input.resize == ResizeKind::stretch) {
    if (image.size() == cv_size(target)) return image;
    cv::resize(image, out, cv_size(target), 0, 0, interpolation_flag(input.interpolation));
    return out;
  }
  const ImageSize have{static_cast<std::uint32_t>(image.cols), static_cast<std::uint32_t>(image.rows)};
  const CropGeometry crop = crop_geometry(have, input.shorter, target);
  if (crop.scaled == have) {
    out = image;
  } else {
    cv::resize(image, out, cv_size(crop.scaled), 0, 0, interpolation_flag(input.interpolation));
  }
  return out(cv::Rect(static_cast<int>(crop.x), static_cast<int>(crop.y), static_cast<int>(target.width),
                      static_cast<int>(target.height)));
}

/// (pixel - mean) * scale for the 256 values a channel can have: the same floats for every pixel, and quicker than computing
/// them.
std::array<float, 256> channel_table(float mean, float scale) {
  std::array<float, 256> table{};
  for (std::size_t value = 0; value < table.size(); ++value) table[value] = (static_cast<float>(value) - mean) * scale;
  return table;
}

/// `pixels`: 8-bit, BGR as OpenCV decodes it, or gray. Out: planes in the order of `channels`.
void normalise(const cv::Mat& pixels, const ModelSpec::Input& input, float* out) {
  const auto channels = static_cast<std::size_t>(pixels.channels());
  const std::size_t plane = static_cast<std::size_t>(pixels.rows) * static_cast<std::size_t>(pixels.cols);
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const std::array<float, 256> table = channel_table(input.mean[channel], input.scale[channel]);
    const std::size_t source = input.channels == ChannelOrder::rgb ? channels - 1 - channel : channel;
    float* target = out + channel * plane;
    for (int row = 0; row < pixels.rows; ++row) {
      const unsigned char* line = pixels.ptr<unsigned char>(row) + source;
      for (int column = 0; column < pixels.cols; ++column, line += channels) *target++ = table[*line];
    }
  }
}

}  // namespace

Result<ImageSize> inspect_image(ByteView bytes) {
  std::optional<ImageSize> size;
  bool cut_off = false;
  if (bytes.substr(0, kPngMagic.size()) == kPngMagic) {
    size = png_size(bytes);
  } else if (bytes.substr(0, kJpegMagic.size()) == kJpegMagic) {
    size = jpeg_size(bytes, cut_off);
  } else if (bytes.empty()) {
    return undecodable("the file is empty");
  } else {
    return undecodable("not a JPEG or PNG file");
  }
  if (cut_off) return undecodable("the file is cut off");
  if (!size || size->width == 0 || size->height == 0) return undecodable("the file is damaged");
  const std::uint64_t pixels = std::uint64_t{size->width} * size->height;
  if (size->width > kImageSideMax || size->height > kImageSideMax || pixels > kImagePixelsMax) {
    return undecodable(fmt::format("{} x {} pixels are more than the limit of {} pixels and {} a side", size->width, size->height,
                                   kImagePixelsMax, kImageSideMax));
  }
  return *size;
}

CropGeometry crop_geometry(ImageSize image, std::uint32_t shorter, ImageSize target) {
  CropGeometry crop;
  const std::uint64_t short_side = std::min(image.width, image.height);
  const std::uint64_t long_side = std::max(image.width, image.height);
  const auto longer = static_cast<std::uint32_t>((long_side * shorter + short_side / 2) / short_side);
  crop.scaled = image.width <= image.height ? ImageSize{shorter, longer} : ImageSize{longer, shorter};
  crop.x = (crop.scaled.width - target.width) / 2;
  crop.y = (crop.scaled.height - target.height) / 2;
  return crop;
}

std::size_t item_elements(const ModelSpec::Input& input) {
  if (input.width != 0) return std::size_t{input.width} * input.height * (input.channels == ChannelOrder::gray ? 1 : 3);
  std::size_t elements = 1;
  for (const std::int64_t dimension : input.shape) elements *= static_cast<std::size_t>(dimension);
  return elements;
}

std::vector<int> blob_shape(const ModelSpec::Input& input, std::uint32_t batch) {
  std::vector<int> shape{static_cast<int>(batch)};
  if (input.width != 0) {
    shape.insert(shape.end(),
                 {input.channels == ChannelOrder::gray ? 1 : 3, static_cast<int>(input.height), static_cast<int>(input.width)});
  } else {
    for (const std::int64_t dimension : input.shape) shape.push_back(static_cast<int>(dimension));
  }
  return shape;
}

Status image_to_floats(ByteView bytes, const ModelSpec::Input& input, float* out) {
  if (input.width == 0) return Error{Errc::invalid, "this model takes numbers, not images"};
  if (const auto size = inspect_image(bytes); !size) return size.error();
  try {
    // OpenCV only reads through this header.
    const cv::Mat encoded(1, static_cast<int>(bytes.size()), CV_8U, const_cast<char*>(bytes.data()));
    const int colour = input.channels == ChannelOrder::gray ? cv::IMREAD_GRAYSCALE : cv::IMREAD_COLOR;
    const cv::Mat image = cv::imdecode(encoded, colour | cv::IMREAD_IGNORE_ORIENTATION);
    if (image.empty()) return undecodable("the file is damaged");
    normalise(resized(image, input), input, out);
    return {};
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) throw std::bad_alloc();  // that says nothing about the file
    return undecodable("the file is damaged");
  }
}

Status pixels_to_floats(ByteView bytes, const std::vector<std::uint32_t>& shape, const ModelSpec::Input& input, float* out) {
  if (input.width == 0) return Error{Errc::invalid, "this model takes numbers, not images"};
  if (input.channels != ChannelOrder::gray) return Error{Errc::invalid, "this model takes colour images, the data are gray"};
  if (shape.size() != 2 || shape[0] == 0 || shape[1] == 0 || shape[0] > kImageSideMax || shape[1] > kImageSideMax ||
      bytes.size() != std::size_t{shape[0]} * shape[1]) {
    return Error{Errc::invalid, fmt::format("{} bytes are not an image of {} pixels", bytes.size(), fmt::join(shape, " x "))};
  }
  try {
    const cv::Mat image(static_cast<int>(shape[0]), static_cast<int>(shape[1]), CV_8U, const_cast<char*>(bytes.data()));
    normalise(resized(image, input), input, out);
    return {};
  } catch (const cv::Exception& error) {
    if (error.code == cv::Error::StsNoMem) throw std::bad_alloc();
    return Error{Errc::internal, "cannot resize image: " + error.err};
  }
}

Status numbers_to_floats(ByteView line, const ModelSpec::Input& input, float* out) {
  if (input.width != 0) return Error{Errc::invalid, "this model takes images, not numbers"};
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
  const std::size_t wanted = item_elements(input);
  std::size_t column = 0;
  bool more = true;
  while (more) {
    const std::size_t comma = line.find(',');
    more = comma != ByteView::npos;
    ByteView field = line.substr(0, comma);
    line.remove_prefix(more ? comma + 1 : line.size());
    if (column == wanted) {
      if (input.columns != 0) return {};
      return Error{Errc::invalid, fmt::format("the line has more than {} numbers", wanted)};
    }
    while (!field.empty() && (field.front() == ' ' || field.front() == '\t')) field.remove_prefix(1);
    while (!field.empty() && (field.back() == ' ' || field.back() == '\t')) field.remove_suffix(1);
    if (!field.empty() && field.front() == '+') field.remove_prefix(1);
    float value = 0;
    const auto [end, error] = std::from_chars(field.data(), field.data() + field.size(), value);
    if (error != std::errc() || end != field.data() + field.size() || !std::isfinite(value)) {
      return Error{Errc::invalid, fmt::format("column {} is not a number: \"{}\"", column + 1, field.substr(0, 40))};
    }
    out[column++] = value;
  }
  if (column < wanted) return Error{Errc::invalid, fmt::format("the line has {} numbers, the model takes {}", column, wanted)};
  return {};
}

}  // namespace idunno

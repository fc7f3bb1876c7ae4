#include "nodes/worker/image_input.h"

#include <gtest/gtest.h>

#include <opencv2/imgcodecs.hpp>

namespace idunno {
namespace {

/// `image` is BGR or gray, as OpenCV has it.
Bytes encoded(const cv::Mat& image, const char* ending = ".png") {
  std::vector<unsigned char> bytes;
  EXPECT_TRUE(cv::imencode(ending, image, bytes));
  return Bytes(bytes.begin(), bytes.end());
}

ModelSpec::Input rgb_input(std::uint32_t width, std::uint32_t height) {
  ModelSpec::Input input;
  input.width = width;
  input.height = height;
  input.mean = {0, 0, 0};
  input.scale = {1, 1, 1};
  return input;
}

std::vector<float> floats(ByteView bytes, const ModelSpec::Input& input) {
  std::vector<float> out(item_elements(input), -1.0F);
  const Status status = image_to_floats(bytes, input, out.data());
  EXPECT_TRUE(status.ok()) << (status.ok() ? "" : status.error().detail);
  return out;
}

std::string image_error(ByteView bytes) {
  std::vector<float> out(3 * 4 * 4);
  const Status status = image_to_floats(bytes, rgb_input(4, 4), out.data());
  EXPECT_FALSE(status.ok());
  return status.ok() ? "" : status.error().detail;
}

/// 2 x 1 pixels: one with blue 10, green 20, red 30, one with 40, 50, 60.
cv::Mat two_pixels() {
  cv::Mat image(1, 2, CV_8UC3);
  image.at<cv::Vec3b>(0, 0) = {10, 20, 30};
  image.at<cv::Vec3b>(0, 1) = {40, 50, 60};
  return image;
}

TEST(ImageInput, GivesPlanesInTheOrderTheNetworkWants) {
  ModelSpec::Input input = rgb_input(2, 1);
  EXPECT_EQ(floats(encoded(two_pixels()), input), (std::vector<float>{30, 60, 20, 50, 10, 40}));
  input.channels = ChannelOrder::bgr;
  EXPECT_EQ(floats(encoded(two_pixels()), input), (std::vector<float>{10, 40, 20, 50, 30, 60}));
}

TEST(ImageInput, SubtractsTheMeanThenMultipliesTheScaleOfEachChannel) {
  ModelSpec::Input input = rgb_input(2, 1);
  input.mean = {10, 20, 30};
  input.scale = {2, 0.5F, 1};
  EXPECT_EQ(floats(encoded(two_pixels()), input), (std::vector<float>{40, 100, 0, 15, -20, 10}));
}

TEST(ImageInput, MakesGrayOfColour) {
  ModelSpec::Input input = rgb_input(2, 1);
  input.channels = ChannelOrder::gray;
  input.mean = {0};
  input.scale = {1};
  cv::Mat white(1, 2, CV_8UC3, cv::Scalar(255, 255, 255));
  EXPECT_EQ(floats(encoded(white), input), (std::vector<float>{255, 255}));
}

TEST(ImageInput, AreaInterpolationIsTheMeanOfTheArea) {
  cv::Mat image(2, 4, CV_8UC3, cv::Scalar(0, 0, 0));
  image.at<cv::Vec3b>(0, 0) = {40, 80, 120};  // one of the four pixels that become the left one
  EXPECT_EQ(floats(encoded(image), rgb_input(2, 1)), (std::vector<float>{30, 0, 20, 0, 10, 0}));
}

TEST(ImageInput, CropTakesTheCentre) {
  cv::Mat image(2, 6, CV_8UC3, cv::Scalar(0, 0, 0));
  for (int x = 0; x < 6; ++x) {
    for (int y = 0; y < 2; ++y) image.at<cv::Vec3b>(y, x) = cv::Vec3b(0, 0, static_cast<unsigned char>(10 * x));
  }
  ModelSpec::Input input = rgb_input(2, 2);
  input.resize = ResizeKind::crop;
  input.shorter = 2;
  const std::vector<float> out = floats(encoded(image), input);
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 4), (std::vector<float>{20, 30, 20, 30}));
}

TEST(CropGeometry, KeepsTheAspectAndRounds) {
  const ImageSize target{224, 224};
  EXPECT_EQ(crop_geometry({500, 375}, 256, target), (CropGeometry{{341, 256}, 58, 16}));
  EXPECT_EQ(crop_geometry({375, 500}, 256, target), (CropGeometry{{256, 341}, 16, 58}));
  EXPECT_EQ(crop_geometry({256, 256}, 256, target), (CropGeometry{{256, 256}, 16, 16}));
  EXPECT_EQ(crop_geometry({2, 3}, 256, {256, 256}), (CropGeometry{{256, 384}, 0, 64}));    // enlarged
  EXPECT_EQ(crop_geometry({1000, 333}, 224, target), (CropGeometry{{673, 224}, 224, 0}));  // 672.67 rounds up
}

TEST(ImageInput, IgnoresTheOrientationInExif) {
  Bytes jpeg = encoded(cv::Mat(8, 16, CV_8UC3, cv::Scalar(1, 2, 3)), ".jpg");
  // APP1 segment with orientation 6 (turn by 90 degrees), put behind the start marker.
  const Bytes exif(
      "\xff\xe1\x00\x22"
      "Exif\0\0"
      "MM\0\x2a\0\0\0\x08"
      "\0\x01"
      "\x01\x12\0\x03\0\0\0\x01\0\x06\0\0"
      "\0\0\0\0",
      36);
  jpeg.insert(2, exif);
  const auto size = inspect_image(jpeg);
  ASSERT_TRUE(size.ok());
  EXPECT_EQ(*size, (ImageSize{16, 8}));
  EXPECT_EQ(floats(jpeg, rgb_input(16, 8)).size(), 3U * 16 * 8);
}

TEST(ImageInput, ReadsTheSizeBeforeDecoding) {
  const auto png = inspect_image(encoded(cv::Mat(3, 5, CV_8UC3, cv::Scalar::all(9))));
  ASSERT_TRUE(png.ok());
  EXPECT_EQ(*png, (ImageSize{5, 3}));
  const auto jpeg = inspect_image(encoded(cv::Mat(3, 5, CV_8UC3, cv::Scalar::all(9)), ".jpg"));
  ASSERT_TRUE(jpeg.ok());
  EXPECT_EQ(*jpeg, (ImageSize{5, 3}));
}

TEST(ImageInput, RefusesWhatIsNoImage) {
  EXPECT_EQ(image_error(""), "cannot decode image: the file is empty");
  EXPECT_EQ(image_error("hello"), "cannot decode image: not a JPEG or PNG file");
  EXPECT_EQ(image_error("GIF89a........................"), "cannot decode image: not a JPEG or PNG file");
  EXPECT_EQ(image_error(encoded(cv::Mat(3, 5, CV_8UC3, cv::Scalar::all(9)), ".bmp")),
            "cannot decode image: not a JPEG or PNG file");
}

TEST(ImageInput, RefusesAnImageBombByItsHeader) {
  Bytes png = encoded(cv::Mat(3, 5, CV_8UC3, cv::Scalar::all(9)));
  png[16] = 0x00;
  png[17] = 0x00;
  png[18] = 0x7f;
  EXPECT_NE(image_error(png).find("more than the limit"), std::string::npos);
  png[18] = 0x3f;  // sides are allowed now, their product is not
  png[22] = 0x3f;
  EXPECT_NE(image_error(png).find("more than the limit"), std::string::npos);
}

TEST(ImageInput, EveryTruncationIsAnErrorAndNothingElse) {
  cv::Mat image(24, 32, CV_8UC3);
  cv::RNG random(1);
  random.fill(image, cv::RNG::UNIFORM, 0, 256);
  for (const char* ending : {".png", ".jpg"}) {
    const Bytes whole = encoded(image, ending);
    std::vector<float> out(3 * 4 * 4);
    ASSERT_TRUE(image_to_floats(whole, rgb_input(4, 4), out.data()).ok());
    // The end mark of a PNG carries no pixels: OpenCV takes the file without it.
    const std::size_t end = std::string(ending) == ".png" ? whole.size() - 16 : whole.size();
    for (std::size_t length = 0; length < end; length += length < 64 ? 1 : 37) {
      EXPECT_FALSE(image_to_floats(ByteView(whole).substr(0, length), rgb_input(4, 4), out.data()).ok())
          << ending << " " << length;
    }
  }
}

TEST(ImageInput, DamagedBytesNeverThrow) {
  cv::Mat image(24, 32, CV_8UC3);
  cv::RNG random(2);
  random.fill(image, cv::RNG::UNIFORM, 0, 256);
  std::vector<float> out(3 * 4 * 4);
  for (const char* ending : {".png", ".jpg"}) {
    const Bytes whole = encoded(image, ending);
    for (std::size_t at = 0; at < whole.size(); at += 3) {
      Bytes damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ 0x55);
      const Status status = image_to_floats(damaged, rgb_input(4, 4), out.data());
      EXPECT_TRUE(status.ok() || status.error().detail.find("cannot decode image: ") == 0);
    }
  }
}

TEST(PixelsInput, TakesGrayRowsAndResizesWhereNeeded) {
  ModelSpec::Input input = rgb_input(2, 2);
  input.channels = ChannelOrder::gray;
  input.mean = {1};
  input.scale = {10};
  std::vector<float> out(4);
  ASSERT_TRUE(pixels_to_floats(ByteView("\x01\x02\x03\x04", 4), {2, 2}, input, out.data()).ok());
  EXPECT_EQ(out, (std::vector<float>{0, 10, 20, 30}));
  const Bytes four_by_four("\x01\x01\x03\x03\x01\x01\x03\x03\x05\x05\x07\x07\x05\x05\x07\x07", 16);
  ASSERT_TRUE(pixels_to_floats(four_by_four, {4, 4}, input, out.data()).ok());
  EXPECT_EQ(out, (std::vector<float>{0, 20, 40, 60}));
}

TEST(PixelsInput, RefusesWrongLengthsAndColourModels) {
  ModelSpec::Input input = rgb_input(2, 2);
  std::vector<float> out(12);
  EXPECT_FALSE(pixels_to_floats(ByteView("\x01\x02\x03\x04", 4), {2, 2}, input, out.data()).ok());
  input.channels = ChannelOrder::gray;
  EXPECT_FALSE(pixels_to_floats(ByteView("\x01\x02\x03", 3), {2, 2}, input, out.data()).ok());
  EXPECT_FALSE(pixels_to_floats(ByteView("\x01\x02\x03\x04", 4), {4}, input, out.data()).ok());
}

ModelSpec::Input numbers_input(std::uint32_t columns) {
  ModelSpec::Input input;
  input.shape = {3};
  input.columns = columns;
  return input;
}

std::string numbers_error(ByteView line, std::uint32_t columns = 0) {
  std::vector<float> out(3);
  const Status status = numbers_to_floats(line, numbers_input(columns), out.data());
  return status.ok() ? "" : status.error().detail;
}

TEST(NumbersInput, ReadsALine) {
  std::vector<float> out(3);
  ASSERT_TRUE(numbers_to_floats(" 1, -2.5 ,+3e2\r\n", numbers_input(0), out.data()).ok());
  EXPECT_EQ(out, (std::vector<float>{1, -2.5F, 300}));
  ASSERT_TRUE(numbers_to_floats("4,5,6,class", numbers_input(3), out.data()).ok());  // the columns behind are not used
  EXPECT_EQ(out, (std::vector<float>{4, 5, 6}));
}

TEST(NumbersInput, SaysWhatIsWrongWithALine) {
  EXPECT_EQ(numbers_error("1,2"), "the line has 2 numbers, the model takes 3");
  EXPECT_EQ(numbers_error("1,2,3,4"), "the line has more than 3 numbers");
  EXPECT_EQ(numbers_error("1,x,3"), "column 2 is not a number: \"x\"");
  EXPECT_EQ(numbers_error("1,2 3,4"), "column 2 is not a number: \"2 3\"");
  EXPECT_EQ(numbers_error("1,nan,3"), "column 2 is not a number: \"nan\"");
  EXPECT_EQ(numbers_error("1,,3"), "column 2 is not a number: \"\"");
  EXPECT_EQ(numbers_error(""), "column 1 is not a number: \"\"");
  EXPECT_EQ(numbers_error("1,2", 3), "the line has 2 numbers, the model takes 3");
}

}  // namespace
}  // namespace idunno

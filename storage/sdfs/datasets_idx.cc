/// IDX files of MNIST: big-endian magic 0x00000803 (unsigned bytes, 3 dimensions), number of images, rows, columns, then the
/// pixels (http://yann.lecun.com/exdb/mnist).

#include "storage/sdfs/dataset_formats.h"

namespace idunno {
namespace {

constexpr std::size_t kHeaderBytes = 16;
constexpr std::uint32_t kMagicImages = 0x00000803;
constexpr std::uint32_t kMagicLabels = 0x00000801;
constexpr std::uint32_t kSideMax = 16384;

std::uint32_t big_endian(ByteView bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8U | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

class IdxFormat : public DatasetFormat {
 public:
  std::string name() const override { return "idx"; }

  bool recognises(const std::string& path, ByteView head) const override {
    if (head.size() < 4) return lower_extension(path) == ".idx";
    const std::uint32_t magic = big_endian(head, 0);
    const std::uint32_t type = magic >> 8U;
    const std::uint32_t dimensions = magic & 0xFFU;
    const bool known_type = type == 0x08 || type == 0x09 || (type >= 0x0B && type <= 0x0E);
    return known_type && dimensions >= 1 && dimensions <= 8;
  }

  Status index(ByteSource& source, const std::string& path, DatasetIndex& out) const override {
    const auto bad = [&](const std::string& why) { return Error{Errc::invalid, "the IDX file '" + path + "' " + why}; };
    auto head = source.read(0, kHeaderBytes);
    if (!head) return head.error();
    if (head->size() >= 4 && big_endian(*head, 0) == kMagicLabels) {
      return bad("holds labels, not images: name the images file (such as t10k-images-idx3-ubyte)");
    }
    if (head->size() < kHeaderBytes) return bad("is truncated: it ends within its header");
    if (big_endian(*head, 0) != kMagicImages) {
      return bad("is not of unsigned bytes in 3 dimensions (magic 0x00000803), the only kind that can be read as images");
    }
    const std::uint64_t count = big_endian(*head, 4);
    const std::uint32_t rows = big_endian(*head, 8);
    const std::uint32_t columns = big_endian(*head, 12);
    if (rows == 0 || columns == 0 || rows > kSideMax || columns > kSideMax) {
      return bad("says that its images are " + std::to_string(rows) + " x " + std::to_string(columns) + " pixels");
    }
    if (count == 0) return bad("holds no images");
    if (count > kDatasetItemsMax) return bad("holds more than " + std::to_string(kDatasetItemsMax) + " images");
    const std::uint64_t pixels = std::uint64_t{rows} * columns;
    const std::uint64_t needed = kHeaderBytes + count * pixels;
    if (source.size() < needed) {
      return bad("is truncated: " + std::to_string(count) + " images need " + std::to_string(needed) + " bytes, it has " +
                 std::to_string(source.size()));
    }
    if (source.size() > needed) return bad("has " + std::to_string(source.size() - needed) + " bytes too many");
    out.kind = ItemKind::pixels;
    out.item_shape = {rows, columns};
    out.items.reserve(count);
    for (std::uint64_t i = 0; i < count; ++i) {
      out.items.push_back(DatasetItem{path + "#" + std::to_string(i), kHeaderBytes + i * pixels, pixels, 0});
    }
    return {};
  }
};

}  // namespace

std::unique_ptr<DatasetFormat> make_idx_format() { return std::make_unique<IdxFormat>(); }

}  // namespace idunno

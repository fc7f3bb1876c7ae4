#pragma once
/// The formats that datasets.cc chooses from; each is one file.

#include <memory>
#include <string>
#include <string_view>

#include "storage/sdfs/datasets.h"

namespace idunno {

/// More items than this in one data set are refused.
inline constexpr std::uint64_t kDatasetItemsMax = 1ULL << 26U;

[[nodiscard]] bool has_image_name(std::string_view path);          ///< .jpg, .jpeg, .png in any case; not "._x.jpg" of macOS
[[nodiscard]] std::string lower_extension(std::string_view path);  ///< ".tar"; "" when there is none
[[nodiscard]] Status index_images(std::vector<FileVersion> files, DatasetIndex& out);  ///< a folder's files, or one image

[[nodiscard]] std::unique_ptr<DatasetFormat> make_tar_format();
[[nodiscard]] std::unique_ptr<DatasetFormat> make_idx_format();
[[nodiscard]] std::unique_ptr<DatasetFormat> make_csv_format();

}  // namespace idunno

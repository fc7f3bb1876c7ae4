/// A folder of JPEG and PNG files, or a single one.

#include <algorithm>

#include "storage/sdfs/dataset_formats.h"

namespace idunno {

std::string lower_extension(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  const std::size_t slash = path.rfind('/');
  if (dot == std::string_view::npos || (slash != std::string_view::npos && dot < slash)) return "";
  std::string extension(path.substr(dot));
  for (char& c : extension) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return extension;
}

bool has_image_name(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  if (name.substr(0, 2) == "._") return false;
  const std::string extension = lower_extension(name);
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

Status index_images(std::vector<FileVersion> files, DatasetIndex& out) {
  std::erase_if(files, [](const FileVersion& file) { return file.open || !has_image_name(file.path); });
  if (files.empty()) {
    return Error{Errc::invalid, "the data set '" + out.path +
                                    "' holds no JPEG or PNG images (.jpg, .jpeg, .png): put some there with `idunno fs put -r`"};
  }
  if (files.size() > kDatasetItemsMax) return Error{Errc::too_large, "the data set '" + out.path + "' has too many images"};
  std::sort(files.begin(), files.end(), [](const FileVersion& a, const FileVersion& b) { return a.path < b.path; });
  out.format = "images";
  out.kind = ItemKind::image;
  out.items.reserve(files.size());
  for (std::size_t i = 0; i < files.size(); ++i) {
    out.items.push_back(DatasetItem{files[i].path, 0, files[i].size, static_cast<std::uint32_t>(i)});
  }
  out.files = std::move(files);
  return {};
}

}  // namespace idunno

#pragma once
/// What a data set is made of. At submit the client indexes the SDFS path: a folder of images, or one container file (tar of
/// images, IDX, CSV). A new format is one file with one `DatasetFormat`. Items are sorted by name (folders, tar) or keep file
/// order (IDX, CSV).

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/types.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/manifest.h"

namespace idunno {

struct DatasetItem {
  std::string query;
  std::uint64_t offset = 0;  ///< in its file
  std::uint64_t length = 0;
  std::uint32_t file = 0;  ///< index into DatasetIndex::files
};

struct DatasetIndex {
  std::string path;
  std::string format;  ///< "images", "tar", "idx", "csv"
  ItemKind kind = ItemKind::image;
  std::vector<std::uint32_t> item_shape;
  std::vector<FileVersion> files;  ///< with blocks
  std::vector<DatasetItem> items;  ///< in query order
};

/// Sequential bytes of a container while it is indexed; bounded memory.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  [[nodiscard]] virtual std::uint64_t size() const = 0;
  /// Up to `length` bytes at `offset`; fewer only at the end. Any block is fetched at most a few times.
  [[nodiscard]] virtual Result<Bytes> read(std::uint64_t offset, std::size_t length) = 0;
};

class DatasetFormat {
 public:
  virtual ~DatasetFormat() = default;
  [[nodiscard]] virtual std::string name() const = 0;
  /// Whether a container that starts with `head` (up to 512 bytes) and is called `path` is of this format.
  [[nodiscard]] virtual bool recognises(const std::string& path, ByteView head) const = 0;
  /// Fills kind, item_shape and items (file = 0).
  [[nodiscard]] virtual Status index(ByteSource& source, const std::string& path, DatasetIndex& out) const = 0;
};

[[nodiscard]] const std::vector<std::unique_ptr<DatasetFormat>>& dataset_formats();

/// Indexes what lies at `path`. invalid with what to do when the folder is empty, holds no images, or the file is of no known
/// format.
[[nodiscard]] Result<DatasetIndex> index_dataset(SdfsClient& sdfs, const std::string& path);

/// The manifest's blocks, ready for SdfsClient::put_pieces; sets `items_per_chunk`.
[[nodiscard]] std::vector<Bytes> build_manifest(const DatasetIndex& index, std::uint32_t& items_per_chunk);

}  // namespace idunno

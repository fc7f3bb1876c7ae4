#pragma once
/// A ByteSource over a file in SDFS: keeps the last few blocks, and fetches ahead when it is read from front to back. Runs the
/// loop while it waits, so it belongs to a client's main flow, not to a callback.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "storage/sdfs/datasets.h"

namespace idunno {

class SdfsByteSource : public ByteSource {
 public:
  /// `file` with all its blocks.
  SdfsByteSource(SdfsClient& sdfs, FileVersion file);
  [[nodiscard]] std::uint64_t size() const override { return file_.size; }
  [[nodiscard]] Result<Bytes> read(std::uint64_t offset, std::size_t length) override;
  [[nodiscard]] const FileVersion& file() const { return file_; }

 private:
  using Answer = std::shared_ptr<std::optional<Result<Payload>>>;
  Answer fetch(std::size_t block);

  SdfsClient& sdfs_;
  FileVersion file_;
  std::vector<std::uint64_t> starts_;  ///< offset of each block
  std::map<std::size_t, Answer> blocks_;
  std::deque<std::size_t> order_;  ///< of fetching, the oldest first
  std::size_t last_block_ = 0;
};

}  // namespace idunno

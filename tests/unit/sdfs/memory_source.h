#pragma once
/// A ByteSource over bytes in memory.

#include "storage/sdfs/datasets.h"

namespace idunno {

class MemorySource : public ByteSource {
 public:
  explicit MemorySource(Bytes bytes) : bytes_(std::move(bytes)) {}
  [[nodiscard]] std::uint64_t size() const override { return bytes_.size(); }
  [[nodiscard]] Result<Bytes> read(std::uint64_t offset, std::size_t length) override {
    if (offset >= bytes_.size()) return Bytes{};
    return bytes_.substr(offset, length);
  }
  [[nodiscard]] ByteView bytes() const { return bytes_; }

 private:
  Bytes bytes_;
};

}  // namespace idunno

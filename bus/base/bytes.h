#pragma once
/// Byte buffers. `Bytes` owns (a std::string, which msgpack, RocksDB and the standard library all take as it is); `ByteView`
/// borrows; `Payload` shares immutable bytes whose owner may be a ZeroMQ frame, a RocksDB slice or a string, so that a block
/// goes from socket to disk, or from one buffer to four replicas, without being copied.

#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace idunno {

using Bytes = std::string;
using ByteView = std::string_view;

class Payload {
 public:
  Payload() = default;
  /// Takes over `bytes`.
  explicit Payload(Bytes bytes) {
    auto owner = std::make_shared<const Bytes>(std::move(bytes));
    view_ = *owner;
    owner_ = std::move(owner);
  }
  /// Shares `view`, which stays valid as long as `owner` lives.
  Payload(std::shared_ptr<const void> owner, ByteView view) : owner_(std::move(owner)), view_(view) {}

  [[nodiscard]] ByteView view() const { return view_; }
  [[nodiscard]] std::size_t size() const { return view_.size(); }
  [[nodiscard]] bool empty() const { return view_.empty(); }
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }
  /// A part of the same bytes, sharing the owner. offset + length <= size().
  [[nodiscard]] Payload slice(std::size_t offset, std::size_t length) const {
    return Payload(owner_, view_.substr(offset, length));
  }

 private:
  std::shared_ptr<const void> owner_;
  ByteView view_;
};

}  // namespace idunno

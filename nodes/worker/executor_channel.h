#pragma once
/// Frames of executor_protocol.h over a file descriptor. Used on both ends: by the child with a blocking descriptor, by idunnod
/// with a non-blocking one. One thread.

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/codec.h"
#include "nodes/worker/executor_protocol.h"

namespace idunno {

/// The child's end of the socket pair.
inline constexpr int kExecutorFd = 3;

/// One frame, cut out of the reader's buffer: valid until the next read.
struct ExecutorFrame {
  ByteView head;  ///< kind, then the encoded struct
  ByteView payload;
};

/// Collects bytes from a descriptor and cuts them into frames.
class FrameReader {
 public:
  /// `payload_max`: a frame that announces more is refused before memory is asked for.
  explicit FrameReader(std::size_t payload_max) : payload_max_(payload_max) {}

  enum class Read : std::uint8_t { got_bytes, would_block, closed };
  /// One read(2). Errors: the descriptor is broken.
  [[nodiscard]] Result<Read> read_some(int fd);
  /// The next whole frame, or nothing yet. Errors: the sizes are out of bounds; the connection is of no use any more.
  [[nodiscard]] Result<std::optional<ExecutorFrame>> next();

 private:
  void reserve(std::size_t free_bytes);

  std::size_t payload_max_;
  std::unique_ptr<char[]> buffer_;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

/// Frames that wait to be written. Small ones that follow each other leave in one writev(2).
class FrameWriter {
 public:
  /// `head` as made by encode_head; the payload is the concatenation of `items`, which are shared, not copied.
  void push(const Bytes& head, const std::vector<Payload>& items);
  /// Writes until all is written (true) or the descriptor takes no more (false). Errors: the peer is gone.
  [[nodiscard]] Result<bool> flush(int fd);
  [[nodiscard]] bool empty() const { return chunks_.empty(); }
  void clear();

 private:
  std::deque<Payload> chunks_;
  std::size_t written_ = 0;  ///< of the first chunk
};

template <class T>
[[nodiscard]] Bytes encode_head(const T& value) {
  Bytes head(1, static_cast<char>(T::kKind));
  head += encode(value);
  return head;
}

template <class T>
[[nodiscard]] Result<T> decode_head(ByteView head) {
  if (head.empty() || static_cast<std::uint8_t>(head.front()) != T::kKind) {
    return Error{Errc::invalid, "a frame of another kind than expected"};
  }
  return decode<T>(head.substr(1), kExecutorHeadBytesMax);
}

}  // namespace idunno

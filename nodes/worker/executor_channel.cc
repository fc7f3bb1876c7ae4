#include "nodes/worker/executor_channel.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace idunno {
namespace {

constexpr std::size_t kPrefixBytes = 8;
constexpr std::size_t kReadBytesMin = 64U << 10U;
constexpr std::size_t kKeepBytesMax = 8U << 20U;  // a buffer that one large batch has made larger is given back
constexpr std::size_t kPiecesMax = 64;            // of one sendmsg, far below IOV_MAX

std::uint32_t read_u32(const char* bytes) {
  std::uint32_t value = 0;
  for (unsigned i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

void append_u32(Bytes& out, std::size_t value) {
  for (unsigned i = 0; i < 4; ++i) out += static_cast<char>((value >> (8 * i)) & 0xffU);
}

}  // namespace

void FrameReader::reserve(std::size_t free_bytes) {
  const std::size_t held = end_ - begin_;
  const std::size_t needed = held + free_bytes;
  const bool too_large = held == 0 && capacity_ > kKeepBytesMax && needed <= kKeepBytesMax;
  if (capacity_ - end_ >= free_bytes && !too_large) return;
  if (needed <= capacity_ && !too_large) {
    std::memmove(buffer_.get(), buffer_.get() + begin_, held);
  } else {
    const std::size_t capacity = std::max(needed, 4 * kReadBytesMin);
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    if (held != 0) std::memcpy(larger.get(), buffer_.get() + begin_, held);
    buffer_ = std::move(larger);
    capacity_ = capacity;
  }
  begin_ = 0;
  end_ = held;
}

Result<FrameReader::Read> FrameReader::read_some(int fd) {
  if (begin_ == end_) begin_ = end_ = 0;
  std::size_t wanted = kReadBytesMin;
  if (end_ - begin_ >= kPrefixBytes) {  // the rest of a large frame at once; `next` has checked its sizes
    const std::size_t frame = kPrefixBytes + read_u32(buffer_.get() + begin_) + read_u32(buffer_.get() + begin_ + 4);
    if (frame > end_ - begin_) wanted = std::max(wanted, frame - (end_ - begin_));
  }
  reserve(wanted);
  while (true) {
    const ssize_t count = read(fd, buffer_.get() + end_, capacity_ - end_);
    if (count > 0) {
      end_ += static_cast<std::size_t>(count);
      return Read::got_bytes;
    }
    if (count == 0) return Read::closed;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Read::would_block;
    if (errno == ECONNRESET) return Read::closed;
    if (errno != EINTR)
      return Error{Errc::unavailable, fmt::format("reading from the executor's socket: {}", std::strerror(errno))};
  }
}

Result<std::optional<ExecutorFrame>> FrameReader::next() {
  if (end_ - begin_ < kPrefixBytes) return std::optional<ExecutorFrame>();
  const char* const frame = buffer_.get() + begin_;
  const std::size_t head = read_u32(frame);
  const std::size_t payload = read_u32(frame + 4);
  if (head == 0 || head > kExecutorHeadBytesMax || payload > payload_max_) {
    return Error{Errc::invalid, fmt::format("a frame with a head of {} and a payload of {} bytes", head, payload)};
  }
  if (end_ - begin_ < kPrefixBytes + head + payload) return std::optional<ExecutorFrame>();
  begin_ += kPrefixBytes + head + payload;
  return std::optional<ExecutorFrame>(ExecutorFrame{{frame + kPrefixBytes, head}, {frame + kPrefixBytes + head, payload}});
}

void FrameWriter::push(const Bytes& head, const std::vector<Payload>& items) {
  std::size_t payload = 0;
  for (const Payload& item : items) payload += item.size();
  Bytes start;
  start.reserve(kPrefixBytes + head.size());
  append_u32(start, head.size());
  append_u32(start, payload);
  start += head;
  chunks_.emplace_back(std::move(start));
  for (const Payload& item : items) {
    if (!item.empty()) chunks_.push_back(item);
  }
}

Result<bool> FrameWriter::flush(int fd) {
  while (!chunks_.empty()) {
    std::array<iovec, kPiecesMax> pieces{};
    std::size_t count = 0;
    for (; count < pieces.size() && count < chunks_.size(); ++count) {
      const ByteView bytes = chunks_[count].view().substr(count == 0 ? written_ : 0);
      pieces[count] = {const_cast<char*>(bytes.data()), bytes.size()};
    }
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = count;
    const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      return Error{Errc::unavailable, fmt::format("writing to the executor's socket: {}", std::strerror(errno))};
    }
    written_ += static_cast<std::size_t>(sent);
    while (!chunks_.empty() && written_ >= chunks_.front().size()) {
      written_ -= chunks_.front().size();
      chunks_.pop_front();
    }
  }
  return true;
}

void FrameWriter::clear() {
  chunks_.clear();
  written_ = 0;
}

}  // namespace idunno

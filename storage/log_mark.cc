#include "storage/log_mark.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>

#include "storage/rocks_common.h"

namespace idunno {
namespace {

// Two places, used in turn: whatever happens to the one being written, the other holds the mark before.
constexpr std::uint64_t kSlots = 2;
constexpr std::uint64_t kSlotDistanceBytes = 512;
constexpr std::size_t kBodyBytes = 16;
constexpr std::size_t kSlotBytes = kBodyBytes + rocks::kSealBytes;

off_t offset_of(std::uint64_t writes) { return static_cast<off_t>((writes % kSlots) * kSlotDistanceBytes); }

}  // namespace

LogMark::~LogMark() {
  if (fd_ >= 0) ::close(fd_);
}

LogMark::Value LogMark::read() const {
  Value newest;
  const int fd = ::open(file_.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return newest;
  for (std::uint64_t slot = 0; slot < kSlots; ++slot) {
    std::array<char, kSlotBytes> bytes{};
    if (::pread(fd, bytes.data(), bytes.size(), offset_of(slot)) != static_cast<ssize_t>(bytes.size())) continue;
    const auto body = rocks::unseal(ByteView(bytes.data(), bytes.size()), kBodyBytes, "a mark");
    if (!body) continue;
    const Value value{rocks::read_u64(*body, 0), rocks::read_u64(*body, 8)};
    if (value.writes > newest.writes) newest = value;
  }
  ::close(fd);
  return newest;
}

void LogMark::write(const Value& value) {
  if (gave_up_) return;
  if (fd_ < 0) {
    fd_ = ::open(file_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    // All of its space at once, so that a disk that fills up does not stop it.
    if (fd_ < 0 || ::posix_fallocate(fd_, 0, static_cast<off_t>(kSlots * kSlotDistanceBytes)) != 0) {
      gave_up_ = true;
      return;
    }
  }
  std::string bytes;
  rocks::append_u64(bytes, value.log_id);
  rocks::append_u64(bytes, value.writes);
  (void)rocks::seal(bytes);
  (void)!::pwrite(fd_, bytes.data(), bytes.size(), offset_of(value.writes));  // best effort: an older mark does no harm
}

}  // namespace idunno

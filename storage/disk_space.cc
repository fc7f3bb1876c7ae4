#include "storage/disk_space.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace idunno {
namespace {

constexpr std::uint64_t kBallastBytesMax = 16ULL << 20U;  ///< enough for RocksDB's manifest, logs and one flush
constexpr std::uint64_t kHysteresisBytesMax = 64ULL << 20U;
constexpr std::uint64_t kWriteFactor = 3;  ///< a block lies in the log, in the blob file, and for a while in both

}  // namespace

DiskSpace::DiskSpace(std::filesystem::path folder, std::uint64_t reserve_bytes)
    : folder_(std::move(folder)), ballast_(folder_ / "ballast"), reserve_bytes_(reserve_bytes) {}

Result<DiskSpace::Figures> DiskSpace::figures() const {
  struct statvfs facts {};
  if (::statvfs(folder_.c_str(), &facts) != 0) {
    return Error{Errc::internal, fmt::format("asking for the free space of {}: {}", folder_.string(), std::strerror(errno))};
  }
  const std::uint64_t unit = facts.f_frsize;
  return Figures{unit * facts.f_blocks, unit * facts.f_bavail};
}

bool DiskSpace::has_room(std::uint64_t bytes) {
  const auto now = figures();
  std::uint64_t needed = reserve_bytes_ + kWriteFactor * bytes;
  if (read_only_.load()) needed += std::min(reserve_bytes_, kHysteresisBytesMax);
  const bool room = now.ok() && now->free_bytes >= needed;
  read_only_.store(!room);
  return room;
}

std::uint64_t DiskSpace::ballast_bytes() const { return std::min(reserve_bytes_ / 4, kBallastBytesMax); }

void DiskSpace::release_ballast() {
  std::error_code ignored;
  std::filesystem::remove(ballast_, ignored);
}

void DiskSpace::ensure_ballast() {
  const std::uint64_t bytes = ballast_bytes();
  std::error_code error;
  if (bytes == 0 || std::filesystem::exists(ballast_, error)) return;
  const auto now = figures();
  if (!now || now->free_bytes < reserve_bytes_ + bytes) return;
  const int file = ::open(ballast_.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
  if (file < 0) return;
  const bool made = ::posix_fallocate(file, 0, static_cast<off_t>(bytes)) == 0;
  ::close(file);
  if (!made) release_ballast();
}

}  // namespace idunno

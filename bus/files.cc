#include "bus/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace idunno::files {
namespace {

Error system_error(const std::string& doing) {
  const int number = errno;
  const Errc code = number == ENOSPC || number == EDQUOT    ? Errc::full
                    : number == EACCES || number == EPERM   ? Errc::forbidden
                    : number == EEXIST                      ? Errc::conflict
                    : number == ENOENT || number == ENOTDIR ? Errc::not_found
                                                            : Errc::internal;
  return Error{code, doing + ": " + std::strerror(number)};
}

/// Closes and, unless it was put in place, removes the temporary file.
class TemporaryFile {
 public:
  TemporaryFile(std::string path, mode_t mode)
      : path_(std::move(path)), fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    if (!placed_) ::unlink(path_.c_str());
  }
  [[nodiscard]] bool ok() const { return fd_ >= 0; }
  [[nodiscard]] bool fill(ByteView content, mode_t mode) const {
    while (!content.empty()) {
      const ssize_t written = ::write(fd_, content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return false;
      content.remove_prefix(static_cast<std::size_t>(written));
    }
    return ::fchmod(fd_, mode) == 0 && ::fsync(fd_) == 0;  // fchmod: the umask may have taken bits away
  }
  [[nodiscard]] bool place(const std::string& target, Existing existing) {
    // link() refuses an existing target, rename() replaces it; both are atomic.
    if (existing == Existing::keep) return ::link(path_.c_str(), target.c_str()) == 0;
    placed_ = ::rename(path_.c_str(), target.c_str()) == 0;
    return placed_;
  }

 private:
  std::string path_;
  int fd_ = -1;
  bool placed_ = false;
};

Status sync_folder(const std::filesystem::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return system_error("open the folder " + folder.string());
  const bool ok = ::fsync(fd) == 0;
  Status status = ok ? Status() : Status(system_error("sync the folder " + folder.string()));
  ::close(fd);
  return status;
}

}  // namespace

Status write_atomically(const std::filesystem::path& file, ByteView content, unsigned mode, Existing existing) {
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
  std::error_code ec;
  if (!std::filesystem::exists(folder, ec)) {
    if (std::filesystem::create_directories(folder, ec))
      std::filesystem::permissions(folder, std::filesystem::perms::owner_all, ec);
    if (ec) return Error{Errc::forbidden, "make the folder " + folder.string() + ": " + ec.message()};
  }
  const std::string doing = "write " + file.string();
  {
    TemporaryFile temporary(file.string() + ".tmp" + std::to_string(::getpid()), static_cast<mode_t>(mode));
    if (!temporary.ok()) return system_error(doing);
    if (!temporary.fill(content, static_cast<mode_t>(mode))) return system_error(doing);
    if (!temporary.place(file.string(), existing)) {
      Error error = system_error(doing);
      if (error.code == Errc::conflict) error.detail = doing + ": it exists already and is not overwritten";
      return error;
    }
  }
  return sync_folder(folder);
}

}  // namespace idunno::files

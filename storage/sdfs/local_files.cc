#include "storage/sdfs/local_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace idunno {
namespace {

Errc code_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return Errc::not_found;
    case EACCES:
    case EPERM:
      return Errc::forbidden;
    case EISDIR:
    case ENAMETOOLONG:
      return Errc::invalid;
    case ENOSPC:
    case EDQUOT:
      return Errc::full;
    default:
      return Errc::internal;
  }
}

Error system_error(const std::string& doing, const std::string& path) {
  const int error = errno;
  return Error{code_of(error), doing + " '" + path + "': " + std::strerror(error)};
}

Error not_regular(const std::string& path, mode_t mode) {
  if (S_ISDIR(mode))
    return Error{Errc::invalid, "read '" + path + "': it is a directory; use -r to put it with all that is in it"};
  return Error{Errc::invalid, "read '" + path + "': it is not a regular file"};
}

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

Status check_readable_file(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return system_error("read", path);
  if (!S_ISREG(info.st_mode)) return not_regular(path, info.st_mode);
  if (::access(path.c_str(), R_OK) != 0) return system_error("read", path);
  return {};
}

Result<LocalFileReader> LocalFileReader::open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return system_error("read", path);
  struct stat info {};
  if (::fstat(fd, &info) != 0) {
    const Error error = system_error("read", path);
    ::close(fd);
    return error;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return not_regular(path, info.st_mode);
  }
  return LocalFileReader(fd, path, static_cast<std::uint64_t>(info.st_size));
}

LocalFileReader::LocalFileReader(LocalFileReader&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)), size_(other.size_), offset_(other.offset_) {}

LocalFileReader& LocalFileReader::operator=(LocalFileReader&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(size_, other.size_);
  std::swap(offset_, other.offset_);
  return *this;
}

LocalFileReader::~LocalFileReader() {
  if (fd_ >= 0) ::close(fd_);
}

Result<Payload> LocalFileReader::next(std::size_t length) {
  length = static_cast<std::size_t>(std::min<std::uint64_t>(length, size_ - std::min(size_, offset_)));
  const std::shared_ptr<char[]> buffer(new char[length]);  // not cleared: read() fills it
  std::size_t have = 0;
  while (have < length) {
    const ssize_t got = ::pread(fd_, buffer.get() + have, length - have, static_cast<off_t>(offset_ + have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return system_error("read", path_);
    if (got == 0)
      return Error{Errc::conflict, "read '" + path_ + "': it became shorter meanwhile; put it again when nobody writes it"};
    have += static_cast<std::size_t>(got);
  }
  offset_ += length;
  return Payload(buffer, ByteView(buffer.get(), length));
}

LocalFileBatch::~LocalFileBatch() {
  close_descriptor();
  if (finished_) return;
  for (const File& file : files_) ::unlink(file.temporary.c_str());
  for (auto folder = made_folders_.rbegin(); folder != made_folders_.rend(); ++folder) ::rmdir(folder->c_str());
}

Status LocalFileBatch::make_folders(const std::string& path) {
  const std::string folder = folder_of(path);
  if (known_folders_.count(folder) != 0) return {};
  struct stat info {};
  if (::stat(folder.c_str(), &info) == 0) {
    if (!S_ISDIR(info.st_mode)) return Error{Errc::invalid, "write '" + path + "': '" + folder + "' is not a directory"};
  } else {
    if (errno != ENOENT) return system_error("make the directory", folder);
    if (auto status = make_folders(folder); !status) return status;
    if (::mkdir(folder.c_str(), 0777) != 0) return system_error("make the directory", folder);
    made_folders_.push_back(folder);
  }
  known_folders_.insert(folder);
  return {};
}

Result<std::size_t> LocalFileBatch::add(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return Error{Errc::invalid, "write '" + path + "': it is a directory; name a file"};
  }
  if (auto status = make_folders(path); !status) return status.error();
  const std::string number = std::to_string(::getpid()) + "-" + std::to_string(files_.size());
  std::string temporary = folder_of(path) + "/.idunno-part-" + number;
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return system_error("write", temporary);
  close_descriptor();
  files_.push_back(File{path, std::move(temporary)});
  open_file_ = files_.size() - 1;
  open_fd_ = fd;
  return open_file_;
}

Result<int> LocalFileBatch::descriptor(std::size_t file) {
  if (open_fd_ >= 0 && open_file_ == file) return open_fd_;
  close_descriptor();
  const int fd = ::open(files_[file].temporary.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return system_error("write", files_[file].temporary);
  open_file_ = file;
  open_fd_ = fd;
  return fd;
}

void LocalFileBatch::close_descriptor() {
  if (open_fd_ >= 0) ::close(open_fd_);
  open_fd_ = -1;
}

Status LocalFileBatch::write(std::size_t file, std::uint64_t offset, ByteView bytes) {
  const auto fd = descriptor(file);
  if (!fd) return fd.error();
  while (!bytes.empty()) {
    const ssize_t written = ::pwrite(*fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_error("write", files_[file].path);
    bytes.remove_prefix(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return {};
}

Status LocalFileBatch::finish() {
  close_descriptor();
  for (std::size_t i = 0; i < files_.size(); ++i) {
    if (::rename(files_[i].temporary.c_str(), files_[i].path.c_str()) != 0) {
      const Error error = system_error("write", files_[i].path);
      // Those renamed already are complete files; the rest is removed with this object.
      files_.erase(files_.begin(), files_.begin() + static_cast<std::ptrdiff_t>(i));
      return error;
    }
  }
  finished_ = true;
  return {};
}

}  // namespace idunno

#pragma once
/// Files of the machine the client runs on: reading them in pieces straight into payloads, and writing them under temporary names
/// that become the real ones only when everything is there. No exceptions leave this file; errors name the file and say why.

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"

namespace idunno {

/// ok when `path` is a regular file that can be read; else not_found, invalid or forbidden.
[[nodiscard]] Status check_readable_file(const std::string& path);

/// Reads one file from its start to the size it had when it was opened.
class LocalFileReader {
 public:
  [[nodiscard]] static Result<LocalFileReader> open(const std::string& path);
  LocalFileReader(LocalFileReader&& other) noexcept;
  LocalFileReader& operator=(LocalFileReader&& other) noexcept;
  ~LocalFileReader();

  [[nodiscard]] bool at_end() const { return offset_ >= size_; }
  /// Up to `length` bytes; fewer only at the end.
  [[nodiscard]] Result<Payload> next(std::size_t length);

 private:
  LocalFileReader(int fd, std::string path, std::uint64_t size) : fd_(fd), path_(std::move(path)), size_(size) {}
  int fd_ = -1;
  std::string path_;
  std::uint64_t size_ = 0;
  std::uint64_t offset_ = 0;
};

/// Files that appear together or not at all: written beside their final places and renamed by finish(). Whatever was not
/// finished, folders made on the way included, is removed by the destructor.
class LocalFileBatch {
 public:
  LocalFileBatch() = default;
  LocalFileBatch(const LocalFileBatch&) = delete;
  LocalFileBatch& operator=(const LocalFileBatch&) = delete;
  ~LocalFileBatch();

  /// Makes the folders above and an empty temporary file; returns its number. The file is not held open.
  [[nodiscard]] Result<std::size_t> add(const std::string& path);
  [[nodiscard]] Status write(std::size_t file, std::uint64_t offset, ByteView bytes);
  /// Renames all.
  [[nodiscard]] Status finish();

 private:
  struct File {
    std::string path;
    std::string temporary;
  };
  [[nodiscard]] Status make_folders(const std::string& path);
  [[nodiscard]] Result<int> descriptor(std::size_t file);
  void close_descriptor();

  std::vector<File> files_;
  std::set<std::string> known_folders_;
  std::vector<std::string> made_folders_;  ///< in the order in which they were made
  std::size_t open_file_ = 0;              ///< the last one written stays open: its next block usually follows
  int open_fd_ = -1;
  bool finished_ = false;
};

}  // namespace idunno

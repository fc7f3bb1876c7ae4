#pragma once
/// How far a log on disk has come, noted beside it after each synced write, in a file that is written in place and never synced.
/// It catches what RocksDB does not: a damaged length in the newest records of the write-ahead log looks like a torn tail, and
/// acknowledged writes, a vote among them, would silently be gone. The mark survives the death of the process; after a power cut
/// it may be older than the log, never newer, so it never accuses a sound log. Best effort: without a mark nothing is checked.
/// One thread.

#include <array>
#include <cstdint>
#include <filesystem>

namespace idunno {

class LogMark {
 public:
  explicit LogMark(std::filesystem::path file) : file_(std::move(file)) {}
  ~LogMark();
  LogMark(const LogMark&) = delete;
  LogMark& operator=(const LogMark&) = delete;

  struct Value {
    std::uint64_t log_id = 0;
    std::uint64_t writes = 0;  ///< made durable so far
  };
  /// The newest that is there; {0, 0} when there is none that can be read.
  [[nodiscard]] Value read() const;
  void write(const Value& value);

 private:
  const std::filesystem::path file_;
  int fd_ = -1;
  bool gave_up_ = false;  ///< the file can not be made: no space, no permission
};

}  // namespace idunno

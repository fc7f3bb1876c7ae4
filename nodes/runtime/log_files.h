#pragma once
/// The log of this node on disk, and pieces of logs in general.
///
/// A log is a sequence of files numbered by the time of their making (milliseconds since 1970, always growing, also when the
/// clock was set back), so that a LogPosition, file number and byte, stays good when files are rotated, when the node starts
/// again, and even when its folder was wiped: what comes later has a higher number. `idunnod.log` is a link to the newest file.
/// All writes are whole lines; a file is rotated at a size and at an age, and the oldest one goes when there are too many.
///
/// LogFiles: any thread. The functions over pieces are free of state.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/log_messages.h"

namespace idunno {

/// A file that holds a part of a log, from `begin` on.
struct LogPiece {
  LogPosition begin;
  std::filesystem::path file;
  bool operator==(const LogPiece&) const = default;
};
/// By position.
using LogPieces = std::vector<LogPiece>;

class LogFiles {
 public:
  struct Options {
    std::filesystem::path folder;
    std::uint64_t file_bytes_max = 16U << 20U;  ///< a file is rotated before it grows over this
    Duration file_age_max = std::chrono::hours(24);
    std::uint32_t files_max = 5;          ///< the present one included
    std::function<WallMs()> wall_now_ms;  ///< the clock that numbers and ages files
  };
  /// Goes on with the newest file, if there is one and it has room.
  [[nodiscard]] static Result<std::unique_ptr<LogFiles>> open(Options options);
  ~LogFiles();
  LogFiles(const LogFiles&) = delete;
  LogFiles& operator=(const LogFiles&) = delete;

  /// One line, without its end; line breaks inside become "\n" in letters. Buffered: written by `flush`, or when 64 KiB wait.
  /// What cannot be written (a full disk) is dropped and counted.
  void append(std::string_view line);
  void flush();
  [[nodiscard]] bool waiting() const;           ///< something is not written yet
  [[nodiscard]] std::uint64_t dropped() const;  ///< lines that could not be written
  [[nodiscard]] LogPosition end() const;        ///< after the last byte that is written
  [[nodiscard]] std::uint64_t written() const;  ///< bytes, since the start
  [[nodiscard]] LogPieces pieces() const;       ///< what is on disk now
  /// The next file gets a higher number than this: another node holds positions of this one up to there.
  void number_above(std::uint64_t file);

 private:
  LogFiles();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The end of a log of the length `bytes`, from the end backwards: the first position from which on at most `bytes` follow.
[[nodiscard]] LogPosition position_before_end(const LogPieces& pieces, std::uint64_t bytes);
/// At most `bytes_max` of the log from `from` on, cut after a line end, all of one file; `from` is moved to where the text begins
/// (the next file, or the next one that is left) and to where it ends. Empty: nothing more now. A line longer than `bytes_max` is
/// passed over.
[[nodiscard]] std::string read_log(const LogPieces& pieces, LogPosition& from, LogPosition& to, std::size_t bytes_max);

}  // namespace idunno

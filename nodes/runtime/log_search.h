#pragma once
/// Finds lines in pieces of a log (log_files.h): by RE2 pattern, job, batch, time and level. Free of state: any thread.
///
/// The form of a line, which filters rely on (logging.h writes it):
///   2026-01-02T03:04:05.678Z info n3 [j12/b47] text
/// time (UTC), level, node, and in brackets the job or batch that it is about, if any. A line of another form has no time, the
/// level info, and is about nothing.
///
/// Speed: whole buffers are searched, for a literal that every match must contain where the pattern has one (memmem), else by
/// RE2; lines are looked at one by one only where something was found. Nothing is allocated for lines that do not match.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "bus/base/result.h"
#include "bus/log_messages.h"
#include "nodes/runtime/log_files.h"

namespace idunno {

inline constexpr std::uint64_t kLogPieceBytesMax = 32U << 20U;  ///< of the log that one search covers
inline constexpr std::size_t kLogLineBytesMax = 32U << 10U;     ///< of one line in an answer; the rest is cut off

/// What the head of a line says.
struct LogHead {
  WallMs at_ms = 0;
  LogLevel level = LogLevel::info;
  std::string_view about;  ///< "j12" or "j12/b47"; empty = about nothing
};
[[nodiscard]] LogHead head_of(std::string_view line);

/// A text that every match of the pattern contains, the longest one found; empty when there is none for sure. May be shorter than
/// what a cleverer reader would find, never wrong.
[[nodiscard]] std::string required_literal(std::string_view pattern);

class LogSearch {
 public:
  /// invalid: the pattern cannot be compiled, or needs too much memory; says why.
  [[nodiscard]] static Result<LogSearch> compile(const LogSearchRequest& request);
  LogSearch(LogSearch&&) noexcept;
  ~LogSearch();

  /// One page from `request.from` on: at most max_lines lines, kLogBytesPerReplyMax bytes of them, and kLogPieceBytesMax of the
  /// log or `time_max`, whichever comes first. What stands behind the last line end of a file is not a line (yet). A position of
  /// {max, max} asks for the end: nothing is read, `next` is there.
  [[nodiscard]] LogSearchReply run(const LogPieces& pieces, Duration time_max) const;
  /// Does this line (without its end) match? For single lines.
  [[nodiscard]] bool matches(std::string_view line) const;

 private:
  struct Impl;
  LogSearch();
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

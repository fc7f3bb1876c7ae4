#pragma once
/// Messages of the rpc service that look into the logs of machines (`idunno grep`) and into the lives of batches
/// (`idunno job explain`). Every node answers them; the client asks all and merges by time.
///
/// A node sends the end of its log to two others as it writes it (LogTail), so that the last lines of a dead machine are found.

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/codec.h"
#include "bus/messages.h"

namespace idunno {

inline constexpr std::size_t kLogLinesPerReplyMax = 2048;
inline constexpr std::size_t kLogBytesPerReplyMax = 512U << 10U;
inline constexpr std::size_t kLogPatternBytesMax = 4096;
inline constexpr std::size_t kLogTailBytesMax = 256U << 10U;  ///< of one LogTail
inline constexpr std::size_t kBatchStepsMax = 512;

enum class LogLevel : std::uint8_t { trace = 0, debug = 1, info = 2, warning = 3, error = 4, critical = 5 };

template <>
struct EnumRange<LogLevel> : ContiguousEnum<LogLevel, LogLevel::critical> {};

struct LogLine {
  WallMs at_ms = 0;  ///< as its machine wrote it
  LogLevel level = LogLevel::info;
  std::string text;  ///< the whole line as it stands in the file, without the line end
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.at_ms, s.level, s.text);
  }
  bool operator==(const LogLine&) const = default;
};

/// Where a search goes on: a file by its number (rotation makes higher ones), and a byte in it. {0, 0} = the oldest line.
struct LogPosition {
  std::uint64_t file = 0;
  std::uint64_t offset = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.file, s.offset);
  }
  auto operator<=>(const LogPosition&) const = default;
};

struct LogSearchReply {
  static constexpr auto kType = MessageType::log_search_reply;
  NodeId of;
  std::vector<LogLine> lines;  ///< in the order of the file; none with count_only
  std::uint64_t matches = 0;   ///< of this reply
  std::uint64_t scanned_bytes = 0;
  LogPosition next;
  bool at_end = false;  ///< nothing more for now
  bool held = true;     ///< false: this node holds nothing of that machine's log
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.of, s.lines, s.matches, s.scanned_bytes, s.next, s.at_end, s.held);
  }
  bool operator==(const LogSearchReply&) const = default;
};
/// One page of one machine's log. A reply covers a bounded piece of the file, whether anything matched or not.
struct LogSearchRequest {
  static constexpr auto kType = MessageType::log_search;
  static constexpr Role kRole = Role::read;
  using Reply = LogSearchReply;
  NodeId of;            ///< whose log: the asked node's own, or the tail that it keeps of another
  std::string pattern;  ///< RE2; empty = every line
  bool ignore_case = false;
  bool count_only = false;
  JobId job;                ///< only lines about it; 0 = all
  std::int64_t batch = -1;  ///< only lines about it; -1 = all
  WallMs since_ms = 0;
  LogLevel level = LogLevel::trace;  ///< this and worse
  LogPosition from;
  std::uint32_t max_lines = kLogLinesPerReplyMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.of, s.pattern, s.ignore_case, s.count_only, s.job, s.batch, s.since_ms, s.level, s.from, s.max_lines);
  }
  bool operator==(const LogSearchRequest&) const = default;
};

struct LogTailReply {
  static constexpr auto kType = MessageType::log_tail_reply;
  LogPosition wanted;  ///< from where the keeper wants the next bytes
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.wanted);
  }
  bool operator==(const LogTailReply&) const = default;
};
/// New bytes of the sender's log, whole lines; at most kLogTailBytesMax.
struct LogTail {
  static constexpr auto kType = MessageType::log_tail;
  static constexpr Role kRole = Role::node;
  using Reply = LogTailReply;
  NodeId node;
  LogPosition at;
  std::string text;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.at, s.text);
  }
  bool operator==(const LogTail&) const = default;
};

/// One thing that happened to a batch, as one node knows it.
struct BatchStep {
  WallMs at_ms = 0;
  NodeId node;  ///< where it happened
  std::uint32_t attempt = 0;
  std::string what;           ///< leased, fetched, started, inferred, stored, committed, lost, failed, hedged, isolated
  std::uint64_t took_us = 0;  ///< 0 = a moment
  std::string text;           ///< why there, what failed
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.at_ms, s.node, s.attempt, s.what, s.took_us, s.text);
  }
  bool operator==(const BatchStep&) const = default;
};
struct BatchLivesReply {
  static constexpr auto kType = MessageType::batch_lives_reply;
  NodeId answered_by;
  bool coordinator = false;      ///< of the coordinator: `waits` is filled in
  std::string waits;             ///< why the job does not go on, or goes on slower than it could; empty = it does
  std::vector<BatchStep> steps;  ///< by time; at most kBatchStepsMax
  bool forgotten = false;        ///< this node has forgotten steps of that time
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.answered_by, s.coordinator, s.waits, s.steps, s.forgotten);
  }
  bool operator==(const BatchLivesReply&) const = default;
};
struct BatchLivesRequest {
  static constexpr auto kType = MessageType::batch_lives;
  static constexpr Role kRole = Role::read;
  using Reply = BatchLivesReply;
  JobId job;
  std::int64_t batch = -1;  ///< -1: of the job as a whole
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.batch);
  }
  bool operator==(const BatchLivesRequest&) const = default;
};

#define IDUNNO_LOG_MESSAGES(X) \
  X(LogSearchReply) X(LogSearchRequest) X(LogTailReply) X(LogTail) X(BatchLivesReply) X(BatchLivesRequest)
IDUNNO_LOG_MESSAGES(IDUNNO_DECLARED_MESSAGE)  // bus/codec_instances.h

}  // namespace idunno

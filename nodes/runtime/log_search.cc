#include "nodes/runtime/log_search.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <re2/re2.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr std::int64_t kPatternMemoryBytes = 8 << 20;  ///< of the compiled pattern and its automata
constexpr std::size_t kChunkBytes = 1U << 20U;         ///< read at once
constexpr std::size_t kDenseBytes = 512;               ///< one line to look at in so many bytes is much
constexpr std::size_t kTimeBytes = 24;                 ///< "2026-01-02T03:04:05.678Z"
constexpr std::size_t kNone = std::string_view::npos;
const std::string kManyLines = "(?m)";  ///< ^ and $ are those of lines

struct LevelName {
  std::string_view name;
  LogLevel level;
};
constexpr std::array<LevelName, 6> kLevels{{{"trace", LogLevel::trace},
                                            {"debug", LogLevel::debug},
                                            {"info", LogLevel::info},
                                            {"warning", LogLevel::warning},
                                            {"error", LogLevel::error},
                                            {"critical", LogLevel::critical}}};

bool has_time(std::string_view line) {
  return line.size() > kTimeBytes && line[4] == '-' && line[7] == '-' && line[10] == 'T' && line[13] == ':' && line[16] == ':' &&
         line[19] == '.' && line[23] == 'Z' && line[24] == ' ';
}

/// Days since 1970 of a date of the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day) {
  year -= month <= 2 ? 1 : 0;
  const std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  const auto year_of_era = static_cast<unsigned>(year - era * 400);
  const unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  const unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + static_cast<std::int64_t>(day_of_era) - 719468;
}

std::optional<std::uint64_t> digits(std::string_view text) {
  std::uint64_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return std::nullopt;
    number = number * 10 + static_cast<std::uint64_t>(c - '0');
  }
  return number;
}

WallMs time_of(std::string_view line) {
  const auto year = digits(line.substr(0, 4));
  const auto month = digits(line.substr(5, 2));
  const auto day = digits(line.substr(8, 2));
  const auto hour = digits(line.substr(11, 2));
  const auto minute = digits(line.substr(14, 2));
  const auto second = digits(line.substr(17, 2));
  const auto ms = digits(line.substr(20, 3));
  if (!year || !month || !day || !hour || !minute || !second || !ms || *month < 1 || *month > 12) return 0;
  const std::int64_t days =
      days_from_civil(static_cast<std::int64_t>(*year), static_cast<unsigned>(*month), static_cast<unsigned>(*day));
  if (days < 0) return 0;
  return ((static_cast<std::uint64_t>(days) * 24 + *hour) * 60 + *minute) * 60'000 + *second * 1000 + *ms;
}

std::string_view word_at(std::string_view line, std::size_t begin) {
  return line.substr(begin, std::min(line.find(' ', begin), line.size()) - begin);
}

std::size_t find_literal(std::string_view text, std::size_t from, std::string_view literal) {
  const void* found = memmem(text.data() + from, text.size() - from, literal.data(), literal.size());
  return found == nullptr ? kNone : static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
}

/// Whether RE2 may look at many lines at once: nothing in the pattern refers to the begin or end of the text, or changes flags.
bool spans_lines_safely(std::string_view pattern) {
  for (std::size_t i = 0; i + 1 < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
      if (pattern[i] == 'A' || pattern[i] == 'z' || pattern[i] == 'Q' || pattern[i] == 'C') return false;
    } else if (pattern[i] == '(' && pattern[i + 1] == '?') {
      const std::string_view rest = pattern.substr(i + 2);
      if (!rest.starts_with(":") && !rest.starts_with("P<")) return false;
    }
  }
  return true;
}

std::size_t class_end(std::string_view pattern, std::size_t open) {
  std::size_t i = open + 1;
  if (i < pattern.size() && pattern[i] == '^') ++i;
  if (i < pattern.size() && pattern[i] == ']') ++i;
  for (; i < pattern.size() && pattern[i] != ']'; ++i) {
    if (pattern[i] == '\\') ++i;
    if (i + 1 < pattern.size() && pattern[i] == '[' && pattern[i + 1] == ':') {
      const std::size_t closed = pattern.find(":]", i + 2);
      if (closed != kNone) i = closed + 1;
    }
  }
  return i;
}

std::size_t group_end(std::string_view pattern, std::size_t open) {
  int depth = 0;
  for (std::size_t i = open; i < pattern.size(); ++i) {
    if (pattern[i] == '\\') {
      ++i;
    } else if (pattern[i] == '[') {
      i = class_end(pattern, i);
    } else if (pattern[i] == '(') {
      ++depth;
    } else if (pattern[i] == ')' && --depth == 0) {
      return i;
    }
  }
  return pattern.size();
}

/// Collects runs of letters that stand for themselves; keeps the longest.
struct Runs {
  std::string best;
  std::string run;

  void end() {
    if (run.size() > best.size()) best = run;
    run.clear();
  }
  /// The last letter may be missing in a match; of several bytes all go.
  void drop_last() {
    while (!run.empty() && (static_cast<unsigned char>(run.back()) & 0xC0U) == 0x80U) run.pop_back();
    if (!run.empty()) run.pop_back();
    end();
  }
};

}  // namespace

std::string required_literal(std::string_view pattern) {
  if (!spans_lines_safely(pattern)) return {};
  Runs runs;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '|') return {};  // either side may match
    if (c == '(') {
      runs.end();
      i = group_end(pattern, i);
    } else if (c == '[') {
      runs.end();
      i = class_end(pattern, i);
    } else if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (std::ispunct(static_cast<unsigned char>(next)) != 0) {
        runs.run += next;
      } else {
        runs.end();
        // Behind \x, \p and numbers stand letters that belong to them: no more is read, but there may be a '|'.
        if (std::strchr("wWdDsSbB", next) == nullptr) return {};
      }
    } else if (c == '*' || c == '?') {
      runs.drop_last();
    } else if (c == '{') {
      runs.drop_last();
      i = std::min(pattern.find('}', i), pattern.size());
    } else if (std::strchr(".^$+)\\", c) != nullptr) {
      runs.end();
    } else {
      runs.run += c;
    }
  }
  runs.end();
  return runs.best;
}

LogHead head_of(std::string_view line) {
  LogHead head;
  if (!has_time(line)) return head;
  head.at_ms = time_of(line);
  const std::string_view level = word_at(line, kTimeBytes + 1);
  for (const LevelName& known : kLevels) {
    if (known.name == level) head.level = known.level;
  }
  const std::size_t node = kTimeBytes + 1 + level.size() + 1;
  if (node >= line.size()) return head;
  const std::size_t about = node + word_at(line, node).size() + 1;
  if (about >= line.size() || line[about] != '[') return head;
  const std::size_t closed = line.find(']', about);
  if (closed != kNone) head.about = line.substr(about + 1, closed - about - 1);
  return head;
}

struct LogSearch::Impl {
  LogSearchRequest request;
  std::unique_ptr<re2::RE2> pattern;  ///< none: every line
  bool whole_buffers = false;         ///< the pattern may be run over many lines
  std::string literal;                ///< every match contains it; empty = not known
  bool is_literal = false;            ///< and it is all there is to the pattern
  std::string about;                  ///< "j12" or "j12/b47"; empty = any
  std::string about_word;             ///< "[j12": what lines about it contain
  std::string since;                  ///< as in a line
  bool filters = false;               ///< by head

  [[nodiscard]] bool head_fits(std::string_view line) const {
    if (!filters) return true;
    if (!since.empty() && (!has_time(line) || line.substr(0, kTimeBytes) < since)) return false;
    if (request.level == LogLevel::trace && about.empty()) return true;
    const LogHead head = head_of(line);
    if (head.level < request.level) return false;
    if (about.empty() || head.about == about) return true;
    // Of a job: its batches, too; "j1" is not "j12".
    return request.batch < 0 && head.about.size() > about.size() && head.about.starts_with(about) &&
           head.about[about.size()] == '/';
  }

  [[nodiscard]] bool pattern_fits(std::string_view line) const {
    if (is_literal) return line.find(literal) != kNone;
    if (!pattern) return true;
    return pattern->Match(re2::StringPiece(line.data(), line.size()), 0, line.size(), re2::RE2::UNANCHORED, nullptr, 0);
  }

  /// Where the next line that may match has what makes it do so. `verified`: the pattern matches there for sure. kNone: no more.
  /// `dense`: the literal is in so many lines that looking at each of them costs more than running the pattern over all.
  [[nodiscard]] std::size_t candidate(std::string_view text, std::size_t from, bool dense, bool& verified) const {
    verified = false;
    if (!about_word.empty()) return find_literal(text, from, about_word);
    verified = is_literal || !pattern;
    if (!literal.empty() && (is_literal || !dense || !whole_buffers)) return find_literal(text, from, literal);
    if (!pattern || !whole_buffers) return from;
    verified = true;
    re2::StringPiece found;
    if (!pattern->Match(re2::StringPiece(text.data(), text.size()), from, text.size(), re2::RE2::UNANCHORED, &found, 1))
      return kNone;
    return static_cast<std::size_t>(found.data() - text.data());
  }
};

LogSearch::LogSearch() : impl_(std::make_unique<Impl>()) {}
LogSearch::LogSearch(LogSearch&&) noexcept = default;
LogSearch::~LogSearch() = default;

Result<LogSearch> LogSearch::compile(const LogSearchRequest& request) {
  LogSearch search;
  Impl& impl = *search.impl_;
  impl.request = request;
  if (request.pattern.size() > kLogPatternBytesMax) {
    return Error{Errc::invalid,
                 fmt::format("the pattern has {} bytes, at most {} are possible", request.pattern.size(), kLogPatternBytesMax)};
  }
  if (!request.pattern.empty()) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    options.set_max_mem(kPatternMemoryBytes);
    options.set_case_sensitive(!request.ignore_case);
    options.set_never_nl(true);
    impl.pattern = std::make_unique<re2::RE2>(kManyLines + request.pattern, options);
    if (!impl.pattern->ok()) {
      std::string why = impl.pattern->error();
      if (const std::size_t ours = why.find(kManyLines); ours != kNone) why.erase(ours, kManyLines.size());
      return Error{Errc::invalid, fmt::format("the pattern \"{}\" cannot be used: {}", request.pattern, why)};
    }
    impl.whole_buffers = spans_lines_safely(request.pattern);
    if (!request.ignore_case) {
      impl.literal = required_literal(request.pattern);
      impl.is_literal =
          !impl.literal.empty() && (impl.literal == request.pattern || re2::RE2::QuoteMeta(impl.literal) == request.pattern);
    }
  }
  if (request.job) {
    impl.about = request.batch < 0 ? to_string(request.job) : to_string(request.job) + "/b" + std::to_string(request.batch);
    impl.about_word = "[" + impl.about;
  }
  if (request.since_ms != 0) impl.since = rfc3339(request.since_ms);
  impl.filters = request.job || request.since_ms != 0 || request.level != LogLevel::trace;
  return search;
}

bool LogSearch::matches(std::string_view line) const { return impl_->head_fits(line) && impl_->pattern_fits(line); }

namespace {

/// One run of a search: what it has found, and its bounds.
struct Page {
  LogSearchReply reply;
  std::size_t line_bytes = 0;
  std::size_t lines_max = 0;
  bool count_only = false;
  bool dense = false;
  std::size_t unverified = 0;  ///< lines that were looked at one by one, in this text

  [[nodiscard]] bool full() const {
    return reply.lines.size() >= lines_max || line_bytes + kLogLineBytesMax > kLogBytesPerReplyMax;
  }
  void take(std::string_view line) {
    ++reply.matches;
    if (count_only) return;
    const LogHead head = head_of(line);
    LogLine& found = reply.lines.emplace_back();
    found.at_ms = head.at_ms;
    found.level = head.level;
    found.text = line.substr(0, kLogLineBytesMax);
    line_bytes += found.text.size() + sizeof(LogLine);
  }
};

class Piece {
 public:
  explicit Piece(const LogPiece& piece) : begin_(piece.begin), file_(open(piece.file.c_str(), O_RDONLY | O_CLOEXEC)) {
    struct stat info {};
    if (file_ < 0 || fstat(file_, &info) != 0) return;
    size_ = static_cast<std::uint64_t>(info.st_size);
    changed_ms_ = static_cast<WallMs>(info.st_mtim.tv_sec) * 1000U + static_cast<WallMs>(info.st_mtim.tv_nsec) / 1'000'000U;
  }
  ~Piece() {
    if (file_ >= 0) close(file_);
  }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  [[nodiscard]] bool there() const { return file_ >= 0; }
  [[nodiscard]] LogPosition end() const { return {begin_.file, begin_.offset + size_}; }
  [[nodiscard]] WallMs changed_ms() const { return changed_ms_; }
  /// Whole lines from the offset on (of the log's file), in `buffer`; empty at the end.
  [[nodiscard]] std::string_view read(std::uint64_t offset, std::string& buffer) const {
    buffer.resize(kChunkBytes);
    const std::uint64_t place = offset - begin_.offset;
    if (place >= size_) return {};
    const std::uint64_t wanted = std::min<std::uint64_t>(kChunkBytes, size_ - place);
    const ssize_t got = pread(file_, buffer.data(), wanted, static_cast<off_t>(place));
    if (got <= 0) return {};
    const std::string_view text(buffer.data(), static_cast<std::size_t>(got));
    const std::size_t last = text.rfind('\n');
    if (last != kNone) return text.substr(0, last + 1);
    return text.size() == kChunkBytes ? text : std::string_view();  // one endless line is taken in pieces
  }

 private:
  LogPosition begin_;
  int file_;
  std::uint64_t size_ = 0;
  WallMs changed_ms_ = 0;
};

/// Returns how much of the text was looked at: all, or less when the page is full.
template <class Search>
std::size_t search_text(const Search& search, std::string_view text, Page& page) {
  std::size_t at = 0;
  while (at < text.size()) {
    bool verified = false;
    const std::size_t hit = search.candidate(text, at, page.dense, verified);
    if (hit == kNone || hit >= text.size()) return text.size();
    const std::size_t before = hit == 0 ? kNone : text.rfind('\n', hit - 1);
    const std::size_t begin = std::max(at, before == kNone ? 0 : before + 1);
    const std::size_t end = std::min(text.find('\n', hit), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    if (!verified) ++page.unverified;
    if (search.head_fits(line) && (verified || search.pattern_fits(line))) {
      if (page.full()) return begin;
      page.take(line);
    }
    at = end + 1;
  }
  return text.size();
}

}  // namespace

LogSearchReply LogSearch::run(const LogPieces& pieces, Duration time_max) const {
  const LogSearchRequest& request = impl_->request;
  const Time deadline = monotonic_now() + time_max;
  Page page;
  page.lines_max = std::clamp<std::size_t>(request.max_lines, 1, kLogLinesPerReplyMax);
  page.count_only = request.count_only;
  LogSearchReply& reply = page.reply;
  reply.of = request.of;
  reply.next = request.from;
  reply.held = !pieces.empty();
  const bool end_wanted = request.from.file == std::numeric_limits<std::uint64_t>::max();
  if (end_wanted) reply.next = {};
  thread_local std::string buffer;
  for (const LogPiece& place : pieces) {
    const Piece piece(place);
    if (!piece.there()) continue;  // deleted meanwhile
    if (end_wanted) {
      reply.next = std::max(reply.next, piece.end());
      continue;
    }
    LogPosition at = std::max(reply.next, place.begin);
    if (at >= piece.end()) continue;
    if (request.since_ms != 0 && piece.changed_ms() + 1000 < request.since_ms) {
      reply.next = piece.end();
      continue;
    }
    while (true) {
      const std::string_view text = piece.read(at.offset, buffer);
      if (text.empty()) break;
      page.unverified = 0;
      const std::size_t done = search_text(*impl_, text, page);
      page.dense = page.dense || page.unverified * kDenseBytes > done;
      at.offset += done;
      reply.scanned_bytes += done;
      reply.next = at;
      if (done < text.size() || page.full() || reply.scanned_bytes >= kLogPieceBytesMax || monotonic_now() >= deadline)
        return std::move(page.reply);
    }
  }
  reply.at_end = true;
  return std::move(page.reply);
}

}  // namespace idunno

#include "nodes/runtime/log_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

namespace idunno {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBufferBytesMax = 64U << 10U;
constexpr const char* kLinkName = "idunnod.log";
constexpr std::string_view kPrefix = "idunnod-";
constexpr std::string_view kSuffix = ".log";

std::string file_name(std::uint64_t number) { return fmt::format("idunnod-{:013}.log", number); }

std::optional<std::uint64_t> number_of(const std::string& name) {
  if (name.size() <= kPrefix.size() + kSuffix.size() || !name.starts_with(kPrefix) || !name.ends_with(kSuffix))
    return std::nullopt;
  const char* begin = name.data() + kPrefix.size();
  const char* end = name.data() + name.size() - kSuffix.size();
  std::uint64_t number = 0;
  const auto parsed = std::from_chars(begin, end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

/// By number.
std::vector<std::uint64_t> numbers_in(const fs::path& folder) {
  std::vector<std::uint64_t> numbers;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (const auto number = number_of(at->path().filename().string())) numbers.push_back(*number);
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::uint64_t size_of(const fs::path& file) {
  struct stat info {};
  return stat(file.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

Error file_error(const char* doing, const fs::path& file) {
  return Error{Errc::internal, fmt::format("{} {}: {}", doing, file.string(), std::strerror(errno))};
}

/// Complete, or -1 bytes short: a log that lost the half of a line keeps the rest readable.
std::size_t write_all(int file, std::string_view bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = write(file, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) break;
    done += static_cast<std::size_t>(put);
  }
  return done;
}

}  // namespace

struct LogFiles::Impl {
  Options options;
  mutable std::mutex mutex;
  int file = -1;
  std::uint64_t number = 0;
  std::uint64_t number_min = 0;
  std::uint64_t bytes = 0;  ///< in the present file
  std::string buffer;
  std::uint64_t buffered_lines = 0;
  bool torn = false;  ///< the last write ended inside a line
  std::atomic<bool> waiting{false};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> written{0};

  ~Impl() {
    if (file >= 0) close(file);
  }

  [[nodiscard]] fs::path path_of(std::uint64_t file_number) const { return options.folder / file_name(file_number); }

  Status open_file(std::uint64_t file_number) {
    const fs::path path = path_of(file_number);
    const int opened = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (opened < 0) return file_error("opening the log", path);
    if (file >= 0) close(file);
    file = opened;
    number = file_number;
    bytes = size_of(path);
    // A crash may have cut the last line.
    torn = false;
    if (bytes > 0) {
      char last = '\n';
      const int reader = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (reader >= 0) {
        if (pread(reader, &last, 1, static_cast<off_t>(bytes - 1)) != 1) last = '\n';
        close(reader);
      }
      torn = last != '\n';
    }
    set_link();
    return {};
  }

  /// Set beside and renamed: there is never no link. One that cannot be made is no reason not to log.
  void set_link() const {
    std::error_code ignored;
    const fs::path link = options.folder / kLinkName;
    const fs::path beside = options.folder / (std::string(kLinkName) + ".new");
    fs::remove(beside, ignored);
    fs::create_symlink(file_name(number), beside, ignored);
    fs::rename(beside, link, ignored);
  }

  Status rotate() {
    const std::uint64_t next = std::max({static_cast<std::uint64_t>(options.wall_now_ms()), number + 1, number_min});
    if (Status opened = open_file(next); !opened) return opened;
    std::vector<std::uint64_t> numbers = numbers_in(options.folder);
    for (std::size_t i = 0; i + options.files_max < numbers.size(); ++i) {
      std::error_code ignored;
      fs::remove(path_of(numbers[i]), ignored);
    }
    return {};
  }

  [[nodiscard]] bool too_old() const {
    const auto age_max = std::chrono::duration_cast<std::chrono::milliseconds>(options.file_age_max).count();
    return bytes > 0 && options.wall_now_ms() > static_cast<WallMs>(number) + static_cast<WallMs>(age_max);
  }

  void write_out() {
    if (buffer.empty()) return;
    if (bytes > 0 && (bytes + buffer.size() > options.file_bytes_max || too_old() || number < number_min)) (void)rotate();
    if (torn && write_all(file, "\n") == 1) {
      torn = false;
      ++bytes;
    }
    const std::size_t put = torn ? 0 : write_all(file, buffer);
    bytes += put;
    written += put;
    if (put < buffer.size()) {
      torn = put > 0;
      dropped += buffered_lines;
    }
    buffer.clear();
    buffered_lines = 0;
    waiting = false;
  }
};

LogFiles::LogFiles() : impl_(std::make_unique<Impl>()) {}
LogFiles::~LogFiles() { flush(); }

Result<std::unique_ptr<LogFiles>> LogFiles::open(Options options) {
  std::unique_ptr<LogFiles> log(new LogFiles());
  Impl& impl = *log->impl_;
  impl.options = std::move(options);
  const fs::path& folder = impl.options.folder;
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Error{Errc::internal, fmt::format("making the log's folder {}: {}", folder.string(), error.message())};
  // A log of an earlier program, which was one file.
  const fs::path link = folder / kLinkName;
  if (fs::is_regular_file(fs::symlink_status(link, error))) {
    struct stat info {};
    if (stat(link.c_str(), &info) == 0) {
      const auto made_ms = static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1000U;
      fs::rename(link, folder / file_name(std::max<std::uint64_t>(made_ms, 1)), error);
    }
  }
  const std::vector<std::uint64_t> numbers = numbers_in(folder);
  if (!numbers.empty()) {
    impl.number = numbers.back();
    impl.bytes = size_of(impl.path_of(impl.number));
  }
  const bool goes_on = !numbers.empty() && impl.bytes < impl.options.file_bytes_max && !impl.too_old();
  if (Status opened = goes_on ? impl.open_file(impl.number) : impl.rotate(); !opened) return opened.error();
  return log;
}

void LogFiles::append(std::string_view line) {
  const std::lock_guard lock(impl_->mutex);
  std::string& buffer = impl_->buffer;
  if (line.find('\n') == std::string_view::npos) {
    buffer += line;
  } else {
    for (const char c : line) {
      if (c == '\n') {
        buffer += "\\n";
      } else {
        buffer += c;
      }
    }
  }
  buffer += '\n';
  ++impl_->buffered_lines;
  impl_->waiting = true;
  if (buffer.size() >= kBufferBytesMax) impl_->write_out();
}

void LogFiles::flush() {
  const std::lock_guard lock(impl_->mutex);
  impl_->write_out();
}

bool LogFiles::waiting() const { return impl_->waiting; }
std::uint64_t LogFiles::dropped() const { return impl_->dropped; }
std::uint64_t LogFiles::written() const { return impl_->written; }

LogPosition LogFiles::end() const {
  const std::lock_guard lock(impl_->mutex);
  return {impl_->number, impl_->bytes};
}

LogPieces LogFiles::pieces() const {
  LogPieces pieces;
  for (const std::uint64_t number : numbers_in(impl_->options.folder)) pieces.push_back({{number, 0}, impl_->path_of(number)});
  return pieces;
}

void LogFiles::number_above(std::uint64_t file) {
  const std::lock_guard lock(impl_->mutex);
  impl_->number_min = std::max(impl_->number_min, file + 1);
}

LogPosition position_before_end(const LogPieces& pieces, std::uint64_t bytes) {
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    const std::uint64_t size = size_of(piece->file);
    if (size >= bytes) return {piece->begin.file, piece->begin.offset + size - bytes};
    bytes -= size;
  }
  return pieces.empty() ? LogPosition{} : pieces.front().begin;
}

std::string read_log(const LogPieces& pieces, LogPosition& from, LogPosition& to, std::size_t bytes_max) {
  for (const LogPiece& piece : pieces) {
    const int file = ::open(piece.file.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) continue;  // deleted meanwhile
    struct stat info {};
    const std::uint64_t size = fstat(file, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
    LogPosition at = std::max(from, piece.begin);
    std::string text;
    if (at.file == piece.begin.file && at.offset < piece.begin.offset + size) {
      const std::uint64_t place = at.offset - piece.begin.offset;
      text.resize(std::min<std::uint64_t>(bytes_max, size - place));
      const ssize_t got = pread(file, text.data(), text.size(), static_cast<off_t>(place));
      text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
      const bool full = text.size() == bytes_max;
      const auto line_end = text.rfind('\n');
      text.resize(line_end == std::string::npos ? 0 : line_end + 1);
      if (text.empty() && full) at.offset += bytes_max;  // one endless line: its rest is found by the next call
    }
    close(file);
    if (text.empty() && at.offset == std::max(from, piece.begin).offset) continue;
    from = at;
    to = {at.file, at.offset + text.size()};
    return text;
  }
  to = from;
  return std::string();
}

}  // namespace idunno

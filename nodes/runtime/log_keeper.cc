#include "nodes/runtime/log_keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

namespace idunno {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPiecesOfTail = 4;
constexpr std::size_t kPiecesMax = 64;  ///< gaps make small pieces: their number is bounded, too

std::string piece_name(LogPosition begin) { return fmt::format("{:013}-{:012}.log", begin.file, begin.offset); }

std::optional<LogPosition> position_of(const std::string& name) {
  unsigned long long file = 0;
  unsigned long long offset = 0;
  int length = 0;
  if (std::sscanf(name.c_str(), "%13llu-%12llu.log%n", &file, &offset, &length) != 2) return std::nullopt;
  if (static_cast<std::size_t>(length) != name.size()) return std::nullopt;
  return LogPosition{file, offset};
}

std::uint64_t size_of(const fs::path& file) {
  std::error_code error;
  const auto size = fs::file_size(file, error);
  return error ? 0 : size;
}

LogPieces pieces_in(const fs::path& folder) {
  LogPieces pieces;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    if (const auto begin = position_of(at->path().filename().string())) pieces.push_back({*begin, at->path()});
  }
  std::sort(pieces.begin(), pieces.end(), [](const LogPiece& a, const LogPiece& b) { return a.begin < b.begin; });
  return pieces;
}

Status append(const fs::path& file, std::string_view text) {
  const int opened = open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (opened < 0) return Error{Errc::internal, fmt::format("opening {}: {}", file.string(), std::strerror(errno))};
  const off_t before = lseek(opened, 0, SEEK_END);
  const ssize_t put = write(opened, text.data(), text.size());
  const int failed = errno;
  if (put != static_cast<ssize_t>(text.size())) {
    if (put > 0 && ftruncate(opened, before) != 0) unlink(file.c_str());  // a piece holds whole lines
    close(opened);
    return Error{Errc::full, fmt::format("writing {}: {}", file.string(), put < 0 ? std::strerror(failed) : "the disk is full")};
  }
  close(opened);
  return {};
}

}  // namespace

LogKeeper::LogKeeper(fs::path folder, std::uint64_t bytes_max) : folder_(std::move(folder)), bytes_max_(bytes_max) {}

fs::path LogKeeper::folder_of(NodeId node) const { return folder_ / to_string(node); }

LogKeeper::Tail& LogKeeper::open_tail(NodeId node) {
  const auto found = tails_.find(node);
  if (found != tails_.end()) return found->second;
  Tail& tail = tails_[node];
  tail.pieces = pieces_in(folder_of(node));
  if (!tail.pieces.empty()) {
    tail.last_bytes = size_of(tail.pieces.back().file);
    tail.end = tail.pieces.back().begin;
    tail.end.offset += tail.last_bytes;
  }
  return tail;
}

void LogKeeper::make_room(Tail& tail) const {
  std::uint64_t bytes = 0;
  for (const LogPiece& piece : tail.pieces) bytes += size_of(piece.file);
  std::size_t gone = 0;
  std::error_code ignored;
  while (gone < tail.pieces.size() && (bytes > bytes_max_ || tail.pieces.size() - gone > kPiecesMax)) {
    bytes -= std::min(bytes, size_of(tail.pieces[gone].file));
    fs::remove(tail.pieces[gone++].file, ignored);
  }
  tail.pieces.erase(tail.pieces.begin(), tail.pieces.begin() + static_cast<std::ptrdiff_t>(gone));
}

Result<LogPosition> LogKeeper::take(const LogTail& tail_message) {
  const std::lock_guard lock(mutex_);
  Tail& tail = open_tail(tail_message.node);
  LogPosition at = tail_message.at;
  std::string_view text = tail_message.text;
  if (at.file < tail.end.file) return tail.end;
  if (at.file == tail.end.file && at.offset < tail.end.offset) {  // sent again: its answer was lost
    const std::uint64_t known = std::min<std::uint64_t>(tail.end.offset - at.offset, text.size());
    text.remove_prefix(known);
    at.offset += known;
  }
  if (text.empty()) return std::max(tail.end, tail_message.at);
  const bool goes_on = !tail.pieces.empty() && at == tail.end && tail.last_bytes < bytes_max_ / kPiecesOfTail &&
                       fs::exists(tail.pieces.back().file);
  if (!goes_on) {
    // The room of the piece that begins now is counted already.
    std::error_code error;
    fs::create_directories(folder_of(tail_message.node), error);
    if (error) return Error{Errc::internal, fmt::format("making {}: {}", folder_of(tail_message.node).string(), error.message())};
    tail.pieces.push_back({at, folder_of(tail_message.node) / piece_name(at)});
    tail.last_bytes = 0;
  }
  if (Status appended = append(tail.pieces.back().file, text); !appended) {
    if (!goes_on) tail.pieces.pop_back();
    tails_.erase(tail_message.node);  // read anew from the disk
    return appended.error();
  }
  tail.last_bytes += text.size();
  tail.end = {at.file, at.offset + text.size()};
  if (!goes_on) make_room(tail);
  return tail.end;
}

LogPieces LogKeeper::pieces(NodeId node) const {
  const std::lock_guard lock(mutex_);
  const auto found = tails_.find(node);
  return found != tails_.end() ? found->second.pieces : pieces_in(folder_of(node));
}

}  // namespace idunno

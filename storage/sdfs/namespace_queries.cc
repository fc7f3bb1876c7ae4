/// The questions to a Namespace: everything that changes nothing.

#include <algorithm>
#include <limits>

#include "bus/base/assert.h"
#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

/// Upper bounds of what msgpack makes of these, so that a page fits its message whatever the numbers in it.
std::size_t encoded_bytes_max(const std::vector<BlockRef>& blocks) {
  std::size_t bytes = 5;
  for (const BlockRef& block : blocks) bytes += 48 + 5 * block.replicas.size();
  return bytes;
}
std::size_t encoded_bytes_max(const FileVersion& file) { return 40 + file.path.size() + encoded_bytes_max(file.blocks); }

FileVersion without_blocks(const FileVersion& file) {
  return FileVersion{file.path, file.version, file.size, file.created_ms, file.open, {}};
}

/// A place in a listing: all entries up to `path` are done; with a version, those of `path` down to that version only.
struct Cursor {
  std::string path;
  std::uint32_t version = 0;
};

/// Control characters are not allowed in paths, so '\n' cannot be part of one.
std::string cursor_text(const std::string& path, std::uint32_t version) { return path + "\n" + std::to_string(version); }

Result<Cursor> parse_cursor(const std::string& text) {
  const std::size_t split = text.find('\n');
  if (split == std::string::npos) return Cursor{text, 0};
  std::uint64_t version = 0;
  const std::string digits = text.substr(split + 1);
  if (digits.empty() || digits.size() > 10) return Error{Errc::invalid, "the page cursor is malformed"};
  for (const char c : digits) {
    if (c < '0' || c > '9') return Error{Errc::invalid, "the page cursor is malformed"};
    version = version * 10 + static_cast<std::uint64_t>(c - '0');
  }
  if (version == 0 || version > std::numeric_limits<std::uint32_t>::max())
    return Error{Errc::invalid, "the page cursor is malformed"};
  return Cursor{text.substr(0, split), static_cast<std::uint32_t>(version)};
}

/// Room left in a page. The first entry always fits: pages make progress.
class PageRoom {
 public:
  explicit PageRoom(std::uint32_t limit) : entries_left_(std::clamp<std::size_t>(limit, 1, kListPageMax)) {}
  bool take(std::size_t bytes) {
    if (entries_left_ == 0) return false;
    if (used_ && bytes > bytes_left_) return false;
    used_ = true;
    --entries_left_;
    bytes_left_ -= std::min(bytes, bytes_left_);
    return true;
  }

 private:
  std::size_t entries_left_;
  std::size_t bytes_left_ = kPageBytesMax;
  bool used_ = false;
};

bool starts_with(const std::string& text, const std::string& prefix) { return text.compare(0, prefix.size(), prefix) == 0; }

/// The least string after all that start with `prefix`, which ends in '/'.
std::string after_all_below(std::string prefix) {
  prefix.back() = '/' + 1;
  return prefix;
}

}  // namespace

const FileVersion* Namespace::find(const std::string& path, std::uint32_t version) const {
  const auto it = paths_.find(path);
  if (it == paths_.end()) return nullptr;
  if (version == 0) return &versions_.at(it->second.back());
  for (const Handle handle : it->second) {
    const FileVersion& file = versions_.at(handle);
    if (file.version == version) return &file;
  }
  return nullptr;
}

bool Namespace::is_folder(const std::string& path) const {
  if (path.empty()) return false;
  if (path == "/") return true;
  const std::string prefix = path + "/";
  const auto it = paths_.lower_bound(prefix);
  return it != paths_.end() && starts_with(it->first, prefix);
}

Result<FsListReply> Namespace::list(const FsListRequest& request) const {
  const bool is_file = paths_.count(request.path) != 0;
  if (!is_file && !is_folder(request.path)) {
    return Error{Errc::not_found, "list '" + request.path + "': no such file or folder in SDFS"};
  }
  auto cursor = parse_cursor(request.after);
  if (!cursor) return cursor.error();
  const std::string prefix = is_file ? request.path : (request.path == "/" ? request.path : request.path + "/");
  const auto in_range = [&](const std::string& path) { return is_file ? path == request.path : starts_with(path, prefix); };

  auto it = paths_.lower_bound(prefix);
  if (!cursor->path.empty() && cursor->path >= prefix) {
    if (cursor->version != 0) {
      it = paths_.lower_bound(cursor->path);
    } else if (cursor->path.back() == '/') {
      it = paths_.lower_bound(after_all_below(cursor->path));
    } else {
      it = paths_.upper_bound(cursor->path);
    }
  }
  FsListReply reply;
  PageRoom room(request.limit);
  std::string last;
  while (it != paths_.end() && in_range(it->first)) {
    const std::size_t slash = request.recursive || is_file ? std::string::npos : it->first.find('/', prefix.size());
    if (slash != std::string::npos) {
      const std::string folder = it->first.substr(0, slash);
      if (!room.take(folder.size() + 8)) return reply.next = last, reply;
      reply.folders.push_back(folder);
      last = folder + "/";
      it = paths_.lower_bound(after_all_below(last));
      continue;
    }
    for (auto handle = it->second.rbegin(); handle != it->second.rend(); ++handle) {
      const FileVersion& file = versions_.at(*handle);
      if (cursor->version != 0 && it->first == cursor->path && file.version >= cursor->version) continue;
      const bool blocks = request.with_blocks && encoded_bytes_max(file.blocks) <= kListedBlocksBytesMax;
      if (!room.take(blocks ? encoded_bytes_max(file) : 48 + file.path.size())) return reply.next = last, reply;
      reply.files.push_back(blocks ? file : without_blocks(file));
      last = request.all_versions ? cursor_text(file.path, file.version) : file.path;
      if (!request.all_versions) break;
    }
    ++it;
  }
  return reply;
}

Result<FsStatReply> Namespace::stat(const FsStatRequest& request) const {
  const FileVersion* file = find(request.path, request.version);
  if (file == nullptr) {
    if (is_folder(request.path)) {
      FsStatReply reply;
      reply.file.path = request.path;
      reply.is_folder = true;
      return reply;
    }
    const FileVersion* newest = find(request.path);
    if (newest == nullptr) return Error{Errc::not_found, "'" + request.path + "': no such file or folder in SDFS"};
    return Error{Errc::not_found, "'" + request.path + "' has no version " + std::to_string(request.version) +
                                      "; the newest is " + std::to_string(newest->version)};
  }
  FsStatReply reply;
  reply.file = without_blocks(*file);
  reply.total_blocks = file->blocks.size();
  std::size_t bytes = 0;
  const std::uint64_t most = std::min<std::uint64_t>(request.max_blocks, kBlocksPerRequestMax);
  for (std::uint64_t i = request.first_block; i < file->blocks.size() && reply.file.blocks.size() < most; ++i) {
    bytes += 48 + 5 * file->blocks[i].replicas.size();
    if (bytes > kPageBytesMax) break;
    reply.file.blocks.push_back(file->blocks[i]);
  }
  return reply;
}

FsStoreReply Namespace::store(const FsStoreRequest& request) const {
  FsStoreReply reply;
  PageRoom room(request.limit);
  const auto parsed = parse_cursor(request.after);
  const Cursor cursor = parsed ? *parsed : Cursor{};
  std::string last;
  for (auto it = paths_.lower_bound(cursor.path); it != paths_.end(); ++it) {
    for (auto handle = it->second.rbegin(); handle != it->second.rend(); ++handle) {
      const FileVersion& file = versions_.at(*handle);
      if (it->first == cursor.path && (cursor.version == 0 || file.version >= cursor.version)) continue;
      StoreEntry entry{file.path, file.version, 0, 0};
      for (const BlockRef& block : file.blocks) {
        if (std::find(block.replicas.begin(), block.replicas.end(), request.node) == block.replicas.end()) continue;
        ++entry.blocks;
        entry.bytes += block.length;
      }
      if (entry.blocks == 0) continue;
      if (!room.take(32 + file.path.size())) return reply.next = last, reply;
      last = cursor_text(file.path, file.version);
      reply.entries.push_back(std::move(entry));
    }
  }
  return reply;
}

const BlockRef* Namespace::block(BlockId id) const {
  const auto found = index_.find(id);
  return found == index_.end() ? nullptr : &block_at(found->second);
}

bool Namespace::refers_to(BlockId id) const { return index_.count(id) != 0; }

std::vector<BlockId> Namespace::held_by(NodeId node, BlockId from, BlockId to) const {
  std::vector<BlockId> held;
  for (auto it = index_.upper_bound(from); it != index_.end() && it->first <= to; ++it) {
    const std::vector<NodeId>& replicas = block_at(it->second).replicas;
    if (std::find(replicas.begin(), replicas.end(), node) != replicas.end()) held.push_back(it->first);
  }
  return held;
}

std::vector<BlockPlace> Namespace::misplaced(const std::set<NodeId>& live, std::uint32_t replication, std::size_t limit,
                                             std::uint64_t& under_replicated_total) const {
  under_replicated_total = 0;
  const std::size_t wanted = std::min<std::size_t>(replication, live.size());
  constexpr std::size_t kTooMany = std::numeric_limits<std::size_t>::max() - 1;
  constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();
  std::map<std::size_t, std::vector<const std::set<BlockId>*>> by_danger;
  for (const auto& [replicas, ids] : classes_) {
    const auto living = static_cast<std::size_t>(
        std::count_if(replicas.begin(), replicas.end(), [&](NodeId node) { return live.count(node) != 0; }));
    if (living < wanted || living == 0) under_replicated_total += ids.size();
    if (living == 0) {
      by_danger[kNone].push_back(&ids);
    } else if (living != wanted) {
      by_danger[living < wanted ? living : kTooMany].push_back(&ids);
    }
  }
  std::vector<BlockPlace> places;
  for (const auto& [danger, groups] : by_danger) {
    for (const std::set<BlockId>* ids : groups) {
      for (const BlockId id : *ids) {
        if (places.size() >= limit) return places;
        const Place& place = index_.at(id);
        const FileVersion& file = versions_.at(place.file);
        places.push_back(BlockPlace{file.path, file.version, place.index, file.blocks[place.index]});
      }
    }
  }
  return places;
}

}  // namespace idunno

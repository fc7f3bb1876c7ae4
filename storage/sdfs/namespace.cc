#include "storage/sdfs/namespace.h"

#include <algorithm>
#include <utility>

#include "bus/base/assert.h"

namespace idunno {
namespace {

bool distinct(std::vector<NodeId> nodes) {
  std::sort(nodes.begin(), nodes.end());
  return std::adjacent_find(nodes.begin(), nodes.end()) == nodes.end();
}

Status check_replicas(const std::vector<NodeId>& replicas, std::size_t most, const std::string& path) {
  if (replicas.empty()) return Error{Errc::invalid, "a block of '" + path + "' names no replicas"};
  if (replicas.size() > most)
    return Error{Errc::invalid, "a block of '" + path + "' names more than " + std::to_string(most) + " replicas"};
  if (!distinct(replicas)) return Error{Errc::invalid, "a block of '" + path + "' names a replica twice"};
  if (std::find(replicas.begin(), replicas.end(), NodeId{}) != replicas.end()) {
    return Error{Errc::invalid, "a block of '" + path + "' names node 0 as a replica"};
  }
  return {};
}

bool contains(const std::vector<NodeId>& nodes, NodeId node) {
  return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

/// What becomes of the list `replicas`; empty when the move is not to be made. Its removals rely on its additions: without one of
/// them nothing is done.
std::vector<NodeId> moved(std::vector<NodeId> replicas, const ReplicaMove& move, const std::set<NodeId>& refused) {
  std::erase_if(replicas, [&](NodeId node) { return contains(move.seen, node) && !contains(move.replicas, node); });
  for (const NodeId node : move.replicas) {
    if (contains(move.seen, node) || contains(replicas, node)) continue;
    if (refused.contains(node) || replicas.size() >= kReplicasListedMax) return {};
    replicas.push_back(node);
  }
  return replicas;
}

/// Whether `path` or a folder above it is in `pinned`.
bool is_pinned(const std::string& path, const std::set<std::string>& pinned) {
  if (pinned.empty()) return false;
  if (pinned.count(path) != 0 || pinned.count("/") != 0) return true;
  for (std::size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0; slash = path.rfind('/', slash - 1)) {
    if (pinned.count(path.substr(0, slash)) != 0) return true;
  }
  return false;
}

/// Calls `visit` with every folder above `path` but "/"; stops and returns true when `visit` does.
template <class Visit>
bool any_folder_above(const std::string& path, Visit visit) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (visit(path.substr(0, slash))) return true;
  }
  return false;
}

template <class Ordered>
bool holds_below(const Ordered& paths, const std::string& folder) {
  const std::string prefix = folder == "/" ? folder : folder + "/";
  const auto it = paths.lower_bound(prefix);
  if (it == paths.end()) return false;
  if constexpr (requires { it->first; }) {
    return it->first.compare(0, prefix.size(), prefix) == 0;
  } else {
    return it->compare(0, prefix.size(), prefix) == 0;
  }
}

}  // namespace

/// Goes through the parts of one commit without changing anything: what earlier parts of the same commit would do is kept beside.
class Namespace::CommitCheck {
 public:
  explicit CommitCheck(const Namespace& files) : files_(files) {}

  [[nodiscard]] Status check(const FsFilePart& part) {
    if (auto status = check_path(part.path); !status) return status;
    if (auto status = check_place(part.path); !status) return status;
    if (auto status = check_order(part); !status) return status;
    for (const BlockRef& block : part.blocks) {
      if (auto status = check_block(block, part.path); !status) return status;
    }
    if (!part.more) new_paths_.insert(part.path);
    return {};
  }

 private:
  struct Progress {
    std::string path;
    std::uint64_t blocks = 0;
  };

  Status check_place(const std::string& path) const {
    if (const FileVersion* old = files_.find(path); old != nullptr && old->open) {
      return Error{Errc::conflict, "'" + path + "' is the result of a job that is still being written: choose another path"};
    }
    if (files_.is_folder(path) || holds_below(new_paths_, path)) {
      return Error{Errc::conflict, "'" + path + "' is a folder: choose another path for the file"};
    }
    const bool below_new = any_folder_above(path, [this](const std::string& folder) { return new_paths_.count(folder) != 0; });
    if (below_new || files_.holds_file_above(path)) {
      return Error{Errc::conflict, "'" + path + "' lies below a file: remove the file or choose another folder"};
    }
    return {};
  }

  /// Parts of one upload come in order and without holes.
  Status check_order(const FsFilePart& part) {
    if (part.more && part.upload == 0) return Error{Errc::invalid, "a part of '" + part.path + "' names no upload"};
    const auto progress = find_upload(part.upload);
    if (!progress) {
      if (part.first_block != 0) {
        return Error{Errc::conflict,
                     "the earlier parts of '" + part.path + "' are gone (too many uploads at once): put it again"};
      }
    } else if (progress->path != part.path || progress->blocks != part.first_block) {
      return Error{Errc::invalid, "the parts of '" + part.path + "' do not follow one another: put it again"};
    }
    if (part.upload == 0) return {};
    if (part.more) {
      uploads_[part.upload] = Progress{part.path, part.first_block + part.blocks.size()};
      const auto begun =
          std::count_if(uploads_.begin(), uploads_.end(), [](const auto& upload) { return upload.second.has_value(); });
      if (static_cast<std::size_t>(begun) > kUploadsMax)
        return Error{Errc::too_large, "more than " + std::to_string(kUploadsMax) + " uploads in one request"};
    } else {
      uploads_[part.upload] = std::nullopt;
    }
    return {};
  }

  std::optional<Progress> find_upload(std::uint64_t upload) const {
    if (upload == 0) return std::nullopt;
    if (const auto it = uploads_.find(upload); it != uploads_.end()) return it->second;
    const auto it = files_.uploads_.find(upload);
    if (it == files_.uploads_.end()) return std::nullopt;
    const FileVersion& file = files_.versions_.at(it->second.file);
    return Progress{file.path, file.blocks.size()};
  }

  Status check_block(const BlockRef& block, const std::string& path) {
    if (block.id == BlockId{}) return Error{Errc::invalid, "a block of '" + path + "' has no id"};
    if (block.length == 0 || block.length > kBlockBytesMax) {
      return Error{Errc::invalid, "a block of '" + path + "' has " + std::to_string(block.length) + " bytes: 1 to " +
                                      std::to_string(kBlockBytesMax) + " are allowed"};
    }
    if (auto status = check_replicas(block.replicas, kReplicasMax, path); !status) return status;
    if (files_.refers_to(block.id) || !new_blocks_.insert(block.id).second) {
      return Error{Errc::conflict, "block " + to_string(block.id) + " of '" + path + "' is in use already"};
    }
    return {};
  }

  const Namespace& files_;
  std::set<std::string> new_paths_;
  std::set<BlockId> new_blocks_;
  std::map<std::uint64_t, std::optional<Progress>> uploads_;  ///< empty: completed within this commit
};

Result<std::vector<std::uint32_t>> Namespace::commit(const std::vector<FsFilePart>& parts, WallMs now,
                                                     const std::set<std::string>& pinned, FreedBlocks& freed) {
  if (parts.size() > kFilesPerRequestMax) {
    return Error{Errc::too_large,
                 "a commit of " + std::to_string(parts.size()) + " files: at most " + std::to_string(kFilesPerRequestMax)};
  }
  CommitCheck check(*this);
  for (const FsFilePart& part : parts) {
    if (auto status = check.check(part); !status) return status.error();
  }
  std::vector<std::uint32_t> made;
  made.reserve(parts.size());
  for (const FsFilePart& part : parts) {
    const auto it = part.upload == 0 ? uploads_.end() : uploads_.find(part.upload);
    const bool known = it != uploads_.end();
    const Handle handle = known ? it->second.file : add_version(FileVersion{part.path, 0, 0, 0, false, {}});
    append_blocks(handle, part.blocks);
    if (part.more) {
      uploads_[part.upload] = Upload{handle, next_fed_++};
      made.push_back(0);
    } else {
      if (known) uploads_.erase(it);
      made.push_back(publish(handle, now, pinned, freed));
    }
  }
  // Only now: the check promised that no upload disappears while the parts of this commit are added.
  while (uploads_.size() > kUploadsMax) drop_oldest_upload(freed);
  return made;
}

Result<FsRemoveReply> Namespace::remove(const std::vector<std::string>& paths, bool recursive, FreedBlocks& freed) {
  std::set<std::string> doomed;
  for (const std::string& path : paths) {
    if (paths_.count(path) != 0) {
      doomed.insert(path);
      continue;
    }
    const std::string prefix = path == "/" ? path : path + "/";
    auto it = paths_.lower_bound(prefix);
    const auto below = [&] { return it != paths_.end() && it->first.compare(0, prefix.size(), prefix) == 0; };
    if (path.empty() || !below()) return Error{Errc::not_found, "remove '" + path + "': no such file or folder in SDFS"};
    if (!recursive)
      return Error{Errc::invalid, "remove '" + path + "': it is a folder; use -r to remove it with all that is in it"};
    for (; below(); ++it) doomed.insert(doomed.end(), it->first);
  }
  for (const std::string& path : doomed) {
    if (versions_.at(paths_.at(path).back()).open) {
      return Error{Errc::conflict, "remove '" + path + "': a job is still writing it; stop the job or wait for it"};
    }
  }
  const std::size_t freed_before = freed.size();
  for (const std::string& path : doomed) erase_path(path, freed);
  return FsRemoveReply{doomed.size(), freed.size() - freed_before};
}

Status Namespace::create_open(const std::string& path, std::uint64_t blocks, WallMs now) {
  if (auto status = check_path(path); !status) return status;
  if (paths_.count(path) != 0) return Error{Errc::conflict, "'" + path + "' exists already"};
  if (is_folder(path)) return Error{Errc::conflict, "'" + path + "' is a folder"};
  if (holds_file_above(path)) return Error{Errc::conflict, "'" + path + "' lies below a file"};
  const Handle handle = add_version(FileVersion{path, 1, 0, now, true, {}});
  versions_.at(handle).blocks.resize(blocks);
  paths_[path].push_back(handle);
  return {};
}

bool Namespace::fill_open(const std::string& path, std::uint64_t index, BlockRef block) {
  const Handle handle = paths_.at(path).back();
  FileVersion& file = versions_.at(handle);
  ASSERT(file.open);
  ASSERT(index < file.blocks.size());
  ASSERT(file.blocks[index].id == BlockId{});
  if (block.id == BlockId{} || refers_to(block.id)) return false;
  index_.emplace(block.id, Place{handle, index});
  class_insert(block);
  ++visible_blocks_;
  visible_bytes_ += block.length;
  file.size += block.length;
  file.blocks[index] = std::move(block);
  return true;
}

void Namespace::extend_open(const std::string& path, std::uint64_t blocks) {
  FileVersion& file = versions_.at(paths_.at(path).back());
  ASSERT(file.open);
  file.blocks.resize(file.blocks.size() + blocks);
}

void Namespace::clear_open(const std::string& path, std::uint64_t first, std::uint64_t count, FreedBlocks& freed) {
  FileVersion& file = versions_.at(paths_.at(path).back());
  ASSERT(file.open);
  const std::uint64_t end = std::min<std::uint64_t>(first + count, file.blocks.size());
  for (std::uint64_t at = first; at < end; ++at) {
    BlockRef& block = file.blocks[at];
    if (block.id == BlockId{}) continue;
    index_.erase(block.id);
    class_erase(block);
    --visible_blocks_;
    visible_bytes_ -= block.length;
    file.size -= block.length;
    freed.push_back(std::exchange(block, BlockRef{}));
  }
}

void Namespace::close_open(const std::string& path, WallMs now) {
  const auto it = paths_.find(path);
  if (it == paths_.end()) return;
  const Handle handle = it->second.back();
  FileVersion& file = versions_.at(handle);
  if (!file.open) return;
  file.open = false;
  file.created_ms = now;
  std::erase_if(file.blocks, [](const BlockRef& block) { return block.id == BlockId{}; });
  for (std::size_t i = 0; i < file.blocks.size(); ++i) index_.at(file.blocks[i].id).index = i;
}

void Namespace::remove_open(const std::string& path, FreedBlocks& freed) {
  if (const FileVersion* file = find(path); file != nullptr && file->open) erase_path(path, freed);
}

std::uint32_t Namespace::move_replicas(const std::vector<ReplicaMove>& moves, const std::set<NodeId>& refused) {
  std::uint32_t changed = 0;
  for (const ReplicaMove& move : moves) {
    if (!check_replicas(move.replicas, kReplicasListedMax, move.path)) continue;
    const auto it = index_.find(move.id);
    if (it == index_.end()) continue;
    const FileVersion& file = versions_.at(it->second.file);
    const bool there =
        file.version != 0 && file.path == move.path && file.version == move.version && it->second.index == move.block_index;
    if (!there) continue;
    const std::vector<NodeId>& old = file.blocks[it->second.index].replicas;
    std::vector<NodeId> replicas = moved(old, move, refused);
    if (replicas.empty() || replicas == old) continue;
    set_replicas(it->second, std::move(replicas));
    ++changed;
  }
  return changed;
}

std::uint64_t Namespace::forget_node(NodeId node) {
  std::uint64_t forgotten = 0;
  for (const auto& [id, place] : index_) {
    std::vector<NodeId> replicas = block_at(place).replicas;
    const auto gone = std::erase(replicas, node);
    if (gone == 0) continue;
    set_replicas(place, std::move(replicas));
    forgotten += gone;
  }
  return forgotten;
}

std::uint64_t Namespace::forget_blocks(NodeId node, const std::vector<BlockId>& blocks) {
  std::uint64_t forgotten = 0;
  for (const BlockId id : blocks) {
    const auto it = index_.find(id);
    if (it == index_.end()) continue;
    std::vector<NodeId> replicas = block_at(it->second).replicas;
    const auto gone = std::erase(replicas, node);
    if (gone == 0) continue;
    set_replicas(it->second, std::move(replicas));
    forgotten += gone;
  }
  return forgotten;
}

// ---- the parts of a change ------------------------------------------------------------------------------------------

bool Namespace::holds_file_above(const std::string& path) const {
  return any_folder_above(path, [this](const std::string& folder) { return paths_.count(folder) != 0; });
}

Namespace::Handle Namespace::add_version(FileVersion file) {
  const Handle handle = next_handle_++;
  versions_.emplace(handle, std::move(file));
  return handle;
}

void Namespace::append_blocks(Handle handle, const std::vector<BlockRef>& blocks) {
  FileVersion& file = versions_.at(handle);
  for (const BlockRef& block : blocks) {
    const bool fresh = index_.emplace(block.id, Place{handle, file.blocks.size()}).second;
    ASSERT(fresh);
    file.blocks.push_back(block);
    file.size += block.length;
  }
}

/// Makes a complete upload the newest version of its path.
std::uint32_t Namespace::publish(Handle handle, WallMs now, const std::set<std::string>& pinned, FreedBlocks& freed) {
  FileVersion& file = versions_.at(handle);
  std::vector<Handle>& versions = paths_[file.path];
  file.version = versions.empty() ? 1 : versions_.at(versions.back()).version + 1;
  file.created_ms = now;
  for (const BlockRef& block : file.blocks) class_insert(block);
  visible_blocks_ += file.blocks.size();
  visible_bytes_ += file.size;
  versions.push_back(handle);
  const std::size_t keep = std::max<std::size_t>(versions_max_, 1);
  if (versions.size() > keep && !is_pinned(file.path, pinned)) {
    const auto surplus = versions.end() - static_cast<std::ptrdiff_t>(keep);
    for (auto it = versions.begin(); it != surplus; ++it) erase_version(*it, true, freed);
    versions.erase(versions.begin(), surplus);
  }
  return file.version;
}

void Namespace::erase_version(Handle handle, bool visible, FreedBlocks& freed) {
  const auto it = versions_.find(handle);
  ASSERT(it != versions_.end());
  for (BlockRef& block : it->second.blocks) {
    if (block.id == BlockId{}) continue;
    index_.erase(block.id);
    if (visible) {
      class_erase(block);
      --visible_blocks_;
      visible_bytes_ -= block.length;
    }
    freed.push_back(std::move(block));
  }
  versions_.erase(it);
}

void Namespace::erase_path(const std::string& path, FreedBlocks& freed) {
  const auto it = paths_.find(path);
  ASSERT(it != paths_.end());
  for (const Handle handle : it->second) erase_version(handle, true, freed);
  paths_.erase(it);
}

void Namespace::drop_oldest_upload(FreedBlocks& freed) {
  const auto oldest = std::min_element(uploads_.begin(), uploads_.end(),
                                       [](const auto& a, const auto& b) { return a.second.fed < b.second.fed; });
  erase_version(oldest->second.file, false, freed);
  uploads_.erase(oldest);
}

BlockRef& Namespace::block_at(const Place& place) { return versions_.at(place.file).blocks[place.index]; }
const BlockRef& Namespace::block_at(const Place& place) const { return versions_.at(place.file).blocks[place.index]; }

void Namespace::set_replicas(const Place& place, std::vector<NodeId> replicas) {
  FileVersion& file = versions_.at(place.file);
  BlockRef& block = file.blocks[place.index];
  const bool visible = file.version != 0;
  if (visible) class_erase(block);
  block.replicas = std::move(replicas);
  if (visible) class_insert(block);
}

void Namespace::class_insert(const BlockRef& block) {
  std::vector<NodeId> key = block.replicas;
  std::sort(key.begin(), key.end());
  classes_[std::move(key)].insert(block.id);
}

void Namespace::class_erase(const BlockRef& block) {
  std::vector<NodeId> key = block.replicas;
  std::sort(key.begin(), key.end());
  const auto it = classes_.find(key);
  ASSERT(it != classes_.end());
  it->second.erase(block.id);
  if (it->second.empty()) classes_.erase(it);
}

}  // namespace idunno

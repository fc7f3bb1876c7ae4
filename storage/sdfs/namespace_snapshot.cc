/// A Namespace as bytes, for the snapshot of the replicated state. A sequence of records, each its length (4 bytes, little
/// endian) and one encoded struct: the head, then parts of versions in path and version order, then parts of uploads, the least
/// recently fed first. Records are small whatever the files, so the codec's bounds hold for each. Equal namespaces have equal
/// bytes.

#include <algorithm>
#include <tuple>

#include "bus/base/assert.h"
#include "bus/codec.h"
#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

constexpr std::size_t kBlocksPerPart = 1024;

struct SnapshotHead {
  std::uint32_t format = 1;
  std::uint32_t versions_max = 0;
  std::uint64_t parts = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.format, s.versions_max, s.parts);
  }
};

/// Some blocks of one version; the other members are the same in all parts of a version.
struct SnapshotPart {
  FileVersion file;  ///< with the blocks of this part; version 0: an upload
  std::uint64_t upload = 0;
  std::uint64_t first_block = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.file, s.upload, s.first_block);
  }
};

Error bad_snapshot(const std::string& why) {
  return Error{Errc::damaged, "the snapshot of the SDFS namespace is damaged: " + why};
}

void append_record(Bytes& out, const Bytes& record) {
  const auto length = static_cast<std::uint32_t>(record.size());
  for (unsigned shift = 0; shift < 32; shift += 8) out.push_back(static_cast<char>((length >> shift) & 0xFFU));
  out += record;
}

/// Takes one record off the front of `rest`.
Result<ByteView> take_record(ByteView& rest) {
  if (rest.size() < 4) return bad_snapshot("it ends within a record");
  std::uint32_t length = 0;
  for (unsigned i = 0; i < 4; ++i) length |= static_cast<std::uint32_t>(static_cast<unsigned char>(rest[i])) << (8 * i);
  rest.remove_prefix(4);
  if (rest.size() < length) return bad_snapshot("it ends within a record");
  const ByteView record = rest.substr(0, length);
  rest.remove_prefix(length);
  return record;
}

std::uint64_t append_version(Bytes& out, const FileVersion& file, std::uint64_t upload) {
  std::uint64_t parts = 0;
  std::size_t first = 0;
  do {
    const std::size_t count = std::min(kBlocksPerPart, file.blocks.size() - first);
    const auto begin = file.blocks.begin() + static_cast<std::ptrdiff_t>(first);
    SnapshotPart part{{file.path, file.version, file.size, file.created_ms, file.open, {}}, upload, first};
    part.file.blocks.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
    append_record(out, encode(part));
    first += count;
    ++parts;
  } while (first < file.blocks.size());
  return parts;
}

}  // namespace

Bytes Namespace::encode() const {
  Bytes body;
  SnapshotHead head;
  head.versions_max = versions_max_;
  for (const auto& [path, handles] : paths_) {
    for (const Handle handle : handles) head.parts += append_version(body, versions_.at(handle), 0);
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> order;  // (fed, upload)
  for (const auto& [upload, state] : uploads_) order.emplace_back(state.fed, upload);
  std::sort(order.begin(), order.end());
  for (const auto& [fed, upload] : order) head.parts += append_version(body, versions_.at(uploads_.at(upload).file), upload);
  Bytes out;
  append_record(out, idunno::encode(head));
  return out + body;
}

Result<Namespace> Namespace::decode(ByteView bytes) {
  ByteView rest = bytes;
  const auto head_record = take_record(rest);
  if (!head_record) return head_record.error();
  const auto head = idunno::decode<SnapshotHead>(*head_record);
  if (!head) return bad_snapshot(head.error().detail);
  if (head->format != 1) return bad_snapshot("format " + std::to_string(head->format) + " is not known");
  Namespace files(head->versions_max);
  for (std::uint64_t i = 0; i < head->parts; ++i) {
    const auto record = take_record(rest);
    if (!record) return record.error();
    if (auto status = files.restore_part(*record); !status) return status.error();
  }
  if (!rest.empty()) return bad_snapshot("bytes are left over");
  // Sizes are sums of lengths; a difference means that parts are missing.
  for (const auto& [handle, file] : files.versions_) {
    std::uint64_t size = 0;
    for (const BlockRef& block : file.blocks) size += block.length;
    if (size != file.size) return bad_snapshot("the blocks of '" + file.path + "' do not add up to its size");
  }
  return files;
}

Status Namespace::restore_part(ByteView bytes) {
  auto part = idunno::decode<SnapshotPart>(bytes);
  if (!part) return bad_snapshot(part.error().detail);
  FileVersion& file = part->file;
  const bool is_upload = file.version == 0;
  if (is_upload == (part->upload == 0)) return bad_snapshot("'" + file.path + "' is neither a version nor an upload");
  std::vector<BlockRef> blocks = std::move(file.blocks);
  file.blocks.clear();

  Handle handle = 0;
  if (part->first_block == 0) {
    if (auto status = check_path(file.path); !status) return bad_snapshot(status.error().detail);
    if (is_upload) {
      if (uploads_.count(part->upload) != 0) return bad_snapshot("an upload appears twice");
      handle = add_version(file);
      uploads_[part->upload] = Upload{handle, next_fed_++};
    } else {
      const FileVersion* newest = find(file.path);
      if (newest != nullptr && newest->version >= file.version)
        return bad_snapshot("versions of '" + file.path + "' are out of order");
      if (newest == nullptr && (is_folder(file.path) || holds_file_above(file.path)))
        return bad_snapshot("'" + file.path + "' is file and folder");
      const std::string path = file.path;
      handle = add_version(std::move(file));
      paths_[path].push_back(handle);
    }
  } else {
    handle = next_handle_ - 1;  // parts of one version follow one another
    const auto it = versions_.find(handle);
    if (it == versions_.end() || it->second.path != file.path || it->second.version != file.version ||
        it->second.blocks.size() != part->first_block) {
      return bad_snapshot("parts of '" + file.path + "' are out of order");
    }
  }
  FileVersion& target = versions_.at(handle);
  for (BlockRef& block : blocks) {
    if (block.id == BlockId{}) {
      if (!target.open) return bad_snapshot("'" + target.path + "' has an empty place");
    } else {
      if (!index_.emplace(block.id, Place{handle, target.blocks.size()}).second) {
        return bad_snapshot("block " + to_string(block.id) + " appears twice");
      }
      if (!is_upload) {
        class_insert(block);
        ++visible_blocks_;
        visible_bytes_ += block.length;
      }
    }
    target.blocks.push_back(std::move(block));
  }
  return {};
}

bool Namespace::operator==(const Namespace& other) const { return encode() == other.encode(); }

}  // namespace idunno

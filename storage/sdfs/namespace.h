#pragma once
/// The metadata of SDFS: paths, versions, blocks and who holds them. Pure and deterministic: part of the replicated state,
/// changed only by log entries. Folders are implied by paths. A path is absolute, "/a/b", without empty parts, "." or "..", at
/// most kPathBytesMax bytes of UTF-8 without control characters; nothing can be both a file and a folder. Versions of a path
/// count 1, 2, ... as long as the path exists; a path that was removed and made again starts at 1. A block belongs to one place
/// of one version only.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/messages.h"
#include "bus/types.h"

namespace idunno {

/// Of a file: "/" is refused.
[[nodiscard]] Status check_path(std::string_view path);

inline constexpr std::size_t kUploadsMax = 64;  ///< files in parts that are not complete; the least recently fed is dropped
inline constexpr std::size_t kPageBytesMax = 768U << 10U;  ///< encoded entries of a list or store page: fits a control message
inline constexpr std::size_t kListedBlocksBytesMax = 128U << 10U;  ///< a file with more is listed without blocks; stat pages them
inline constexpr std::size_t kReplicasListedMax = 2 * kReplicasMax;  ///< of a block while repair moves it

/// Blocks nobody refers to any more, and where copies of them lie: the coordinator has them deleted.
using FreedBlocks = std::vector<BlockRef>;

/// A block that has fewer (or more) live copies than it should, for the repair planner.
struct BlockPlace {
  std::string path;
  std::uint32_t version = 0;
  std::uint64_t index = 0;
  BlockRef block;
};

class Namespace {
 public:
  explicit Namespace(std::uint32_t versions_max = 8) : versions_max_(versions_max) {}

  // -- changes (each returns what the client is told; a refused change changes nothing) --

  /// All parts or none. A file that comes whole is one part with first_block 0. Parts with `more` are kept aside, bounded
  /// (kUploadsMax), until the last one; versions[i] as in FsCommitReply. `pinned` paths (files, or folders with all below them)
  /// keep their old versions beyond versions_max.
  [[nodiscard]] Result<std::vector<std::uint32_t>> commit(const std::vector<FsFilePart>& parts, WallMs now,
                                                          const std::set<std::string>& pinned, FreedBlocks& freed);
  /// not_found when a path is neither file nor folder; invalid for a folder without `recursive`; conflict for open files. All or
  /// none.
  [[nodiscard]] Result<FsRemoveReply> remove(const std::vector<std::string>& paths, bool recursive, FreedBlocks& freed);
  /// An open file with `blocks` empty places: a job's result.
  [[nodiscard]] Status create_open(const std::string& path, std::uint64_t blocks, WallMs now);
  /// Fills one place of an open file. The caller knows that the file and the place are there and empty. False, and nothing is
  /// changed, when the block's id is {0,0} or in use already.
  bool fill_open(const std::string& path, std::uint64_t index, BlockRef block);
  /// `blocks` more empty places at the end of an open file.
  void extend_open(const std::string& path, std::uint64_t blocks);
  /// Empties places [first, first + count) of an open file.
  void clear_open(const std::string& path, std::uint64_t first, std::uint64_t count, FreedBlocks& freed);
  void close_open(const std::string& path, WallMs now);  ///< becomes an ordinary file; empty places are dropped
  void remove_open(const std::string& path, FreedBlocks& freed);
  /// Ignores moves whose block is not (any more) at that place, those that would add one of `refused`, and those that would leave
  /// no replica. Returns how many changed.
  std::uint32_t move_replicas(const std::vector<ReplicaMove>& moves, const std::set<NodeId>& refused = {});
  /// The node lost everything / these blocks. Returns how many copies were forgotten.
  std::uint64_t forget_node(NodeId node);
  std::uint64_t forget_blocks(NodeId node, const std::vector<BlockId>& blocks);

  // -- questions --

  [[nodiscard]] const FileVersion* find(const std::string& path, std::uint32_t version = 0) const;  ///< 0 = newest
  [[nodiscard]] bool is_folder(const std::string& path) const;
  [[nodiscard]] Result<FsListReply> list(const FsListRequest& request) const;
  [[nodiscard]] Result<FsStatReply> stat(const FsStatRequest& request) const;
  [[nodiscard]] FsStoreReply store(const FsStoreRequest& request) const;
  [[nodiscard]] bool refers_to(BlockId id) const;
  [[nodiscard]] const BlockRef* block(BlockId id) const;  ///< nullptr when no file or upload has it
  /// The ids between from (exclusive) and to (inclusive) that `node` should hold, in order.
  [[nodiscard]] std::vector<BlockId> held_by(NodeId node, BlockId from, BlockId to) const;
  /// At most `limit` blocks whose number of live replicas is not wanted = min(replication, live nodes), the most endangered
  /// (fewest live copies) first, then those with too many, then those with no live copy at all. `under_replicated_total` counts
  /// all blocks with fewer than wanted, the ones without a copy included. Costs time for each distinct set of replicas, not for
  /// each block.
  [[nodiscard]] std::vector<BlockPlace> misplaced(const std::set<NodeId>& live, std::uint32_t replication, std::size_t limit,
                                                  std::uint64_t& under_replicated_total) const;
  [[nodiscard]] std::uint64_t files() const { return paths_.size(); }
  [[nodiscard]] std::uint64_t blocks() const { return visible_blocks_; }        ///< of all versions
  [[nodiscard]] std::uint64_t logical_bytes() const { return visible_bytes_; }  ///< of all versions, each block counted once
  [[nodiscard]] std::size_t uploads() const { return uploads_.size(); }

  [[nodiscard]] Bytes encode() const;
  [[nodiscard]] static Result<Namespace> decode(ByteView bytes);
  bool operator==(const Namespace&) const;
  /// A snapshot keeps the value of its time; the configuration may say another one now.
  void set_versions_max(std::uint32_t versions_max) { versions_max_ = versions_max; }

 private:
  /// Names one version (or unfinished upload) inside this object: small and stable, so that the indexes need no paths. Never
  /// encoded.
  using Handle = std::uint64_t;
  struct Place {
    Handle file = 0;
    std::uint64_t index = 0;
  };
  struct Upload {
    Handle file = 0;
    std::uint64_t fed = 0;  ///< order of the last part
  };
  class CommitCheck;

  [[nodiscard]] bool holds_file_above(const std::string& path) const;
  Handle add_version(FileVersion file);
  std::uint32_t publish(Handle handle, WallMs now, const std::set<std::string>& pinned, FreedBlocks& freed);
  void append_blocks(Handle handle, const std::vector<BlockRef>& blocks);
  void erase_version(Handle handle, bool visible, FreedBlocks& freed);
  void erase_path(const std::string& path, FreedBlocks& freed);
  void drop_oldest_upload(FreedBlocks& freed);
  void set_replicas(const Place& place, std::vector<NodeId> replicas);
  [[nodiscard]] BlockRef& block_at(const Place& place);
  [[nodiscard]] const BlockRef& block_at(const Place& place) const;
  void class_insert(const BlockRef& block);
  void class_erase(const BlockRef& block);
  Status restore_part(ByteView bytes);

  std::uint32_t versions_max_;
  Handle next_handle_ = 1;
  std::uint64_t next_fed_ = 1;
  std::map<Handle, FileVersion> versions_;                    ///< version 0: an upload
  std::map<std::string, std::vector<Handle>> paths_;          ///< versions in ascending order
  std::map<std::uint64_t, Upload> uploads_;                   ///< by FsFilePart::upload
  std::map<BlockId, Place> index_;                            ///< every block, those of uploads included
  std::map<std::vector<NodeId>, std::set<BlockId>> classes_;  ///< visible blocks by their sorted replicas
  std::uint64_t visible_blocks_ = 0;
  std::uint64_t visible_bytes_ = 0;
};

}  // namespace idunno

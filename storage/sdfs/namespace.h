#pragma once
/// The metadata of SDFS: paths, versions, blocks and who holds them. Pure and deterministic: part of the replicated state, changed only
/// by log entries. Folders are implied by paths. A path is absolute, "/a/b", without empty parts, "." or "..", and at most
/// kPathBytesMax bytes; nothing can be both a file and a folder.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/messages.h"
#include "bus/types.h"

namespace idunno {

[[nodiscard]] Status check_path(std::string_view path);

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

  /// All parts or none. Parts with `more` are kept aside, bounded (kUploadsMax), until the last one; versions[i] as in FsCommitReply.
  /// `pinned` paths keep their old versions beyond versions_max.
  [[nodiscard]] Result<std::vector<std::uint32_t>> commit(const std::vector<FsFilePart>& parts, WallMs now, const std::set<std::string>& pinned,
                                                          FreedBlocks& freed);
  /// not_found when a path is neither file nor (recursive) folder; conflict for open files.
  [[nodiscard]] Result<FsRemoveReply> remove(const std::vector<std::string>& paths, bool recursive, FreedBlocks& freed);
  /// An open file with `blocks` empty places: a job's result.
  [[nodiscard]] Status create_open(const std::string& path, std::uint64_t blocks, WallMs now);
  /// Fills one place of an open file. The caller knows that the place is empty.
  void fill_open(const std::string& path, std::uint64_t index, BlockRef block);
  void close_open(const std::string& path, WallMs now);    ///< becomes an ordinary file; empty places are dropped
  void remove_open(const std::string& path, FreedBlocks& freed);
  /// Ignores moves whose block is not (any more) at that place. Returns how many changed.
  std::uint32_t move_replicas(const std::vector<ReplicaMove>& moves);
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
  /// The ids between from (exclusive) and to (inclusive) that `node` should hold, in order.
  [[nodiscard]] std::vector<BlockId> held_by(NodeId node, BlockId from, BlockId to) const;
  /// At most `limit` blocks for which (live replicas, wanted) differ, the most endangered (fewest live copies) first; `total` counts all.
  /// wanted = min(replication, live nodes). Blocks with no live copy at all are counted in `total` but come last.
  [[nodiscard]] std::vector<BlockPlace> misplaced(const std::set<NodeId>& live, std::uint32_t replication, std::size_t limit,
                                                  std::uint64_t& under_replicated_total) const;
  [[nodiscard]] std::uint64_t files() const;
  [[nodiscard]] std::uint64_t blocks() const;
  [[nodiscard]] std::uint64_t logical_bytes() const;

  [[nodiscard]] Bytes encode() const;
  [[nodiscard]] static Result<Namespace> decode(ByteView bytes);
  bool operator==(const Namespace&) const;

 private:
  std::uint32_t versions_max_;
  // ... chosen by the implementation: ordered containers only
};

}  // namespace idunno

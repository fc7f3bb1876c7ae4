#pragma once
/// Blocks between this process and the nodes' disks, by the rules of storage/sdfs/client.h: a write goes to the nodes that the
/// placement prefers, another takes the place of one that fails; a read tries the own disk, then the replicas, and is verified.

#include <functional>
#include <memory>
#include <vector>

#include "tests/sim/fake_disk.h"
#include "tests/sim/process.h"

namespace idunno::sim {

class BlockIo {
 public:
  using SharedBytes = std::shared_ptr<const Bytes>;
  /// `disk`: of the own node, null for clients. `wall`: the node's clock.
  BlockIo(Env& env, Process& process, Caller& caller, FakeDisk* disk, std::function<WallMs()> wall, std::uint64_t writer)
      : env_(env), process_(process), caller_(caller), disk_(disk), wall_(std::move(wall)), writer_(writer) {}

  /// The block gets a fresh id. unavailable when fewer than `copies` nodes take it.
  void write(Bytes bytes, const std::vector<PlacementNode>& nodes, std::uint32_t copies,
             std::function<void(Result<BlockRef>)> done);
  void read(const BlockRef& block, std::function<void(Result<SharedBytes>)> done);
  /// Told when the own copy of a block turned out to be damaged (it is deleted by then).
  void on_damaged(std::function<void(BlockId)> handler) { damaged_ = std::move(handler); }

  /// The copy on the own disk; a damaged one is removed.
  [[nodiscard]] Result<SharedBytes> read_here(const BlockKey& key);
  void serve(const PutBlocks& request, const Payload& payload, std::function<void(PutBlocksReply)> done);
  [[nodiscard]] std::pair<GetBlocksReply, Payload> serve(const GetBlocks& request);

 private:
  struct Write;
  struct Read;
  void go_on(const std::shared_ptr<Write>& write);
  void go_on(const std::shared_ptr<Read>& read);
  /// Nodes that failed of late go last, as in the real client.
  void order_by_health(std::vector<NodeId>& nodes) const;
  void put_here(const BlockKey& key, SharedBytes bytes, std::function<void(BlockStatus)> done);

  Env& env_;
  Process& process_;
  Caller& caller_;
  FakeDisk* disk_;
  std::function<WallMs()> wall_;
  std::uint64_t writer_;
  std::uint64_t last_block_ = 0;
  std::function<void(BlockId)> damaged_;
  std::map<NodeId, Time> failed_;
};

}  // namespace idunno::sim

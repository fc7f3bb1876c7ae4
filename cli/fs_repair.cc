/// The mending part of `idunno fs fsck --repair`.

#include <algorithm>

#include "cli/fs_check.h"
#include "cli/fs_common.h"
#include "storage/sdfs/placement.h"

namespace idunno::cli {
namespace {

constexpr std::size_t kBlocksPerPull = 32;
constexpr std::size_t kMovesPerRequest = 512;

/// Where good copies of this block are to be made: on the nodes whose copy is bad, and on the next nodes of its order as long as
/// there are too few. Nothing when no good copy is left.
std::set<NodeId> targets_of(const CheckedBlock& block, const CheckReport& report) {
  std::set<NodeId> targets;
  if (block.good.empty()) return targets;
  targets.insert(block.damaged.begin(), block.damaged.end());
  targets.insert(block.missing.begin(), block.missing.end());
  for (const NodeId node : placement_order(block.place.block.id, report.placement)) {
    if (block.good.size() + targets.size() >= report.wanted) break;
    if (report.alive.contains(node) && !block.good.contains(node)) targets.insert(node);
  }
  return targets;
}

std::set<NodeId> nodes_of(const BlockRef& block) { return {block.replicas.begin(), block.replicas.end()}; }

/// Tells the coordinator who holds the blocks now. A node that did not answer is left out only when others make up for it.
Result<std::uint32_t> move_replicas(Session& session, CheckReport& report, const std::vector<std::size_t>& mended) {
  std::uint32_t changed = 0;
  FsMoveReplicasRequest request;
  const auto send = [&]() -> Status {
    if (request.moves.empty()) return {};
    const auto reply = session.metadata().call_and_wait(request);
    if (!reply) return reply.error();
    changed += reply->changed;
    request.moves.clear();
    return {};
  };
  for (const std::size_t i : mended) {
    const CheckedBlock& block = report.blocks[i];
    std::set<NodeId> holding = block.good;
    if (holding.size() < report.wanted) holding.insert(block.unknown.begin(), block.unknown.end());
    if (holding == nodes_of(block.place.block)) continue;
    ReplicaMove move{
        block.place.path,          block.place.version, block.place.index, block.place.block.id, {holding.begin(), holding.end()},
        block.place.block.replicas};
    if (move.replicas.size() > kReplicasMax) move.replicas.resize(kReplicasMax);
    request.moves.push_back(std::move(move));
    if (request.moves.size() < kMovesPerRequest) continue;
    if (auto sent = send(); !sent) return sent.error();
  }
  if (auto sent = send(); !sent) return sent.error();
  return changed;
}

}  // namespace

Result<std::uint64_t> repair_blocks(Session& session, CheckReport& report) {
  std::map<NodeId, std::vector<std::size_t>> by_node;
  std::vector<std::size_t> mended;
  for (std::size_t i = 0; i < report.blocks.size(); ++i) {
    const std::set<NodeId> targets = targets_of(report.blocks[i], report);
    for (const NodeId node : targets) by_node[node].push_back(i);
    if (!targets.empty()) mended.push_back(i);
  }
  std::uint64_t copies = 0;
  NodeRequests requests(session);
  for (const auto& [node, indices] : by_node) {
    for (std::size_t first = 0; first < indices.size(); first += kBlocksPerPull) {
      const auto begin = indices.begin() + static_cast<std::ptrdiff_t>(first);
      const std::vector<std::size_t> part(begin,
                                          begin + static_cast<std::ptrdiff_t>(std::min(kBlocksPerPull, indices.size() - first)));
      PullBlocks request;
      for (const std::size_t i : part) {
        const CheckedBlock& block = report.blocks[i];
        request.blocks.push_back(block.place.block);
        request.blocks.back().replicas.assign(block.good.begin(), block.good.end());
      }
      requests.add(node, std::move(request), [&report, &copies, node = node, part](const std::vector<BlockStatus>* statuses) {
        for (std::size_t i = 0; statuses != nullptr && i < std::min(part.size(), statuses->size()); ++i) {
          if ((*statuses)[i] != BlockStatus::ok) continue;
          CheckedBlock& block = report.blocks[part[i]];
          block.good.insert(node);
          block.damaged.erase(node);
          block.missing.erase(node);
          ++copies;
        }
      });
    }
  }
  requests.run();
  if (auto moved = move_replicas(session, report, mended); !moved) return moved.error();
  return copies;
}

}  // namespace idunno::cli

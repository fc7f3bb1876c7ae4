#pragma once
/// Which nodes hold a block: weighted rendezvous hashing (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker
/// 2005). Pure. A node that comes or goes moves only its own share of the blocks.

#include <vector>

#include "bus/base/ids.h"
#include "bus/messages.h"

namespace idunno {

/// All nodes with weight > 0 in the order in which `block` prefers them; the first `count` hold it.
[[nodiscard]] std::vector<NodeId> placement_order(BlockId block, const std::vector<PlacementNode>& nodes);

/// The first min(count, nodes) of placement_order.
[[nodiscard]] std::vector<NodeId> place_block(BlockId block, const std::vector<PlacementNode>& nodes, std::size_t count);

/// Weight for free space: whole GiB, at least 1, 0 for a node that takes no blocks.
[[nodiscard]] std::uint32_t placement_weight(std::uint64_t free_bytes, bool read_only);

}  // namespace idunno

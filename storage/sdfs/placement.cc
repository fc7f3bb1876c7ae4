#include "storage/sdfs/placement.h"

#include <algorithm>

namespace idunno {
namespace {

__extension__ using Wide = unsigned __int128;

/// The finaliser of splitmix64: every bit of the result depends on every bit of the input.
std::uint64_t mix(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

constexpr unsigned kFractionBits = 24;

/// -log2(h / 2^64) with kFractionBits binary places: exponentially distributed when h is uniform. Integers only, so that all
/// machines and compilers agree on the order.
std::uint64_t exponential(std::uint64_t h) {
  h |= 1U;  // log of 0 does not exist
  const auto leading_zeros = static_cast<unsigned>(__builtin_clzll(h));
  std::uint64_t mantissa = h << leading_zeros;  // in [2^63, 2^64): a number in [1, 2)
  std::uint64_t fraction = 0;
  for (unsigned i = 0; i < kFractionBits; ++i) {  // squaring doubles the logarithm; its next binary digit is the carry
    const auto high = static_cast<std::uint64_t>((static_cast<Wide>(mantissa) * mantissa) >> 64U);
    const bool carry = (high >> 63U) != 0;
    mantissa = carry ? high : high << 1U;
    fraction = (fraction << 1U) | (carry ? 1U : 0U);
  }
  const std::uint64_t log2 = ((63ULL - leading_zeros) << kFractionBits) | fraction;
  return (64ULL << kFractionBits) - log2;
}

struct Candidate {
  std::uint64_t draw = 0;  ///< exponentially distributed; draw / weight decides, the smallest first
  std::uint32_t weight = 1;
  NodeId node;
};

bool before(const Candidate& a, const Candidate& b) {
  const Wide left = static_cast<Wide>(a.draw) * b.weight;  // a.draw / a.weight < b.draw / b.weight without dividing
  const Wide right = static_cast<Wide>(b.draw) * a.weight;
  return left != right ? left < right : a.node < b.node;
}

}  // namespace

std::vector<NodeId> place_block(BlockId block, const std::vector<PlacementNode>& nodes, std::size_t count) {
  const std::uint64_t block_hash = mix(block.hi ^ mix(block.lo));
  std::vector<Candidate> candidates;
  candidates.reserve(nodes.size());
  for (const PlacementNode& node : nodes) {
    if (node.weight > 0) candidates.push_back({exponential(mix(block_hash ^ mix(node.id.value))), node.weight, node.id});
  }
  count = std::min(count, candidates.size());
  const auto middle = candidates.begin() + static_cast<std::ptrdiff_t>(count);
  std::partial_sort(candidates.begin(), middle, candidates.end(), before);
  std::vector<NodeId> order;
  order.reserve(count);
  for (std::size_t i = 0; i < count; ++i) order.push_back(candidates[i].node);
  return order;
}

std::vector<NodeId> placement_order(BlockId block, const std::vector<PlacementNode>& nodes) {
  return place_block(block, nodes, nodes.size());
}

std::uint32_t placement_weight(std::uint64_t free_bytes, bool read_only) {
  if (read_only) return 0;
  return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(free_bytes >> 30U, 1, 1U << 30U));
}

}  // namespace idunno

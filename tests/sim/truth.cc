#include "tests/sim/truth.h"

#include <algorithm>

#include "bus/hash.h"

namespace idunno::sim {

std::uint32_t JobPlan::queries_of(BatchIndex index) const {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(batch, queries - std::uint64_t{index} * batch));
}

std::vector<std::uint32_t> JobPlan::poison_of(BatchIndex index) const {
  std::vector<std::uint32_t> places;
  const std::uint64_t first = std::uint64_t{index} * batch;
  for (auto at = poison.lower_bound(first); at != poison.end() && *at < first + batch; ++at)
    places.push_back(static_cast<std::uint32_t>(*at - first));
  return places;
}

Hash128 JobPlan::digest_of(BatchIndex index) const { return hash128(rows_of(name, index, queries_of(index), poison_of(index))); }

Hash128 JobPlan::digest() const {
  Bytes text;
  for (BatchIndex index = 0; index < batches(); ++index) {
    const Hash128 digest = digest_of(index);
    for (const std::uint64_t half : {digest.hi, digest.lo}) {
      for (unsigned shift = 64; shift > 0; shift -= 8) text.push_back(static_cast<char>((half >> (shift - 8)) & 0xFFU));
    }
  }
  return hash128(text);
}

Bytes rows_of(const std::string& job, BatchIndex batch, std::uint32_t queries, const std::vector<std::uint32_t>& left_out) {
  Bytes rows = job + " batch " + std::to_string(batch) + ", " + std::to_string(queries) + " queries";
  for (const std::uint32_t place : left_out) rows += ", not " + std::to_string(place);
  return rows;
}

}  // namespace idunno::sim

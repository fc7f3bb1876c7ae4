#pragma once
/// Hashes. xxh3-128 names the content of every block (not cryptographic: it finds damage, not attacks); 64 bits name a cluster.

#include "bus/base/bytes.h"
#include "bus/base/ids.h"

namespace idunno {

[[nodiscard]] Hash128 hash128(ByteView bytes);
[[nodiscard]] std::uint64_t hash64(ByteView bytes, std::uint64_t seed = 0);

}  // namespace idunno

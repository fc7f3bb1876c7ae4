#pragma once
/// The writer's half of the ids of its blocks (BlockIdSource): random, never 0, so that no two writers share an id.

#include <cstdint>

namespace idunno {

[[nodiscard]] std::uint64_t random_writer_id();

}  // namespace idunno

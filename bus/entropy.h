#pragma once
/// Numbers that nobody else draws, from the operating system: ids of clients, writers, stores and logs. What must be repeatable
/// takes its numbers from bus/base/random.h. Thread-safe.

#include <cstdint>

namespace idunno {

/// 64 random bits, never all 0: 0 stands for "none" in ids.
[[nodiscard]] std::uint64_t random_nonzero();

}  // namespace idunno

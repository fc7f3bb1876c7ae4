#pragma once
/// How much of a batch was computed when, from what its commit tells (BatchCommit::done_milli). Integers: the coordinator's rates
/// and the experiments' figures are the same function of the same numbers.

#include <cstdint>
#include <vector>

namespace idunno {

/// Millionths of a batch that are done `after` (0 to `length` > 0, any unit) its start, evenly between the steps that are told.
/// Never less than zero or more than a whole, whatever is told; but a liar's steps may go down.
[[nodiscard]] std::int64_t done_millionths(const std::vector<std::uint16_t>& steps, std::int64_t after, std::int64_t length);
/// The same as a part of 1, at any time: nothing before its start, all from its end on.
[[nodiscard]] double done_part(const std::vector<std::uint16_t>& steps, std::int64_t after, std::int64_t length);

}  // namespace idunno

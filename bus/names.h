#pragma once
/// The words for states and kinds, the same in reports, logs, events and error messages. Pure.

#include <string>

#include "bus/types.h"

namespace idunno {

[[nodiscard]] std::string to_string(JobState state);   ///< "running"
[[nodiscard]] std::string to_string(NodeState state);  ///< "alive"
[[nodiscard]] std::string to_string(ItemKind kind);    ///< "image"
[[nodiscard]] std::string to_string(Phase phase);      ///< "inference", "training", "none"
[[nodiscard]] std::string to_string(JobKind kind);     ///< "inference"
/// done, failed or stopped.
[[nodiscard]] bool is_over(JobState state);

}  // namespace idunno

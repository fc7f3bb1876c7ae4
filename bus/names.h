#pragma once
/// The words for states and kinds, the same in reports, logs, events and error messages. Pure.

#include <string>

#include "bus/types.h"

namespace idunno {

[[nodiscard]] std::string to_string(JobState state);   ///< "running"
[[nodiscard]] std::string to_string(NodeState state);  ///< "alive"
[[nodiscard]] std::string to_string(ItemKind kind);    ///< "image"
/// done, failed or stopped.
[[nodiscard]] bool is_over(JobState state);

}  // namespace idunno

#pragma once
/// Whether the key in use is good for a command that writes in several steps. The nodes check every message themselves; asking
/// first gives one clear refusal before anything is sent.

#include <fmt/core.h>

#include "bus/security.h"
#include "cli/app.h"

namespace idunno::cli {

/// forbidden, with both roles.
[[nodiscard]] inline Status check_role(const Session& session, Role needs) {
  const KeyPair& keys = session.keys();
  if (role_allows(keys.role, needs)) return {};
  return Error{Errc::forbidden, fmt::format("the key '{}' has the role {}; this needs the role {}", keys.name,
                                            to_string(keys.role), to_string(needs))};
}

}  // namespace idunno::cli

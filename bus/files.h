#pragma once
/// Small files written so that a crash leaves the old content or the new one, never half of it.

#include <filesystem>
#include <string>

#include "bus/base/bytes.h"
#include "bus/base/result.h"

namespace idunno::files {

enum class Existing : std::uint8_t { replace, keep };  ///< keep: conflict when the file is there already

/// Writes a temporary file beside `file`, syncs it, puts it in place and syncs the folder. Makes the folder (0700) when it is
/// absent.
[[nodiscard]] Status write_atomically(const std::filesystem::path& file, ByteView content, unsigned mode, Existing existing);

}  // namespace idunno::files

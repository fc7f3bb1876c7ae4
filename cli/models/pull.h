#pragma once
/// Fetches one file of known size and SHA-256 over HTTP(S) into a folder: goes on where an earlier attempt stopped, retries
/// within bounds, and lets the file appear under its name only when it is complete and right. Blocking; needs no cluster.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "bus/base/result.h"
#include "bus/base/time.h"

namespace idunno::models {

struct PullRequest {
  std::string url;                      ///< https://...; http:// is for mirrors of one's own (the SHA-256 holds either way)
  std::uint64_t size = 0;               ///< bytes; a server that sends more is cut off
  std::string sha256;                   ///< hexadecimal
  std::filesystem::path folder;         ///< made when it is not there
  std::string file_name;                ///< the finished file; `<file_name>.part` while it grows
  std::uint32_t idle_attempts_max = 5;  ///< attempts in a row that bring no new byte
  std::uint32_t attempts_max = 50;      ///< in all
  Duration first_pause = std::chrono::milliseconds(500);  ///< before a retry; doubles up to 16 times that
  Duration stall_limit = std::chrono::seconds(30);        ///< a transfer without a byte for so long is given up
  std::function<void(std::uint64_t bytes)> progress;      ///< bytes there so far; may be empty
};

/// The path of the finished file. A finished file that is there already is verified and not fetched again.
/// not_found: the server has no such file. unavailable: retries used up; the part stays and the next call goes on. too_large: the
/// server has more bytes than announced. damaged: the SHA-256 is wrong; the part is removed. conflict: another process fetches it
/// now.
[[nodiscard]] Result<std::filesystem::path> pull_file(const PullRequest& request);

/// $XDG_CACHE_HOME/idunno or ~/.cache/idunno.
[[nodiscard]] std::filesystem::path default_cache_folder();

/// Lower-case hexadecimal.
[[nodiscard]] Result<std::string> sha256_of_file(const std::filesystem::path& file);

}  // namespace idunno::models

#include <algorithm>
#include <string>

#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

Error bad_path(std::string_view path, const std::string& why) {
  return Error{Errc::invalid, "SDFS path '" + std::string(path.substr(0, kPathBytesMax)) + "' is not allowed: " + why};
}

/// Bytes that follow the lead byte of a UTF-8 sequence; -1 when it is no lead byte.
int continuation_bytes(unsigned char lead) {
  if (lead < 0x80) return 0;
  if (lead >= 0xC2 && lead <= 0xDF) return 1;
  if (lead >= 0xE0 && lead <= 0xEF) return 2;
  if (lead >= 0xF0 && lead <= 0xF4) return 3;
  return -1;
}

/// Names appear in JSON, tables and logs, so they are printable UTF-8 (over-long forms and surrogates are not).
bool is_printable_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const int more = continuation_bytes(lead);
    if (more < 0 || lead < 0x20 || lead == 0x7F || i + static_cast<std::size_t>(more) >= text.size()) return false;
    for (int k = 1; k <= more; ++k) {
      const auto next = static_cast<unsigned char>(text[i + static_cast<std::size_t>(k)]);
      if ((next & 0xC0U) != 0x80U) return false;
      if (k > 1) continue;
      if ((lead == 0xE0 && next < 0xA0) || (lead == 0xED && next > 0x9F) || (lead == 0xF0 && next < 0x90) ||
          (lead == 0xF4 && next > 0x8F)) {
        return false;
      }
    }
    i += static_cast<std::size_t>(more) + 1;
  }
  return true;
}

}  // namespace

Status check_path(std::string_view path) {
  if (path.empty() || path.front() != '/') return bad_path(path, "it must start with '/'");
  if (path == "/") return bad_path(path, "it names the root folder, not a file");
  if (path.size() > kPathBytesMax) {
    return bad_path(path, "it is longer than " + std::to_string(kPathBytesMax) + " bytes");
  }
  if (!is_printable_utf8(path)) return bad_path(path, "it must be UTF-8 without control characters");
  for (std::size_t start = 1; start <= path.size();) {
    const std::size_t end = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, end - start);
    if (part.empty()) return bad_path(path, "it has an empty part ('//' or '/' at the end)");
    if (part == "." || part == "..") return bad_path(path, "'.' and '..' have no meaning in SDFS");
    start = end + 1;
  }
  return {};
}

}  // namespace idunno

#pragma once
/// TOML in, with errors a user can act upon: a key nobody asked for is refused with the nearest known one, a wrong type names
/// key, line, what was found and what is wanted. Used for the cluster's configuration, model specs and key lists.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bus/base/result.h"

namespace idunno {

/// One table of a document. Getters note which keys were asked for; `finish` refuses the others. The first error is kept and
/// returned by `finish`, so a reader is a straight list of getters followed by one check.
class TomlTable {
 public:
  [[nodiscard]] static Result<TomlTable> parse(std::string_view text, const std::string& source_name);
  [[nodiscard]] static Result<TomlTable> parse_file(const std::filesystem::path& file);  ///< at most 1 MiB

  void get(const char* key, std::string& value);
  void get(const char* key, bool& value);
  void get(const char* key, std::int64_t& value, std::int64_t min, std::int64_t max);
  void get(const char* key, double& value, double min, double max);
  void get(const char* key, std::vector<double>& value);
  void get(const char* key, std::vector<std::int64_t>& value, std::int64_t min, std::int64_t max);
  void get(const char* key, std::vector<std::string>& value);
  /// A duration or size as text, "250ms", "10s", "64K", "1M" (bus/units.h); plain numbers are refused.
  void get_duration(const char* key, std::int64_t& microseconds, std::int64_t min, std::int64_t max);
  void get_size(const char* key, std::uint64_t& bytes, std::uint64_t min, std::uint64_t max);
  [[nodiscard]] bool has(const char* key);
  void require(const char* key);                                  ///< error when the key is absent
  [[nodiscard]] std::optional<TomlTable> table(const char* key);  ///< shares the error state with this one
  [[nodiscard]] std::vector<TomlTable> tables(const char* key);   ///< [[key]]
  void fail(const char* key, const std::string& what);            ///< an error found by the reader, with the place of `key`

  /// The first error of this document so far, or the first unknown key in this table and all tables asked for.
  [[nodiscard]] Status finish();

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

/// The candidate with the smallest edit distance, or "" when none is near.
[[nodiscard]] std::string nearest_word(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace idunno

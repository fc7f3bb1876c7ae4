#include "cli/result_check.h"

#include <fmt/core.h>

#include <algorithm>

#include "bus/hash.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

void append_big_endian(std::string& out, std::uint64_t value) {
  for (unsigned shift = 64; shift > 0; shift -= 8) out += static_cast<char>((value >> (shift - 8)) & 0xFFU);
}

}  // namespace

ResultCheck::ResultCheck(std::uint64_t queries, std::uint32_t batch, std::function<Result<std::string>(std::uint64_t)> name_of)
    : queries_(queries), batch_(std::max(batch, 1U)), name_of_(std::move(name_of)) {}

Status ResultCheck::block(std::uint64_t batch, std::string_view rows) {
  if (batch != next_batch_) return Error{Errc::damaged, fmt::format("batch {} is missing", next_batch_)};
  const Hash128 hash = hash128(rows);
  append_big_endian(hashes_, hash.hi);
  append_big_endian(hashes_, hash.lo);
  const std::uint64_t first = next_;
  const std::uint64_t end = batch_end();
  while (!rows.empty()) {
    const std::size_t length = std::min(rows.find('\n'), rows.size());
    if (next_ >= end) return Error{Errc::damaged, fmt::format("batch {} has more rows than its {} queries", batch, end - first)};
    if (auto status = row(rows.substr(0, length)); !status) return status;
    rows.remove_prefix(std::min(length + 1, rows.size()));
  }
  if (next_ != end) return Error{Errc::damaged, fmt::format("batch {} ends before query {}: the row is missing", batch, next_)};
  ++next_batch_;
  return pass_ != 0 && next_ % pass_ == 0 ? end_pass() : Status{};
}

/// Of the batch that begins with the next row.
std::uint64_t ResultCheck::batch_end() const {
  std::uint64_t end = std::min(queries_, next_ + batch_);
  if (pass_ != 0) end = std::min(end, (next_ / pass_ + 1) * pass_);
  return part_end_ ? std::min(end, part_end_(next_)) : end;
}

Status ResultCheck::end_pass() {
  const Hash128 digest = hash128(hashes_);
  hashes_.clear();
  if (!first_pass_) first_pass_ = digest;
  if (digest == *first_pass_) return {};
  return Error{Errc::damaged, fmt::format("pass {} has other rows than the first", next_ / pass_ - 1)};
}

Status ResultCheck::row(std::string_view line) {
  const Json parsed = Json::parse(line, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("index") || !parsed["index"].is_number_unsigned() || !parsed.contains("query") ||
      !parsed["query"].is_string()) {
    return Error{Errc::damaged, fmt::format("the row of query {} is not an object with index and query", next_)};
  }
  const auto index = parsed["index"].get<std::uint64_t>();
  const std::uint64_t wanted = pass_ == 0 ? next_ : next_ % pass_;
  if (index != wanted)
    return Error{Errc::damaged, fmt::format("query {} is {}: the row there says index {}", next_,
                                            index < wanted ? "doubled or out of order" : "missing", index)};
  auto name = name_of_(next_);
  if (!name) return name.error();
  if (parsed["query"].get_ref<const std::string&>() != *name) {
    return Error{Errc::damaged, fmt::format("the row of query {} is of '{}', the manifest says '{}'", next_,
                                            parsed["query"].get<std::string>(), *name)};
  }
  if (parsed.contains("error")) ++errors_;
  ++next_;
  return {};
}

Status ResultCheck::finish() const {
  if (next_ == queries_) return {};
  return Error{Errc::damaged,
               fmt::format("{} of {} queries have no row, the first is query {}", queries_ - next_, queries_, next_)};
}

Hash128 ResultCheck::digest() const { return first_pass_ ? *first_pass_ : hash128(hashes_); }

}  // namespace idunno::cli

#pragma once
/// What both log stores refuse in the same words: a write that would leave a hole. Pure.

#include <fmt/format.h>

#include "storage/log_store.h"

namespace idunno {

/// `first` and `last` as before the write: the entries are first..last, and last + 1 == first when there are none. `base` is the
/// index of the snapshot, 0 without one. On success `last` is what it will be after the write.
[[nodiscard]] inline Status check_log_write(const LogWrite& write, std::uint64_t base, std::uint64_t& last) {
  std::uint64_t end = last;
  if (write.truncate_from) {
    const std::uint64_t from = write.truncate_from->value;
    if (from <= base) {
      return Error{Errc::invalid,
                   fmt::format("truncating the log from entry {}: entries up to {} are in the snapshot", from, base)};
    }
    if (from <= end) end = from - 1;
  }
  for (const LogEntry& entry : write.append) {
    if (entry.index.value != end + 1) {
      return Error{Errc::invalid, fmt::format("appending entry {} to a log that ends with {}", entry.index.value, end)};
    }
    ++end;
  }
  last = end;
  return {};
}

/// A snapshot never goes back behind the one before.
[[nodiscard]] inline Status check_snapshot(const Snapshot& snapshot, std::uint64_t base) {
  if (snapshot.index.value >= base && snapshot.index.value > 0) return {};
  return Error{Errc::invalid,
               fmt::format("saving a snapshot of entry {}: one of entry {} is there already", snapshot.index.value, base)};
}

}  // namespace idunno

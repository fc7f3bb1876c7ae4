#pragma once
/// Keeps a store from filling its disk: a reserve of free space below which no block is taken, and a ballast file that is given
/// up when the disk is full all the same (somebody else filled it), so that the store can still be closed and opened again.
/// Thread-safe.

#include <atomic>
#include <cstdint>
#include <filesystem>

#include "bus/base/result.h"

namespace idunno {

class DiskSpace {
 public:
  /// Looks after the file system that holds `folder`, which exists.
  DiskSpace(std::filesystem::path folder, std::uint64_t reserve_bytes);

  struct Figures {
    std::uint64_t capacity_bytes = 0;
    std::uint64_t free_bytes = 0;
  };
  [[nodiscard]] Result<Figures> figures() const;

  /// Whether `bytes` more may be written. Once it said no it says no until there is clearly more room again, so that a node at
  /// the border does not change its mind with every block. An unreadable file system counts as full.
  [[nodiscard]] bool has_room(std::uint64_t bytes);
  [[nodiscard]] bool read_only() const { return read_only_.load(); }

  void release_ballast();
  /// Makes the ballast file when it is not there and there is room for it; failing is no error.
  void ensure_ballast();

 private:
  [[nodiscard]] std::uint64_t ballast_bytes() const;

  std::filesystem::path folder_;
  std::filesystem::path ballast_;
  std::uint64_t reserve_bytes_;
  std::atomic<bool> read_only_{false};
};

}  // namespace idunno

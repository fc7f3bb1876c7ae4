#pragma once
/// What the clients of a world asked for and were told, and what must come of it: kept outside of the nodes, so that no fault
/// touches it. Results are a function of (job, batch, queries left out); files are a function of (path, which put).

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/messages.h"
#include "bus/types.h"

namespace idunno::sim {

struct JobPlan {
  std::string name;  ///< unique in the world
  std::uint64_t queries = 0;
  std::uint32_t batch = 1;
  std::set<std::uint64_t> poison;  ///< queries that kill every executor
  Duration batch_time{};
  std::optional<JobId> acknowledged;
  std::map<BatchIndex, std::uint32_t> crashes;  ///< of healthy batches, so far

  [[nodiscard]] std::uint32_t batches() const { return static_cast<std::uint32_t>((queries + batch - 1) / batch); }
  [[nodiscard]] std::uint32_t queries_of(BatchIndex index) const;
  /// Places in the batch whose queries kill executors.
  [[nodiscard]] std::vector<std::uint32_t> poison_of(BatchIndex index) const;
  [[nodiscard]] Hash128 digest_of(BatchIndex index) const;
  [[nodiscard]] Hash128 digest() const;  ///< of the whole job, as an undisturbed run has it
};

/// The rows of one batch.
[[nodiscard]] Bytes rows_of(const std::string& job, BatchIndex batch, std::uint32_t queries,
                            const std::vector<std::uint32_t>& left_out);

/// One path of one client, which is the only one that changes it, one request after the other.
struct FileTruth {
  std::vector<std::vector<Hash128>> versions;  ///< acknowledged ones: the hashes of their blocks
  bool removed = false;                        ///< acknowledged, and nothing was put since
  bool changing = false;                       ///< a put or a removal is under way: its outcome is open
};

struct Truth {
  std::map<std::string, JobPlan> jobs;
  std::map<std::string, FileTruth> files;
  std::uint64_t acknowledged_puts = 0;
  std::uint64_t acknowledged_submits = 0;
  std::uint64_t reads = 0;
};

}  // namespace idunno::sim

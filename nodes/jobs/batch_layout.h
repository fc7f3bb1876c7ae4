#pragma once
/// Which queries batch b of a job has: the one place where batches are counted. Pure.
///
/// Queries are numbered through the whole job, 0, 1, ...; a *pass* is once through the data set. Batch borders:
///   - a plain job: batch b is queries [b*B, (b+1)*B); the last may be smaller;
///   - a repeated one: the same in each pass. A batch never crosses the end of a pass, so the batches of all passes are the same
///     queries in the same company, and each pass gives the same rows, byte for byte;
///   - a following one: its first manifest is cut as a plain job, and so is each segment that came later.

#include <cstdint>
#include <vector>

#include "bus/types.h"

namespace idunno {

inline constexpr std::uint64_t kBatchNumbersMax = UINT32_MAX;  ///< BatchIndex: a job without end has at most so many batches

struct BatchPlace {
  std::uint64_t first_query = 0;  ///< number in the job
  std::uint32_t queries = 0;      ///< 0: there is no such batch
  std::uint64_t item = 0;         ///< of the manifest, of its first query
  std::uint32_t segment = 0;      ///< 0: the job's own manifest; k: that of its k-th segment
  bool operator==(const BatchPlace&) const = default;
};

/// The numbers of a job that decide it.
struct JobShape {
  std::uint64_t queries = 0;  ///< of the job's own manifest
  std::uint32_t batch = 1;
  std::uint32_t repeat = 1;  ///< 0 = without end
  bool operator==(const JobShape&) const = default;
};

/// `segments`: of a following job, whose spec.queries counts theirs, too.
[[nodiscard]] JobShape shape_of(const JobSpec& spec, const std::vector<JobSegment>& segments);
[[nodiscard]] std::uint64_t batches_for(std::uint64_t queries, std::uint32_t batch);
[[nodiscard]] std::uint64_t batches_per_pass(const JobShape& shape);
/// So far; of a job without end as many whole passes as there are batch numbers. Saturates at UINT64_MAX.
[[nodiscard]] std::uint64_t batches_of(const JobShape& shape, const std::vector<JobSegment>& segments);
[[nodiscard]] BatchPlace place_of(const JobShape& shape, const std::vector<JobSegment>& segments, std::uint64_t batch);

}  // namespace idunno

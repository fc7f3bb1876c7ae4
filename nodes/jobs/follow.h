#pragma once
/// What the coordinator tells about jobs that follow a folder. The rule is durable: the job covers the files that its lists of
/// queries name (the first one and those of its segments, nodes/jobs/cluster_state.h); whatever image else is in the folder is to
/// come into the next segment. Who begins to coordinate compares the folder with the lists; after that it is told what lands.
///
/// A file is a query once: another version of a path that is covered is not looked at.

#include <string>
#include <vector>

#include "bus/types.h"

namespace idunno {

inline constexpr std::size_t kSegmentsAheadMax = 32;  ///< segments with work left, of one job; then files wait for the next one

struct FollowNotice {
  enum class What : std::uint8_t {
    compare,   ///< look at the whole folder: the reign begins, the job is new, or a segment was refused
    landed,    ///< these files came
    extended,  ///< the last segment is taken
    over,      ///< the job is over
  };
  What what = What::compare;
  JobId job;
  JobSpec spec;                    ///< compare
  std::uint64_t known = 0;         ///< compare, extended: the number of its segments
  std::vector<FileVersion> files;  ///< landed, with blocks
};

/// A segment whose list of queries is in SDFS, to be proposed.
struct FollowSegment {
  JobId job;
  Epoch epoch;              ///< of the reign in which the folder was compared
  std::uint64_t after = 0;  ///< the number of segments that it goes on after
  std::string manifest_path;
  std::uint32_t manifest_version = 0;
  std::uint32_t items_per_chunk = 0;
  std::uint64_t queries = 0;
};

}  // namespace idunno

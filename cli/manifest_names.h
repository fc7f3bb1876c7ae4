#pragma once
/// What the queries of a job are called, read from its lists of queries one block at a time. Queries are numbered through the
/// job, all passes and segments (nodes/jobs/batch_layout.h).

#include <string>
#include <vector>

#include "bus/messages.h"
#include "cli/app.h"
#include "storage/sdfs/manifest.h"

namespace idunno::cli {

class ManifestNames {
 public:
  /// `report` outlives this.
  ManifestNames(Session& session, const JobReport& report) : session_(session), report_(report) {}
  /// Looks at which lists there are.
  [[nodiscard]] Status open();
  [[nodiscard]] Result<std::string> name(std::uint64_t query);
  /// The first query behind the segment in which `query` lies: batches do not go beyond.
  [[nodiscard]] std::uint64_t part_end(std::uint64_t query) const;

 private:
  struct Part {
    FileVersion file;
    std::uint64_t first = 0;  ///< query
    std::uint64_t count = 0;
    std::uint32_t items_per_chunk = 1;
  };
  [[nodiscard]] Status add(FileVersion file, std::uint32_t items_per_chunk);
  [[nodiscard]] Status open_segments();
  [[nodiscard]] const Part* part_of(std::uint64_t query) const;
  [[nodiscard]] Status load(const Part& part, std::uint64_t chunk);

  Session& session_;
  const JobReport& report_;
  std::vector<Part> parts_;
  ManifestChunk chunk_;
  const FileVersion* loaded_ = nullptr;
  std::uint64_t loaded_chunk_ = 0;
};

}  // namespace idunno::cli

#pragma once
/// A few inputs at once, answered now: what `idunno query` and `idunno bench query` do.

#include <memory>
#include <string>
#include <vector>

#include "bus/rpc.h"
#include "cli/jobs.h"

namespace idunno::cli {

inline constexpr std::size_t kQueryFilesMax = 1024;       ///< in one query; more are a job
inline constexpr std::size_t kQueryFilesInBatchMax = 16;  ///< unless the caller says otherwise

/// Knows when jobs end from the event stream of all nodes; the coordinator is only asked when the stream says nothing for a
/// while.
class JobEnds {
 public:
  [[nodiscard]] static Result<std::unique_ptr<JobEnds>> watch(Session& session);
  ~JobEnds();
  JobEnds(const JobEnds&) = delete;
  JobEnds& operator=(const JobEnds&) = delete;
  /// The job when it is over, or when it waits for something that it cannot get by itself (`queued`). timeout at `deadline`.
  [[nodiscard]] Result<JobReport> wait(JobId job, Time deadline);

 private:
  explicit JobEnds(Session& session) : session_(session) {}
  Session& session_;
  std::vector<JobId> ended_;
  std::unique_ptr<Subscriber> subscriber_;
};

struct QueryOptions {
  std::string model;  ///< NAME or NAME:VERSION
  std::vector<std::string> files;
  std::uint32_t batch = 0;  ///< 0 = all files, at most kQueryFilesInBatchMax
  std::uint32_t top = 0;
  Duration timeout{};
};
struct QueryTimes {
  double put_ms = 0;     ///< the files into SDFS
  double submit_ms = 0;  ///< the list of queries, and the job
  double wait_ms = 0;    ///< for its end
  double read_ms = 0;    ///< its rows
  double total_ms = 0;
};
struct QueryAnswer {
  JobReport report;
  std::vector<Json> rows;  ///< one for each file, in their order, as result rows
  QueryTimes times;
};
/// Leaves nothing behind in SDFS, however it ends. conflict when the job would have to wait for another phase.
[[nodiscard]] Result<QueryAnswer> run_query(Session& session, JobEnds& ends, const QueryOptions& options);

}  // namespace idunno::cli

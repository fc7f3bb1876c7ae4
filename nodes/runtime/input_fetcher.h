#pragma once
/// Gets what a batch needs onto this machine: the model's files (model_cache.h) and the bytes of the batch's queries. Called from
/// the control thread; the work is done in the data service's thread; answers come back to the control thread.

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bus/event_loop.h"
#include "bus/types.h"
#include "nodes/jobs/worker_queue.h"
#include "nodes/runtime/data_service.h"

namespace idunno {

struct FetchedBatch {
  std::string onnx_file;    ///< local path; empty for the engine that does nothing
  std::string labels_file;  ///< local path or empty
  std::vector<std::string> queries;
  std::vector<Payload> items;
};

class InputFetcher {
 public:
  using Done = std::function<void(const LeaseKey&, Result<FetchedBatch>)>;
  /// `coordinator` is asked where a block lies now when the manifest's hints are all wrong.
  InputFetcher(DataService& data, EventLoop& control, const std::filesystem::path& data_dir, std::uint64_t disk_reserve_bytes,
               std::vector<NodeId> metadata_nodes, Done done);
  ~InputFetcher();

  void add_job(const JobDescription& description);
  void forget_job(JobId job);
  /// When there is room for it; whether it comes is not told.
  void prefetch(const PrefetchModel& model);
  void fetch(const std::vector<Lease>& leases);

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace idunno

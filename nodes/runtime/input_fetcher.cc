#include "nodes/runtime/input_fetcher.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "nodes/runtime/model_cache.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/manifest_reader.h"

namespace idunno {
namespace {

constexpr Duration kRelocateTimeout = std::chrono::seconds(5);

}  // namespace

/// Lives in the data service's thread, but for `control` and `done`, which belong to the control thread.
struct InputFetcher::Impl : std::enable_shared_from_this<InputFetcher::Impl> {
  struct JobInputs {
    JobDescription description;
    std::unique_ptr<ManifestReader> manifest;
    std::map<std::uint32_t, std::unique_ptr<ManifestReader>> segments;  ///< of a following job, by number
    std::string onnx_file;
    std::string labels_file;
    int downloads = 0;          ///< of model files that are on their way
    Status model;               ///< an error here is the answer to every fetch
    std::deque<Lease> waiting;  ///< for the model
  };

  Impl(DataService& data_service, EventLoop& control_loop, std::vector<NodeId> nodes, Done on_done)
      : data(data_service), control(control_loop), metadata_nodes(std::move(nodes)), done(std::move(on_done)) {}

  DataService& data;
  EventLoop& control;
  std::vector<NodeId> metadata_nodes;
  Done done;
  std::unique_ptr<MetadataClient> metadata;
  std::map<JobId, JobInputs> jobs;
  std::shared_ptr<ModelCache> models;

  void add_job(const JobDescription& description);
  void add_segments(JobInputs& job, const JobDescription& description);
  [[nodiscard]] std::unique_ptr<ManifestReader> reader(const FileVersion& manifest, std::uint32_t items_per_chunk);
  void want_file(JobId job, const FileVersion& file, std::string& local);
  [[nodiscard]] std::set<std::string> files_in_use() const;
  void model_ready(JobId job, const Status& status);
  void fetch(const Lease& lease);
  void fetch_items(JobInputs& job, const Lease& lease);
  void relocate(const std::string& path, std::uint32_t version, std::uint64_t block_index,
                std::function<void(Result<BlockRef>)> answer);
  void answer(const Lease& lease, Result<FetchedBatch> batch);
};

void InputFetcher::Impl::add_job(const JobDescription& description) {
  // A model that could not be fetched is tried again: the new description names where its blocks lie now.
  if (const auto old = jobs.find(description.job); old != jobs.end() && !old->second.model && old->second.downloads == 0)
    jobs.erase(old);
  const auto [place, is_new] = jobs.try_emplace(description.job);
  JobInputs& job = place->second;
  add_segments(job, description);
  if (!is_new) return;
  job.description = description;
  job.description.segments.clear();
  job.manifest = reader(description.manifest, description.spec.items_per_chunk);
  job.downloads = 1;  // until both are asked for
  want_file(description.job, description.onnx, job.onnx_file);
  want_file(description.job, description.labels, job.labels_file);
  model_ready(description.job, {});
}

std::unique_ptr<ManifestReader> InputFetcher::Impl::reader(const FileVersion& manifest, std::uint32_t items_per_chunk) {
  return std::make_unique<ManifestReader>(
      data.loop(), data.blocks(), manifest, std::max(items_per_chunk, 1U),
      [weak = weak_from_this()](const std::string& path, std::uint32_t version, std::uint64_t block_index,
                                std::function<void(Result<BlockRef>)> found) {
        if (auto self = weak.lock()) self->relocate(path, version, block_index, std::move(found));
      },
      ManifestReader::Options{});
}

/// Those that are done are forgotten, those that are new are added.
void InputFetcher::Impl::add_segments(JobInputs& job, const JobDescription& description) {
  if (description.segments.empty()) return;
  job.segments.erase(job.segments.begin(), job.segments.lower_bound(description.first_segment));
  for (std::size_t i = 0; i < description.segments.size(); ++i) {
    const SegmentManifest& segment = description.segments[i];
    auto& place = job.segments[description.first_segment + static_cast<std::uint32_t>(i)];
    if (!place) place = reader(segment.manifest, segment.segment.items_per_chunk);
  }
}

void InputFetcher::Impl::want_file(JobId id, const FileVersion& file, std::string& local) {
  if (file.version == 0) return;
  local = models->path_of(file);
  ++jobs.at(id).downloads;  // before it can be done
  const bool there = models->want(file, [weak = weak_from_this(), id](const Status& status) {
    if (auto self = weak.lock()) self->model_ready(id, status);
  });
  if (there) --jobs.at(id).downloads;
}

std::set<std::string> InputFetcher::Impl::files_in_use() const {
  std::set<std::string> used;
  for (const auto& [id, job] : jobs) used.insert({job.onnx_file, job.labels_file});
  return used;
}

void InputFetcher::Impl::model_ready(JobId id, const Status& status) {
  const auto found = jobs.find(id);
  if (found == jobs.end()) return;
  JobInputs& job = found->second;
  --job.downloads;
  if (!status) job.model = status;
  if (job.downloads > 0) return;
  std::deque<Lease> waiting = std::move(job.waiting);
  job.waiting.clear();
  for (const Lease& lease : waiting) fetch(lease);
}

void InputFetcher::Impl::fetch(const Lease& lease) {
  const auto found = jobs.find(lease.job);
  if (found == jobs.end()) return answer(lease, Error{Errc::not_found, "the job's description has not come"});
  JobInputs& job = found->second;
  if (job.downloads > 0) {
    job.waiting.push_back(lease);
    return;
  }
  if (!job.model && lease.attempt < kGiveUpAttempt) return answer(lease, job.model.error());  // until it is described anew
  fetch_items(job, lease);
}

void InputFetcher::Impl::fetch_items(JobInputs& job, const Lease& lease) {
  FetchedBatch batch;
  batch.onnx_file = job.onnx_file;
  batch.labels_file = job.labels_file;
  const bool given_up = lease.attempt >= kGiveUpAttempt;  // its rows need no more than the names of its queries
  auto on_items = [weak = weak_from_this(), lease, given_up,
                   batch = std::move(batch)](Result<std::vector<BatchItem>> items) mutable {
    auto self = weak.lock();
    if (!self) return;
    if (!items && !given_up) return self->answer(lease, items.error());
    if (items) {
      for (BatchItem& item : *items) {
        batch.queries.push_back(std::move(item.query));
        batch.items.push_back(std::move(item.bytes));
      }
    }
    self->answer(lease, std::move(batch));
  };
  ManifestReader* manifest = job.manifest.get();
  if (lease.segment != 0) {
    const auto segment = job.segments.find(lease.segment);
    if (segment == job.segments.end())
      return answer(lease, Error{Errc::not_found, fmt::format("the list of queries of segment {} has not come", lease.segment)});
    manifest = segment->second.get();
  }
  if (given_up) return manifest->fetch_names(lease.item, lease.queries, std::move(on_items));
  manifest->fetch_batch(lease.item, lease.queries, std::move(on_items));
}

void InputFetcher::Impl::relocate(const std::string& path, std::uint32_t version, std::uint64_t block_index,
                                  std::function<void(Result<BlockRef>)> found) {
  if (!metadata) metadata = std::make_unique<MetadataClient>(data.loop(), data.rpc(), metadata_nodes, kRelocateTimeout);
  FsStatRequest request;
  request.path = path;
  request.version = version;
  request.first_block = block_index;
  request.max_blocks = 1;
  metadata->call<FsStatRequest>(request, [path, found = std::move(found)](Result<FsStatReply> reply) {
    if (!reply) return found(reply.error());
    if (reply->file.blocks.empty()) return found(Error{Errc::not_found, path + " has no such block any more"});
    found(reply->file.blocks.front());
  });
}

void InputFetcher::Impl::answer(const Lease& lease, Result<FetchedBatch> batch) {
  control.post(
      [weak = weak_from_this(), key = LeaseKey{lease.job, lease.batch, lease.attempt}, batch = std::move(batch)]() mutable {
        if (auto self = weak.lock()) self->done(key, std::move(batch));
      });
}

InputFetcher::InputFetcher(DataService& data, EventLoop& control, const std::filesystem::path& data_dir,
                           std::uint64_t disk_reserve_bytes, std::vector<NodeId> metadata_nodes, Done done)
    : impl_(std::make_shared<Impl>(data, control, std::move(metadata_nodes), std::move(done))) {
  ModelCache::Options options;
  options.folder = data_dir / "models";
  options.disk_spare_bytes += disk_reserve_bytes;
  options.used = [impl = impl_.get()] { return impl->files_in_use(); };
  impl_->models = std::make_shared<ModelCache>(data.blocks(), std::move(options));
}

InputFetcher::~InputFetcher() = default;

void InputFetcher::add_job(const JobDescription& description) {
  impl_->data.post([impl = impl_, description] { impl->add_job(description); });
}

void InputFetcher::prefetch(const PrefetchModel& model) {
  impl_->data.post([impl = impl_, model] {
    impl->models->prefetch(model.onnx);
    impl->models->prefetch(model.labels);
  });
}

void InputFetcher::forget_job(JobId job) {
  impl_->data.post([impl = impl_, job] { impl->jobs.erase(job); });
}

void InputFetcher::fetch(const std::vector<Lease>& leases) {
  impl_->data.post([impl = impl_, leases] {
    for (const Lease& lease : leases) impl->fetch(lease);
  });
}

}  // namespace idunno

#include "nodes/runtime/input_fetcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <fstream>
#include <map>
#include <set>
#include <utility>

#include "bus/hash.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/manifest_reader.h"

namespace idunno {
namespace {

constexpr std::size_t kModelBlocksInFlight = 8;
constexpr std::uint64_t kModelCacheBytesMax = 8ULL << 30U;  ///< of model files on the local disk
constexpr Duration kRelocateTimeout = std::chrono::seconds(5);

/// Whether a file from an earlier run is exactly this version: every block is read and hashed.
bool same_content(const std::filesystem::path& file, const FileVersion& version) {
  std::error_code error;
  if (std::filesystem::file_size(file, error) != version.size || error) return false;
  std::ifstream in(file, std::ios::binary);
  Bytes piece;
  for (const BlockRef& block : version.blocks) {
    piece.resize(block.length);
    if (!in.read(piece.data(), block.length) || hash128(piece) != block.hash) return false;
  }
  return true;
}

/// One SDFS file on its way to the local disk: a few blocks in flight, written at their offsets, renamed when all are there.
class FileDownload : public std::enable_shared_from_this<FileDownload> {
 public:
  using Done = std::function<void(Status)>;
  /// `number` keeps two downloads of one file apart.
  FileDownload(BlockClient& blocks, FileVersion version, std::filesystem::path target, std::uint64_t number, Done done)
      : blocks_(blocks),
        version_(std::move(version)),
        target_(std::move(target)),
        part_(fmt::format("{}.{}.part", target_.string(), number)),
        done_(std::move(done)) {}
  ~FileDownload() {
    if (descriptor_ >= 0) close(descriptor_);
  }

  void start() {
    descriptor_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) return finish(Error{Errc::internal, fmt::format("writing {}: {}", part_, strerror(errno))});
    if (version_.blocks.empty()) return finish({});
    fill();
  }

 private:
  void fill() {
    while (!finished_ && next_ < version_.blocks.size() && in_flight_ < kModelBlocksInFlight) {
      const BlockRef& block = version_.blocks[next_++];
      const std::uint64_t at = offset_;
      offset_ += block.length;
      ++in_flight_;
      blocks_.read(block, [self = shared_from_this(), at](Result<Payload> bytes) { self->arrived(at, bytes); });
    }
  }

  void arrived(std::uint64_t at, const Result<Payload>& bytes) {
    --in_flight_;
    if (finished_) return;
    if (!bytes) return finish(annotate(bytes.error(), "fetching " + version_.path));
    const ByteView view = bytes->view();
    if (pwrite(descriptor_, view.data(), view.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(view.size())) {
      return finish(Error{Errc::full, fmt::format("writing {}: {}", part_, strerror(errno))});
    }
    if (next_ == version_.blocks.size() && in_flight_ == 0) return finish({});
    fill();
  }

  void finish(Status status) {
    finished_ = true;
    std::error_code error;
    if (status) {
      std::filesystem::rename(part_, target_, error);
      if (error) status = Error{Errc::internal, fmt::format("renaming {}: {}", part_, error.message())};
    } else {
      std::filesystem::remove(part_, error);
    }
    done_(std::move(status));
  }

  BlockClient& blocks_;
  FileVersion version_;
  std::filesystem::path target_;
  std::string part_;
  Done done_;
  int descriptor_ = -1;
  std::size_t next_ = 0;
  std::size_t in_flight_ = 0;
  std::uint64_t offset_ = 0;
  bool finished_ = false;
};

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

  Impl(DataService& data_service, EventLoop& control_loop, std::filesystem::path folder, std::vector<NodeId> nodes, Done on_done)
      : data(data_service),
        control(control_loop),
        models_dir(std::move(folder)),
        metadata_nodes(std::move(nodes)),
        done(std::move(on_done)) {}

  DataService& data;
  EventLoop& control;
  std::filesystem::path models_dir;
  std::vector<NodeId> metadata_nodes;
  Done done;
  std::unique_ptr<MetadataClient> metadata;
  std::map<JobId, JobInputs> jobs;
  std::uint64_t download_count = 0;

  void add_job(const JobDescription& description);
  void add_segments(JobInputs& job, const JobDescription& description);
  [[nodiscard]] std::unique_ptr<ManifestReader> reader(const FileVersion& manifest, std::uint32_t items_per_chunk);
  void want_file(JobId job, const FileVersion& file, std::string& local);
  void make_room(std::uint64_t bytes);
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
  // Both are counted before either can be done.
  job.downloads = 1;
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
  std::error_code error;
  std::filesystem::create_directories(models_dir, error);
  // Named by content, so that jobs share a file and another version is another file.
  const Hash128 content = hash128(encode(file.blocks));
  const auto target = models_dir / fmt::format("{}{}", to_string(content), std::filesystem::path(file.path).extension().string());
  local = target.string();
  if (same_content(target, file)) return;
  ++jobs.at(id).downloads;
  make_room(file.size);
  auto download = std::make_shared<FileDownload>(data.blocks(), file, target, ++download_count,
                                                 [weak = weak_from_this(), id](const Status& status) {
                                                   if (auto self = weak.lock()) self->model_ready(id, status);
                                                 });
  download->start();
}

/// Removes model files that no present job uses, the longest unused first, until `bytes` more fit under the bound.
void InputFetcher::Impl::make_room(std::uint64_t bytes) {
  std::set<std::string> used;
  for (const auto& [id, job] : jobs) used.insert({job.onnx_file, job.labels_file});
  std::multimap<std::filesystem::file_time_type, std::filesystem::path> unused;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(models_dir, error)) {
    bytes += entry.file_size(error);
    if (!used.contains(entry.path().string())) unused.emplace(entry.last_write_time(error), entry.path());
  }
  for (const auto& [at, file] : unused) {
    if (bytes <= kModelCacheBytesMax) return;
    bytes -= std::filesystem::file_size(file, error);
    std::filesystem::remove(file, error);
  }
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

InputFetcher::InputFetcher(DataService& data, EventLoop& control, std::filesystem::path data_dir,
                           std::vector<NodeId> metadata_nodes, Done done)
    : impl_(std::make_shared<Impl>(data, control, data_dir / "models", std::move(metadata_nodes), std::move(done))) {}

InputFetcher::~InputFetcher() = default;

void InputFetcher::add_job(const JobDescription& description) {
  impl_->data.post([impl = impl_, description] { impl->add_job(description); });
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

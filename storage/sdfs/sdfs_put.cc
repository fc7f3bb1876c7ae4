/// Putting files: blocks are read, hashed and written with as many in flight as the BlockClient allows; the metadata of files
/// whose blocks are all stored gathers and is committed in requests as large as a message may be.

#include <algorithm>
#include <deque>
#include <set>
#include <utility>

#include "bus/base/assert.h"
#include "bus/clock.h"
#include "bus/hash.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/local_files.h"
#include "storage/sdfs/namespace.h"

namespace idunno {
namespace {

/// Blocks of a file that go into the log in one part; a file with more is committed in several (FsFilePart::more).
constexpr std::size_t kBlocksPerPart = 4096;
/// Encoded parts of one commit request: leaves room for headers in a control message.
constexpr std::size_t kCommitBytesMax = 768U << 10U;
/// A block that could not be stored is tried again after the placement was fetched anew: long enough in all for a death to be
/// noticed.
constexpr std::uint32_t kWriteAttemptsMax = 8;
constexpr Duration kPauseBeforeRetry = std::chrono::milliseconds(500);
constexpr Duration kWaitStep = std::chrono::seconds(60);

std::size_t encoded_bytes_max(const FsFilePart& part) {
  std::size_t bytes = 40 + part.path.size();
  for (const BlockRef& block : part.blocks) bytes += 48 + 5 * block.replicas.size();
  return bytes;
}

/// A file some of whose blocks are on their way.
struct FileInFlight {
  std::size_t item = 0;
  std::string path;
  std::uint64_t upload = 0;
  std::uint64_t size = 0;
  std::uint64_t first_kept = 0;  ///< index in the file of refs[0]; those before are in parts already
  std::deque<BlockRef> refs;     ///< id {0,0}: not stored yet
  bool all_read = false;
};

struct FailedWrite {
  NewBlock block;
  std::shared_ptr<FileInFlight> file;
  std::uint64_t index = 0;
  std::uint32_t attempts = 0;
};

/// What callbacks of the BlockClient may touch; outlives a put that was given up.
struct PutState {
  std::size_t outstanding = 0;
  std::vector<FailedWrite> retry;
  std::optional<Error> error;
  TransferProgress progress;
};

class PutPipeline {
 public:
  PutPipeline(SdfsClient& sdfs, BlockIdSource& ids, const std::function<void(const TransferProgress&)>& progress,
              std::size_t items)
      : sdfs_(sdfs), ids_(ids), progress_(progress), versions_(items) {}

  void begin_file(std::size_t item, const std::string& path) {
    current_ = std::make_shared<FileInFlight>();
    current_->item = item;
    current_->path = path;
    const BlockId drawn = ids_.next();
    current_->upload = std::max<std::uint64_t>(1, drawn.hi ^ (drawn.lo * 0x9E3779B97F4A7C15ULL));
    files_.push_back(current_);
  }

  /// Hands on one block of the present file; waits while the BlockClient is at its bounds.
  Status add_block(Payload bytes) {
    const BlockKey key{ids_.next(), static_cast<std::uint32_t>(bytes.size()), hash128(bytes.view())};
    current_->size += bytes.size();
    const std::uint64_t index = current_->first_kept + current_->refs.size();
    current_->refs.emplace_back();
    write(FailedWrite{NewBlock{key, std::move(bytes)}, current_, index, 0});
    return wait([this] { return !sdfs_.blocks().busy(); });
  }

  Status end_file() {
    current_->all_read = true;
    current_.reset();
    return collect();
  }

  Result<std::vector<FileVersion>> finish() {
    if (auto status = wait([this] { return state_->outstanding == 0 && state_->retry.empty(); }); !status) return status.error();
    if (auto status = collect(); !status) return status.error();
    ASSERT(files_.empty());
    if (auto status = commit(); !status) return status.error();
    return std::move(versions_);
  }

  /// How many of the files are in SDFS already, for the message of an error that came later.
  [[nodiscard]] std::size_t committed() const { return committed_; }

 private:
  void write(FailedWrite job) {
    ++state_->outstanding;
    ++job.attempts;
    NewBlock block = job.block;
    sdfs_.blocks().write(std::move(block), [state = state_, job = std::move(job)](Result<BlockRef> ref) mutable {
      --state->outstanding;
      if (ref) {
        state->progress.bytes_done += ref->length;
        job.file->refs[job.index - job.file->first_kept] = std::move(ref).value();
        return;
      }
      const Errc code = ref.error().code;
      const bool again = code == Errc::unavailable || code == Errc::full;
      if (again && job.attempts < kWriteAttemptsMax) {
        state->retry.push_back(std::move(job));
      } else if (!state->error) {
        state->error = annotate(ref.error(), "put '" + job.file->path + "'");
      }
    });
  }

  Status wait(const std::function<bool()>& done) {
    EventLoop& loop = sdfs_.metadata().loop();
    const auto stop = [&] { return done() || state_->error || !state_->retry.empty(); };
    while (true) {
      while (!stop()) {
        const Time until = monotonic_now() + kWaitStep;
        if (loop.run_until(stop, until) || monotonic_now() >= until) continue;
        return Error{Errc::cancelled, "put: the loop was stopped"};  // by another thread: nothing more will come
      }
      if (progress_) progress_(state_->progress);
      if (state_->error) return *state_->error;
      if (auto status = collect(); !status) return status;
      if (state_->retry.empty()) {
        if (done()) return {};
        continue;
      }
      if (auto status = write_again(); !status) return status;
    }
  }

  Status write_again() {
    std::vector<FailedWrite> jobs = std::exchange(state_->retry, {});
    const bool first_time = std::all_of(jobs.begin(), jobs.end(), [](const FailedWrite& job) { return job.attempts < 2; });
    if (!first_time) (void)sdfs_.metadata().loop().run_until([] { return false; }, monotonic_now() + kPauseBeforeRetry);
    if (auto status = sdfs_.refresh_placement(); !status) return status;
    for (FailedWrite& job : jobs) write(std::move(job));
    return {};
  }

  /// Moves what is stored completely, in order, into the next commit request.
  Status collect() {
    while (!files_.empty()) {
      FileInFlight& file = *files_.front();
      const auto missing =
          std::find_if(file.refs.begin(), file.refs.end(), [](const BlockRef& ref) { return ref.id == BlockId{}; });
      const auto stored = static_cast<std::size_t>(missing - file.refs.begin());
      const bool complete = file.all_read && missing == file.refs.end();
      if (!complete && stored < kBlocksPerPart) return {};
      const bool last = complete && stored <= kBlocksPerPart;
      if (auto status = add_part(file, std::min(stored, kBlocksPerPart), last); !status) return status;
      if (last) files_.pop_front();
    }
    return {};
  }

  Status add_part(FileInFlight& file, std::size_t blocks, bool last) {
    FsFilePart part;
    part.path = file.path;
    part.first_block = file.first_kept;
    part.more = !last;
    part.upload = last && file.first_kept == 0 ? 0 : file.upload;
    const auto end = file.refs.begin() + static_cast<std::ptrdiff_t>(blocks);
    part.blocks.assign(std::make_move_iterator(file.refs.begin()), std::make_move_iterator(end));
    file.refs.erase(file.refs.begin(), end);
    file.first_kept += blocks;
    const std::size_t bytes = encoded_bytes_max(part);
    if (!request_.files.empty() && (request_.files.size() >= kFilesPerRequestMax || request_bytes_ + bytes > kCommitBytesMax)) {
      if (auto status = commit(); !status) return status;
    }
    request_bytes_ += bytes;
    request_.files.push_back(std::move(part));
    request_items_.push_back(file.item);
    if (last) {
      ++state_->progress.files_done;
      versions_[file.item].path = file.path;
      versions_[file.item].size = file.size;
    }
    return {};
  }

  Status commit() {
    if (request_.files.empty()) return {};
    const FsCommitRequest request = std::exchange(request_, {});
    const std::vector<std::size_t> items = std::exchange(request_items_, {});
    request_bytes_ = 0;
    const auto reply = sdfs_.metadata().call_and_wait(request);
    if (!reply) return annotate(reply.error(), "put '" + request.files.front().path + "'");
    if (reply->versions.size() != items.size())
      return Error{Errc::internal, "the coordinator answered a commit for another number of files"};
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (reply->versions[i] == 0) continue;
      versions_[items[i]].version = reply->versions[i];
      ++committed_;
    }
    return {};
  }

  SdfsClient& sdfs_;
  BlockIdSource& ids_;
  const std::function<void(const TransferProgress&)>& progress_;
  std::shared_ptr<PutState> state_ = std::make_shared<PutState>();
  std::vector<FileVersion> versions_;
  std::shared_ptr<FileInFlight> current_;
  std::deque<std::shared_ptr<FileInFlight>> files_;  ///< in order; bounded by what the BlockClient has in flight
  FsCommitRequest request_;
  std::vector<std::size_t> request_items_;
  std::size_t request_bytes_ = 0;
  std::size_t committed_ = 0;
};

Status stream_file(PutPipeline& pipeline, std::size_t item, const SdfsClient::PutItem& what) {
  auto reader = LocalFileReader::open(what.local_path);
  if (!reader) return reader.error();
  pipeline.begin_file(item, what.sdfs_path);
  while (!reader->at_end()) {
    auto bytes = reader->next(kBlockBytesMax);
    if (!bytes) return bytes.error();
    if (auto status = pipeline.add_block(std::move(bytes).value()); !status) return status;
  }
  return pipeline.end_file();
}

}  // namespace

Result<std::vector<FileVersion>> SdfsClient::put(const std::vector<PutItem>& items,
                                                 const std::function<void(const TransferProgress&)>& progress) {
  // Everything that can be refused without the cluster is refused before anything is written.
  std::set<std::string> targets;
  for (const PutItem& item : items) {
    if (auto status = check_path(item.sdfs_path); !status) return status.error();
    if (auto status = check_readable_file(item.local_path); !status) return status.error();
    if (!targets.insert(item.sdfs_path).second) {
      return Error{Errc::invalid, "put '" + item.local_path + "': two of the files would become '" + item.sdfs_path + "'"};
    }
  }
  PutPipeline pipeline(*this, ids_, progress, items.size());
  const auto told = [&](const Error& error) {
    if (pipeline.committed() == 0) return error;
    return Error{error.code, error.detail + " (" + std::to_string(pipeline.committed()) + " of " + std::to_string(items.size()) +
                                 " files were stored before)"};
  };
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (auto status = stream_file(pipeline, i, items[i]); !status) return told(status.error());
  }
  auto versions = pipeline.finish();
  if (!versions) return told(versions.error());
  if (progress) {
    TransferProgress all{items.size(), 0};
    for (const FileVersion& file : *versions) all.bytes_done += file.size;
    progress(all);
  }
  return versions;
}

Result<FileVersion> SdfsClient::put_pieces(const std::string& sdfs_path, std::vector<Bytes> pieces) {
  if (auto status = check_path(sdfs_path); !status) return status.error();
  for (const Bytes& piece : pieces) {
    if (piece.empty() || piece.size() > kBlockBytesMax) {
      return Error{Errc::too_large,
                   "put '" + sdfs_path + "': a piece of " + std::to_string(piece.size()) + " bytes does not fit a block"};
    }
  }
  const std::function<void(const TransferProgress&)> nobody;
  PutPipeline pipeline(*this, ids_, nobody, 1);
  pipeline.begin_file(0, sdfs_path);
  for (Bytes& piece : pieces) {
    if (auto status = pipeline.add_block(Payload(std::move(piece))); !status) return status.error();
  }
  if (auto status = pipeline.end_file(); !status) return status.error();
  auto versions = pipeline.finish();
  if (!versions) return versions.error();
  return std::move(versions->front());
}

}  // namespace idunno

#include "nodes/runtime/follow_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <thread>
#include <unordered_set>
#include <utility>

#include "bus/clock.h"
#include "bus/codec.h"
#include "nodes/jobs/cluster_state.h"
#include "nodes/runtime/control_shell.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/dataset_formats.h"
#include "storage/sdfs/datasets.h"

namespace idunno {
namespace {

constexpr Duration kRetryPause = std::chrono::seconds(1);  ///< after a failure
constexpr Duration kAnswerMax = std::chrono::seconds(10);  ///< for the log to take a segment; then the folder is compared again

}  // namespace

/// The thread with its client. What it does blocks and runs its loop meanwhile, so notices that come then only change `jobs_`;
/// after each step everything is looked up anew.
class FollowShell::Writer {
 public:
  /// Asks the control thread; the answer comes back in the writer's thread.
  struct Control {
    std::function<void(JobId, Epoch, std::uint64_t after, std::function<void(Status)>)> may_extend;
    std::function<void(FollowSegment, std::function<void(Status)>)> extend;
  };
  Writer(ZmqContext& context, const Options& options, Control control)
      : control_(std::move(control)), thread_([this, &context, options] { run(context, options); }) {}
  ~Writer() {
    stopping_ = true;
    loop_.stop();
    thread_.join();
  }
  /// Runs in the thread, between its steps or while one waits.
  void post(std::function<void()> task) {
    loop_.post([this, task = std::move(task)] {
      task();
      woken_ = true;
    });
  }
  void notice(Epoch epoch, FollowNotice notice) {
    post([this, epoch, notice = std::make_shared<FollowNotice>(std::move(notice))] { take(epoch, std::move(*notice)); });
  }

 private:
  struct Followed {
    JobSpec spec;
    std::uint64_t generation = 0;                ///< another one: what was looked up before is of no use
    std::uint64_t known = 0;                     ///< segments of the job
    bool read = false;                           ///< `covered` is complete
    bool compare = true;                         ///< the folder is to be listed
    std::unordered_set<std::string> covered;     ///< paths that are queries of the job
    std::map<std::string, FileVersion> waiting;  ///< images that are not, by path
    Time due{};                                  ///< nothing is to be done before
    bool asked = false;                          ///< the control thread has a question of ours, or the log a segment
    bool granted = false;                        ///< it may be extended: the answer to the question
    bool unsure = false;                         ///< a segment got no answer in time: it may come yet
    std::vector<std::string> in_segment;         ///< what the last one has
  };

  void run(ZmqContext& context, const Options& options);
  void take(Epoch epoch, FollowNotice&& notice);
  void take_files(Followed& job, const std::vector<FileVersion>& files);
  void extended(Followed& job, std::uint64_t known);
  void work();
  [[nodiscard]] bool step();
  [[nodiscard]] Time next_due() const;
  void compare(JobId id);
  [[nodiscard]] Status read_lists(JobId id);
  [[nodiscard]] Result<std::vector<std::string>> names_in(const std::string& path, std::uint32_t version);
  void ask(JobId id, Followed& job);
  void answered(JobId id, Epoch epoch, const Status& status);
  void write(JobId id);
  [[nodiscard]] Result<FollowSegment> write_list(JobId id, std::vector<FileVersion> files);
  void failed(JobId id, const Error& why);
  [[nodiscard]] Followed* find(JobId id) {
    const auto found = jobs_.find(id);
    return found == jobs_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] Followed* find(JobId id, std::uint64_t generation) {
    Followed* job = find(id);
    return job != nullptr && job->generation == generation ? job : nullptr;
  }

  EventLoop loop_;
  Control control_;
  SdfsClient* sdfs_ = nullptr;  ///< of the thread
  Error broken_{Errc::internal, "the follower's client did not start"};
  Epoch epoch_;
  std::map<JobId, Followed> jobs_;
  std::uint64_t generations_ = 0;
  bool told_ = false;   ///< a failure was logged, and nothing has succeeded since
  bool woken_ = false;  ///< something was told since the last step
  std::atomic<bool> stopping_{false};
  std::thread thread_;  ///< last: it uses the others
};

void FollowShell::Writer::run(ZmqContext& context, const Options& options) {
  auto client = OwnClient::create(loop_, context, options);
  if (!client) {
    broken_ = client.error();
    return work();
  }
  sdfs_ = &(*client)->sdfs();
  work();
  sdfs_ = nullptr;
}

// ---- what is told -----------------------------------------------------------------------------------------------------

void FollowShell::Writer::take(Epoch epoch, FollowNotice&& notice) {
  if (epoch < epoch_) return;
  if (epoch > epoch_) jobs_.clear();  // another reign: whoever led meanwhile may have extended them
  epoch_ = epoch;
  if (notice.what == FollowNotice::What::over) {
    jobs_.erase(notice.job);
    return;
  }
  if (notice.what == FollowNotice::What::compare) {
    Followed job;
    job.spec = std::move(notice.spec);
    job.generation = ++generations_;
    job.known = notice.known;
    jobs_.insert_or_assign(notice.job, std::move(job));
    return;
  }
  Followed* job = find(notice.job);
  if (job == nullptr) return;
  if (notice.what == FollowNotice::What::landed) take_files(*job, notice.files);
  if (notice.what == FollowNotice::What::extended) extended(*job, notice.known);
}

void FollowShell::Writer::take_files(Followed& job, const std::vector<FileVersion>& files) {
  const bool idle = job.waiting.empty();
  for (const FileVersion& file : files) {
    if (file.open || !has_image_name(file.path) || job.covered.contains(file.path)) continue;
    if (job.waiting.size() >= kFollowWaitingMax) {
      job.compare = true;  // later, when there is room
      break;
    }
    job.waiting.emplace(file.path, file);
  }
  if (idle && !job.waiting.empty()) job.due = std::max(job.due, monotonic_now() + kFollowLinger);
}

void FollowShell::Writer::extended(Followed& job, std::uint64_t known) {
  job.known = known;
  job.asked = false;
  job.granted = false;
  if (job.unsure) {  // which of two lists it is, is not known
    Followed fresh;
    fresh.spec = job.spec;
    fresh.generation = ++generations_;
    fresh.known = known;
    job = std::move(fresh);
    return;
  }
  for (std::string& path : job.in_segment) {
    job.waiting.erase(path);
    job.covered.insert(std::move(path));
  }
  job.in_segment.clear();
  job.due = {};
}

// ---- work -------------------------------------------------------------------------------------------------------------

/// Not from within the loop: what is done here waits for answers.
void FollowShell::Writer::work() {
  while (!stopping_) {
    woken_ = false;
    while (!stopping_ && step()) continue;
    if (woken_) continue;
    (void)loop_.run_until([this] { return woken_ || stopping_; }, next_due());
  }
}

/// One thing that is due. False: there is none.
bool FollowShell::Writer::step() {
  const Time now = monotonic_now();
  for (auto& [id, job] : jobs_) {
    if (now < job.due) continue;
    if (job.granted) {
      write(JobId(id));
      return true;
    }
    if (std::exchange(job.asked, false)) job.unsure = true;  // no answer in time
    // A folder with more than is remembered is compared when what was found has gone into segments.
    if (!job.read || (job.compare && job.waiting.empty())) {
      compare(JobId(id));
      return true;
    }
    if (job.waiting.empty()) continue;
    ask(id, job);
    return true;
  }
  return false;
}

Time FollowShell::Writer::next_due() const {
  Time at = kNever;
  for (const auto& [id, job] : jobs_) {
    const bool anything = job.asked || !job.read || job.compare || !job.waiting.empty();
    if (anything) at = std::min(at, job.due);
  }
  return at;
}

void FollowShell::Writer::failed(JobId id, const Error& why) {
  if (!std::exchange(told_, true))
    spdlog::warn("{} cannot follow its folder, which is tried again: {}", to_string(id), why.detail);
  if (Followed* job = find(id)) job->due = monotonic_now() + kRetryPause;
}

// ---- the folder and the lists -------------------------------------------------------------------------------------------

Result<std::vector<std::string>> FollowShell::Writer::names_in(const std::string& path, std::uint32_t version) {
  std::vector<std::string> names;
  auto file = sdfs_->stat(path, version);
  if (!file) return file.error();
  for (const BlockRef& block : file->blocks) {
    auto out = std::make_shared<std::optional<Result<Payload>>>();
    sdfs_->blocks().read(block, [out](Result<Payload> bytes) { *out = std::move(bytes); });
    if (!loop_.run_until([&] { return out->has_value(); }, monotonic_now() + kOwnCallTimeout))
      return Error{Errc::timeout, "reading " + path + ": no answer in time"};
    if (!**out) return (**out).error();
    auto decoded = decode<ManifestChunk>((**out)->view());
    if (!decoded) return annotate(decoded.error(), "reading " + path);
    for (ManifestItem& item : decoded->items) names.push_back(std::move(item.query));
  }
  return names;
}

/// What the job covers: the newest version of each list is the one that counts (cluster_state.h).
Status FollowShell::Writer::read_lists(JobId id) {
  Followed* job = find(id);
  const std::uint64_t generation = job->generation;
  if (job->read) return {};
  std::vector<std::pair<std::string, std::uint32_t>> lists;
  if (!job->spec.manifest_path.empty()) lists.emplace_back(job->spec.manifest_path, job->spec.manifest_version);
  for (std::uint64_t number = 1; number <= job->known; ++number) lists.emplace_back(segment_path_of(id, number), 0);
  std::unordered_set<std::string> covered;
  for (const auto& [path, version] : lists) {
    auto names = names_in(path, version);
    if (!names) return names.error();
    covered.insert(std::make_move_iterator(names->begin()), std::make_move_iterator(names->end()));
  }
  job = find(id, generation);
  if (job == nullptr) return {};
  job->covered.merge(covered);
  job->read = true;
  std::erase_if(job->waiting, [&](const auto& entry) { return job->covered.contains(entry.first); });
  return {};
}

void FollowShell::Writer::compare(JobId id) {
  if (sdfs_ == nullptr) return failed(id, broken_);
  Followed* job = find(id);
  const std::uint64_t generation = job->generation;
  job->compare = false;  // what comes from now on is told
  const std::string folder = job->spec.data_path;
  const auto again = [&](const Error& why) {
    if (Followed* at = find(id, generation)) at->compare = true;
    failed(id, why);
  };
  if (Status read = read_lists(id); !read) return again(read.error());
  auto files = sdfs_->list_all(folder, true);
  if (!files && files.error().code != Errc::not_found) return again(files.error());
  told_ = false;
  job = find(id, generation);
  if (job != nullptr && files) take_files(*job, *files);
}

// ---- segments -----------------------------------------------------------------------------------------------------------

void FollowShell::Writer::ask(JobId id, Followed& job) {
  job.asked = true;
  job.due = monotonic_now() + kAnswerMax;
  control_.may_extend(id, epoch_, job.known, [this, id, epoch = epoch_](const Status& may) { answered(id, epoch, may); });
}

void FollowShell::Writer::answered(JobId id, Epoch epoch, const Status& may) {
  Followed* job = find(id);
  if (job == nullptr || epoch != epoch_ || !job->asked) return;
  if (may) {
    job->granted = true;
    job->due = {};
    return;
  }
  job->asked = false;
  job->due = monotonic_now() + (may.error().code == Errc::full ? kFollowLinger : kRetryPause);
  if (may.error().code == Errc::not_leader || may.error().code == Errc::stale_epoch) jobs_.erase(id);
}

Result<FollowSegment> FollowShell::Writer::write_list(JobId id, std::vector<FileVersion> files) {
  const Followed& job = *find(id);
  FollowSegment segment;
  segment.job = id;
  segment.epoch = epoch_;
  segment.after = job.known;
  segment.manifest_path = segment_path_of(id, job.known + 1);
  segment.queries = files.size();
  DatasetIndex index;
  index.path = job.spec.data_path;
  if (Status indexed = index_images(std::move(files), index); !indexed) return indexed.error();
  std::vector<Bytes> pieces = build_manifest(index, segment.items_per_chunk);
  if (Status placed = sdfs_->refresh_placement(); !placed) return placed.error();
  auto list = sdfs_->put_pieces(segment.manifest_path, std::move(pieces));
  if (!list) return list.error();
  segment.manifest_version = list->version;
  return segment;
}

void FollowShell::Writer::write(JobId id) {
  Followed* job = find(id);
  const std::uint64_t generation = job->generation;
  job->granted = false;
  std::vector<FileVersion> files;
  job->in_segment.clear();
  for (const auto& [path, file] : job->waiting) {
    if (files.size() >= kSegmentFilesMax) break;
    files.push_back(file);
    job->in_segment.push_back(path);
  }
  auto segment = write_list(id, std::move(files));
  job = find(id, generation);
  if (job == nullptr || !job->asked) return;
  if (!segment) {
    job->asked = false;
    return failed(id, segment.error());
  }
  told_ = false;
  job->due = monotonic_now() + kAnswerMax;  // from here on it may come
  control_.extend(*segment, [this, id, generation](const Status& proposed) {
    Followed* at = find(id, generation);
    if (proposed || at == nullptr) return;
    at->asked = false;
    failed(id, proposed.error());
  });
}

// ---- the control thread's side ------------------------------------------------------------------------------------------

struct FollowShell::Impl {
  EventLoop& loop;
  ZmqContext& context;
  ControlShell& control;
  Options options;
  std::shared_ptr<bool> here = std::make_shared<bool>(true);  ///< for questions that come when this is gone
  std::unique_ptr<Writer> writer;                             ///< first to go
};

FollowShell::FollowShell(EventLoop& loop, ZmqContext& context, ControlShell& control, Options options)
    : impl_(new Impl{loop, context, control, std::move(options), std::make_shared<bool>(true), nullptr}) {}

FollowShell::~FollowShell() {
  *impl_->here = false;
  impl_->writer.reset();
}

void FollowShell::notice(Epoch epoch, const FollowNotice& notice) {
  Impl& impl = *impl_;
  if (!impl.writer) {
    Writer::Control control;
    control.may_extend = [&impl, here = impl.here](JobId job, Epoch asked, std::uint64_t after,
                                                   std::function<void(Status)> done) {
      impl.loop.post([&impl, here, job, asked, after, done = std::move(done)] {
        if (!*here) return;
        impl.writer->post([done, status = impl.control.may_extend(job, asked, after)] { done(status); });
      });
    };
    control.extend = [&impl, here = impl.here](FollowSegment segment, std::function<void(Status)> done) {
      impl.loop.post([&impl, here, segment = std::move(segment), done = std::move(done)] {
        if (!*here) return;
        impl.writer->post([done, status = impl.control.extend(segment)] { done(status); });
      });
    };
    impl.writer = std::make_unique<Writer>(impl.context, impl.options, std::move(control));
  }
  impl.writer->notice(epoch, notice);
}

}  // namespace idunno

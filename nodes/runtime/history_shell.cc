#include "nodes/runtime/history_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <deque>
#include <functional>
#include <thread>
#include <utility>

#include "bus/clock.h"
#include "nodes/runtime/history_log.h"
#include "nodes/runtime/own_client.h"

namespace idunno {
/// The thread with its client. Jobs are posted to its loop and done one after the other.
class HistoryShell::Writer {
 public:
  Writer(ZmqContext& context, const Options& options) : thread_([this, &context, options] { run(context, options); }) {}
  ~Writer() {
    loop_.stop();
    thread_.join();
  }

  /// `done` is called in the writer's thread.
  void write(HistoryLog::Write file, std::function<void(const Status&)> done) {
    loop_.post([this, file = std::move(file), done = std::move(done)]() mutable {
      work_.push_back({std::move(file), std::move(done)});
    });
  }

 private:
  struct Work {
    HistoryLog::Write file;
    std::function<void(const Status&)> done;
  };

  void run(ZmqContext& context, const Options& options) {
    auto client = OwnClient::create(loop_, context, options.client);
    if (!client) return serve([&](const HistoryLog::Write&) { return Status(client.error()); });
    serve([&](const HistoryLog::Write& file) { return write_now((*client)->sdfs(), file); });
  }

  /// Until the loop is stopped. The client's calls run the loop themselves, so work is done between its turns.
  void serve(const std::function<Status(const HistoryLog::Write&)>& write) {
    while (loop_.run_until([this] { return !work_.empty(); }, kNever)) {
      const Work next = std::move(work_.front());
      work_.pop_front();
      next.done(write(next.file));
    }
  }

  static Status write_now(SdfsClient& sdfs, const HistoryLog::Write& file) {
    if (Status placed = sdfs.refresh_placement(); !placed) return placed;
    std::vector<Bytes> pieces;
    for (std::size_t at = 0; at < file.bytes.size(); at += kBlockBytesMax)
      pieces.push_back(file.bytes.substr(at, kBlockBytesMax));
    auto put = sdfs.put_pieces(file.path, std::move(pieces));
    if (!put) return put.error();
    return file.begins_file ? remove_old(sdfs) : Status{};
  }

  static Status remove_old(SdfsClient& sdfs) {
    auto files = sdfs.list_all(kHistoryFolder, false);
    if (!files) return files.error();
    FsRemoveRequest request;
    for (const FileVersion& file : *files) {  // in path order, which is the order of time
      if (history_begin(file.path)) request.paths.push_back(file.path);
    }
    if (request.paths.size() <= kHistoryFilesMax) return {};
    request.paths.resize(request.paths.size() - kHistoryFilesMax);
    auto removed = sdfs.metadata().call_and_wait(request);
    return removed ? Status{} : Status(removed.error());
  }

  EventLoop loop_;
  std::deque<Work> work_;  ///< of the thread; one at a time, as HistoryLog gives them
  std::thread thread_;     ///< last: it uses the others
};

struct HistoryShell::Impl {
  EventLoop& loop;
  ZmqContext& context;
  Options options;
  Epoch epoch;
  HistoryLog log{Epoch{}};
  bool told = false;                                          ///< a failure was logged, and none has succeeded since
  std::shared_ptr<bool> here = std::make_shared<bool>(true);  ///< for answers that come when this is gone
  std::uint64_t reign = 0;         ///< counts epochs: an answer to a write of an earlier one is for nobody
  std::unique_ptr<Writer> writer;  ///< first to go
};

HistoryShell::HistoryShell(EventLoop& loop, ZmqContext& context, Options options)
    : impl_(new Impl{
          loop, context, std::move(options), {}, HistoryLog(Epoch{}), false, std::make_shared<bool>(true), 0, nullptr}) {}

HistoryShell::~HistoryShell() {
  *impl_->here = false;
  impl_->writer.reset();
}

void HistoryShell::stats(const StatsNotice& notice, Epoch epoch) {
  Impl& impl = *impl_;
  const Time now = monotonic_now();
  if (epoch != impl.epoch) {
    impl.epoch = epoch;
    impl.log = HistoryLog(epoch);
    ++impl.reign;
  }
  impl.log.stats(notice, impl.options.self, now);
  auto write = impl.log.take_write(now);
  if (!write) return;
  if (!impl.writer) impl.writer = std::make_unique<Writer>(impl.context, impl.options);
  impl.writer->write(std::move(*write), [this, &loop = impl.loop, here = impl.here, reign = impl.reign](const Status& status) {
    loop.post([this, here, reign, status] {
      if (!*here) return;
      if (reign == impl_->reign) impl_->log.written(status.ok(), monotonic_now());
      written(status.ok(), status ? "" : status.error().detail);
    });
  });
}

void HistoryShell::written(bool ok, const std::string& why) {
  if (!ok && !std::exchange(impl_->told, true)) {
    spdlog::warn("the history of statistics cannot be written, and is tried again: {}", why);
  } else if (ok && std::exchange(impl_->told, false)) {
    spdlog::info("the history of statistics is written again");
  }
}

}  // namespace idunno

#include "nodes/runtime/log_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "bus/clock.h"
#include "bus/log_messages.h"
#include "nodes/runtime/log_keeper.h"
#include "nodes/runtime/log_search.h"
#include "nodes/runtime/log_tails.h"

namespace idunno {
namespace {

constexpr std::size_t kThreads = 2;
constexpr std::size_t kJobsWaitingMax = 128;
constexpr Duration kSearchTimeMax = std::chrono::milliseconds(250);  ///< of one piece; the client asks for the next
constexpr Duration kTailTimeout = std::chrono::seconds(3);

std::vector<NodeId> members_of(const ClusterConfig& config) {
  std::vector<NodeId> ids;
  for (const NodeConfig& node : config.nodes) ids.push_back(node.id);
  return ids;
}

/// Does jobs in the order they come; each is short.
class Workers {
 public:
  Workers() {
    for (std::size_t i = 0; i < kThreads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  [[nodiscard]] bool take(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      if (jobs_.size() >= kJobsWaitingMax) return false;
      jobs_.push_back(std::move(job));
    }
    wake_.notify_one();
    return true;
  }

 private:
  void work() {
    while (true) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (stopping_) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

struct LogShell::Impl {
  NodeContext& context;
  RpcServer& rpc;
  std::shared_ptr<LogFiles> log;
  LogKeeper keeper;
  LogTails tails;
  EventLoop::TimerId timer = 0;
  Workers workers;  // last: its threads use the others

  Impl(NodeContext& node, RpcServer& server, std::shared_ptr<LogFiles> files)
      : context(node),
        rpc(server),
        log(std::move(files)),
        keeper(node.self.data_dir / "log" / "tails", node.config.tuning.log_tail_bytes),
        tails(node.self.id, members_of(node.config)) {
    rpc.on<LogSearchRequest>(
        [this](const RequestContext& request, LogSearchRequest body, const Payload&) { search(request, std::move(body)); });
    rpc.on<LogTail>([this](const RequestContext& request, LogTail body, const Payload&) { keep(request, std::move(body)); });
    if (log) tick();
  }
  ~Impl() { context.loop.cancel(timer); }

  void busy(const RequestContext& request) {
    rpc.reply_error(request, {Errc::full, to_string(context.self.id) + " has too many searches of its log to do; try again"});
  }

  void search(const RequestContext& request, LogSearchRequest body) {
    const bool taken = workers.take([this, request, body = std::move(body)] {
      auto compiled = LogSearch::compile(body);
      Result<LogSearchReply> reply =
          compiled ? compiled->run(pieces_of(body.of), kSearchTimeMax) : Result<LogSearchReply>(compiled.error());
      context.loop.post([this, request, reply = std::move(reply)] {
        if (reply) {
          rpc.reply(request, *reply);
        } else {
          rpc.reply_error(request, reply.error());
        }
      });
    });
    if (!taken) busy(request);
  }

  LogPieces pieces_of(NodeId node) {
    if (node && node != context.self.id) return keeper.pieces(node);
    if (!log) return {};
    log->flush();
    return log->pieces();
  }

  void keep(const RequestContext& request, LogTail body) {
    if (request.peer.key_name != to_string(body.node)) {
      return rpc.reply_error(request, {Errc::forbidden, fmt::format("the key '{}' sends the log of {}", request.peer.key_name,
                                                                    to_string(body.node))});
    }
    if (!body.text.empty() && body.text.back() != '\n') {
      return rpc.reply_error(request, {Errc::invalid, "the end of a log must consist of whole lines"});
    }
    const bool taken = workers.take([this, request, body = std::move(body)] {
      auto wanted = keeper.take(body);
      context.loop.post([this, request, wanted = std::move(wanted)] {
        if (wanted) {
          rpc.reply(request, LogTailReply{*wanted});
        } else {
          rpc.reply_error(request, wanted.error());
        }
      });
    });
    if (!taken) busy(request);
  }

  // -- sending --

  void tick() {
    send_due(true);
    timer = context.loop.after(kTailTick, [this] { tick(); });
  }

  void send_due(bool begins) {
    for (const LogTails::Send& send : tails.due(log->end(), monotonic_now(), begins)) {
      if (!send.from) {
        call(send.to, LogTail{context.self.id, {}, {}});
        continue;
      }
      const bool taken = workers.take([this, to = send.to, from = *send.from] { read(to, from); });
      if (!taken) tails.failed(send.to, monotonic_now());
    }
  }

  /// In a thread of the workers.
  void read(NodeId to, LogPosition from) {
    const LogPieces pieces = log->pieces();
    const LogPosition oldest = position_before_end(pieces, kTailBacklogBytesMax);
    const bool skips = from < oldest;
    if (skips) from = oldest;
    LogPosition end;
    std::string text = read_log(pieces, from, end, kTailPieceBytes);
    if (skips && from.offset > 0) {  // perhaps inside a line
      const std::size_t cut = std::min(text.find('\n') + 1, text.size());
      from.offset += cut;
      text.erase(0, cut);
    }
    context.loop.post([this, to, from, text = std::move(text)]() mutable {
      if (text.empty()) return tails.nothing(to, monotonic_now());
      call(to, LogTail{context.self.id, from, std::move(text)});
    });
  }

  void call(NodeId to, const LogTail& tail) {
    RpcClient::CallOptions options;
    options.timeout = kTailTimeout;
    context.client.call<LogTail>(to, Service::rpc, tail, {}, options, [this, to](Result<RpcReply<LogTailReply>> reply, NodeId) {
      if (!reply) return tails.failed(to, monotonic_now());
      const LogPosition wanted = reply->body.wanted;
      // An earlier life of this node wrote files with higher numbers: its clock was set back, and its folder wiped.
      if (wanted.file > log->end().file) log->number_above(wanted.file);
      tails.sent(to, wanted, monotonic_now());
      send_due(false);
    });
  }
};

LogShell::LogShell(NodeContext& context, RpcServer& rpc, std::shared_ptr<LogFiles> log)
    : impl_(std::make_unique<Impl>(context, rpc, std::move(log))) {}
LogShell::~LogShell() = default;

void LogShell::member_changed(const MemberChange& change) {
  impl_->tails.member(change.node, change.to != NodeState::dead && change.to != NodeState::left);
}

}  // namespace idunno

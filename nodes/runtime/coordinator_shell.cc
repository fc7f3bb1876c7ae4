#include "nodes/runtime/coordinator_shell.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "bus/clock.h"
#include "nodes/raft/solo_log.h"

namespace idunno {
namespace {

/// Commands proposed while entries are applied are flushed in the same turn, but only so often: requests wait meanwhile.
constexpr int kFlushesPerTurnMax = 4;
/// The log is replaced by a snapshot when it has outgrown the last one and this.
constexpr std::size_t kCompactBytesMin = 64U << 20U;
constexpr Duration kStatsInterval = std::chrono::seconds(1);
constexpr Duration kProbeTimeout = std::chrono::seconds(1);

CoordinatorConfig core_config(const NodeContext& context) {
  CoordinatorConfig config;
  config.self = context.self.id;
  for (const NodeConfig& node : context.config.nodes) config.members.push_back({node.id, node.host, node.base_port});
  config.voters = {context.coordinator};
  const Tuning& tuning = context.config.tuning;
  config.replication = tuning.replication;
  config.dead_after = tuning.dead_after;
  config.lease_horizon = tuning.lease_horizon;
  config.attempts_max = tuning.attempts_max;
  return config;
}

}  // namespace

Result<std::unique_ptr<CoordinatorShell>> CoordinatorShell::start(NodeContext& context, RpcServer& rpc, Publisher& events) {
  auto store = open_rocks_log_store(context.self.data_dir / "joblog");
  if (!store) return store.error();
  LoadedLog loaded;
  auto log = SoloLog::open(std::move(*store), context.self.id, loaded);
  if (!log) return log.error();

  ClusterState state(context.config.tuning.versions_max);
  LogIndex applied;
  if (loaded.snapshot) {
    auto restored = ClusterState::decode_snapshot(loaded.snapshot->state, context.config.tuning.versions_max);
    if (!restored) return annotate(restored.error(), "restoring the snapshot of the job log");
    state = std::move(*restored);
    applied = loaded.snapshot->index;
  }
  for (const LogEntry& entry : loaded.entries) {
    (void)state.apply(entry);
    applied = entry.index;
  }
  spdlog::info("job log restored up to entry {}: {} files, {} jobs", applied.value, state.files().files(), state.jobs().size());
  return std::unique_ptr<CoordinatorShell>(new CoordinatorShell(context, rpc, events, std::move(*log), std::move(state)));
}

CoordinatorShell::CoordinatorShell(NodeContext& context, RpcServer& rpc, Publisher& events, std::unique_ptr<ReplicatedLog> log,
                                   ClusterState state)
    : context_(context), rpc_(rpc), events_(events), log_(std::move(log)) {
  const Random random(context.incarnation.value);
  coordinator_ = std::make_unique<Coordinator>(core_config(context), std::move(state), random);
  route_all();
  rpc_.set_epoch(log_->epoch());
  context_.client.on_connection([this](NodeId node, Service service, bool connected) {
    if (service != Service::ping || connected) return;
    CoordinatorOutput out;
    coordinator_->connection_lost(node, monotonic_now(), out);
    obey(std::move(out));
  });
  context_.loop.on_turn_end([this] { end_turn(); });

  CoordinatorOutput out;
  coordinator_->start(log_->epoch(), monotonic_now(), wall_now_ms(), out);
  obey(std::move(out));
  end_turn();
  publish_stats();
}

CoordinatorShell::~CoordinatorShell() = default;

template <class Req>
void CoordinatorShell::route() {
  rpc_.on<Req>([this](const RequestContext& context, Req request, Payload) {
    if (!log_->serving()) {
      rpc_.reply_error(context, {Errc::not_leader, to_string(context_.self.id) + " does not lead"}, log_->leader());
      return;
    }
    if constexpr (std::is_same_v<Req, NodeHello>) {
      if (context.peer.key_name == to_string(request.node)) sessions_[request.node] = context.peer;
    }
    const Ticket ticket = ++last_ticket_;
    waiting_.emplace(ticket, context);
    CoordinatorOutput out;
    coordinator_->handle(RequestInfo{ticket, context.header.request, context.peer.key_name, wall_now_ms()}, request,
                         monotonic_now(), out);
    obey(std::move(out));
    if constexpr (std::is_same_v<Req, NodeHello>)
      probe(request.node);  // opens the connection whose end is the first hint of a death
  });
}

void CoordinatorShell::route_all() {
  route<StatusRequest>();
  route<PlacementRequest>();
  route<FsListRequest>();
  route<FsStatRequest>();
  route<FsCommitRequest>();
  route<FsRemoveRequest>();
  route<FsMoveReplicasRequest>();
  route<FsStoreRequest>();
  route<ModelAddRequest>();
  route<ModelListRequest>();
  route<ModelRemoveRequest>();
  route<SubmitRequest>();
  route<JobControlRequest>();
  route<JobSetRequest>();
  route<JobReportsRequest>();
  route<JobResultsRequest>();
  route<NodeHello>();
  route<Heartbeat>();
  route<CommitBatches>();
  route<BatchFailed>();
  route<ReplicaReport>();
  route<Inventory>();
}

void CoordinatorShell::obey(CoordinatorOutput&& out) {
  for (Bytes& command : out.propose) {
    log_bytes_ += command.size();
    auto index = log_->propose(std::move(command));
    if (!index) return context_.fatal(annotate(index.error(), "appending to the job log"));
    proposed_ = true;
  }
  for (const auto& [ticket, answer] : out.answers) {
    const auto found = waiting_.find(ticket);
    if (found == waiting_.end()) continue;
    rpc_.reply_raw(found->second, answer.type, answer.body);
    waiting_.erase(found);
  }
  for (const auto& [node, message] : out.pushes) push(node, message);
  for (Event& event : out.events) context_.tell(std::move(event));
  for (const NodeId node : out.probe) probe(node);
}

void CoordinatorShell::push(NodeId node, const Answer& message) {
  const auto session = sessions_.find(node);
  if (session != sessions_.end() && rpc_.push_raw(session->second, message.type, message.body)) return;
  // Told in a turn of its own: the coordinator is in the middle of a decision now.
  context_.loop.post([this, node] {
    CoordinatorOutput out;
    coordinator_->push_failed(node, monotonic_now(), out);
    obey(std::move(out));
  });
}

void CoordinatorShell::probe(NodeId node) {
  RpcClient::CallOptions options;
  options.timeout = kProbeTimeout;
  context_.client.call<Ping>(node, Service::ping, Ping{context_.self.id}, {}, options,
                             [this, node](Result<RpcReply<Pong>> answer, NodeId) {
                               if (!answer) return;
                               CoordinatorOutput out;
                               coordinator_->pong(node, answer->body.incarnation, monotonic_now(), out);
                               obey(std::move(out));
                             });
}

void CoordinatorShell::end_turn() {
  for (int flushes = 0; proposed_ && flushes < kFlushesPerTurnMax; ++flushes) {
    proposed_ = false;
    if (Status flushed = log_->flush(); !flushed) return context_.fatal(annotate(flushed.error(), "writing the job log"));
    for (const LogEntry& entry : log_->take_committed()) {
      CoordinatorOutput out;
      coordinator_->applied(entry, monotonic_now(), wall_now_ms(), out);
      applied_ = entry.index;
      obey(std::move(out));
    }
  }
  if (proposed_) context_.loop.post([] {});  // another turn, another flush
  compact_when_due();
  arm_timer();
}

void CoordinatorShell::compact_when_due() {
  if (log_bytes_ < std::max(kCompactBytesMin, 2 * snapshot_bytes_) || proposed_) return;
  Bytes state = coordinator_->state().encode_snapshot();
  snapshot_bytes_ = state.size();
  log_bytes_ = 0;
  if (Status done = log_->compact(applied_, std::move(state)); !done) {
    return context_.fatal(annotate(done.error(), "replacing the job log by a snapshot"));
  }
  spdlog::info("job log replaced by a snapshot of {} bytes at entry {}", snapshot_bytes_, applied_.value);
}

void CoordinatorShell::arm_timer() {
  const Time due = coordinator_->wake_at();
  if (due == timer_at_ && timer_ != 0) return;
  if (timer_ != 0) context_.loop.cancel(timer_);
  timer_ = 0;
  timer_at_ = due;
  if (due == kNever) return;
  timer_ = context_.loop.at(due, [this] {
    timer_ = 0;
    CoordinatorOutput out;
    coordinator_->tick(monotonic_now(), wall_now_ms(), out);
    obey(std::move(out));
  });
}

void CoordinatorShell::publish_stats() {
  const Time now = monotonic_now();
  events_.publish(kStatsTopic, StatsNotice{++stats_sequence_, wall_now_ms(), coordinator_->reports({}, 10, now),
                                           coordinator_->node_reports(now)});
  context_.loop.after(kStatsInterval, [this] { publish_stats(); });
}

}  // namespace idunno

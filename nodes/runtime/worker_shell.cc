#include "nodes/runtime/worker_shell.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "bus/clock.h"
#include "bus/hash.h"

namespace idunno {
namespace {

/// Commits gather while these are unanswered, so that a slow log write is shared by many.
constexpr std::uint32_t kCommitRequestsInFlightMax = 2;
constexpr Duration kCommitTimeout = std::chrono::seconds(10);
constexpr Duration kStageCheckInterval = std::chrono::seconds(10);

ExecutorPool::Options pool_options(const NodeContext& context, const std::filesystem::path& program) {
  ExecutorPool::Options options;
  options.program = program;
  options.slots = context.slots;
  options.memory_bytes = context.config.tuning.executor_memory_bytes;
  options.batch_timeout = context.config.tuning.batch_timeout;
  options.log_dir = context.self.data_dir / "log";
  return options;
}

std::vector<NodeId> all_nodes(const ClusterConfig& config) {
  std::vector<NodeId> ids;
  for (const NodeConfig& node : config.nodes) ids.push_back(node.id);
  return ids;
}

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

}  // namespace

WorkerShell::WorkerShell(NodeContext& context, const std::filesystem::path& executor_program, std::function<void()> session_lost)
    : context_(context),
      queue_(context.slots, context.config.tuning.input_cache_bytes),
      inputs_(context.data, context.loop, context.self.data_dir, all_nodes(context.config),
              [this](const LeaseKey& lease, Result<FetchedBatch> input) { on_input(lease, std::move(input)); }),
      executors_(
          context.loop, pool_options(context, executor_program),
          [this](std::uint32_t slot, const LeaseKey& lease, Time at) { on_started(slot, lease, at); },
          [this](ExecutorPool::Outcome outcome) { on_finished(std::move(outcome)); }),
      session_lost_(std::move(session_lost)) {
  context_.client.on_push<LeaseGrant>(
      [this](NodeId, const Header& header, const LeaseGrant& grant) { on_grant(header.epoch, grant); });
  context_.client.on_push<LeaseDrop>([this](NodeId, const Header& header, const LeaseDrop& drop) {
    if (header.epoch < epoch_) return;
    WorkerOutput out;
    queue_.dropped(drop, out);
    obey(std::move(out));
  });
  check_stages();
}

WorkerShell::~WorkerShell() { context_.loop.cancel(stage_timer_); }

void WorkerShell::check_stages() {
  WorkerOutput out;
  queue_.tick(monotonic_now(), out);
  obey(std::move(out));
  stage_timer_ = context_.loop.after(kStageCheckInterval, [this] { check_stages(); });
}

void WorkerShell::new_session(Epoch epoch) {
  epoch_ = epoch;
  offers_.clear();  // offered again by the queue
  WorkerOutput out;
  queue_.new_session(epoch, out);
  obey(std::move(out));
}

void WorkerShell::on_grant(Epoch epoch, const LeaseGrant& grant) {
  if (epoch < epoch_) return;  // of a coordinator that has been replaced
  if (!grant.placement.empty()) {
    const auto replication = grant.descriptions.empty() ? context_.config.tuning.replication : grant.descriptions[0].replication;
    context_.data.post([&data = context_.data, placement = grant.placement, replication] {
      data.blocks().set_placement(placement, replication);
    });
  }
  for (const JobDescription& description : grant.descriptions) inputs_.add_job(description);
  WorkerOutput out;
  queue_.granted(grant, monotonic_now(), out);
  obey(std::move(out));
}

void WorkerShell::obey(WorkerOutput&& out) {
  for (const LeaseKey& lease : out.discard) {
    fetched_.erase(lease);
    executors_.cancel(lease);
  }
  if (!out.fetch.empty()) inputs_.fetch(out.fetch);
  for (const auto& [slot, lease] : out.start) start(slot, lease);
  for (BatchCommit& commit : out.offer) offers_.push_back(std::move(commit));
  for (const BatchFailed& failure : out.failures) {
    RpcClient::CallOptions options;
    options.timeout = kCommitTimeout;
    options.epoch = epoch_;
    context_.client.call<BatchFailed>(context_.coordinator, Service::rpc, failure, {}, options,
                                      [this](const Result<RpcReply<BatchFailedReply>>& answer, NodeId) {
                                        // A new session takes all leases back, this one with them.
                                        if (!answer) session_lost_();
                                      });
  }
  for (const JobId job : out.forget_jobs) inputs_.forget_job(job);
}

void WorkerShell::on_input(const LeaseKey& lease, Result<FetchedBatch> input) {
  WorkerOutput out;
  if (input) {
    std::uint64_t bytes = 0;
    for (const Payload& item : input->items) bytes += item.size();
    fetched_[lease] = std::move(*input);
    queue_.input_ready(lease, bytes, monotonic_now(), out);
  } else {
    queue_.input_failed(lease, input.error().detail, out);
  }
  obey(std::move(out));
}

void WorkerShell::start(std::uint32_t slot, const Lease& lease) {
  const LeaseKey key = key_of(lease);
  const JobDescription* job = queue_.description(lease.job);
  auto input = fetched_.extract(key);
  ASSERT(job != nullptr);
  ASSERT(!input.empty());
  FetchedBatch& batch = input.mapped();
  if (lease.attempt >= kGiveUpAttempt) return give_up(slot, lease, batch);

  ExecutorPool::Task task;
  task.lease = key;
  task.head.model_key = fmt::format("{}:{}", job->model.name, job->model.version);
  task.head.onnx_file = std::move(batch.onnx_file);
  task.head.labels_file = std::move(batch.labels_file);
  task.head.spec_toml = job->model.spec_toml;
  task.head.item_kind = job->spec.item_kind;
  task.head.item_shape = job->spec.item_shape;
  task.head.batch_size = job->spec.batch;
  task.head.top = job->spec.top;
  task.head.job = lease.job;
  task.head.batch = lease.batch;
  task.head.first_query = lease.first_query;
  task.head.queries = std::move(batch.queries);
  for (const Payload& item : batch.items) task.head.item_lengths.push_back(static_cast<std::uint32_t>(item.size()));
  task.items = std::move(batch.items);
  executors_.start(slot, std::move(task));
}

void WorkerShell::give_up(std::uint32_t slot, const Lease& lease, const FetchedBatch& input) {
  // Executors died on this batch, or its inputs are nowhere: its queries become error rows, and the job goes on.
  const LeaseKey key = key_of(lease);
  on_started(slot, key, monotonic_now());
  Bytes rows;
  for (std::uint32_t i = 0; i < lease.queries; ++i) {
    nlohmann::ordered_json row;
    row["index"] = lease.first_query + i;
    row["query"] = i < input.queries.size() ? input.queries[i] : "";
    row["error"] = "given up: every attempt at its batch failed; see `idunno job show` and the nodes' logs";
    rows += row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  WorkerOutput out;
  const bool wanted = queue_.finished(slot, key, lease.queries, 0, monotonic_now(), out);
  obey(std::move(out));
  if (wanted) store_rows(key, Payload(std::move(rows)));
}

void WorkerShell::on_started(std::uint32_t slot, const LeaseKey& lease, Time at) {
  const auto ago = std::chrono::duration_cast<std::chrono::milliseconds>(monotonic_now() - at);
  queue_.started(slot, lease, at, wall_now_ms() - static_cast<WallMs>(std::max<Duration::rep>(ago.count(), 0)));
  tell("batch_started", lease, fmt::format("slot {}", slot));
}

void WorkerShell::on_finished(ExecutorPool::Outcome outcome) {
  WorkerOutput out;
  const Time ended = outcome.at;
  if (outcome.executed && outcome.head.ok) {
    const bool wanted = queue_.finished(outcome.slot, outcome.lease, outcome.head.errors, outcome.head.infer_us, ended, out);
    obey(std::move(out));
    if (wanted) store_rows(outcome.lease, std::move(outcome.rows));
    return;
  }
  const BatchFailure why = outcome.executed ? outcome.head.why : outcome.why;
  const std::string& detail = outcome.executed ? outcome.head.detail : outcome.detail;
  tell("batch_failed", outcome.lease, detail);
  queue_.failed(outcome.slot, outcome.lease, why, detail, ended, out);
  obey(std::move(out));
}

void WorkerShell::store_rows(const LeaseKey& lease, Payload rows) {
  context_.data.post([this, &data = context_.data, &control = context_.loop, lease, rows = std::move(rows)]() mutable {
    NewBlock block;
    block.key.id = data.ids().next();
    block.key.length = static_cast<std::uint32_t>(rows.size());
    block.key.hash = hash128(rows.view());
    block.bytes = std::move(rows);
    data.blocks().write(std::move(block), [this, &control, lease](Result<BlockRef> written) {
      control.post([this, lease, written = std::move(written)] {
        WorkerOutput out;
        if (written)
          queue_.stored(lease, *written, context_.self.id, monotonic_now(), out);
        else
          queue_.store_failed(lease, written.error().detail, out);
        obey(std::move(out));
      });
    });
  });
}

void WorkerShell::end_turn() { send_commits(); }

void WorkerShell::send_commits() {
  while (!offers_.empty() && commits_in_flight_ < kCommitRequestsInFlightMax) {
    CommitBatches request;
    const std::size_t count = std::min(offers_.size(), kCommitsPerRequestMax);
    request.commits.assign(std::make_move_iterator(offers_.begin()),
                           std::make_move_iterator(offers_.begin() + static_cast<std::ptrdiff_t>(count)));
    offers_.erase(offers_.begin(), offers_.begin() + static_cast<std::ptrdiff_t>(count));
    std::vector<LeaseKey> leases;
    for (const BatchCommit& commit : request.commits) leases.push_back({commit.job, commit.batch, commit.attempt});

    RpcClient::CallOptions options;
    options.timeout = kCommitTimeout;
    options.epoch = epoch_;
    ++commits_in_flight_;
    context_.client.call<CommitBatches>(
        context_.coordinator, Service::rpc, request, {}, options,
        [this, leases = std::move(leases)](const Result<RpcReply<CommitBatchesReply>>& answer, NodeId) {
          --commits_in_flight_;
          if (!answer) {
            queue_.offer_lost(leases);
            return session_lost_();
          }
          WorkerOutput out;
          queue_.offered_answer(leases, out);
          obey(std::move(out));
          send_commits();
        });
  }
}

void WorkerShell::tell(const char* type, const LeaseKey& lease, std::string text) {
  Event event;
  event.type = type;
  event.job = lease.job;
  event.batch = lease.batch;
  event.text = std::move(text);
  context_.tell(std::move(event));
}

}  // namespace idunno

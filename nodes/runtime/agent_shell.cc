#include "nodes/runtime/agent_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "bus/clock.h"
#include "bus/hash.h"
#include "nodes/raft/raft_log.h"

namespace idunno {
namespace {

constexpr Duration kUsageAgeMax = std::chrono::seconds(1);
constexpr Duration kUsageAgeMin = std::chrono::milliseconds(400);  // heartbeats may come more often; shorter spans say little

ExecutorPool::Options pool_options(const NodeContext& context, const std::filesystem::path& program) {
  ExecutorPool::Options options;
  options.program = program;
  options.slots = context.slots;
  options.memory_bytes = context.config.tuning.executor_memory_bytes;
  options.batch_timeout = context.config.tuning.batch_timeout;
  options.log_dir = context.self.data_dir / "log";
  return options;
}

/// What the first row of the batch is numbered: in each pass of a repeated job as in the first, so that all give the same bytes.
std::uint64_t first_row(const Lease& lease) { return lease.segment == 0 ? lease.item : lease.first_query; }

std::vector<NodeId> all_nodes(const ClusterConfig& config) {
  std::vector<NodeId> ids;
  for (const NodeConfig& node : config.nodes) ids.push_back(node.id);
  return ids;
}

AgentConfig agent_config(const NodeContext& context) {
  AgentConfig config;
  config.self = context.self.id;
  config.incarnation = context.incarnation;
  config.store_id = context.data.store_id();
  config.slots = context.slots;
  config.pid = static_cast<std::uint32_t>(getpid());
  config.data_dir = context.self.data_dir.string();
  config.log_nodes = log_nodes_of(all_nodes(context.config));
  config.heartbeat_interval = context.config.tuning.heartbeat_interval;
  config.heartbeat_timeout = context.config.tuning.dead_after;
  config.input_bytes_max = context.config.tuning.input_cache_bytes;
  config.reload_lag = context.config.tuning.reload_lag;
  return config;
}

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

}  // namespace

AgentShell::AgentShell(NodeContext& context, const std::filesystem::path& executor_program)
    : context_(context),
      inputs_(context.data, context.loop, context.self.data_dir, context.config.tuning.disk_reserve_bytes,
              all_nodes(context.config),
              [this](const LeaseKey& lease, Result<FetchedBatch> input) { on_input(lease, std::move(input)); }),
      executors_(context.loop, pool_options(context, executor_program),
                 {[this](std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us) {
                    on_started(slot, lease, at, cpu_us);
                  },
                  [this](std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us) {
                    agent().loaded(slot, lease, at, cpu_us);
                  },
                  [this](ExecutorPool::Outcome outcome) { on_finished(std::move(outcome)); }}) {}

AgentShell::~AgentShell() { context_.loop.cancel(timer_); }

void AgentShell::start() {
  auto opened = open_rocks_outbox_store(context_.self.data_dir / "outbox");
  if (!opened) return context_.fatal(annotate(opened.error(), "opening the outbox"));
  outbox_ = std::move(*opened);
  auto left = outbox_->load();
  if (!left) return context_.fatal(annotate(left.error(), "reading the outbox"));
  if (!left->empty()) spdlog::info("{} results of an earlier life wait for a coordinator", left->size());
  // Drawn from the system's randomness once a process: no two lives of any node share their request ids.
  const Random random(context_.client.fresh_request_id().client);
  agent_ = std::make_unique<NodeAgent>(agent_config(context_), std::move(*left), random, monotonic_now(), wall_now_ms());
  take_pushes();
  context_.client.on_connection([this](NodeId node, Service service, bool connected) {
    if (service == Service::rpc && !connected) agent().connection_lost(node, monotonic_now());
  });
  context_.data.on_damaged([this, &control = context_.loop](std::vector<BlockId> blocks) {
    control.post([this, blocks = std::move(blocks)] { blocks_damaged(blocks); });
  });
  changed_ = true;
  end_turn();
}

void AgentShell::take_pushes() {
  context_.client.on_push<LeaseGrant>([this](NodeId from, const Header& header, const LeaseGrant& grant) {
    agent().pushed(from, header.epoch, grant, monotonic_now());
  });
  context_.client.on_push<LeaseDrop>([this](NodeId from, const Header& header, const LeaseDrop& drop) {
    agent().pushed(from, header.epoch, drop, monotonic_now());
  });
  context_.client.on_push<JobOrder>([this](NodeId from, const Header& header, const JobOrder& order) {
    agent().pushed(from, header.epoch, order, monotonic_now());
  });
  context_.client.on_push<PrefetchModel>([this](NodeId from, const Header& header, const PrefetchModel& model) {
    agent().pushed(from, header.epoch, model, monotonic_now());
  });
  context_.client.on_push<ReplicaTask>([this](NodeId from, const Header& header, const ReplicaTask& task) {
    agent().pushed(from, header.epoch, task, monotonic_now());
  });
}

void AgentShell::leader_hint(NodeId leader, Epoch epoch) {
  if (agent_) agent().leader_hint(leader, epoch, monotonic_now());
}
void AgentShell::blocks_damaged(const std::vector<BlockId>& blocks) {
  if (agent_) agent().blocks_damaged(blocks, monotonic_now());
}
BatchLivesReply AgentShell::batch_lives(JobId job, std::int64_t batch) const {
  BatchLivesReply reply;
  reply.answered_by = context_.self.id;
  if (!agent_) return reply;
  reply.steps = agent_->lives().steps(job, batch, monotonic_now(), wall_now_ms());
  reply.forgotten = agent_->lives().forgot();
  return reply;
}
NodeId AgentShell::coordinator() const { return agent_ ? agent_->coordinator() : NodeId{}; }
std::uint32_t AgentShell::running() const { return agent_ ? agent_->queue().running() : 0; }

// -- the turn ---------------------------------------------------------------------------------------------------------

void AgentShell::end_turn() {
  if (!agent_) return;
  // Obeying may itself have something to tell: a batch that is given up is finished at once.
  while (std::exchange(changed_, false)) obey(agent_->take_output());
  plan_wake();
}

void AgentShell::plan_wake() {
  const Time wake = agent_->wake_at();
  if (wake == timer_at_) return;
  context_.loop.cancel(timer_);
  timer_at_ = wake;
  timer_ = context_.loop.at(wake, [this] {
    timer_at_ = kNever;
    agent().tick(monotonic_now(), wall_now_ms());
  });
}

void AgentShell::obey(AgentOutput&& out) {
  // A commit must not be offered that a restart would not know of.
  if (!out.outbox.empty()) {
    if (Status written = outbox_->write(out.outbox); !written) {
      return context_.fatal(annotate(written.error(), "writing the outbox"));
    }
  }
  for (const AgentOutput::Call& call : out.calls) send(call);
  for (const JobDescription& description : out.describe) inputs_.add_job(description);
  for (const PrefetchModel& model : out.prefetch) inputs_.prefetch(model);
  if (out.placement) {
    context_.data.post([&data = context_.data, placement = std::move(*out.placement)] {
      data.blocks().set_placement(placement.first, placement.second);
    });
  }
  obey_work(std::move(out.work));
  for (const ReplicaTask& task : out.tasks) run_task(task);
  if (out.list_blocks) list_blocks(*out.list_blocks);
  if (!out.delete_blocks.empty()) remove_blocks(std::move(out.delete_blocks));
  for (const auto& [slot, share] : out.shares) executors_.set_share(slot, share);
  if (out.wants_executor_times) agent().executor_times(executors_.cpu_us(), processor_load(), monotonic_now());
  if (out.wants_usage) agent().usage(usage(), monotonic_now());
  for (Event& event : out.events) context_.tell(std::move(event));
}

ProcessUsage::Sample AgentShell::processes() {
  const Time now = monotonic_now();
  return processes_.age(now) < kUsageAgeMax ? processes_.last() : processes_.sample(executors_.pids(), now);
}

NodeUsage AgentShell::usage() {
  const BlockStoreUsage store = context_.data.usage();
  const Time now = monotonic_now();
  const ProcessUsage::Sample processes =
      processes_.age(now) < kUsageAgeMin ? processes_.last() : processes_.sample(executors_.pids(), now);
  const ExecutorPool::Usage executors = executors_.usage();
  if (executors.fixed_nice && !std::exchange(fixed_nice_told_, true)) {
    spdlog::warn(
        "this process may not make its executors less nice again: where they share processors, rates are evened out at batch "
        "borders only; give it CAP_SYS_NICE or a limit of nice of {} (LimitNICE=+{} of systemd), and where "
        "kernel.sched_autogroup_enabled is 1 set that to 0 or give it CAP_SYS_ADMIN",
        20 - kExecutorNiceMin, kExecutorNiceMin);
  }
  NodeUsage usage;
  usage.capacity_bytes = store.capacity_bytes;
  usage.free_bytes = store.free_bytes;
  usage.blocks = store.blocks;
  usage.block_bytes = store.bytes;
  usage.rss_bytes = processes.rss_bytes;
  usage.read_only = store.read_only;
  usage.cpu_milli = processes.cpu_milli;
  usage.executor_rss_bytes = processes.executor_rss_bytes;
  usage.models.assign(executors.models.begin(), executors.models.end());
  usage.model_loads = executors.model_loads;
  return usage;
}

void AgentShell::obey_work(WorkerOutput&& work) {
  for (const LeaseKey& lease : work.discard) {
    fetched_.erase(lease);
    executors_.cancel(lease);
  }
  for (const JobId job : work.forget_jobs) inputs_.forget_job(job);
  if (!work.fetch.empty()) inputs_.fetch(work.fetch);
  for (const auto& [slot, lease] : work.start) start_batch(slot, lease);
}

void AgentShell::send(const AgentOutput::Call& call) {
  RpcClient::CallOptions options;
  options.timeout = call.timeout;
  options.request = call.request;
  options.epoch = call.epoch;
  context_.client.call_raw(
      call.to, Service::rpc, call.type, call.body, options,
      [this, id = call.id](const Result<Envelope>& answer) { agent().answered(id, answer, monotonic_now(), wall_now_ms()); });
}

// -- the block store --------------------------------------------------------------------------------------------------

void AgentShell::list_blocks(BlockId after) {
  context_.data.post([this, &data = context_.data, &control = context_.loop, after] {
    auto page = data.store().list(after, kBlocksPerRequestMax);
    control.post([this, after, page = std::move(page)] {
      if (!page) return context_.fatal(annotate(page.error(), "listing the block store"));
      agent().blocks_listed(*page, after, page->size() == kBlocksPerRequestMax, monotonic_now(), wall_now_ms());
    });
  });
}

void AgentShell::remove_blocks(std::vector<BlockId> blocks) {
  context_.data.post([this, &data = context_.data, &control = context_.loop, blocks = std::move(blocks)] {
    if (Status removed = data.store().remove(blocks); !removed) {
      control.post([this, error = removed.error()] { context_.fatal(annotate(error, "deleting blocks")); });
    }
  });
}

void AgentShell::run_task(const ReplicaTask& task) {
  if (!task.drop.empty()) remove_blocks(task.drop);
  if (task.pull.empty()) return;
  context_.data.post([this, &data = context_.data, &control = context_.loop, task] {
    data.pull(task.pull, [this, &control, number = task.task](std::vector<BlockStatus> statuses) {
      control.post([this, number, statuses = std::move(statuses)] { agent().task_done(number, statuses, monotonic_now()); });
    });
  });
}

// -- batches ----------------------------------------------------------------------------------------------------------

void AgentShell::on_input(const LeaseKey& lease, Result<FetchedBatch> input) {
  if (!input) return agent().input_failed(lease, input.error().detail, monotonic_now());
  std::uint64_t bytes = 0;
  for (const Payload& item : input->items) bytes += item.size();
  fetched_[lease] = std::move(*input);
  agent().input_ready(lease, bytes, monotonic_now());
}

void AgentShell::start_batch(std::uint32_t slot, const Lease& lease) {
  const LeaseKey key = key_of(lease);
  const JobDescription* job = agent_->queue().description(lease.job);
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
  task.head.first_query = first_row(lease);
  task.head.queries = std::move(batch.queries);
  for (const Payload& item : batch.items) task.head.item_lengths.push_back(static_cast<std::uint32_t>(item.size()));
  task.head.masked = ExecutorPool::masked_places(lease);
  task.head.trial = lease.is_trial();
  task.items = std::move(batch.items);
  executors_.start(slot, std::move(task));
}

void AgentShell::give_up(std::uint32_t slot, const Lease& lease, const FetchedBatch& input) {
  // Executors died on this batch, or its inputs are nowhere: its queries become error rows, and the job goes on.
  const LeaseKey key = key_of(lease);
  on_started(slot, key, monotonic_now(), 0);
  Bytes rows;
  for (std::uint32_t i = 0; i < lease.queries; ++i) {
    nlohmann::ordered_json row;
    row["index"] = first_row(lease) + i;
    row["query"] = i < input.queries.size() ? input.queries[i] : "";
    row["error"] = "given up: every attempt at its batch failed; see `idunno job show` and the nodes' logs";
    rows += row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  }
  if (agent().finished(slot, key, lease.queries, 0, monotonic_now())) store_rows(key, Payload(std::move(rows)));
}

void AgentShell::on_started(std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us) {
  const auto ago = std::chrono::duration_cast<std::chrono::milliseconds>(monotonic_now() - at);
  agent().started(slot, lease, at, wall_now_ms() - static_cast<WallMs>(std::max<Duration::rep>(ago.count(), 0)), cpu_us);
}

void AgentShell::on_finished(ExecutorPool::Outcome outcome) {
  const Time ended = outcome.at;
  if (outcome.executed && outcome.head.ok) {
    const bool wanted = agent().finished(outcome.slot, outcome.lease, outcome.head.errors, outcome.head.infer_us, ended,
                                         outcome.head.load_us, outcome.cpu_us);
    if (wanted) store_rows(outcome.lease, std::move(outcome.rows));
    return;
  }
  const BatchFailure why = outcome.executed ? outcome.head.why : outcome.why;
  const std::string& detail = outcome.executed ? outcome.head.detail : outcome.detail;
  agent().failed(outcome.slot, outcome.lease, why, detail, ended);
}

void AgentShell::store_rows(const LeaseKey& lease, Payload rows) {
  context_.data.post([this, &data = context_.data, &control = context_.loop, lease, rows = std::move(rows)]() mutable {
    NewBlock block;
    block.key.id = data.ids().next();
    block.key.length = static_cast<std::uint32_t>(rows.size());
    block.key.hash = hash128(rows.view());
    block.bytes = std::move(rows);
    data.blocks().write(std::move(block), [this, &control, lease](Result<BlockRef> written) {
      control.post([this, lease, written = std::move(written)] {
        if (written)
          agent().stored(lease, *written, monotonic_now(), wall_now_ms());
        else
          agent().store_failed(lease, written.error().detail, monotonic_now());
      });
    });
  });
}

}  // namespace idunno

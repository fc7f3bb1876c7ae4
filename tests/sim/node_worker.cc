// The node as a worker: what its NodeAgent wants done.
#include <algorithm>

#include "tests/sim/node_process.h"

namespace idunno::sim {
namespace {

constexpr Duration kFetchTime = std::chrono::microseconds(500);
constexpr std::uint64_t kInputBytes = 10'000;
constexpr std::uint64_t kCapacity = 100ULL << 30U;

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

}  // namespace

void NodeProcess::obey_agent() {
  AgentOutput out = agent_->take_output();
  if (!out.outbox.empty()) {
    const Status written = outbox_->write(out.outbox);
    ASSERT(written.ok());
  }
  for (AgentOutput::Call& call : out.calls) calls_.push_back(std::move(call));
  for (JobDescription& description : out.describe) described_[description.job] = std::move(description);
  if (out.placement) std::tie(placement_, copies_) = std::move(*out.placement);
  for (const LeaseKey& lease : out.work.discard) executors_.cancel(lease);
  for (const JobId job : out.work.forget_jobs) described_.erase(job);
  for (const Lease& lease : out.work.fetch) fetch(lease);
  for (const auto& [slot, lease] : out.work.start) {
    const JobDescription* job = agent_->queue().description(lease.job);
    if (job == nullptr) return env_.violation(to_string(id()) + " starts a batch of a job that it does not know");
    executors_.start(slot, lease, job->spec.name, weak_from_this());
  }
  if (!out.work.offer.empty() || !out.work.failures.empty()) env_.violation("the agent left offers or failures to the shell");
  for (const ReplicaTask& task : out.tasks) do_task(task);
  if (out.list_blocks) list_blocks(*out.list_blocks);
  for (const BlockId block : out.delete_blocks) drop_block(block, "an orphan");
  if (out.wants_executor_times)
    agent_->executor_times(std::vector<std::uint64_t>(env_.swarm.slots, executor_us(now())), {}, now());
  if (out.wants_usage) report_usage();
}

void NodeProcess::send_call(AgentOutput::Call call) {
  Caller::Options options;
  options.timeout = call.timeout;
  options.request = call.request;
  options.epoch = call.epoch;
  caller_.call_raw(call.to, call.type, call.body, options, {},
                   [this, number = call.id](const Result<Envelope>& answer, const Payload&) {
                     in_turn([this, number, answer] { agent_->answered(number, answer, now(), wall()); });
                   });
}

/// What an old coordinator pushes must not change anything: checked here, where both sides are at hand.
void NodeProcess::pushed(NodeId from, const Envelope& envelope) {
  obey_agent();
  const bool old = envelope.header.epoch < agent_->epoch();
  const std::size_t held = agent_->queue().size();
  const Time time = now();
  if (envelope.header.type == MessageType::lease_grant)
    agent_->pushed(from, envelope.header.epoch, *envelope.body<LeaseGrant>(), time);
  else if (envelope.header.type == MessageType::lease_drop)
    agent_->pushed(from, envelope.header.epoch, *envelope.body<LeaseDrop>(), time);
  else if (envelope.header.type == MessageType::job_order)
    agent_->pushed(from, envelope.header.epoch, *envelope.body<JobOrder>(), time);
  else if (envelope.header.type == MessageType::prefetch_model)
    agent_->pushed(from, envelope.header.epoch, *envelope.body<PrefetchModel>(), time);
  else if (envelope.header.type == MessageType::replica_task)
    agent_->pushed(from, envelope.header.epoch, *envelope.body<ReplicaTask>(), time);
  else
    return env_.violation("a push of type " + message_name(envelope.header.type));
  if (!old) return;
  AgentOutput out = agent_->take_output();
  const bool quiet = out.describe.empty() && out.prefetch.empty() && !out.placement && out.work.fetch.empty() &&
                     out.work.start.empty() && out.tasks.empty() && out.work.discard.empty() && out.work.forget_jobs.empty();
  if (!quiet || agent_->queue().size() != held)
    env_.violation(to_string(id()) + " obeyed " + to_string(from) + ", a coordinator that has been replaced");
}

void NodeProcess::fetch(const Lease& lease) {
  const auto job = described_.find(lease.job);
  if (job == described_.end()) return env_.violation(to_string(id()) + " is to fetch inputs of a job that was not described");
  run_after(kFetchTime, [this, key = key_of(lease), blocks = job->second.manifest.blocks] { fetch_blocks(key, blocks, 0); });
}

void NodeProcess::fetch_blocks(const LeaseKey& lease, const std::vector<BlockRef>& blocks, std::size_t next) {
  if (next == blocks.size()) return in_turn([this, lease] { agent_->input_ready(lease, kInputBytes, now()); });
  blocks_.read(blocks[next], [this, lease, blocks, next](const Result<BlockIo::SharedBytes>& bytes) {
    if (bytes) return fetch_blocks(lease, blocks, next + 1);
    in_turn([this, lease, why = bytes.error().detail] { agent_->input_failed(lease, why, now()); });
  });
}

/// Executors share processors: each gets half of one.
std::uint64_t NodeProcess::executor_us(Time at) { return static_cast<std::uint64_t>((at - Time{}).count()) / 2 + 1; }

void NodeProcess::began(std::uint32_t slot, const LeaseKey& lease, Time at) {
  agent_->started(slot, lease, at, wall(), executor_us(at));
  agent_->loaded(slot, lease, at, executor_us(at));
}

void NodeProcess::executed(const ExecutorOutcome& outcome) {
  if (!outcome.rows) return agent_->failed(outcome.slot, outcome.lease, outcome.why, "the executor ended", now());
  if (agent_->finished(outcome.slot, outcome.lease, outcome.errors, outcome.infer_us, now(), 0, executor_us(now())))
    store(outcome.lease, *outcome.rows);
}

void NodeProcess::store(const LeaseKey& lease, Bytes rows) {
  blocks_.write(std::move(rows), placement_, copies_, [this, lease](const Result<BlockRef>& block) {
    in_turn([this, lease, block] {
      if (block)
        agent_->stored(lease, *block, now(), wall());
      else
        agent_->store_failed(lease, block.error().detail, now());
    });
  });
}

void NodeProcess::drop_block(BlockId block, const char* why) {
  env_.trace.note(block.lo, [&] { return to_string(id()) + " deletes " + to_string(block) + ": " + why; });
  node_.disk().remove_block(block);
}

void NodeProcess::do_task(const ReplicaTask& task) {
  for (const BlockId block : task.drop) drop_block(block, "told to");
  auto statuses = std::make_shared<std::vector<BlockStatus>>(task.pull.size(), BlockStatus::missing);
  auto left = std::make_shared<std::size_t>(task.pull.size());
  const auto report = [this, number = task.task, statuses] {
    run_after(Duration{0},
              [this, number, statuses] { in_turn([this, number, statuses] { agent_->task_done(number, *statuses, now()); }); });
  };
  if (task.pull.empty()) return report();
  for (std::size_t i = 0; i < task.pull.size(); ++i) {
    blocks_.read(task.pull[i],
                 [this, block = task.pull[i], i, statuses, left, report](const Result<BlockIo::SharedBytes>& bytes) {
                   copied(block, bytes);
                   if (bytes) (*statuses)[i] = node_.disk().block(block.id) != nullptr ? BlockStatus::ok : BlockStatus::full;
                   if (--*left == 0) report();
                 });
  }
}

void NodeProcess::copied(const BlockRef& block, const Result<BlockIo::SharedBytes>& bytes) {
  env_.trace.note(block.id.lo, [&] { return to_string(id()) + (bytes ? " copied " : " did not get ") + to_string(block.id); });
  if (bytes && !node_.disk().full() && node_.disk().block(block.id) == nullptr)
    node_.disk().put_block(block.id, *bytes, block.hash, wall());
}

void NodeProcess::list_blocks(BlockId after) {
  std::vector<HeldBlock> page;
  const auto& blocks = node_.disk().blocks();
  auto at = blocks.upper_bound(after);
  for (; at != blocks.end() && page.size() < kBlocksPerRequestMax; ++at)
    page.push_back({at->first, static_cast<std::uint32_t>(at->second.bytes->size()), at->second.stored_ms});
  run_after(kFetchTime, [this, page = std::move(page), after, more = at != blocks.end()] {
    in_turn([this, page, after, more] { agent_->blocks_listed(page, after, more, now(), wall()); });
  });
}

void NodeProcess::report_usage() {
  NodeUsage usage;
  usage.capacity_bytes = kCapacity;
  usage.free_bytes = node_.disk().full() ? 0 : kCapacity / 2;
  usage.read_only = node_.disk().full();
  usage.blocks = node_.disk().blocks().size();
  in_turn([this, usage] { agent_->usage(usage, now()); });
}

void NodeProcess::scrub() {
  std::vector<BlockId> damaged;
  for (const auto& [id, block] : node_.disk().blocks()) {
    if (block.damaged) damaged.push_back(id);
  }
  if (damaged.empty()) return;
  for (const BlockId block : damaged) drop_block(block, "damaged");
  in_turn([this, damaged] { agent_->blocks_damaged(damaged, now()); });
}

}  // namespace idunno::sim

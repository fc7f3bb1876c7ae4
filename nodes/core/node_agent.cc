#include "nodes/core/node_agent.h"

#include <algorithm>

#include "bus/base/assert.h"
#include "nodes/core/node_agent_impl.h"

namespace idunno {
namespace {

constexpr Duration kPipeline = std::chrono::milliseconds(5);
constexpr Duration kQueueCheckInterval = std::chrono::seconds(10);
constexpr Duration kNoticedBatchMin = std::chrono::milliseconds(20);
constexpr Duration kNoticeInterval = std::chrono::milliseconds(50);  ///< early heartbeats do not come more often
/// Between looks at the executors' processor time: where they share processors, and elsewhere.
constexpr Duration kWatchInterval = std::chrono::milliseconds(20);
constexpr Duration kWatchIntervalAlone = std::chrono::milliseconds(100);

}  // namespace

NodeAgent::Impl::Impl(AgentConfig config_given, std::vector<OutboxRecord> outbox, Random random_given, Time now, WallMs wall)
    : config_(std::move(config_given)),
      random_(random_given),
      queue_(config_.slots, config_.input_bytes_max, kPipeline, config_.reload_lag),
      now_(now),
      queue_check_at_(now + kQueueCheckInterval),
      order_(config_.log_nodes.begin(), config_.log_nodes.end()),
      hello_at_(now),
      client_(random_.next() | 1U),
      wall_(wall) {
  ASSERT(!order_.empty());
  shares_.assign(config_.slots, {kExecutorNice, false});
  for (OutboxRecord& record : outbox) {
    const BatchCommit& commit = record.commit;
    const LeaseKey key{commit.job, commit.batch, commit.attempt};
    // A clock that was set back says as little of the age as one that was set forward.
    const WallMs age = std::max(wall, record.stored_ms) - std::min(wall, record.stored_ms);
    if (age > kOutboxAgeMaxMs || commit.node != config_.self) {
      outbox_remove_.emplace(key, commit);
      continue;
    }
    results_.emplace(key, StoredResult{commit, now - std::chrono::milliseconds(age)});
  }
}

void NodeAgent::Impl::tell(std::string type, JobId job, std::int64_t batch, std::string text) {
  Event event;
  event.type = std::move(type);
  event.job = job;
  event.batch = batch;
  event.text = std::move(text);
  out_.events.push_back(std::move(event));
}

/// What a worker begins is news for all others (JobOrder): the heartbeat comes early, unless batches are so short that their
/// starts do not matter one by one.
void NodeAgent::Impl::notice_start() {
  if (queue_.mean_batch_us() < static_cast<std::uint64_t>(kNoticedBatchMin.count())) return;
  heartbeat_at_ = std::min(heartbeat_at_, std::max(now_, beat_at_ + kNoticeInterval));
}

/// Executors that share processors get more or less of them as their jobs lag behind or are ahead; and how far their batches are
/// is not known from the time that passes, so it is told more often.
void NodeAgent::Impl::watch_executors() {
  for (std::uint32_t slot = 0; slot < config_.slots; ++slot) {
    const ExecutorShare share = queue_.executor_share(slot, now_);
    if (std::exchange(shares_[slot], share) != share) out_.shares.emplace_back(slot, share);
  }
  if (!queue_.computes_long() || now_ < watch_at_) return;
  watch_at_ = now_ + (queue_.shares_processors() ? kWatchInterval : kWatchIntervalAlone);
  out_.wants_executor_times = true;
}

void NodeAgent::Impl::flush() {
  watch_executors();
  if (!in_session_) {
    if (hello_call_ == 0 && now_ >= hello_at_) say_hello();
    return;
  }
  if (now_ >= heartbeat_at_) {
    out_.wants_usage = true;
    heartbeat_at_ = now_ + config_.heartbeat_interval;
    beat_at_ = now_;
  }
  if (now_ >= work_retry_at_) {
    send_commits();
    send_failures();
  }
  if (inventory_ == InventoryStep::idle && now_ >= inventory_at_) restart_inventory();
  if (now_ < store_retry_at_) return;
  send_reports();
  send_damaged();
  if (inventory_ == InventoryStep::wants_page) {
    out_.list_blocks = inventory_from_;
    inventory_ = InventoryStep::listing;
  }
}

Time NodeAgent::Impl::wake_at() const {
  Time wake = queue_check_at_;
  if (queue_.computes_long()) wake = std::min(wake, watch_at_);
  if (!in_session_) return hello_call_ == 0 ? std::min(wake, hello_at_) : wake;
  wake = std::min(wake, heartbeat_at_);
  if (inventory_ == InventoryStep::idle) wake = std::min(wake, inventory_at_);
  for (const Time retry : {work_retry_at_, store_retry_at_}) {
    if (retry > now_) wake = std::min(wake, retry);
  }
  return wake;
}

// -- answers ----------------------------------------------------------------------------------------------------------

NodeAgent::Impl::Outcome NodeAgent::Impl::outcome_of(const Pending& call, const Result<Envelope>& answer) const {
  Outcome outcome;
  outcome.of_this_session = in_session_ && call.session == session_;
  if (!answer) {
    outcome.error = answer.error();
    return outcome;
  }
  outcome.envelope = &answer.value();
  if (answer->header.type == MessageType::error_reply) {
    const auto refusal = answer->body<ErrorReply>();
    outcome.error = refusal ? Error{refusal->code, refusal->detail} : refusal.error();
    if (refusal) outcome.leader = refusal->leader;
  } else if (answer->header.epoch < epoch_) {
    outcome.error = Error{Errc::stale_epoch,
                          to_string(call.to) + " answered under epoch " + to_string(answer->header.epoch) + ", which is over"};
  }
  return outcome;
}

void NodeAgent::Impl::answered(std::uint64_t id, const Result<Envelope>& answer) {
  auto found = calls_.extract(id);
  if (found.empty()) return;
  const Pending& call = found.mapped();
  const Outcome outcome = outcome_of(call, answer);
  if (std::holds_alternative<HelloCall>(call.about)) {
    if (id != hello_call_) return;  // given up for a better guess
    hello_call_ = 0;
    return hello_answered(call.to, outcome);
  }
  if (std::holds_alternative<HeartbeatCall>(call.about)) {
    heartbeat_answered(call.to, outcome);
  } else if (const auto* commits = std::get_if<CommitCall>(&call.about)) {
    commits_answered(call.to, commits->request, outcome);
  } else if (const auto* failure = std::get_if<FailureCall>(&call.about)) {
    failure_answered(call.to, failure->failure, outcome);
  } else if (const auto* report = std::get_if<ReportCall>(&call.about)) {
    report_answered(call.to, report->report, outcome);
  } else if (const auto* page = std::get_if<InventoryCall>(&call.about)) {
    inventory_answered(call.to, *page, outcome);
  } else if (const auto* sent = std::get_if<DamagedCall>(&call.about)) {
    damaged_answered(call.to, *sent, outcome);
  }
  if (!outcome.error) note_epoch(call.to, outcome.envelope->header.epoch);
}

// -- the public face --------------------------------------------------------------------------------------------------

NodeAgent::NodeAgent(AgentConfig config, std::vector<OutboxRecord> outbox, Random random, Time now, WallMs wall)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(outbox), random, now, wall)) {}
NodeAgent::~NodeAgent() = default;

void NodeAgent::answered(std::uint64_t call, const Result<Envelope>& answer, Time now, WallMs wall) {
  impl_->note_time(now);
  impl_->wall_ = wall;
  impl_->answered(call, answer);
}

void NodeAgent::pushed(NodeId from, Epoch epoch, const LeaseGrant& grant, Time now) {
  impl_->note_time(now);
  if (impl_->accepts_push(from, epoch)) impl_->granted(grant);
}
void NodeAgent::pushed(NodeId from, Epoch epoch, const LeaseDrop& drop, Time now) {
  impl_->note_time(now);
  if (impl_->accepts_push(from, epoch)) impl_->dropped(drop);
}
void NodeAgent::pushed(NodeId from, Epoch epoch, const JobOrder& order, Time now) {
  impl_->note_time(now);
  if (impl_->accepts_push(from, epoch)) impl_->queue_.ordered(order, now);
}
void NodeAgent::pushed(NodeId from, Epoch epoch, const ReplicaTask& task, Time now) {
  impl_->note_time(now);
  if (impl_->accepts_push(from, epoch)) impl_->task_pushed(epoch, task);
}

void NodeAgent::pushed(NodeId from, Epoch epoch, const PrefetchModel& model, Time now) {
  impl_->note_time(now);
  if (impl_->accepts_push(from, epoch) && impl_->out_.prefetch.size() < kPrefetchModelsMax) impl_->out_.prefetch.push_back(model);
}

void NodeAgent::leader_hint(NodeId leader, Epoch epoch, Time now) {
  impl_->note_time(now);
  impl_->leader_hint(leader, epoch);
}
void NodeAgent::connection_lost(NodeId node, Time now) {
  impl_->note_time(now);
  impl_->connection_lost(node);
}
void NodeAgent::usage(const NodeUsage& usage, Time now) {
  impl_->note_time(now);
  impl_->send_heartbeat(usage);
}

void NodeAgent::task_done(std::uint64_t task, const std::vector<BlockStatus>& pulled, Time now) {
  impl_->note_time(now);
  impl_->task_done(task, pulled);
}
void NodeAgent::blocks_listed(const std::vector<HeldBlock>& page, BlockId after, bool more, Time now, WallMs wall) {
  impl_->note_time(now);
  impl_->wall_ = wall;
  impl_->blocks_listed(page, after, more);
}
void NodeAgent::blocks_damaged(const std::vector<BlockId>& blocks, Time now) {
  impl_->note_time(now);
  impl_->keep_damaged(blocks);
}

void NodeAgent::input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now) {
  impl_->note_time(now);
  // What is here now is not what was to be discarded before it came.
  std::erase(impl_->out_.work.discard, lease);
  impl_->note(BatchEvent::fetched, lease, now);
  WorkerOutput work;
  impl_->queue_.input_ready(lease, bytes, now, work);
  impl_->take(std::move(work));
}
void NodeAgent::input_failed(const LeaseKey& lease, const std::string& why, Time now) {
  impl_->note_time(now);
  impl_->note(BatchEvent::failed, lease, now, "its input could not be read: " + why);
  WorkerOutput work;
  impl_->queue_.input_failed(lease, why, work);
  impl_->take(std::move(work));
}

void NodeAgent::started(std::uint32_t slot, const LeaseKey& lease, Time at, WallMs wall, std::uint64_t cpu_us) {
  impl_->note_time(at);
  impl_->queue_.started(slot, lease, at, wall, cpu_us);
  impl_->notice_start();
  impl_->note(BatchEvent::started, lease, at);
  impl_->tell("batch_started", lease.job, lease.batch, "slot " + std::to_string(slot));
}

void NodeAgent::loaded(std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us) {
  impl_->note_time(at);
  impl_->queue_.loaded(slot, lease, at, cpu_us);
  impl_->notice_start();
}

void NodeAgent::executor_times(const std::vector<std::uint64_t>& cpu_us, ProcessorLoad load, Time now) {
  impl_->note_time(now);
  for (std::size_t slot = 0; slot < cpu_us.size(); ++slot)
    impl_->queue_.executor_time(static_cast<std::uint32_t>(slot), cpu_us[slot], load, now);
  if (impl_->queue_.shares_processors()) impl_->notice_start();
}

bool NodeAgent::finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now,
                         std::uint64_t load_us, std::uint64_t cpu_us) {
  impl_->note_time(now);
  impl_->note(BatchEvent::inferred, lease, now,
              load_us == 0 ? std::string() : "its model was loaded first: " + std::to_string(load_us / 1000) + " ms", infer_us);
  WorkerOutput work;
  const bool wanted = impl_->queue_.finished(slot, lease, errors, infer_us, now, work, load_us, cpu_us);
  impl_->take(std::move(work));
  return wanted;
}

void NodeAgent::failed(std::uint32_t slot, const LeaseKey& lease, BatchFailure why, const std::string& detail, Time now) {
  impl_->note_time(now);
  impl_->tell("batch_failed", lease.job, lease.batch, detail);
  impl_->note(BatchEvent::failed, lease, now, detail);
  WorkerOutput work;
  impl_->queue_.failed(slot, lease, why, detail, now, work);
  impl_->take(std::move(work));
}

void NodeAgent::stored(const LeaseKey& lease, const BlockRef& block, Time now, WallMs wall) {
  impl_->note_time(now);
  impl_->wall_ = wall;
  impl_->note(BatchEvent::stored, lease, now);
  WorkerOutput work;
  impl_->queue_.stored(lease, block, impl_->config_.self, now, work);
  impl_->take(std::move(work));
}
void NodeAgent::store_failed(const LeaseKey& lease, const std::string& why, Time now) {
  impl_->note_time(now);
  impl_->note(BatchEvent::failed, lease, now, "its result could not be stored: " + why);
  WorkerOutput work;
  impl_->queue_.store_failed(lease, why, work);
  impl_->take(std::move(work));
}

void NodeAgent::tick(Time now, WallMs wall) {
  impl_->note_time(now);
  impl_->wall_ = wall;
  if (now < impl_->queue_check_at_) return;
  impl_->queue_check_at_ = now + kQueueCheckInterval;
  WorkerOutput work;
  impl_->queue_.tick(now, work);
  impl_->take(std::move(work));
}

Time NodeAgent::wake_at() const { return impl_->wake_at(); }

AgentOutput NodeAgent::take_output() {
  impl_->flush();
  for (auto& [key, record] : std::exchange(impl_->outbox_add_, {})) impl_->out_.outbox.add.push_back(record);
  for (auto& [key, commit] : std::exchange(impl_->outbox_remove_, {})) impl_->out_.outbox.remove.push_back(commit);
  return std::exchange(impl_->out_, {});
}

NodeId NodeAgent::coordinator() const { return impl_->in_session_ ? impl_->coordinator_ : impl_->best_guess(); }
bool NodeAgent::in_session() const { return impl_->in_session_; }
Epoch NodeAgent::epoch() const { return impl_->epoch_; }
const WorkerQueue& NodeAgent::queue() const { return impl_->queue_; }
const BatchLives& NodeAgent::lives() const { return impl_->lives_; }

}  // namespace idunno

// Turns of a log node: what the log has committed is applied, the coordinator comes and goes with the office.

#include "nodes/core/control_plane.h"

#include <algorithm>
#include <iterator>

#include "bus/base/assert.h"
#include "nodes/core/control_plane_impl.h"

namespace idunno {

ControlPlane::Impl::Impl(ControlConfig c, Random r, WallMs wall)
    : config_(std::move(c)), random_(r), state_(config_.versions_max), wall_(wall) {}

Bytes ControlPlane::Impl::begin_command(Epoch epoch) const {
  return encode_command(wall_, RequestId{}, NewEpoch{epoch, config_.coordinator.self});
}

Status ControlPlane::Impl::restore(const Snapshot& snapshot) {
  ASSERT(!coordinator_);
  Result<ClusterState> restored = ClusterState::decode_snapshot(snapshot.state, config_.versions_max);
  if (!restored) return annotate(restored.error(), "restoring a snapshot of the job log");
  state_ = *std::move(restored);
  snapshot_bytes_ = snapshot.state.size();
  log_bytes_ = 0;
  return {};
}

void ControlPlane::Impl::set_wall(Time now, WallMs at) {
  wall_ = at;
  wall_read_at_ = now;
}

WallMs ControlPlane::Impl::wall_at(Time now) const {
  if (now <= wall_read_at_) return wall_;
  return wall_ + static_cast<WallMs>((now - wall_read_at_).count() / 1000);
}

// ---- the office -------------------------------------------------------------------------------------------------------

bool ControlPlane::Impl::in_office() const { return coordinator_ && log_->serving() && log_->epoch() == reign_; }

void ControlPlane::Impl::enter_office(Time now, WallMs wall) {
  reign_ = log_->epoch();
  coordinator_ = std::make_unique<Coordinator>(config_.coordinator, std::move(state_), Random(random_.next()));
  CoordinatorOutput done;
  for (const auto& [id, member] : members_) coordinator_->member_changed(id, member.state, member.incarnation, now, done);
  coordinator_->start(reign_, now, wall, done);
  obey(std::move(done));
}

/// What was said in this turn is taken back: it would go out under an epoch that is not this coordinator's. Nobody is told that
/// something failed; whoever asks again with the same request id is told what became of it.
void ControlPlane::Impl::leave_office() {
  state_ = coordinator_->release_state();
  coordinator_.reset();
  proposals_.clear();
  out_.pushes.clear();
  std::set<Ticket> unanswered = std::exchange(waiting_, {});
  for (const auto& [number, read] : std::exchange(reads_, {})) unanswered.insert(read.ticket);
  std::erase_if(out_.replies, [&](const ControlOutput::Reply& reply) {
    if (!reply.stale) unanswered.insert(reply.ticket);
    return !reply.stale;
  });
  for (const Ticket ticket : unanswered) reply_not_leader(ticket);
  Event& event = out_.events.emplace_back();
  event.type = "coordinator_lost_office";
  event.text = to_string(config_.coordinator.self) + " does not lead any more, its epoch was " + to_string(reign_);
}

void ControlPlane::Impl::obey(CoordinatorOutput&& done) {
  for (Bytes& command : done.propose) proposals_.push_back(std::move(command));
  for (auto& [ticket, answer] : done.answers) {
    if (waiting_.erase(ticket) > 0) reply(ticket, std::move(answer));
  }
  std::move(done.pushes.begin(), done.pushes.end(), std::back_inserter(out_.pushes));
  std::move(done.events.begin(), done.events.end(), std::back_inserter(out_.events));
  std::move(done.follow.begin(), done.follow.end(), std::back_inserter(out_.follow));
}

// ---- turns ------------------------------------------------------------------------------------------------------------

/// True when the log has taken something. What it has no room for waits.
bool ControlPlane::Impl::propose_waiting() {
  bool taken = false;
  while (!proposals_.empty() && in_office()) {
    const Result<LogIndex> index = log_->propose(proposals_.front());
    if (!index) {
      const Errc code = index.error().code;
      if (code == Errc::full || code == Errc::not_leader || code == Errc::unavailable) break;
      CoordinatorOutput told;
      coordinator_->refused_by_log(proposals_.front(), index.error(), told);
      obey(std::move(told));
    }
    taken = taken || index.ok();
    proposals_.pop_front();
  }
  return taken;
}

void ControlPlane::Impl::apply(const LogEntry& entry, Time now, WallMs wall) {
  log_bytes_ += entry.command.size();
  if (!coordinator_) {
    (void)state_.apply(entry);
    return;
  }
  CoordinatorOutput done;
  coordinator_->applied(entry, now, wall, done);
  obey(std::move(done));
}

void ControlPlane::Impl::answer_reads(Time now) {
  for (const ReadBarrier& barrier : log_->take_reads()) {
    const auto found = reads_.find(barrier.ticket);
    if (found == reads_.end()) continue;
    const Read read = std::move(found->second);
    reads_.erase(found);
    if (barrier.passed && in_office())
      read.answer(now);
    else
      reply_not_leader(read.ticket);
  }
}

Status ControlPlane::Impl::turn(Time now, WallMs wall) {
  set_wall(now, wall);
  turn_again_ = false;
  for (std::size_t flushes = 0; flushes < kFlushesPerTurnMax; ++flushes) {
    const bool proposed = propose_waiting();
    if (flushes > 0 && !proposed) return {};
    if (Status flushed = log_->flush(now); !flushed) return annotate(flushed.error(), "writing the job log");
    if (coordinator_ && !in_office()) leave_office();
    if (const std::optional<Snapshot> snapshot = log_->take_snapshot()) {
      if (Status restored = restore(*snapshot); !restored) return restored;
    }
    for (const LogEntry& entry : log_->take_committed()) apply(entry, now, wall);
    if (!coordinator_ && log_->serving()) enter_office(now, wall);
    answer_reads(now);
    auto messages = log_->take_messages();
    std::move(messages.begin(), messages.end(), std::back_inserter(out_.log_messages));
    if (proposals_.empty()) return {};
  }
  turn_again_ = true;
  return {};
}

Status ControlPlane::Impl::compact_when_due() {
  if (log_bytes_ < std::max(config_.compact_bytes_min, 2 * snapshot_bytes_)) return {};
  Bytes image = state().encode_snapshot();
  snapshot_bytes_ = image.size();
  log_bytes_ = 0;
  if (Status done = log_->compact(state().applied_index(), std::move(image)); !done)
    return annotate(done.error(), "replacing the job log by a snapshot");
  return {};
}

void ControlPlane::Impl::check_invariants() const {
  log_->check_invariants();
  ASSERT(reads_.size() <= kReadsWaitingMax);
  ASSERT(state().applied_index() <= log_->committed_index());
  ASSERT(!coordinator_ || state().epoch() >= reign_);
  if (coordinator_) return;
  ASSERT(waiting_.empty());
  ASSERT(proposals_.empty());
}

// ---- the public face --------------------------------------------------------------------------------------------------

ControlPlane::ControlPlane(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlPlane::~ControlPlane() = default;

Result<std::unique_ptr<ControlPlane>> ControlPlane::open(ControlConfig config, std::unique_ptr<LogStore> store, Random random,
                                                         Time now, WallMs wall) {
  RaftConfig raft = config.raft;
  auto impl = std::make_unique<Impl>(std::move(config), Random(random.next()), wall);
  raft.begin_command = [at = impl.get()](Epoch epoch) { return at->begin_command(epoch); };
  auto log = RaftLog::open(std::move(raft), std::move(store), Random(random.next()), now);
  if (!log) return log.error();
  impl->log_ = *std::move(log);
  if (const std::optional<Snapshot> snapshot = impl->log_->take_snapshot()) {
    if (Status restored = impl->restore(*snapshot); !restored) return restored.error();
  }
  return std::unique_ptr<ControlPlane>(new ControlPlane(std::move(impl)));
}

void ControlPlane::log_message(NodeId from, ByteView message, Time now) { impl_->log_->receive(from, message, now); }

void ControlPlane::member_changed(NodeId node, NodeState state, Incarnation incarnation, Time now) {
  Impl& impl = *impl_;
  Impl::Member& member = impl.members_[node];
  if (member.state != state) member.since_ms = impl.wall_at(now);
  member.state = state;
  member.incarnation = incarnation;
  impl.log_->node_alive(node, state == NodeState::alive || state == NodeState::suspect, now);
  if (!impl.in_office()) return;
  CoordinatorOutput done;
  impl.coordinator_->member_changed(node, state, incarnation, now, done);
  impl.obey(std::move(done));
}

void ControlPlane::connection_lost(NodeId node, Time now) { impl_->log_->connection_lost(node, now); }

void ControlPlane::push_failed(NodeId node, Time now) {
  if (!impl_->in_office()) return;
  CoordinatorOutput done;
  impl_->coordinator_->push_failed(node, now, done);
  impl_->obey(std::move(done));
}

Status ControlPlane::may_extend(JobId job, Epoch epoch, std::uint64_t after) const {
  if (!impl_->in_office()) return Error{Errc::not_leader, "this node does not coordinate"};
  return impl_->coordinator_->may_extend(job, epoch, after);
}

Status ControlPlane::extend(const FollowSegment& segment, Time now) {
  if (!impl_->in_office()) return Error{Errc::not_leader, "this node does not coordinate"};
  CoordinatorOutput done;
  const Status proposed = impl_->coordinator_->extend(segment, now, done);
  impl_->obey(std::move(done));
  return proposed;
}

void ControlPlane::tick(Time now, WallMs wall) {
  Impl& impl = *impl_;
  impl.set_wall(now, wall);
  impl.log_->tick(now);
  if (!impl.in_office() || now < impl.coordinator_->wake_at()) return;
  CoordinatorOutput done;
  impl.coordinator_->tick(now, wall, done);
  impl.obey(std::move(done));
}

Time ControlPlane::wake_at() const {
  const Impl& impl = *impl_;
  if (impl.turn_again_) return Time{};
  Time at = impl.log_->wake_at();
  if (impl.in_office()) at = std::min(at, impl.coordinator_->wake_at());
  if (impl.transfer_) at = std::min(at, impl.transfer_->give_up);
  return at;
}

Status ControlPlane::end_turn(Time now, WallMs wall, ControlOutput& out) {
  Impl& impl = *impl_;
  if (!impl.failure_) return impl.failure_;
  Status done = impl.turn(now, wall);
  if (done) done = impl.compact_when_due();
  if (!done) {
    impl.failure_ = done;
    return done;
  }
  impl.settle_transfer(now);
  out = std::exchange(impl.out_, {});
  return {};
}

bool ControlPlane::serving() const { return impl_->in_office(); }
Epoch ControlPlane::epoch() const { return impl_->coordinator_ ? impl_->reign_ : impl_->log_->epoch(); }
NodeId ControlPlane::leader() const { return impl_->log_->leader(); }
const ReplicatedLog& ControlPlane::log() const { return *impl_->log_; }
const ClusterState& ControlPlane::state() const { return impl_->state(); }

JobReportsReply ControlPlane::reports(std::uint32_t window_s, Time now) const {
  if (!impl_->in_office()) return {};
  return impl_->coordinator_->reports({}, window_s, now);
}

std::vector<NodeReport> ControlPlane::node_reports(Time now) const {
  if (!impl_->in_office()) return {};
  return impl_->coordinator_->node_reports(now);
}

std::optional<BatchLivesReply> ControlPlane::batch_lives(JobId job, std::int64_t batch, Time now) const {
  if (!impl_->in_office()) return std::nullopt;
  return impl_->coordinator_->batch_lives(job, batch, now);
}

std::optional<StatusReply> ControlPlane::status() const {
  if (!impl_->in_office()) return std::nullopt;
  return impl_->coordinator_->status();
}

RaftStatus ControlPlane::raft_status() const { return impl_->log_->status(); }

void ControlPlane::check_invariants() const { impl_->check_invariants(); }

}  // namespace idunno

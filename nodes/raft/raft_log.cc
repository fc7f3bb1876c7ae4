#include "nodes/raft/raft_log.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "bus/base/assert.h"
#include "nodes/raft/quorum.h"
#include "nodes/raft/raft_impl.h"

namespace idunno {

std::uint32_t voters_wanted_for(std::size_t nodes) {
  if (nodes < 3) return 1;
  const auto most = static_cast<std::uint32_t>(std::min<std::size_t>(nodes, kVotersMax));
  return most % 2 == 1 ? most : most - 1;
}

std::vector<NodeId> log_nodes_of(const std::vector<NodeId>& nodes) {
  return {nodes.begin(), nodes.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(nodes.size(), kLogNodesMax))};
}

RaftLog::Impl::Impl(RaftConfig config_, std::unique_ptr<LogStore> store_, Random random_, LogView log_, std::uint64_t log_id_,
                    HardState hard_, Time now_)
    : config(std::move(config_)),
      store(std::move(store_)),
      random(random_),
      log_id(log_id_),
      log(std::move(log_)),
      hard(hard_),
      now(now_),
      announce_at(now_) {
  commit = applied = log.snapshot_index();  // later entries may not be committed: the leader will tell
  election_deadline = now + random_timeout();
  if (may_campaign() && configuration().voters() == 1) election_deadline = now;
}

// ---- the turn -------------------------------------------------------------------------------------------------------

void RaftLog::Impl::observe(Time t) {
  now = std::max(now, t);
  if (role != RaftRole::leader) return;
  if (!hears_majority()) become_follower(NodeId{});  // check-quorum (6.2): also a leader that was paused
  if (now >= transfer_deadline) end_transfer();
}

void RaftLog::Impl::send(NodeId to, std::uint64_t to_log, RaftMessage message) {
  message.from = config.self;
  message.from_log = log_id;
  message.to_log = to_log;
  message.epoch = hard.epoch;
  unsent.emplace_back(to, encode(message));
}

void RaftLog::Impl::receive(NodeId from, ByteView bytes) {
  const auto decoded = decode<RaftMessage>(bytes, kRaftMessageBytesMax);
  if (!decoded || decoded->bodies() != 1 || decoded->from != from || from == config.self || !is_log_node(from)) {
    ++messages_refused;
    return;
  }
  const RaftMessage& message = *decoded;
  if (message.announce) {
    on_announce(message, *message.announce);
  } else if (message.to_log != log_id) {
    ++messages_misdirected;  // for an earlier life of this node: what that one promised or held does not count here
  } else {
    dispatch(message);
  }
}

void RaftLog::Impl::dispatch(const RaftMessage& message) {
  if (message.vote) {  // first: a request that a lease forbids does not change the epoch either (6.4.1 and 9.6)
    on_vote_request(message, *message.vote);
    return;
  }
  if (message.epoch > hard.epoch) adopt_epoch(message.epoch);
  if (message.append) on_append(message, *message.append);
  if (message.chunk) on_chunk(message, *message.chunk);
  if (message.append_reply) on_append_reply(message, *message.append_reply);
  if (message.snapshot_reply) on_snapshot_reply(message, *message.snapshot_reply);
  if (message.vote_reply) on_vote_reply(message, *message.vote_reply);
  if (message.timeout_now) on_timeout_now(message);
}

void RaftLog::Impl::tick() {
  bootstrap_if_ready();
  announce_if_alone();
  if (role == RaftRole::leader) {
    if (now < beat_at) return;
    beat_at = now + config.heartbeat;
    beat_due = beat_timed = true;
    reconfigure();
    return;
  }
  if (!may_campaign()) return;
  if (now >= election_deadline) {
    start_pre_vote();
  } else if (now >= retry_at) {
    retry_votes();
  }
}

Time RaftLog::Impl::wake_at() const {
  if (!failure.ok()) return kNever;
  if (hard_dirty || log.dirty() || beat_due || install_drops_tail || !unsent.empty()) return now;
  if (role == RaftRole::leader) return std::min(beat_at, transfer_deadline);
  Time at = announce_due();
  if (may_campaign()) at = std::min({at, election_deadline, retry_at});
  if (initial_voters_at != kNever && !bootstrap_stopped && configuration().empty()) at = std::min(at, announce_at);
  return at;
}

/// Everything that this turn's messages promise goes to disk: one write for vote, epoch and entries. A snapshot of the leader's
/// is a second one, after the epoch under which it came.
Status RaftLog::Impl::persist() {
  if (install_drops_tail) {
    if (hard_dirty) {
      if (Status written = store->write(LogWrite{hard, {}, {}}); !written) return written;
      hard_dirty = false;
    }
    if (Status saved = store->save_snapshot(*log.snapshot(), *install_drops_tail); !saved) return saved;
    install_drops_tail.reset();
    auto unwrapped = unwrap_state(log.snapshot()->state);
    ASSERT(unwrapped.ok());  // install_incoming has looked
    restored = Snapshot{log.snapshot()->index, log.snapshot()->epoch, log.snapshot()->state.substr(0, unwrapped->state_bytes)};
    applied = log.snapshot()->index;
  }
  if (!hard_dirty && !log.dirty()) return {};
  LogWrite write;
  if (hard_dirty) write.hard_state = hard;
  log.fill(write);
  if (Status written = store->write(write); !written) return written;
  hard_dirty = false;
  log.written();
  return {};
}

Status RaftLog::Impl::flush() {
  if (!failure.ok()) return failure;
  if (Status persisted = persist(); !persisted) {
    // Final: what reached the disk is unknown, and a later success would not say (prototypes: an EIO, then "success").
    failure = annotate(persisted.error(), "write the job log");
    unsent.clear();
    outgoing.clear();
    reads.clear();
    return failure;
  }
  if (role == RaftRole::candidate) {
    own_vote_durable = true;
    count_votes();
  }
  if (role == RaftRole::leader && !log.dirty()) {
    advance_commit();
    send_appends();
  }
  if (hard_dirty || log.dirty()) return {};  // elected by its own vote just now: what it says waits for the next write
  outgoing.insert(outgoing.end(), std::make_move_iterator(unsent.begin()), std::make_move_iterator(unsent.end()));
  unsent.clear();
  return {};
}

Result<LogIndex> RaftLog::Impl::propose(Bytes command) {
  if (!failure.ok()) return Error{Errc::unavailable, "propose: the job log can no longer be written; this node must stop"};
  if (role != RaftRole::leader) return Error{Errc::not_leader, "propose: this node does not lead"};
  if (transfer_to) return Error{Errc::not_leader, fmt::format("propose: leadership goes to {} just now", to_string(transfer_to))};
  if (command.size() >= codec::kCommandBytesMax) {
    return Error{Errc::too_large, fmt::format("propose: a command of {} bytes; the log takes less than {}", command.size(),
                                              codec::kCommandBytesMax)};
  }
  const std::uint64_t waiting = log.last().value - commit.value;
  if (waiting >= kUncommittedEntriesMax || uncommitted_bytes + command.size() > kUncommittedBytesMax) {
    return Error{Errc::full, fmt::format("propose: {} entries of {} bytes wait to be committed; try again later", waiting,
                                         uncommitted_bytes)};
  }
  Bytes marked = mark_entry(std::move(command), EntryKind::command);
  uncommitted_bytes += marked.size();
  log.append(hard.epoch, std::move(marked));
  return log.last();
}

std::vector<LogEntry> RaftLog::Impl::take_committed() {
  std::vector<LogEntry> taken;
  if (!failure.ok() || install_drops_tail) return taken;
  const LogIndex end = std::min(commit, log.durable());
  while (applied < end) {
    ++applied.value;
    LogEntry entry = log.at(applied);
    const bool is_command = entry.command.back() == static_cast<char>(EntryKind::command);
    entry.command.resize(is_command ? entry.command.size() - 1 : 0);
    taken.push_back(std::move(entry));
  }
  return taken;
}

Status RaftLog::Impl::compact(LogIndex index, Bytes state) {
  if (!failure.ok()) return failure;
  if (index <= log.snapshot_index() || index > applied || install_drops_tail) {
    return Error{Errc::invalid, fmt::format("compact the job log up to entry {}: the snapshot has {} and {} are handed out",
                                            index.value, log.snapshot_index().value, applied.value)};
  }
  Snapshot snapshot{index, log.epoch_at(index), wrap_state(std::move(state), log.configuration_at(index))};
  if (Status saved = store->save_snapshot(snapshot); !saved) {
    failure = annotate(saved.error(), "save the snapshot of the job log");
    return failure;
  }
  log.compacted(std::move(snapshot));
  return {};
}

// ---- the public face ------------------------------------------------------------------------------------------------

Result<std::unique_ptr<RaftLog>> RaftLog::open(RaftConfig config, std::unique_ptr<LogStore> store, Random random, Time now) {
  ASSERT(store != nullptr);
  ASSERT(config.self.value != 0);
  ASSERT(config.log_nodes.size() <= kLogNodesMax);
  ASSERT(config.voters_wanted >= 1);
  ASSERT(config.voters_wanted <= config.log_nodes.size());
  ASSERT(config.election_timeout_min < config.election_timeout_max);
  auto loaded = store->load();
  if (!loaded) return annotate(loaded.error(), "open the job log");
  const std::uint64_t log_id = loaded->log_id;
  const HardState hard = loaded->hard_state;
  auto view = LogView::restore(*std::move(loaded));
  if (!view) return view.error();
  auto impl = std::make_unique<Impl>(std::move(config), std::move(store), random, *std::move(view), log_id, hard, now);
  if (const auto& snapshot = impl->log.snapshot()) {
    const auto unwrapped = unwrap_state(snapshot->state);
    ASSERT(unwrapped.ok());
    impl->restored = Snapshot{snapshot->index, snapshot->epoch, snapshot->state.substr(0, unwrapped->state_bytes)};
  }
  return std::unique_ptr<RaftLog>(new RaftLog(std::move(impl)));
}

RaftLog::RaftLog(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RaftLog::~RaftLog() = default;

Result<LogIndex> RaftLog::propose(Bytes command) { return impl_->propose(std::move(command)); }

void RaftLog::receive(NodeId from, ByteView message, Time now) {
  if (!impl_->failure.ok()) return;
  impl_->observe(now);
  impl_->receive(from, message);
}

void RaftLog::tick(Time now) {
  if (!impl_->failure.ok()) return;
  impl_->observe(now);
  impl_->tick();
}

Time RaftLog::wake_at() const { return impl_->wake_at(); }

void RaftLog::connection_lost(NodeId node, Time now) {
  if (!impl_->failure.ok()) return;
  impl_->observe(now);
  impl_->connection_lost(node);
}

void RaftLog::node_alive(NodeId node, bool alive, Time now) {
  impl_->observe(now);
  if (alive) {
    impl_->dead_since.erase(node);
  } else if (impl_->is_log_node(node)) {
    impl_->dead_since.try_emplace(node, impl_->now);
  }
}

Status RaftLog::transfer(NodeId to, Time now) {
  if (!impl_->failure.ok()) return impl_->failure;
  impl_->observe(now);
  return impl_->transfer(to);
}

void RaftLog::read_barrier(std::uint64_t ticket, Time now) {
  impl_->observe(now);
  impl_->read_barrier(ticket);
}

Status RaftLog::flush(Time now) {
  impl_->observe(now);
  return impl_->flush();
}

std::optional<Snapshot> RaftLog::take_snapshot() { return std::exchange(impl_->restored, {}); }
std::vector<LogEntry> RaftLog::take_committed() { return impl_->take_committed(); }

std::vector<std::pair<NodeId, Bytes>> RaftLog::take_messages() {
  auto taken = std::exchange(impl_->outgoing, {});
  if (!impl_->failure.ok()) taken.clear();  // after a failed write nothing is said any more
  return taken;
}

std::vector<ReadBarrier> RaftLog::take_reads() {
  if (impl_->failure.ok()) impl_->confirm_reads();
  return std::exchange(impl_->reads, {});
}

bool RaftLog::leading() const { return impl_->failure.ok() && impl_->role == RaftRole::leader; }
bool RaftLog::serving() const { return leading() && impl_->applied >= impl_->begin_index; }
Epoch RaftLog::epoch() const { return impl_->hard.epoch; }
NodeId RaftLog::leader() const { return impl_->leader; }

NodeId RaftLog::standby() const {
  const bool has_failover = impl_->configuration().voters() >= 3 && !impl_->successors.empty();
  return has_failover ? impl_->successors.front() : NodeId{};
}

std::vector<LogMember> RaftLog::members() const { return impl_->configuration().members; }
std::uint64_t RaftLog::log_id() const { return impl_->log_id; }
LogIndex RaftLog::committed_index() const { return impl_->commit; }
LogIndex RaftLog::last_index() const { return impl_->log.last(); }
Status RaftLog::compact(LogIndex index, Bytes state) { return impl_->compact(index, std::move(state)); }
void RaftLog::check_invariants() const { impl_->check_invariants(); }

RaftStatus RaftLog::status() const {
  const Impl& i = *impl_;
  RaftStatus status;
  status.role = i.role;
  status.epoch = i.hard.epoch;
  status.voted_for = i.hard.voted_for;
  status.leader = i.leader;
  status.log_id = i.log_id;
  status.committed = i.commit;
  status.applied = i.applied;
  status.durable = i.log.durable();
  status.last = i.log.last();
  status.snapshot = i.log.snapshot_index();
  status.members = i.configuration().members;
  for (const auto& [node, peer] : i.peers) {
    status.peers.push_back({node, peer.match, i.is_active(node, peer), peer.state == Progress::State::snapshot});
  }
  status.elections_started = i.elections_started;
  status.pre_votes_started = i.pre_votes_started;
  status.snapshots_sent = i.snapshots_sent;
  status.snapshots_installed = i.snapshots_installed;
  status.messages_refused = i.messages_refused;
  status.messages_misdirected = i.messages_misdirected;
  return status;
}

}  // namespace idunno

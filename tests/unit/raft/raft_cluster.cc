#include "tests/unit/raft/raft_cluster.h"

#include <fmt/core.h>

#include <algorithm>

#include "bus/base/assert.h"
#include "nodes/raft/log_view.h"
#include "storage/log_rules.h"

namespace idunno::raft_test {
namespace {

/// A LogStore over a Disk; every write is checked against the promises first.
class DiskStore final : public LogStore {
 public:
  DiskStore(std::shared_ptr<Disk> disk, Promises& promises) : disk_(std::move(disk)), promises_(promises) {}

  Result<LoadedLog> load() override { return disk_->log; }

  Status write(const LogWrite& write) override {
    ++disk_->writes;
    if (auto failed = fault(WriteFault::crash_before, WriteFault::error); !failed) return failed;
    std::uint64_t last = disk_->last().value;
    if (auto allowed = check_log_write(write, disk_->base().value, last); !allowed) return allowed;
    auto& log = disk_->log;
    if (write.hard_state) {
      log.hard_state = *write.hard_state;
      promises_.voted(log.log_id, log.hard_state);
    }
    if (write.truncate_from) std::erase_if(log.entries, [&](const LogEntry& e) { return e.index >= *write.truncate_from; });
    for (const LogEntry& entry : write.append) {
      Epoch before = log.snapshot ? log.snapshot->epoch : Epoch{};
      if (!log.entries.empty()) before = log.entries.back().epoch;
      promises_.on_disk(entry, before);
      log.entries.push_back(entry);
    }
    return fault(WriteFault::crash_after, WriteFault::crash_after);
  }

  Status save_snapshot(const Snapshot& snapshot, bool drop_tail) override {
    ++disk_->writes;
    if (auto failed = fault(WriteFault::crash_before, WriteFault::error); !failed) return failed;
    if (auto allowed = check_snapshot(snapshot, disk_->base().value); !allowed) return allowed;
    disk_->log.snapshot = snapshot;
    std::erase_if(disk_->log.entries, [&](const LogEntry& e) { return drop_tail || e.index <= snapshot.index; });
    return fault(WriteFault::crash_after, WriteFault::crash_after);
  }

 private:
  Status fault(WriteFault a, WriteFault b) {
    if (disk_->next != a && disk_->next != b) return {};
    disk_->crashed = disk_->next != WriteFault::error;
    disk_->next = WriteFault::none;
    return Error{Errc::internal, "injected"};
  }
  std::shared_ptr<Disk> disk_;
  Promises& promises_;
};

}  // namespace

// ---- promises -------------------------------------------------------------------------------------------------------

void Promises::break_if(bool bad, const std::string& what) {
  if (bad && broken.size() < 10) broken.push_back(what);
}

void Promises::leads(NodeId node, std::uint64_t log_id, Epoch epoch) {
  const auto [at, is_new] = leaders_.try_emplace(epoch, node, log_id);
  break_if(!is_new && at->second != std::pair(node, log_id),
           fmt::format("two leaders in epoch {}: {} and {}", epoch.value, to_string(at->second.first), to_string(node)));
}

void Promises::on_disk(const LogEntry& entry, Epoch before) {
  const auto [at, is_new] = entries_.try_emplace({entry.index, entry.epoch}, before, entry.command);
  break_if(!is_new && at->second != std::pair(before, entry.command),
           fmt::format("log matching: entry {} of epoch {} differs", entry.index.value, entry.epoch.value));
}

void Promises::voted(std::uint64_t log_id, const HardState& hard) {
  if (!hard.voted_for) return;
  const auto [at, is_new] = votes_.try_emplace({log_id, hard.epoch}, hard.voted_for);
  break_if(!is_new && at->second != hard.voted_for, fmt::format("log {} voted twice in epoch {}", log_id, hard.epoch.value));
}

void Promises::committed(const LogEntry& entry) {
  const auto [at, is_new] = committed_entries.try_emplace(entry.index, entry);
  break_if(!is_new && !(at->second == entry), fmt::format("committed entry {} changed: epoch {} and {}", entry.index.value,
                                                          at->second.epoch.value, entry.epoch.value));
}

void Promises::said(const Disk& disk, const RaftMessage& message, NodeId to) {
  const HardState& hard = disk.log.hard_state;
  break_if(hard.epoch < message.epoch, fmt::format("epoch {} told before it was on disk", message.epoch.value));
  if (message.vote_reply && message.vote_reply->granted && !message.vote_reply->pre && hard.epoch == message.vote_reply->asked) {
    break_if(hard.voted_for != to, fmt::format("a vote in epoch {} given before it was on disk", hard.epoch.value));
  }
  if (message.vote && !message.vote->pre && hard.epoch == message.vote->asked) {
    break_if(hard.voted_for != message.from,
             fmt::format("votes asked for in epoch {} before the own was on disk", hard.epoch.value));
  }
  if (message.append_reply && message.append_reply->accepted && message.epoch == hard.epoch) {
    break_if(message.append_reply->index > disk.last(),
             fmt::format("entry {} acknowledged, not on disk", message.append_reply->index.value));
  }
  if (message.append) {
    const LogIndex end{message.append->prev_index.value + message.append->entries.size()};
    break_if(message.epoch == hard.epoch && end > disk.last(), fmt::format("entry {} sent before it was on disk", end.value));
  }
}

// ---- the cluster ----------------------------------------------------------------------------------------------------

RaftCluster::RaftCluster(std::uint32_t nodes, std::uint64_t seed, std::uint32_t voters) : random(seed) {
  for (std::uint32_t i = 1; i <= nodes; ++i) config_.log_nodes.push_back(NodeId{i});
  config_.voters_wanted = voters == 0 ? voters_wanted_for(nodes) : voters;
  config_.begin_command = [](Epoch epoch) { return "begin" + std::to_string(epoch.value); };
  config_.voter_replace_after = std::chrono::seconds(3);
  for (const NodeId node : config_.log_nodes) {
    Server& server = servers_[node];
    server.id = node;
    server.disk = std::make_shared<Disk>();
    server.disk->log.log_id = 100 * node.value + next_log_id_;
    start(server);
  }
}

void RaftCluster::start(Server& server) {
  RaftConfig config = config_;
  config.self = server.id;
  server.disk->crashed = false;
  server.disk->next = WriteFault::none;
  server.applied.clear();
  server.applied_index = LogIndex{};
  server.reads.clear();
  server.failure.clear();
  server.paused = false;
  auto opened = RaftLog::open(config, std::make_unique<DiskStore>(server.disk, promises), Random(random.next()), now_);
  if (!opened) {
    promises.broken.push_back(opened.error().detail);
    return;
  }
  server.raft = *std::move(opened);
  apply(server);
}

void RaftCluster::crash(std::uint32_t node, bool tell_others) {
  at(node).raft.reset();
  if (!tell_others) return;
  for (auto& [id, server] : servers_) {
    if (server.raft && !server.paused) server.raft->connection_lost(NodeId{node}, now_);
  }
}

void RaftCluster::restart(std::uint32_t node) { start(at(node)); }

void RaftCluster::wipe(std::uint32_t node) {
  Server& server = at(node);
  server.raft.reset();
  server.disk = std::make_shared<Disk>();
  server.disk->log.log_id = 100 * node + ++next_log_id_;
}

void RaftCluster::tell_connection_lost(std::uint32_t to, std::uint32_t lost) {
  if (at(to).raft) at(to).raft->connection_lost(NodeId{lost}, now_);
}

Result<LogIndex> RaftCluster::propose(std::uint32_t node, const std::string& command) {
  if (!at(node).raft) return Error{Errc::unavailable, "down"};
  return at(node).raft->propose(command);
}

void RaftCluster::apply(Server& server) {
  if (auto snapshot = server.raft->take_snapshot()) {
    server.applied.clear();
    std::string item;
    for (const char c : snapshot->state) {
      if (c == ' ') server.applied.push_back(std::exchange(item, {}));
      if (c != ' ') item.push_back(c);
    }
    server.applied_index = snapshot->index;
  }
  for (LogEntry& entry : server.raft->take_committed()) {
    if (entry.index.value != server.applied_index.value + 1) promises.broken.push_back("a gap in what is handed out");
    server.applied_index = entry.index;
    promises.committed(entry);
    if (!entry.command.empty()) server.applied.push_back(entry.command);
  }
  const RaftStatus status = server.raft->status();
  if (compact_every > 0 && server.applied_index.value >= status.snapshot.value + compact_every) {
    std::string state;
    for (const std::string& item : server.applied) state += item + " ";
    if (auto done = server.raft->compact(server.applied_index, state); !done) server.failure = done.error().detail;
  }
}

/// The end of a node's turn, in the order that ReplicatedLog demands.
void RaftCluster::turn_end(Server& server) {
  if (!server.raft) return;
  if (auto flushed = server.raft->flush(now_); !flushed) {
    if (!server.raft->take_messages().empty()) promises.broken.push_back("something was said after a failed write");
    server.failure = flushed.error().detail;
    if (server.disk->crashed) server.raft.reset();
    return;
  }
  apply(server);
  if (!server.failure.empty()) {  // compact failed
    if (server.disk->crashed) server.raft.reset();
    return;
  }
  auto outgoing = server.raft->take_messages();
  for (ReadBarrier read : server.raft->take_reads()) server.reads.push_back(read);
  for (auto& [to, bytes] : outgoing) post(server.id, to, std::move(bytes));
  if (server.raft->leading()) promises.leads(server.id, server.disk->log.log_id, server.raft->epoch());
  server.raft->check_invariants();
}

void RaftCluster::post(NodeId from, NodeId to, Bytes bytes) {
  auto message = decode<RaftMessage>(bytes, kRaftMessageBytesMax);
  ASSERT(message.ok());
  if (rewrite) {
    rewrite(*message);
    bytes = encode(*message);
  }
  promises.said(*servers_.at(from).disk, *message, to);
  ++messages;
  if (message->append && !message->append->entries.empty()) ++appends_with_entries;
  Packet packet{from, to, std::move(bytes), now_};
  if (cut_.contains({from, to}) || (filter && !filter(packet, *message))) return;
  if (held_links_.contains({from, to})) {
    held_.push_back(std::move(packet));
    return;
  }
  const int copies = duplicate_percent > 0 && random.below(100) < duplicate_percent ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    packet.due = now_ + (delay ? delay(packet) : Duration{std::chrono::milliseconds(1)});
    wire_.emplace(packet.due, packet);
  }
}

std::size_t RaftCluster::release(bool reversed) {
  held_links_.clear();
  auto packets = std::exchange(held_, {});
  if (reversed) std::reverse(packets.begin(), packets.end());
  Time due = now_;
  for (Packet& packet : packets) wire_.emplace(due += std::chrono::milliseconds(1), std::move(packet));  // each in its own turn
  return packets.size();
}

void RaftCluster::drop_held() {
  held_links_.clear();
  held_.clear();
}

void RaftCluster::deliver_raw(NodeId from, NodeId to, const Bytes& bytes) {
  Server& server = servers_.at(to);
  if (!server.raft) return;
  server.raft->receive(from, bytes, now_);
  server.raft->check_invariants();
}

void RaftCluster::step(NodeId only) {
  now_ += std::chrono::milliseconds(1);
  std::set<NodeId> busy;
  std::multimap<Time, Packet> later;
  while (!wire_.empty() && wire_.begin()->first <= now_) {
    auto node = wire_.extract(wire_.begin());
    Packet& packet = node.mapped();
    if (cut_.contains({packet.from, packet.to})) continue;
    if (servers_.at(packet.to).paused) {
      later.emplace(packet.due, std::move(packet));
      continue;
    }
    deliver_raw(packet.from, packet.to, packet.bytes);
    busy.insert(packet.to);
  }
  wire_.merge(later);
  for (auto& [id, server] : servers_) {
    if (!server.raft || server.paused) continue;
    const bool may_tick = !only || only == id;
    if (may_tick && server.raft->wake_at() <= now_) {
      server.raft->tick(now_);
      busy.insert(id);
    }
    if (busy.contains(id) || (may_tick && server.raft->leading())) turn_end(server);
  }
}

void RaftCluster::run(Duration time) {
  const Time end = now_ + time;
  while (now_ < end) step(NodeId{});
}

bool RaftCluster::run_until(const std::function<bool()>& done, Duration most) {
  const Time end = now_ + most;
  while (now_ < end && !done()) step(NodeId{});
  return done();
}

bool RaftCluster::elect(std::uint32_t node, Duration most) {
  const Time end = now_ + most;
  const auto leads = [&] { return at(node).raft && at(node).raft->leading(); };
  while (now_ < end && !leads()) step(NodeId{node});
  return leads();
}

NodeId RaftCluster::leader() const {
  NodeId found;
  Epoch newest;
  for (const auto& [id, server] : servers_) {
    if (!server.raft || server.paused || !server.raft->leading() || server.raft->epoch() < newest) continue;
    found = id;
    newest = server.raft->epoch();
  }
  return found;
}

NodeId RaftCluster::serving_leader() const {
  const NodeId found = leader();
  return found && servers_.at(found).raft->serving() ? found : NodeId{};
}

/// "n1 leader epoch 2 commit 3: 1/1 config{1v 2v 3v} 2/2 begin2 2/3 x" (epoch/index of each entry on disk).
std::string RaftCluster::describe(std::uint32_t node) const {
  const Server& server = servers_.at(NodeId{node});
  std::string text = fmt::format("n{} ", node);
  if (!server.failure.empty()) {
    text += server.raft ? "stopped" : "down";
  } else if (!server.raft) {
    text += "down";
  } else {
    const RaftStatus status = server.raft->status();
    static constexpr const char* kRoles[] = {"follower", "pre-candidate", "candidate", "leader"};
    text +=
        fmt::format("{} epoch {} commit {}", kRoles[static_cast<int>(status.role)], status.epoch.value, status.committed.value);
  }
  text += ":";
  const LoadedLog& log = server.disk->log;
  if (log.snapshot) text += fmt::format(" snapshot {}/{}", log.snapshot->epoch.value, log.snapshot->index.value);
  for (const LogEntry& entry : log.entries) {
    std::string what = entry.command.substr(0, entry.command.size() - 1);
    if (kind_of_entry(entry.command) == EntryKind::configuration) {
      const auto decoded = decode<LogConfiguration>(what);
      what = "config{";
      for (const LogMember& member : decoded->members) {
        const bool is_first = member.log_id % 100 == 1;
        what += fmt::format("{}{}{}{}", what.back() == '{' ? "" : " ", member.node.value, is_first ? "" : "'",
                            member.voter ? "" : "-");
      }
      what += "}";
    }
    if (what.size() > 24) what = fmt::format("<{} bytes>", what.size());
    text += fmt::format(" {}/{} {}", entry.epoch.value, entry.index.value, what);
  }
  return text;
}

}  // namespace idunno::raft_test

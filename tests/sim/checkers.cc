#include "tests/sim/checkers.h"

#include <algorithm>

#include "bus/hash.h"
#include "nodes/raft/log_view.h"
#include "tests/sim/node_process.h"

namespace idunno::sim {
namespace {

std::string name(const SimNode& node) { return to_string(node.id()); }
std::string name(LogIndex index) { return "entry " + std::to_string(index.value); }

bool is_change(MessageType type) {
  bool found = false;
  ChangeRequests::for_each([&]<class Req>() { found = found || type == Req::kType; });
  return found;
}

}  // namespace

// -- elections --------------------------------------------------------------------------------------------------------

void LeaderChecker::look(const SimNode& node, const ControlPlane& control) {
  if (!control.log().leading()) return;
  const std::pair who{node.id(), node.lives()};
  const auto [found, is_new] = leaders_.emplace(control.log().epoch(), who);
  if (!is_new && found->second != who)
    violation_("two leaders in epoch " + to_string(control.log().epoch()) + ": " + to_string(found->second.first) + " and " +
               name(node));
}

// -- the log on disk --------------------------------------------------------------------------------------------------

void LogChecker::hard_state_changes(NodeId node, std::uint64_t /*log_id*/, const HardState& from, const HardState& to) {
  if (to.epoch < from.epoch)
    violation_(to_string(node) + " goes back from epoch " + to_string(from.epoch) + " to " + to_string(to.epoch));
  if (to.epoch == from.epoch && from.voted_for && to.voted_for != from.voted_for)
    violation_(to_string(node) + " changes its vote in epoch " + to_string(to.epoch) + " from " + to_string(from.voted_for) +
               " to " + to_string(to.voted_for));
}

void LogChecker::entries_go(NodeId node, std::uint64_t log_id, LogIndex from, LogIndex to) {
  const auto seen = seen_.find(node);
  if (seen != seen_.end() && seen->second.log_id == log_id && from <= seen->second.committed)
    violation_(to_string(node) + " drops " + name(from) + " to " + std::to_string(to.value) + ", committed up to " +
               std::to_string(seen->second.committed.value));
}

void LogChecker::remember(const SimNode& node, LogIndex index, const LogEntry& entry) {
  const Hash128 hash = hash128(entry.command);
  const auto [found, is_new] = committed_.try_emplace(index, Committed{entry.epoch, hash, {}});
  if (!is_new) {
    if (found->second.epoch != entry.epoch || found->second.command != hash)
      violation_(name(index) + " was committed under epoch " + to_string(found->second.epoch) + ", and on " + name(node) +
                 " another under epoch " + to_string(entry.epoch));
    return;
  }
  if (kind_of_entry(entry.command) != EntryKind::command) return;
  const ByteView bytes(entry.command.data(), entry.command.size() - 1);  // without the mark of the log
  if (const auto command = decode_command(bytes); command && command->header.request) {
    found->second.request = command->header.request;
    requests_.insert(command->header.request);
  }
}

void LogChecker::look(const SimNode& node, const ControlPlane& control) {
  const FakeDisk& disk = node.disk();
  Seen& seen = seen_[node.id()];
  if (seen.log_id != disk.log_id()) seen = Seen{disk.log_id(), node.lives(), {}, {}, {}};
  const ReplicatedLog& log = control.log();
  const LogIndex committed = log.committed_index();
  if (seen.life != node.lives()) seen.committed_in_life = {};
  if (committed < seen.committed_in_life)
    violation_(name(node) + " takes back that " + name(seen.committed_in_life) + " is committed");
  seen.committed_in_life = committed;
  seen.life = node.lives();
  std::vector<LogMember> members = log.members();
  if (committed > seen.committed) {
    if (committed > disk.last_index())
      violation_(name(node) + " calls " + name(committed) + " committed, which it does not hold");
    for (LogIndex index{seen.committed.value + 1}; index <= committed; ++index.value) {
      const bool first = !committed_.contains(index);
      const LogEntry* entry = disk.entry(index);
      if (entry == nullptr) continue;  // it came with a snapshot
      remember(node, index, *entry);
      if (first && index == committed) check_majority(node, index, seen.members, members);
    }
    seen.committed = committed;
  }
  seen.members = std::move(members);
}

bool LogChecker::on_majority(LogIndex index, const std::vector<LogMember>& members) const {
  const auto known = committed_.find(index);
  std::size_t voters = 0;
  std::size_t holders = 0;
  for (const LogMember& member : members) {
    if (!member.voter) continue;
    ++voters;
    const FakeDisk& disk = nodes_[member.node.value - 1]->disk();
    if (disk.log_id() != member.log_id) {
      // Wiped since: whether it held the entry nobody can tell any more.
      ++holders;
      continue;
    }
    const LogEntry* entry = disk.entry(index);
    const bool in_snapshot = index < disk.first_index();
    if (in_snapshot ||
        (entry != nullptr && entry->epoch == known->second.epoch && hash128(entry->command) == known->second.command))
      ++holders;
  }
  return voters > 0 && 2 * holders > voters;
}

void LogChecker::check_majority(const SimNode& node, LogIndex index, const std::vector<LogMember>& before,
                                const std::vector<LogMember>& now) {
  if (!on_majority(index, now) && !on_majority(index, before))
    violation_(name(node) + " calls " + name(index) + " committed, which is not on the disks of a majority");
}

void StateChecker::look(const SimNode& node, const ControlPlane& control) {
  const LogIndex applied = control.state().applied_index();
  const Hash128 hash = hash128(control.state().encode_snapshot());
  const auto [found, is_new] = hashes_.emplace(applied, std::pair(hash, node.id()));
  if (!is_new && found->second.first != hash)
    violation_(name(node) + " and " + to_string(found->second.second) + " have applied up to " + name(applied) + " and differ");
}

void AnswerChecker::answered(const SimNode& node, const Envelope& question, MessageType type) {
  if (!is_change(question.header.type) || type == MessageType::error_reply) return;
  ++acknowledged_;
  if (!log_.has_request(question.header.request))
    violation_(name(node) + " acknowledges " + message_name(question.header.type) + ", which is not committed");
}

// -- at the end -------------------------------------------------------------------------------------------------------

std::string JobChecker::lacks(const ClusterState& state, const Truth& truth) {
  std::map<std::string, const Job*> found;
  for (const auto& [id, job] : state.jobs()) {
    if (!found.emplace(job.spec.name, &job).second) return "job " + job.spec.name + " was submitted once and is there twice";
    if (!truth.jobs.contains(job.spec.name)) return "there is a job " + job.spec.name + " that nobody submitted";
  }
  for (const auto& [job_name, plan] : truth.jobs) {
    const auto at = found.find(job_name);
    if (at == found.end()) {
      if (plan.acknowledged) return "job " + job_name + " was acknowledged and is not there";
      continue;
    }
    const Job& job = *at->second;
    if (plan.acknowledged && job.id != *plan.acknowledged) return "job " + job_name + " has another number than was acknowledged";
    if (job.state != JobState::done)
      return "job " + job_name + " (" + to_string(job.id) + ") is not done: " + std::to_string(job.batches_done) + " of " +
             std::to_string(job.batches) + " batches, state " + std::to_string(static_cast<int>(job.state)) + " " + job.reason;
    if (job.batches_done != plan.batches() || job.queries_done != plan.queries)
      return "job " + job_name + " is done with " + std::to_string(job.batches_done) + " batches and " +
             std::to_string(job.queries_done) + " queries, expected " + std::to_string(plan.batches()) + " and " +
             std::to_string(plan.queries);
    if (job.latency.count() != plan.queries)
      return "job " + job_name + " counts " + std::to_string(job.latency.count()) + " queries answered, expected " +
             std::to_string(plan.queries);
    if (job.conflicting_commits != 0) return "job " + job_name + " had commits that contradict each other";
    for (BatchIndex batch = 0; batch < plan.batches(); ++batch) {
      if (job.digests[batch] != plan.digest_of(batch))
        return "job " + job_name + ": batch " + std::to_string(batch) + " has another result than an undisturbed run";
    }
    if (job.digest != plan.digest()) return "job " + job_name + " has another digest than an undisturbed run";
    if (job.errors != plan.poison.size())
      return "job " + job_name + " has " + std::to_string(job.errors) + " error rows, expected " +
             std::to_string(plan.poison.size());
  }
  return {};
}

namespace {

/// Good copies of a block on disks; `running` ones only, or all.
std::vector<NodeId> good_copies(const BlockRef& block, const Nodes& nodes, bool running) {
  std::vector<NodeId> holders;
  for (const auto& node : nodes) {
    if (running && !node->up()) continue;
    const StoredBlock* copy = node->disk().block(block.id);
    if (copy != nullptr && !copy->damaged && copy->hash == block.hash) holders.push_back(node->id());
  }
  return holders;
}

std::string names_of(const std::vector<NodeId>& nodes) {
  std::string text;
  for (const NodeId node : nodes) text += (text.empty() ? "" : " ") + to_string(node);
  return text.empty() ? "nowhere" : text;
}

template <class Visit>
std::string each_block(const ClusterState& state, Visit&& visit) {
  FsListRequest request{"/", true, false, true, "", kListPageMax};
  while (true) {
    const auto page = state.files().list(request);
    if (!page) return {};  // an empty namespace
    for (const FileVersion& listed : page->files) {
      const FileVersion* file = state.files().find(listed.path, listed.version);
      if (file == nullptr) return listed.path + " is listed and not there";
      for (const BlockRef& block : file->blocks) {
        if (block.id == BlockId{}) continue;
        if (std::string wrong = visit(*file, block); !wrong.empty()) return wrong;
      }
    }
    if (page->next.empty()) return {};
    request.after = page->next;
  }
}

}  // namespace

std::string FileChecker::lacks(const ClusterState& state, const Truth& truth, const Nodes& nodes) {
  for (const auto& [path, file] : truth.files) {
    if (file.changing) continue;
    const FileVersion* found = state.files().find(path);
    if (file.removed) {
      if (found != nullptr) return path + " was removed and is there";
      continue;
    }
    if (file.versions.empty()) continue;
    if (found == nullptr) return path + " was acknowledged and is not there";
    if (found->version != file.versions.size() || found->blocks.size() != file.versions.back().size())
      return path + " is not as it was acknowledged";
    for (std::size_t i = 0; i < found->blocks.size(); ++i) {
      if (found->blocks[i].hash != file.versions.back()[i]) return path + " has another content than was acknowledged";
    }
  }
  std::size_t running = 0;
  for (const auto& node : nodes) running += node->up() ? 1U : 0U;
  const std::size_t wanted = std::min<std::size_t>(running, kReplicasMax);
  return each_block(state, [&](const FileVersion& file, const BlockRef& block) -> std::string {
    const std::vector<NodeId> good = good_copies(block, nodes, true);
    const std::string what = "block " + to_string(block.id) + " of " + file.path + " version " + std::to_string(file.version);
    if (good.size() < wanted)
      return what + " has " + std::to_string(good.size()) + " good copies (" + names_of(good) + "), wanted " +
             std::to_string(wanted) + "; listed: " + names_of(block.replicas);
    for (const NodeId replica : block.replicas) {
      if (nodes[replica.value - 1]->up() && std::find(good.begin(), good.end(), replica) == good.end())
        return what + " is said to be on " + to_string(replica) + " and is not";
    }
    // A dead holder stays on the list while there are enough live ones: when it returns, one of them is surplus.
    const auto listed = std::count_if(block.replicas.begin(), block.replicas.end(),
                                      [&](NodeId replica) { return nodes[replica.value - 1]->up(); });
    if (static_cast<std::size_t>(listed) > wanted) return what + " has " + std::to_string(listed) + " live replicas";
    return {};
  });
}

std::string FileChecker::lost(const ClusterState& state, const Nodes& nodes) {
  return each_block(state, [&](const FileVersion& file, const BlockRef& block) -> std::string {
    if (!good_copies(block, nodes, false).empty()) return {};
    return "block " + to_string(block.id) + " of " + file.path + " has no good copy on any disk";
  });
}

std::string MemberChecker::lacks(const Nodes& nodes) {
  for (const auto& observer : nodes) {
    if (!observer->up()) continue;
    for (const auto& node : nodes) {
      const NodeState state = observer->process()->swim().state_of(node->id());
      const bool right = node->up() ? state == NodeState::alive : state == NodeState::dead;
      if (!right)
        return name(*observer) + " holds " + name(*node) + ", which is " + (node->up() ? "up" : "down") + ", for state " +
               std::to_string(static_cast<int>(state));
    }
  }
  const SimNode* coordinator = OfficeChecker::coordinator(nodes);
  if (coordinator == nullptr) return "there is no coordinator";
  for (const NodeReport& report : coordinator->process()->control()->node_reports(coordinator->local_now())) {
    const bool up = nodes[report.id.value - 1]->up();
    if ((report.state == NodeState::alive) != up)
      return "the coordinator holds " + to_string(report.id) + " for state " + std::to_string(static_cast<int>(report.state));
  }
  return {};
}

const SimNode* OfficeChecker::coordinator(const Nodes& nodes) {
  const SimNode* found = nullptr;
  for (const auto& node : nodes) {
    if (!node->up() || node->paused() || node->process()->control() == nullptr || !node->process()->control()->serving())
      continue;
    if (found == nullptr || node->process()->control()->epoch() > found->process()->control()->epoch()) found = node.get();
  }
  return found;
}

std::string OfficeChecker::lacks(const Nodes& nodes) {
  const SimNode* leader = coordinator(nodes);
  if (leader == nullptr) return "there is no coordinator";
  const ReplicatedLog& log = leader->process()->control()->log();
  const std::size_t keepers = std::min<std::size_t>(nodes.size(), 9);
  std::size_t wanted = std::min<std::size_t>(keepers, 7);
  if (wanted % 2 == 0) --wanted;
  std::size_t voters = 0;
  std::size_t members = 0;
  for (const LogMember& member : log.members()) {
    ++members;
    voters += member.voter ? 1U : 0U;
    if (nodes[member.node.value - 1]->disk().log_id() != member.log_id)
      return to_string(member.node) + " was wiped and is still a member as it was";
  }
  if (voters != wanted || members != keepers)
    return std::to_string(voters) + " voters and " + std::to_string(members) + " members, expected " + std::to_string(wanted) +
           " and " + std::to_string(keepers);
  const LogIndex applied = leader->process()->control()->state().applied_index();
  for (const auto& node : nodes) {
    if (!node->up()) continue;
    const NodeProcess& process = *node->process();
    if (!process.agent().in_session() || process.agent().coordinator() != leader->id()) return name(*node) + " has no session";
    if (process.control() != nullptr && process.control()->state().applied_index().value + 64 < applied.value)
      return name(*node) + " is behind with the log";
  }
  return {};
}

}  // namespace idunno::sim

// Copies of blocks: what the repair planner wants done, what nodes say they hold, copies that nobody needs any more.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

RepairView Coordinator::Impl::repair_view() const {
  RepairView view;
  view.targets = placement();
  for (const auto& [id, node] : nodes_) {
    // A node that was there under the last coordinator, and of which nothing is heard yet, counts until its time is over.
    const bool expected = node.expected_until != kNever;
    if (node.state == NodeState::alive || node.state == NodeState::suspect || expected) view.live.insert(id);
    view.computing = view.computing || scheduler_.leased_at(id) > 0;
  }
  return view;
}

void Coordinator::Impl::obey(RepairOutput&& plan, Time now, CoordinatorOutput& out) const {
  for (const auto& [target, task] : plan.tasks) {
    // A node without a session keeps its surplus copies; its next inventory finds them.
    if (nodes_.at(target).session) out.pushes.emplace_back(target, make_answer(task));
  }
  if (plan.moves.empty()) return;
  out.propose.push_back(encode_command(wall_at(now), RequestId{}, with_stores(std::move(plan.moves))));
}

MoveReplicas Coordinator::Impl::with_stores(std::vector<ReplicaMove> moves) const {
  MoveReplicas command{std::move(moves), {}};
  std::set<NodeId> added;
  for (const ReplicaMove& move : command.moves) {
    for (const NodeId node : move.replicas) {
      if (std::find(move.seen.begin(), move.seen.end(), node) == move.seen.end()) added.insert(node);
    }
  }
  for (const NodeId node : added) {
    if (const auto known = state_.nodes().find(node); known != state_.nodes().end())
      command.stores.push_back(AddedStore{node, known->second.store_id});
  }
  return command;
}

void Coordinator::Impl::repair_step(Time now, CoordinatorOutput& out) {
  if (!repair_ || now < repair_->wake_at()) return;
  RepairOutput plan;
  repair_->step(state_.files(), repair_view(), now, plan);
  obey(std::move(plan), now, out);
}

void Coordinator::Impl::replica_report(const RequestInfo& info, const ReplicaReport& report, Time now, CoordinatorOutput& out) {
  NodeEntry* node = sender(info, out);
  if (node == nullptr) return;
  answer(info, ReplicaReportReply{}, out);
  if (!repair_) return;
  RepairOutput plan;
  const std::size_t copied = repair_->report(node->member.id, report, state_.files(), repair_view(), now, plan);
  if (copied > 0) {
    event(out, "block_repaired", JobId{}, -1, std::to_string(copied) + " blocks copied to " + to_string(node->member.id));
  }
  obey(std::move(plan), now, out);
  repair_step(now, out);
}

/// A copy counts as lost when two inventories in a row lack it: one alone may have been read before the block arrived.
void Coordinator::Impl::inventory(const RequestInfo& info, const Inventory& page, Time now, CoordinatorOutput& out) {
  if (!speaks_for(info, page.node, out)) return;
  if (page.blocks.size() > kBlocksPerRequestMax * 16 || page.to < page.from) {
    return refuse(info, Error{Errc::invalid, "inventory of " + to_string(page.node) + ": too many blocks or an empty range"},
                  out);
  }
  InventoryReply reply;
  // The metadata of what was written during the takeover may still be on its way to this coordinator.
  if (now >= began_ + kOrphanReign) {
    for (const BlockId block : page.blocks) {
      if (!state_.files().refers_to(block)) reply.unknown.push_back(block);
    }
  }
  answer(info, reply, out);

  NodeEntry& node = nodes_.at(page.node);
  const std::set<BlockId> there(page.blocks.begin(), page.blocks.end());
  std::vector<BlockId> lost;
  std::set<BlockId> missing;
  for (const BlockId block : state_.files().held_by(page.node, page.from, page.to)) {
    if (there.contains(block)) continue;
    if (node.missing.contains(block))
      lost.push_back(block);
    else
      missing.insert(block);
  }
  node.missing.erase(node.missing.upper_bound(page.from), node.missing.upper_bound(page.to));
  for (const BlockId block : missing) {
    if (node.missing.size() < kMissingPerNodeMax) node.missing.insert(block);
  }
  forget(page.node, lost, "is not in its store any more", now, out);
}

/// Those of `blocks` that are to be forgotten at `node`; an alarm for those that nobody else holds, which are kept. Where it is
/// not listed, a move that adds it may be on its way to the log, and the order there decides.
std::vector<BlockId> Coordinator::Impl::forgettable(NodeId node, const std::vector<BlockId>& blocks, const char* why,
                                                    CoordinatorOutput& out) {
  std::vector<BlockId> last;
  std::vector<BlockId> others;
  for (const BlockId id : blocks) {
    const BlockRef* block = state_.files().block(id);
    if (block != nullptr) (block->replicas == std::vector<NodeId>{node} ? last : others).push_back(id);
  }
  for (const BlockId id : last) {
    alarm(out, JobId{}, -1, "block " + to_string(id) + ": its last known copy, at " + to_string(node) + ", " + why);
  }
  return others;
}

void Coordinator::Impl::forget(NodeId node, const std::vector<BlockId>& blocks, const char* why, Time now,
                               CoordinatorOutput& out) {
  const std::vector<BlockId> others = forgettable(node, blocks, why, out);
  for (std::size_t first = 0; first < others.size(); first += kBlocksPerRequestMax) {
    const auto begin = others.begin() + static_cast<std::ptrdiff_t>(first);
    const auto end = others.begin() + static_cast<std::ptrdiff_t>(std::min(first + kBlocksPerRequestMax, others.size()));
    propose(ForgetBlocks{node, std::vector<BlockId>(begin, end)}, now, out);
  }
}

/// Answered when the log says so: the node tells it again to the next coordinator otherwise, for no inventory would find it soon.
void Coordinator::Impl::damaged_blocks(const RequestInfo& info, const DamagedBlocks& report, CoordinatorOutput& out) {
  if (!speaks_for(info, report.node, out)) return;
  if (report.blocks.size() > kBlocksPerRequestMax) {
    return refuse(
        info,
        Error{Errc::invalid, "damaged blocks of " + to_string(report.node) + ": " + std::to_string(report.blocks.size()) +
                                 " in one report, " + std::to_string(kBlocksPerRequestMax) + " are possible"},
        out);
  }
  if (handled_before(info, out)) return;
  for (const BlockId block : report.blocks) {
    event(out, "block_damaged", JobId{}, -1, "block " + to_string(block) + " at " + to_string(report.node));
  }
  const std::vector<BlockId> forgotten = forgettable(report.node, report.blocks, "is damaged", out);
  if (forgotten.empty()) return answer(info, DamagedBlocksReply{}, out);
  propose_request(info, ForgetBlocks{report.node, forgotten}, out);
}

/// Copies at nodes that are gone are found by their inventory when they return.
void Coordinator::Impl::drop_freed(const std::vector<BlockRef>& freed, CoordinatorOutput& out) {
  if (!repair_) return;
  std::map<NodeId, ReplicaTask> tasks;
  const auto send = [&](NodeId node, ReplicaTask& task) {
    task.task = repair_->next_task();
    out.pushes.emplace_back(node, make_answer(task));
    task.drop.clear();
  };
  for (const BlockRef& block : freed) {
    for (const NodeId id : block.replicas) {
      const auto node = nodes_.find(id);
      if (node == nodes_.end() || !node->second.session) continue;
      ReplicaTask& task = tasks[id];
      task.drop.push_back(block.id);
      if (task.drop.size() >= kBlocksPerRequestMax) send(id, task);
    }
  }
  for (auto& [id, task] : tasks) {
    if (!task.drop.empty()) send(id, task);
  }
}

void Coordinator::handle(const RequestInfo& info, const ReplicaReport& report, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->replica_report(info, report, now, out);
}

void Coordinator::handle(const RequestInfo& info, const Inventory& page, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->inventory(info, page, now, out);
}

void Coordinator::handle(const RequestInfo& info, const DamagedBlocks& report, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->damaged_blocks(info, report, out);
}

}  // namespace idunno

#include "nodes/jobs/repair.h"

#include <algorithm>

#include "storage/sdfs/placement.h"

namespace idunno {

namespace {

bool contains(const std::vector<NodeId>& nodes, NodeId node) {
  return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

std::size_t live_copies(const BlockRef& block, const RepairView& view) {
  return static_cast<std::size_t>(
      std::count_if(block.replicas.begin(), block.replicas.end(), [&](NodeId node) { return view.live.contains(node); }));
}

ReplicaMove move_of(const BlockPlace& place, const std::vector<NodeId>& seen, std::vector<NodeId> replicas) {
  return ReplicaMove{place.path, place.version, place.index, place.block.id, std::move(replicas), seen};
}

}  // namespace

RepairPlanner::RepairPlanner(RepairConfig config, Time now) : config_(config), tokens_(kResultBlockBytesMax), refilled_(now) {}

std::uint32_t RepairPlanner::wanted(const RepairView& view) const {
  return std::min(config_.replication, static_cast<std::uint32_t>(view.live.size()));
}

const BlockRef* RepairPlanner::present(const Namespace& files, const BlockPlace& place) {
  const FileVersion* file = files.find(place.path, place.version);
  if (file == nullptr || place.index >= file->blocks.size()) return nullptr;
  const BlockRef& block = file->blocks[place.index];
  return block.id == place.block.id ? &block : nullptr;
}

// ---- bounds -----------------------------------------------------------------------------------------------------------

void RepairPlanner::refill(Time now) {
  if (now <= refilled_) return;
  // More than a second at once would be a burst anyway.
  const auto elapsed_us = std::min<std::uint64_t>(static_cast<std::uint64_t>((now - refilled_).count()), 1'000'000);
  const std::uint64_t gained = config_.bytes_per_s * elapsed_us / 1'000'000;
  if (gained == 0) return;
  tokens_ = std::min(burst(), tokens_ + gained);
  refilled_ = now;
}

std::uint64_t RepairPlanner::burst() const { return std::max<std::uint64_t>(config_.bytes_per_s / 4, kResultBlockBytesMax); }

std::uint64_t RepairPlanner::cost_of(const BlockRef& block, const RepairView& view) const {
  const bool can_wait = view.computing && live_copies(block, view) >= kSafeCopies;
  return std::min(block.length * (can_wait ? kGentleRepairCost : 1), burst());
}

void RepairPlanner::expire(Time now) {
  void_tasks([&](const Task& task) {
    if (task.give_up > now) return false;
    avoid_[task.target] = now + kRepairAvoid;
    return true;
  });
  for (auto move = settling_.begin(); move != settling_.end();) {
    if (move->second > now) {
      ++move;
      continue;
    }
    busy_.erase(move->first);
    drops_.erase(move->first);
    move = settling_.erase(move);
    dirty_ = true;
  }
  std::erase_if(avoid_, [&](const auto& entry) { return entry.second <= now; });
}

Time RepairPlanner::wake_at() const {
  Time at = retry_at_;
  if (urgent_) return Time{};
  if (dirty_) at = std::min(at, scan_from_);
  for (const auto& [id, task] : tasks_) at = std::min(at, task.give_up);  // at most blocks_in_flight
  if (tokens_wanted_ > tokens_ && config_.bytes_per_s > 0) {
    const std::uint64_t wait_us = (tokens_wanted_ - tokens_) * 1'000'000 / config_.bytes_per_s + 1;
    at = std::min(at, refilled_ + Duration(static_cast<Duration::rep>(wait_us)));
  }
  return at;
}

// ---- planning ---------------------------------------------------------------------------------------------------------

template <class Which>
void RepairPlanner::void_tasks(Which&& which) {
  for (auto task = tasks_.begin(); task != tasks_.end();) {
    if (!which(task->second)) {
      ++task;
      continue;
    }
    for (const BlockPlace& place : task->second.places) busy_.erase(place.block.id);
    copying_ -= task->second.places.size();
    task = tasks_.erase(task);
    urgent_ = true;
  }
}

void RepairPlanner::membership_changed(const RepairView& view) {
  urgent_ = true;
  void_tasks([&](const Task& task) { return !view.live.contains(task.target); });
}

void RepairPlanner::forget_tasks(NodeId target) {
  void_tasks([&](const Task& task) { return task.target == target; });
}

void RepairPlanner::step(const Namespace& files, const RepairView& view, Time now, RepairOutput& out) {
  refill(now);
  expire(now);
  const bool tokens_came = tokens_wanted_ > 0 && tokens_ >= tokens_wanted_;
  const bool due = urgent_ || (dirty_ && now >= scan_from_) || now >= retry_at_;
  if (!due && !tokens_came) return;
  scan(files, view, now, out);
}

void RepairPlanner::scan(const Namespace& files, const RepairView& view, Time now, RepairOutput& out) {
  dirty_ = false;
  urgent_ = false;
  scan_from_ = now + kRepairScanPause;
  retry_at_ = kNever;
  tokens_wanted_ = 0;
  const std::size_t limit = std::size_t{config_.blocks_in_flight} * 2 + busy_.size();
  const std::vector<BlockPlace> places = files.misplaced(view.live, config_.replication, limit, under_replicated_);
  std::map<NodeId, std::vector<BlockPlace>> copies;
  for (const BlockPlace& place : places) {
    if (busy_.contains(place.block.id)) continue;
    const std::size_t live = live_copies(place.block, view);
    if (live == 0) continue;  // nobody can give a copy; when a holder returns, the membership changes
    if (live > wanted(view)) {
      plan_surplus(place, view, now, out);
    } else if (live < wanted(view) && !plan_copy(place, view, now, copies)) {
      break;  // at a bound
    }
  }
  for (auto& [target, blocks] : copies) {
    for (std::size_t first = 0; first < blocks.size(); first += kRepairBlocksPerTask) {
      const std::size_t last = std::min(first + kRepairBlocksPerTask, blocks.size());
      ReplicaTask task;
      task.task = next_task();
      Task kept{target, {}, now + kRepairTaskTimeout};
      for (std::size_t i = first; i < last; ++i) {
        task.pull.push_back(blocks[i].block);
        kept.places.push_back(blocks[i]);
      }
      tasks_.emplace(task.task, std::move(kept));
      out.tasks.emplace_back(target, std::move(task));
    }
  }
  // What a report, a move or a membership change does not bring about is tried again after a while.
  if (!places.empty() || under_replicated_ > 0) retry_at_ = now + kRepairRetry;
}

/// False when a bound is reached; true also when there is no node for it at the moment.
bool RepairPlanner::plan_copy(const BlockPlace& place, const RepairView& view, Time now,
                              std::map<NodeId, std::vector<BlockPlace>>& copies) {
  if (copying_ >= config_.blocks_in_flight) return false;
  for (const NodeId target : placement_order(place.block.id, view.targets)) {
    if (contains(place.block.replicas, target)) continue;
    if (const auto avoided = avoid_.find(target); avoided != avoid_.end() && avoided->second > now) continue;
    const std::uint64_t cost = cost_of(place.block, view);
    if (tokens_ < cost) {
      tokens_wanted_ = cost;
      return false;
    }
    tokens_ -= cost;
    ++copying_;
    busy_.insert(place.block.id);
    copies[target].push_back(place);
    return true;
  }
  return true;
}

/// Takes one copy of a block that has too many off the list, that of the live holder which the block prefers least.
void RepairPlanner::plan_surplus(const BlockPlace& place, const RepairView& view, Time now, RepairOutput& out) {
  if (settling_.size() >= kBlocksPerRequestMax) return;
  const std::vector<NodeId> order = placement_order(place.block.id, view.targets);
  NodeId loser;
  std::size_t worst = 0;
  for (const NodeId node : place.block.replicas) {
    if (std::none_of(view.targets.begin(), view.targets.end(), [&](const PlacementNode& target) { return target.id == node; }))
      continue;
    const auto rank = static_cast<std::size_t>(std::find(order.begin(), order.end(), node) - order.begin()) + 1;
    if (rank > worst) {
      worst = rank;
      loser = node;
    }
  }
  if (!loser) return;
  std::vector<NodeId> kept;
  for (const NodeId node : place.block.replicas) {
    if (node != loser) kept.push_back(node);
  }
  busy_.insert(place.block.id);
  settling_[place.block.id] = now + kRepairSettle;
  drops_[place.block.id] = Drop{loser, now + kRepairSettle};
  out.moves.push_back(move_of(place, place.block.replicas, std::move(kept)));
}

/// The new list: the target is added; dead holders go when there are enough live ones, or when the list would be too long.
ReplicaMove RepairPlanner::move_to(const BlockPlace& place, const BlockRef& block, NodeId target, const RepairView& view) const {
  std::vector<NodeId> live;
  std::vector<NodeId> dead;
  for (const NodeId node : block.replicas) (view.live.contains(node) ? live : dead).push_back(node);
  if (!contains(live, target)) live.push_back(target);
  if (live.size() < wanted(view)) {
    for (const NodeId node : dead) {
      if (live.size() < kReplicasListedMax) live.push_back(node);
    }
  }
  if (live.size() > kReplicasListedMax) live.resize(kReplicasListedMax);
  return move_of(place, block.replicas, std::move(live));
}

// ---- what came of it --------------------------------------------------------------------------------------------------

std::size_t RepairPlanner::report(NodeId from, const ReplicaReport& report, const Namespace& files, const RepairView& view,
                                  Time now, RepairOutput& out) {
  const auto found = tasks_.find(report.task);
  if (found == tasks_.end() || found->second.target != from) return 0;
  const Task task = std::move(found->second);
  tasks_.erase(found);
  copying_ -= task.places.size();
  std::size_t copied = 0;
  bool failed = false;
  for (std::size_t i = 0; i < task.places.size(); ++i) {
    const BlockPlace& place = task.places[i];
    const BlockRef* block = present(files, place);
    const bool ok = i < report.pulled.size() && report.pulled[i] == BlockStatus::ok;
    failed = failed || !ok;
    if (!ok || block == nullptr) {
      busy_.erase(place.block.id);
      continue;
    }
    ++copied;
    settling_[place.block.id] = now + kRepairSettle;
    out.moves.push_back(move_to(place, *block, from, view));
  }
  if (failed) avoid_[from] = now + kRepairAvoid;
  urgent_ = true;
  return copied;
}

void RepairPlanner::moved(const std::vector<ReplicaMove>& moves, const Namespace& files, RepairOutput& out) {
  std::map<NodeId, std::vector<BlockId>> drops;
  for (const ReplicaMove& move : moves) {
    if (settling_.erase(move.id) > 0) busy_.erase(move.id);
    const auto drop = drops_.find(move.id);
    if (drop == drops_.end()) continue;
    const BlockRef* block = present(files, BlockPlace{move.path, move.version, move.block_index, BlockRef{move.id, 0, {}, {}}});
    if (block != nullptr && !contains(block->replicas, drop->second.node)) drops[drop->second.node].push_back(move.id);
    drops_.erase(drop);
  }
  for (auto& [node, blocks] : drops) {
    ReplicaTask task;
    task.task = next_task();
    task.drop = std::move(blocks);
    out.tasks.emplace_back(node, std::move(task));
  }
  urgent_ = true;
}

}  // namespace idunno

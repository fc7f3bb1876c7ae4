// Nodes: their credit, and what they say they hold.

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {

constexpr std::uint32_t kRefillPart = 16;  // a node is filled up when this part of its credit is free

std::uint32_t credit_for(std::uint32_t slots, std::uint32_t mean_us, Duration horizon) {
  std::uint64_t per_slot = kCreditPerSlotMin;
  if (mean_us > 0) {
    const auto horizon_us = static_cast<std::uint64_t>(std::max<Duration::rep>(horizon.count(), 0));
    per_slot = std::clamp<std::uint64_t>(1 + (horizon_us + mean_us - 1) / mean_us, kCreditPerSlotMin, kCreditPerSlotMax);
  }
  return static_cast<std::uint32_t>(slots * per_slot);
}

}  // namespace

// ---- nodes ------------------------------------------------------------------------------------------------------------

void Scheduler::add_node(NodeId id, std::uint32_t slots) {
  if (slots == 0) {
    remove_node(id);
    return;
  }
  auto& place = nodes_[id];
  const bool is_new = place == nullptr;
  if (is_new) {
    place = std::make_unique<NodeEntry>();
    place->index = indices_.empty() ? indices_end_++ : indices_.extract(indices_.begin()).value();
    for (auto& [job_id, job] : jobs_) job->shares.resize(indices_end_);
  }
  NodeEntry& node = *place;
  node.id = id;
  node.slots = slots;
  node.open = true;
  set_batch_time(node, node.mean_us);
  for (auto& [job_id, job] : jobs_) refresh_room(*job, node);
  reserve_again_ = true;
  split_between_.clear();
}

std::size_t Scheduler::remove_node(NodeId id) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return 0;
  const std::size_t count = lose_at(id, nullptr);
  if (found->second->listed) free_.erase(found->second->key);
  if (found->second->spare) spare_.erase(found->second->key);
  for (auto& [job_id, job] : jobs_) job->shares[found->second->index] = {};
  indices_.insert(found->second->index);
  nodes_.erase(found);
  choice_.erase(id);
  reserve_again_ = true;
  split_between_.clear();
  return count;
}

void Scheduler::set_open(NodeId id, bool open) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end()) return;
  found->second->open = open;
  reserve_again_ = true;
  split_between_.clear();
  refresh_free(*found->second);
}

void Scheduler::batch_time(NodeId id, std::uint32_t mean_us) {
  const auto found = nodes_.find(id);
  if (found == nodes_.end() || mean_us == 0) return;
  found->second->measured = true;
  set_batch_time(*found->second, mean_us);
}

void Scheduler::set_batch_time(NodeEntry& node, std::uint32_t mean_us) {
  node.mean_us = mean_us;
  const bool ordered = nodes_.size() <= kOrderNodesMax;
  node.credit =
      credit_for(node.slots, mean_us, ordered ? config_.lease_horizon : std::min(config_.lease_horizon, kUnorderedHorizonMax));
  refresh_free(node);
}

void Scheduler::refresh_free(NodeEntry& node) {
  if (node.listed) free_.erase(node.key);
  if (node.spare) spare_.erase(node.key);
  if (node.leased >= node.credit) {
    node.refilling = false;
  } else if (node.credit - node.leased >= std::max(node.credit / kRefillPart, 1U)) {
    node.refilling = true;
  }
  const std::int64_t free_per_mille = (std::int64_t{node.credit} - node.leased) * 1000 / node.slots;
  node.key = FreeKey{-free_per_mille, node.turn, node.id};
  node.listed = node.open && node.refilling;
  node.spare = node.open && node.redo < node.slots * kRedoLeasesPerSlot;
  if (node.listed) free_.insert(node.key);
  if (node.spare) spare_.insert(node.key);
  may_miss_choice(node.id);
}

void Scheduler::may_miss_choice(NodeId node) {
  if (ordering_) choice_.insert(node);
}

// ---- a node's share ---------------------------------------------------------------------------------------------------

std::uint32_t Scheduler::held_at(const JobEntry& job, const NodeEntry& node) { return job.shares[node.index].held; }

void Scheduler::take_from_node(JobEntry& job, NodeEntry& node) {
  ++node.leased;
  node.turn = ++turn_;
  if (node.last_model != job.spec.model) node.last_model = job.spec.model;
  if (job.shares[node.index].held++ == 0) ++job.holders;
  refresh_room(job, node);
  refresh_free(node);
}

void Scheduler::give_back_to_node(JobEntry& job, NodeId node_id, bool redo) {
  NodeEntry& node = *nodes_.at(node_id);
  std::uint32_t& held = job.shares[node.index].held;
  ASSERT(held > 0);
  if (--held == 0) --job.holders;
  refresh_room(job, node);
  --node.leased;
  if (redo) --node.redo;
  refresh_free(node);
}

// ---- what it says it holds --------------------------------------------------------------------------------------------

bool Scheduler::adopt(NodeId id, const LeaseKey& key, HeldStage stage, Time now) {
  JobEntry* job = find(key.job);
  const auto node = nodes_.find(id);
  if (job == nullptr || node == nodes_.end() || key.batch >= job->batches || job->is_committed(key.batch)) return false;
  if (!job->enabled && stage == HeldStage::waiting) return false;
  if (const auto out = job->out.find(key.batch); out != job->out.end()) {
    for (JobEntry::Holder& holder : out->second.holders) {
      if (holder.node != id || holder.attempt != key.attempt) continue;
      holder.told = now;
      return true;
    }
    return false;
  }
  const auto known = job->trouble.find(key.batch);
  // What this lease was, a trial or the whole, is not known: the isolation goes on with its own.
  if (known != job->trouble.end() && known->second.isolation) return false;
  job->to_redo.erase(key.batch);
  const std::uint32_t queries = job->queries_of(key.batch);
  JobEntry::Out out;
  out.pass = order_.pass(key.job);
  order_.leased(key.job, queries);
  out.holders.push_back({id, key.attempt, charge_node(*job, *node->second, queries), now, true});
  // Computed before this coordinator counted.
  if (stage == HeldStage::finished) order_.shift(key.job, -static_cast<std::int64_t>(order_.cost(key.job, queries)));
  job->out.emplace(key.batch, std::move(out));
  take_from_node(*job, *node->second);
  job->skip_taken();
  refresh_runnable(*job, false);
  return true;
}

std::size_t Scheduler::reconcile(NodeId id, const std::set<LeaseKey>& held) {
  return nodes_.contains(id) ? lose_at(id, &held) : 0;
}

std::size_t Scheduler::redo_gaps() {
  std::size_t gaps = 0;
  for (auto& [id, job] : jobs_) {
    std::uint64_t end = job->out.empty() ? 0 : job->out.rbegin()->first;
    const auto last = std::find(job->committed.rbegin(), job->committed.rend(), true);
    end = std::max(end, job->first + static_cast<std::uint64_t>(job->committed.rend() - last));
    for (std::uint64_t at = job->next; at < std::min(end, job->batches); ++at) {
      const auto batch = static_cast<BatchIndex>(at);
      if (job->is_committed(at) || job->out.contains(batch)) continue;
      gaps += job->to_redo.insert(batch).second ? 1U : 0U;
    }
    job->skip_taken();
    refresh_runnable(*job, false);
  }
  return gaps;
}

/// The leases of a node are lost, but for those that are in `held`.
std::size_t Scheduler::lose_at(NodeId id, const std::set<LeaseKey>* held) {
  std::size_t count = 0;
  for (auto& [job_id, job] : jobs_) {
    if (held_at(*job, *nodes_.at(id)) == 0) continue;
    std::vector<BatchIndex> batches;
    for (const auto& [batch, out] : job->out) {
      const bool lost = std::any_of(out.holders.begin(), out.holders.end(), [&, index = batch](const JobEntry::Holder& holder) {
        return holder.node == id && (held == nullptr || !held->contains(LeaseKey{job->spec.id, index, holder.attempt}));
      });
      if (lost) batches.push_back(batch);
    }
    count += batches.size();
    for (const BatchIndex batch : batches) lose(*job, batch, id, LeaseLoss::node_lost);
    refresh_runnable(*job, false);
  }
  return count;
}

}  // namespace idunno

// The node's blocks as the coordinator must know them: inventory and orphans, copies made on request, damaged copies.

#include <algorithm>

#include "nodes/core/node_agent_impl.h"

namespace idunno {
namespace {

constexpr std::size_t kTasksHeldMax = 4096;    ///< under way; more are left to the coordinator's own time limit
constexpr std::size_t kReportsKeptMax = 4096;  ///< unanswered
constexpr std::size_t kReportsInFlightMax = 16;
constexpr std::size_t kDamagedKeptMax = 65536;  ///< unreported; what is beyond, the inventory finds missing
constexpr Duration kStoreCallTimeout = std::chrono::seconds(5);
constexpr Duration kStoreRetryPause = std::chrono::seconds(1);
constexpr Duration kInventorySoon = std::chrono::seconds(10);  ///< the least time between two
constexpr BlockId kLastBlockId{~0ULL, ~0ULL};

}  // namespace

void NodeAgent::Impl::store_session_began() {
  // Another coordinator numbers its tasks anew: a report of an old one would be taken for one of its own.
  std::erase_if(tasks_, [this](const auto& entry) { return entry.second != session_epoch_; });
  std::erase_if(reports_, [this](const auto& entry) { return entry.second.epoch != session_epoch_; });
  store_retry_at_ = now_;
  restart_inventory();
}

// -- inventory --------------------------------------------------------------------------------------------------------

void NodeAgent::Impl::restart_inventory() {
  if (inventory_ == InventoryStep::listing || inventory_ == InventoryStep::reporting) {
    inventory_anew_ = true;
    return;
  }
  inventory_anew_ = false;
  inventory_from_ = {};
  inventory_ = InventoryStep::wants_page;
}

void NodeAgent::Impl::blocks_listed(const std::vector<HeldBlock>& page, BlockId after, bool more) {
  if (inventory_ != InventoryStep::listing || after != inventory_from_) return;
  if (inventory_anew_ || !in_session_) {
    inventory_ = InventoryStep::wants_page;
    if (std::exchange(inventory_anew_, false)) inventory_from_ = {};
    return;
  }
  Inventory report;
  report.node = config_.self;
  report.from = after;
  report.to = more && !page.empty() ? page.back().id : kLastBlockId;
  report.blocks.reserve(page.size());
  for (const HeldBlock& held : page) report.blocks.push_back(held.id);
  inventory_ = InventoryStep::reporting;
  call(coordinator_, report, kStoreCallTimeout, InventoryCall{page, report.to, more && !page.empty()});
}

void NodeAgent::Impl::inventory_answered(NodeId to, const InventoryCall& sent, const Outcome& outcome) {
  const bool anew = std::exchange(inventory_anew_, false);
  inventory_ = InventoryStep::wants_page;
  if (anew || !outcome.of_this_session) {
    inventory_from_ = {};
    return;
  }
  const auto reply = outcome.error ? Result<InventoryReply>(*outcome.error) : outcome.envelope->body<InventoryReply>();
  if (!reply) {
    // The same page is listed again: it may have changed.
    if (!ends_session_by_leader(to, outcome, "an inventory")) store_retry_at_ = now_ + kStoreRetryPause;
    return;
  }
  delete_orphans(reply->unknown, sent.page);
  if (sent.more) {
    inventory_from_ = sent.to;
    return;
  }
  inventory_ = InventoryStep::idle;
  // What was committed while this node lost its disk, and names it, is noticed by two inventories: soon in a young session.
  inventory_at_ = now_ + std::clamp<Duration>((now_ - session_since_) / 2, kInventorySoon, kInventoryInterval);
}

/// A block is deleted only when nobody can still be about to refer to it. Results that wait in outboxes, here or elsewhere,
/// through a long gap are offered soon after their nodes' hellos: hence the age of the session, too.
void NodeAgent::Impl::delete_orphans(const std::vector<BlockId>& unknown, const std::vector<HeldBlock>& page) {
  if (now_ - session_since_ < std::chrono::milliseconds(kOrphanGraceMs)) return;
  std::map<BlockId, WallMs> stored;
  for (const HeldBlock& held : page) stored[held.id] = held.stored_ms;
  std::set<BlockId> offered;
  for (const auto& [key, result] : results_) offered.insert(result.commit.block.id);
  std::size_t deleted = 0;
  for (const BlockId& id : unknown) {
    const auto found = stored.find(id);
    if (found == stored.end() || found->second + kOrphanGraceMs >= wall_ || offered.contains(id)) continue;
    out_.delete_blocks.push_back(id);
    ++deleted;
  }
  if (deleted != 0) tell("orphans_deleted", {}, -1, std::to_string(deleted) + " blocks that no file refers to");
}

// -- copies on request ------------------------------------------------------------------------------------------------

void NodeAgent::Impl::task_pushed(Epoch epoch, const ReplicaTask& task) {
  if (!task.pull.empty()) {
    if (tasks_.size() >= kTasksHeldMax || !tasks_.emplace(task.task, epoch).second) return;
  }
  out_.tasks.push_back(task);
}

void NodeAgent::Impl::task_done(std::uint64_t task, const std::vector<BlockStatus>& pulled) {
  const auto found = tasks_.extract(task);
  if (found.empty()) return;  // of a coordinator that was replaced
  if (reports_.size() >= kReportsKeptMax) return;
  reports_.emplace(++last_id_, Report{ReplicaReport{task, pulled}, found.mapped(), false});
}

void NodeAgent::Impl::send_reports() {
  std::size_t in_flight = 0;
  for (auto& [id, report] : reports_) {
    if (in_flight++ >= kReportsInFlightMax) return;
    if (report.in_flight || report.epoch != session_epoch_) continue;
    report.in_flight = true;
    call(coordinator_, report.message, kStoreCallTimeout, ReportCall{id});
  }
}

void NodeAgent::Impl::report_answered(NodeId to, std::uint64_t id, const Outcome& outcome) {
  const auto found = reports_.find(id);
  if (found == reports_.end()) return;
  if (!outcome.error) {
    reports_.erase(found);
  } else if (outcome.of_this_session) {
    found->second.in_flight = false;
    if (!ends_session_by_leader(to, outcome, "the report of copied blocks")) store_retry_at_ = now_ + kStoreRetryPause;
  }
}

// -- damaged copies ---------------------------------------------------------------------------------------------------

void NodeAgent::Impl::keep_damaged(const std::vector<BlockId>& blocks) {
  for (const BlockId& block : blocks) {
    if (damaged_.size() < kDamagedKeptMax) damaged_.insert(block);
  }
}

void NodeAgent::Impl::send_damaged() {
  if (damaged_.empty() || damaged_in_flight_) return;
  DamagedBlocks report;
  report.node = config_.self;
  for (const BlockId& block : damaged_) {
    if (report.blocks.size() == kBlocksPerRequestMax) break;
    report.blocks.push_back(block);
  }
  damaged_in_flight_ = true;
  call(coordinator_, report, kStoreCallTimeout, DamagedCall{report.blocks}, RequestId{client_, ++last_id_});
}

void NodeAgent::Impl::damaged_answered(NodeId to, const DamagedCall& sent, const Outcome& outcome) {
  if (!outcome.error) {
    for (const BlockId& block : sent.blocks) damaged_.erase(block);
  }
  if (!outcome.of_this_session) return;
  damaged_in_flight_ = false;
  if (outcome.error && !ends_session_by_leader(to, outcome, "the report of damaged blocks"))
    store_retry_at_ = now_ + kStoreRetryPause;
}

}  // namespace idunno

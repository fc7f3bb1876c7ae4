#include "nodes/jobs/stride_order.h"

#include <algorithm>

#include "bus/base/assert.h"

namespace idunno {

namespace {
__extension__ using Wide = unsigned __int128;

std::uint64_t scaled(std::uint64_t queries, std::uint32_t weight_milli) {
  constexpr std::uint64_t kWholeCost = kPassPerQuery * 1000U;
  if (queries <= UINT64_MAX / kWholeCost) return queries * kWholeCost / std::max(weight_milli, 1U);  // a division of 128 bits is slow
  return static_cast<std::uint64_t>(static_cast<Wide>(queries) * kWholeCost / std::max(weight_milli, 1U));
}
}  // namespace

std::uint64_t StrideOrder::pass_of(const Entry& entry, std::uint64_t queries) {
  return entry.base + scaled(queries, entry.weight_milli);
}

StrideOrder::Key StrideOrder::key_of(JobId job, const Entry& entry) {
  const std::int64_t down = entry.urgent ? INT64_MIN : -static_cast<std::int64_t>(entry.priority);
  return Key{down, pass_of(entry, entry.served + entry.leased), job};
}

/// What a lease of so many queries counts.
std::uint64_t StrideOrder::amount(std::uint64_t queries) const {
  const bool batches = policy_ == SchedulePolicy::round_robin || policy_ == SchedulePolicy::weighted_round_robin;
  return batches ? 1 : queries;
}

std::uint32_t StrideOrder::counted_weight(std::uint32_t weight_milli) const {
  const bool alike = policy_ == SchedulePolicy::round_robin || policy_ == SchedulePolicy::least_load;
  return alike ? 1000 : weight_milli;
}

template <class Change>
void StrideOrder::update(JobId job, Change change) {
  const auto found = jobs_.find(job);
  ASSERT(found != jobs_.end());
  Entry& entry = found->second;
  if (entry.runnable) order_.erase(key_of(job, entry));
  change(entry);
  if (entry.runnable) order_.insert(key_of(job, entry));
}

/// What the competitors have been *served*, without their leases: those wait at the workers in order of their pass, and a job
/// that arrives shall start before them, not behind them.
std::uint64_t StrideOrder::arrival_pass(JobId job, const Entry& entry) const {
  bool found = false;
  std::uint64_t lowest = 0;
  for (const auto& [id, other] : jobs_) {
    if (id == job || other.priority != entry.priority || other.urgent != entry.urgent || !other.runnable) continue;
    const std::uint64_t pass = pass_of(other, other.served);
    lowest = found ? std::min(lowest, pass) : pass;
    found = true;
  }
  return found ? lowest : floor_;
}

void StrideOrder::restart_at(Entry& entry, std::uint64_t pass) {
  // Leases stay counted: the job has them still.
  entry.served = 0;
  entry.base = pass;
}

void StrideOrder::add(JobId job, std::uint32_t weight_milli, std::int32_t priority, bool urgent) {
  ASSERT(!jobs_.contains(job));
  Entry& entry = jobs_[job];
  entry.weight_milli = counted_weight(weight_milli);
  entry.priority = priority;
  entry.urgent = urgent;
  restart_at(entry, arrival_pass(job, entry));
}

void StrideOrder::remove(JobId job) {
  const auto found = jobs_.find(job);
  if (found == jobs_.end()) return;
  if (found->second.runnable) order_.erase(key_of(job, found->second));
  jobs_.erase(found);
}

void StrideOrder::change(JobId job, std::uint32_t weight_milli, std::int32_t priority) {
  update(job, [&](Entry& entry) {
    restart_at(entry, pass_of(entry, entry.served));
    entry.weight_milli = counted_weight(weight_milli);
    if (entry.priority == priority) return;
    entry.priority = priority;
    restart_at(entry, arrival_pass(job, entry));
  });
}

void StrideOrder::set_runnable(JobId job, bool runnable, bool arrives) {
  if (const auto found = jobs_.find(job); found != jobs_.end() && found->second.runnable == runnable) return;
  update(job, [&](Entry& entry) {
    if (runnable && !entry.runnable && arrives) {
      restart_at(entry, std::max(pass_of(entry, entry.served), arrival_pass(job, entry)));
    }
    entry.runnable = runnable;
  });
}

void StrideOrder::leased(JobId job, std::uint64_t queries) {
  update(job, [&](Entry& entry) {
    floor_ = std::max(floor_, pass_of(entry, entry.served));
    entry.leased += amount(queries);
  });
}

void StrideOrder::lost(JobId job, std::uint64_t queries) {
  update(job, [&](Entry& entry) {
    ASSERT(entry.leased >= amount(queries));
    entry.leased -= amount(queries);
  });
}

void StrideOrder::served(JobId job, std::uint64_t queries) {
  if (policy_ == SchedulePolicy::least_load) return lost(job, queries);
  const auto found = jobs_.find(job);
  ASSERT(found != jobs_.end());
  ASSERT(found->second.leased >= amount(queries));
  found->second.leased -= amount(queries);  // the sum, and so the place in the order, stays
  found->second.served += amount(queries);
}

void StrideOrder::served_unleased(JobId job, std::uint64_t queries) {
  if (policy_ == SchedulePolicy::least_load) return;
  update(job, [&](Entry& entry) { entry.served += amount(queries); });
}

void StrideOrder::shift(JobId job, std::int64_t passes) {
  update(job, [&](Entry& entry) {
    const std::uint64_t down = passes < 0 ? static_cast<std::uint64_t>(-passes) : 0;
    entry.base = passes < 0 ? entry.base - std::min(entry.base, down) : entry.base + static_cast<std::uint64_t>(passes);
  });
}

std::uint64_t StrideOrder::pass(JobId job) const {
  const auto found = jobs_.find(job);
  ASSERT(found != jobs_.end());
  return key_of(job, found->second).pass;
}

std::uint64_t StrideOrder::served_pass(JobId job) const {
  const auto found = jobs_.find(job);
  ASSERT(found != jobs_.end());
  return pass_of(found->second, found->second.served);
}

std::uint64_t StrideOrder::cost(JobId job, std::uint64_t queries) const {
  const auto found = jobs_.find(job);
  ASSERT(found != jobs_.end());
  return scaled(amount(queries), found->second.weight_milli);
}

}  // namespace idunno

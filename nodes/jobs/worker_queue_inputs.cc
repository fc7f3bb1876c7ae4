// What is fetched, and when it must make room.

#include <utility>

#include "nodes/jobs/worker_queue.h"

namespace idunno {

void WorkerQueue::input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now, WorkerOutput& out) {
  now_ = std::max(now_, now);
  Held* held = find(lease, Stage::fetching);
  if (held == nullptr) {
    // The lease ended or made room while its inputs were on their way: nobody else would free them. Inputs of a lease that is
    // further on (fetched twice, over two sessions) go when it ends.
    if (!held_.contains(lease) || find(lease, Stage::queued) != nullptr) out.discard.push_back(lease);
    return;
  }
  leave_stage(*held);
  held->bytes = bytes;
  held->stage = Stage::ready;
  held->fetched = now_;
  add_ready(held->lease);
  input_bytes_ += bytes;
  JobInfo& job = jobs_.at(lease.job);
  // Rounded up, so that it reaches the size of equal batches.
  job.mean_bytes = job.bytes_known ? job.mean_bytes - job.mean_bytes / 4 + (bytes + 3) / 4 : bytes;
  job.bytes_known = true;
  go_on(out);
}

void WorkerQueue::input_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out) {
  const Held* held = find(lease, Stage::fetching);
  if (held == nullptr) return;
  fail(held->lease, BatchFailure::input_missing, why, out);
  end(held_.find(lease), out);
  go_on(out);
}

std::uint64_t WorkerQueue::expected_bytes(const Held& held) const {
  if (held.bytes) return *held.bytes;
  const JobInfo& job = jobs_.at(held.lease.job);
  return job.bytes_known ? job.mean_bytes : input_bytes_max_ / (4 * slots_.size()) + 1;
}

/// Whether fewer leases than there are slots start before it: its inputs are needed soon, whatever the limit says.
bool WorkerQueue::is_next_up(const Rank& rank) const {
  std::size_t before = 0;
  for (const std::set<Rank>* waiting : {&ready_, &fetching_}) {
    for (auto at = waiting->begin(); at != waiting->end() && *at < rank && before < slots_.size(); ++at) ++before;
  }
  return before < slots_.size();
}

/// Gives up inputs of the leases that start last, until so many bytes fit.
void WorkerQueue::make_room(const Rank& urgent, std::uint64_t bytes, std::set<Rank>& evicted, WorkerOutput& out) {
  while (input_bytes_ + fetching_bytes_ + bytes > input_bytes_max_) {
    if (ready_.empty() || ready_.size() + fetching_.size() < slots_.size()) return;
    const Rank last = *ready_.rbegin();
    if (last < urgent) return;
    Held& held = held_.at(last.key);
    leave_stage(held);
    held.stage = Stage::queued;
    queued_.insert(last);
    evicted.insert(last);
    out.discard.push_back(last.key);
  }
}

void WorkerQueue::fetch_more(WorkerOutput& out) {
  std::set<Rank> evicted;
  while (!queued_.empty() && fetching_.size() < kFetchesInFlightMax) {
    const Rank rank = *queued_.begin();
    if (evicted.contains(rank)) return;
    Held& held = held_.at(rank.key);
    const std::uint64_t bytes = expected_bytes(held);
    JobInfo& job = jobs_.at(rank.key.job);
    // How large the batches of a job are is seen from its first ones, before there are many under way.
    if (!job.bytes_known && job.fetching >= slots_.size()) return;
    if (input_bytes_ + fetching_bytes_ + bytes > input_bytes_max_) {
      // Over the limit only what is needed next, and only as much at once as there are slots.
      if (fetching_.size() >= slots_.size() || !is_next_up(rank)) return;
      make_room(rank, bytes, evicted, out);
    }
    leave_stage(held);
    held.stage = Stage::fetching;
    held.since = now_;
    held.reserved_bytes = bytes;
    fetching_.insert(rank);
    fetching_bytes_ += bytes;
    ++job.fetching;
    out.fetch.push_back(held.lease);
  }
}

}  // namespace idunno

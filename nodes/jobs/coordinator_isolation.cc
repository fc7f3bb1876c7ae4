// Batches that take too long, and queries that end executors: what the scheduler makes of them, told to people.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

namespace {

constexpr std::uint64_t kHedgeBatchesMin = 20;     // committed ones, before a job's usual time is known
constexpr std::uint64_t kHedgeTimeMinUs = 50'000;  // shorter ones are over before a second lease has begun

/// How long a batch of the job may take before it is hedged; 0 = not known yet. The histogram holds, once for each query, the
/// time from the start of its batch in the executor to the sending of the commit, so it is compared with the age of the whole
/// batch.
std::uint64_t straggler_limit_us(const Job& job) {
  if (job.batches_done < kHedgeBatchesMin) return 0;
  return std::max({job.latency.percentile_us(990), 3 * job.latency.percentile_us(500), kHedgeTimeMinUs});
}

}  // namespace

void Coordinator::Impl::watch_stragglers(NodeEntry& node, const Heartbeat& beat, Time now, CoordinatorOutput& out) {
  if (!serving_) return;
  Grants grants;
  Descriptions descriptions;
  std::map<JobId, std::uint64_t> limits;
  for (const auto& [lease, elapsed_ms, cpu_us, loading] : beat.running_batches) {
    const Job* job = state_.job(lease.job);
    if (job == nullptr || !job->active()) continue;
    auto limit = limits.find(lease.job);
    if (limit == limits.end()) limit = limits.emplace(lease.job, straggler_limit_us(*job)).first;
    if (limit->second == 0 || std::uint64_t{elapsed_ms} * 1000 <= limit->second) continue;
    const std::optional<Assignment> second = scheduler_.hedge(node.member.id, lease, now);
    if (!second || !add_to_grant(*second, grants, descriptions, now, out)) continue;
    note(BatchEvent::hedged, {lease.job, lease.batch, second->lease.attempt}, second->node, now,
         "it ran for " + std::to_string(elapsed_ms) + " ms at " + to_string(node.member.id) + ", usual are " +
             std::to_string(limit->second / 1000) + " ms at most; the first result counts");
    event(out, "batch_hedged", lease.job, lease.batch,
          batch_name(lease.job, lease.batch) + " has run for " + std::to_string(elapsed_ms) + " ms at " +
              to_string(node.member.id) + ", usual are " + std::to_string(limit->second / 1000) + " ms at most; also leased to " +
              to_string(second->node));
  }
  for (auto& [id, grant] : grants) send_grant(nodes_.at(id), grant, out);
}

void Coordinator::Impl::tell_isolation(Time now, CoordinatorOutput& out) {
  for (const IsolationNote& note : scheduler_.take_notes()) {
    const std::string name = batch_name(note.job, note.batch);
    switch (note.kind) {
      case IsolationNote::Kind::isolated:
        this->note(BatchEvent::isolated, {note.job, note.batch, 0}, config_.self, now,
                   "it ended its executor too often: parts of it are tried");
        event(out, "batch_isolated", note.job, note.batch,
              name + " ended its executor " + std::to_string(config_.attempts_max) + " times: parts of it are tried");
        break;
      case IsolationNote::Kind::quarantined: {
        const std::string text = to_string(note.job) + ": query " + std::to_string(note.query) +
                                 " ends its executor each time it is computed: quarantined, its row says so";
        event(out, "query_quarantined", note.job, note.batch, text);
        alarm(out, note.job, note.batch, text);
        break;
      }
      case IsolationNote::Kind::given_up:
        event(out, "batch_given_up", note.job, note.batch, name + ": no single query ends its executors; it is given up");
        break;
    }
  }
}

}  // namespace idunno

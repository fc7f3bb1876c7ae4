// Why a job waits, and what the coordinator remembers of batches.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

void Coordinator::Impl::note(BatchEvent what, const LeaseKey& lease, NodeId node, Time now, std::string text) {
  BatchNote note;
  note.at = now;
  note.job = lease.job;
  note.batch = lease.batch;
  note.attempt = lease.attempt;
  note.what = what;
  note.node = node;
  if (what == BatchEvent::leased) {
    note.held = scheduler_.leased_at(node);
    note.credit = scheduler_.credit_of(node);
  }
  note.text = std::move(text);
  lives_.note(std::move(note));
}

JobWait Coordinator::Impl::wait_of(const Job& job) const {
  JobWait wait;
  wait.id = job.id;
  wait.state = job.state;
  wait.reason = job.reason;
  wait.kind = job.spec.kind;
  wait.phase = state_.phase().phase;
  wait.taking_over = !serving_;
  for (const auto& [id, node] : nodes_) {
    const bool works = node.session && node.state == NodeState::alive && node.hello.slots > 0;
    ++(works ? wait.workers : wait.workers_away);
    if (works) wait.credit_free += scheduler_.credit_of(id) - std::min(scheduler_.credit_of(id), scheduler_.leased_at(id));
  }
  wait.follows = job.spec.follow;
  wait.data_path = job.spec.data_path;
  wait.endless = job.endless();
  wait.batches_left = job.batches - std::min(job.batches, job.batches_done);
  wait.leased = scheduler_.leased_of(job.id);
  wait.nodes = static_cast<std::uint32_t>(scheduler_.nodes_of(job.id).size());
  wait.nodes_max = job.spec.nodes_max;
  wait.rate_limit_milli = job.spec.rate_limit_milli;
  wait.rate_limited = scheduler_.rate_limited(job.id);
  wait.nodes_kept = scheduler_.nodes_kept_from(job.id);
  wait.priority = job.spec.priority;
  wait.weight_milli = job.spec.weight_milli;
  wait.urgent = job.spec.urgent;
  for (const auto& [id, other] : state_.jobs()) {
    if (id == job.id || !other.active() || !scheduler_.competes(id)) continue;
    wait.others.push_back({id, other.spec.priority, other.spec.weight_milli, other.spec.urgent});
  }
  return wait;
}

BatchLivesReply Coordinator::batch_lives(JobId id, std::int64_t batch, Time now) const {
  BatchLivesReply reply;
  reply.answered_by = impl_->config_.self;
  reply.coordinator = true;
  reply.steps = impl_->lives_.steps(id, batch, now, impl_->wall_at(now));
  reply.forgotten = impl_->lives_.forgot();
  const Job* job = impl_->state_.job(id);
  if (job != nullptr) reply.waits = why_waits(impl_->wait_of(*job));
  return reply;
}

}  // namespace idunno

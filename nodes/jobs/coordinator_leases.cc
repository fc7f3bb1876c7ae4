// Leases: what jobs the scheduler knows, grants to nodes, commits, failed batches.

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"
#include "nodes/jobs/worker_queue.h"

namespace idunno {

namespace {

constexpr std::size_t kPlaceBytesMax = 5;  // of Lease::quarantined, encoded

/// "j3/b17 to n2, attempt 1": made ten thousand times a second, so without a format string.
std::string lease_text(const Lease& lease, NodeId node) {
  std::string text = batch_name(lease.job, lease.batch);
  text += " to n";
  text += std::to_string(node.value);
  if (lease.attempt > 0) {
    text += ", attempt ";
    text += std::to_string(lease.attempt % kGiveUpAttempt);
  }
  if (lease.is_trial()) {
    text += ", trial of its queries ";
    text += std::to_string(lease.trial_from);
    text += " to ";
    text += std::to_string(lease.trial_to - 1);
  }
  return text;
}

std::string commit_text(const BatchCommit& commit) {
  std::string text = batch_name(commit.job, commit.batch);
  text += " by n";
  text += std::to_string(commit.node.value);
  if (commit.errors > 0) {
    text += ", ";
    text += std::to_string(commit.errors);
    text += " error rows";
  }
  return text;
}

const char* failure_text(BatchFailure why) {
  switch (why) {
    case BatchFailure::executor_died:
      return "the executor died";
    case BatchFailure::model_unusable:
      return "the model cannot be used";
    case BatchFailure::input_missing:
      return "its input could not be read";
    case BatchFailure::result_too_large:
      return "the result is too large";
    case BatchFailure::not_stored:
      return "the result could not be stored";
    case BatchFailure::returned:
      return "given back";
    case BatchFailure::trial_passed:
      return "its trial passed";
  }
  return "failed";
}

LeaseLoss loss_of(BatchFailure why) {
  switch (why) {
    case BatchFailure::executor_died:
      return LeaseLoss::executor_died;
    case BatchFailure::input_missing:
      return LeaseLoss::input_missing;
    case BatchFailure::returned:
      return LeaseLoss::returned;
    case BatchFailure::trial_passed:
      return LeaseLoss::trial_passed;
    default:
      return LeaseLoss::not_stored;
  }
}

Result<FileVersion> file_for(const Namespace& files, const std::string& path, std::uint32_t version, const char* what) {
  if (path.empty()) return FileVersion{};
  const FileVersion* file = files.find(path, version);
  if (file == nullptr) return Error{Errc::not_found, std::string("the ") + what + " " + path + " is not in SDFS any more"};
  return *file;
}

}  // namespace

// ---- a session begins -------------------------------------------------------------------------------------------------

void Coordinator::Impl::adopt_held(NodeEntry& node, const NodeHello& hello, Time now, NodeHelloReply& reply,
                                   CoordinatorOutput& out) {
  std::set<LeaseKey> kept;
  for (const auto& [lease, stage] : hello.held) {
    if (!scheduler_.adopt(hello.node, lease, stage, now)) {
      reply.dropped.push_back(lease);
      continue;
    }
    kept.insert(lease);
    // It is told when the job ends; whether it still has the description is not known.
    node.described.insert(lease.job);
    node.describe_again.insert(lease.job);
  }
  const std::size_t gone = scheduler_.reconcile(hello.node, kept);
  if (kept.empty() && reply.dropped.empty() && gone == 0) return;
  event(out, "leases_adopted", JobId{}, -1,
        to_string(hello.node) + " goes on with " + std::to_string(kept.size()) + " leases, " +
            std::to_string(reply.dropped.size()) + " are not wanted, " + std::to_string(gone) + " go to others");
}

// ---- jobs -------------------------------------------------------------------------------------------------------------

void Coordinator::Impl::add_job(const Job& job, Time now) {
  jobs_[job.id].state = job.state == JobState::queued ? JobState::running : job.state;
  jobs_[job.id].priority = job.spec.priority;
  SchedulerJob spec;
  spec.id = job.id;
  spec.queries = job.shape().queries;
  spec.batch = job.spec.batch;
  spec.repeat = job.spec.repeat;
  spec.first_batch = job.first_kept;
  spec.segments = job.segments;
  spec.weight_milli = job.spec.weight_milli;
  spec.rate_limit_milli = job.spec.rate_limit_milli;
  spec.priority = job.spec.priority;
  spec.nodes_min = job.spec.nodes_min;
  spec.nodes_max = job.spec.nodes_max;
  spec.urgent = job.spec.urgent;
  spec.model = job.spec.model + ":" + std::to_string(job.spec.model_version);
  std::vector<bool> committed;
  for (std::uint64_t batch = job.first_kept; batch < job.window_end(); ++batch) committed.push_back(job.committed(batch));
  scheduler_.add_job(spec, std::move(committed), job.state != JobState::paused && state_.phase_fits(job.spec.kind), now);
}

void Coordinator::Impl::fail_job(JobId id, const std::string& reason, Time now, CoordinatorOutput& out) {
  const Job* job = state_.job(id);
  if (job == nullptr || !job->active()) return;
  JobEntry& entry = jobs_[id];
  if (std::exchange(entry.failing, true)) return;
  scheduler_.set_enabled(id, false);
  propose(FailJob{id, reason}, now, out);
}

// ---- grants -----------------------------------------------------------------------------------------------------------

Result<PrefetchModel> Coordinator::Impl::files_of(const ModelVersion& model) const {
  auto onnx = file_for(state_.files(), model.onnx_path, model.onnx_version, "ONNX file");
  if (!onnx) return onnx.error();
  auto labels = file_for(state_.files(), model.labels_path, model.labels_version, "labels file");
  if (!labels) return labels.error();
  return PrefetchModel{*std::move(onnx), *std::move(labels)};
}

Result<JobDescription> Coordinator::Impl::describe(JobId id) const {
  const Job* job = state_.job(id);
  if (job == nullptr) return Error{Errc::not_found, "the job was removed"};
  const ModelVersion* model = state_.model(job->spec.model, job->spec.model_version);
  if (model == nullptr) return Error{Errc::not_found, "model " + job->spec.model + " was removed"};
  auto files = files_of(*model);
  if (!files) return files.error();
  auto manifest = file_for(state_.files(), job->spec.manifest_path, job->spec.manifest_version, "list of queries");
  if (!manifest) return manifest.error();
  JobDescription description{
      id, job->spec, *model, std::move(files->onnx), std::move(files->labels), *std::move(manifest), wanted_copies_, 0, {}};
  if (const Status segments = describe_segments(*job, description); !segments) return segments.error();
  return description;
}

void Coordinator::Impl::send_grant(NodeEntry& node, Grant& grant, CoordinatorOutput& out) const {
  if (grant.message.leases.empty() && grant.message.descriptions.empty()) return;
  if (node.placement_sent != placement_version_) {
    grant.message.placement = placement();
    node.placement_sent = placement_version_;
  }
  out.pushes.emplace_back(node.member.id, make_answer(grant.message));
  grant = Grant{};
}

bool Coordinator::Impl::add_to_grant(const Assignment& given, Grants& grants, Descriptions& descriptions, Time now,
                                     CoordinatorOutput& out) {
  const Lease& lease = given.lease;
  NodeEntry& node = nodes_.at(given.node);
  Grant& grant = grants[given.node];
  const std::size_t lease_bytes = kLeaseBytesMax + lease.quarantined.size() * kPlaceBytesMax;
  if (grant.message.leases.size() >= kLeasesPerGrantMax || grant.bytes + lease_bytes > kGrantBytesMax)
    send_grant(node, grant, out);
  if (!node.described.contains(lease.job) || node.describe_again.contains(lease.job)) {
    auto found = descriptions.find(lease.job);
    if (found == descriptions.end()) found = descriptions.emplace(lease.job, describe(lease.job)).first;
    if (!found->second) {
      fail_job(lease.job, found->second.error().detail, now, out);
      return false;
    }
    const std::size_t bytes = encode(*found->second).size();
    if (bytes + lease_bytes > kGrantBytesMax) {
      fail_job(lease.job,
               "its description (the blocks of its model and its list of queries) has " + std::to_string(bytes) +
                   " bytes and does not fit a message of " + std::to_string(kGrantBytesMax) +
                   "; split the data set into several jobs",
               now, out);
      return false;
    }
    if (grant.bytes + bytes + lease_bytes > kGrantBytesMax) send_grant(node, grant, out);
    grant.message.descriptions.push_back(*found->second);
    grant.bytes += bytes;
    node.described.insert(lease.job);
    node.describe_again.erase(lease.job);
  }
  grant.message.leases.push_back(lease);
  grant.message.leases.back().phase = state_.phase().number;
  grant.bytes += lease_bytes;
  return true;
}

void Coordinator::Impl::tell_leased(const Assignment& given, Time now, CoordinatorOutput& out) {
  const Lease& lease = given.lease;
  note(BatchEvent::leased, {lease.job, lease.batch, lease.attempt}, given.node, now,
       lease.is_trial() ? lease_text(lease, given.node) : std::string());
  event(out, "batch_leased", lease.job, lease.batch, lease_text(lease, given.node));
  if (lease.attempt >= kGiveUpAttempt) {
    alarm(out, lease.job, lease.batch,
          batch_name(lease.job, lease.batch) + " failed too often: its queries get error rows instead of results");
  }
}

void Coordinator::Impl::schedule(Time now, CoordinatorOutput& out) {
  more_to_schedule_ = false;
  if (!serving_) return tell_order(now, out);  // what runs goes on, and so does the choice of what is next
  Grants grants;
  Descriptions descriptions;
  std::size_t given = 0;
  while (given < kDecisionsPerCallMax) {
    const std::optional<Assignment> next = scheduler_.next(now);
    if (!next) break;
    if (add_to_grant(*next, grants, descriptions, now, out)) tell_leased(*next, now, out);
    ++given;
  }
  more_to_schedule_ = given == kDecisionsPerCallMax;
  for (auto& [id, grant] : grants) send_grant(nodes_.at(id), grant, out);
  tell_order(now, out);
}

void Coordinator::Impl::tell_order(Time now, CoordinatorOutput& out) {
  for (const auto& [id, order] : scheduler_.order_due(now)) {
    if (nodes_.at(id).session) out.pushes.emplace_back(id, make_answer(order));
  }
}

/// Leases that have not begun are given again as they rank now.
void Coordinator::Impl::give_priority(JobId job, Time now, CoordinatorOutput& out) {
  Grants grants;
  Descriptions descriptions;
  for (const Assignment& given : scheduler_.unstarted(job, kDecisionsPerCallMax)) {
    if (nodes_.at(given.node).session) add_to_grant(given, grants, descriptions, now, out);
  }
  for (auto& [id, grant] : grants) send_grant(nodes_.at(id), grant, out);
}

void Coordinator::Impl::remind(Time now, CoordinatorOutput& out) {
  if (now < remind_at_) return;
  remind_at_ = now + kReminderRound;
  const std::vector<Assignment> leases = scheduler_.unanswered(now, kLeaseReminder, kDecisionsPerCallMax);
  // The description may have been lost in the same message.
  for (const auto& [id, lease] : leases) nodes_.at(id).describe_again.insert(lease.job);
  Grants grants;
  Descriptions descriptions;
  for (const Assignment& known : leases) {
    if (nodes_.at(known.node).session) add_to_grant(known, grants, descriptions, now, out);
  }
  for (auto& [id, grant] : grants) send_grant(nodes_.at(id), grant, out);
}

// ---- what becomes of them ---------------------------------------------------------------------------------------------

void Coordinator::Impl::commits_applied(const std::vector<Applied::Commit>& commits, Time now, CoordinatorOutput& out) {
  for (const auto& [commit, outcome] : commits) {
    if (outcome == CommitOutcome::accepted) {
      scheduler_.committed(commit);
      if (const Job* job = state_.job(commit.job); job != nullptr && job->endless())
        scheduler_.set_window(job->id, job->first_kept, job->window_end());
      jobs_[commit.job].rates.add(now, commit.queries, commit.duration_us, commit.done_milli);
      note(BatchEvent::committed, {commit.job, commit.batch, commit.attempt}, commit.node, now);
      event(out, "batch_committed", commit.job, commit.batch, commit_text(commit));
      out.events.back().done_milli = commit.done_milli;
    } else if (outcome == CommitOutcome::conflict) {
      alarm(out, commit.job, commit.batch,
            batch_name(commit.job, commit.batch) + ": the result of " + to_string(commit.node) +
                " differs from the committed one; the first stays");
    } else if (outcome == CommitOutcome::not_wanted) {
      // A commit that the log refuses although its job goes on must not keep its lease for ever.
      const bool phase_ended = commit.phase != state_.phase().number;
      note(BatchEvent::refused, {commit.job, commit.batch, commit.attempt}, commit.node, now,
           phase_ended ? "its phase has ended" : "its result is not wanted");
      scheduler_.lost(commit.job, commit.batch, commit.attempt, commit.node,
                      phase_ended ? LeaseLoss::returned : LeaseLoss::not_stored);
    }
  }
}

void Coordinator::Impl::batch_failed(const RequestInfo& info, const BatchFailed& failure, Time now, CoordinatorOutput& out) {
  NodeEntry* node = sender(info, out);
  if (node == nullptr) return;
  answer(info, BatchFailedReply{}, out);
  const Job* job = state_.job(failure.job);
  if (job == nullptr || !job->active()) return;
  const std::string name = batch_name(failure.job, failure.batch);
  std::string text = name + " at " + to_string(node->member.id) + ": " + failure_text(failure.why);
  if (!failure.detail.empty()) text += ": " + failure.detail;
  note(BatchEvent::failed, {failure.job, failure.batch, failure.attempt}, node->member.id, now,
       failure.detail.empty() ? failure_text(failure.why) : failure_text(failure.why) + (": " + failure.detail));
  const bool was_out = scheduler_.lost(failure.job, failure.batch, failure.attempt, node->member.id, loss_of(failure.why));
  if (!was_out) return;
  // Its description may have been lost, or name blocks that have moved since.
  if (failure.why == BatchFailure::input_missing) node->describe_again.insert(failure.job);
  if (failure.why == BatchFailure::trial_passed) {
    event(out, "trial_passed", failure.job, failure.batch, text);
  } else if (failure.why != BatchFailure::returned) {
    event(out, "batch_failed", failure.job, failure.batch, text);
  }
  tell_isolation(now, out);
  if (failure.why == BatchFailure::model_unusable || failure.why == BatchFailure::result_too_large) {
    fail_job(failure.job, text, now, out);
  }
  schedule(now, out);
}

// ---- the public face --------------------------------------------------------------------------------------------------

void Coordinator::handle(const RequestInfo& info, const CommitBatches& request, Time, CoordinatorOutput& out) {
  for (const BatchCommit& commit : request.commits) {
    if (!impl_->speaks_for(info, commit.node, out)) return;
  }
  if (request.commits.empty() || request.commits.size() > kCommitsPerRequestMax) {
    return Impl::refuse(
        info,
        Error{Errc::invalid, "commit batches: " + std::to_string(request.commits.size()) + " in one request, 1 to " +
                                 std::to_string(kCommitsPerRequestMax) + " are possible"},
        out);
  }
  for (const BatchCommit& commit : request.commits) {
    if (commit.done_milli.size() <= kDoneStepsMax) continue;
    return Impl::refuse(info,
                        Error{Errc::invalid, "commit batches: " + batch_name(commit.job, commit.batch) + " tells of " +
                                                 std::to_string(commit.done_milli.size()) + " steps of its work, at most " +
                                                 std::to_string(kDoneStepsMax) + " are possible"},
                        out);
  }
  if (impl_->handled_before(info, out)) return;
  impl_->propose_request(info, CommitBatchResults{request.commits}, out);
}

void Coordinator::handle(const RequestInfo& info, const BatchFailed& failure, Time now, CoordinatorOutput& out) {
  impl_->set_wall(now, info.wall_ms);
  impl_->batch_failed(info, failure, now, out);
}

}  // namespace idunno

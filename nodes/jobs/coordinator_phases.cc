// Phases, and jobs that follow a folder.

#include <algorithm>

#include "bus/names.h"
#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

void Coordinator::handle(const RequestInfo& info, const PhaseRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  impl_->propose_request(info, SetPhase{request.phase}, out);
}

/// What runs goes on for want of a way to interrupt it, but its result is refused: it carries the number of the ended phase.
void Coordinator::Impl::phase_changed(CoordinatorOutput& out) {
  const ClusterState::CurrentPhase& phase = state_.phase();
  event(out, phase.phase == Phase::none ? "phase_stopped" : "phase_started", JobId{}, -1,
        phase.phase == Phase::none
            ? "no phase is on (number " + std::to_string(phase.number) + ")"
            : "the phase " + to_string(phase.phase) + " is on (number " + std::to_string(phase.number) + ")");
  for (const auto& [id, job] : state_.jobs()) {
    if (!job.active()) continue;
    const bool fits = state_.phase_fits(job.spec.kind);
    scheduler_.set_enabled(id, fits && job.state != JobState::paused && !jobs_[id].failing);
    if (fits) continue;
    for (const NodeId node : scheduler_.nodes_of(id)) {
      if (nodes_.at(node).session) out.pushes.emplace_back(node, make_answer(LeaseDrop{id, true}));
    }
  }
}

Status Coordinator::Impl::describe_segments(const Job& job, JobDescription& description) const {
  if (job.segments.empty()) return {};
  std::size_t first = job.first_open_segment();
  description.first_segment = static_cast<std::uint32_t>(first + 1);
  for (; first < job.segments.size(); ++first) {
    const JobSegment& segment = job.segments[first];
    const FileVersion* manifest = state_.files().find(segment.manifest_path, segment.manifest_version);
    if (manifest == nullptr)
      return Error{Errc::not_found, "the list of queries " + segment.manifest_path + " is not in SDFS any more"};
    description.segments.push_back({segment, *manifest});
  }
  return {};
}

void Coordinator::Impl::job_extended(JobId id, CoordinatorOutput& out) {
  const Job* job = state_.job(id);
  if (job == nullptr || job->segments.empty()) return;
  const JobSegment& segment = job->segments.back();
  scheduler_.add_segment(id, segment);
  event(
      out, "job_extended", id, -1,
      to_string(id) + " " + job->spec.name + ": " + std::to_string(segment.queries) + " queries came to " + job->spec.data_path);
  FollowNotice& notice = out.follow.emplace_back();
  notice.what = FollowNotice::What::extended;
  notice.job = id;
  notice.known = job->segments.size();
  for (auto& [node_id, node] : nodes_) {
    if (node.described.contains(id)) node.describe_again.insert(id);
  }
}

// ---- jobs that follow a folder ----------------------------------------------------------------------------------------

void Coordinator::Impl::compare_folder(const Job& job, CoordinatorOutput& out) const {
  FollowNotice& notice = out.follow.emplace_back();
  notice.what = FollowNotice::What::compare;
  notice.job = job.id;
  notice.spec = job.spec;
  notice.known = job.segments.size();
}

void Coordinator::Impl::files_landed(const CommitFiles& command, CoordinatorOutput& out) const {
  for (const auto& [id, job] : state_.jobs()) {
    if (!job.active() || !job.spec.follow) continue;
    FollowNotice notice;
    notice.what = FollowNotice::What::landed;
    notice.job = id;
    for (const FsFilePart& part : command.files) {
      if (part.more || !is_at_or_below(part.path, job.spec.data_path)) continue;
      if (const FileVersion* file = state_.files().find(part.path)) notice.files.push_back(*file);
    }
    if (!notice.files.empty()) out.follow.push_back(std::move(notice));
  }
}

void Coordinator::Impl::follow(const CommandEnvelope& command, const Applied& applied, CoordinatorOutput& out) {
  const bool refused = applied.answer.type == MessageType::error_reply;
  for (const JobId id : applied.submitted) {
    if (const Job* job = state_.job(id); job != nullptr && job->spec.follow) compare_folder(*job, out);
  }
  const auto tell_over = [&](JobId id) {
    const Job* job = state_.job(id);
    if (job != nullptr && (job->active() || !job->spec.follow)) return;
    FollowNotice& notice = out.follow.emplace_back();
    notice.what = FollowNotice::What::over;
    notice.job = id;
  };
  for (const JobId id : applied.changed) tell_over(id);
  if (command.header.kind == CommandKind::commit_files && !refused) {
    if (const auto body = command.body<CommitFiles>()) files_landed(*body, out);
  } else if (command.header.kind == CommandKind::extend_job && refused) {
    const auto body = command.body<ExtendJob>();
    const Job* job = body ? state_.job(body->job) : nullptr;
    if (job != nullptr && job->active() && job->spec.follow) compare_folder(*job, out);
  }
}

Status Coordinator::may_extend(JobId id, Epoch epoch, std::uint64_t after) const {
  if (epoch != impl_->epoch_) return Error{Errc::stale_epoch, "another reign has begun"};
  const Job* job = impl_->state_.job(id);
  if (job == nullptr || !job->active() || !job->spec.follow || job->segments.size() != after)
    return Error{Errc::conflict, to_string(id) + " is over or has other segments"};
  if (job->segments.size() - job->first_open_segment() >= kSegmentsAheadMax || job->segments.size() >= kSegmentsMax)
    return Error{Errc::full, to_string(id) + " has enough to do"};
  return {};
}

Status Coordinator::extend(const FollowSegment& segment, Time now, CoordinatorOutput& out) {
  if (const Status may = may_extend(segment.job, segment.epoch, segment.after); !may) return may;
  const Job& job = *impl_->state_.job(segment.job);
  impl_->propose(ExtendJob{segment.job, JobSegment{segment.manifest_path, segment.manifest_version, segment.items_per_chunk,
                                                   job.batches, job.spec.queries, segment.queries}},
                 now, out);
  return {};
}

}  // namespace idunno

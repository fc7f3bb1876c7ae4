// The life of a coordinator: its reign begins, log entries are applied, time passes.

#include "nodes/jobs/coordinator.h"

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

namespace {

constexpr Duration kSecond = std::chrono::seconds(1);

const char* event_of(JobState state) {
  switch (state) {
    case JobState::queued:
      return "job_queued";
    case JobState::running:
      return "job_resumed";
    case JobState::paused:
      return "job_paused";
    case JobState::done:
      return "job_done";
    case JobState::failed:
      return "job_failed";
    case JobState::stopped:
      return "job_stopped";
  }
  return "job_changed";
}

}  // namespace

Coordinator::Impl::Impl(CoordinatorConfig c, ClusterState s, Random r)
    : config_(std::move(c)),
      state_(std::move(s)),
      random_(r),
      replication_(std::max(1U, std::min({config_.replication, static_cast<std::uint32_t>(config_.members.size()),
                                          static_cast<std::uint32_t>(kReplicasMax)}))),
      scheduler_(
          SchedulerConfig{config_.lease_horizon, config_.attempts_max, config_.policy, config_.split_period, random_.next()}) {
  for (const CoordinatorConfig::Member& member : config_.members) nodes_[member.id].member = member;
}

// ---- small things -----------------------------------------------------------------------------------------------------

void Coordinator::Impl::set_wall(Time now, WallMs wall) {
  if (wall == 0) return;
  wall_ = wall;
  wall_read_at_ = now;
}

WallMs Coordinator::Impl::wall_at(Time now) const {
  if (now <= wall_read_at_) return wall_;
  return wall_ + static_cast<WallMs>((now - wall_read_at_).count() / 1000);
}

void Coordinator::Impl::event(CoordinatorOutput& out, const char* type, JobId job, std::int64_t batch, std::string text) const {
  Event& told = out.events.emplace_back();
  told.type = type;
  told.job = job;
  told.batch = batch;
  told.text = std::move(text);
}

void Coordinator::Impl::alarm(CoordinatorOutput& out, JobId job, std::int64_t batch, const std::string& text) {
  if (std::find(alarms_.begin(), alarms_.end(), text) != alarms_.end()) return;  // told already
  if (alarms_.size() >= kAlarmsMax) alarms_.pop_front();
  alarms_.push_back(text);
  event(out, "alarm", job, batch, text);
}

// ---- life -------------------------------------------------------------------------------------------------------------

void Coordinator::Impl::begin(Epoch begun, Time now, WallMs wall, CoordinatorOutput& out) {
  set_wall(now, wall);
  epoch_ = begun;
  began_ = now;
  grace_until_ = now + kTakeoverGrace;
  repair_.emplace(RepairConfig{replication_, config_.repair_blocks_in_flight, config_.repair_bytes_per_s}, now);
  for (auto& [id, node] : nodes_) {
    node.since_ms = wall;
    node.heard = now;
    const auto known = state_.nodes().find(id);
    if (known == state_.nodes().end()) continue;
    node.incarnation = known->second.incarnation;
    node.joined = node.state != NodeState::dead && node.state != NodeState::left;
    if (id == config_.self) node.state = NodeState::alive;
    if (node.state != NodeState::unknown) continue;
    // It was there under the last coordinator: it has some time to come before its blocks count as lost.
    node.expected_until = now + config_.dead_after;
    supervise_by(node.expected_until);
  }
  for (const auto& [id, job] : state_.jobs()) {
    if (job.active()) add_job(job, now);
    if (job.active() && job.spec.follow) compare_folder(job, out);
    if (job.conflicting_commits > 0 && alarms_.size() < kAlarmsMax) {
      alarms_.push_back(to_string(id) + ": " + std::to_string(job.conflicting_commits) +
                        " results differ from the committed ones of the same batches; the first stay");
    }
  }
  fairness_.happened(second_of(now), to_string(config_.self) + " became coordinator");
  event(out, "coordinator_changed", JobId{}, -1, to_string(config_.self) + " leads, epoch " + to_string(begun));
}

void Coordinator::Impl::apply(const LogEntry& entry, Time now, WallMs wall, CoordinatorOutput& out) {
  set_wall(now, wall);
  const Result<CommandEnvelope> command = decode_command(entry.command);
  const Applied applied = state_.apply(entry);
  if (command) {
    if (const auto waiting = pending_.find(command->header.request); waiting != pending_.end()) {
      for (const Ticket ticket : waiting->second) out.answers.emplace_back(ticket, applied.answer);
      pending_.erase(waiting);
    }
    switch (command->header.kind) {
      case CommandKind::register_node:
        if (const auto body = command->body<RegisterNode>()) registered(*body, applied.answer, now, out);
        break;
      case CommandKind::add_model:
        if (const auto body = command->body<AddModel>()) model_added(*body, applied.answer, out);
        break;
      case CommandKind::move_replicas:
        if (const auto body = command->body<MoveReplicas>(); body && repair_) {
          RepairOutput plan;
          repair_->moved(body->moves, state_.files(), plan);
          obey(std::move(plan), now, out);
        }
        break;
      default:
        break;
    }
  }
  jobs_moved(applied, now, out);
  if (command) follow(*command, applied, out);
  commits_applied(applied.commits, now, out);
  for (const JobId id : applied.finished) {
    if (const Job* job = state_.job(id)) job_changed(*job, now, out);
  }
  drop_freed(applied.freed, out);
  // A commit that has all its copies leaves nothing to repair; anything else may.
  const bool whole = !applied.commits.empty() &&
                     std::all_of(applied.commits.begin(), applied.commits.end(),
                                 [&](const auto& commit) { return commit.commit.block.replicas.size() == wanted_copies_; });
  if (applied.namespace_changed && !whole && repair_) repair_->namespace_changed();
  if (!repair_) return;
  repair_step(now, out);
  schedule(now, out);
}

void Coordinator::Impl::jobs_moved(const Applied& applied, Time now, CoordinatorOutput& out) {
  for (const JobId id : applied.submitted) {
    const Job* job = state_.job(id);
    if (job == nullptr) continue;
    add_job(*job, now);
    fairness_.happened(second_of(now), to_string(id) + " was submitted");
    event(out, "job_submitted", id, -1,
          to_string(id) + " " + job->spec.name + ": " + std::to_string(job->spec.queries) + " queries of " + job->spec.data_path +
              " through " + job->spec.model + ":" + std::to_string(job->spec.model_version) + ", batch " +
              std::to_string(job->spec.batch));
  }
  for (const JobId id : applied.changed) {
    if (const Job* job = state_.job(id)) job_changed(*job, now, out);
  }
  for (const auto& [id, pass] : applied.passes_differ) {
    alarm(out, id, -1,
          to_string(id) + ": pass " + std::to_string(pass) +
              " over its data gave other rows than the first; the model or the "
              "machines are not deterministic");
  }
  if (applied.phase_changed) phase_changed(out);
  for (const JobId id : applied.extended) job_extended(id, out);
  for (const JobId id : applied.removed) {
    job_ended(id, now, out);
    fairness_.forget(id);
    jobs_.erase(id);
  }
}

void Coordinator::Impl::job_changed(const Job& job, Time now, CoordinatorOutput& out) {
  JobEntry& entry = jobs_[job.id];
  const bool moved = entry.state != job.state;
  entry.state = job.state;
  if (moved) {
    std::string text = to_string(job.id) + " " + job.spec.name + ": " + std::to_string(job.queries_done) + " of " +
                       std::to_string(job.spec.queries) + " queries done";
    if (!job.reason.empty()) text += ", " + job.reason;
    event(out, event_of(job.state), job.id, -1, std::move(text));
  }
  if (!job.active()) return job_ended(job.id, now, out);
  scheduler_.change_job(job.id, job.spec.weight_milli, job.spec.rate_limit_milli, job.spec.priority, now);
  scheduler_.set_nodes(job.id, job.spec.nodes_min, job.spec.nodes_max);
  if (std::exchange(entry.priority, job.spec.priority) != job.spec.priority) give_priority(job.id, now, out);
  if (!moved) return;
  const bool paused = job.state == JobState::paused;
  scheduler_.set_enabled(job.id, !paused && !entry.failing && state_.phase_fits(job.spec.kind));
  if (!paused) return;
  for (const NodeId node : scheduler_.nodes_of(job.id)) {
    if (nodes_.at(node).session) out.pushes.emplace_back(node, make_answer(LeaseDrop{job.id, true}));
  }
}

void Coordinator::Impl::job_ended(JobId job, Time now, CoordinatorOutput& out) {
  if (const auto entry = jobs_.find(job); entry != jobs_.end() && entry->second.ended_second < 0) {
    entry->second.retried = scheduler_.retried(job);
    entry->second.hedged = scheduler_.hedged(job);
    entry->second.ended_second = second_of(now);
  }
  scheduler_.remove_job(job);
  fairness_.forget(job);
  for (auto& [id, node] : nodes_) {
    node.describe_again.erase(job);
    if (node.described.erase(job) > 0 && node.session) out.pushes.emplace_back(id, make_answer(LeaseDrop{job, false}));
  }
}

// ---- time -------------------------------------------------------------------------------------------------------------

void Coordinator::Impl::judge_fairness(Time now) {
  if (second_of(now) == judged_second_) return;
  judged_second_ = second_of(now);
  std::int32_t highest = INT32_MIN;
  for (const auto& [id, entry] : jobs_) {
    if (entry.state == JobState::running && scheduler_.competes(id)) highest = std::max(highest, state_.job(id)->spec.priority);
  }
  std::vector<FairnessMonitor::Candidate> candidates;
  for (auto& [id, entry] : jobs_) {
    const Job* job = state_.job(id);
    if (job == nullptr || !job->active()) {
      // Nobody asks for the rate of a job that ended a minute ago.
      if (entry.ended_second >= 0 && judged_second_ - entry.ended_second > kRateWindowMaxS + 1) entry.rates.clear();
      continue;
    }
    const bool competes = entry.state == JobState::running && job->first_batch_ms != 0 && job->spec.rate_limit_milli == 0 &&
                          job->spec.priority == highest && scheduler_.competes(id);
    candidates.push_back({id, &entry.rates, job->spec.weight_milli, competes});
  }
  fairness_.second(judged_second_, candidates, wall_at(now));
}

void Coordinator::Impl::tick(Time now, WallMs wall, CoordinatorOutput& out) {
  set_wall(now, wall);
  if (now >= supervise_at_) supervise(now, out);
  judge_fairness(now);
  if (!repair_) return;
  judge_takeover(now);
  repair_step(now, out);
  remind(now, out);
  schedule(now, out);
}

Time Coordinator::Impl::wake_at() const {
  if (more_to_schedule_) return Time{};
  Time at = supervise_at_;
  at = std::min(at, serving_ ? scheduler_.wake_at() : scheduler_.order_at());  // before it serves, nothing is handed out
  if (repair_) at = std::min(at, repair_->wake_at());
  if (!serving_) at = std::min(at, grace_until_);
  const bool running =
      std::any_of(jobs_.begin(), jobs_.end(), [](const auto& entry) { return entry.second.state == JobState::running; });
  if (running) at = std::min(at, Time{} + kSecond * (judged_second_ + 1));
  return at;
}

// ---- the public face --------------------------------------------------------------------------------------------------

Coordinator::Coordinator(CoordinatorConfig config, ClusterState state, Random random)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(state), random)) {}
Coordinator::~Coordinator() = default;

void Coordinator::start(Epoch epoch, Time now, WallMs wall, CoordinatorOutput& out) { impl_->begin(epoch, now, wall, out); }
ClusterState Coordinator::release_state() { return std::move(impl_->state_); }
void Coordinator::log_servers(LogServers servers) { impl_->log_ = std::move(servers); }

void Coordinator::applied(const LogEntry& entry, Time now, WallMs wall, CoordinatorOutput& out) {
  impl_->apply(entry, now, wall, out);
}

void Coordinator::tick(Time now, WallMs wall, CoordinatorOutput& out) { impl_->tick(now, wall, out); }
Time Coordinator::wake_at() const { return impl_->wake_at(); }
const ClusterState& Coordinator::state() const { return impl_->state_; }

JobReportsReply Coordinator::reports(const std::vector<JobId>& jobs, std::uint32_t window_s, Time now) const {
  return impl_->reports(jobs, window_s, now);
}
std::vector<NodeReport> Coordinator::node_reports(Time) const { return impl_->node_reports(); }
StatusReply Coordinator::status() const { return impl_->status(); }

}  // namespace idunno

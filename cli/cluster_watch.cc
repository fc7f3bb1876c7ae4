#include "cli/cluster_watch.h"

#include <fmt/core.h>

#include <algorithm>

#include "bus/clock.h"
#include "bus/names.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

constexpr Duration kLook = std::chrono::milliseconds(100);   ///< between questions to the coordinator
constexpr Duration kJudge = std::chrono::milliseconds(200);  ///< between looks at the rates
constexpr Duration kAttempt = std::chrono::seconds(2);       ///< of one question
constexpr Duration kBeforeMin = std::chrono::seconds(2);
constexpr Duration kDipWindowMin = std::chrono::milliseconds(250);
constexpr double kBatchesInDip = 10;
/// A cluster that has lost slots may never be at its old rate again: so many windows it gets for it.
constexpr int kWindowsForNormal = 3;

}  // namespace

void run_for(Session& session, Duration duration) {
  (void)session.loop().run_until([] { return false; }, monotonic_now() + duration);
}

Result<std::unique_ptr<ClusterWatch>> ClusterWatch::start(Session& session) {
  std::unique_ptr<ClusterWatch> watch(new ClusterWatch(session));
  auto subscriber =
      Subscriber::create(session.loop(), session.zmq(), session.keys(), session.config().cluster_hash(), session.rpc().peers(),
                         [raw = watch.get()](const Envelope& envelope) { raw->on_notice(envelope); });
  if (!subscriber) return subscriber.error();
  watch->subscriber_ = std::move(*subscriber);
  watch->subscriber_->subscribe(kEventTopic);
  auto status = session.metadata().call_and_wait(StatusRequest{});
  if (!status) return status.error();
  watch->coordinator_ = status->coordinator;
  watch->epoch_ = status->epoch;
  for (const NodeReport& node : status->nodes) watch->slots_ += node.state == NodeState::alive ? node.slots : 0;
  auto reports = session.metadata().call_and_wait(JobReportsRequest{});
  if (!reports) return reports.error();
  for (const JobReport& job : reports->jobs) {
    if (job.state != JobState::running) continue;
    watch->jobs_.push_back(job);
    watch->timeline_.watch_job(job);
    watch->batch_time_ = std::max<Duration>(watch->batch_time_, std::chrono::microseconds(job.latency.mean_us));
  }
  watch->window_ = Timeline::window_of(watch->jobs_);
  return watch;
}

ClusterWatch::~ClusterWatch() = default;

void ClusterWatch::on_notice(const Envelope& envelope) {
  if (envelope.header.type != MessageType::event_notice) return;
  const auto notice = envelope.body<EventNotice>();
  if (notice) timeline_.notice(monotonic_now(), *notice);
}

void ClusterWatch::measure_before() {
  if (jobs_.empty()) return;
  before_ = std::max(kBeforeMin, window_);
  // One batch more, so that commits of batches leased before the subscription do not count as the usual rate.
  run_for(session_, before_ + batch_time_);
}

Status ClusterWatch::kill(const std::set<NodeId>& victims,
                          const std::function<Status(const std::function<void()>& at_once)>& send) {
  victims_ = victims;
  slots_left_ = slots_;
  auto status = session_.metadata().call_and_wait(StatusRequest{});
  if (status) {
    for (const NodeReport& node : status->nodes)
      slots_left_ -= victims.count(node.id) != 0 ? std::min(node.slots, slots_left_) : 0;
    coordinator_ = status->coordinator;
    epoch_ = status->epoch;
  }
  // What has arrived is of before.
  run_for(session_, Duration::zero());
  return send([this] {
    killed_ = true;
    killed_wall_ = wall_now_ms();
    timeline_.killed(monotonic_now(), victims_);
  });
}

void ClusterWatch::saw(const StatusReply& status) {
  const Time now = monotonic_now();
  if (!killed_) return;
  if (status.coordinator && status.epoch > epoch_ && victims_.count(status.coordinator) == 0) {
    new_coordinator_ = status.coordinator;
    new_epoch_ = status.epoch;
    if (!new_coordinator_seen_) new_coordinator_seen_ = now;
  }
  for (const NodeReport& node : status.nodes) {
    if (victims_.count(node.id) != 0 && (node.state == NodeState::dead || node.state == NodeState::left))
      timeline_.seen_dead(now, node.id);
  }
}

/// One question at a time; answers that come after this object are dropped.
void ClusterWatch::look() {
  if (*asking_) return;
  *asking_ = true;
  MetadataClient::CallOptions options;
  options.timeout = kAttempt;
  session_.metadata().call<StatusRequest>(
      {},
      [this, asking = std::weak_ptr<bool>(asking_)](Result<StatusReply> status) {
        const auto alive = asking.lock();
        if (!alive) return;
        *alive = false;
        if (status) saw(*status);
      },
      options);
}

/// The stream tells when a job is over, unless that notice got lost.
void ClusterWatch::look_at_jobs() {
  if (jobs_.empty() || *asking_jobs_) return;
  *asking_jobs_ = true;
  MetadataClient::CallOptions options;
  options.timeout = kAttempt;
  JobReportsRequest request;
  for (const JobReport& job : jobs_) request.jobs.push_back(job.id);
  session_.metadata().call<JobReportsRequest>(
      request,
      [this, asking = std::weak_ptr<bool>(asking_jobs_)](Result<JobReportsReply> reply) {
        const auto alive = asking.lock();
        if (!alive) return;
        *alive = false;
        if (!reply) return;
        for (const JobReport& job : reply->jobs) {
          if (is_over(job.state)) timeline_.ended(job.id, monotonic_now());
        }
      },
      options);
}

std::optional<Duration> ClusterWatch::takeover() const {
  if (!new_coordinator_) return std::nullopt;
  const auto told = timeline_.took_over(new_coordinator_);
  const auto seen =
      new_coordinator_seen_ ? std::optional<Duration>(*new_coordinator_seen_ - timeline_.killed_at()) : std::nullopt;
  if (told && seen) return std::min(*told, *seen);
  return told ? told : seen;
}

void ClusterWatch::judge_rates(Time now) {
  if (jobs_.empty() || before_ == Duration::zero() || now - judged_at_ < kJudge) return;
  judged_at_ = now;
  if (!normal_) normal_ = timeline_.normal(before_, window_, now);
  const double left = slots_ == 0 ? 1 : static_cast<double>(slots_left_) / slots_;
  if (!steady_) steady_ = normal_ ? normal_ : timeline_.normal(before_, window_, now, kNormalShare * left);
}

bool ClusterWatch::wait(const Wanted& wanted, Duration limit, const std::function<bool()>& also) {
  const Time deadline = timeline_.killed_at() + limit;
  Time next_look = monotonic_now();
  while (true) {
    const Time now = monotonic_now();
    judge_rates(now);
    const bool gave_up_normal = steady_ && now > timeline_.killed_at() + *steady_ + (kWindowsForNormal + 1) * window_;
    const bool over = jobs_over();
    bool done = !wanted.normal || jobs_.empty() || normal_ || gave_up_normal || over;
    for (const NodeId node : victims_) {
      done = done && (!wanted.detected || timeline_.detected(node)) && (!wanted.reassigned || over || timeline_.reassigned(node));
    }
    done = done && (!wanted.takeover || takeover()) && (!also || also());
    if (done) return true;
    if (now >= deadline) return false;
    if (now >= next_look) {
      look();
      look_at_jobs();
      next_look = now + kLook;
    }
    run_for(session_, std::min<Duration>(deadline - now, std::chrono::milliseconds(20)));
  }
}

Timeline::Dip ClusterWatch::dip() const {
  const Time now = monotonic_now();
  double batches_per_s = 0;
  for (const JobReport& job : jobs_) {
    batches_per_s += timeline_.rate(job.id, timeline_.killed_at() - before_, timeline_.killed_at()) /
                     static_cast<double>(std::max(1U, job.spec.batch));
  }
  Duration window = window_;
  if (batches_per_s > 0) {
    const auto wanted = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(kBatchesInDip / batches_per_s));
    window = std::clamp(wanted, kDipWindowMin, std::max(kDipWindowMin, window_));
  }
  const Time end = normal_ ? std::min(now, timeline_.killed_at() + *normal_ + window_) : now;
  return timeline_.dip(before_, window, end);
}

Status wait_until_healthy(Session& session, unsigned nodes, Duration limit) {
  const Time deadline = monotonic_now() + limit;
  std::string why = "no coordinator";
  while (monotonic_now() < deadline) {
    auto status = session.metadata().call_and_wait(StatusRequest{});
    if (status) {
      const bool whole = healthy(*status) && status->nodes.size() == nodes && (status->standby || status->voters.size() <= 1);
      if (whole) return {};
      why = fmt::format("coordinator {}, standby {}, {} blocks under-replicated", to_string(status->coordinator),
                        to_string(status->standby), status->under_replicated_blocks);
      if (!status->alarms.empty()) return Error{Errc::internal, "an alarm: " + status->alarms.front()};
    }
    run_for(session, std::chrono::milliseconds(100));
  }
  return Error{Errc::timeout, "the cluster was not healthy again in time: " + why};
}

Result<std::uint64_t> lost_queries(Session& session, Timeline& timeline, const std::vector<JobReport>& jobs) {
  if (jobs.empty()) return std::uint64_t{0};
  JobReportsRequest request;
  for (const JobReport& job : jobs) request.jobs.push_back(job.id);
  auto reports = session.metadata().call_and_wait(request);
  if (!reports) return reports.error();
  std::uint64_t lost = 0;
  std::set<JobId> endless;
  std::set<JobId> given_up;  // by somebody's wish, or failed: nothing of it is waited for
  for (const JobReport& job : reports->jobs) {
    if (job.state == JobState::done && job.done < total_of(job)) lost += total_of(job) - job.done;
    if (job.state == JobState::stopped || job.state == JobState::failed) given_up.insert(job.id);
    if (total_of(job) == 0) endless.insert(job.id);
  }
  for (const Timeline::Batch& batch : timeline.not_settled()) {
    if (given_up.count(batch.first) != 0) continue;
    // Of a job without end only the last whole pass can be asked for; what its window still lacks stops it before long, and that
    // shows in its rate.
    if (endless.count(batch.first) != 0) {
      timeline.settled(batch, monotonic_now());
      continue;
    }
    auto results = session.metadata().call_and_wait(JobResultsRequest{batch.first, batch.second, 1});
    if (!results) return results.error();
    if (!results->blocks.empty() && results->blocks.front().id != BlockId{}) {
      timeline.settled(batch, monotonic_now());
    } else {
      lost += timeline.queries_of(batch);
    }
  }
  return lost;
}

}  // namespace idunno::cli

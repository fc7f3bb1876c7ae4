#include "cli/experiments/recording.h"

#include <algorithm>
#include <cmath>

#include "bus/done_steps.h"

namespace idunno::cli {

// ---- what the stream tells --------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t kEarlyMax = 4096;     ///< events kept of jobs that are not known yet
constexpr std::size_t kMomentsMax = 65536;  ///< of one round
constexpr double kBeforeMinS = 2;
constexpr double kWindowMinS = 1;
constexpr double kRateOverS = 10;  ///< before a kill: over how long the rates are looked at to choose the window

/// The number behind `mark`: "j1/b5 by n3".
NodeId node_behind(const std::string& text, const std::string& mark) {
  const std::size_t found = text.find(mark);
  if (found == std::string::npos) return {};
  NodeId node;
  for (std::size_t i = found + mark.size(); i < text.size() && text[i] >= '0' && text[i] <= '9' && node.value < 100'000; ++i)
    node.value = node.value * 10 + static_cast<std::uint32_t>(text[i] - '0');
  return node;
}

Duration from_seconds(double s) { return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s)); }

}  // namespace

void Recorder::start_clock(Time now, WallMs wall) {
  zero_ = now;
  zero_wall_ = wall;
}

double Recorder::seconds_at(WallMs wall) const { return (static_cast<double>(wall) - static_cast<double>(zero_wall_)) / 1000; }

void Recorder::watch_job(const JobReport& job, const std::string& name, double weight, WallMs commanded) {
  if (index_.count(job.id) != 0) return;
  index_[job.id] = jobs_.size();
  reports_[job.id] = job;
  Job& watched = jobs_.emplace_back();
  watched.track.id = job.id;
  watched.track.name = name;
  watched.track.batch = job.spec.batch;
  watched.track.weight = weight;
  watched.commanded = commanded;
  watched.accepted = job.submitted_ms;
  timeline_.watch_job(job);
  for (KillRecord& kill : kills_) kill.timeline.watch_job(job);
  const auto early = early_.extract(job.id);
  if (early.empty()) return;
  for (const EventNotice& notice : early.mapped()) batch_event(notice.event, index_[job.id]);
}

void Recorder::notice(Time at, const EventNotice& notice) {
  timeline_.notice(at, notice);
  for (KillRecord& kill : kills_) kill.timeline.notice(at, notice);
  const Event& event = notice.event;
  if (event.batch >= 0 && event.job && event.type != "alarm") {
    const auto found = index_.find(event.job);
    if (found != index_.end()) return batch_event(event, found->second);
    auto& early = early_[event.job];
    if (early.size() < kEarlyMax) early.push_back(notice);
    return;
  }
  if (moments_.size() < kMomentsMax) moments_.emplace_back(event.at_ms, Moment{0, event.node, event.type, event.text});
}

void Recorder::seen_dead(Time at, NodeId node) {
  for (KillRecord& kill : kills_) kill.timeline.seen_dead(at, node);
}

void Recorder::batch_event(const Event& event, std::size_t index) {
  Job& job = jobs_[index];
  const auto key = std::make_pair(index, static_cast<std::uint64_t>(event.batch));
  if (event.type == "batch_leased" || event.type == "batch_hedged") {
    InWork& work = in_work_[key];
    if (work.leased == 0) work.leased = event.at_ms;
  } else if (event.type == "batch_started") {
    in_work_[key].started[event.node] = event.at_ms;
    if (job.started == 0 || event.at_ms < job.started) job.started = event.at_ms;
  } else if (event.type == "batch_committed") {
    ++job.commits;
    if (job.committed == 0) job.committed = event.at_ms;
    const NodeId node = node_behind(event.text, " by n");
    ++job.by_node[node];
    const auto work = in_work_.extract(key);
    if (work.empty()) return;  // leased before we listened
    const auto started = work.mapped().started.find(node);
    // A start that was told in the same millisecond may arrive after its commit; without it the batch says nothing.
    if (started == work.mapped().started.end() || started->second > event.at_ms) return;
    batches_.push_back({index, key.second, node, work.mapped().leased, started->second, event.at_ms, event.done_milli});
  }
}

std::uint64_t Recorder::commits(JobId job) const {
  const auto found = index_.find(job);
  return found == index_.end() ? 0 : jobs_[found->second].commits;
}

std::size_t Recorder::nodes_of(JobId job) const {
  const auto found = index_.find(job);
  return found == index_.end() ? 0 : jobs_[found->second].by_node.size();
}

void Recorder::killed(Time now, WallMs wall, const Strike& strike) {
  KillRecord& kill = kills_.emplace_back();
  kill.name = strike.name;
  kill.at_s = seconds_at(wall);
  kill.victims = strike.victims;
  kill.coordinator = strike.coordinator;
  kill.slots_left = strike.slots_left;
  std::vector<JobReport> rates;
  const double looked_back = std::min(kRateOverS, std::max(0.5, kill.at_s));
  for (const auto& [id, report] : reports_) {
    rates.push_back(report);
    rates.back().rate_milli_qps =
        static_cast<std::uint64_t>(std::max(0.0, 1000 * timeline_.rate(id, now - from_seconds(looked_back), now)));
  }
  kill.window = std::min(Timeline::window_of(rates), from_seconds(std::max(kWindowMinS, strike.quiet_s / 2)));
  kill.before = std::max(from_seconds(kBeforeMinS), kill.window);
  kill.timeline = timeline_;
  kill.timeline.killed(now, {strike.victims.begin(), strike.victims.end()});
}

bool Recorder::settled(Time now) const {
  return std::all_of(kills_.begin(), kills_.end(), [&](const KillRecord& kill) {
    const Timeline& timeline = kill.timeline;
    return std::all_of(kill.victims.begin(), kill.victims.end(),
                       [&](NodeId node) { return timeline.detected(node) && timeline.reassigned(node); }) &&
           (!kill.coordinator || !timeline.changes().empty()) &&
           timeline.normal(kill.before, kill.window, now, kNormalShare * kill.slots_left);
  });
}

Recording Recorder::finish(WallMs wall) {
  Recording recording;
  recording.end_s = seconds_at(wall);
  const auto when = [&](WallMs at) { return at == 0 ? std::optional<double>() : std::optional<double>(seconds_at(at)); };
  for (Job& job : jobs_) {
    job.track.commanded_s = seconds_at(job.commanded);
    job.track.accepted_s = seconds_at(job.accepted);
    job.track.started_s = when(job.started);
    job.track.committed_s = when(job.committed);
    recording.jobs.push_back(job.track);
  }
  for (const Raw& raw : batches_) {
    recording.batches.push_back({raw.job, raw.batch, jobs_[raw.job].track.batch, raw.node, seconds_at(raw.leased),
                                 seconds_at(raw.started), seconds_at(raw.committed), raw.done_milli});
  }
  std::stable_sort(recording.batches.begin(), recording.batches.end(),
                   [](const BatchRecord& one, const BatchRecord& other) { return one.committed_s < other.committed_s; });
  for (auto& [at, moment] : moments_) {
    moment.at_s = seconds_at(at);
    recording.moments.push_back(std::move(moment));
  }
  recording.kills = std::move(kills_);
  recording.lost_notices = timeline_.lost_notices();
  return recording;
}

// ---- the numbers ------------------------------------------------------------------------------------------------------

double Recording::committed_rate(std::optional<std::size_t> job, double from_s, double to_s) const {
  double sum = 0;
  for (const BatchRecord& one : batches) {
    if ((!job || one.job == *job) && one.committed_s > from_s && one.committed_s <= to_s) sum += one.queries;
  }
  return to_s > from_s ? sum / (to_s - from_s) : 0;
}

namespace {

/// Of the batch, until then.
double done_until(const BatchRecord& batch, double at_s) {
  const auto micros = [](double seconds) { return static_cast<std::int64_t>(std::clamp(seconds, 0.0, 1e6) * 1e6); };
  return done_part(batch.done_milli, micros(at_s - batch.started_s), micros(batch.took_s()));
}

}  // namespace

double Recording::processed_rate(std::size_t job, double from_s, double to_s) const {
  double sum = 0;
  for (const BatchRecord& one : batches) {
    if (one.job != job) continue;
    sum += one.queries * (done_until(one, to_s) - done_until(one, from_s));
  }
  return to_s > from_s ? sum / (to_s - from_s) : 0;
}

double Recording::complete_until() const {
  double longest = 0;
  for (const BatchRecord& one : batches) {
    if (one.committed_s > end_s - 3 * kFairWindowS) longest = std::max(longest, one.took_s());
  }
  return end_s - longest;
}

double Recording::machines(std::size_t job, double from_s, double to_s) const {
  double busy = 0;
  for (const BatchRecord& one : batches) {
    if (one.job == job) busy += std::max(0.0, std::min(one.committed_s, to_s) - std::max(one.started_s, from_s));
  }
  return to_s > from_s ? busy / (to_s - from_s) : 0;
}

LatencyPoint Recording::latency(std::optional<std::size_t> job, double from_s, double to_s) const {
  LatencyPoint point;
  point.at_s = to_s;
  // All queries of a batch took the same time.
  std::vector<std::pair<double, std::uint32_t>> times;
  double sum = 0;
  for (const BatchRecord& one : batches) {
    if ((job && one.job != *job) || one.committed_s <= from_s || one.committed_s > to_s) continue;
    times.emplace_back(1000 * one.took_s(), one.queries);
    point.queries += one.queries;
    sum += times.back().first * one.queries;
  }
  if (times.empty()) return point;
  std::sort(times.begin(), times.end());
  const auto count = static_cast<double>(point.queries);
  point.mean_ms = sum / count;
  double squares = 0;
  for (const auto& [ms, queries] : times) squares += queries * (ms - point.mean_ms) * (ms - point.mean_ms);
  point.sd_ms = point.queries < 2 ? 0 : std::sqrt(squares / (count - 1));
  const auto at_rank = [&](double share) {  // nearest rank
    const double rank = std::ceil(share * count);
    double so_far = 0;
    for (const auto& [ms, queries] : times) {
      so_far += queries;
      if (so_far >= rank) return ms;
    }
    return times.back().first;
  };
  point.median_ms = at_rank(0.5);
  point.p90_ms = at_rank(0.9);
  point.p95_ms = at_rank(0.95);
  point.p99_ms = at_rank(0.99);
  return point;
}

std::vector<FairWindow> Recording::fair_windows(double from_s, double to_s, double window_s) const {
  std::vector<FairWindow> windows;
  to_s = std::min(to_s, complete_until());
  for (double begin = from_s; begin + window_s <= to_s + 1e-9; begin += 1) {
    std::vector<double> shares;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      if (!jobs[i].started_s || *jobs[i].started_s > begin) continue;
      shares.push_back(processed_rate(i, begin, begin + window_s) / jobs[i].weight);
    }
    if (shares.size() < 2) continue;
    const auto [lowest, highest] = std::minmax_element(shares.begin(), shares.end());
    if (*highest <= 0) continue;
    static constexpr double kRatioMax = 1000;  // a job that got nothing at all
    windows.push_back({begin + window_s, std::min(kRatioMax, *highest / std::max(*lowest, *highest / kRatioMax))});
  }
  return windows;
}

}  // namespace idunno::cli

#include "cli/timeline.h"

#include <algorithm>
#include <charconv>

#include "bus/done_steps.h"

namespace idunno::cli {

namespace {

constexpr double kBatchesInWindow = 20;
constexpr Duration kWindowMin = std::chrono::seconds(1);
constexpr Duration kWindowMax = std::chrono::seconds(30);
constexpr Duration kSample = std::chrono::milliseconds(10);  ///< how finely the dip is looked at
/// Leases of batches that were committed long ago are no longer in `held_`; this bounds what a stream with losses leaves there.
constexpr std::size_t kHeldMax = 1U << 20U;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// The node behind `mark` in a text of the coordinator, "j1/b5 to n3, attempt 1"; 0 = none.
NodeId node_after(const std::string& text, const std::string& mark) {
  const std::size_t found = text.find(mark);
  if (found == std::string::npos) return {};
  NodeId node;
  const char* begin = text.data() + found + mark.size();
  (void)std::from_chars(begin, text.data() + text.size(), node.value);
  return node;
}

/// The node that a text begins with, "n3: its connection closed".
NodeId node_first(const std::string& text) { return text.empty() || text.front() != 'n' ? NodeId{} : node_after(text, "n"); }

}  // namespace

void Timeline::watch_job(const JobReport& job) {
  Job& watched = jobs_[job.id];
  const bool endless = job.spec.repeat == 0 || job.spec.follow;
  watched.queries = endless ? UINT64_MAX : job.spec.queries * job.spec.repeat;
  watched.batch = std::max(1U, job.spec.batch);
}

void Timeline::notice(Time at, const EventNotice& notice) {
  const Event& event = notice.event;
  std::uint64_t& sequence = sequences_[event.node];
  if (sequence != 0 && notice.sequence > sequence + 1) lost_notices_ += notice.sequence - sequence - 1;
  sequence = notice.sequence;
  if (event.type == "batch_leased") leased(at, event);
  if (event.type == "batch_started") started(at, event);
  if (event.type == "batch_committed") committed(at, event);
  if (event.type == "node_dead") seen_dead(at, node_first(event.text));
  if (event.type == "job_done" || event.type == "job_failed" || event.type == "job_stopped") ended(event.job, at);
  if (event.type == "coordinator_changed" && at >= killed_at_ && victims_.count(event.node) == 0)
    changes_.push_back({at, event.node});
}

void Timeline::seen_dead(Time at, NodeId node) {
  if (node && at >= killed_at_) dead_.emplace(node, at);
}

void Timeline::ended(JobId job, Time at) {
  const auto found = jobs_.find(job);
  if (found != jobs_.end() && !found->second.ended) found->second.ended = at;
}

bool Timeline::all_ended() const {
  return !jobs_.empty() && std::all_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job.second.ended.has_value(); });
}

std::optional<Time> Timeline::first_end() const {
  std::optional<Time> first;
  for (const auto& [id, job] : jobs_) {
    if (job.ended && (!first || *job.ended < *first)) first = job.ended;
  }
  return first;
}

void Timeline::leased(Time at, const Event& event) {
  if (jobs_.count(event.job) == 0 || event.batch < 0) return;
  const Batch batch{event.job, static_cast<std::uint64_t>(event.batch)};
  if (at >= killed_at_ && outstanding_.count(batch) != 0) {
    repeated_.insert(batch);
    settled(batch, at);
  }
  if (at >= killed_at_ && took_over(event.node) && event.text.find(", attempt ") == std::string::npos) passed_over(batch, at);
  if (held_.size() < kHeldMax) held_[batch].insert(node_after(event.text, " to n"));
}

/// A new coordinator leases what no node has told it of in order. What it has passed was committed before: the notice of that
/// ended with the old one.
void Timeline::passed_over(const Batch& leased, Time at) {
  for (auto open = open_.lower_bound({leased.first, 0}); open != open_.end() && *open < leased; open = open_.erase(open)) {
    outstanding_.at(*open).settled = at;
  }
}

void Timeline::started(Time at, const Event& event) {
  if (jobs_.count(event.job) == 0 || event.batch < 0 || started_.size() >= kHeldMax) return;
  started_[{event.job, static_cast<std::uint64_t>(event.batch)}] = at;
}

void Timeline::committed(Time at, const Event& event) {
  const auto job = jobs_.find(event.job);
  if (job == jobs_.end() || event.batch < 0) return;
  const Batch batch{event.job, static_cast<std::uint64_t>(event.batch)};
  auto& commits = job->second.commits;
  const std::uint64_t before = commits.empty() ? 0 : commits.back().queries_so_far;
  const auto begun = started_.find(batch);
  commits.push_back(
      {at, before + queries_of(batch), begun == started_.end() ? at : std::min(begun->second, at), event.done_milli});
  if (begun != started_.end()) started_.erase(begun);
  commit_times_.push_back(at);
  held_.erase(batch);
  if (at >= killed_at_) settled(batch, at);
}

void Timeline::killed(Time at, const std::set<NodeId>& victims) {
  killed_at_ = at;
  victims_ = victims;
  outstanding_.clear();
  open_.clear();
  repeated_.clear();
  dead_.clear();
  changes_.clear();
  for (const auto& [batch, nodes] : held_) {
    Outstanding& open = outstanding_[batch];
    open_.insert(batch);
    for (const NodeId node : nodes) {
      if (victims.count(node) != 0) open.victims.insert(node);
    }
  }
}

void Timeline::settled(const Batch& batch, Time at) {
  if (open_.erase(batch) > 0) outstanding_.at(batch).settled = at;
}

std::optional<Duration> Timeline::detected(NodeId node) const {
  const auto found = dead_.find(node);
  if (found == dead_.end()) return std::nullopt;
  return found->second - killed_at_;
}

std::optional<Duration> Timeline::took_over(NodeId coordinator) const {
  for (const Change& change : changes_) {
    if (change.told_by == coordinator) return change.at - killed_at_;
  }
  return std::nullopt;
}

std::vector<Timeline::Batch> Timeline::not_settled() const {
  std::vector<Batch> open;
  for (const Batch& batch : open_) {
    if (!outstanding_.at(batch).victims.empty()) open.push_back(batch);
  }
  return open;
}

std::optional<Duration> Timeline::reassigned(NodeId victim) const {
  Time last = killed_at_;
  for (const auto& [batch, state] : outstanding_) {
    if (state.victims.count(victim) == 0) continue;
    if (!state.settled) return std::nullopt;
    last = std::max(last, *state.settled);
  }
  return last - killed_at_;
}

std::uint64_t Timeline::queries_of(const Batch& batch) const {
  const auto job = jobs_.find(batch.first);
  if (job == jobs_.end()) return 0;
  const std::uint64_t first = batch.second * job->second.batch;
  return first >= job->second.queries ? 0 : std::min(job->second.batch, job->second.queries - first);
}

// ---- rates ----------------------------------------------------------------------------------------------------------

std::uint64_t Timeline::committed(const Job& job, Time from, Time to) {
  const auto so_far = [&](Time at) -> std::uint64_t {
    const auto after = std::upper_bound(job.commits.begin(), job.commits.end(), at,
                                        [](Time time, const Commit& commit) { return time < commit.at; });
    return after == job.commits.begin() ? 0 : std::prev(after)->queries_so_far;
  };
  return so_far(to) - so_far(from);
}

double Timeline::rate(JobId job, Time from, Time to) const {
  const auto found = jobs_.find(job);
  if (found == jobs_.end() || to <= from) return 0;
  return static_cast<double>(committed(found->second, from, to)) / seconds(to - from);
}

double Timeline::rate(Time from, Time to) const {
  double sum = 0;
  for (const auto& [id, job] : jobs_) sum += rate(id, from, to);
  return sum;
}

double Timeline::Commit::done(Time until) const {
  return done_part(done_milli, (until - started).count(), (at - started).count());
}

double Timeline::work_rate(Time from, Time to) const {
  if (to <= from) return 0;
  double queries = 0;
  for (const auto& [id, job] : jobs_) {
    std::uint64_t before = 0;
    for (const Commit& commit : job.commits) {
      const auto count = static_cast<double>(commit.queries_so_far - before);
      before = commit.queries_so_far;
      queries += count * (commit.done(to) - commit.done(from));
    }
  }
  return queries / seconds(to - from);
}

Duration Timeline::window_of(const std::vector<JobReport>& jobs) {
  Duration window = kWindowMin;
  for (const JobReport& job : jobs) {
    const double batches_per_s =
        static_cast<double>(job.rate_milli_qps) / 1000 / static_cast<double>(std::max(1U, job.spec.batch));
    if (batches_per_s <= 0) continue;
    const auto wanted = std::chrono::duration<double>(kBatchesInWindow / batches_per_s);
    if (wanted > kWindowMax) return kWindowMax;
    window = std::max(window, std::chrono::duration_cast<Duration>(wanted));
  }
  return window;
}

std::optional<Duration> Timeline::normal(Duration before, Duration window, Time now, double share) const {
  std::vector<std::pair<const Job*, double>> wanted;  // queries in a window
  for (const auto& [id, job] : jobs_)
    wanted.emplace_back(&job, share * rate(id, killed_at_ - before, killed_at_) * seconds(window));
  const auto is_normal = [&](Time from) {
    const auto over = [&](const Job& job) { return job.ended && *job.ended < from + window; };
    if (!wanted.empty() && std::all_of(wanted.begin(), wanted.end(), [&](const auto& one) { return over(*one.first); }))
      return false;
    return std::all_of(wanted.begin(), wanted.end(), [&](const auto& one) {
      return over(*one.first) || static_cast<double>(committed(*one.first, from, from + window)) >= one.second;
    });
  };
  for (Time from = killed_at_; from + window <= now; from += kSample) {
    if (is_normal(from)) return from - killed_at_;
  }
  return std::nullopt;
}

/// What was begun later may not have been committed until `end`: no batch takes much longer than those of late did.
Time Timeline::work_known_until(Time end) const {
  Duration longest{};
  for (const auto& [id, job] : jobs_) {
    for (auto commit = job.commits.rbegin(); commit != job.commits.rend() && commit->at + kWindowMax > end; ++commit) {
      if (commit->at <= end) longest = std::max(longest, commit->at - commit->started);
    }
  }
  return end - longest;
}

/// Queries of all jobs that were computed by `from`, `from` + kSample, ... `to`, up to what is the same for all.
std::vector<double> Timeline::work_until(Time from, Time to) const {
  if (to < from) return {};
  std::vector<double> until(static_cast<std::size_t>((to - from) / kSample) + 1);
  std::vector<double> whole(until.size());  // of batches that are done by that sample, and were not by the one before
  const auto sample_at = [&](Time at) {     // the first that is not before
    return static_cast<std::size_t>((std::max(at - from, Duration::zero()) + kSample - Duration(1)) / kSample);
  };
  for (const auto& [id, job] : jobs_) {
    std::uint64_t before = 0;
    for (const Commit& commit : job.commits) {
      const auto count = static_cast<double>(commit.queries_so_far - before);
      before = commit.queries_so_far;
      const std::size_t end = std::min(sample_at(commit.at), until.size());
      for (std::size_t i = sample_at(commit.started); i < end; ++i)
        until[i] += count * commit.done(from + kSample * static_cast<Duration::rep>(i));
      if (end < until.size()) whole[end] += count;
    }
  }
  double sum = 0;
  for (std::size_t i = 0; i < until.size(); ++i) {
    sum += whole[i];
    until[i] += sum;
  }
  return until;
}

Timeline::Dip Timeline::dip(Duration before, Duration window, Time end) const {
  Dip dip;
  if (const auto over = first_end()) end = std::min(end, std::max(*over, killed_at_));
  const double usual = work_rate(killed_at_ - before, killed_at_) * seconds(window);
  double lowest = usual;
  const std::vector<double> until = work_until(killed_at_, work_known_until(end));
  const auto samples = static_cast<std::size_t>(window / kSample);
  for (std::size_t i = 0; i + samples < until.size(); ++i) {
    const double now = until[i + samples] - until[i];
    lowest = std::min(lowest, now);
    if (now < kNormalShare * usual) dip.length += kSample;
  }
  if (usual > 0) dip.depth_pct = 100 * (1 - lowest / usual);
  const auto after = std::upper_bound(commit_times_.begin(), commit_times_.end(), killed_at_);
  Time last = after == commit_times_.begin() ? killed_at_ : *std::prev(after);
  for (auto it = after; it != commit_times_.end() && *it <= end; ++it) {
    dip.longest_gap = std::max(dip.longest_gap, *it - last);
    last = *it;
  }
  if (end > last) dip.longest_gap = std::max(dip.longest_gap, end - last);
  return dip;
}

}  // namespace idunno::cli

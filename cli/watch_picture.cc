#include "cli/watch_picture.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "bus/names.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

/// "slot 3" -> 3.
int slot_of(const std::string& text) {
  static constexpr std::string_view kSlot = "slot ";
  if (text.rfind(kSlot, 0) != 0) return 0;
  int slot = 0;
  (void)std::from_chars(text.data() + kSlot.size(), text.data() + text.size(), slot);
  return std::clamp(slot, 0, 1023);
}

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// Running jobs first, then the newest of the others.
void sort_jobs(std::vector<JobReport>& jobs) {
  std::stable_sort(jobs.begin(), jobs.end(), [](const JobReport& a, const JobReport& b) {
    if (is_over(a.state) != is_over(b.state)) return !is_over(a.state);
    return is_over(a.state) ? a.id > b.id : a.id < b.id;
  });
}

}  // namespace

std::uint64_t goal_of(const JobReport& job) { return job.spec.follow ? 0 : total_of(job); }

std::optional<double> fraction_of(const JobReport& job) {
  const std::uint64_t total = goal_of(job);
  if (total == 0) return job.state == JobState::done ? std::optional<double>(1) : std::nullopt;
  return std::min(1.0, static_cast<double>(job.done) / static_cast<double>(total));
}

const LatencySummary& recent_latency(const JobReport& job) {
  return job.window_latency.count > 0 ? job.window_latency : job.latency;
}

bool is_routine(const Event& event) {
  return event.type == "batch_leased" || event.type == "batch_started" || event.type == "batch_committed";
}

std::vector<const Event*> ClusterPicture::events(bool with_batches) const {
  std::vector<const Event*> out;
  auto batch = batch_events_.begin();
  for (const Seen& each : events_) {
    for (; with_batches && batch != batch_events_.end() && batch->number < each.number; ++batch) out.push_back(&batch->event);
    out.push_back(&each.event);
  }
  for (; with_batches && batch != batch_events_.end(); ++batch) out.push_back(&batch->event);
  return out;
}

void ClusterPicture::apply(const Event& event, Time now) {
  auto& list = is_routine(event) ? batch_events_ : events_;
  list.push_back({++seen_, event});
  if (list.size() > kEventsMax) list.pop_front();
  if (event.type == "batch_started") started(event);
  if (event.batch >= 0 && (event.type == "batch_committed" || event.type == "batch_failed"))
    ended(event.job, static_cast<BatchIndex>(event.batch), event.at_ms);
  if (event.type == "coordinator_changed") took_over(event.node, Epoch{}, now);
}

void ClusterPicture::apply(const StatsNotice& notice, Time now) {
  for (const NodeReport& node : notice.nodes) {
    if (node.coordinator) took_over(node.id, Epoch{}, now);
  }
  if (took_over_at_ && stats_at_ && *stats_at_ < *took_over_at_) gap_ = now - *stats_at_;
  stats_at_ = now;
  jobs_ = notice.stats.jobs;
  sort_jobs(jobs_);
  keep_rates(now);
  fairness_ = notice.stats.fairness;
  nodes_ = notice.nodes;
  std::map<JobId, std::deque<std::uint64_t>> rates;
  for (const JobReport& job : jobs_) {
    auto& history = rates[job.id] = std::move(rates_[job.id]);
    history.push_back(job.rate_milli_qps);
    if (history.size() > kRatesMax) history.pop_front();
  }
  rates_ = std::move(rates);
  for (const NodeReport& node : nodes_) {
    if (node.state != NodeState::dead && node.state != NodeState::left) continue;
    for (const LiveBatch& batch : running_[node.id]) close(node.id, batch, notice.at_ms);
    running_.erase(node.id);
  }
}

/// A new coordinator has seen nothing of the window before it took over, so its first rates begin at 0 although the work went on.
/// What is committed stands in the log that it took over: until its window is full, rates follow from that.
void ClusterPicture::keep_rates(Time now) {
  const bool young = took_over_at_ && now - *took_over_at_ <= kRateWindow;
  std::map<JobId, std::deque<std::pair<Time, std::uint64_t>>> kept;
  for (JobReport& job : jobs_) {
    if (is_over(job.state)) continue;
    auto& done = kept[job.id] = std::move(done_[job.id]);
    while (!done.empty() && now - done.front().first > kRateWindow) done.pop_front();
    if (young && !done.empty() && job.done >= done.front().second) {
      const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now - done.front().first).count();
      static constexpr std::uint64_t kMillion = 1'000'000;  // queries a millisecond -> thousandths of a query a second
      if (ms > 0) job.rate_milli_qps = (job.done - done.front().second) * kMillion / static_cast<std::uint64_t>(ms);
    }
    done.emplace_back(now, job.done);
    if (done.size() > kRatesMax) done.pop_front();
  }
  done_ = std::move(kept);
}

void ClusterPicture::apply(const StatusReply& status, Time now) {
  if (status.coordinator && status.epoch >= epoch_) {
    if (status.coordinator != coordinator_) took_over(status.coordinator, status.epoch, now);
    epoch_ = status.epoch;
  }
  status_ = status;
  status_at_ = now;
  if (nodes_.empty()) nodes_ = status.nodes;
}

void ClusterPicture::apply(const MemberListReply& members, Time now) {
  if (!silent(now)) return;
  for (const MemberEntry& member : members.members) {
    for (NodeReport& node : nodes_) {
      if (node.id == member.id) node.state = member.state;
    }
  }
}

void ClusterPicture::took_over(NodeId node, Epoch epoch, Time now) {
  if (node == coordinator_ || !node) return;
  if (coordinator_) {
    before_ = coordinator_;
    took_over_at_ = now;
    gap_ = stats_at_ ? std::optional<Duration>(now - *stats_at_) : std::nullopt;
  }
  coordinator_ = node;
  epoch_ = std::max(epoch_, epoch);
  for (NodeReport& each : nodes_) each.coordinator = each.id == node;
}

void ClusterPicture::started(const Event& event) {
  auto& batches = running_[event.node];
  const LiveBatch batch{event.job, static_cast<BatchIndex>(std::max<std::int64_t>(event.batch, 0)), slot_of(event.text),
                        event.at_ms};
  // A slot runs one batch at a time: what it ran before is over, even if its commit is still on the way.
  for (auto at = batches.begin(); at != batches.end();) {
    if (at->slot == batch.slot || batches.size() >= kRunningMax) {
      close(event.node, *at, event.at_ms);
      at = batches.erase(at);
    } else {
      ++at;
    }
  }
  batches.push_back(batch);
}

void ClusterPicture::ended(JobId job, BatchIndex batch, WallMs at) {
  for (auto& [node, batches] : running_) {
    for (auto each = batches.begin(); each != batches.end(); ++each) {
      if (each->job != job || each->batch != batch) continue;
      close(node, *each, at);
      batches.erase(each);
      break;
    }
  }
}

void ClusterPicture::close(NodeId node, const LiveBatch& batch, WallMs at) {
  if (spans_.size() >= kSpansMax) spans_.pop_front();
  spans_.push_back({node, batch.slot, batch.job, batch.batch, batch.started_ms, std::max(at, batch.started_ms)});
}

std::vector<BatchSpan> ClusterPicture::take_spans() {
  std::vector<BatchSpan> out(spans_.begin(), spans_.end());
  spans_.clear();
  return out;
}

std::vector<LiveBatch> ClusterPicture::running(NodeId node) const {
  if (const auto found = running_.find(node); found != running_.end() && !found->second.empty()) return found->second;
  std::vector<LiveBatch> out;
  for (const NodeReport& report : nodes_) {
    if (report.id != node) continue;
    for (const RunningBatch& batch : report.running_batches) out.push_back({batch.lease.job, batch.lease.batch, -1, 0});
  }
  return out;
}

const std::deque<std::uint64_t>& ClusterPicture::rates(JobId job) const {
  static const std::deque<std::uint64_t> none;
  const auto found = rates_.find(job);
  return found == rates_.end() ? none : found->second;
}

std::vector<std::string> ClusterPicture::roles(NodeId node) const {
  const auto in = [&](const std::vector<NodeId>& nodes) { return std::find(nodes.begin(), nodes.end(), node) != nodes.end(); };
  std::vector<std::string> out;
  if (coordinator_ && node == coordinator_) out.emplace_back("coordinator");
  if (status_.standby && node == status_.standby && node != coordinator_) out.emplace_back("standby");
  if (in(status_.voters)) out.emplace_back("voter");
  if (in(status_.learners)) out.emplace_back("learner");
  return out;
}

std::optional<Duration> ClusterPicture::age(Time now) const {
  if (!stats_at_) return std::nullopt;
  return std::max(Duration::zero(), now - *stats_at_);
}

bool ClusterPicture::silent(Time now) const { return stats_at_ && now - *stats_at_ > kSilence; }

std::string ClusterPicture::banner(Time now) const {
  const bool numbers_before = took_over_at_ && stats_at_ && *stats_at_ < *took_over_at_;
  if (numbers_before) {
    return fmt::format("{} takes over from {}, last data {:.1f} s old", to_string(coordinator_), to_string(before_),
                       seconds(*age(now)));
  }
  if (silent(now)) return fmt::format("coordinator is being replaced, last data {:.1f} s old", seconds(*age(now)));
  if (!took_over_at_ || now - *took_over_at_ >= kTakeoverShown) return "";
  std::string text = fmt::format("{} took over from {} {:.0f} s ago", to_string(coordinator_), to_string(before_),
                                 seconds(now - *took_over_at_));
  if (gap_) text += fmt::format("; {:.1f} s without numbers", seconds(*gap_));
  return text;
}

std::vector<std::string> ClusterPicture::troubles() const {
  std::vector<std::string> out;
  std::string dead;
  std::string suspect;
  for (const NodeReport& node : nodes_) {
    std::string* list = node.state == NodeState::dead ? &dead : node.state == NodeState::suspect ? &suspect : nullptr;
    if (list != nullptr) *list += (list->empty() ? "" : ", ") + to_string(node.id);
  }
  if (!coordinator_) out.emplace_back("no coordinator");
  if (!dead.empty()) out.push_back(dead + " dead");
  if (!suspect.empty()) out.push_back(suspect + " suspect");
  if (status_.under_replicated_blocks > 0)
    out.push_back(fmt::format("{} blocks under-replicated", status_.under_replicated_blocks));
  if (!status_.alarms.empty())
    out.push_back(fmt::format("{} alarm{}", status_.alarms.size(), status_.alarms.size() == 1 ? "" : "s"));
  return out;
}

}  // namespace idunno::cli

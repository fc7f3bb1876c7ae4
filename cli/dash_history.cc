#include "cli/dash_history.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "bus/clock.h"
#include "bus/names.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

/// Thousandths of a second are enough for people.
Json ms_or_null(const LatencySummary& latency, std::uint64_t us) {
  return latency.count == 0 ? Json(nullptr) : Json(std::round(static_cast<double>(us) / 100) / 10);
}

Json ratio_or_null(std::uint64_t milli) { return milli == 0 ? Json(nullptr) : Json(from_milli(milli)); }

Json span_json(const BatchSpan& span) {
  return Json::array({span.node.value, span.slot, span.job.value, span.batch, span.start_ms, span.end_ms});
}

Json job_state(const JobReport& job) {
  const LatencySummary& latency = recent_latency(job);
  const std::uint64_t total = goal_of(job);
  Json out = Json::object();
  out["id"] = job.id.value;
  out["name"] = job.spec.name;
  out["model"] = job.spec.model;
  out["data"] = job.spec.data_path;
  out["state"] = to_string(job.state);
  out["over"] = is_over(job.state);
  out["batch"] = job.spec.batch;
  out["weight"] = from_milli(job.spec.weight_milli);
  out["priority"] = job.spec.priority;
  out["limit"] = ratio_or_null(job.spec.rate_limit_milli);
  out["total"] = total == 0 ? Json(nullptr) : Json(total);
  out["done"] = job.done;
  out["errors"] = job.errors;
  out["rate"] = from_milli(job.rate_milli_qps);
  out["rate_all"] = from_milli(job.rate_all_milli_qps);
  out["median"] = ms_or_null(latency, latency.median_us);
  out["p90"] = ms_or_null(latency, latency.p90_us);
  out["p95"] = ms_or_null(latency, latency.p95_us);
  out["p99"] = ms_or_null(latency, latency.p99_us);
  out["mean"] = ms_or_null(latency, latency.mean_us);
  out["sd"] = ms_or_null(latency, latency.sd_us);
  Json nodes = Json::array();
  for (const NodeId node : job.nodes) nodes.push_back(node.value);
  out["nodes"] = std::move(nodes);
  out["retried"] = job.retried;
  out["reason"] = job.reason;
  return out;
}

Json node_state(const ClusterPicture& picture, const NodeReport& node) {
  Json out = Json::object();
  out["id"] = node.id.value;
  out["state"] = to_string(node.state);
  out["roles"] = picture.roles(node.id);
  out["address"] = fmt::format("{}:{}", node.host, node.base_port);
  out["cpu"] = static_cast<double>(node.cpu_milli) / 1000;
  out["memory"] = node.rss_bytes + node.executor_rss_bytes;
  out["slots"] = node.slots;
  out["running"] = node.running;
  out["leased"] = node.leased;
  out["blocks"] = node.blocks;
  out["stored"] = node.block_bytes;
  out["free"] = node.free_bytes;
  out["capacity"] = node.capacity_bytes;
  out["full"] = node.read_only;
  out["models"] = node.models;
  out["since"] = node.since_ms;
  return out;
}

Json fairness_state(const FairnessReport& fair) {
  Json out = Json::object();
  out["jobs"] = fair.jobs;
  out["now"] = ratio_or_null(fair.max_min_milli);
  out["last"] = ratio_or_null(fair.last_max_min_milli);
  out["windows"] = fair.windows;
  out["in10"] = fair.in10_windows;
  out["in20"] = fair.in20_windows;
  out["worst"] = ratio_or_null(fair.worst_max_min_milli);
  out["worst_at"] = fair.worst_at_ms;
  out["cause"] = fair.worst_cause;
  return out;
}

/// Time that [from, to) shares with the span, in milliseconds.
std::uint64_t overlap(WallMs start, WallMs end, WallMs from, WallMs to) {
  const WallMs begin = std::max(start, from);
  const WallMs finish = std::min(end, to);
  return finish > begin ? static_cast<std::uint64_t>(finish - begin) : 0;
}

/// So many machines each job used on average between two samples: slot time over the time of all slots of one machine.
std::map<JobId, double> machines_used(const ClusterPicture& picture, const std::vector<BatchSpan>& ended, WallMs from,
                                      WallMs to) {
  std::map<JobId, double> out;
  if (from == 0 || to <= from) return out;
  std::map<NodeId, double> slots;
  for (const NodeReport& node : picture.nodes()) slots[node.id] = std::max(1U, node.slots);
  const auto add = [&](NodeId node, JobId job, WallMs start, WallMs end) {
    const auto found = slots.find(node);
    if (found == slots.end()) return;
    out[job] += static_cast<double>(overlap(start, end, from, to)) / (static_cast<double>(to - from) * found->second);
  };
  for (const BatchSpan& span : ended) add(span.node, span.job, span.start_ms, span.end_ms);
  for (const NodeReport& node : picture.nodes()) {
    for (const LiveBatch& batch : picture.running(node.id)) {
      if (batch.started_ms != 0) add(node.id, batch.job, batch.started_ms, to);
    }
  }
  return out;
}

template <class List>
void bound(List& list, std::size_t most) {
  while (list.size() > most) list.pop_front();
}

}  // namespace

Json dash_state(const ClusterPicture& picture, Time now, WallMs wall) {
  const StatusReply& status = picture.status();
  Json out = Json::object();
  out["at"] = wall;
  out["cluster"] = picture.name();
  out["coordinator"] = picture.coordinator().value;
  out["standby"] = status.standby.value;
  out["epoch"] = picture.epoch().value;
  out["phase"] = status.phase;
  out["troubles"] = picture.troubles();
  out["alarms"] = status.alarms;
  out["banner"] = picture.banner(now);
  out["silent"] = picture.silent(now);
  out["jobs"] = Json::array();
  for (const JobReport& job : picture.jobs()) out["jobs"].push_back(job_state(job));
  out["nodes"] = Json::array();
  for (const NodeReport& node : picture.nodes()) out["nodes"].push_back(node_state(picture, node));
  out["fairness"] = fairness_state(picture.fairness());
  Json files = Json::object();
  files["under_replicated"] = status.under_replicated_blocks;
  files["files"] = status.files;
  files["blocks"] = status.blocks;
  files["bytes"] = status.logical_bytes;
  out["sdfs"] = std::move(files);
  return out;
}

void DashHistory::sample(const ClusterPicture& picture, WallMs at) {
  const auto machines = machines_used(picture, since_sample_, sampled_at_, at);
  since_sample_.clear();
  sampled_at_ = at;
  Json jobs = Json::array();
  for (const JobReport& job : picture.jobs()) {
    if (is_over(job.state) || jobs.size() >= kJobsPerSampleMax) break;  // running jobs come first
    const LatencySummary& latency = recent_latency(job);
    const auto used = machines.find(job.id);
    jobs.push_back(Json::array(
        {job.id.value, from_milli(job.rate_milli_qps), from_milli(job.spec.weight_milli), ms_or_null(latency, latency.median_us),
         ms_or_null(latency, latency.p90_us), ms_or_null(latency, latency.p99_us),
         used == machines.end() ? 0.0 : std::round(used->second * 1000) / 1000, job.state == JobState::running ? 1 : 0}));
  }
  samples_.push_back(Json::array({at, std::move(jobs), picture.status().under_replicated_blocks}));
  bound(samples_, kSamplesMax);
}

void DashHistory::add(const Event& event) {
  if (is_routine(event)) return;
  events_.push_back(event);
  bound(events_, kEventsMax);
  if (new_events_.size() < kEventsMax) new_events_.push_back(event);
}

void DashHistory::add(const BatchSpan& span) {
  // Machines are counted from all spans; what is drawn is not finer than a screen shows.
  static constexpr std::size_t kSinceSampleMax = 20'000;
  if (since_sample_.size() < kSinceSampleMax) since_sample_.push_back(span);
  for (auto last = spans_.rbegin(); last != spans_.rend(); ++last) {
    if (last->node != span.node || last->slot != span.slot) continue;
    const bool shorts = span.end_ms - span.start_ms < kShortSpanMs && last->job == span.job;
    if (!shorts || span.start_ms - last->end_ms > kShortSpanMs || span.end_ms - last->start_ms > kMergedSpanMs) break;
    last->end_ms = span.end_ms;
    last->batch = span.batch;
    for (auto open = new_spans_.rbegin(); open != new_spans_.rend(); ++open) {
      if (open->node != span.node || open->slot != span.slot) continue;
      if (open->start_ms != last->start_ms) break;
      *open = *last;
      return;
    }
    new_spans_.push_back(*last);  // the page replaces the one with the same beginning
    return;
  }
  spans_.push_back(span);
  bound(spans_, kSpansMax);
  if (new_spans_.size() < kSpansMax) new_spans_.push_back(span);
}

Json DashHistory::running(const ClusterPicture& picture) const {
  Json out = Json::array();
  for (const NodeReport& node : picture.nodes()) {
    for (const LiveBatch& batch : picture.running(node.id)) {
      out.push_back(Json::array({node.id.value, std::max(0, batch.slot), batch.job.value, batch.batch, batch.started_ms}));
    }
  }
  return out;
}

Json DashHistory::take_news(const ClusterPicture& picture, Time now) {
  const std::string banner = picture.banner(now);
  Json batches = running(picture);
  std::string batches_text = dump(batches);
  if (new_events_.empty() && new_spans_.empty() && banner == told_banner_ && batches_text == told_running_) return nullptr;
  told_banner_ = banner;
  told_running_ = std::move(batches_text);
  Json out = Json::object();
  out["banner"] = banner;
  out["silent"] = picture.silent(now);
  out["running"] = std::move(batches);
  out["events"] = Json::array();
  for (const Event& event : new_events_) out["events"].push_back(event_json(event));
  out["spans"] = Json::array();
  for (const BatchSpan& span : new_spans_) out["spans"].push_back(span_json(span));
  // While nobody coordinates, this is where the other members' view of the nodes comes from.
  out["nodes"] = Json::array();
  for (const NodeReport& node : picture.nodes()) out["nodes"].push_back(Json::array({node.id.value, to_string(node.state)}));
  out["coordinator"] = picture.coordinator().value;
  new_events_.clear();
  new_spans_.clear();
  return out;
}

Json DashHistory::tick(const ClusterPicture& picture, Time now, WallMs wall) const {
  Json out = dash_state(picture, now, wall);
  if (!samples_.empty()) out["sample"] = samples_.back();
  return out;
}

Json DashHistory::whole(const ClusterPicture& picture, Time now, WallMs wall) const {
  Json out = dash_state(picture, now, wall);
  out["samples"] = samples_;
  out["spans"] = Json::array();
  for (const BatchSpan& span : spans_) out["spans"].push_back(span_json(span));
  out["events"] = Json::array();
  for (const Event& event : events_) out["events"].push_back(event_json(event));
  out["running"] = running(picture);
  return out;
}

}  // namespace idunno::cli

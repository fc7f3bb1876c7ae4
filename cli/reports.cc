#include "cli/reports.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/text.h"

namespace idunno::cli {

double from_milli(std::uint64_t milli) { return static_cast<double>(milli) / 1000.0; }

std::uint64_t total_of(const JobReport& job) {
  // A node that does not coordinate answers without it.
  return job.total != 0 ? job.total : job.spec.queries * job.spec.repeat;
}

double eta_seconds(const JobReport& job) {
  const std::uint64_t total = total_of(job);
  if (is_over(job.state)) return 0;
  if (total == 0 || job.spec.follow) return -1;
  if (job.done >= total) return 0;
  const std::uint64_t rate = job.rate_milli_qps != 0 ? job.rate_milli_qps : job.rate_all_milli_qps;
  if (rate == 0 || job.state == JobState::paused) return -1;
  return static_cast<double>(total - job.done) / from_milli(rate);
}

ExitCode exit_code_of(const JobReport& job) {
  switch (job.state) {
    case JobState::failed:
      return kJobFailed;
    case JobState::stopped:
      return kJobStopped;
    case JobState::done:
      return job.errors > 0 ? kQueryErrors : kDone;
    case JobState::queued:
    case JobState::running:
    case JobState::paused:
      break;
  }
  return kTimedOut;
}

namespace {

double ms(std::uint64_t us) { return static_cast<double>(us) / 1000.0; }

/// No number without a measurement behind it.
Json ms_or_null(const LatencySummary& latency, std::uint64_t us) { return latency.count == 0 ? Json(nullptr) : Json(ms(us)); }

Json time_or_null(WallMs at) { return at == 0 ? Json(nullptr) : Json(rfc3339(at)); }

Json node_names(const std::vector<NodeId>& nodes) {
  Json names = Json::array();
  for (const NodeId node : nodes) names.push_back(to_string(node));
  return names;
}

Json name_or_null(NodeId node) { return node ? Json(to_string(node)) : Json(nullptr); }

double rounded(double value, double step) { return std::round(value / step) * step; }

std::string ms_text(const LatencySummary& latency, std::uint64_t us) {
  if (latency.count == 0) return "-";
  const double value = ms(us);
  return value < 10 ? fmt::format("{:.2f}", value) : value < 100 ? fmt::format("{:.1f}", value) : fmt::format("{:.0f}", value);
}

std::string qps_text(std::uint64_t milli) { return fmt::format("{:.1f}", from_milli(milli)); }

}  // namespace

Json job_json(const JobReport& job) {
  Json out = Json::object();
  const LatencySummary& latency = job.latency;
  out["id"] = to_string(job.id);
  out["name"] = job.spec.name;
  out["kind"] = to_string(job.spec.kind);
  out["model"] = job.spec.model;
  out["state"] = to_string(job.state);
  out["batch"] = job.spec.batch;
  out["weight"] = from_milli(job.spec.weight_milli);
  out["total"] = total_of(job) == 0 ? Json(nullptr) : Json(total_of(job));
  out["done"] = job.done;
  out["errors"] = job.errors;
  out["rate_qps"] = from_milli(job.rate_milli_qps);
  out["rate_all_qps"] = from_milli(job.rate_all_milli_qps);
  out["mean_ms"] = ms_or_null(latency, latency.mean_us);
  out["sd_ms"] = ms_or_null(latency, latency.sd_us);
  out["median_ms"] = ms_or_null(latency, latency.median_us);
  out["p90_ms"] = ms_or_null(latency, latency.p90_us);
  out["p95_ms"] = ms_or_null(latency, latency.p95_us);
  out["p99_ms"] = ms_or_null(latency, latency.p99_us);
  out["nodes"] = node_names(job.nodes);
  const double eta = eta_seconds(job);
  out["eta_s"] = eta < 0 ? Json(nullptr) : Json(rounded(eta, 0.1));
  const LatencySummary& window = job.window_latency;
  out["window_done"] = job.window_done;
  out["window_mean_ms"] = ms_or_null(window, window.mean_us);
  out["window_sd_ms"] = ms_or_null(window, window.sd_us);
  out["window_median_ms"] = ms_or_null(window, window.median_us);
  out["window_p90_ms"] = ms_or_null(window, window.p90_us);
  out["window_p95_ms"] = ms_or_null(window, window.p95_us);
  out["window_p99_ms"] = ms_or_null(window, window.p99_us);
  out["model_loads"] = job.model_loads;
  out["model_load_s"] = static_cast<double>(job.model_load_us) / 1e6;
  return out;
}

Json job_detail_json(const JobReport& job) {
  Json out = job_json(job);
  out["submitted_at"] = time_or_null(job.submitted_ms);
  out["first_batch_at"] = time_or_null(job.first_batch_ms);
  out["finished_at"] = time_or_null(job.finished_ms);
  out["result_path"] = job.result_path;
  const bool whole = job.state == JobState::done || (is_over(job.state) && job.digest != Hash128{});
  out["result_digest"] = whole ? Json(idunno::to_string(job.digest)) : Json(nullptr);
  // A batch does not cross the end of a pass; how a following job's queries are cut depends on when they came.
  const std::uint64_t pass = (job.spec.queries + job.spec.batch - 1) / std::max<std::uint64_t>(job.spec.batch, 1);
  out["batches"] = total_of(job) == 0 || job.spec.follow ? Json(nullptr) : Json(pass * job.spec.repeat);
  out["batches_done"] = job.batches_done;
  out["batches_leased"] = job.leased;
  out["duplicate_commits"] = job.duplicate_commits;
  out["conflicting_commits"] = job.conflicting_commits;
  out["hedged"] = job.hedged;
  out["retried"] = job.retried;
  out["quarantined"] = job.quarantined;
  out["model_version"] = job.spec.model_version;
  out["data_path"] = job.spec.data_path;
  out["manifest_path"] = job.spec.manifest_path;
  out["item_kind"] = to_string(job.spec.item_kind);
  out["priority"] = job.spec.priority;
  out["rate_limit_qps"] = job.spec.rate_limit_milli == 0 ? Json(nullptr) : Json(from_milli(job.spec.rate_limit_milli));
  out["nodes_min"] = job.spec.nodes_min;
  out["nodes_max"] = job.spec.nodes_max == 0 ? Json(nullptr) : Json(job.spec.nodes_max);
  out["repeat"] = job.spec.repeat == 0 ? Json("forever") : Json(job.spec.repeat);
  out["follow"] = job.spec.follow;
  out["urgent"] = job.spec.urgent;
  out["reason"] = job.reason.empty() ? Json(nullptr) : Json(job.reason);
  return out;
}

Json node_json(const NodeReport& node, const StatusReply& status) {
  Json roles = Json::array();
  if (node.id == status.coordinator) roles.push_back("coordinator");
  if (status.standby && node.id == status.standby) roles.push_back("standby");
  if (std::find(status.voters.begin(), status.voters.end(), node.id) != status.voters.end()) roles.push_back("voter");
  if (std::find(status.learners.begin(), status.learners.end(), node.id) != status.learners.end()) roles.push_back("learner");
  roles.push_back("worker");
  Json out = Json::object();
  out["id"] = to_string(node.id);
  out["state"] = to_string(node.state);
  out["roles"] = std::move(roles);
  out["pid"] = node.pid;
  out["address"] = fmt::format("{}:{}", node.host, node.base_port);
  out["data_dir"] = node.data_dir;
  out["incarnation"] = node.incarnation.value;
  out["since"] = time_or_null(node.since_ms);
  out["slots"] = node.slots;
  out["running"] = node.running;
  out["leased"] = node.leased;
  out["blocks"] = node.blocks;
  out["block_bytes"] = node.block_bytes;
  out["free_bytes"] = node.free_bytes;
  out["capacity_bytes"] = node.capacity_bytes;
  out["rss_bytes"] = node.rss_bytes;
  out["read_only"] = node.read_only;
  out["cpu_cores"] = from_milli(node.cpu_milli);
  out["executor_rss_bytes"] = node.executor_rss_bytes;
  out["models"] = node.models;
  out["model_loads"] = node.model_loads;
  out["running_batches"] = Json::array();
  for (const RunningBatch& batch : node.running_batches) {
    out["running_batches"].push_back(
        {{"batch", fmt::format("{}/b{}", to_string(batch.lease.job), batch.lease.batch)}, {"elapsed_ms", batch.elapsed_ms}});
  }
  return out;
}

bool healthy(const StatusReply& status) {
  return status.coordinator && status.under_replicated_blocks == 0 && status.alarms.empty() &&
         std::all_of(status.nodes.begin(), status.nodes.end(),
                     [](const NodeReport& n) { return n.state == NodeState::alive || n.state == NodeState::left; });
}

Json status_json(const StatusReply& status) {
  Json out = Json::object();
  out["healthy"] = healthy(status);
  out["coordinator"] = name_or_null(status.coordinator);
  out["standby"] = name_or_null(status.standby);
  out["epoch"] = status.epoch.value;
  out["voters"] = node_names(status.voters);
  out["learners"] = node_names(status.learners);
  out["phase"] = status.phase;
  out["phase_number"] = status.phase_number;
  out["phase_since"] = time_or_null(status.phase_since_ms);
  out["nodes"] = Json::array();
  for (const NodeReport& node : status.nodes) out["nodes"].push_back(node_json(node, status));
  out["under_replicated_blocks"] = status.under_replicated_blocks;
  out["files"] = status.files;
  out["blocks"] = status.blocks;
  out["logical_bytes"] = status.logical_bytes;
  out["jobs_running"] = status.jobs_running;
  out["log_index"] = status.log_index;
  out["alarms"] = status.alarms;
  out["refused_keys"] = status.refused_keys;
  out["refused_messages"] = status.refused_messages;
  out["answered_by"] = name_or_null(status.answered_by);
  return out;
}

Json event_json(const Event& event) {
  Json out = Json::object();
  out["at"] = rfc3339(event.at_ms);
  out["node"] = name_or_null(event.node);
  out["type"] = event.type;
  out["job"] = event.job ? Json(to_string(event.job)) : Json(nullptr);
  out["batch"] = event.batch < 0 ? Json(nullptr) : Json(event.batch);
  out["text"] = event.text;
  if (!event.done_milli.empty()) out["done_milli"] = event.done_milli;
  return out;
}

Json stats_event_json(const StatsNotice& notice, NodeId from) {
  Json out = Json::object();
  out["at"] = rfc3339(notice.at_ms);
  out["node"] = name_or_null(from);
  out["type"] = "stats";
  out["jobs"] = Json::array();
  for (const JobReport& job : notice.stats.jobs) out["jobs"].push_back(job_json(job));
  out["fairness"] = fairness_json(notice.stats.fairness);
  StatusReply none;
  none.coordinator = from;
  out["nodes"] = Json::array();
  for (const NodeReport& node : notice.nodes) out["nodes"].push_back(node_json(node, none));
  return out;
}

Listing stats_listing(const JobReportsReply& reports) {
  Listing listing("idunno.stats.v1", "jobs",
                  {{"id", "JOB"},
                   {"name", "NAME"},
                   {"kind", ""},
                   {"model", ""},
                   {"state", "STATE"},
                   {"batch", "BATCH", true},
                   {"weight", "WEIGHT", true},
                   {"total", ""},
                   {"done", "DONE", true},
                   {"errors", "ERRORS", true},
                   {"rate_qps", "RATE/s", true},
                   {"rate_all_qps", "ALL", true},
                   {"mean_ms", "MEAN ms", true},
                   {"sd_ms", "SD", true},
                   {"median_ms", "MEDIAN", true},
                   {"p90_ms", "P90", true},
                   {"p95_ms", "P95", true},
                   {"p99_ms", "P99", true},
                   {"nodes", "NODES"},
                   {"eta_s", "ETA", true},
                   {"window_done", ""},
                   {"window_mean_ms", ""},
                   {"window_sd_ms", ""},
                   {"window_median_ms", ""},
                   {"window_p90_ms", ""},
                   {"window_p95_ms", ""},
                   {"window_p99_ms", ""},
                   {"model_loads", ""},
                   {"model_load_s", ""},
                   {"rate_per_weight_qps", ""},
                   {"from_mean_pct", ""}});
  const auto per_job = shares(reports.jobs);
  for (std::size_t i = 0; i < reports.jobs.size(); ++i) {
    const JobReport& job = reports.jobs[i];
    const LatencySummary& l = job.latency;
    const std::map<std::string, std::string> texts{
        {"done", total_of(job) == 0 ? fmt::format("{}", job.done) : fmt::format("{}/{}", job.done, total_of(job))},
        {"weight", fmt::format("{:g}", from_milli(job.spec.weight_milli))},
        {"rate_qps", qps_text(job.rate_milli_qps)},
        {"rate_all_qps", qps_text(job.rate_all_milli_qps)},
        {"mean_ms", ms_text(l, l.mean_us)},
        {"sd_ms", ms_text(l, l.sd_us)},
        {"median_ms", ms_text(l, l.median_us)},
        {"p90_ms", ms_text(l, l.p90_us)},
        {"p95_ms", ms_text(l, l.p95_us)},
        {"p99_ms", ms_text(l, l.p99_us)},
        {"eta_s", is_over(job.state) ? "-" : eta_text(eta_seconds(job))}};
    std::vector<Listing::Cell> row;
    const Json json = job_json(job);
    for (const auto& [name, value] : json.items()) {
      const auto text = texts.find(name);
      row.push_back({value, text == texts.end() ? "" : text->second});
    }
    row.push_back({per_job[i] ? Json(rounded(per_job[i]->per_weight_qps, 0.001)) : Json(nullptr), ""});
    row.push_back({per_job[i] ? Json(rounded(per_job[i]->from_mean_pct, 0.01)) : Json(nullptr), ""});
    listing.add(std::move(row));
  }
  listing.extra["fairness"] = fairness_json(reports.fairness);
  listing.footer = fairness_text(reports.fairness);
  return listing;
}

Listing nodes_listing(const StatusReply& status, const std::string& schema) {
  Listing listing(schema, "nodes",
                  {{"id", "NODE"},
                   {"state", "STATE"},
                   {"roles", "ROLES"},
                   {"pid", "PID", true},
                   {"address", "ADDRESS"},
                   {"data_dir", ""},
                   {"incarnation", ""},
                   {"since", "SINCE"},
                   {"slots", "SLOTS", true},
                   {"running", "RUNNING", true},
                   {"leased", "LEASED", true},
                   {"blocks", "BLOCKS", true},
                   {"block_bytes", "STORED", true},
                   {"free_bytes", "FREE", true},
                   {"capacity_bytes", ""},
                   {"rss_bytes", "RSS", true},
                   {"read_only", ""},
                   {"cpu_cores", "CPU", true},
                   {"executor_rss_bytes", "EXEC RSS", true},
                   {"models", "MODELS"},
                   {"model_loads", ""},
                   {"running_batches", ""}});
  for (const NodeReport& node : status.nodes) {
    std::vector<Listing::Cell> row;
    const Json json = node_json(node, status);
    for (const auto& [name, value] : json.items()) {
      std::string text;
      if (name.ends_with("_bytes")) text = format_size(value.get<std::uint64_t>());
      if (name == "cpu_cores") text = fmt::format("{:.2f}", value.get<double>());
      if (name == "state" && node.read_only) text = to_string(node.state) + ", full";
      row.push_back({value, text});
    }
    listing.add(std::move(row));
  }
  return listing;
}

}  // namespace idunno::cli

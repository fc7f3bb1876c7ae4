#include "nodes/runtime/metrics.h"

#include <array>
#include <utility>

#include "bus/names.h"

namespace idunno {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

double number(std::uint64_t value) { return static_cast<double>(value); }
double seconds(std::uint64_t us) { return static_cast<double>(us) / 1e6; }
double from_milli(std::uint64_t milli) { return static_cast<double>(milli) / 1000.0; }

/// Collects samples; a family appears at its first mention, with or without samples.
class Families {
 public:
  /// Without a value: the family only.
  void gauge(const char* name, const char* help) { (void)family(name, help, MetricType::Gauge); }
  void counter(const char* name, const char* help) { (void)family(name, help, MetricType::Counter); }
  void gauge(const char* name, const char* help, double value, Labels labels = {}) {
    sample(family(name, help, MetricType::Gauge), std::move(labels)).gauge.value = value;
  }
  void counter(const char* name, const char* help, double value, Labels labels = {}) {
    sample(family(name, help, MetricType::Counter), std::move(labels)).counter.value = value;
  }
  MetricFamily& family(const char* name, const char* help, MetricType type) {
    for (MetricFamily& known : families_) {
      if (known.name == name) return known;
    }
    MetricFamily& added = families_.emplace_back();
    added.name = name;
    added.help = help;
    added.type = type;
    return added;
  }
  static ClientMetric& sample(MetricFamily& family, Labels labels) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }
  std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  std::vector<MetricFamily> families_;
};

void add_process(Families& out, const NodeFigures& figures) {
  out.gauge("idunno_node_info", "Always 1; which node and version this is.", 1,
            {{"node", to_string(figures.self)}, {"version", IDUNNO_VERSION}});
  out.gauge("idunno_node_start_time_seconds", "When this process started, since 1970.", number(figures.started_ms) / 1000.0);
  static constexpr char kCpu[] = "Processor time used by idunnod and by its executors.";
  out.counter("idunno_node_cpu_seconds_total", kCpu, figures.processes.own_cpu_s, {{"process", "idunnod"}});
  out.counter("idunno_node_cpu_seconds_total", kCpu, figures.processes.executor_cpu_s, {{"process", "executor"}});
  static constexpr char kMemory[] = "Memory that is resident, of idunnod and of all its executors together.";
  out.gauge("idunno_node_resident_memory_bytes", kMemory, number(figures.processes.rss_bytes), {{"process", "idunnod"}});
  out.gauge("idunno_node_resident_memory_bytes", kMemory, number(figures.processes.executor_rss_bytes),
            {{"process", "executor"}});
}

void add_executors(Families& out, const NodeFigures& figures) {
  const ExecutorPool::Usage& usage = figures.executors;
  out.gauge("idunno_executor_slots", "Executors that this node may run at once.", figures.slots);
  out.gauge("idunno_executor_processes", "Executors that run now; one without work for two minutes is ended.", usage.children);
  out.gauge("idunno_executor_running_batches", "Batches handed to executors and not finished.", figures.running);
  out.counter("idunno_executor_batches_total", "Batches computed, trial runs included.", number(usage.batches));
  out.counter("idunno_executor_starts_total", "Executors started.", number(usage.starts));
  out.counter("idunno_executor_failures_total", "Executors that crashed, hung, ran out of memory or did not start.",
              number(usage.failures));
  out.gauge("idunno_executor_models_loaded", "Models that at least one executor of the node holds.", number(usage.models.size()));
  out.counter("idunno_executor_model_loads_total", "Times that an executor loaded a model.", number(usage.model_loads));
  out.counter("idunno_executor_model_load_seconds_total", "How long these took.", seconds(usage.model_load_us));
}

void add_store(Families& out, const BlockStoreUsage& store) {
  out.gauge("idunno_sdfs_blocks", "Block copies on this node.", number(store.blocks));
  out.gauge("idunno_sdfs_block_bytes", "Their size.", number(store.bytes));
  out.gauge("idunno_sdfs_disk_capacity_bytes", "Size of the file system that holds them.", number(store.capacity_bytes));
  out.gauge("idunno_sdfs_disk_free_bytes", "Free space on it.", number(store.free_bytes));
  out.gauge("idunno_sdfs_read_only", "1: less space is free than the reserve, so the node takes no more blocks.",
            store.read_only ? 1 : 0);
}

void add_members(Families& out, const NodeFigures& figures) {
  for (const NodeState state : {NodeState::alive, NodeState::suspect, NodeState::dead, NodeState::left, NodeState::unknown}) {
    std::uint64_t count = 0;
    for (const MemberInfo& member : figures.members) count += member.state == state ? 1 : 0;
    out.gauge("idunno_membership_nodes", "Nodes in each state, as this node sees them.", number(count),
              {{"state", to_string(state)}});
  }
  out.gauge("idunno_membership_awareness", "How late this node itself is (Lifeguard's local health): 0 is good.",
            figures.awareness);
}

void add_bus(Families& out, const NodeFigures& figures) {
  static constexpr char kMessages[] = "Messages that came in, by service.";
  static constexpr char kRefused[] = "Of those: malformed, of another cluster or version, or not allowed.";
  out.counter("idunno_bus_messages_total", kMessages);
  out.counter("idunno_bus_refused_messages_total", kRefused);
  for (const NodeFigures::Socket& socket : figures.sockets) {
    out.counter("idunno_bus_messages_total", kMessages, number(socket.messages), {{"service", socket.service}});
    out.counter("idunno_bus_refused_messages_total", kRefused, number(socket.refused), {{"service", socket.service}});
  }
  out.counter("idunno_bus_refused_keys_total", "Connections refused because their key is not admitted.",
              number(figures.refused_keys));
}

const char* role_name(RaftRole role) {
  switch (role) {
    case RaftRole::follower:
      return "follower";
    case RaftRole::pre_candidate:
      return "pre_candidate";
    case RaftRole::candidate:
      return "candidate";
    case RaftRole::leader:
      return "leader";
  }
  return "unknown";
}

/// A node without a log has the families, but no samples.
void add_raft(Families& out, const std::optional<RaftStatus>& raft, NodeId self) {
  const auto gauge = [&](const char* name, const char* help, std::uint64_t value) {
    raft ? out.gauge(name, help, number(value)) : out.gauge(name, help);
  };
  const auto counter = [&](const char* name, const char* help, std::uint64_t value) {
    raft ? out.counter(name, help, number(value)) : out.counter(name, help);
  };
  static const RaftStatus kNone;
  const RaftStatus& status = raft ? *raft : kNone;
  static constexpr char kRole[] = "1 for the role that this node has in the job log.";
  out.gauge("idunno_raft_role", kRole);
  for (const RaftRole role : {RaftRole::follower, RaftRole::pre_candidate, RaftRole::candidate, RaftRole::leader}) {
    if (raft) out.gauge("idunno_raft_role", kRole, status.role == role ? 1 : 0, {{"role", role_name(role)}});
  }
  bool voter = false;
  for (const LogMember& member : status.members) {
    voter = voter || (member.node == self && member.voter && member.log_id == status.log_id);
  }
  gauge("idunno_raft_voter", "1: it has a vote.", voter ? 1 : 0);
  gauge("idunno_raft_epoch", "Term of the job log: each coordinator has a higher one.", status.epoch.value);
  gauge("idunno_raft_commit_index", "Last entry known to be committed.", status.committed.value);
  gauge("idunno_raft_applied_index", "Last entry applied.", status.applied.value);
  gauge("idunno_raft_last_index", "Last entry of this node's log.", status.last.value);
  gauge("idunno_raft_snapshot_index", "Last entry that the snapshot stands for.", status.snapshot.value);
  counter("idunno_raft_elections_total", "Elections that this node began.", status.elections_started);
  counter("idunno_raft_pre_votes_total", "Rounds of pre-votes that it began.", status.pre_votes_started);
  counter("idunno_raft_snapshots_sent_total", "Snapshots sent to nodes that were behind.", status.snapshots_sent);
  counter("idunno_raft_snapshots_installed_total", "Snapshots taken over from a leader.", status.snapshots_installed);
  counter("idunno_raft_refused_messages_total", "Malformed, of strangers, or meant for an earlier life of the log.",
          status.messages_refused + status.messages_misdirected);
}

// ---- of the coordinator only ------------------------------------------------------------------------------------------

void add_jobs(Families& out, const std::vector<JobReport>& jobs, WallMs now) {
  struct Figure {
    const char* name;
    const char* help;
    bool counts;
    double (*value)(const JobReport&);
  };
  static constexpr std::array<Figure, 13> kFigures{{
      {"idunno_job_queries_total", "Queries committed.", true, [](const JobReport& j) { return number(j.done); }},
      {"idunno_job_error_rows_total", "Of those, with an error in place of a result.", true,
       [](const JobReport& j) { return number(j.errors); }},
      {"idunno_job_batches_total", "Batches committed.", true, [](const JobReport& j) { return number(j.batches_done); }},
      {"idunno_job_retried_leases_total", "Leases given again after a failure.", true,
       [](const JobReport& j) { return number(j.retried); }},
      {"idunno_job_hedged_leases_total", "Second leases of stragglers.", true,
       [](const JobReport& j) { return number(j.hedged); }},
      {"idunno_job_model_loads_total", "Batches that had to wait for the loading of the model.", true,
       [](const JobReport& j) { return number(j.model_loads); }},
      {"idunno_job_queries_per_second", "Rate over the last 10 s.", false,
       [](const JobReport& j) { return from_milli(j.rate_milli_qps); }},
      {"idunno_job_size_queries", "Queries that it has so far; 0: without end.", false,
       [](const JobReport& j) { return number(j.total); }},
      {"idunno_job_weight", "Its share of the rate, against other jobs.", false,
       [](const JobReport& j) { return from_milli(j.spec.weight_milli); }},
      {"idunno_job_nodes", "Nodes that hold leases of it now.", false, [](const JobReport& j) { return number(j.nodes.size()); }},
      {"idunno_job_leased_batches", "Batches that are out.", false, [](const JobReport& j) { return number(j.leased); }},
      {"idunno_job_window_latency_p50_seconds", "Median processing time over the last 10 s.", false,
       [](const JobReport& j) { return seconds(j.window_latency.median_us); }},
      {"idunno_job_window_latency_p99_seconds", "99th percentile of it over the last 10 s.", false,
       [](const JobReport& j) { return seconds(j.window_latency.p99_us); }},
  }};
  static constexpr char kLatency[] =
      "Processing time of a query, from the start of its batch to its commit, since the job began.";
  for (const Figure& figure : kFigures) {
    figure.counts ? out.counter(figure.name, figure.help) : out.gauge(figure.name, figure.help);
  }
  (void)out.family("idunno_job_latency_seconds", kLatency, MetricType::Summary);
  std::size_t shown = 0;
  for (auto job = jobs.rbegin(); job != jobs.rend() && shown < kMetricJobsMax; ++job) {
    if (is_over(job->state) && job->finished_ms + kMetricJobsKeepMs < now) continue;
    ++shown;
    const Labels labels{{"job", to_string(job->id)}, {"name", job->spec.name}, {"model", job->spec.model}};
    for (const Figure& figure : kFigures) {
      const double value = figure.value(*job);
      figure.counts ? out.counter(figure.name, figure.help, value, labels) : out.gauge(figure.name, figure.help, value, labels);
    }
    const LatencySummary& l = job->latency;
    auto& summary = Families::sample(out.family("idunno_job_latency_seconds", kLatency, MetricType::Summary), labels).summary;
    summary.sample_count = l.count;
    summary.sample_sum = seconds(l.mean_us) * number(l.count);
    summary.quantile = {
        {0.5, seconds(l.median_us)}, {0.9, seconds(l.p90_us)}, {0.95, seconds(l.p95_us)}, {0.99, seconds(l.p99_us)}};
  }
}

void add_fairness(Families& out, const FairnessReport* fairness) {
  static constexpr char kRatio[] = "Largest rate/weight of the jobs that ran through the last 10 s over the smallest.";
  static constexpr char kWindows[] = "Windows of 10 s judged, and those whose ratio was within 5, 10 and 20 percent.";
  static constexpr char kWorst[] = "Ratio of the worst window so far.";
  out.gauge("idunno_fairness_max_min_ratio", kRatio);
  out.counter("idunno_fairness_windows_total", kWindows);
  out.gauge("idunno_fairness_worst_ratio", kWorst);
  if (fairness == nullptr) return;
  if (fairness->max_min_milli != 0) out.gauge("idunno_fairness_max_min_ratio", kRatio, from_milli(fairness->max_min_milli));
  if (fairness->worst_max_min_milli != 0) {
    out.gauge("idunno_fairness_worst_ratio", kWorst, from_milli(fairness->worst_max_min_milli));
  }
  out.counter("idunno_fairness_windows_total", kWindows, fairness->windows, {{"within", "any"}});
  out.counter("idunno_fairness_windows_total", kWindows, fairness->in5_windows, {{"within", "5"}});
  out.counter("idunno_fairness_windows_total", kWindows, fairness->in10_windows, {{"within", "10"}});
  out.counter("idunno_fairness_windows_total", kWindows, fairness->in20_windows, {{"within", "20"}});
}

void add_scheduler(Families& out, const NodeFigures::Cluster* cluster) {
  static constexpr char kJobs[] = "Jobs in each state.";
  static constexpr char kSlots[] = "Compute slots of the nodes that are alive.";
  static constexpr char kLeased[] = "Batches that are out, of all jobs.";
  static constexpr char kUnder[] = "Blocks with fewer good copies than wanted.";
  static constexpr char kFiles[] = "Files, each with its newest version.";
  static constexpr char kBytes[] = "Size of all files and versions, each counted once.";
  static constexpr char kAlarms[] = "Alarms that `idunno status` shows.";
  out.gauge("idunno_scheduler_jobs", kJobs);
  out.gauge("idunno_scheduler_slots", kSlots);
  out.gauge("idunno_scheduler_leased_batches", kLeased);
  out.gauge("idunno_sdfs_under_replicated_blocks", kUnder);
  out.gauge("idunno_sdfs_files", kFiles);
  out.gauge("idunno_sdfs_logical_bytes", kBytes);
  out.gauge("idunno_alarms", kAlarms);
  if (cluster == nullptr) return;
  for (const JobState state :
       {JobState::queued, JobState::running, JobState::paused, JobState::done, JobState::failed, JobState::stopped}) {
    std::uint64_t count = 0;
    for (const JobReport& job : cluster->reports.jobs) count += job.state == state ? 1 : 0;
    out.gauge("idunno_scheduler_jobs", kJobs, number(count), {{"state", to_string(state)}});
  }
  std::uint64_t slots = 0;
  std::uint64_t leased = 0;
  for (const NodeReport& node : cluster->status.nodes) {
    if (node.state == NodeState::alive) slots += node.slots;
    leased += node.leased;
  }
  out.gauge("idunno_scheduler_slots", kSlots, number(slots));
  out.gauge("idunno_scheduler_leased_batches", kLeased, number(leased));
  out.gauge("idunno_sdfs_under_replicated_blocks", kUnder, number(cluster->status.under_replicated_blocks));
  out.gauge("idunno_sdfs_files", kFiles, number(cluster->status.files));
  out.gauge("idunno_sdfs_logical_bytes", kBytes, number(cluster->status.logical_bytes));
  out.gauge("idunno_alarms", kAlarms, number(cluster->status.alarms.size()));
}

constexpr char kComplete[] = "idunno_scrape_complete";
constexpr char kCompleteHelp[] = "1; 0 when the node did not answer in time, and then there is nothing else.";

}  // namespace

std::vector<prometheus::MetricFamily> metric_families(const NodeFigures& figures) {
  Families out;
  out.gauge(kComplete, kCompleteHelp, 1);
  add_process(out, figures);
  add_executors(out, figures);
  add_store(out, figures.store);
  add_members(out, figures);
  add_bus(out, figures);
  add_raft(out, figures.raft, figures.self);
  const NodeFigures::Cluster* cluster = figures.cluster ? &*figures.cluster : nullptr;
  out.gauge("idunno_coordinator", "1: this node coordinates. The metrics of jobs and of the cluster are then here.",
            cluster != nullptr ? 1 : 0);
  static const std::vector<JobReport> kNoJobs;
  add_jobs(out, cluster != nullptr ? cluster->reports.jobs : kNoJobs, figures.now_ms);
  add_fairness(out, cluster != nullptr ? &cluster->reports.fairness : nullptr);
  add_scheduler(out, cluster);
  return out.take();
}

std::vector<prometheus::MetricFamily> incomplete_scrape() {
  Families out;
  out.gauge(kComplete, kCompleteHelp, 0);
  return out.take();
}

}  // namespace idunno

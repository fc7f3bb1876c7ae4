#pragma once
/// The nouns that travel inside several messages and are kept in the replicated state: blocks, files, models, jobs, nodes.
/// Each struct lists its members once in `tie`; the codec (bus/codec.h), comparison and tests work from that list. The order
/// and number of the members is the wire and disk format: adding one means a new protocol version.

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/time.h"

namespace idunno {

inline constexpr std::uint32_t kBlockBytesMax = 1U << 20U;        ///< of a file written by a user
inline constexpr std::uint32_t kResultBlockBytesMax = 4U << 20U;  ///< of the result of one batch
inline constexpr std::size_t kReplicasMax = 4;
inline constexpr std::size_t kPathBytesMax = 1024;
inline constexpr std::size_t kQuarantinedShownMax = 1024;  ///< of one job, in reports

/// Where one immutable block lies and what it must hash to. `length` 0 with id {0,0}: a batch not committed yet.
struct BlockRef {
  BlockId id;
  std::uint32_t length = 0;
  Hash128 hash;
  std::vector<NodeId> replicas;  ///< at most kReplicasMax
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.length, s.hash, s.replicas);
  }
  bool operator==(const BlockRef&) const = default;
};

/// One version of one file, without or (where a message says so) with its blocks.
struct FileVersion {
  std::string path;           ///< absolute, "/data/a.jpg"
  std::uint32_t version = 0;  ///< 1, 2, ... for each path; never used again for that path while it exists
  std::uint64_t size = 0;     ///< bytes
  WallMs created_ms = 0;
  bool open = false;  ///< a job's result that is still being written
  std::vector<BlockRef> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.version, s.size, s.created_ms, s.open, s.blocks);
  }
  bool operator==(const FileVersion&) const = default;
};

/// A registered model version. The files lie in SDFS; the spec is small and kept here.
struct ModelVersion {
  std::string name;
  std::uint32_t version = 0;
  std::string onnx_path;  ///< SDFS path of the ONNX file; empty for the engine that does nothing
  std::uint32_t onnx_version = 0;
  std::string labels_path;  ///< SDFS path, or empty
  std::uint32_t labels_version = 0;
  std::string spec_toml;         ///< text of the spec (storage/models/model_spec.h), at most 64 KiB
  std::string origin;            ///< "file squeezenet1.0.onnx", "init resnet18 seed 1 (random weights)", "pull ..."
  std::uint64_t parameters = 0;  ///< 0 when unknown
  WallMs created_ms = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.name, s.version, s.onnx_path, s.onnx_version, s.labels_path, s.labels_version, s.spec_toml, s.origin,
                    s.parameters, s.created_ms);
  }
  bool operator==(const ModelVersion&) const = default;
};

inline constexpr std::uint32_t kPrefetchModelsMax = 64;  ///< brought to a node ahead of need at once

/// How the queries of a data set are to be read by an executor.
enum class ItemKind : std::uint8_t {
  image = 0,    ///< the item is a JPEG or PNG file
  pixels = 1,   ///< raw 8-bit gray rows, `item_shape` = {height, width}
  numbers = 2,  ///< a line of comma-separated numbers
  nothing = 3,  ///< no bytes: only for the engine that does nothing
};

/// What the cluster does now. Jobs of another kind wait.
enum class Phase : std::uint8_t { none = 0, training = 1, inference = 2 };

/// In which phase of the cluster a job runs (`idunno phase`).
enum class JobKind : std::uint8_t { inference = 0, training = 1 };

/// What a job is; fixed at submit but for weight, rate_limit, priority, nodes_min and nodes_max. `queries` grows while it
/// follows.
struct JobSpec {
  std::string name;  ///< made up from the model when the user gives none
  std::string model;
  std::uint32_t model_version = 0;  ///< 0 in a request: the newest; fixed by the coordinator
  std::string data_path;            ///< what the user named
  std::string manifest_path;        ///< SDFS file that lists the queries (storage/sdfs/manifest.h)
  std::uint32_t manifest_version = 0;
  std::uint32_t items_per_chunk = 0;  ///< of the manifest
  ItemKind item_kind = ItemKind::image;
  std::vector<std::uint32_t> item_shape;  ///< for ItemKind::pixels
  std::uint64_t queries = 0;              ///< of the data set; the job has `repeat` times as many
  std::uint32_t batch = 1;                ///< queries in one batch
  std::uint32_t weight_milli = 1000;      ///< rate ratio in thousandths
  std::uint32_t rate_limit_milli = 0;     ///< queries per second in thousandths; 0 = none
  std::int32_t priority = 0;              ///< higher goes first
  std::uint32_t top = 0;                  ///< labels in a row; 0 = as the model spec says
  JobKind kind = JobKind::inference;
  std::uint32_t nodes_min = 0;  ///< it gets at least so many nodes, as far as there are some; 0 = none of its own
  std::uint32_t nodes_max = 0;  ///< it holds leases on at most so many nodes at a time; 0 = all
  std::uint32_t repeat = 1;     ///< passes over the data set; 0 = until it is stopped
  bool follow = false;          ///< files that come to data_path become queries, until it is stopped
  bool urgent = false;          ///< a few queries somebody waits for (`idunno query`): ahead of batch work, whatever its priority
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.name, s.model, s.model_version, s.data_path, s.manifest_path, s.manifest_version, s.items_per_chunk,
                    s.item_kind, s.item_shape, s.queries, s.batch, s.weight_milli, s.rate_limit_milli, s.priority, s.top, s.kind,
                    s.nodes_min, s.nodes_max, s.repeat, s.follow, s.urgent);
  }
  bool operator==(const JobSpec&) const = default;
};

/// Queries that came to a following job after its submit: a manifest of their own, and batches of their own (the last of them may
/// be smaller than the job's batch).
struct JobSegment {
  std::string manifest_path;
  std::uint32_t manifest_version = 0;
  std::uint32_t items_per_chunk = 0;
  std::uint64_t first_batch = 0;  ///< of the job
  std::uint64_t first_query = 0;  ///< of the job
  std::uint64_t queries = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.manifest_path, s.manifest_version, s.items_per_chunk, s.first_batch, s.first_query, s.queries);
  }
  bool operator==(const JobSegment&) const = default;
};

enum class JobState : std::uint8_t { queued = 0, running = 1, paused = 2, done = 3, failed = 4, stopped = 5 };

/// Percentiles etc. of the processing time: from the start of a query's batch to its commit.
struct LatencySummary {
  std::uint64_t count = 0;  ///< queries
  std::uint64_t mean_us = 0;
  std::uint64_t sd_us = 0;
  std::uint64_t median_us = 0;
  std::uint64_t p90_us = 0;
  std::uint64_t p95_us = 0;
  std::uint64_t p99_us = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.count, s.mean_us, s.sd_us, s.median_us, s.p90_us, s.p95_us, s.p99_us);
  }
  bool operator==(const LatencySummary&) const = default;
};

/// Everything people want to know of a job (requirement R25 and cli.md `stats`, `job show`).
struct JobReport {
  JobId id;
  JobSpec spec;
  JobState state = JobState::queued;
  std::string reason;        ///< why it failed, was stopped, or waits
  std::uint64_t done = 0;    ///< queries committed
  std::uint64_t errors = 0;  ///< of those, error rows
  std::uint64_t batches_done = 0;
  std::uint64_t rate_milli_qps = 0;      ///< over the window asked for (10 s)
  std::uint64_t rate_all_milli_qps = 0;  ///< since its first batch
  LatencySummary latency;                ///< since the start
  LatencySummary window_latency;         ///< over the window
  std::vector<NodeId> nodes;             ///< that hold leases of it now
  std::uint32_t leased = 0;              ///< batches out
  WallMs submitted_ms = 0;
  WallMs first_batch_ms = 0;  ///< its first batch started
  WallMs finished_ms = 0;
  std::string result_path;
  Hash128 digest;  ///< over the batch digests in input order; valid when state is done
  std::uint64_t duplicate_commits = 0;
  std::uint64_t conflicting_commits = 0;   ///< same batch, different digest: an alarm
  std::uint64_t retried = 0;               ///< leases given again
  std::uint64_t hedged = 0;                ///< second leases of stragglers
  std::vector<std::uint64_t> quarantined;  ///< queries that killed executors (index in the job), at most kQuarantinedShownMax
  std::uint64_t total = 0;                 ///< queries so far known; 0 = endless
  std::uint64_t window_done = 0;           ///< queries committed in the window asked for
  std::uint64_t model_loads = 0;           ///< times that executors loaded its model
  std::uint64_t model_load_us = 0;         ///< and how long that took in all
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.spec, s.state, s.reason, s.done, s.errors, s.batches_done, s.rate_milli_qps, s.rate_all_milli_qps,
                    s.latency, s.window_latency, s.nodes, s.leased, s.submitted_ms, s.first_batch_ms, s.finished_ms,
                    s.result_path, s.digest, s.duplicate_commits, s.conflicting_commits, s.retried, s.hedged, s.quarantined,
                    s.total, s.window_done, s.model_loads, s.model_load_us);
  }
  bool operator==(const JobReport&) const = default;
};

/// Of the rates of the running jobs, divided by their weights.
struct FairnessReport {
  std::uint32_t jobs = 0;           ///< that ran through the whole window
  std::uint64_t max_min_milli = 0;  ///< max/min ratio in thousandths; 0 = fewer than two such jobs
  std::uint32_t windows = 0;        ///< 10 s windows judged so far (one a second)
  std::uint32_t in10_windows = 0;   ///< of those within 10 %
  std::uint32_t in20_windows = 0;
  std::uint64_t last_max_min_milli = 0;  ///< of the last window in which two or more jobs ran throughout
  std::uint32_t in5_windows = 0;
  std::uint64_t worst_max_min_milli = 0;  ///< of the worst window
  WallMs worst_at_ms = 0;                 ///< its end
  std::string worst_cause;                ///< what happened in it: "n3 died", "j4 was submitted", "nothing known"
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.jobs, s.max_min_milli, s.windows, s.in10_windows, s.in20_windows, s.last_max_min_milli, s.in5_windows,
                    s.worst_max_min_milli, s.worst_at_ms, s.worst_cause);
  }
  bool operator==(const FairnessReport&) const = default;
};

enum class NodeState : std::uint8_t { alive = 0, suspect = 1, dead = 2, left = 3, unknown = 4 };

/// One lease, by name: a batch of a job, and the attempt.
struct LeaseKey {
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.batch, s.attempt);
  }
  auto operator<=>(const LeaseKey&) const = default;
};

/// A batch in an executor: how far it is, and for the coordinator's eye on stragglers.
struct RunningBatch {
  LeaseKey lease;
  std::uint32_t elapsed_ms = 0;
  std::uint64_t cpu_us = 0;  ///< processor time that the executor has had for it; 0 = not known
  bool loading = false;      ///< the executor loads the model first
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.lease, s.elapsed_ms, s.cpu_us, s.loading);
  }
  bool operator==(const RunningBatch&) const = default;
};

/// One machine as the coordinator sees it.
struct NodeReport {
  NodeId id;
  NodeState state = NodeState::unknown;
  bool coordinator = false;
  std::string host;
  std::uint16_t base_port = 0;
  std::uint32_t pid = 0;
  std::string data_dir;
  Incarnation incarnation;
  WallMs since_ms = 0;  ///< when it entered this state
  std::uint32_t slots = 0;
  std::uint32_t leased = 0;
  std::uint32_t running = 0;  ///< batches in executors
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;
  std::uint64_t rss_bytes = 0;           ///< of idunnod
  bool read_only = false;                ///< disk full: takes no blocks
  std::uint32_t cpu_milli = 0;           ///< processor time of idunnod and its executors, in thousandths of one core
  std::uint64_t executor_rss_bytes = 0;  ///< of all its executors
  std::vector<std::string> models;       ///< that its executors have loaded: "resnet18:1"
  std::uint64_t model_loads = 0;         ///< since it started
  std::vector<RunningBatch> running_batches;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.state, s.coordinator, s.host, s.base_port, s.pid, s.data_dir, s.incarnation, s.since_ms, s.slots,
                    s.leased, s.running, s.capacity_bytes, s.free_bytes, s.blocks, s.block_bytes, s.rss_bytes, s.read_only,
                    s.cpu_milli, s.executor_rss_bytes, s.models, s.model_loads, s.running_batches);
  }
  bool operator==(const NodeReport&) const = default;
};

/// A lease as its worker holds it, told to a coordinator that may not know.
enum class HeldStage : std::uint8_t { waiting = 0, running = 1, finished = 2 };  ///< finished: its commit is in the outbox
struct HeldLease {
  LeaseKey lease;
  HeldStage stage = HeldStage::waiting;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.lease, s.stage);
  }
  bool operator==(const HeldLease&) const = default;
};

inline constexpr std::size_t kDoneStepsMax = 31;  ///< of BatchCommit::done_milli

/// The result of one batch as a worker offers it: the block is on the disks of `block.replicas`.
struct BatchCommit {
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  NodeId node;  ///< that computed it
  BlockRef block;
  std::uint32_t queries = 0;
  std::uint32_t errors = 0;                ///< error rows among them
  WallMs started_ms = 0;                   ///< wall clock of the worker, for people
  std::uint64_t duration_us = 0;           ///< from the start of the batch in its executor to the sending of this commit
  std::uint64_t infer_us = 0;              ///< of that, inside the engine
  std::vector<std::uint32_t> quarantined;  ///< as in the lease: places in the batch that were not computed
  std::uint64_t phase = 0;                 ///< as in the lease
  std::uint64_t fetch_us = 0;              ///< from the arrival of the lease until its inputs were there
  std::uint64_t ready_us = 0;              ///< from then until an executor began with it
  std::uint64_t load_us = 0;               ///< of duration_us, loading the model; 0 = it was loaded
  std::uint64_t store_us = 0;              ///< of duration_us, writing the result
  std::uint64_t cpu_us = 0;                ///< of the executor's processor, without loading; 0 = it hardly computed, or not known
  /// Thousandths of that which it had had after equal steps of duration_us: of n values the k-th (from 1) is that after
  /// k / (n + 1) of it. Executors that share a processor do not compute evenly. At most kDoneStepsMax; empty = evenly.
  std::vector<std::uint16_t> done_milli;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.batch, s.attempt, s.node, s.block, s.queries, s.errors, s.started_ms, s.duration_us, s.infer_us,
                    s.quarantined, s.phase, s.fetch_us, s.ready_us, s.load_us, s.store_us, s.cpu_us, s.done_milli);
  }
  bool operator==(const BatchCommit&) const = default;
};

/// Permission to compute one batch, under one epoch.
struct Lease {
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  std::uint64_t first_query = 0;
  std::uint32_t queries = 0;
  std::uint64_t pass = 0;  ///< the job's stride count at the time of the lease; lower starts first at the worker
  std::int32_t priority = 0;
  /// Places in the batch (0-based, ascending) whose queries kill executors: zeros are computed in their place, and their rows are
  /// errors (`quarantined`).
  std::vector<std::uint32_t> quarantined;
  /// Not empty (from < to): a trial run that looks for such a query. Only the places [from, to) that are not quarantined are
  /// computed, zeros elsewhere; nothing is stored or committed: it ends in BatchFailed, executor_died or trial_passed.
  std::uint32_t trial_from = 0;
  std::uint32_t trial_to = 0;
  [[nodiscard]] bool is_trial() const { return trial_from < trial_to; }
  std::uint64_t phase = 0;    ///< number of the cluster's phase in which it was given: the result of an ended one is refused
  std::uint64_t item = 0;     ///< of the manifest: its first query's (first_query, but for repeated and following jobs)
  std::uint32_t segment = 0;  ///< 0 = the job's own manifest; k = the k-th JobSegment
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.batch, s.attempt, s.first_query, s.queries, s.pass, s.priority, s.quarantined, s.trial_from,
                    s.trial_to, s.phase, s.item, s.segment);
  }
  bool operator==(const Lease&) const = default;
};

/// The manifest of a segment of a following job, with its blocks.
struct SegmentManifest {
  JobSegment segment;
  FileVersion manifest;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.segment, s.manifest);
  }
  bool operator==(const SegmentManifest&) const = default;
};

/// What a worker must know of a job before its first lease: the model's and manifest's blocks included.
struct JobDescription {
  JobId job;
  JobSpec spec;
  ModelVersion model;
  FileVersion onnx;      ///< with blocks; no blocks for the engine that does nothing
  FileVersion labels;    ///< with blocks; version 0 when there are none
  FileVersion manifest;  ///< with blocks
  std::uint32_t replication = 1;
  std::uint32_t first_segment = 0;        ///< number (from 1) of segments[0]; those before are done
  std::vector<SegmentManifest> segments;  ///< of a following job; a lease of a later one comes after another description
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.spec, s.model, s.onnx, s.labels, s.manifest, s.replication, s.first_segment, s.segments);
  }
  bool operator==(const JobDescription&) const = default;
};

/// One thing that happened, for `watch` and the logs.
struct Event {
  WallMs at_ms = 0;
  NodeId node;       ///< that tells it
  std::string type;  ///< job_submitted, batch_leased, batch_started, batch_committed, job_done, node_joined, node_dead, ...
  JobId job;         ///< 0 = none
  std::int64_t batch = -1;
  std::string text;
  std::vector<std::uint16_t> done_milli;  ///< of batch_committed: how the work was spread over its time (BatchCommit)
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.at_ms, s.node, s.type, s.job, s.batch, s.text, s.done_milli);
  }
  bool operator==(const Event&) const = default;
};

}  // namespace idunno

#pragma once
/// Every message of the bus, one struct each (the grammar is in bus/PROTOCOL.md). A request names its answer as `Reply`; the
/// answer to any request may also be `ErrorReply`. `kRole` is the least role whose key may send it (bus/security.h); replies and
/// pushes need none. A message with `kPayload` carries one raw frame after the msgpack frame.
///
/// Three services, three ROUTER sockets a node: rpc (control), data (blocks), ping (liveness).

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "bus/base/result.h"
#include "bus/types.h"

namespace idunno {

inline constexpr std::uint8_t kProtocolVersion = 6;

/// What a key may do; each role includes the ones below it, but node and admin do not include each other's own messages.
enum class Role : std::uint8_t { none = 0, read = 1, submit = 2, admin = 3, node = 4 };

/// On the wire: never renumber.
enum class MessageType : std::uint16_t {
  error_reply = 1,
  status = 10,
  status_reply = 11,
  placement = 12,
  placement_reply = 13,
  phase = 14,
  phase_reply = 15,
  // SDFS metadata
  fs_list = 20,
  fs_list_reply = 21,
  fs_stat = 22,
  fs_stat_reply = 23,
  fs_commit = 24,
  fs_commit_reply = 25,
  fs_remove = 26,
  fs_remove_reply = 27,
  fs_move_replicas = 28,
  fs_move_replicas_reply = 29,
  fs_store = 30,
  fs_store_reply = 31,
  // models
  model_add = 40,
  model_add_reply = 41,
  model_list = 42,
  model_list_reply = 43,
  model_remove = 44,
  model_remove_reply = 45,
  // jobs
  submit = 60,
  submit_reply = 61,
  job_control = 62,
  job_control_reply = 63,
  job_set = 64,
  job_set_reply = 65,
  job_reports = 66,
  job_reports_reply = 67,
  job_results = 68,
  job_results_reply = 69,
  // nodes
  node_hello = 80,
  node_hello_reply = 81,
  heartbeat = 82,
  heartbeat_reply = 83,
  lease_grant = 84,
  lease_drop = 85,
  commit_batches = 86,
  commit_batches_reply = 87,
  batch_failed = 88,
  batch_failed_reply = 89,
  replica_task = 90,
  replica_report = 91,
  replica_report_reply = 92,
  inventory = 93,
  inventory_reply = 94,
  damaged_blocks = 95,
  damaged_blocks_reply = 96,
  transfer_leadership = 97,
  transfer_leadership_reply = 98,
  job_order = 99,
  prefetch_model = 100,
  // blocks
  put_blocks = 120,
  put_blocks_reply = 121,
  get_blocks = 122,
  get_blocks_reply = 123,
  check_blocks = 124,
  check_blocks_reply = 125,
  pull_blocks = 126,
  pull_blocks_reply = 127,
  delete_blocks = 128,
  delete_blocks_reply = 129,
  list_blocks = 130,
  list_blocks_reply = 131,
  // liveness
  ping = 150,
  pong = 151,
  // PUB stream
  event_notice = 160,
  stats_notice = 161,
  // membership (bus/swim_messages.h)
  swim_probe = 170,
  swim_ack = 171,
  member_list = 175,
  member_list_reply = 176,
  member_history = 177,
  member_history_reply = 178,
  // logs and lives of batches (bus/log_messages.h)
  log_search = 190,
  log_search_reply = 191,
  log_tail = 192,
  log_tail_reply = 193,
  batch_lives = 194,
  batch_lives_reply = 195,
};

// Bounds that both sides keep. A message over one of them is refused whole.
inline constexpr std::size_t kControlMessageBytesMax = 1U << 20U;
inline constexpr std::size_t kDataMessageBytesMax = (4U << 20U) + (64U << 10U);
inline constexpr std::size_t kFilesPerRequestMax = 1024;  ///< also bounded by the bytes of a control message
inline constexpr std::size_t kBlocksPerRequestMax = 1024;
inline constexpr std::size_t kListPageMax = 1024;
inline constexpr std::size_t kLeasesPerGrantMax = 512;
inline constexpr std::size_t kCommitsPerRequestMax = 1024;
inline constexpr std::size_t kLeasesInHelloMax = 16384;  ///< what a node holds beyond is dropped by it
inline constexpr std::size_t kSpecBytesMax = 64U << 10U;
inline constexpr std::size_t kModelsLoadedShownMax = 64;
inline constexpr std::size_t kJobsOrderedMax = 1024;

enum class BlockStatus : std::uint8_t { ok = 0, missing = 1, damaged = 2, full = 3, failed = 4 };

// ---- any service ----------------------------------------------------------------------------------------------------

struct ErrorReply {
  static constexpr auto kType = MessageType::error_reply;
  Errc code = Errc::internal;
  std::string detail;
  NodeId leader;  ///< with Errc::not_leader: who leads as far as this node knows, 0 if nobody
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.code, s.detail, s.leader);
  }
  bool operator==(const ErrorReply&) const = default;
};

// ---- rpc: the cluster -----------------------------------------------------------------------------------------------

struct StatusReply {
  static constexpr auto kType = MessageType::status_reply;
  NodeId answered_by;
  NodeId coordinator;  ///< 0 when nobody leads
  NodeId standby;      ///< 0 = none: no failover
  Epoch epoch;
  std::vector<NodeId> voters;
  std::string phase;  ///< "inference", "training", or "none"
  std::vector<NodeReport> nodes;
  std::uint64_t under_replicated_blocks = 0;
  std::uint64_t files = 0;
  std::uint64_t blocks = 0;
  std::uint64_t logical_bytes = 0;
  std::uint32_t jobs_running = 0;
  std::uint64_t log_index = 0;
  std::vector<std::string> alarms;
  std::uint64_t refused_keys = 0;      ///< handshakes with keys that are not admitted, at the answering node
  std::uint64_t refused_messages = 0;  ///< of another cluster or version, or not allowed, at the answering node
  std::vector<NodeId> learners;        ///< get the log and do not vote: spares for voters
  std::uint64_t phase_number = 0;      ///< raised by each change of phase
  WallMs phase_since_ms = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.answered_by, s.coordinator, s.standby, s.epoch, s.voters, s.phase, s.nodes, s.under_replicated_blocks,
                    s.files, s.blocks, s.logical_bytes, s.jobs_running, s.log_index, s.alarms, s.refused_keys, s.refused_messages,
                    s.learners, s.phase_number, s.phase_since_ms);
  }
  bool operator==(const StatusReply&) const = default;
};
struct StatusRequest {
  static constexpr auto kType = MessageType::status;
  static constexpr Role kRole = Role::read;
  using Reply = StatusReply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const StatusRequest&) const = default;
};

struct PhaseReply {
  static constexpr auto kType = MessageType::phase_reply;
  Phase phase = Phase::inference;
  std::uint64_t number = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.phase, s.number);
  }
  bool operator==(const PhaseReply&) const = default;
};
/// Starts a phase, or ends the present one (none). Refused (conflict) when another one is on; starting the present one is fine.
struct PhaseRequest {
  static constexpr auto kType = MessageType::phase;
  static constexpr Role kRole = Role::admin;
  using Reply = PhaseReply;
  Phase phase = Phase::none;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.phase);
  }
  bool operator==(const PhaseRequest&) const = default;
};

/// Where new blocks may go: input of storage/sdfs/placement.h.
struct PlacementNode {
  NodeId id;
  std::uint32_t weight = 1;  ///< by free space, 0 = takes no blocks
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.weight);
  }
  bool operator==(const PlacementNode&) const = default;
};
struct PlacementReply {
  static constexpr auto kType = MessageType::placement_reply;
  std::uint32_t replication = 1;  ///< min(4, nodes of the cluster), bounded by what is alive
  std::vector<PlacementNode> nodes;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.replication, s.nodes);
  }
  bool operator==(const PlacementReply&) const = default;
};
struct PlacementRequest {
  static constexpr auto kType = MessageType::placement;
  static constexpr Role kRole = Role::read;
  using Reply = PlacementReply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const PlacementRequest&) const = default;
};

// ---- rpc: SDFS metadata ---------------------------------------------------------------------------------------------

/// A page of a folder, in path order. Entries carry no blocks unless `with_blocks`.
struct FsListReply {
  static constexpr auto kType = MessageType::fs_list_reply;
  std::vector<FileVersion> files;    ///< newest version of each
  std::vector<std::string> folders;  ///< direct sub-folders, when not recursive
  std::string next;                  ///< continue with `after` = this; empty = the end
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.files, s.folders, s.next);
  }
  bool operator==(const FsListReply&) const = default;
};
struct FsListRequest {
  static constexpr auto kType = MessageType::fs_list;
  static constexpr Role kRole = Role::read;
  using Reply = FsListReply;
  std::string path;  ///< a folder or a file; not_found when neither
  bool recursive = false;
  bool with_blocks = false;   ///< pages are then also bounded by bytes
  bool all_versions = false;  ///< every version of each file, newest first
  std::string after;          ///< page cursor
  std::uint32_t limit = kListPageMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.recursive, s.with_blocks, s.all_versions, s.after, s.limit);
  }
  bool operator==(const FsListRequest&) const = default;
};

/// One version of one file with a page of its blocks.
struct FsStatReply {
  static constexpr auto kType = MessageType::fs_stat_reply;
  FileVersion file;  ///< blocks [first_block, first_block + blocks.size())
  std::uint64_t total_blocks = 0;
  bool is_folder = false;  ///< then only this is meaningful
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.file, s.total_blocks, s.is_folder);
  }
  bool operator==(const FsStatReply&) const = default;
};
struct FsStatRequest {
  static constexpr auto kType = MessageType::fs_stat;
  static constexpr Role kRole = Role::read;
  using Reply = FsStatReply;
  std::string path;
  std::uint32_t version = 0;  ///< 0 = newest
  std::uint64_t first_block = 0;
  std::uint32_t max_blocks = kBlocksPerRequestMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.version, s.first_block, s.max_blocks);
  }
  bool operator==(const FsStatRequest&) const = default;
};

/// Makes versions of files whose blocks are all on disk already. All or nothing. Larger files arrive in parts: all but the last
/// part of a file have `more`; parts of one file carry the same `upload`, and nothing is visible before the last one.
struct FsFilePart {
  std::string path;
  std::uint64_t upload = 0;       ///< random, the same for all parts of one file
  std::uint64_t first_block = 0;  ///< index of blocks[0] in the file
  std::vector<BlockRef> blocks;
  bool more = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.upload, s.first_block, s.blocks, s.more);
  }
  bool operator==(const FsFilePart&) const = default;
};
struct FsCommitReply {
  static constexpr auto kType = MessageType::fs_commit_reply;
  std::vector<std::uint32_t> versions;  ///< for each part: the version made, 0 for a part with `more`
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.versions);
  }
  bool operator==(const FsCommitReply&) const = default;
};
struct FsCommitRequest {
  static constexpr auto kType = MessageType::fs_commit;
  static constexpr Role kRole = Role::submit;
  using Reply = FsCommitReply;
  std::vector<FsFilePart> files;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.files);
  }
  bool operator==(const FsCommitRequest&) const = default;
};

struct FsRemoveReply {
  static constexpr auto kType = MessageType::fs_remove_reply;
  std::uint64_t files = 0;
  std::uint64_t blocks = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.files, s.blocks);
  }
  bool operator==(const FsRemoveReply&) const = default;
};
/// Refused (conflict) while an active job reads or writes below one of the paths.
struct FsRemoveRequest {
  static constexpr auto kType = MessageType::fs_remove;
  static constexpr Role kRole = Role::submit;
  using Reply = FsRemoveReply;
  std::vector<std::string> paths;
  bool recursive = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.paths, s.recursive);
  }
  bool operator==(const FsRemoveRequest&) const = default;
};

/// A change of who holds a block: by repair, or by a reader that replaced a bad copy. It says what is to change: nodes that are
/// only in `replicas` are added, nodes that are only in `seen` are removed; what happened to the list meanwhile stays.
struct ReplicaMove {
  std::string path;
  std::uint32_t version = 0;
  std::uint64_t block_index = 0;
  BlockId id;                    ///< must still be the block at that place, else nothing happens
  std::vector<NodeId> replicas;  ///< the new list
  std::vector<NodeId> seen;      ///< the list that the new one was made from
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.version, s.block_index, s.id, s.replicas, s.seen);
  }
  bool operator==(const ReplicaMove&) const = default;
};
struct FsMoveReplicasReply {
  static constexpr auto kType = MessageType::fs_move_replicas_reply;
  std::uint32_t changed = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.changed);
  }
  bool operator==(const FsMoveReplicasReply&) const = default;
};
struct FsMoveReplicasRequest {
  static constexpr auto kType = MessageType::fs_move_replicas;
  static constexpr Role kRole = Role::admin;
  using Reply = FsMoveReplicasReply;
  std::vector<ReplicaMove> moves;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.moves);
  }
  bool operator==(const FsMoveReplicasRequest&) const = default;
};

/// The files that have blocks on one node, a page.
struct StoreEntry {
  std::string path;
  std::uint32_t version = 0;
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.path, s.version, s.blocks, s.bytes);
  }
  bool operator==(const StoreEntry&) const = default;
};
struct FsStoreReply {
  static constexpr auto kType = MessageType::fs_store_reply;
  std::vector<StoreEntry> entries;
  std::string next;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.entries, s.next);
  }
  bool operator==(const FsStoreReply&) const = default;
};
struct FsStoreRequest {
  static constexpr auto kType = MessageType::fs_store;
  static constexpr Role kRole = Role::read;
  using Reply = FsStoreReply;
  NodeId node;
  std::string after;
  std::uint32_t limit = kListPageMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.after, s.limit);
  }
  bool operator==(const FsStoreRequest&) const = default;
};

// ---- rpc: models ----------------------------------------------------------------------------------------------------

struct ModelAddReply {
  static constexpr auto kType = MessageType::model_add_reply;
  std::uint32_t version = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.version);
  }
  bool operator==(const ModelAddReply&) const = default;
};
/// The files are in SDFS already; `model.version` and `model.created_ms` are set by the coordinator.
struct ModelAddRequest {
  static constexpr auto kType = MessageType::model_add;
  static constexpr Role kRole = Role::submit;
  using Reply = ModelAddReply;
  ModelVersion model;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.model);
  }
  bool operator==(const ModelAddRequest&) const = default;
};

struct ModelListReply {
  static constexpr auto kType = MessageType::model_list_reply;
  std::vector<ModelVersion> models;  ///< by name, newest version first
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.models);
  }
  bool operator==(const ModelListReply&) const = default;
};
struct ModelListRequest {
  static constexpr auto kType = MessageType::model_list;
  static constexpr Role kRole = Role::read;
  using Reply = ModelListReply;
  std::string name;  ///< empty = all
  bool all_versions = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.name, s.all_versions);
  }
  bool operator==(const ModelListRequest&) const = default;
};

struct ModelRemoveReply {
  static constexpr auto kType = MessageType::model_remove_reply;
  std::uint32_t versions = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.versions);
  }
  bool operator==(const ModelRemoveReply&) const = default;
};
/// All versions and their SDFS files. Refused (conflict) while an active job uses one.
struct ModelRemoveRequest {
  static constexpr auto kType = MessageType::model_remove;
  static constexpr Role kRole = Role::submit;
  using Reply = ModelRemoveReply;
  std::string name;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.name);
  }
  bool operator==(const ModelRemoveRequest&) const = default;
};

// ---- rpc: jobs ------------------------------------------------------------------------------------------------------

struct SubmitReply {
  static constexpr auto kType = MessageType::submit_reply;
  JobId job;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job);
  }
  bool operator==(const SubmitReply&) const = default;
};
struct SubmitRequest {
  static constexpr auto kType = MessageType::submit;
  static constexpr Role kRole = Role::submit;
  using Reply = SubmitReply;
  JobSpec spec;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.spec);
  }
  bool operator==(const SubmitRequest&) const = default;
};

enum class JobAction : std::uint8_t { stop = 0, pause = 1, resume = 2, remove = 3 };

struct JobControlReply {
  static constexpr auto kType = MessageType::job_control_reply;
  JobState state = JobState::queued;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.state);
  }
  bool operator==(const JobControlReply&) const = default;
};
struct JobControlRequest {
  static constexpr auto kType = MessageType::job_control;
  static constexpr Role kRole = Role::submit;
  using Reply = JobControlReply;
  JobId job;
  JobAction action = JobAction::stop;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.action);
  }
  bool operator==(const JobControlRequest&) const = default;
};

struct JobSetReply {
  static constexpr auto kType = MessageType::job_set_reply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const JobSetReply&) const = default;
};
/// Sets all of them; the client reads the present values first.
struct JobSetRequest {
  static constexpr auto kType = MessageType::job_set;
  static constexpr Role kRole = Role::submit;
  using Reply = JobSetReply;
  JobId job;
  std::uint32_t weight_milli = 1000;
  std::uint32_t rate_limit_milli = 0;
  std::int32_t priority = 0;
  std::uint32_t nodes_min = 0;
  std::uint32_t nodes_max = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.weight_milli, s.rate_limit_milli, s.priority, s.nodes_min, s.nodes_max);
  }
  bool operator==(const JobSetRequest&) const = default;
};

struct JobReportsReply {
  static constexpr auto kType = MessageType::job_reports_reply;
  std::vector<JobReport> jobs;  ///< by id
  FairnessReport fairness;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.jobs, s.fairness);
  }
  bool operator==(const JobReportsReply&) const = default;
};
struct JobReportsRequest {
  static constexpr auto kType = MessageType::job_reports;
  static constexpr Role kRole = Role::read;
  using Reply = JobReportsReply;
  std::vector<JobId> jobs;      ///< empty = the newest kListPageMax
  std::uint32_t window_s = 10;  ///< 1 to 60
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.jobs, s.window_s);
  }
  bool operator==(const JobReportsRequest&) const = default;
};

/// Which result blocks of a job are there; the client reads them from the data service.
struct JobResultsReply {
  static constexpr auto kType = MessageType::job_results_reply;
  JobState state = JobState::queued;
  std::uint64_t batches = 0;     ///< of the whole job
  std::vector<BlockRef> blocks;  ///< of batches first_batch, ...; id {0,0} = not there yet
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.state, s.batches, s.blocks);
  }
  bool operator==(const JobResultsReply&) const = default;
};
struct JobResultsRequest {
  static constexpr auto kType = MessageType::job_results;
  static constexpr Role kRole = Role::read;
  using Reply = JobResultsReply;
  JobId job;
  std::uint64_t first_batch = 0;
  std::uint32_t max_batches = kBlocksPerRequestMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.first_batch, s.max_batches);
  }
  bool operator==(const JobResultsRequest&) const = default;
};

// ---- rpc: node to coordinator and back ------------------------------------------------------------------------------

struct NodeHelloReply {
  static constexpr auto kType = MessageType::node_hello_reply;
  NodeId coordinator;
  std::vector<LeaseKey> dropped;  ///< of what the node said it holds: not wanted; what does not run yet is forgotten
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.coordinator, s.dropped);
  }
  bool operator==(const NodeHelloReply&) const = default;
};
/// First message of a node on a connection. The key it came with must be the key of that node.
struct NodeHello {
  static constexpr auto kType = MessageType::node_hello;
  static constexpr Role kRole = Role::node;
  using Reply = NodeHelloReply;
  NodeId node;
  Incarnation incarnation;
  std::uint64_t store_id = 0;  ///< random, made with the block store: another one means that the node's blocks are gone
  std::uint32_t slots = 0;
  std::uint32_t pid = 0;
  std::string data_dir;
  std::vector<HeldLease> held;  ///< leases of earlier sessions that it goes on with; at most kLeasesInHelloMax
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.incarnation, s.store_id, s.slots, s.pid, s.data_dir, s.held);
  }
  bool operator==(const NodeHello&) const = default;
};

struct HeartbeatReply {
  static constexpr auto kType = MessageType::heartbeat_reply;
  bool known = true;  ///< false: the coordinator has no session for this incarnation; say NodeHello again
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.known);
  }
  bool operator==(const HeartbeatReply&) const = default;
};
struct Heartbeat {
  static constexpr auto kType = MessageType::heartbeat;
  static constexpr Role kRole = Role::node;
  using Reply = HeartbeatReply;
  NodeId node;
  Incarnation incarnation;
  std::uint32_t running = 0;
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;
  std::uint64_t rss_bytes = 0;
  bool read_only = false;
  std::uint32_t mean_batch_us = 0;            ///< of late, 0 = none yet: the coordinator sizes the credit with it
  std::vector<RunningBatch> running_batches;  ///< those that its executors compute now, the longest first; at most slots
  std::uint32_t cpu_milli = 0;  ///< processor time since the last heartbeat, executors included, in thousandths of a core
  std::uint64_t executor_rss_bytes = 0;
  std::vector<std::string> models;  ///< loaded: "name:version", at most kModelsLoadedShownMax
  std::uint64_t model_loads = 0;    ///< since the node started
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.incarnation, s.running, s.capacity_bytes, s.free_bytes, s.blocks, s.block_bytes, s.rss_bytes,
                    s.read_only, s.mean_batch_us, s.running_batches, s.cpu_milli, s.executor_rss_bytes, s.models, s.model_loads);
  }
  bool operator==(const Heartbeat&) const = default;
};

/// Push, coordinator to worker. The description of a job comes before its first lease on this connection, and again when it may
/// be lost.
struct LeaseGrant {
  static constexpr auto kType = MessageType::lease_grant;
  std::vector<JobDescription> descriptions;
  std::vector<Lease> leases;
  std::vector<PlacementNode> placement;  ///< where result blocks may go; empty = as before
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.descriptions, s.leases, s.placement);
  }
  bool operator==(const LeaseGrant&) const = default;
};

/// Push, coordinator to worker: how far each job is in the whole cluster (served and in work, by weight, as Lease::pass counts),
/// so that a worker starts what lags behind everywhere and not only with itself, and gives the executors of such a job more of
/// the processors they share. The least served first; at most kJobsOrderedMax.
struct JobPass {
  JobId job;
  std::uint64_t pass = 0;       ///< how far it will be at the node's next start
  std::uint64_t per_query = 0;  ///< what one query adds
  std::int32_t lead_ms = 0;     ///< how far it is before (or, < 0, behind) the mean of its competitors now, at their common pace
  /// What a millisecond of an executor's processor adds to that, in thousandths of a millisecond; 0 = not known. A worker goes on
  /// by it between two orders.
  std::uint32_t lead_per_cpu_milli = 0;
  std::uint32_t executors = 0;  ///< that compute it, in the whole cluster
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.pass, s.per_query, s.lead_ms, s.lead_per_cpu_milli, s.executors);
  }
  bool operator==(const JobPass&) const = default;
};
/// What a slot is to start when it has done with a batch.
struct PlannedStart {
  LeaseKey after;  ///< of what the slot computes, or was the last it computed; job 0 = a slot of which nothing is known
  JobId job;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.after, s.job);
  }
  bool operator==(const PlannedStart&) const = default;
};
struct JobOrder {
  static constexpr auto kType = MessageType::job_order;
  std::vector<JobPass> jobs;
  /// What the slots of this node are to start next: the plan for all nodes counts on it, so that nodes whose slots become free in
  /// the same moment do not choose the same job. Jobs without a ready batch there are passed over. At most kStartsPlannedMax.
  std::vector<PlannedStart> next;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.jobs, s.next);
  }
  bool operator==(const JobOrder&) const = default;
};

/// Push, coordinator to worker: files of a model that jobs may compute with soon, to be brought to its disk ahead of need.
struct PrefetchModel {
  static constexpr auto kType = MessageType::prefetch_model;
  FileVersion onnx;    ///< with blocks
  FileVersion labels;  ///< with blocks; version 0 when there are none
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.onnx, s.labels);
  }
  bool operator==(const PrefetchModel&) const = default;
};

/// Push, coordinator to worker: the job is over (stopped, failed, removed or done); forget its leases.
struct LeaseDrop {
  static constexpr auto kType = MessageType::lease_drop;
  JobId job;
  bool paused = false;  ///< leases that have not started are given back, the description is kept
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.paused);
  }
  bool operator==(const LeaseDrop&) const = default;
};

enum class CommitOutcome : std::uint8_t { accepted = 0, duplicate = 1, conflict = 2, not_wanted = 3 };

struct CommitBatchesReply {
  static constexpr auto kType = MessageType::commit_batches_reply;
  std::vector<CommitOutcome> outcomes;  ///< one for each commit, in order
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.outcomes);
  }
  bool operator==(const CommitBatchesReply&) const = default;
};
struct CommitBatches {
  static constexpr auto kType = MessageType::commit_batches;
  static constexpr Role kRole = Role::node;
  using Reply = CommitBatchesReply;
  std::vector<BatchCommit> commits;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.commits);
  }
  bool operator==(const CommitBatches&) const = default;
};

enum class BatchFailure : std::uint8_t {
  executor_died = 0,     ///< crash, hang past the deadline or out of memory: one attempt of the batch
  model_unusable = 1,    ///< the model does not load in the executor: fails the job
  input_missing = 2,     ///< input blocks could not be read from any replica: try elsewhere
  result_too_large = 3,  ///< the rows are over kResultBlockBytesMax: fails the job
  not_stored = 4,        ///< the result could not be written to its replicas: try again
  returned = 5,          ///< not started, given back because the job is paused
  trial_passed = 6,      ///< a trial run (Lease) ended without killing the executor
};
struct BatchFailedReply {
  static constexpr auto kType = MessageType::batch_failed_reply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const BatchFailedReply&) const = default;
};
struct BatchFailed {
  static constexpr auto kType = MessageType::batch_failed;
  static constexpr Role kRole = Role::node;
  using Reply = BatchFailedReply;
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  BatchFailure why = BatchFailure::executor_died;
  std::string detail;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.job, s.batch, s.attempt, s.why, s.detail);
  }
  bool operator==(const BatchFailed&) const = default;
};

/// Push, coordinator to node: copy these blocks here from their replicas, delete those. Answered by a ReplicaReport.
struct ReplicaTask {
  static constexpr auto kType = MessageType::replica_task;
  std::uint64_t task = 0;
  std::vector<BlockRef> pull;
  std::vector<BlockId> drop;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.task, s.pull, s.drop);
  }
  bool operator==(const ReplicaTask&) const = default;
};
struct ReplicaReportReply {
  static constexpr auto kType = MessageType::replica_report_reply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const ReplicaReportReply&) const = default;
};
struct ReplicaReport {
  static constexpr auto kType = MessageType::replica_report;
  static constexpr Role kRole = Role::node;
  using Reply = ReplicaReportReply;
  std::uint64_t task = 0;
  std::vector<BlockStatus> pulled;  ///< one for each block of `pull`, in order
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.task, s.pulled);
  }
  bool operator==(const ReplicaReport&) const = default;
};

/// What a node holds, page by page, after its hello and then every few minutes: finds copies that got lost and copies nobody
/// refers to. Pages come in id order; `from` (exclusive) to `to` (inclusive) is covered completely by a page.
struct InventoryReply {
  static constexpr auto kType = MessageType::inventory_reply;
  std::vector<BlockId> unknown;  ///< no file refers to these; the node deletes those older than its grace time
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unknown);
  }
  bool operator==(const InventoryReply&) const = default;
};
struct Inventory {
  static constexpr auto kType = MessageType::inventory;
  static constexpr Role kRole = Role::node;
  using Reply = InventoryReply;
  NodeId node;
  BlockId from;
  BlockId to;
  std::vector<BlockId> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.from, s.to, s.blocks);
  }
  bool operator==(const Inventory&) const = default;
};

/// Copies on a node that are damaged or gone (scrubber, reads): the coordinator forgets them, and repair makes new ones.
struct DamagedBlocksReply {
  static constexpr auto kType = MessageType::damaged_blocks_reply;
  std::uint8_t unused = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.unused);
  }
  bool operator==(const DamagedBlocksReply&) const = default;
};
struct DamagedBlocks {
  static constexpr auto kType = MessageType::damaged_blocks;
  static constexpr Role kRole = Role::node;
  using Reply = DamagedBlocksReply;
  NodeId node;
  std::vector<BlockId> blocks;  ///< at most kBlocksPerRequestMax
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.blocks);
  }
  bool operator==(const DamagedBlocks&) const = default;
};

/// Hands the coordinator's office to another voter: before a machine is taken down.
struct TransferLeadershipReply {
  static constexpr auto kType = MessageType::transfer_leadership_reply;
  NodeId to;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.to);
  }
  bool operator==(const TransferLeadershipReply&) const = default;
};
struct TransferLeadership {
  static constexpr auto kType = MessageType::transfer_leadership;
  static constexpr Role kRole = Role::admin;
  using Reply = TransferLeadershipReply;
  NodeId to;  ///< 0 = the standby
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.to);
  }
  bool operator==(const TransferLeadership&) const = default;
};

// ---- data: blocks ---------------------------------------------------------------------------------------------------

/// A block as its reader expects it.
struct BlockKey {
  BlockId id;
  std::uint32_t length = 0;
  Hash128 hash;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.length, s.hash);
  }
  bool operator==(const BlockKey&) const = default;
};

struct PutBlocksReply {
  static constexpr auto kType = MessageType::put_blocks_reply;
  std::vector<BlockStatus> statuses;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.statuses);
  }
  bool operator==(const PutBlocksReply&) const = default;
};
/// Payload: the blocks, one after the other. Answered when all are verified and synced.
struct PutBlocks {
  static constexpr auto kType = MessageType::put_blocks;
  static constexpr Role kRole = Role::submit;
  static constexpr bool kPayload = true;
  using Reply = PutBlocksReply;
  std::vector<BlockKey> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks);
  }
  bool operator==(const PutBlocks&) const = default;
};

/// Payload: the blocks whose status is ok, one after the other.
struct GetBlocksReply {
  static constexpr auto kType = MessageType::get_blocks_reply;
  static constexpr bool kPayload = true;
  std::vector<BlockStatus> statuses;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.statuses);
  }
  bool operator==(const GetBlocksReply&) const = default;
};
/// The sum of the lengths is at most kDataMessageBytesMax - 64 KiB.
struct GetBlocks {
  static constexpr auto kType = MessageType::get_blocks;
  static constexpr Role kRole = Role::read;
  using Reply = GetBlocksReply;
  std::vector<BlockKey> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks);
  }
  bool operator==(const GetBlocks&) const = default;
};

struct CheckBlocksReply {
  static constexpr auto kType = MessageType::check_blocks_reply;
  std::vector<BlockStatus> statuses;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.statuses);
  }
  bool operator==(const CheckBlocksReply&) const = default;
};
/// Reads and verifies the copies on this node (`fs fsck`).
struct CheckBlocks {
  static constexpr auto kType = MessageType::check_blocks;
  static constexpr Role kRole = Role::read;
  using Reply = CheckBlocksReply;
  std::vector<BlockKey> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks);
  }
  bool operator==(const CheckBlocks&) const = default;
};

struct PullBlocksReply {
  static constexpr auto kType = MessageType::pull_blocks_reply;
  std::vector<BlockStatus> statuses;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.statuses);
  }
  bool operator==(const PullBlocksReply&) const = default;
};
/// Copy blocks here from the replicas named in each ref (this node left out). A damaged copy here is replaced.
struct PullBlocks {
  static constexpr auto kType = MessageType::pull_blocks;
  static constexpr Role kRole = Role::admin;
  using Reply = PullBlocksReply;
  std::vector<BlockRef> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks);
  }
  bool operator==(const PullBlocks&) const = default;
};

struct DeleteBlocksReply {
  static constexpr auto kType = MessageType::delete_blocks_reply;
  std::uint32_t deleted = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.deleted);
  }
  bool operator==(const DeleteBlocksReply&) const = default;
};
struct DeleteBlocks {
  static constexpr auto kType = MessageType::delete_blocks;
  static constexpr Role kRole = Role::admin;
  using Reply = DeleteBlocksReply;
  std::vector<BlockId> blocks;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks);
  }
  bool operator==(const DeleteBlocks&) const = default;
};

/// What a node holds, in id order, a page.
struct HeldBlock {
  BlockId id;
  std::uint32_t length = 0;
  WallMs stored_ms = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.id, s.length, s.stored_ms);
  }
  bool operator==(const HeldBlock&) const = default;
};
struct ListBlocksReply {
  static constexpr auto kType = MessageType::list_blocks_reply;
  std::vector<HeldBlock> blocks;
  bool more = false;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.blocks, s.more);
  }
  bool operator==(const ListBlocksReply&) const = default;
};
struct ListBlocks {
  static constexpr auto kType = MessageType::list_blocks;
  static constexpr Role kRole = Role::read;
  using Reply = ListBlocksReply;
  BlockId after;
  std::uint32_t limit = kBlocksPerRequestMax;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.after, s.limit);
  }
  bool operator==(const ListBlocks&) const = default;
};

// ---- ping -----------------------------------------------------------------------------------------------------------

struct Pong {
  static constexpr auto kType = MessageType::pong;
  NodeId node;
  Incarnation incarnation;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.node, s.incarnation);
  }
  bool operator==(const Pong&) const = default;
};
struct Ping {
  static constexpr auto kType = MessageType::ping;
  static constexpr Role kRole = Role::read;
  using Reply = Pong;
  NodeId from;  ///< 0 for a client
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.from);
  }
  bool operator==(const Ping&) const = default;
};

// ---- events PUB -----------------------------------------------------------------------------------------------------

inline constexpr char kEventTopic[] = "event";
inline constexpr char kStatsTopic[] = "stats";

struct EventNotice {
  static constexpr auto kType = MessageType::event_notice;
  std::uint64_t sequence = 0;  ///< of this publisher; a gap means lost notices
  Event event;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.event);
  }
  bool operator==(const EventNotice&) const = default;
};
/// Once a second, by the coordinator.
struct StatsNotice {
  static constexpr auto kType = MessageType::stats_notice;
  std::uint64_t sequence = 0;
  WallMs at_ms = 0;
  JobReportsReply stats;
  std::vector<NodeReport> nodes;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.sequence, s.at_ms, s.stats, s.nodes);
  }
  bool operator==(const StatsNotice&) const = default;
};

}  // namespace idunno

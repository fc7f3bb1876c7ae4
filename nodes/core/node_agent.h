#pragma once
/// A node's relation to the coordinator, whoever that is: finds it, says hello, sends heartbeats, takes leases, offers commits,
/// holds them in the outbox while nobody takes them, reports the inventory of its blocks. Owns the WorkerQueue
/// (nodes/jobs/worker_queue.h). Pure: the shell (nodes/runtime/agent_shell.h) and the simulator (tests/sim) bring answers,
/// pushes, results and time, and obey AgentOutput after every call (or a few), in the order of its members. Every
/// AgentOutput::Call is answered exactly once, with Errc::timeout when its time is over.
///
/// Finding the coordinator: the log nodes are asked in turn, a not_leader answer names the next one to ask; a hint (the node's
/// own log knows the leader) goes first. One hello is under way at a time; pauses double from kHelloPauseFirst to kHelloPauseMax.
///
/// Epochs: the highest epoch of any session or push is remembered (also over sessions); pushes and answers under an older one are
/// ignored, so a coordinator that was replaced changes nothing here.
///
/// A gap without a coordinator: leases that are held go on (fetch, run, store); their commits wait in the outbox, and after the
/// next hello all of them are offered again. What the new coordinator does not want is named in its answer and dropped, but for
/// results that are stored: those are offered, and the answer to the commit says what becomes of the block. Reports of failed
/// batches wait, too; their leases are named in the hello as if they ran, so that the report that follows counts as an attempt.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "bus/codec.h"
#include "nodes/jobs/batch_lives.h"
#include "nodes/jobs/worker_queue.h"
#include "storage/outbox_store.h"

namespace idunno {

inline constexpr Duration kHelloTimeout = std::chrono::seconds(1);
inline constexpr Duration kHelloPauseFirst = std::chrono::milliseconds(10);
inline constexpr Duration kHelloPauseMax = std::chrono::milliseconds(100);
inline constexpr Duration kCommitTimeout = std::chrono::seconds(5);
inline constexpr std::uint32_t kCommitRequestsInFlightMax = 2;
/// An outbox record that is older at the start of a process, or at a hello, is dropped and its batch computed again: its result
/// block may have been deleted as an orphan meanwhile (kOrphanGraceMs is longer).
inline constexpr WallMs kOutboxAgeMaxMs = 5 * 60 * 1000;
/// A block nobody refers to may belong to a write whose metadata is on its way: younger ones are left alone. So
/// are all of them in a session that is younger: after a long gap, results of that age are still being offered.
inline constexpr WallMs kOrphanGraceMs = 10 * 60 * 1000;
inline constexpr Duration kInventoryInterval = std::chrono::minutes(10);

struct AgentConfig {
  NodeId self;
  Incarnation incarnation;
  std::uint64_t store_id = 0;  ///< of the block store
  std::uint32_t slots = 1;
  std::uint32_t pid = 0;
  std::string data_dir;
  std::vector<NodeId> log_nodes;  ///< who may lead
  Duration heartbeat_interval = std::chrono::milliseconds(500);
  Duration heartbeat_timeout = std::chrono::milliseconds(3000);
  std::uint64_t input_bytes_max = 64ULL << 20U;
  Duration reload_lag = std::chrono::milliseconds(300);  ///< of WorkerQueue
};

/// What the node knows of itself for a heartbeat; asked for by AgentOutput::wants_usage.
struct NodeUsage {
  std::uint64_t capacity_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t blocks = 0;
  std::uint64_t block_bytes = 0;
  std::uint64_t rss_bytes = 0;
  bool read_only = false;
  std::uint32_t cpu_milli = 0;
  std::uint64_t executor_rss_bytes = 0;
  std::vector<std::string> models;  ///< at most kModelsLoadedShownMax go into a heartbeat
  std::uint64_t model_loads = 0;
};

struct AgentOutput {
  struct Call {
    std::uint64_t id = 0;  ///< answered by `answered`
    NodeId to;             ///< its rpc service
    MessageType type = MessageType::error_reply;
    Bytes body;
    RequestId request;  ///< {0,0}: a fresh one
    Epoch epoch;
    Duration timeout{};
  };
  std::vector<Call> calls;
  OutboxWrite outbox;                    ///< to be written before `calls` are sent
  std::vector<JobDescription> describe;  ///< for the fetcher of inputs, before work.fetch
  std::vector<PrefetchModel> prefetch;   ///< files to bring to the disk ahead of need; at most kPrefetchModelsMax
  std::optional<std::pair<std::vector<PlacementNode>, std::uint32_t>> placement;  ///< where results may go, and how many copies
  WorkerOutput work;                   ///< discard, forget_jobs, fetch, start; offer and failures are empty: the agent sends them
  std::vector<ReplicaTask> tasks;      ///< copies to make and to delete; answered by `task_done`
  std::optional<BlockId> list_blocks;  ///< list the store after this id; answered by `blocks_listed`
  std::vector<BlockId> delete_blocks;  ///< orphans
  bool wants_usage = false;            ///< a heartbeat is due: answered by `usage`
  bool wants_executor_times = false;   ///< answered by `executor_times`
  std::vector<std::pair<std::uint32_t, ExecutorShare>> shares;  ///< of processors, of these slots' executors, from now on
  std::vector<Event> events;                                    ///< `at_ms` and `node` are set by the shell
};

class NodeAgent {
 public:
  /// `outbox`: what an earlier life left. `random` must differ between nodes and lives: request ids are drawn from it.
  NodeAgent(AgentConfig config, std::vector<OutboxRecord> outbox, Random random, Time now, WallMs wall);
  ~NodeAgent();

  void answered(std::uint64_t call, const Result<Envelope>& answer, Time now, WallMs wall);
  void pushed(NodeId from, Epoch epoch, const LeaseGrant& grant, Time now);
  void pushed(NodeId from, Epoch epoch, const LeaseDrop& drop, Time now);
  void pushed(NodeId from, Epoch epoch, const JobOrder& order, Time now);
  void pushed(NodeId from, Epoch epoch, const ReplicaTask& task, Time now);
  void pushed(NodeId from, Epoch epoch, const PrefetchModel& model, Time now);
  /// This node's own log says who leads (0 = nobody known).
  void leader_hint(NodeId leader, Epoch epoch, Time now);
  /// The connection to that node's rpc service closed.
  void connection_lost(NodeId node, Time now);
  void usage(const NodeUsage& usage, Time now);
  void task_done(std::uint64_t task, const std::vector<BlockStatus>& pulled, Time now);
  void blocks_listed(const std::vector<HeldBlock>& page, BlockId after, bool more, Time now, WallMs wall);
  /// Copies that this node found damaged (they are deleted here already).
  void blocks_damaged(const std::vector<BlockId>& blocks, Time now);

  // What becomes of AgentOutput::work (nodes/jobs/worker_queue.h).
  void input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now);
  void input_failed(const LeaseKey& lease, const std::string& why, Time now);
  /// `cpu_us`, here and below: the processor time of the slot's executor so far; 0 = not known.
  void started(std::uint32_t slot, const LeaseKey& lease, Time at, WallMs wall, std::uint64_t cpu_us = 0);
  void loaded(std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us);
  void executor_times(const std::vector<std::uint64_t>& cpu_us, ProcessorLoad load, Time now);  ///< one a slot
  /// True: the rows are wanted and are to be stored.
  [[nodiscard]] bool finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now,
                              std::uint64_t load_us = 0, std::uint64_t cpu_us = 0);
  void failed(std::uint32_t slot, const LeaseKey& lease, BatchFailure why, const std::string& detail, Time now);
  void stored(const LeaseKey& lease, const BlockRef& block, Time now, WallMs wall);
  void store_failed(const LeaseKey& lease, const std::string& why, Time now);

  void tick(Time now, WallMs wall);
  [[nodiscard]] Time wake_at() const;
  [[nodiscard]] AgentOutput take_output();

  [[nodiscard]] NodeId coordinator() const;  ///< of the present session, else the best guess; 0 = none
  [[nodiscard]] bool in_session() const;
  [[nodiscard]] Epoch epoch() const;  ///< the highest seen
  [[nodiscard]] const WorkerQueue& queue() const;
  [[nodiscard]] const BatchLives& lives() const;  ///< what became of its leases lately

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

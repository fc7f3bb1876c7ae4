#pragma once
/// The shell around the pure NodeAgent (nodes/core/node_agent.h): carries its calls to the coordinator and pushes back, fetches
/// inputs, feeds executors, writes result blocks to their replicas, keeps the outbox on disk, lists and copies blocks. What came
/// in during a turn of the loop is obeyed at its end, so that commits go together. Executors and everything under way go on
/// whoever leads. Control thread; the data service must be stopped before this is destroyed (its thread posts here).

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nodes/core/node_agent.h"
#include "nodes/runtime/input_fetcher.h"
#include "nodes/runtime/node_context.h"
#include "nodes/runtime/process_usage.h"
#include "nodes/worker/executor_pool.h"
#include "storage/outbox_store.h"

namespace idunno {

class AgentShell {
 public:
  AgentShell(NodeContext& context, const std::filesystem::path& executor_program);
  ~AgentShell();
  AgentShell(const AgentShell&) = delete;
  AgentShell& operator=(const AgentShell&) = delete;

  /// Opens the outbox and begins to look for the coordinator. A store that fails is fatal to the node.
  void start();
  void end_turn();
  /// This node's own log says who leads (0 = nobody known).
  void leader_hint(NodeId leader, Epoch epoch);
  /// Copies that were found damaged and are deleted here already: the coordinator is told. (The data service reports those that
  /// it finds by itself.)
  void blocks_damaged(const std::vector<BlockId>& blocks);

  /// What it did with a batch lately (nodes/jobs/batch_lives.h).
  [[nodiscard]] BatchLivesReply batch_lives(JobId job, std::int64_t batch) const;
  [[nodiscard]] NodeId coordinator() const;     ///< of the present session, else the best guess; 0 = none
  [[nodiscard]] std::uint32_t running() const;  ///< batches in executors
  [[nodiscard]] ExecutorPool::Usage executors() const { return executors_.usage(); }
  /// Of the last heartbeat, or now when that is over kUsageAgeMax ago: without a coordinator there are none.
  [[nodiscard]] ProcessUsage::Sample processes();

 private:
  void take_pushes();
  void obey(AgentOutput&& out);
  void obey_work(WorkerOutput&& work);
  void send(const AgentOutput::Call& call);
  void run_task(const ReplicaTask& task);
  void list_blocks(BlockId after);
  void remove_blocks(std::vector<BlockId> blocks);
  void plan_wake();
  [[nodiscard]] NodeUsage usage();

  void on_input(const LeaseKey& lease, Result<FetchedBatch> input);
  void start_batch(std::uint32_t slot, const Lease& lease);
  void give_up(std::uint32_t slot, const Lease& lease, const FetchedBatch& input);
  void on_started(std::uint32_t slot, const LeaseKey& lease, Time at, std::uint64_t cpu_us);
  void on_finished(ExecutorPool::Outcome outcome);
  void store_rows(const LeaseKey& lease, Payload rows);

  /// Everything that tells the agent something goes through here, so that its output is taken at the end of the turn.
  NodeAgent& agent() {
    changed_ = true;
    return *agent_;
  }

  NodeContext& context_;
  std::unique_ptr<OutboxStore> outbox_;
  std::unique_ptr<NodeAgent> agent_;  ///< none before start()
  InputFetcher inputs_;
  ExecutorPool executors_;
  ProcessUsage processes_;
  std::map<LeaseKey, FetchedBatch> fetched_;  ///< bounded by the queue's input limit
  bool changed_ = false;
  bool fixed_nice_told_ = false;
  EventLoop::TimerId timer_ = 0;
  Time timer_at_ = kNever;
};

}  // namespace idunno

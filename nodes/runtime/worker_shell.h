#pragma once
/// The shell around the pure WorkerQueue: leases in, inputs fetched, executors fed, result blocks written to their replicas,
/// commits offered to the coordinator. Control thread.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "nodes/jobs/worker_queue.h"
#include "nodes/runtime/input_fetcher.h"
#include "nodes/runtime/node_context.h"
#include "nodes/worker/executor_pool.h"

namespace idunno {

class WorkerShell {
 public:
  /// `session_lost` is called when the coordinator does not answer a commit or the report of a failed batch.
  WorkerShell(NodeContext& context, const std::filesystem::path& executor_program, std::function<void()> session_lost);
  ~WorkerShell();

  void new_session(Epoch epoch);
  void end_turn();  ///< sends the commits that came together in this turn

  [[nodiscard]] std::uint32_t running() const { return queue_.running(); }
  [[nodiscard]] std::uint32_t mean_batch_us() const { return queue_.mean_batch_us(); }

 private:
  void obey(WorkerOutput&& out);
  void on_grant(Epoch epoch, const LeaseGrant& grant);
  void on_input(const LeaseKey& lease, Result<FetchedBatch> input);
  void start(std::uint32_t slot, const Lease& lease);
  void give_up(std::uint32_t slot, const Lease& lease, const FetchedBatch& input);
  void on_started(std::uint32_t slot, const LeaseKey& lease, Time at);
  void on_finished(ExecutorPool::Outcome outcome);
  void store_rows(const LeaseKey& lease, Payload rows);
  void send_commits();
  void check_stages();
  void tell(const char* type, const LeaseKey& lease, std::string text);

  NodeContext& context_;
  WorkerQueue queue_;
  InputFetcher inputs_;
  ExecutorPool executors_;
  std::function<void()> session_lost_;
  std::map<LeaseKey, FetchedBatch> fetched_;  ///< bounded by the queue's input limit
  std::deque<BatchCommit> offers_;            ///< waiting to be sent, in order
  std::uint32_t commits_in_flight_ = 0;
  EventLoop::TimerId stage_timer_ = 0;
  Epoch epoch_;
};

}  // namespace idunno

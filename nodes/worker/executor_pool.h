#pragma once
/// The node's executors: one child process a slot, started at the first batch, started again when it died. Each slot has one
/// supervising thread of ours that speaks the protocol with its child; all calls and callbacks are in the thread of the
/// EventLoop.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/event_loop.h"
#include "nodes/jobs/worker_queue.h"
#include "nodes/worker/executor_protocol.h"

namespace idunno {

class ExecutorPool {
 public:
  struct Options {
    std::filesystem::path program;  ///< idunno-executor, beside idunnod
    std::uint32_t slots = 1;
    std::uint64_t memory_bytes = 2ULL << 30U;  ///< limit of one child (RLIMIT_AS is set above it, see executor_process.cc);
                                               ///< models are evicted LRU to half of it
    Duration batch_timeout = std::chrono::seconds(300);
    Duration idle_after = std::chrono::seconds(120);  ///< a child without work for so long is ended, to give its memory back
    std::filesystem::path log_dir;                    ///< stderr of slot k goes to executor-<k>.log
  };
  struct Task {
    LeaseKey lease;
    ExecuteBatch head;
    std::vector<Payload> items;  ///< concatenated they are the payload
  };
  struct Outcome {
    std::uint32_t slot = 0;
    LeaseKey lease;
    bool executed = false;  ///< false: `why` and `detail`
    BatchExecuted head;
    Payload rows;  ///< none of a trial
    BatchFailure why = BatchFailure::executor_died;
    std::string detail;        ///< "executor of slot 1 (pid 4711) was killed by signal 11"
    Time at{};                 ///< when it ended
    std::uint64_t cpu_us = 0;  ///< processor time of the child until then; 0 = not known
  };
  /// The loop may be long in one turn (it syncs the job log), so what is told carries the time at which it happened, and the
  /// processor time of the child until then.
  using Started = std::function<void(std::uint32_t slot, LeaseKey, Time at, std::uint64_t cpu_us)>;
  struct Handlers {
    Started started;
    Started loaded;  ///< the child had to load the model and computes from now on; may be empty
    std::function<void(Outcome)> finished;
  };
  ExecutorPool(EventLoop& loop, Options options, Handlers handlers);
  ~ExecutorPool();  ///< kills the children

  /// Tasks of one slot are computed in order. A child that dies costs the task it was running; those behind it are run by the
  /// next child.
  void start(std::uint32_t slot, Task task);
  /// Forgets a task that has not begun; a running one goes on (its outcome is still reported).
  void cancel(const LeaseKey& lease);
  [[nodiscard]] std::vector<int> pids() const;
  /// Processor time of each slot's child so far, in microseconds; 0 = none, or not known.
  [[nodiscard]] std::vector<std::uint64_t> cpu_us() const;
  /// What a slot's child is to have of its processor, from now on. At first it is of kExecutorNice and not stopped; a child that
  /// replaces one is not stopped either.
  void set_share(std::uint32_t slot, ExecutorShare share);
  /// Of all slots, since the pool was made.
  struct Usage {
    std::uint32_t children = 0;    ///< alive
    std::set<std::string> models;  ///< that one of them holds at least, by ExecuteBatch::model_key
    std::uint64_t model_loads = 0;
    std::uint64_t model_load_us = 0;  ///< how long these took in all
    std::uint64_t starts = 0;         ///< of children
    std::uint64_t failures = 0;       ///< children that died, hung, ran out of memory or could not be started
    std::uint64_t batches = 0;        ///< computed
    bool fixed_nice = false;          ///< this process may not make its children less nice again
  };
  [[nodiscard]] Usage usage() const;

  /// ExecuteBatch::masked for a lease: its quarantine, and in a trial all that is not tried.
  [[nodiscard]] static std::vector<std::uint32_t> masked_places(const Lease& lease);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

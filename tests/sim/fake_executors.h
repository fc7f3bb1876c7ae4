#pragma once
/// The executors of one node: they "compute" by waiting. Some batches take long, some crash their executor once or twice, and a
/// batch with a poison query always does. A slot computes what it was given in that order.

#include <deque>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "bus/base/random.h"
#include "tests/sim/process.h"
#include "tests/sim/truth.h"

namespace idunno::sim {

struct ExecutorOutcome {
  std::uint32_t slot = 0;
  LeaseKey lease;
  std::optional<Bytes> rows;  ///< none: it failed
  std::uint32_t errors = 0;
  std::uint64_t infer_us = 0;
  BatchFailure why = BatchFailure::executor_died;
};

class FakeExecutors {
 public:
  struct Handlers {
    std::function<void(std::uint32_t slot, const LeaseKey& lease)> started;
    std::function<void(const ExecutorOutcome&)> ended;
  };
  /// The handlers are called in the executors' own time: they outlive a stop of the node's process.
  FakeExecutors(Env& env, Truth& truth, std::uint32_t slots, Random random, Handlers handlers)
      : env_(env), truth_(truth), random_(random), handlers_(std::move(handlers)), slots_(slots) {}

  void start(std::uint32_t slot, const Lease& lease, const std::string& job, std::weak_ptr<Process> life);
  /// Forgets what has not begun.
  void cancel(const LeaseKey& lease);

 private:
  struct Task {
    Lease lease;
    std::string job;
  };
  struct Slot {
    std::deque<Task> queue;
    bool busy = false;
  };
  void next(std::uint32_t slot, const std::weak_ptr<Process>& life);
  [[nodiscard]] ExecutorOutcome compute(std::uint32_t slot, const Task& task, Duration& takes);

  Env& env_;
  Truth& truth_;
  Random random_;
  Handlers handlers_;
  std::vector<Slot> slots_;
};

}  // namespace idunno::sim

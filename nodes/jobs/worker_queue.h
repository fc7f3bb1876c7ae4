#pragma once
/// What a worker decides: which leased batch is fetched, which runs next in which slot, which results are offered to the coordinator.
/// Pure. A lease goes: queued -> fetching -> ready -> running -> storing -> offered -> gone. Batches start in order of
/// (priority descending, pass, batch), so a new job runs at the next batch border.
///
/// The shell obeys WorkerOutput and reports back with the matching call; every report about a lease that is gone (dropped, other
/// epoch) is ignored. Bounds: kLeasesHeldMax leases; inputs that are fetched but not running stay under the input cache limit.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"

namespace idunno {

inline constexpr std::size_t kLeasesHeldMax = 65536;

/// A lease with an attempt from here on is not computed: the batch failed too often elsewhere, so the worker writes an error row for each of
/// its queries, without the engine, and commits that. The job goes on.
inline constexpr std::uint32_t kGiveUpAttempt = 1000;

struct LeaseKey {
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  auto operator<=>(const LeaseKey&) const = default;
};

struct WorkerOutput {
  std::vector<Lease> fetch;                                  ///< get the inputs; answer input_ready / input_failed
  struct Start {
    std::uint32_t slot;
    Lease lease;
  };
  std::vector<Start> start;                                  ///< hand to the slot's executor; answer finished / failed
  std::vector<LeaseKey> discard;                             ///< forget fetched inputs and results of these
  std::vector<JobId> forget_jobs;                            ///< no lease of these is left and none will come
  std::vector<BatchCommit> offer;                            ///< send in CommitBatches; answer offered_answer
  std::vector<BatchFailed> failures;                         ///< send; no answer needed
};

class WorkerQueue {
 public:
  /// `pipeline_us`: batches that take less than this on average are handed to an executor ahead of need (several per slot at once), so that
  /// short batches do not wait for a round trip; longer ones one at a time, so that a new job waits for one batch at most.
  WorkerQueue(std::uint32_t slots, std::uint64_t input_bytes_max, Duration pipeline = std::chrono::milliseconds(5));

  /// Another coordinator or a new session: leases under older epochs are forgotten, but for those running or stored, whose results are
  /// still offered.
  void new_session(Epoch epoch, WorkerOutput& out);
  void granted(const LeaseGrant& grant, Time now, WorkerOutput& out);
  void dropped(const LeaseDrop& drop, WorkerOutput& out);
  void input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now, WorkerOutput& out);
  void input_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out);
  /// The executor began with it (told for the events and the time).
  void started(std::uint32_t slot, const LeaseKey& lease, Time now, WallMs wall);
  /// The executor has its rows; the shell now writes the result block.
  void finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now, WorkerOutput& out);
  void failed(std::uint32_t slot, const LeaseKey& lease, BatchFailure why, const std::string& detail, Time now, WorkerOutput& out);
  void stored(const LeaseKey& lease, const BlockRef& block, NodeId self, Time now, WorkerOutput& out);
  void store_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out);
  /// The coordinator has logged (or does not want) these.
  void offered_answer(const std::vector<LeaseKey>& leases, WorkerOutput& out);
  /// The offer did not reach a coordinator: it is made again at the next session.
  void offer_lost(const std::vector<LeaseKey>& leases);

  [[nodiscard]] std::uint32_t running() const;
  [[nodiscard]] std::size_t held() const;
  [[nodiscard]] std::uint32_t mean_batch_us() const;  ///< of late (exponential average), 0 = none yet
  [[nodiscard]] const JobDescription* description(JobId job) const;

 private:
  struct Held;
  // ... chosen by the implementation: ordered containers only
};

}  // namespace idunno

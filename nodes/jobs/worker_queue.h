#pragma once
/// What a worker decides: which leased batch is fetched, which runs next in which slot, which results are offered to the
/// coordinator. Pure. A lease goes: queued -> fetching -> ready -> running -> storing -> offered -> gone.
///
/// When a slot becomes free, the ready batches of the highest priority compete (those of urgent jobs before all), so that a new
/// job runs at the next batch border. While the coordinator tells how far the jobs are in the whole cluster (`ordered`), the job
/// goes first that would be behind the others most, counting what this worker started since; in a job the lowest batch. Without
/// such news, or when they are older than kJobOrderAgeMax, leases start in the order (priority, pass, job, batch).
///
/// What runs cannot be interrupted, but executors that share processors (more slots than cores, several nodes on a machine) can
/// be given more or less of them while they compute: `executor_share` follows how far each job is before or behind the others, by
/// nice values and, where these are too slow, by stops of a moment (nodes/jobs/executor_throttle.h).
///
/// When an executor had to load a model again, memory is short: then a job whose model is loaded goes before one that lags
/// behind, unless that lags by more than reload_lag.
///
/// The shell obeys WorkerOutput (discard first) and reports back with the matching call; every report about a lease that is gone
/// is ignored. Each lease ends in exactly one of: its offer is answered, it is reported as failed (a trial run that passed, too),
/// it is forgotten (dropped). Its key is then in `discard`.
///
/// Leases outlive sessions: while nobody leads, and under the next coordinator, all of them go on. Whether a lease that arrives
/// comes from the right coordinator is for the caller to decide (nodes/core/node_agent.h, epochs).
///
/// Bounds: kLeasesHeldMax leases; inputs that are fetched but not running stay under the input cache limit, but for one batch a
/// slot; kPipelineMax batches in a slot.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"
#include "nodes/jobs/batch_work.h"
#include "nodes/jobs/executor_throttle.h"

namespace idunno {

inline constexpr std::size_t kLeasesHeldMax = 65536;
inline constexpr std::size_t kPipelineMax = 32;  ///< short batches handed to one slot at once
inline constexpr std::size_t kFetchesInFlightMax = 1024;
inline constexpr Duration kJobOrderAgeMax = std::chrono::seconds(2);
inline constexpr std::size_t kStartsPlannedMax = 16;  ///< JobOrder::next
/// Executors are this nice, between kExecutorNiceMin and -Max when their job lags behind or is ahead, one step for each
/// kNiceStep. A step is a factor of 1.25 of processor time (sched(7)); the node's own threads stay well above.
inline constexpr int kExecutorNice = 10;
inline constexpr int kExecutorNiceMin = 4;
inline constexpr int kExecutorNiceMax = 19;
inline constexpr Duration kNiceStep = std::chrono::milliseconds(20);
/// Far beyond what fetching a model and inputs or storing a result takes with all its own time limits: whoever needs longer has
/// lost the batch, and it is reported as failed so that another node gets it.
inline constexpr Duration kStageTimeMax = std::chrono::minutes(10);

/// A lease with an attempt from here on is not computed: the batch failed too often elsewhere, so the worker writes an error row
/// for each of its queries, without the engine, and commits that. The job goes on.
inline constexpr std::uint32_t kGiveUpAttempt = 1000;

struct WorkerOutput {
  std::vector<Lease> fetch;  ///< get the inputs; answer input_ready / input_failed
  struct Start {
    std::uint32_t slot;
    Lease lease;
  };
  std::vector<Start> start;  ///< hand to the slot's executor; answer finished / failed
  std::vector<LeaseKey>
      discard;  ///< forget fetched inputs and results of these: every lease that ended, and inputs that must make room
  std::vector<JobId> forget_jobs;     ///< no lease of these is left and none will come
  std::vector<BatchCommit> offer;     ///< send in CommitBatches; answer offered_answer
  std::vector<BatchFailed> failures;  ///< send; no answer needed
};

class WorkerQueue {
 public:
  /// `pipeline`: batches that take less than this on average are handed to an executor ahead of need (several per slot at once,
  /// together not longer than this), so that short batches do not wait for a round trip; longer ones one at a time, so that a new
  /// job waits for one batch at most. `slots` >= 1.
  WorkerQueue(std::uint32_t slots, std::uint64_t input_bytes_max, Duration pipeline = std::chrono::milliseconds(5),
              Duration reload_lag = std::chrono::milliseconds(300));

  /// Another coordinator, or the same anew: what is held goes on, but for `dropped`. Of those, what does not run is forgotten,
  /// and what runs becomes unwanted (an executor cannot be interrupted without costing its other work). Results that are stored
  /// are all offered again, dropped or not: only the answer to a commit tells the coordinator which block is surplus.
  void new_session(Epoch epoch, const std::vector<LeaseKey>& dropped, WorkerOutput& out);
  /// For the hello: the wanted leases, at most `max` of them. Those that run come first, then finished ones, then the waiting
  /// ones in the order of their start. Waiting ones beyond are forgotten, the least urgent first; finished ones beyond are not
  /// named, but offered all the same.
  [[nodiscard]] std::vector<HeldLease> held(WorkerOutput& out, std::size_t max = kLeasesInHelloMax);
  /// Also of leases that are held already: those are not started twice, and are wanted again.
  void granted(const LeaseGrant& grant, Time now, WorkerOutput& out);
  void dropped(const LeaseDrop& drop, WorkerOutput& out);
  /// How far the jobs are in the whole cluster: what starts next follows it for kJobOrderAgeMax.
  void ordered(const JobOrder& order, Time now);
  void input_ready(const LeaseKey& lease, std::uint64_t bytes, Time now, WorkerOutput& out);
  void input_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out);
  /// The executor began with it (told for the events and the time). `cpu_us`: its processor time until then, here and below; 0 =
  /// not known.
  void started(std::uint32_t slot, const LeaseKey& lease, Time now, WallMs wall, std::uint64_t cpu_us = 0);
  /// It had to load the model, and begins to compute only now.
  void loaded(std::uint32_t slot, const LeaseKey& lease, Time now, std::uint64_t cpu_us);
  /// The processor time of the slot's executor, now and then while it computes.
  void executor_time(std::uint32_t slot, std::uint64_t cpu_us, ProcessorLoad load, Time now);
  /// The executor has its rows. True: they are wanted, and the shell now writes the result block and answers stored /
  /// store_failed. False: the lease is gone, its job is over or it was a trial; nothing is to be written, no answer is waited
  /// for.
  /// `load_us`: of its time, loading the model.
  [[nodiscard]] bool finished(std::uint32_t slot, const LeaseKey& lease, std::uint32_t errors, std::uint64_t infer_us, Time now,
                              WorkerOutput& out, std::uint64_t load_us = 0, std::uint64_t cpu_us = 0);
  void failed(std::uint32_t slot, const LeaseKey& lease, BatchFailure why, const std::string& detail, Time now,
              WorkerOutput& out);
  void stored(const LeaseKey& lease, const BlockRef& block, NodeId self, Time now, WorkerOutput& out);
  void store_failed(const LeaseKey& lease, const std::string& why, WorkerOutput& out);
  /// The coordinator has logged (or does not want) these.
  void offered_answer(const std::vector<LeaseKey>& leases, WorkerOutput& out);
  /// Gives up what has been fetched or stored for longer than kStageTimeMax: no answer will come. To be called now and then.
  void tick(Time now, WorkerOutput& out);

  [[nodiscard]] std::uint32_t running() const { return running_; }  ///< handed to executors
  /// What executors compute now and is wanted, the longest first, at most one for each slot.
  [[nodiscard]] std::vector<RunningBatch> running_batches(Time now) const;
  /// What executors compute is worth a look at their processor time: a batch that takes a while, or is stopped.
  [[nodiscard]] bool computes_long() const;
  /// Executors get clearly less than a processor each, of late: how far its batch is must be told more often.
  [[nodiscard]] bool shares_processors() const;
  /// How nice the slot's executor is to be, and whether it is stopped for the moment.
  [[nodiscard]] ExecutorShare executor_share(std::uint32_t slot, Time now) const;
  [[nodiscard]] std::size_t size() const { return held_.size(); }  ///< leases held, whatever their stage
  [[nodiscard]] bool holds(const LeaseKey& lease) const { return held_.contains(lease); }
  [[nodiscard]] std::uint64_t input_bytes() const { return input_bytes_; }      ///< fetched and not handed to an executor
  [[nodiscard]] Epoch epoch() const { return epoch_; }                          ///< of the present session
  [[nodiscard]] std::uint32_t mean_batch_us() const { return mean_batch_us_; }  ///< of late (exponential average), 0 = none yet
  [[nodiscard]] const JobDescription* description(JobId job) const;

 private:
  enum class Stage : std::uint8_t { queued, fetching, ready, running, storing, offered };

  /// The order in which batches start.
  struct Rank {
    std::int64_t urgency = 0;  ///< priority with its sign turned: lower goes first
    std::uint64_t pass = 0;
    LeaseKey key;
    auto operator<=>(const Rank&) const = default;
  };
  static constexpr std::size_t kNeverLoaded = SIZE_MAX;
  struct Held {
    Lease lease;
    Stage stage = Stage::queued;
    bool unwanted = false;               ///< its job is over, or it was dropped: the result is not offered
    std::optional<std::uint64_t> bytes;  ///< of its inputs, once known
    std::uint64_t reserved_bytes = 0;    ///< counted for it while it is fetched
    std::uint32_t slot = 0;
    std::uint64_t expected_us = 0;            ///< what was counted for it in the slot
    std::size_t models_since = kNeverLoaded;  ///< at its start
    bool began = false;
    Time since{};       ///< when it came to the stage fetching or storing
    Time arrived{};     ///< when the lease came
    Time fetched{};     ///< when its inputs were there
    Time started_at{};  ///< until it began: when it was handed over
    WallMs started_ms = 0;
    std::uint32_t errors = 0;
    std::uint64_t infer_us = 0;
    BatchWork work;
    Time lead_from{};  ///< what `work` had then is in the lead that was told; or when it began
    std::uint64_t lead_from_cpu_us = 0;
    ExecutorThrottle throttle;
    bool loading = false;
    BatchCommit commit;  ///< when offered
    void lead_counts_from_here() {
      lead_from = work.sampled_at();
      lead_from_cpu_us = work.cpu_us();
    }
  };
  struct JobInfo {
    JobDescription description;
    std::string model;  ///< with its version
    bool urgent = false;
    std::uint64_t session = 0;  ///< in which the description came
    bool over = false;
    std::size_t leases = 0;
    std::size_t fetching = 0;      ///< of those
    std::uint64_t mean_bytes = 0;  ///< of a batch's inputs
    bool bytes_known = false;
    std::uint32_t mean_us = 0;  ///< of a batch, 0 = none yet
  };
  struct Slot {
    std::size_t batches = 0;
    std::uint64_t expected_us = 0;
    Time last_finished{};
    LeaseKey last;                    ///< that left it
    std::string model;                ///< of the last batch handed to it
    std::vector<std::string> models;  ///< that it has computed, the last one first
  };
  struct Standing {
    std::uint64_t pass = 0;  ///< as told, and what was started here since
    std::uint64_t per_query = 0;
    std::uint64_t told = 0;
    std::int32_t lead_ms = 0;
    std::uint32_t lead_per_cpu_milli = 0;
    std::uint32_t executors = 0;
  };
  struct RecentStart {
    Time at{};
    JobId job;
    std::uint32_t queries = 0;
  };
  struct Candidate {
    std::uint64_t standing = 0;
    const Lease* lease = nullptr;
    const JobInfo* job = nullptr;
  };
  using HeldMap = std::map<LeaseKey, Held>;

  [[nodiscard]] static LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }
  /// Of a lease that is held: its job is known.
  [[nodiscard]] Rank rank_of(const Lease& lease) const {
    return {jobs_.at(lease.job).urgent ? INT64_MIN : -std::int64_t{lease.priority}, lease.pass, key_of(lease)};
  }
  [[nodiscard]] Held* find(const LeaseKey& key, Stage stage);
  [[nodiscard]] static std::uint64_t duration_us(Duration duration) {
    return duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
  }
  static void fail(const Lease& lease, BatchFailure why, const std::string& detail, WorkerOutput& out);

  void add(const Lease& lease, WorkerOutput& out);
  void give_again(Held& held, const Lease& lease);
  [[nodiscard]] std::set<Rank>* waiting_set(Stage stage);
  void add_ready(const Lease& lease);
  void remove_ready(const Lease& lease);
  void forget_stale_jobs(WorkerOutput& out);
  void leave_stage(Held& held);
  HeldMap::iterator end(HeldMap::iterator at, WorkerOutput& out);
  void forget_job(JobId job, WorkerOutput& out);
  void measured(Held& held, Time now);

  void go_on(WorkerOutput& out);
  void start_ready(WorkerOutput& out);
  [[nodiscard]] std::optional<std::pair<std::uint32_t, Rank>> choose_start() const;
  [[nodiscard]] std::optional<std::pair<std::uint32_t, Rank>> choose_by_order() const;
  [[nodiscard]] std::optional<std::pair<std::uint32_t, Rank>> choose_loaded(const std::vector<Candidate>& candidates,
                                                                            std::uint64_t lowest, std::size_t batches) const;
  [[nodiscard]] std::optional<std::pair<std::uint32_t, Rank>> choose_by_rank() const;
  [[nodiscard]] static std::int64_t lead_us_of(const Standing& standing, const Held& held);
  [[nodiscard]] static std::int64_t gained_us(const Standing& standing, std::uint64_t cpu_us, Duration passed);
  [[nodiscard]] std::vector<PlannedStart>::const_iterator planned_for(const Slot& slot) const;
  [[nodiscard]] std::optional<std::pair<std::uint32_t, JobId>> planned_start() const;
  [[nodiscard]] std::optional<std::uint32_t> emptiest_slot(const JobInfo& job) const;
  [[nodiscard]] bool has_room(const Slot& slot, const JobInfo& job) const;
  [[nodiscard]] bool has_order() const;
  [[nodiscard]] std::uint64_t standing(const Lease& lease) const;
  void measure_pass_rate(const JobOrder& order);
  void note_start(const Slot& slot, const Lease& lease);
  [[nodiscard]] static std::size_t models_since(const Slot& slot, const std::string& model);
  [[nodiscard]] bool is_loaded(const Slot& slot, const std::string& model) const;
  static void note_model(Slot& slot, const std::string& model);
  void learn_models_fit(std::size_t since, bool loaded_again);
  void fetch_more(WorkerOutput& out);
  [[nodiscard]] bool is_next_up(const Rank& rank) const;
  [[nodiscard]] std::uint64_t expected_bytes(const Held& held) const;
  void make_room(const Rank& urgent, std::uint64_t bytes, std::set<Rank>& evicted, WorkerOutput& out);

  std::uint64_t input_bytes_max_;
  std::uint64_t pipeline_us_;
  Epoch epoch_;
  std::uint64_t session_ = 0;
  Time now_{};  ///< the latest that was told
  HeldMap held_;
  std::map<JobId, JobInfo> jobs_;
  std::set<Rank> queued_;  ///< these three hold the leases that do not run yet
  std::set<Rank> fetching_;
  std::set<Rank> ready_;
  std::map<JobId, std::set<std::pair<std::int64_t, LeaseKey>>> ready_of_;  ///< the same by job, by urgency and batch; none empty
  std::set<LeaseKey> computing_;                                           ///< running, and its executor has begun
  std::vector<Slot> slots_;
  std::uint64_t input_bytes_ = 0;
  std::uint64_t fetching_bytes_ = 0;  ///< expected to arrive
  std::uint32_t running_ = 0;
  std::vector<PlannedStart> next_;  ///< what the coordinator plans for this node
  std::uint32_t mean_batch_us_ = 0;
  std::map<JobId, Standing> order_;  ///< as the coordinator told it last
  Time ordered_at_{};
  std::optional<Time> shared_at_;  ///< when an executor was last seen with clearly less than a processor
  std::deque<RecentStart> recent_starts_;
  std::int64_t pass_per_s_ = 0;            ///< of the jobs in the order, on average
  std::size_t models_fit_ = kNeverLoaded;  ///< an executor keeps so many models; kNeverLoaded: all, as far as is known
  std::int64_t reload_lag_ms_;
};

}  // namespace idunno

#pragma once
/// Who computes which batch. Knows the jobs (which batches are to do, out, or done), the nodes and their credit, and hands out
/// leases one decision at a time; which job is next is the policy's choice (stride_order.h). Pure, integers only, ordered
/// containers only; a decision costs O(log jobs + log nodes), it never looks at all of either.
///
/// Credit. A node holds fewer than clamp(slots * (1 + ceil(lease_horizon / mean batch time)), 2 * slots, 1024 * slots) leases, so
/// that it stays busy through a failover: two a slot of long batches, hundreds of short ones. Beyond that, the job that is next
/// of all may have up to `slots` leases on each node, so that a new job starts at the next batch border although the queues are
/// full (the worker starts batches in order of their pass), and kRedoLeasesPerSlot batches to redo whatever else it holds, so
/// that what a dead node held is out again at once. A node holds therefore never more than credit + (jobs + kRedoLeasesPerSlot) *
/// slots leases.
///
/// Choice. Where batches are long (kChoiceBatchMin) and several jobs compete, each of the first kChoiceJobsMax of them keeps
/// batches waiting at each node beyond its credit, so that the node can start, the moment a slot is free, what lags behind in the
/// whole cluster just then. How far the jobs are, batches in work included, is told to the nodes again and again (`order_due`).
///
/// Node limits. A job with nodes_max holds leases on at most so many nodes at a time. For one with nodes_min so many nodes are
/// kept while it has work: they get no new leases of others.
///
/// Batches that were lost or failed go out again before new ones, lowest index first, on a node where they have not failed yet.
/// One that ended its executor attempts_max times is isolated (isolation.h): trial leases look for the query that does it.
///
/// A batch is out at one node, or at two: a straggler is leased a second time (hedged), and the first commit frees both.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/random.h"
#include "bus/base/time.h"
#include "bus/messages.h"
#include "bus/schedule_policy.h"
#include "bus/types.h"
#include "nodes/jobs/batch_layout.h"
#include "nodes/jobs/isolation.h"
#include "nodes/jobs/stride_order.h"

namespace idunno {

inline constexpr std::uint32_t kCreditPerSlotMax = 1024;
inline constexpr std::uint32_t kCreditPerSlotMin = 2;
inline constexpr std::size_t kTurnsLook = 16;           ///< jobs at the head of the order among which a node takes turns
inline constexpr std::size_t kRedoLook = 8;             ///< batches to redo that are looked at for one that may go to a free node
inline constexpr std::uint32_t kRedoLeasesPerSlot = 4;  ///< for batches to redo, beyond a node's credit and choice
inline constexpr std::uint32_t kInputRoundsMax =
    3;  ///< so often each node must have missed a batch's input before it is given up,
inline constexpr Duration kInputPatience = std::chrono::minutes(5);         ///< and for so long: its holders may come back
inline constexpr Duration kInputWaitMin = std::chrono::milliseconds(100);   ///< between rounds over all nodes; doubles,
inline constexpr Duration kInputWaitMax = std::chrono::milliseconds(5000);  ///< up to this
inline constexpr std::uint64_t kBatchesPerHedge =
    50;  ///< a job gets one second lease for so many committed batches (2 %), and one
inline constexpr Duration kChoiceBatchMin = std::chrono::milliseconds(20);
inline constexpr std::size_t kChoiceJobsMax = 16;
inline constexpr Duration kChoiceTime = std::chrono::milliseconds(1000);  ///< of each job, about, waits at a node
inline constexpr std::uint32_t kChoiceBatchesMax = 8;                     ///< a slot and job
/// JobOrder: at once when something changed, but not more often than this ...
inline constexpr Duration kOrderIntervalMin = std::chrono::milliseconds(50);
inline constexpr std::size_t kOrderNodesPerInterval = 50;  ///< ... for so many nodes; in proportion for more
inline constexpr std::size_t kOrderNodesMax = 256;         ///< with more nodes there are no orders
/// Without orders leases start one after the other: the more wait at a node, the less evenly a job's batches start.
inline constexpr Duration kUnorderedHorizonMax = std::chrono::milliseconds(500);
inline constexpr Duration kOrderIntervalMax = std::chrono::milliseconds(500);
/// What is in work counts as far as it will be computed so long from now: a job that has much in work is about to go ahead.
inline constexpr Duration kLookAhead = std::chrono::milliseconds(2500);
/// A job that was ahead of the others, or behind, makes up for so many batches on each slot of its share, not for more.
inline constexpr double kDebtRounds = 2;
inline constexpr std::size_t kIsolationNotesMax = 1024;  ///< kept for take_notes; more are dropped

struct SchedulerConfig {
  Duration lease_horizon = std::chrono::milliseconds(1000);
  std::uint32_t attempts_max = 3;  ///< deaths of an executor on one batch before it is isolated
  SchedulePolicy policy = SchedulePolicy::fair_rate;
  Duration split_period = std::chrono::seconds(30);  ///< of static_split
  std::uint64_t seed = 1;                            ///< of the policy random
};

struct SchedulerJob {
  JobId id;
  std::uint64_t queries = 0;
  std::uint32_t batch = 1;
  std::uint32_t repeat = 1;          ///< 0 = without end: then `committed` of add_job is as long as the window of batches
  std::uint64_t first_batch = 0;     ///< of `committed`; those before are done
  std::vector<JobSegment> segments;  ///< of a following job
  std::uint32_t weight_milli = 1000;
  std::uint32_t rate_limit_milli = 0;
  std::int32_t priority = 0;
  std::uint32_t nodes_min = 0;
  std::uint32_t nodes_max = 0;
  bool urgent = false;  ///< before all others, whatever the priority
  std::string model;    ///< name and version: leases of the same model are cheap one after the other
};

struct Assignment {
  NodeId node;
  Lease lease;
};

/// Why a lease came to nothing.
enum class LeaseLoss : std::uint8_t {
  node_lost,      ///< the node died or its session is over
  executor_died,  ///< counts towards attempts_max
  input_missing,  ///< tried on all nodes, then again and again (kInputWaitMin), given up after kInputPatience
  not_stored,     ///< try again, elsewhere
  returned,       ///< given back untouched: not a retry
  trial_passed,   ///< a trial of a batch that is isolated did not end its executor
};

/// What became of a batch that is isolated, for people.
struct IsolationNote {
  enum class Kind : std::uint8_t { isolated, quarantined, given_up };
  Kind kind = Kind::isolated;
  JobId job;
  BatchIndex batch = 0;
  std::uint64_t query = 0;  ///< index in the job, of a quarantined one
};

class Scheduler {
 public:
  explicit Scheduler(SchedulerConfig config);
  ~Scheduler();

  // -- jobs --

  /// `committed`: the batches from spec.first_batch on that are done already; all later calls about the job name it by id.
  void add_job(const SchedulerJob& job, std::vector<bool> committed, bool enabled, Time now);
  /// Its leases are forgotten and their credit is free again. Unknown jobs are ignored, here and below.
  void remove_job(JobId job);
  /// Batches before `first` are done and forgotten, those up to `end` (exclusive) may be leased: of a job without end.
  void set_window(JobId job, std::uint64_t first, std::uint64_t end);
  /// More queries came to a following job.
  void add_segment(JobId job, const JobSegment& segment);
  void set_enabled(JobId job, bool enabled);  ///< false = paused: no new leases
  void change_job(JobId job, std::uint32_t weight_milli, std::uint32_t rate_limit_milli, std::int32_t priority, Time now);
  /// At least and at most so many nodes; 0 = no bound.
  void set_nodes(JobId job, std::uint32_t nodes_min, std::uint32_t nodes_max);

  // -- nodes --

  /// A node that is there already keeps its leases (`reconcile` says which of them are gone) and is open again.
  void add_node(NodeId node, std::uint32_t slots);
  /// All its leases are lost. Returns how many there were.
  std::size_t remove_node(NodeId node);
  void set_open(NodeId node, bool open);                ///< false: keeps its leases but gets no new ones (suspect)
  void batch_time(NodeId node, std::uint32_t mean_us);  ///< as the node measures it; 0 = not known

  /// What the node's executors compute now.
  void progress(NodeId node, const std::vector<RunningBatch>& running, Time now);

  // -- a node says what it holds --

  /// True: the lease is kept, and counts as given to that node from now on; later leases of the batch have other attempt numbers,
  /// higher ones. False: the batch is committed, out at another node or under another key, or being isolated; the job is unknown,
  /// over or paused (a paused one keeps what runs); the node is unknown.
  [[nodiscard]] bool adopt(NodeId node, const LeaseKey& lease, HeldStage stage, Time now);
  /// Leases that are out at that node and not in `held` are to be given again: no failure of anybody. Returns how many.
  std::size_t reconcile(NodeId node, const std::set<LeaseKey>& held);
  /// All nodes have said what they hold. Batches below others that are out or done were leased before those: whoever held them is
  /// gone (the old coordinator computed, too), so they are to be given again at once. Returns how many.
  std::size_t redo_gaps();

  // -- leases --

  /// The batch is done, by whomever. Returns false when it was already.
  bool committed(const BatchCommit& commit);
  /// Returns false (and does nothing) when that lease is not out.
  bool lost(JobId job, BatchIndex batch, std::uint32_t attempt, NodeId node, LeaseLoss why);
  /// The next lease to give, or none for now.
  [[nodiscard]] std::optional<Assignment> next(Time now);
  /// Leases of jobs that are not paused, on open nodes, of which nothing was heard for `age`: at most `max`, each once an `age`.
  /// Looks at all leases that are out.
  [[nodiscard]] std::vector<Assignment> unanswered(Time now, Duration age, std::size_t max);
  /// A second lease of a batch that `node` has been computing for too long (straggler_limit_us), at another open node with free
  /// credit, or none: it has one already, had a death, or the budget (kBatchesPerHedge) is used up.
  [[nodiscard]] std::optional<Assignment> hedge(NodeId node, const LeaseKey& lease, Time now);
  /// What the nodes should be told now of how far the jobs are, the one furthest behind first: when several jobs compete with
  /// long batches, and there is news, or the last time is long ago. Each node is told how far they will be when it has a free
  /// slot, so that two that become free together do not choose the same.
  [[nodiscard]] std::vector<std::pair<NodeId, JobOrder>> order_due(Time now);
  /// Leases of a job that its nodes have not begun, as they are to be given now: its priority has changed.
  [[nodiscard]] std::vector<Assignment> unstarted(JobId job, std::size_t max);
  /// What happened to isolated batches since the last call.
  [[nodiscard]] std::vector<IsolationNote> take_notes();
  /// When a rate limit lets the next job go on or an order is due; kNever when there is neither.
  [[nodiscard]] Time order_at() const { return order_at_; }  ///< of order_due alone
  [[nodiscard]] Time wake_at() const;

  // -- for reports --

  [[nodiscard]] std::uint32_t leased_of(JobId job) const;
  [[nodiscard]] std::uint32_t leased_at(NodeId node) const;
  [[nodiscard]] std::uint32_t leased_at(NodeId node, JobId job) const;
  [[nodiscard]] std::uint32_t credit_of(NodeId node) const;
  [[nodiscard]] std::vector<NodeId> nodes_of(JobId job) const;
  [[nodiscard]] std::uint64_t retried(JobId job) const;
  [[nodiscard]] std::uint64_t hedged(JobId job) const;
  /// Enabled, has batches to lease, and neither its rate limit nor bounds of its nodes decide for it: it competes for its share.
  [[nodiscard]] bool competes(JobId job) const;
  [[nodiscard]] bool rate_limited(JobId job) const;              ///< held back by its rate limit just now
  [[nodiscard]] std::uint32_t nodes_kept_from(JobId job) const;  ///< that are kept for jobs with a nodes_min

 private:
  struct Trouble;
  struct JobEntry;
  struct NodeEntry;
  struct FreeKey {
    std::int64_t free_down;  ///< negated free leases per thousand slots: the emptiest node sorts first
    std::uint64_t turn;      ///< of its last lease: ties rotate
    NodeId node;
    auto operator<=>(const FreeKey&) const = default;
  };
  /// A lease that its node has begun. How far it is is known from the processor time that its executor has had, where the node
  /// tells it and earlier batches told how much a batch takes; else from the time that has passed.
  struct Run {
    Time since{};
    std::uint32_t expected_us = 0;      ///< 0 = not known
    std::uint64_t expected_cpu_us = 0;  ///< 0 = not known
    std::uint64_t cpu_us = 0;           ///< as last told
    Time told{};                        ///< when that was
    std::uint32_t told_elapsed_ms = 0;  ///< by the node's own clock, since its start
    std::uint32_t pace_milli = 0;       ///< processor time a time, of late; 0 = not known
    bool second = false;                ///< of a batch that is computed elsewhere, too: counts only once it is a result
    bool loading = false;               ///< the model, before it computes
    bool ended = false;                 ///< computed, not committed yet
    [[nodiscard]] bool by_processor() const { return expected_cpu_us != 0 && pace_milli != 0; }
    [[nodiscard]] std::uint64_t done_milli(Time at) const;
    [[nodiscard]] double done(Time at) const;  ///< the same as a part of 1
    [[nodiscard]] double part_per_us() const;  ///< how fast it goes on
    [[nodiscard]] double left_us(Time at) const { return std::max(0.0, (1 - done(at)) / part_per_us()); }
  };
  class Plan;
  struct Choice {
    BatchIndex batch = 0;
    NodeId node;
    bool redo = false;
  };

  JobEntry* find(JobId job);
  [[nodiscard]] const JobEntry* find(JobId job) const;
  void refresh_runnable(JobEntry& job, bool arrives);
  void refill(JobEntry& job, Time now);
  [[nodiscard]] bool held_back(JobEntry& job, Time now);
  void release_limited(Time now);
  void refresh_free(NodeEntry& node);
  void set_batch_time(NodeEntry& node, std::uint32_t mean_us);
  std::size_t lose_at(NodeId node, const std::set<LeaseKey>* held);
  [[nodiscard]] static std::uint32_t held_at(const JobEntry& job, const NodeEntry& node);
  void may_miss_choice(NodeId node);
  void take_from_node(JobEntry& job, NodeEntry& node);
  void give_back_to_node(JobEntry& job, NodeId node_id, bool redo);
  void lose(JobEntry& job, BatchIndex batch, NodeId node, LeaseLoss why);
  void to_redo(JobEntry& job, BatchIndex batch);
  void wait_for_input(JobEntry& job, BatchIndex batch, Trouble& trouble);
  void release_waiting(Time now);
  void count_failure(JobEntry& job, BatchIndex batch, Trouble& trouble, NodeId node, LeaseLoss why);
  void isolate(JobEntry& job, BatchIndex batch, Trouble& trouble, LeaseLoss why);
  void note(IsolationNote::Kind kind, const JobEntry& job, BatchIndex batch, std::uint32_t place = 0);
  [[nodiscard]] bool gives_up(const Trouble& trouble) const;
  std::uint64_t charge_node(JobEntry& job, NodeEntry& node, std::uint32_t queries);
  void end_run(JobEntry& job, NodeEntry& node, const LeaseKey& lease);
  void refresh_room(JobEntry& job, const NodeEntry& node);
  [[nodiscard]] std::uint32_t waiting_wanted(const JobEntry& job, const NodeEntry& node) const;
  bool note_took(JobEntry& job, const BatchCommit& commit);
  bool expect_more(const JobEntry& job);
  static void note_pace(Run& run, const RunningBatch& told, Time now);
  void news(Time now);
  [[nodiscard]] std::map<JobId, std::uint64_t> levels_now(Time now) const;
  void move_level(JobId job, std::uint64_t& level, std::int64_t passes);
  void level_new_jobs(std::map<JobId, std::uint64_t>& levels);
  void bound_debts(std::map<JobId, std::uint64_t>& levels);
  [[nodiscard]] std::vector<std::pair<NodeId, JobOrder>> make_plan(const std::map<JobId, std::uint64_t>& levels, Time now);
  [[nodiscard]] bool order_matters() const;
  [[nodiscard]] Duration order_interval() const;
  void reserve_nodes();
  void split_nodes(Time now);
  [[nodiscard]] bool may_use(const JobEntry& job, const NodeEntry& node) const;
  [[nodiscard]] std::optional<Assignment> give_choice(Time now);
  [[nodiscard]] bool may_overdraw(const JobEntry& job) const;
  [[nodiscard]] std::optional<Assignment> next_fair(Time now);
  [[nodiscard]] std::optional<Assignment> next_by_policy(Time now);
  [[nodiscard]] bool allowed(const JobEntry& job, BatchIndex batch, NodeId node) const;
  [[nodiscard]] std::optional<NodeId> free_node(const JobEntry& job, const BatchIndex* batch) const;
  [[nodiscard]] std::optional<Assignment> redo_beyond_credit(Time now);
  [[nodiscard]] std::optional<NodeId> overdraft_node(const JobEntry& job, const BatchIndex* batch, Time now) const;
  [[nodiscard]] std::optional<Choice> choose_batch(const JobEntry& job, bool overdraft, Time now) const;
  [[nodiscard]] JobEntry* take_turns(JobEntry& first, NodeId node);
  [[nodiscard]] static std::uint64_t local_pass(const JobEntry& job, const NodeEntry& node);
  Assignment lease(JobEntry& job, const Choice& choice, Time now);

  SchedulerConfig config_;
  StrideOrder order_;
  std::map<JobId, std::unique_ptr<JobEntry>> jobs_;
  std::map<NodeId, std::unique_ptr<NodeEntry>> nodes_;
  std::set<std::size_t> indices_;  ///< of NodeEntry::index: those below indices_end_ that no node has
  std::size_t indices_end_ = 0;
  std::set<FreeKey> free_;                    ///< nodes with credit left
  std::set<FreeKey> spare_;                   ///< nodes that take batches to redo
  std::set<JobId> redoing_;                   ///< jobs that may run and have batches to redo
  std::set<std::pair<Time, JobId>> waiting_;  ///< jobs with batches that wait for their input, and until when
  Time now_{};                                ///< the latest that `next` was told
  std::set<std::pair<Time, JobId>> limited_;  ///< jobs that their rate limit holds back, and until when
  std::vector<IsolationNote> notes_;
  std::uint64_t turn_ = 0;
  std::set<NodeId> choice_;  ///< while ordering_: nodes at which jobs may miss waiting batches
  bool bounded_ = false;     ///< may_use may say no
  bool reserve_again_ = false;
  bool news_ = false;      ///< not seen by `news` yet
  bool ordering_ = false;  ///< order_matters at the last look
  Time ordered_at_{};
  Time order_at_ = kNever;
  std::set<JobId> split_between_;  ///< static_split: the jobs that the nodes are divided between
  Time split_at_{};                ///< static_split: when a node moves
  Random random_;
};

}  // namespace idunno

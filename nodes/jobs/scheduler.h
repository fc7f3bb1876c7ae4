#pragma once
/// Who computes which batch. Knows the jobs (which batches are to do, out, or done), the nodes and their credit, and hands out
/// leases one decision at a time; which job is next is the policy's choice (stride_order.h). Pure, integers only, ordered
/// containers only; a decision costs O(log jobs + log nodes), it never looks at all of either.
///
/// Credit. A node holds fewer than clamp(slots * (1 + ceil(lease_horizon / mean batch time)), 2 * slots, 1024 * slots) leases, so
/// that it stays busy through a failover: two a slot of long batches, hundreds of short ones. Beyond that, the job that is next
/// of all may have up to `slots` leases on each node, so that a new job starts at the next batch border although the queues are
/// full (the worker starts batches in order of their pass), and batches to redo may have kRedoLeasesPerSlot more, so that what a
/// dead node held is out again at once. A node holds therefore never more than credit + (jobs + 1) * slots leases.
///
/// Batches that were lost or failed go out again before new ones, lowest index first, on a node where they have not failed yet.
/// One that ended its executor attempts_max times is isolated (isolation.h): trial leases look for the query that does it.
///
/// A batch is out at one node, or at two: a straggler is leased a second time (hedged), and the first commit frees both.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/time.h"
#include "bus/types.h"
#include "nodes/jobs/isolation.h"
#include "nodes/jobs/stride_order.h"

namespace idunno {

inline constexpr std::uint32_t kCreditPerSlotMax = 1024;
inline constexpr std::uint32_t kCreditPerSlotMin = 2;
inline constexpr std::size_t kTurnsLook = 16;        ///< jobs at the head of the order among which a node takes turns
inline constexpr std::size_t kRedoLook = 8;          ///< batches to redo that are looked at for one that may go to a free node
inline constexpr std::uint32_t kRedoLeasesPerSlot = 1;  ///< beyond a node's credit, for batches to redo
inline constexpr std::uint32_t kInputRoundsMax = 3;  ///< so often each node may miss a batch's input before it is given up
inline constexpr std::uint64_t kBatchesPerHedge =
    50;  ///< a job gets one second lease for so many committed batches (2 %), and one
inline constexpr std::size_t kIsolationNotesMax = 1024;  ///< kept for take_notes; more are dropped

struct SchedulerConfig {
  Duration lease_horizon = std::chrono::milliseconds(1000);
  std::uint32_t attempts_max = 3;  ///< deaths of an executor on one batch before it is isolated
};

struct SchedulerJob {
  JobId id;
  std::uint64_t queries = 0;
  std::uint32_t batch = 1;
  std::uint32_t weight_milli = 1000;
  std::uint32_t rate_limit_milli = 0;
  std::int32_t priority = 0;
  std::string model;  ///< name and version: leases of the same model are cheap one after the other
};

struct Assignment {
  NodeId node;
  Lease lease;
};

/// Why a lease came to nothing.
enum class LeaseLoss : std::uint8_t {
  node_lost,      ///< the node died or its session is over
  executor_died,  ///< counts towards attempts_max
  input_missing,  ///< counts towards kInputRoundsMax * nodes
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

  /// `committed`: the batches that are done already; all later calls about the job name it by id.
  void add_job(const SchedulerJob& job, std::vector<bool> committed, bool enabled, Time now);
  /// Its leases are forgotten and their credit is free again. Unknown jobs are ignored, here and below.
  void remove_job(JobId job);
  void set_enabled(JobId job, bool enabled);  ///< false = paused: no new leases
  void change_job(JobId job, std::uint32_t weight_milli, std::uint32_t rate_limit_milli, std::int32_t priority, Time now);

  // -- nodes --

  /// A node that is there already keeps its leases (`reconcile` says which of them are gone) and is open again.
  void add_node(NodeId node, std::uint32_t slots);
  /// All its leases are lost. Returns how many there were.
  std::size_t remove_node(NodeId node);
  void set_open(NodeId node, bool open);                ///< false: keeps its leases but gets no new ones (suspect)
  void batch_time(NodeId node, std::uint32_t mean_us);  ///< as the node measures it; 0 = not known

  // -- a node says what it holds --

  /// True: the lease is kept, and counts as given to that node from now on; later leases of the batch have other attempt numbers,
  /// higher ones. False: the batch is committed, out at another node or under another key, or being isolated; the job is unknown,
  /// over or paused (a paused one keeps what runs); the node is unknown.
  [[nodiscard]] bool adopt(NodeId node, const LeaseKey& lease, HeldStage stage, Time now);
  /// Leases that are out at that node and not in `held` are to be given again: no failure of anybody. Returns how many.
  std::size_t reconcile(NodeId node, const std::set<LeaseKey>& held);

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
  /// What happened to isolated batches since the last call.
  [[nodiscard]] std::vector<IsolationNote> take_notes();
  /// When a rate limit lets the next job go on; kNever when none waits.
  [[nodiscard]] Time wake_at() const;

  // -- for reports --

  [[nodiscard]] std::uint32_t leased_of(JobId job) const;
  [[nodiscard]] std::uint32_t leased_at(NodeId node) const;
  [[nodiscard]] std::uint32_t leased_at(NodeId node, JobId job) const;
  [[nodiscard]] std::uint32_t credit_of(NodeId node) const;
  [[nodiscard]] std::vector<NodeId> nodes_of(JobId job) const;
  [[nodiscard]] std::uint64_t retried(JobId job) const;
  [[nodiscard]] std::uint64_t hedged(JobId job) const;
  /// Enabled, has batches to lease, and its rate limit does not hold it back: it competes for its share.
  [[nodiscard]] bool competes(JobId job) const;

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
  struct Choice {
    BatchIndex batch = 0;
    NodeId node;
    bool redo = false;
  };

  JobEntry* find(JobId job);
  [[nodiscard]] const JobEntry* find(JobId job) const;
  void refresh_runnable(JobEntry& job, bool arrives);
  void refill(JobEntry& job, Time now);
  void release_limited(Time now);
  void refresh_free(NodeEntry& node);
  void set_batch_time(NodeEntry& node, std::uint32_t mean_us);
  std::size_t lose_at(NodeId node, const std::set<LeaseKey>* held);
  void take_from_node(JobEntry& job, NodeEntry& node);
  void give_back_to_node(JobEntry& job, NodeId node_id);
  void lose(JobEntry& job, BatchIndex batch, NodeId node, LeaseLoss why);
  void to_redo(JobEntry& job, BatchIndex batch);
  void count_failure(JobEntry& job, BatchIndex batch, Trouble& trouble, NodeId node, LeaseLoss why);
  void isolate(JobEntry& job, BatchIndex batch, Trouble& trouble, LeaseLoss why);
  void note(IsolationNote::Kind kind, const JobEntry& job, BatchIndex batch, std::uint32_t place = 0);
  [[nodiscard]] bool gives_up(const Trouble& trouble) const;
  std::uint64_t charge_node(JobEntry& job, NodeEntry& node, std::uint32_t queries);
  [[nodiscard]] bool allowed(const JobEntry& job, BatchIndex batch, NodeId node) const;
  [[nodiscard]] std::optional<NodeId> free_node(const JobEntry& job, const BatchIndex* batch) const;
  [[nodiscard]] std::optional<Assignment> redo_beyond_credit(Time now);
  [[nodiscard]] std::optional<NodeId> overdraft_node(const JobEntry& job, const BatchIndex* batch) const;
  [[nodiscard]] std::optional<Choice> choose_batch(const JobEntry& job, bool overdraft) const;
  [[nodiscard]] JobEntry* take_turns(JobEntry& first, NodeId node);
  [[nodiscard]] static std::uint64_t local_pass(const JobEntry& job, const NodeEntry& node);
  Assignment lease(JobEntry& job, const Choice& choice, Time now);

  SchedulerConfig config_;
  StrideOrder order_;
  std::map<JobId, std::unique_ptr<JobEntry>> jobs_;
  std::map<NodeId, std::unique_ptr<NodeEntry>> nodes_;
  std::set<FreeKey> free_;                    ///< nodes with credit left
  std::set<FreeKey> spare_;                   ///< nodes that take batches to redo
  std::set<JobId> redoing_;                   ///< jobs that may run and have batches to redo
  std::set<std::pair<Time, JobId>> limited_;  ///< jobs that their rate limit holds back, and until when
  std::vector<IsolationNote> notes_;
  std::uint64_t turn_ = 0;
};

}  // namespace idunno

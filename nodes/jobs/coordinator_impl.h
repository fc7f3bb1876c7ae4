#pragma once
/// Private to coordinator*.cc: what the coordinator remembers besides the replicated state. All of it can be lost with the
/// process: the next coordinator learns it anew from the nodes.
///
/// Files: coordinator.cc (life, log entries, time), _requests (clients), _reports (what people see), _nodes (sessions and who is
/// alive), _leases (grants, commits, failures), _isolation (stragglers, poison queries), _repair (copies of blocks), _phases
/// (phases, jobs that grow).

#include <deque>
#include <optional>

#include "nodes/jobs/batch_lives.h"
#include "nodes/jobs/coordinator.h"
#include "nodes/jobs/rate_window.h"
#include "nodes/jobs/repair.h"
#include "nodes/jobs/scheduler.h"
#include "nodes/jobs/state_reads.h"

namespace idunno {

inline constexpr std::size_t kPendingRequestsMax = 4096;
inline constexpr std::size_t kJoinedTicketsMax = 16;  ///< askers of one request that wait for the same answer
inline constexpr std::size_t kAlarmsMax = 32;
inline constexpr std::size_t kDecisionsPerCallMax = 8192;  ///< leases given in one call; the rest at the next
/// A lease of which nothing was heard for so long is told to its node once more: the grant or the answer may have been lost. A
/// node that has it goes on as before, one that has not takes it.
inline constexpr Duration kLeaseReminder = std::chrono::seconds(30);
inline constexpr Duration kReminderRound = std::chrono::seconds(5);  ///< so often all leases that are out are looked at
inline constexpr std::size_t kGrantBytesMax =
    900U << 10U;                                   ///< of one LeaseGrant, below kControlMessageBytesMax with room for the header
inline constexpr std::size_t kLeaseBytesMax = 64;  ///< encoded, at most
inline constexpr std::size_t kMissingPerNodeMax = 65536;  ///< blocks that one inventory missed
inline constexpr std::uint32_t kSlotsMax = 1024;          ///< of one node

struct Coordinator::Impl {
  struct NodeEntry {
    CoordinatorConfig::Member member;
    NodeState state = NodeState::unknown;  ///< what membership says, or alive from a hello on
    bool session = false;                  ///< said hello to this coordinator; gets pushes
    bool schedulable = false;              ///< the scheduler has it: it may hold leases, also for a while after its session
    Incarnation incarnation;
    WallMs since_ms = 0;
    bool joined = false;           ///< told in an event, or there under the last coordinator
    Time heard{};                  ///< last hello or heartbeat
    Time expected_until = kNever;  ///< of an unknown one that was there under the last coordinator
    NodeHello hello;
    Heartbeat heartbeat;             ///< the last one; zeros before
    std::uint32_t weight = 1;        ///< for placement
    std::set<JobId> described;       ///< jobs whose description it has
    std::set<JobId> describe_again;  ///< with the next lease: it may not have the description, or could not use its blocks
    std::uint64_t placement_sent = 0;
    std::set<BlockId> missing;             ///< that it did not list when it should have; once more and they are forgotten
    std::optional<NodeHello> registering;  ///< its RegisterNode is in the log's queue
    std::vector<Ticket> registering_tickets;
  };
  struct JobEntry {
    RateWindow rates;
    JobState state = JobState::running;  ///< as last told in an event
    std::int32_t priority = 0;           ///< as its leases have it
    bool failing = false;                ///< FailJob is proposed
    std::uint64_t retried = 0;           ///< kept after the end
    std::uint64_t hedged = 0;            ///< likewise
    std::int64_t ended_second = -1;
  };
  struct Grant {
    LeaseGrant message;
    std::size_t bytes = 0;
  };
  using Grants = std::map<NodeId, Grant>;
  using Descriptions = std::map<JobId, Result<JobDescription>>;

  Impl(CoordinatorConfig c, ClusterState s, Random r);

  // coordinator.cc
  void begin(Epoch begun, Time now, WallMs wall, CoordinatorOutput& out);
  void apply(const LogEntry& entry, Time now, WallMs wall, CoordinatorOutput& out);
  void jobs_moved(const Applied& applied, Time now, CoordinatorOutput& out);
  // coordinator_phases.cc
  /// Jobs of another kind give their leases back and wait; those of this kind go on.
  void phase_changed(CoordinatorOutput& out);
  /// More queries came to a following job: workers get another description before its next lease.
  void job_extended(JobId id, CoordinatorOutput& out);
  /// Which following jobs are concerned by an entry.
  void follow(const CommandEnvelope& command, const Applied& applied, CoordinatorOutput& out);
  void compare_folder(const Job& job, CoordinatorOutput& out) const;
  void files_landed(const CommitFiles& command, CoordinatorOutput& out) const;
  /// Those that are not done.
  [[nodiscard]] Status describe_segments(const Job& job, JobDescription& description) const;
  void tick(Time now, WallMs wall, CoordinatorOutput& out);
  [[nodiscard]] Time wake_at() const;
  void judge_fairness(Time now);
  void tell_order(Time now, CoordinatorOutput& out);
  void set_wall(Time now, WallMs wall);
  [[nodiscard]] WallMs wall_at(Time now) const;
  template <class Command>
  void propose(const Command& command, Time now, CoordinatorOutput& out) {
    out.propose.push_back(encode_command(wall_at(now), RequestId{}, command));
  }
  void event(CoordinatorOutput& out, const char* type, JobId job, std::int64_t batch, std::string text) const;
  void alarm(CoordinatorOutput& out, JobId job, std::int64_t batch, const std::string& text);

  // coordinator_requests.cc
  /// True when the request is answered from memory, joins the same one that waits, or cannot be taken now.
  bool handled_before(const RequestInfo& info, CoordinatorOutput& out);
  template <class Command>
  void propose_request(const RequestInfo& info, const Command& command, CoordinatorOutput& out) {
    pending_[info.request].push_back(info.ticket);
    out.propose.push_back(encode_command(info.wall_ms, info.request, command));
  }
  static void refuse(const RequestInfo& info, const Error& error, CoordinatorOutput& out);
  template <class Reply>
  static void answer(const RequestInfo& info, const Reply& reply, CoordinatorOutput& out) {
    out.answers.emplace_back(info.ticket, make_answer(reply));
  }
  template <class Reply>
  static void answer(const RequestInfo& info, const Result<Reply>& result, CoordinatorOutput& out) {
    if (result)
      answer(info, *result, out);
    else
      refuse(info, result.error(), out);
  }

  // coordinator_reports.cc
  [[nodiscard]] JobReport report(const Job& job, std::uint32_t window_s, Time now) const;
  [[nodiscard]] JobReportsReply reports(const std::vector<JobId>& ids, std::uint32_t window_s, Time now) const;
  [[nodiscard]] std::vector<NodeReport> node_reports() const;
  [[nodiscard]] StatusReply status() const;

  // coordinator_models.cc
  [[nodiscard]] std::optional<Answer> prefetch_push(const ModelVersion& model) const;
  void model_added(const AddModel& command, const Answer& result, CoordinatorOutput& out) const;
  void prefetch_newest(const NodeEntry& node, CoordinatorOutput& out) const;

  // coordinator_nodes.cc
  [[nodiscard]] bool speaks_for(const RequestInfo& info, NodeId node, CoordinatorOutput& out) const;
  /// The configured node whose key the message came with; answers the error itself otherwise.
  NodeEntry* sender(const RequestInfo& info, CoordinatorOutput& out);
  /// True, and answered: the node knows a later coordinator than this one.
  bool is_stale(const RequestInfo& info, CoordinatorOutput& out) const;
  void hello(const RequestInfo& info, const NodeHello& hello, Time now, CoordinatorOutput& out);
  void registered(const RegisterNode& command, const Answer& result, Time now, CoordinatorOutput& out);
  [[nodiscard]] NodeHelloReply begin_session(NodeEntry& node, const NodeHello& hello, Time now, CoordinatorOutput& out);
  void heartbeat(const RequestInfo& info, const Heartbeat& beat, Time now, CoordinatorOutput& out);
  void member_changed(NodeEntry& node, NodeState state, Incarnation incarnation, Time now, CoordinatorOutput& out);
  void push_failed(NodeEntry& node);
  /// Its leases go to others. Returns how many there were.
  std::size_t end_session(NodeEntry& node);
  /// `state`: dead or left.
  void dead(NodeEntry& node, NodeState state, const char* why, Time now, CoordinatorOutput& out);
  void membership_changed();
  void supervise(Time now, CoordinatorOutput& out);
  void supervise_by(Time at) { supervise_at_ = std::min(supervise_at_, at); }
  /// Ends the takeover when there is nobody left to wait for.
  void judge_takeover(Time now);
  [[nodiscard]] std::vector<PlacementNode> placement() const;
  [[nodiscard]] PlacementReply placement_reply() const;

  // coordinator_leases.cc
  /// A session begins, and the node says in hello.held what it goes on with. Takes over the leases that are still wanted, names
  /// the others in reply.dropped, and gives to others what is out at the node and not among them.
  void adopt_held(NodeEntry& node, const NodeHello& hello, Time now, NodeHelloReply& reply, CoordinatorOutput& out);
  void add_job(const Job& job, Time now);
  void job_changed(const Job& job, Time now, CoordinatorOutput& out);
  void job_ended(JobId job, Time now, CoordinatorOutput& out);
  void fail_job(JobId job, const std::string& reason, Time now, CoordinatorOutput& out);
  void schedule(Time now, CoordinatorOutput& out);
  /// False: the job cannot be described, and is failed.
  bool add_to_grant(const Assignment& given, Grants& grants, Descriptions& descriptions, Time now, CoordinatorOutput& out);
  void tell_leased(const Assignment& given, Time now, CoordinatorOutput& out);
  void give_priority(JobId job, Time now, CoordinatorOutput& out);
  void remind(Time now, CoordinatorOutput& out);
  void send_grant(NodeEntry& node, Grant& grant, CoordinatorOutput& out) const;
  [[nodiscard]] Result<PrefetchModel> files_of(const ModelVersion& model) const;
  [[nodiscard]] Result<JobDescription> describe(JobId job) const;
  void commits_applied(const std::vector<Applied::Commit>& commits, Time now, CoordinatorOutput& out);
  void batch_failed(const RequestInfo& info, const BatchFailed& failure, Time now, CoordinatorOutput& out);

  // coordinator_explain.cc
  void note(BatchEvent what, const LeaseKey& lease, NodeId node, Time now, std::string text = {});
  [[nodiscard]] JobWait wait_of(const Job& job) const;

  // coordinator_isolation.cc
  /// Leases what a node has been computing for too long a second time, elsewhere.
  void watch_stragglers(NodeEntry& node, const Heartbeat& beat, Time now, CoordinatorOutput& out);
  void tell_isolation(Time now, CoordinatorOutput& out);

  // coordinator_repair.cc
  [[nodiscard]] RepairView repair_view() const;
  void repair_step(Time now, CoordinatorOutput& out);
  [[nodiscard]] MoveReplicas with_stores(std::vector<ReplicaMove> moves) const;
  void obey(RepairOutput&& plan, Time now, CoordinatorOutput& out) const;
  void replica_report(const RequestInfo& info, const ReplicaReport& report, Time now, CoordinatorOutput& out);
  void inventory(const RequestInfo& info, const Inventory& page, Time now, CoordinatorOutput& out);
  void damaged_blocks(const RequestInfo& info, const DamagedBlocks& report, CoordinatorOutput& out);
  std::vector<BlockId> forgettable(NodeId node, const std::vector<BlockId>& blocks, const char* why, CoordinatorOutput& out);
  /// Proposes to forget these copies, and raises an alarm for those that are the last ones (they are kept).
  void forget(NodeId node, const std::vector<BlockId>& blocks, const char* why, Time now, CoordinatorOutput& out);
  void drop_freed(const std::vector<BlockRef>& freed, CoordinatorOutput& out);

  CoordinatorConfig config_;
  ClusterState state_;
  Random random_;
  Epoch epoch_;
  bool serving_ = false;       ///< the takeover is over: leases may be given
  Time grace_until_ = kNever;  ///< the takeover ends then at the latest
  Time began_{};
  LogServers log_;
  Time wall_read_at_{};
  WallMs wall_ = 0;
  std::uint32_t replication_ = 1;  ///< min(configured, members)

  std::map<RequestId, std::vector<Ticket>> pending_;
  std::map<NodeId, NodeEntry> nodes_;
  Time supervise_at_ = kNever;  ///< no node changes its state by itself before
  std::uint64_t placement_version_ = 1;
  std::uint32_t wanted_copies_ = 1;  ///< of a block written now: min(replication_, nodes that are alive)

  Scheduler scheduler_;
  std::map<JobId, JobEntry> jobs_;  ///< active ones, and ended ones until they are removed
  bool more_to_schedule_ = false;
  Time remind_at_{};
  FairnessMonitor fairness_;
  std::int64_t judged_second_ = -1;

  std::optional<RepairPlanner> repair_;  ///< from `begin` on
  std::deque<std::string> alarms_;
  BatchLives lives_;
};

}  // namespace idunno

#pragma once
/// The inside of NodeAgent (nodes/core/node_agent.h), shared by its .cc files:
///   node_agent.cc          the public face, time
///   node_agent_session.cc  who coordinates: search, hello, heartbeats, epochs, the end of a session
///   node_agent_work.cc     leases, commits with the outbox, reports of failed batches
///   node_agent_store.cc    inventory and orphans, replica tasks, damaged copies

#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "nodes/core/node_agent.h"

namespace idunno {

struct NodeAgent::Impl {
  // -- calls that are not answered yet, and what they are about --
  struct HelloCall {};
  struct HeartbeatCall {};
  struct CommitCall {
    std::uint64_t request = 0;
  };
  struct FailureCall {
    std::uint64_t failure = 0;
  };
  struct ReportCall {
    std::uint64_t report = 0;
  };
  struct InventoryCall {
    std::vector<HeldBlock> page;
    BlockId to;
    bool more = false;
  };
  struct DamagedCall {
    std::vector<BlockId> blocks;
  };
  struct Pending {
    NodeId to;
    std::uint64_t session = 0;  ///< in which it was sent
    std::variant<HelloCall, HeartbeatCall, CommitCall, FailureCall, ReportCall, InventoryCall, DamagedCall> about;
  };
  /// An answer as far as everybody looks at it. An answer under an epoch that is over counts as an error.
  struct Outcome {
    std::optional<Error> error;
    NodeId leader;  ///< that a not_leader error names
    const Envelope* envelope = nullptr;
    bool of_this_session = false;
  };

  struct StoredResult {  ///< a stored result that no coordinator has answered for
    BatchCommit commit;
    Time stored_at{};
  };
  struct CommitRequest {
    std::vector<BatchCommit> commits;
    bool in_flight = false;
  };
  struct Failure {
    BatchFailed message;
    bool in_flight = false;
  };
  struct Report {
    ReplicaReport message;
    Epoch epoch;  ///< of the coordinator that numbered the task
    bool in_flight = false;
  };
  enum class InventoryStep : std::uint8_t { idle, wants_page, listing, reporting };

  Impl(AgentConfig config_given, std::vector<OutboxRecord> outbox, Random random_given, Time now, WallMs wall);

  void note_time(Time now) { now_ = std::max(now_, now); }
  void notice_start();
  void watch_executors();
  void flush();  ///< makes the calls that are due
  [[nodiscard]] Time wake_at() const;
  void tell(std::string type, JobId job, std::int64_t batch, std::string text);

  template <class Message, class About>
  std::uint64_t call(NodeId to, const Message& message, Duration timeout, About about, RequestId request = {});
  void answered(std::uint64_t id, const Result<Envelope>& answer);
  [[nodiscard]] Outcome outcome_of(const Pending& call, const Result<Envelope>& answer) const;

  // session
  [[nodiscard]] NodeId best_guess() const;
  [[nodiscard]] NodeId next_to_ask();
  [[nodiscard]] Duration next_pause();
  void say_hello();
  void hello_answered(NodeId to, const Outcome& outcome);
  void hello_failed(NodeId to, const Error& error, NodeId leader);
  void begin_session(NodeId coordinator, Epoch epoch, const NodeHelloReply& reply);
  void end_session(const std::string& why, NodeId ask_next, bool at_once);
  void ask_at_once(NodeId node);
  void note_unreachable(NodeId node);
  void note_epoch(NodeId from, Epoch epoch);  ///< a higher one than the session's ends the session
  [[nodiscard]] bool accepts_push(NodeId from, Epoch epoch);
  void leader_hint(NodeId leader, Epoch epoch);
  void connection_lost(NodeId node);
  void send_heartbeat(const NodeUsage& usage);
  void heartbeat_answered(NodeId to, const Outcome& outcome);
  /// True: the error means that the peer does not coordinate, or does not answer, and the session has been ended; or the call was
  /// of an earlier session, so that its errors say nothing.
  bool ends_session(NodeId to, const Outcome& outcome, std::string_view what);
  /// The same for calls that a coordinator may be slow to answer.
  bool ends_session_by_leader(NodeId to, const Outcome& outcome, std::string_view what);

  // work
  void note(BatchEvent what, const LeaseKey& lease, Time at, std::string text = {}, std::uint64_t took_us = 0);
  void granted(const LeaseGrant& grant);
  void dropped(const LeaseDrop& drop);
  void take(WorkerOutput&& work);
  [[nodiscard]] std::vector<HeldLease> held_leases();
  void keep_result(const BatchCommit& commit);
  void end_result(const LeaseKey& key);
  void forget_old_results();
  void offer_all_again();
  void send_commits();
  void send_commit_request(std::uint64_t id);
  void commits_answered(NodeId to, std::uint64_t id, const Outcome& outcome);
  void keep_failure(BatchFailed failure);
  void send_failures();
  void failure_answered(NodeId to, std::uint64_t id, const Outcome& outcome);

  // store
  void restart_inventory();
  void blocks_listed(const std::vector<HeldBlock>& page, BlockId after, bool more);
  void inventory_answered(NodeId to, const InventoryCall& sent, const Outcome& outcome);
  void delete_orphans(const std::vector<BlockId>& unknown, const std::vector<HeldBlock>& page);
  void task_pushed(Epoch epoch, const ReplicaTask& task);
  void task_done(std::uint64_t task, const std::vector<BlockStatus>& pulled);
  void send_reports();
  void report_answered(NodeId to, std::uint64_t id, const Outcome& outcome);
  void keep_damaged(const std::vector<BlockId>& blocks);
  void send_damaged();
  void damaged_answered(NodeId to, const DamagedCall& sent, const Outcome& outcome);
  void store_session_began();

  AgentConfig config_;
  Random random_;
  WorkerQueue queue_;
  AgentOutput out_;
  Time now_{};
  Time queue_check_at_{};
  std::uint64_t last_id_ = 0;  ///< of calls, commit requests, failures and reports alike
  std::map<std::uint64_t, Pending> calls_;

  // session
  bool in_session_ = false;
  bool proven_ = false;        ///< the session has had an answer besides that to the hello
  std::uint64_t session_ = 0;  ///< counts them
  NodeId coordinator_;         ///< of the present or last session
  Epoch session_epoch_;
  Time session_since_{};
  Epoch epoch_;  ///< the highest of any session, push or answer
  NodeId hint_;
  Epoch hint_epoch_;
  std::deque<NodeId> order_;      ///< in which log nodes are asked; who did not answer goes to the end
  NodeId guess_;                  ///< asked before those
  std::set<NodeId> unreachable_;  ///< in this search: what others say of them may be old
  std::uint32_t follows_ = 0;     ///< not_leader answers followed without a pause
  std::uint64_t hello_call_ = 0;  ///< 0 = none under way
  NodeId hello_to_;
  Time hello_at_{};
  Duration pause_{};
  std::string refusal_;  ///< the last one told as an event
  Time heartbeat_at_{};
  Time beat_at_{};                     ///< of the last heartbeat
  Time watch_at_{};                    ///< executors are looked at
  std::vector<ExecutorShare> shares_;  ///< of each slot's executor, as last told

  // work
  std::uint64_t client_ = 0;  ///< of the request ids of commits
  std::map<LeaseKey, StoredResult> results_;
  std::deque<LeaseKey> to_offer_;  ///< of results_, in order; those gone meanwhile are skipped
  std::map<std::uint64_t, CommitRequest> requests_;
  std::map<std::uint64_t, Failure> failures_;
  std::size_t failures_in_flight_ = 0;
  std::map<LeaseKey, OutboxRecord> outbox_add_;
  std::map<LeaseKey, BatchCommit> outbox_remove_;
  Time work_retry_at_{};  ///< nothing of this kind is sent before
  WallMs wall_ = 0;       ///< the latest that was told
  BatchLives lives_;
  std::uint32_t replication_ = 0;

  // store
  InventoryStep inventory_ = InventoryStep::idle;
  BlockId inventory_from_;
  bool inventory_anew_ = false;  ///< a session has begun while a page was under way
  Time inventory_at_{};
  std::map<std::uint64_t, Epoch> tasks_;  ///< under way
  std::map<std::uint64_t, Report> reports_;
  std::set<BlockId> damaged_;
  bool damaged_in_flight_ = false;
  Time store_retry_at_{};
};

template <class Message, class About>
std::uint64_t NodeAgent::Impl::call(NodeId to, const Message& message, Duration timeout, About about, RequestId request) {
  const std::uint64_t id = ++last_id_;
  calls_.emplace(id, Pending{to, session_, std::move(about)});
  out_.calls.push_back({id, to, Message::kType, encode(message), request, epoch_, timeout});
  return id;
}

}  // namespace idunno

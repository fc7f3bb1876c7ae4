#pragma once
/// A NodeAgent with a shell made by hand: what it says is kept, its outbox survives it, answers are made by the test.

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bus/hash.h"
#include "nodes/core/node_agent.h"

namespace idunno {

inline constexpr NodeId kAgent{5};
inline constexpr Time kAgentStart{std::chrono::seconds(1000)};
inline constexpr WallMs kAgentWall = 1'700'000'000'000;

inline LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }
inline LeaseKey key_of(const BatchCommit& commit) { return {commit.job, commit.batch, commit.attempt}; }

inline Lease make_lease(std::uint64_t job, BatchIndex batch, std::uint32_t attempt = 0) {
  Lease lease;
  lease.job = JobId{job};
  lease.batch = batch;
  lease.attempt = attempt;
  lease.queries = 8;
  lease.pass = batch;
  return lease;
}
inline JobDescription make_description(std::uint64_t job) {
  JobDescription description;
  description.job = JobId{job};
  description.model.name = "net";
  description.model.version = 1;
  description.replication = 3;
  return description;
}
inline LeaseGrant make_grant(std::vector<Lease> leases) {
  LeaseGrant grant;
  for (const Lease& lease : leases) grant.descriptions.push_back(make_description(lease.job.value));
  grant.leases = std::move(leases);
  return grant;
}

template <class Reply>
Result<Envelope> answer_under(Epoch epoch, const Reply& body) {
  Header header;
  header.epoch = epoch;
  return decode_message(encode_message(header, body));
}
inline Result<Envelope> refusal(Errc code, NodeId leader = {}) { return answer_under(Epoch{}, ErrorReply{code, "no", leader}); }
template <class Message>
Message body_of(const AgentOutput::Call& call) {
  auto body = decode<Message>(call.body);
  if (!body) {
    ADD_FAILURE() << "not a " << message_name(Message::kType);
    return {};
  }
  return *body;
}

class AgentWorld {
 public:
  explicit AgentWorld(std::uint32_t log_nodes = 3, std::uint64_t seed = 1) : seed_(seed) {
    config.self = kAgent;
    config.incarnation = Incarnation{1};
    config.store_id = 77;
    config.slots = 2;
    for (std::uint32_t i = 1; i <= log_nodes; ++i) config.log_nodes.push_back(NodeId{i});
    start();
  }

  /// Another life of the process over the same outbox.
  void start() {
    std::vector<OutboxRecord> left;
    for (const auto& [key, record] : outbox) left.push_back(record);
    calls.clear();
    agent = std::make_unique<NodeAgent>(config, std::move(left), Random{seed_++}, now, wall());
    obey();
  }
  [[nodiscard]] WallMs wall() const {
    return kAgentWall + static_cast<WallMs>(std::chrono::duration_cast<std::chrono::milliseconds>(now - kAgentStart).count());
  }

  void obey() {
    last = agent->take_output();
    for (const OutboxRecord& record : last.outbox.add) outbox[key_of(record.commit)] = record;
    for (const BatchCommit& commit : last.outbox.remove) outbox.erase(key_of(commit));
    for (const AgentOutput::Call& call : last.calls) {
      if (call.type == MessageType::commit_batches) {
        for (const BatchCommit& commit : body_of<CommitBatches>(call).commits) {
          EXPECT_TRUE(outbox.contains(key_of(commit))) << "offered before it was written down";
        }
      }
      calls.push_back(call);
    }
    for (const BlockId& block : last.delete_blocks) deleted.push_back(block);
    for (const ReplicaTask& task : last.tasks) tasks.push_back(task);
    for (const Event& event : last.events) events.push_back(event.type);
    todo.fetch.insert(todo.fetch.end(), last.work.fetch.begin(), last.work.fetch.end());
    todo.start.insert(todo.start.end(), last.work.start.begin(), last.work.start.end());
    EXPECT_TRUE(last.work.offer.empty());
    EXPECT_TRUE(last.work.failures.empty());
    if (last.wants_usage) {
      agent->usage(NodeUsage{100, 50, 3, 30, 7, false, 0, 0, {}, 0}, now);
      return obey();
    }
  }
  void pass(Duration time) {
    now += time;
    agent->tick(now, wall());
    obey();
  }
  /// To the agent's next own moment; returns how long that was.
  Duration pass_to_wake() {
    const Duration wait = std::max(agent->wake_at() - now, Duration{0});
    pass(wait);
    return wait;
  }

  /// Takes the first call of that type that waits.
  AgentOutput::Call take(MessageType type) {
    const auto found = std::ranges::find(calls, type, &AgentOutput::Call::type);
    if (found == calls.end()) {
      ADD_FAILURE() << "no call " << message_name(type);
      return {};
    }
    AgentOutput::Call call = *found;
    calls.erase(found);
    return call;
  }
  [[nodiscard]] std::size_t count(MessageType type) const {
    return static_cast<std::size_t>(std::ranges::count(calls, type, &AgentOutput::Call::type));
  }
  void answer(const AgentOutput::Call& call, const Result<Envelope>& with) {
    agent->answered(call.id, with, now, wall());
    obey();
  }
  /// Waits for the next hello and lets `leader` accept it.
  NodeHello join(NodeId leader, Epoch epoch, std::vector<LeaseKey> dropped = {}) {
    for (int i = 0; i < 100; ++i) {
      if (count(MessageType::node_hello) == 0) {
        pass_to_wake();
        continue;
      }
      const AgentOutput::Call call = take(MessageType::node_hello);
      if (call.to == leader) {
        answer(call, answer_under(epoch, NodeHelloReply{leader, std::move(dropped)}));
        EXPECT_TRUE(agent->in_session());
        return body_of<NodeHello>(call);
      }
      answer(call, refusal(Errc::not_leader, leader));
    }
    ADD_FAILURE() << "the coordinator was not found";
    return {};
  }
  void beat_answered(Epoch epoch) { answer(take(MessageType::heartbeat), answer_under(epoch, HeartbeatReply{true})); }
  template <class Push>
  void push(NodeId from, Epoch epoch, const Push& message) {
    agent->pushed(from, epoch, message, now);
    obey();
  }
  /// Fetches, computes and stores everything that starts.
  void work_off() {
    while (!todo.fetch.empty() || !todo.start.empty()) {
      const WorkerOutput work = std::exchange(todo, {});
      for (const Lease& lease : work.fetch) agent->input_ready(key_of(lease), 100, now);
      for (const auto& [slot, lease] : work.start) {
        agent->started(slot, key_of(lease), now, wall());
        if (!agent->finished(slot, key_of(lease), 0, 1, now)) continue;
        agent->stored(key_of(lease), block_for(key_of(lease)), now, wall());
      }
      obey();
    }
  }
  BlockRef block_for(const LeaseKey& key) {
    return BlockRef{{8, ++blocks_}, 10, hash128(batch_name(key.job, key.batch)), {kAgent}};
  }

  AgentConfig config;
  Time now = kAgentStart;
  std::unique_ptr<NodeAgent> agent;
  AgentOutput last;   ///< of the last obey
  WorkerOutput todo;  ///< fetches and starts that were asked for
  std::deque<AgentOutput::Call> calls;
  std::map<LeaseKey, OutboxRecord> outbox;
  std::vector<BlockId> deleted;
  std::vector<ReplicaTask> tasks;
  std::vector<std::string> events;

 private:
  std::uint64_t seed_;
  std::uint64_t blocks_ = 0;
};

}  // namespace idunno

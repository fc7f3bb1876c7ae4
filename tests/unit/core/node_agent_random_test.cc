// One NodeAgent among log nodes that lead in turn, with messages that are lost, late and doubled, deposed coordinators that go on
// talking, and restarts over the outbox. The same seed gives the same run.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "tests/unit/core/agent_fixture.h"

namespace idunno {
namespace {

constexpr std::uint32_t kBatches = 400;
constexpr std::size_t kCredit = 6;
constexpr std::uint64_t kLostAgent = 9;  ///< never: a name for batches that another node holds

class Storm {
 public:
  explicit Storm(std::uint64_t seed) : random_(seed) {
    config_.self = kAgent;
    config_.slots = 1 + static_cast<std::uint32_t>(random_.below(3));
    for (std::uint32_t i = 1; i <= 3; ++i) config_.log_nodes.push_back(NodeId{i});
    loss_ = random_.unit() * 0.15;
    elect();
    start();
  }

  void run() {
    const Time heal = now_ + std::chrono::seconds(20);
    while (now_ < heal && !testing::Test::HasFailure()) step();
    calm_ = true;
    loss_ = 0;
    const Time end = now_ + std::chrono::seconds(60);
    while (now_ < end && !all_done() && !testing::Test::HasFailure()) step();
    EXPECT_TRUE(all_done()) << committed_.size() << " of " << kBatches << " batches committed, outbox " << outbox_.size();
    for (const LeaseKey& key : stored_) EXPECT_TRUE(settled_.contains(key)) << batch_name(key.job, key.batch) << " got lost";
  }

 private:
  struct Reign {
    NodeId leader;
    std::uint64_t epoch = 0;
    bool session = false;
    std::map<BatchIndex, std::uint32_t> out;  ///< leased to the agent, with the attempt
  };

  [[nodiscard]] bool all_done() const {
    return committed_.size() == kBatches && outbox_.empty() && agent_->queue().size() == 0 && agent_->in_session();
  }
  [[nodiscard]] WallMs wall() const {
    return kAgentWall + static_cast<WallMs>(std::chrono::duration_cast<std::chrono::milliseconds>(now_ - kAgentStart).count());
  }
  void at(Duration wait, std::function<void()> action) {
    agenda_.emplace(std::pair{now_ + wait, ++sequence_}, std::move(action));
  }
  Duration hop() { return Duration(static_cast<Duration::rep>(200 + random_.below(calm_ ? 1000 : 40'000))); }

  // -- time --

  void step() {
    const Time wake = agent_->wake_at();
    const Time next = agenda_.empty() ? kNever : agenda_.begin()->first.first;
    if (wake <= next) {
      now_ = std::max(now_ + Duration(1), wake);
      agent_->tick(now_, wall());
    } else {
      now_ = std::max(now_, next);
      auto action = std::move(agenda_.begin()->second);
      agenda_.erase(agenda_.begin());
      action();
    }
    if (!calm_) disturb();
    obey();
  }
  void disturb() {
    if (random_.chance(0.003)) elect();
    if (random_.chance(0.001)) start();
    if (random_.chance(0.002)) agent_->connection_lost(reign_.leader, now_);
    if (random_.chance(0.01)) push_as(old_, true);
  }

  void elect() {
    old_ = std::exchange(reign_, Reign{NodeId{1 + static_cast<std::uint32_t>(random_.below(3))}, reign_.epoch + 1, false, {}});
    if (agent_ && random_.chance(0.3)) agent_->leader_hint(reign_.leader, Epoch{reign_.epoch}, now_);
  }

  /// Another life of the process; what was under way in the old one comes to nothing.
  void start() {
    ++life_;
    ++config_.incarnation.value;
    running_.clear();
    waiting_calls_.clear();
    reign_.session = false;  // its connections closed
    reign_.out.clear();
    std::vector<OutboxRecord> left;
    for (const auto& [key, record] : outbox_) left.push_back(record);
    agent_ = std::make_unique<NodeAgent>(config_, std::move(left), Random{random_.next()}, now_, wall());
    // Only what was written down survives.
    std::erase_if(stored_, [this](const LeaseKey& key) { return !outbox_.contains(key) && !settled_.contains(key); });
  }

  // -- the shell --

  void obey() {
    AgentOutput out = agent_->take_output();
    for (const OutboxRecord& record : out.outbox.add) outbox_[key_of(record.commit)] = record;
    for (const BatchCommit& commit : out.outbox.remove) {
      EXPECT_TRUE(settled_.contains(key_of(commit))) << "taken out of the outbox without an answer";
      outbox_.erase(key_of(commit));
    }
    std::size_t hellos = 0;
    for (AgentOutput::Call& call : out.calls) {
      if (call.type == MessageType::node_hello) ++hellos;
      send(std::move(call));
    }
    EXPECT_LE(hellos, 1U);
    for (const LeaseKey& key : out.work.discard) fetched_.erase(key);
    for (const Lease& lease : out.work.fetch) {
      later([this, key = key_of(lease)] {
        if (random_.chance(calm_ ? 0 : 0.03)) return agent_->input_failed(key, "no replica", now_);
        fetched_.insert(key);
        agent_->input_ready(key, 1000, now_);
      });
    }
    for (const auto& [slot, lease] : out.work.start) compute(slot, lease);
    if (out.wants_usage) {
      agent_->usage({}, now_);
      obey();
    }
  }
  void later(std::function<void()> action) {
    at(hop(), [this, life = life_, action = std::move(action)] {
      if (life == life_) action();
    });
  }

  void compute(std::uint32_t slot, const Lease& lease) {
    const LeaseKey key = key_of(lease);
    EXPECT_TRUE(running_.insert(key).second) << "computed twice at the same time";
    later([this, slot, key, lease] {
      running_.erase(key);
      agent_->started(slot, key, now_, wall());
      if (random_.chance(calm_ ? 0 : 0.05)) return agent_->failed(slot, key, BatchFailure::executor_died, "killed", now_);
      if (!agent_->finished(slot, key, 0, 1, now_)) {
        settled_.insert(key);  // nobody wants it
        return;
      }
      later([this, key] {
        agent_->stored(key, BlockRef{{4, ++blocks_}, 10, hash128(batch_name(key.job, key.batch)), {kAgent}}, now_, wall());
        if (!agent_->queue().holds(key)) return;  // dropped while it was being stored
        stored_.insert(key);
        settled_.erase(key);
      });
    });
  }

  // -- the wire --

  /// Exactly one answer a call: a lost message becomes a timeout.
  void send(AgentOutput::Call call) {
    if (call.type == MessageType::commit_batches) {
      for (const BatchCommit& commit : body_of<CommitBatches>(call).commits) {
        EXPECT_TRUE(outbox_.contains(key_of(commit))) << "offered before it was written down";
      }
    }
    waiting_calls_.insert(call.id);
    at(call.timeout, [this, life = life_, id = call.id] { answer(life, id, Error{Errc::timeout, "silent"}); });
    const bool doubled = random_.chance(loss_);
    for (int copies = doubled ? 2 : 1; copies > 0; --copies) {
      if (random_.chance(loss_)) continue;
      at(hop(), [this, life = life_, call] {
        if (life != life_) return;
        const Result<Envelope> reply = serve(call);
        if (random_.chance(loss_)) return;
        at(hop(), [this, life, id = call.id, reply] { answer(life, id, reply); });
      });
    }
  }
  void answer(std::uint64_t life, std::uint64_t id, const Result<Envelope>& reply) {
    if (life != life_ || waiting_calls_.erase(id) == 0) return;
    const bool deposed = reply && reply->header.type == MessageType::commit_batches_reply && reply->header.epoch != reign_now();
    // A deposed coordinator answers only what it had committed, or else under an epoch that the agent knows to be over.
    if (deposed && lies_.contains(id) && !(reply->header.epoch < agent_->epoch())) {
      return agent_->answered(id, Error{Errc::timeout, "silent"}, now_, wall());
    }
    agent_->answered(id, reply, now_, wall());
  }
  [[nodiscard]] Epoch reign_now() const { return Epoch{reign_.epoch}; }

  // -- the coordinators --

  Result<Envelope> serve(const AgentOutput::Call& call) {
    if (call.to != reign_.leader || Epoch{reign_.epoch} < call.epoch) {
      if (call.to == old_.leader && call.type == MessageType::commit_batches && random_.chance(0.5)) {
        lies_.insert(call.id);
        const std::size_t commits = body_of<CommitBatches>(call).commits.size();
        return answer_under(Epoch{old_.epoch}, CommitBatchesReply{std::vector(commits, CommitOutcome::accepted)});
      }
      return refusal(Errc::not_leader, random_.chance(0.5) ? reign_.leader : old_.leader);
    }
    switch (call.type) {
      case MessageType::node_hello:
        return hello(body_of<NodeHello>(call));
      case MessageType::heartbeat:
        if (reign_.session) at(Duration{1}, [this] { push_as(reign_, false); });
        return answer_under(reign_now(), HeartbeatReply{reign_.session && body_of<Heartbeat>(call).incarnation == known_});
      case MessageType::commit_batches:
        return commit(body_of<CommitBatches>(call));
      case MessageType::batch_failed: {
        const auto failed = body_of<BatchFailed>(call);
        reign_.out.erase(failed.batch);
        return answer_under(reign_now(), BatchFailedReply{});
      }
      default:
        return refusal(Errc::conflict);
    }
  }
  Result<Envelope> hello(const NodeHello& hello) {
    if (hello.incarnation < known_) return refusal(Errc::conflict);
    known_ = hello.incarnation;
    reign_.session = true;
    reign_.out.clear();
    NodeHelloReply reply{reign_.leader, {}};
    for (const HeldLease& held : hello.held) {
      const BatchIndex batch = held.lease.batch;
      if (held.stage != HeldStage::finished && (committed_.contains(batch) || random_.chance(0.1)))
        reply.dropped.push_back(held.lease);
      else
        reign_.out[batch] = held.lease.attempt;
    }
    return answer_under(reign_now(), reply);
  }
  Result<Envelope> commit(const CommitBatches& request) {
    CommitBatchesReply reply;
    for (const BatchCommit& each : request.commits) {
      const auto [at, is_new] = committed_.try_emplace(each.batch, each.block.hash);
      EXPECT_EQ(at->second, each.block.hash);
      reply.outcomes.push_back(is_new ? CommitOutcome::accepted : CommitOutcome::duplicate);
      settled_.insert(key_of(each));
      reign_.out.erase(each.batch);
    }
    return answer_under(reign_now(), reply);
  }
  /// Grants what is not out, as far as the credit goes; a deposed coordinator grants what must never run.
  void push_as(Reign& reign, bool deposed) {
    if (reign.epoch == 0) return;
    LeaseGrant grant = make_grant({});
    if (deposed) {
      if (!(Epoch{reign.epoch} < agent_->epoch())) return;
      Lease stale = make_lease(kLostAgent, 0);
      grant = make_grant({stale});
      agent_->pushed(reign.leader, Epoch{reign.epoch}, grant, now_);
      EXPECT_EQ(agent_->queue().description(stale.job), nullptr) << "a deposed coordinator was heard";
      agent_->pushed(reign.leader, Epoch{reign.epoch}, LeaseDrop{JobId{1}, false}, now_);
      return;
    }
    for (BatchIndex batch = 0; batch < kBatches && reign.out.size() < kCredit; ++batch) {
      if (committed_.contains(batch) || reign.out.contains(batch)) continue;
      reign.out[batch] = ++attempt_;
      grant.leases.push_back(make_lease(1, batch, attempt_));
    }
    // What is out may have been lost on the way: named again.
    for (const auto& [batch, attempt] : reign.out) {
      if (std::ranges::find(grant.leases, batch, &Lease::batch) == grant.leases.end() && random_.chance(0.2)) {
        grant.leases.push_back(make_lease(1, batch, attempt));
      }
    }
    if (grant.leases.empty()) return;
    grant.descriptions = {make_description(1)};
    const std::uint64_t epoch = reign.epoch;
    if (random_.chance(loss_)) return;
    at(hop(), [this, life = life_, from = reign.leader, epoch, grant] {
      if (life == life_) agent_->pushed(from, Epoch{epoch}, grant, now_);
    });
  }

  Random random_;
  AgentConfig config_;
  std::unique_ptr<NodeAgent> agent_;
  Time now_ = kAgentStart;
  bool calm_ = false;
  double loss_ = 0;
  std::uint64_t life_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint64_t blocks_ = 0;
  std::uint32_t attempt_ = 0;
  std::map<std::pair<Time, std::uint64_t>, std::function<void()>> agenda_;
  Reign reign_;
  Reign old_;
  Incarnation known_;
  std::map<BatchIndex, Hash128> committed_;  ///< the log
  std::map<LeaseKey, OutboxRecord> outbox_;
  std::set<LeaseKey> stored_;   ///< results whose block is on the disks
  std::set<LeaseKey> settled_;  ///< a coordinator in office has decided on them
  std::set<LeaseKey> running_, fetched_;
  std::set<std::uint64_t> waiting_calls_;
  std::set<std::uint64_t> lies_;  ///< calls answered by a deposed coordinator that committed nothing
};

TEST(NodeAgentStorm, LosesNoResultAndFinishesOnceItIsCalm) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Storm storm(seed);
    storm.run();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace idunno

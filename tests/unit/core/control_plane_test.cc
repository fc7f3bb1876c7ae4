// Log nodes with their whole control plane in one process: the network is a list of messages, time is a number.

#include "nodes/core/control_plane.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace idunno {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr WallMs kWall = 1'700'000'000'000;

class Cluster {
 public:
  struct Node {
    std::unique_ptr<ControlPlane> control;
    std::vector<std::pair<NodeId, Answer>> pushes;
    std::vector<Event> events;
  };
  struct Reply {
    NodeId by;
    Answer answer;
    NodeId leader;
    bool stale = false;
  };

  explicit Cluster(std::uint32_t count, std::size_t compact_bytes = 64U << 20U) {
    for (std::uint32_t i = 1; i <= count; ++i) ids.push_back(NodeId{i});
    config.compact_bytes_min = compact_bytes;
    for (const NodeId id : ids)
      config.coordinator.members.push_back({id, "127.0.0.1", static_cast<std::uint16_t>(7000 + id.value)});
    config.raft.log_nodes = ids;
    config.raft.voters_wanted = voters_wanted_for(count);
    for (const NodeId id : ids) start(id);
  }

  void start(NodeId id) {
    ControlConfig own = config;
    own.coordinator.self = id;
    own.raft.self = id;
    auto control = ControlPlane::open(own, make_memory_log_store(++last_log), Random(100 + id.value), now, wall());
    ASSERT_TRUE(control.ok()) << control.error().detail;
    nodes[id].control = std::move(*control);
  }
  void kill(NodeId id) {
    nodes.at(id).control.reset();
    for (auto& [other, node] : nodes) {
      if (node.control) node.control->connection_lost(id, now);
    }
  }
  [[nodiscard]] WallMs wall() const { return kWall + static_cast<WallMs>(now.time_since_epoch().count() / 1000); }

  /// A millisecond: what was sent arrives, everybody has a turn.
  void step() {
    now += milliseconds(1);
    const auto arriving = std::exchange(wire, {});
    for (const auto& [from, to, bytes] : arriving) {
      if (cut.contains(from) || cut.contains(to) || !nodes.at(to).control) continue;
      nodes.at(to).control->log_message(from, bytes, now);
    }
    for (auto& [id, node] : nodes) {
      if (!node.control) continue;
      if (node.control->wake_at() <= now) node.control->tick(now, wall());
      ControlOutput out;
      const Status ended = node.control->end_turn(now, wall(), out);
      ASSERT_TRUE(ended.ok()) << ended.error().detail;
      for (auto& [to, bytes] : out.log_messages) wire.emplace_back(id, to, std::move(bytes));
      for (auto& reply : out.replies) {
        ASSERT_FALSE(replies.contains(reply.ticket)) << "answered twice";
        replies[reply.ticket] = Reply{id, std::move(reply.answer), reply.leader, reply.stale};
      }
      std::move(out.pushes.begin(), out.pushes.end(), std::back_inserter(node.pushes));
      std::move(out.events.begin(), out.events.end(), std::back_inserter(node.events));
      node.control->check_invariants();
    }
  }
  void run_for(Duration duration) {
    for (const Time end = now + duration; now < end;) step();
  }
  template <class Done>
  bool run_until(Done done, Duration limit = seconds(20)) {
    for (const Time end = now + limit; now < end;) {
      if (done()) return true;
      step();
    }
    return done();
  }
  NodeId serving() {
    for (auto& [id, node] : nodes) {
      if (node.control && !cut.contains(id) && node.control->serving()) return id;
    }
    return {};
  }
  NodeId wait_for_coordinator() {
    EXPECT_TRUE(run_until([this] { return static_cast<bool>(serving()); }));
    return serving();
  }
  ControlPlane& at(NodeId id) { return *nodes.at(id).control; }

  template <class Req>
  Ticket ask(NodeId node, const Req& request, RequestId id = {}, bool stale_ok = false, const std::string& key = "admin") {
    const Ticket ticket = ++last_ticket;
    at(node).request(RequestInfo{ticket, id, key, wall(), {}, stale_ok}, request, now);
    return ticket;
  }
  /// The answer, when it comes in time.
  template <class Req>
  std::optional<Reply> answer(NodeId node, const Req& request, RequestId id = {}, bool stale_ok = false) {
    const Ticket ticket = ask(node, request, id, stale_ok);
    if (!run_until([&] { return replies.contains(ticket); }, seconds(5))) return std::nullopt;
    return replies.at(ticket);
  }
  RequestId fresh() { return RequestId{9, ++last_request}; }
  static ModelAddRequest model(const std::string& name, std::size_t spec_bytes = 0) {
    ModelAddRequest request;
    request.model.name = name;
    request.model.spec_toml = std::string(spec_bytes, '#');
    return request;
  }

  ControlConfig config;
  std::vector<NodeId> ids;
  std::map<NodeId, Node> nodes;
  std::vector<std::tuple<NodeId, NodeId, Bytes>> wire;
  std::set<NodeId> cut;  ///< nothing gets to these or from them
  std::map<Ticket, Reply> replies;
  Time now = Time{} + seconds(1000);
  std::uint64_t last_log = 0;
  Ticket last_ticket = 0;
  std::uint64_t last_request = 0;
};

Errc code_of(const std::optional<Cluster::Reply>& reply) {
  if (!reply) return Errc{};
  const auto error = decode<ErrorReply>(reply->answer.body);
  return reply->answer.type == MessageType::error_reply && error ? error->code : Errc{};
}

template <class T>
T body_of(const std::optional<Cluster::Reply>& reply) {
  if (!reply || reply->answer.type != T::kType) {
    ADD_FAILURE() << (reply ? message_name(reply->answer.type) : "no answer");
    if (reply && reply->answer.type == MessageType::error_reply) ADD_FAILURE() << decode<ErrorReply>(reply->answer.body)->detail;
    return T{};
  }
  return *decode<T>(reply->answer.body);
}

TEST(ControlPlane, ASingleNodeCoordinatesByItself) {
  Cluster cluster(1);
  const NodeId one{1};
  EXPECT_EQ(code_of(cluster.answer(one, Cluster::model("early"), cluster.fresh())), Errc::not_leader);
  ASSERT_EQ(cluster.wait_for_coordinator(), one);
  EXPECT_EQ(body_of<ModelAddReply>(cluster.answer(one, Cluster::model("m"), cluster.fresh())).version, 1U);
  const auto status = body_of<StatusReply>(cluster.answer(one, StatusRequest{}));
  EXPECT_EQ(status.coordinator, one);
  EXPECT_EQ(status.standby, NodeId{});
  EXPECT_EQ(status.voters, std::vector<NodeId>{one});
  EXPECT_EQ(status.epoch, cluster.at(one).epoch());
  EXPECT_EQ(cluster.at(one).state().epoch(), status.epoch) << "its first entry is in the state";
}

TEST(ControlPlane, TheNextCoordinatorKnowsWhatTheLastOneAnswered) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  const Epoch epoch = cluster.at(first).epoch();
  const RequestId id = cluster.fresh();
  EXPECT_EQ(body_of<ModelAddReply>(cluster.answer(first, Cluster::model("m"), id)).version, 1U);
  cluster.kill(first);
  const NodeId second = cluster.wait_for_coordinator();
  EXPECT_NE(second, first);
  EXPECT_GT(cluster.at(second).epoch(), epoch);
  EXPECT_EQ(body_of<ModelAddReply>(cluster.answer(second, Cluster::model("m"), id)).version, 1U) << "the same answer";
  EXPECT_EQ(body_of<ModelAddReply>(cluster.answer(second, Cluster::model("m"), cluster.fresh())).version, 2U);
  EXPECT_EQ(cluster.at(second).state().models().at("m").size(), 2U);
  const auto status = body_of<StatusReply>(cluster.answer(second, StatusRequest{}));
  EXPECT_EQ(status.coordinator, second);
  EXPECT_EQ(status.voters.size(), 3U);
  EXPECT_TRUE(status.standby);
}

TEST(ControlPlane, WhoWaitsIsToldNotLeaderWhenTheOfficeIsLostAndTheRequestIsDoneOnceInTheEnd) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  cluster.cut.insert(first);
  const RequestId id = cluster.fresh();
  const Ticket change = cluster.ask(first, Cluster::model("m"), id);
  const Ticket read = cluster.ask(first, FsListRequest{"/", false, false, false, {}, 10});
  cluster.run_for(milliseconds(20));
  EXPECT_FALSE(cluster.replies.contains(change)) << "nothing is accepted without a majority";
  EXPECT_FALSE(cluster.replies.contains(read)) << "nor read";
  ASSERT_TRUE(cluster.run_until([&] { return cluster.replies.contains(change) && cluster.replies.contains(read); }));
  EXPECT_EQ(code_of(cluster.replies.at(change)), Errc::not_leader);
  EXPECT_EQ(code_of(cluster.replies.at(read)), Errc::not_leader);
  EXPECT_FALSE(cluster.at(first).serving());
  const NodeId second = cluster.wait_for_coordinator();
  EXPECT_EQ(body_of<ModelAddReply>(cluster.answer(second, Cluster::model("m"), id)).version, 1U);
  cluster.cut.clear();
  EXPECT_TRUE(cluster.run_until([&] { return cluster.at(first).leader() == second; }));
  const auto there = cluster.answer(first, Cluster::model("m"), id);
  EXPECT_EQ(code_of(there), Errc::not_leader);
  EXPECT_EQ(there->leader, second);
  EXPECT_EQ(decode<ErrorReply>(there->answer.body)->leader, second);
  EXPECT_TRUE(cluster.run_until([&] { return cluster.at(first).state().models().contains("m"); }));
  EXPECT_EQ(cluster.at(first).state().models().at("m").size(), 1U) << "what it had proposed alone is gone";
}

TEST(ControlPlane, AnyLogNodeAnswersStaleReads) {
  Cluster cluster(3);
  const NodeId leader = cluster.wait_for_coordinator();
  body_of<ModelAddReply>(cluster.answer(leader, Cluster::model("m"), cluster.fresh()));
  const NodeId other = leader == NodeId{3} ? NodeId{2} : NodeId{3};
  ASSERT_TRUE(cluster.run_until([&] { return cluster.at(other).state().models().contains("m"); }));
  cluster.at(other).member_changed(NodeId{1}, NodeState::suspect, Incarnation{5}, cluster.now);

  const auto status = cluster.answer(other, StatusRequest{}, {}, true);
  EXPECT_TRUE(status->stale);
  const auto told = body_of<StatusReply>(status);
  EXPECT_EQ(told.answered_by, other);
  EXPECT_EQ(told.coordinator, leader);
  EXPECT_EQ(told.epoch, cluster.at(leader).epoch());
  EXPECT_EQ(told.voters.size(), 3U);
  ASSERT_EQ(told.nodes.size(), 3U);
  EXPECT_EQ(told.nodes[0].state, NodeState::suspect);
  EXPECT_EQ(told.nodes[other.value - 1].state, NodeState::alive);
  EXPECT_TRUE(told.nodes[leader.value - 1].coordinator);

  const auto models = cluster.answer(other, ModelListRequest{}, {}, true);
  EXPECT_TRUE(models->stale);
  EXPECT_EQ(body_of<ModelListReply>(models).models.size(), 1U);
  EXPECT_EQ(body_of<FsListReply>(cluster.answer(other, FsListRequest{"/", false, false, false, {}, 10}, {}, true)).files.size(),
            0U);
  EXPECT_EQ(code_of(cluster.answer(other, JobReportsRequest{{JobId{7}}, 10}, {}, true)), Errc::not_found);
  EXPECT_EQ(code_of(cluster.answer(other, ModelListRequest{})), Errc::not_leader) << "only who asks for it";
  EXPECT_EQ(code_of(cluster.answer(other, PlacementRequest{}, {}, true)), Errc::not_leader) << "only the coordinator knows";
  const auto fresh = cluster.answer(leader, ModelListRequest{}, {}, true);
  EXPECT_FALSE(fresh->stale);
}

TEST(ControlPlane, ANewFollowerGetsTheStateAsASnapshot) {
  Cluster cluster(3, 1U << 20U);
  const NodeId leader = cluster.wait_for_coordinator();
  const NodeId behind = leader == NodeId{3} ? NodeId{2} : NodeId{3};
  cluster.kill(behind);
  // More than the log keeps for slow followers, and little that stays in the state.
  for (int i = 0; i < 200; ++i) {
    ASSERT_EQ(code_of(cluster.answer(leader, Cluster::model("m", 60'000), cluster.fresh())), Errc{}) << i;
    ASSERT_EQ(code_of(cluster.answer(leader, ModelRemoveRequest{"m"}, cluster.fresh())), Errc{}) << i;
  }
  body_of<ModelAddReply>(cluster.answer(leader, Cluster::model("last"), cluster.fresh()));
  const auto& log = dynamic_cast<const RaftLog&>(cluster.at(leader).log());
  EXPECT_GT(log.status().snapshot, LogIndex{}) << "the leader has compacted";
  cluster.start(behind);  // an empty store: another log
  ASSERT_TRUE(cluster.run_until([&] { return cluster.at(behind).state().models().contains("last"); }));
  ASSERT_TRUE(cluster.run_until(
      [&] { return cluster.at(behind).state().applied_index() == cluster.at(leader).state().applied_index(); }));
  EXPECT_EQ(cluster.at(behind).state().encode_snapshot(), cluster.at(leader).state().encode_snapshot());
  EXPECT_GT(dynamic_cast<const RaftLog&>(cluster.at(behind).log()).status().snapshots_installed, 0U);
  EXPECT_TRUE(cluster.run_until([&] {
    const auto members = cluster.at(leader).log().members();
    return members.size() == 3 && members.back().voter && members.front().voter;
  })) << "it votes again";
}

TEST(ControlPlane, TheOfficeIsHandedOver) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  cluster.run_for(seconds(1));
  const auto reply = cluster.answer(first, TransferLeadership{});
  const NodeId to = body_of<TransferLeadershipReply>(reply).to;
  EXPECT_NE(to, first);
  EXPECT_EQ(cluster.wait_for_coordinator(), to);
  EXPECT_FALSE(cluster.at(first).serving());
  const auto back = cluster.answer(to, TransferLeadership{first});
  EXPECT_EQ(body_of<TransferLeadershipReply>(back).to, first);
  EXPECT_EQ(cluster.wait_for_coordinator(), first);
  EXPECT_EQ(code_of(cluster.answer(to, TransferLeadership{})), Errc::not_leader);
}

TEST(ControlPlane, ALoneVoterHasNobodyToHandOverTo) {
  Cluster cluster(1);
  cluster.wait_for_coordinator();
  EXPECT_EQ(code_of(cluster.answer(NodeId{1}, TransferLeadership{})), Errc::conflict);
  EXPECT_TRUE(cluster.at(NodeId{1}).serving());
}

NodeHello hello_of(NodeId node) {
  NodeHello hello;
  hello.node = node;
  hello.incarnation = Incarnation{7};
  hello.store_id = node.value;
  hello.slots = 1;
  return hello;
}

/// The answer of the coordinator to a hello of `node`.
NodeHelloReply say_hello(Cluster& cluster, NodeId coordinator, NodeId node) {
  const Ticket said = cluster.ask(coordinator, hello_of(node), {}, false, to_string(node));
  EXPECT_TRUE(cluster.run_until([&] { return cluster.replies.contains(said); }));
  return body_of<NodeHelloReply>(cluster.replies.at(said));
}

TEST(ControlPlane, PlacementIsToldOnlyWhenTheTakeoverIsOver) {
  // A writer that is told of the nodes that happen to have said hello writes fewer copies than it promised.
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  for (const NodeId node : cluster.ids) say_hello(cluster, first, node);
  EXPECT_EQ(body_of<PlacementReply>(cluster.answer(first, PlacementRequest{})).nodes.size(), 3U);
  cluster.kill(first);
  const NodeId second = cluster.wait_for_coordinator();
  for (const NodeId node : cluster.ids) {
    if (node != first) cluster.at(second).member_changed(node, NodeState::alive, Incarnation{7}, cluster.now);
  }
  say_hello(cluster, second, second);
  EXPECT_EQ(code_of(cluster.answer(second, PlacementRequest{})), Errc::no_coordinator) << "one node is alive and not here yet";
  for (const NodeId node : cluster.ids) {
    if (node != first && node != second) say_hello(cluster, second, node);
  }
  cluster.at(second).member_changed(first, NodeState::dead, Incarnation{7}, cluster.now);
  const auto told = cluster.answer(second, PlacementRequest{});
  EXPECT_EQ(body_of<PlacementReply>(told).nodes.size(), 2U);
}

TEST(ControlPlane, ATakeoverEndsWithoutThoseThatNeverCome) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  for (const NodeId node : cluster.ids) say_hello(cluster, first, node);
  cluster.kill(first);
  const NodeId second = cluster.wait_for_coordinator();
  for (const NodeId node : cluster.ids) cluster.at(second).member_changed(node, NodeState::alive, Incarnation{7}, cluster.now);
  say_hello(cluster, second, second);
  EXPECT_TRUE(cluster.run_until([&] { return code_of(cluster.answer(second, PlacementRequest{})) == Errc{}; }));
  EXPECT_EQ(body_of<PlacementReply>(cluster.answer(second, PlacementRequest{})).nodes.size(), 1U);
}

TEST(ControlPlane, WhoLostTheOfficeGivesNoLeaseAndTakesNoHello) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  const NodeId other = first == NodeId{3} ? NodeId{2} : NodeId{3};
  say_hello(cluster, first, other);
  cluster.cut.insert(first);
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.at(first).serving(); }));
  cluster.nodes.at(first).pushes.clear();
  const Ticket hello = cluster.ask(first, hello_of(other), {}, false, to_string(other));
  const Ticket commit = cluster.ask(first, CommitBatches{}, {}, false, to_string(other));
  ASSERT_TRUE(cluster.run_until([&] { return cluster.replies.contains(hello) && cluster.replies.contains(commit); }));
  EXPECT_EQ(code_of(cluster.replies.at(hello)), Errc::not_leader);
  EXPECT_EQ(code_of(cluster.replies.at(commit)), Errc::not_leader);
  EXPECT_TRUE(cluster.nodes.at(first).pushes.empty());
}

TEST(ControlPlane, NodesAreToldOfTheirLeasesUnderTheEpochOfTheCoordinator) {
  Cluster cluster(3);
  const NodeId first = cluster.wait_for_coordinator();
  body_of<ModelAddReply>(cluster.answer(first, Cluster::model("m"), cluster.fresh()));
  NodeHello hello;
  hello.node = NodeId{2};
  hello.incarnation = Incarnation{7};
  hello.store_id = 3;
  hello.slots = 1;
  const Ticket said = cluster.ask(first, hello, {}, false, "n2");
  ASSERT_TRUE(cluster.run_until([&] { return cluster.replies.contains(said); }));
  EXPECT_EQ(body_of<NodeHelloReply>(cluster.replies.at(said)).coordinator, first);
  SubmitRequest submit;
  submit.spec.model = "m";
  submit.spec.item_kind = ItemKind::nothing;
  submit.spec.queries = 10;
  submit.spec.batch = 1;
  body_of<SubmitReply>(cluster.answer(first, submit, cluster.fresh()));
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.nodes.at(first).pushes.empty(); }));
  const auto& [to, push] = cluster.nodes.at(first).pushes.front();
  EXPECT_EQ(to, NodeId{2});
  EXPECT_EQ(push.type, MessageType::lease_grant);
  // The next coordinator knows nothing of the leases: the node says what it holds.
  const auto grant = *decode<LeaseGrant>(push.body);
  ASSERT_FALSE(grant.leases.empty());
  cluster.kill(first);
  const NodeId second = cluster.wait_for_coordinator();
  hello.held.push_back({LeaseKey{grant.leases[0].job, grant.leases[0].batch, grant.leases[0].attempt}, HeldStage::running});
  hello.held.push_back({LeaseKey{JobId{99}, 0, 0}, HeldStage::waiting});
  const Ticket again = cluster.ask(second, hello, {}, false, "n2");
  ASSERT_TRUE(cluster.run_until([&] { return cluster.replies.contains(again); }));
  const auto reply = body_of<NodeHelloReply>(cluster.replies.at(again));
  EXPECT_EQ(reply.dropped, (std::vector<LeaseKey>{LeaseKey{JobId{99}, 0, 0}}));
  for (const NodeReport& report : cluster.at(second).node_reports(cluster.now)) {
    if (report.id == NodeId{2}) {
      EXPECT_GE(report.leased, 1U);
    }
  }
}

}  // namespace
}  // namespace idunno

#include "nodes/runtime/swim_shell.h"

#include <algorithm>
#include <optional>

#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

using test::kCluster;

/// Nodes of one cluster in one process and on one loop, each with its own sockets and key.
class SwimShellTest : public test::ClusterFixture {
 protected:
  struct Node {
    std::unique_ptr<RpcServer> rpc;
    std::unique_ptr<RpcServer> ping;
    std::unique_ptr<RpcClient> client;
    std::unique_ptr<SwimShell> shell;  // destroyed first: the client calls nobody while it is destroyed
    std::vector<MemberChange> changes;
  };
  static constexpr std::uint32_t kNodes = 4;

  SwimShellTest() {
    AdmittedKeys known = admitted;
    for (std::uint32_t i = 1; i <= kNodes; ++i) {
      const NodeId id{i};
      node_keys[id] = generate_key_pair(to_string(id), Role::node).value();
      EXPECT_TRUE(known.add({to_string(id), Role::node, node_keys[id].public_key}).ok());
      peers[id] = {"127.0.0.1", test::free_ports(), node_keys[id].public_key};
      ids.push_back(id);
    }
    zap->replace(known);
  }
  ~SwimShellTest() override { nodes.clear(); }

  std::unique_ptr<RpcServer> bind(NodeId id, Service service) {
    return RpcServer::bind(loop, *context,
                           {endpoint_of(peers[id], service), node_keys[id], kCluster, kControlMessageBytesMax, 1000, 256})
        .value();
  }
  std::unique_ptr<RpcClient> client_of(const KeyPair& pair) {
    return RpcClient::create(loop, *context, {pair, kCluster, peers, kControlMessageBytesMax, 4096}).value();
  }
  void start(NodeId id, std::uint64_t incarnation) {
    auto node = std::make_unique<Node>();
    node->rpc = bind(id, Service::rpc);
    node->ping = bind(id, Service::ping);
    node->client = client_of(node_keys[id]);
    SwimShell::Options options{id, ids, Incarnation{incarnation}, id.value + incarnation, {}};
    node->shell = std::make_unique<SwimShell>(loop, *node->client, *node->ping, *node->rpc, options,
                                              [raw = node.get()](const MemberChange& change) { raw->changes.push_back(change); });
    nodes[id] = std::move(node);
  }
  bool all_see(NodeId of, NodeState state) {
    return std::all_of(nodes.begin(), nodes.end(),
                       [&](const auto& entry) { return entry.first == of || entry.second->shell->state_of(of) == state; });
  }
  bool start_all() {
    for (const NodeId id : ids) start(id, 1000);
    return run_until(
        [&] { return std::all_of(ids.begin(), ids.end(), [&](NodeId id) { return all_see(id, NodeState::alive); }); });
  }
  /// All pairs have met on a connection of their own.
  void let_all_meet() {
    const Time until = monotonic_now() + SwimConfig{}.probe_interval * (2 * kNodes);
    loop.run_until([] { return false; }, until);
  }
  template <class Req>
  Result<typename Req::Reply> ask_node(NodeId id, Service service, const Req& request, const KeyPair& pair) {
    const auto from = client_of(pair);
    std::optional<Result<typename Req::Reply>> answer;
    from->call<Req>(id, service, request, {}, {}, [&](Result<RpcReply<typename Req::Reply>> result, NodeId) {
      answer = result ? Result<typename Req::Reply>(result->body) : Result<typename Req::Reply>(result.error());
    });
    run_until([&] { return answer.has_value(); });
    return *answer;
  }

  std::vector<NodeId> ids;
  std::map<NodeId, KeyPair> node_keys;
  AddressBook peers;
  std::map<NodeId, std::unique_ptr<Node>> nodes;
};

TEST_F(SwimShellTest, NodesFindEachOtherAndAClosedConnectionIsADeath) {
  ASSERT_TRUE(start_all());
  let_all_meet();
  const Time died = monotonic_now();
  nodes.erase(NodeId{2});
  ASSERT_TRUE(run_until([&] { return all_see(NodeId{2}, NodeState::dead); }));
  RecordProperty("death_known_after_ms", static_cast<int>((monotonic_now() - died).count() / 1000));
  for (const auto& [id, node] : nodes) {
    ASSERT_FALSE(node->changes.empty());
    EXPECT_EQ(node->changes.back().node, NodeId{2});
    EXPECT_NE(node->changes.back().why.find("connection was closed"), std::string::npos) << node->changes.back().why;
  }
  start(NodeId{2}, 2000);
  ASSERT_TRUE(run_until([&] { return all_see(NodeId{2}, NodeState::alive); }));
  EXPECT_EQ(nodes[NodeId{1}]->shell->members()[1].incarnation, Incarnation{2000});
}

TEST_F(SwimShellTest, ListAndHistoryAreAnsweredOverRpc) {
  const WallMs before = wall_now_ms();
  ASSERT_TRUE(start_all());
  nodes[NodeId{3}]->shell->leave();
  ASSERT_TRUE(run_until([&] { return all_see(NodeId{3}, NodeState::left); }));
  nodes.erase(NodeId{3});

  const auto list = ask_node(NodeId{1}, Service::rpc, MemberListRequest{}, keys[Role::read]);
  ASSERT_TRUE(list.ok()) << list.error().detail;
  EXPECT_EQ(list->answered_by, NodeId{1});
  ASSERT_EQ(list->members.size(), kNodes);
  EXPECT_EQ(list->members[0].state, NodeState::alive);
  EXPECT_EQ(list->members[2].state, NodeState::left);
  EXPECT_EQ(list->members[2].incarnation, Incarnation{1000});
  EXPECT_GE(list->members[2].since_ms, before);
  EXPECT_LE(list->members[2].since_ms, wall_now_ms());

  const auto history = ask_node(NodeId{1}, Service::rpc, MemberHistoryRequest{}, keys[Role::read]);
  ASSERT_TRUE(history.ok()) << history.error().detail;
  ASSERT_GE(history->events.size(), kNodes);  // the others joined, one left
  EXPECT_EQ(history->events.front().from, NodeState::unknown);
  EXPECT_EQ(history->events.back().node, NodeId{3});
  EXPECT_EQ(history->events.back().to, NodeState::left);
  EXPECT_EQ(history->events.back().why, "it said good-bye");
  const auto last = ask_node(NodeId{1}, Service::rpc, MemberHistoryRequest{1}, keys[Role::read]);
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last->events, std::vector{history->events.back()});
}

TEST_F(SwimShellTest, NobodySpeaksInAnothersName) {
  ASSERT_TRUE(start_all());
  SwimMessage lie;
  lie.from = NodeId{2};
  lie.incarnation = Incarnation{1000};
  lie.leaving = true;
  const auto refused = ask_node(NodeId{1}, Service::ping, SwimProbe{lie}, node_keys[NodeId{3}]);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_EQ(nodes[NodeId{1}]->shell->refused(), 1U);
  EXPECT_EQ(nodes[NodeId{1}]->shell->state_of(NodeId{2}), NodeState::alive);
  const auto no_node = ask_node(NodeId{1}, Service::ping, SwimProbe{lie}, keys[Role::admin]);
  ASSERT_FALSE(no_node.ok());
  EXPECT_EQ(no_node.error().code, Errc::forbidden);
  const auto own_name = ask_node(NodeId{1}, Service::ping, SwimProbe{lie}, node_keys[NodeId{2}]);
  EXPECT_TRUE(own_name.ok());
  EXPECT_EQ(nodes[NodeId{1}]->shell->state_of(NodeId{2}), NodeState::left);
}

}  // namespace
}  // namespace idunno

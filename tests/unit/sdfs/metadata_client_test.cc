/// One call of MetadataClient over nodes that refuse, die, are silent, or name others: answered once, under one request id.

#include <gtest/gtest.h>

#include <set>

#include "tests/unit/sdfs/fake_cluster.h"

namespace idunno::test {
namespace {

/// What a node does with a request.
enum class Manner { leads, names_leader, no_leader, silent, stale_state, dead };

class MetadataClientTest : public ClusterFixture {
 protected:
  struct Node {
    PeerAddress address;
    std::unique_ptr<RpcServer> server;
    Manner manner = Manner::names_leader;
    std::vector<RequestId> asked;
    std::vector<std::uint8_t> flags;
    std::vector<RequestContext> unanswered;
  };

  void start(const std::vector<Manner>& manners, Duration timeout = std::chrono::seconds(15)) {
    for (std::uint32_t i = 1; i <= manners.size(); ++i) {
      Node& node = nodes_[NodeId{i}];
      node.manner = manners[i - 1];
      if (node.manner == Manner::leads) leader_ = NodeId{i};
      node.address = PeerAddress{"127.0.0.1", free_ports(), keys.at(Role::node).public_key};
      if (node.manner != Manner::dead) serve(NodeId{i});
    }
    AddressBook book;
    std::vector<NodeId> ids;
    for (const auto& [id, node] : nodes_) {
      book[id] = node.address;
      ids.push_back(id);
    }
    rpc_ = RpcClient::create(loop, *context, {keys[Role::submit], kCluster, book, kDataMessageBytesMax, 4096}).value();
    client_ = std::make_unique<MetadataClient>(loop, *rpc_, ids, timeout);
  }
  void serve(NodeId id) {
    Node& node = nodes_[id];
    node.server =
        RpcServer::bind(loop, *context,
                        {endpoint_of(node.address, Service::rpc), keys[Role::node], kCluster, kControlMessageBytesMax, 1000, 256})
            .value();
    node.server->on<PlacementRequest>([this, &node](const RequestContext& peer, const PlacementRequest&, const Payload&) {
      node.asked.push_back(peer.header.request);
      node.flags.push_back(peer.header.flags);
      if (when_asked_) when_asked_(peer.header.request);
      answer(node, peer);
    });
  }
  void answer(Node& node, const RequestContext& peer) {
    switch (node.manner) {
      case Manner::leads:
        return node.server->reply(peer, PlacementReply{7, {}});
      case Manner::names_leader:
        return node.server->reply_error(peer, Error{Errc::not_leader, "not me"}, leader_);
      case Manner::no_leader:
        return node.server->reply_error(peer, Error{Errc::no_coordinator, "an election is under way"});
      case Manner::stale_state:
        return node.server->reply_raw(peer, MessageType::placement_reply, encode(PlacementReply{3, {}}), kFlagStale);
      case Manner::silent:
        node.unanswered.push_back(peer);
        return;
      case Manner::dead:
        return;
    }
  }
  /// The call, to its end: answered exactly once.
  Result<PlacementReply> ask(MetadataClient::CallOptions options = {}) {
    std::optional<Result<PlacementReply>> got;
    client_->call<PlacementRequest>(
        {},
        [&](Result<PlacementReply> reply) {
          ++answers_;
          got = std::move(reply);
        },
        options);
    EXPECT_FALSE(got) << "must not be answered before it returns";
    run_until([&] { return got.has_value(); });
    EXPECT_EQ(answers_, 1);
    return got ? std::move(*got) : Result<PlacementReply>(Error{Errc::internal, "never answered"});
  }
  std::set<RequestId> ids_seen() const {
    std::set<RequestId> ids;
    for (const auto& [id, node] : nodes_) ids.insert(node.asked.begin(), node.asked.end());
    return ids;
  }

  std::map<NodeId, Node> nodes_;
  NodeId leader_;
  int answers_ = 0;
  std::function<void(RequestId)> when_asked_;
  std::unique_ptr<RpcClient> rpc_;
  std::unique_ptr<MetadataClient> client_;
};

TEST_F(MetadataClientTest, FollowsTheNameOfTheLeader) {
  start({Manner::names_leader, Manner::names_leader, Manner::leads});
  EXPECT_EQ(ask()->replication, 7U);
  EXPECT_TRUE(nodes_[NodeId{2}].asked.empty()) << "n1 has named n3";
  EXPECT_EQ(client_->coordinator_hint(), NodeId{3});
  EXPECT_EQ(ids_seen().size(), 1U);
}

TEST_F(MetadataClientTest, GoesOnThroughAnElectionWithOneRequestId) {
  start({Manner::no_leader, Manner::no_leader, Manner::no_leader});
  int requests = 0;
  when_asked_ = [&](RequestId) {
    if (++requests == 20) nodes_[NodeId{2}].manner = Manner::leads;
  };
  EXPECT_TRUE(ask().ok());
  EXPECT_GE(requests, 20);
  EXPECT_EQ(ids_seen().size(), 1U);
}

TEST_F(MetadataClientTest, AClosedConnectionEndsTheAttemptAtOnce) {
  start({Manner::leads, Manner::names_leader, Manner::names_leader});
  ASSERT_TRUE(ask().ok());
  answers_ = 0;
  // n1 dies with the request in its hands; n3 leads then.
  nodes_[NodeId{1}].manner = Manner::silent;
  when_asked_ = [&](RequestId) {
    when_asked_ = nullptr;
    loop.post([&] {
      nodes_[NodeId{1}].server.reset();
      nodes_[NodeId{3}].manner = Manner::leads;
      leader_ = NodeId{3};
    });
  };
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(client_->coordinator_hint(), NodeId{3});
  EXPECT_EQ(nodes_[NodeId{1}].asked.back(), nodes_[NodeId{3}].asked.back()) << "the same request";
}

TEST_F(MetadataClientTest, APausedCoordinatorIsNotWaitedFor) {
  start({Manner::leads, Manner::names_leader, Manner::names_leader});
  ASSERT_TRUE(ask().ok());
  answers_ = 0;
  nodes_[NodeId{1}].manner = Manner::silent;
  nodes_[NodeId{2}].manner = Manner::leads;
  leader_ = NodeId{2};
  EXPECT_TRUE(ask().ok());
  // The old coordinator had the request once and still owes the answer: it was not given up, and not asked again.
  ASSERT_EQ(nodes_[NodeId{1}].unanswered.size(), 1U);
  EXPECT_EQ(nodes_[NodeId{2}].asked.back(), nodes_[NodeId{1}].asked.back());
  // When it wakes, its late answer changes nothing.
  nodes_[NodeId{1}].server->reply(nodes_[NodeId{1}].unanswered.front(), PlacementReply{99, {}});
  (void)loop.run_until([] { return false; }, monotonic_now() + std::chrono::milliseconds(50));
  EXPECT_EQ(answers_, 1);
  EXPECT_EQ(client_->coordinator_hint(), NodeId{2});
}

TEST_F(MetadataClientTest, TheAnswerOfASlowCoordinatorStillCounts) {
  start({Manner::silent, Manner::names_leader, Manner::names_leader});
  leader_ = NodeId{1};
  // The others were asked meanwhile, and name the one that is slow.
  when_asked_ = [&](RequestId) {
    Node& slow = nodes_[NodeId{1}];
    if (nodes_[NodeId{2}].asked.empty() || slow.unanswered.empty()) return;
    slow.server->reply(slow.unanswered.front(), PlacementReply{5, {}});
    slow.unanswered.clear();
  };
  EXPECT_EQ(ask()->replication, 5U);
  EXPECT_EQ(nodes_[NodeId{1}].asked.size(), 1U) << "one request at a time to a node";
  EXPECT_EQ(ids_seen().size(), 1U);
}

TEST_F(MetadataClientTest, NodesThatAreDownAreAskedLast) {
  start({Manner::dead, Manner::dead, Manner::dead, Manner::leads});
  EXPECT_TRUE(ask().ok());
  answers_ = 0;
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(nodes_[NodeId{4}].asked.size(), 2U);
}

TEST_F(MetadataClientTest, AnswersOnceWhenNobodyEverDoes) {
  start({Manner::silent, Manner::dead, Manner::no_leader});
  MetadataClient::CallOptions options;
  options.timeout = std::chrono::milliseconds(700);
  const auto reply = ask(options);
  ASSERT_FALSE(reply.ok());
  EXPECT_EQ(reply.error().code, Errc::no_coordinator);
  (void)loop.run_until([] { return false; }, monotonic_now() + std::chrono::milliseconds(100));
  EXPECT_EQ(answers_, 1);
}

TEST_F(MetadataClientTest, AChosenRequestIdIsKept) {
  start({Manner::names_leader, Manner::leads});
  MetadataClient::CallOptions options;
  options.request = RequestId{123, 456};
  EXPECT_TRUE(ask(options).ok());
  EXPECT_EQ(ids_seen(), (std::set<RequestId>{RequestId{123, 456}}));
}

TEST_F(MetadataClientTest, AStaleReadTakesWhatAnyNodeHasAndSaysSo) {
  start({Manner::stale_state, Manner::stale_state, Manner::stale_state});
  MetadataClient::CallOptions options;
  options.stale = true;
  EXPECT_EQ(ask(options)->replication, 3U);
  EXPECT_EQ(client_->stale_answers(), 1U);
  for (const auto& [id, node] : nodes_) {
    for (const std::uint8_t flags : node.flags) EXPECT_EQ(flags, kFlagStale);
  }
}

TEST_F(MetadataClientTest, AReadIsNotStaleUnlessItIsAskedFor) {
  start({Manner::leads});
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(nodes_[NodeId{1}].flags.at(0), 0U);
  EXPECT_EQ(client_->stale_answers(), 0U);
  answers_ = 0;
  client_->set_stale_reads(true);
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(nodes_[NodeId{1}].flags.at(1), kFlagStale);
  EXPECT_EQ(client_->stale_answers(), 0U) << "the coordinator itself answered";
}

TEST_F(MetadataClientTest, AStaleReadGoesPastNodesThatAreDown) {
  start({Manner::dead, Manner::stale_state, Manner::dead});
  MetadataClient::CallOptions options;
  options.stale = true;
  EXPECT_EQ(ask(options)->replication, 3U);
}

}  // namespace
}  // namespace idunno::test

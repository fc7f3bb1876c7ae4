#include "bus/rpc.h"

#include <zmq.h>

#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

using test::kCluster;

class Rpc : public test::ClusterFixture {};

RpcClient::CallOptions within(std::chrono::milliseconds timeout) { return {timeout, {}, {}}; }

TEST_F(Rpc, AnswersCarryHeaderBodyAndPayload) {
  const auto server = serve(Service::data, kDataMessageBytesMax, 16);
  server->set_epoch(Epoch{9});
  server->on<PutBlocks>([&](const RequestContext& request, const PutBlocks& body, const Payload& payload) {
    EXPECT_EQ(request.peer.role, Role::submit);
    EXPECT_EQ(request.peer.key_name, "submit");
    EXPECT_EQ(request.header.deadline_ms, 5000U);
    EXPECT_EQ(payload.size(), body.blocks.at(0).length);
    EXPECT_EQ(payload.view().front(), 'p');
    server->reply(request, PutBlocksReply{{BlockStatus::full}});
  });
  server->on<GetBlocks>([&](const RequestContext& request, const GetBlocks&, const Payload&) {
    server->reply(request, GetBlocksReply{{BlockStatus::ok}}, Payload(Bytes(4U << 20U, 'g')));
  });
  const auto from = client(Role::submit);
  BlockKey key;
  key.length = 1U << 20U;
  const RequestId id{5, 6};
  const auto put =
      ask(*from, PutBlocks{{key}}, Service::data, Payload(Bytes(key.length, 'p')), {std::chrono::seconds(5), id, {}});
  ASSERT_TRUE(put.ok()) << put.error().detail;
  EXPECT_EQ(put->header.request, id);
  EXPECT_EQ(put->header.epoch, Epoch{9});
  EXPECT_EQ(put->body.statuses, std::vector{BlockStatus::full});
  const auto get = ask(*from, GetBlocks{{key}}, Service::data);
  ASSERT_TRUE(get.ok()) << get.error().detail;
  EXPECT_EQ(get->payload.size(), 4U << 20U);
  EXPECT_EQ(get->payload.view().back(), 'g');
}

TEST_F(Rpc, AnErrorReplyNamesCodeDetailAndLeader) {
  const auto server = serve();
  server->on<StatusRequest>([&](const RequestContext& request, const StatusRequest&, const Payload&) {
    server->reply_error(request, Error{Errc::not_leader, "ask n4"}, NodeId{4});
  });
  const auto from = client(Role::read);
  NodeId leader;
  const auto answer = ask(*from, StatusRequest{}, Service::rpc, {}, {}, &leader);
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, Errc::not_leader);
  EXPECT_EQ(answer.error().detail, "ask n4");
  EXPECT_EQ(leader, NodeId{4});
}

TEST_F(Rpc, RawRepliesAndPushesAreLikeTypedOnes) {
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) {
    EXPECT_TRUE(server->push(request.peer, LeaseDrop{JobId{3}, true}).ok());
    EXPECT_TRUE(server->push_raw(request.peer, LeaseDrop::kType, encode(LeaseDrop{JobId{4}, false})).ok());
    server->reply_raw(request, Pong::kType, encode(Pong{NodeId{1}, {}}));
  });
  const auto from = client(Role::node);
  std::vector<JobId> dropped;
  from->on_push<LeaseDrop>([&](NodeId node, const Header& header, const LeaseDrop& drop) {
    EXPECT_EQ(node, NodeId{1});
    EXPECT_EQ(header.request, RequestId{});
    dropped.push_back(drop.job);
  });
  const auto pong = ask(*from, Ping{});
  ASSERT_TRUE(pong.ok()) << pong.error().detail;
  EXPECT_EQ(pong->body.node, NodeId{1});
  EXPECT_TRUE(run_until([&] { return dropped.size() == 2; }));
  EXPECT_EQ(dropped, (std::vector{JobId{3}, JobId{4}}));
}

TEST_F(Rpc, APushToAPeerThatIsGoneIsUnavailable) {
  const auto server = serve();
  EXPECT_EQ(server->push(PeerHandle{"\x01\x02\x03\x04\x05", Role::node, "node"}, LeaseDrop{}).error().code, Errc::unavailable);
}

TEST_F(Rpc, RolesAreCheckedBeforeTheHandler) {
  const auto server = serve();
  int handled = 0;
  server->on<FsRemoveRequest>([&](const RequestContext& request, const FsRemoveRequest&, const Payload&) {
    ++handled;
    server->reply(request, FsRemoveReply{});
  });
  server->on<Heartbeat>([&](const RequestContext& request, const Heartbeat&, const Payload&) {
    ++handled;
    server->reply(request, HeartbeatReply{});
  });
  for (const Role role : {Role::read, Role::submit, Role::admin, Role::node}) {
    const auto from = client(role);
    const auto removed = ask(*from, FsRemoveRequest{});
    const auto beat = ask(*from, Heartbeat{});
    EXPECT_EQ(removed.ok(), role != Role::read) << to_string(role);
    EXPECT_EQ(beat.ok(), role == Role::node) << to_string(role);
    if (!beat) {
      EXPECT_EQ(beat.error().code, Errc::forbidden);
    }
  }
  EXPECT_EQ(handled, 4);
  EXPECT_EQ(server->refused_messages(), 4U);
}

TEST_F(Rpc, AKeyThatIsNotAdmittedIsForbiddenUntilItIs) {
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  const auto from = client(stranger);
  const auto refused = ask(*from, Ping{});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Errc::forbidden);
  EXPECT_NE(refused.error().detail.find("key not admitted"), std::string::npos);
  EXPECT_GE(zap->refused(), 1U);
  ASSERT_TRUE(admitted.add({"stranger", Role::read, stranger.public_key}).ok());
  zap->replace(admitted);
  const auto answer = ask(*from, Ping{});
  EXPECT_TRUE(answer.ok()) << answer.error().detail;
}

TEST_F(Rpc, WithoutAZapHandlerNobodyIsAdmitted) {
  zap.reset();
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  const auto from = client(Role::admin);
  EXPECT_FALSE(ask(*from, Ping{}, Service::rpc, {}, within(std::chrono::milliseconds(500))).ok());
}

TEST_F(Rpc, AServerWithAnotherKeyIsNotTalkedTo) {
  const auto server = RpcServer::bind(loop, *context, {endpoint(Service::rpc), stranger, kCluster}).value();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  const auto from = client(Role::admin);
  const auto answer = ask(*from, Ping{});
  ASSERT_FALSE(answer.ok());
  EXPECT_TRUE(answer.error().code == Errc::unavailable || answer.error().code == Errc::timeout) << answer.error().detail;
}

TEST_F(Rpc, WhatTheServerCannotTakeIsAnsweredWithTheReason) {
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  const auto from = client(Role::admin);
  const auto unknown = ask(*from, StatusRequest{});
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, Errc::invalid);
  EXPECT_NE(unknown.error().detail.find("status is not served"), std::string::npos) << unknown.error().detail;
  const auto stray = client(keys[Role::admin], kCluster + 1);
  const auto other = ask(*stray, Ping{});
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code, Errc::invalid);
  EXPECT_NE(other.error().detail.find("another cluster"), std::string::npos) << other.error().detail;
  EXPECT_EQ(server->refused_messages(), 2U);
  EXPECT_TRUE(ask(*from, Ping{}).ok());
}

/// A DEALER without our client, for bytes that it would never send.
class RawDealer {
 public:
  RawDealer(void* context, const KeyPair& keys, const PeerAddress& server) : socket_(zmq_socket(context, ZMQ_DEALER)) {
    const int linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, server.public_key.data(), server.public_key.size());
    zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, keys.public_key.data(), keys.public_key.size());
    zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, keys.secret_key.data(), keys.secret_key.size());
    zmq_connect(socket_, endpoint_of(server, Service::rpc).c_str());
  }
  RawDealer(const RawDealer&) = delete;
  RawDealer& operator=(const RawDealer&) = delete;
  ~RawDealer() { zmq_close(socket_); }
  void send(ByteView bytes, bool more = false) const {
    EXPECT_GE(zmq_send(socket_, bytes.data(), bytes.size(), more ? ZMQ_SNDMORE : 0), 0);
  }
  [[nodiscard]] std::optional<Bytes> receive() const {
    Bytes bytes(65536, '\0');
    const int size = zmq_recv(socket_, bytes.data(), bytes.size(), ZMQ_DONTWAIT);
    if (size < 0) return std::nullopt;
    bytes.resize(static_cast<std::size_t>(size));
    return bytes;
  }

 private:
  void* socket_;
};

TEST_F(Rpc, GarbageIsCountedAndAnsweredAndHarmsNobody) {
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  const RawDealer raw(context->raw(), keys[Role::read], address());
  Header header;
  header.version = 200;
  header.request = {8, 9};
  std::vector<Bytes> answers;
  const auto collect = [&](std::size_t wanted) {
    // A timer looks for answers, because the loop does not watch this socket.
    std::function<void()> look = [&] {
      while (auto answer = raw.receive()) answers.push_back(*answer);
      if (answers.size() < wanted) loop.after(std::chrono::milliseconds(1), look);
    };
    look();
    return run_until([&] { return answers.size() >= wanted; });
  };
  raw.send("garbage");
  raw.send(encode_message(header, Ping{}));
  raw.send(encode_message(Header{}, Ping{}) + "x");
  ASSERT_TRUE(collect(3));
  const auto second = decode_message(answers[1]);
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->header.request, header.request);
  EXPECT_NE(second->body<ErrorReply>()->detail.find("version 200"), std::string::npos);
  EXPECT_EQ(server->refused_messages(), 3U);
  raw.send("a", true);  // four frames: thrown away without an answer
  raw.send("b", true);
  raw.send("c", true);
  raw.send("d");
  EXPECT_TRUE(run_until([&] { return server->refused_messages() == 4; }));
  header.version = kProtocolVersion;
  header.cluster = kCluster;
  raw.send(encode_message(header, Ping{}));
  ASSERT_TRUE(collect(4));
  EXPECT_EQ(decode_message(answers[3])->header.type, MessageType::pong);
}

TEST_F(Rpc, TimeoutsAndLateAnswers) {
  const auto server = serve();
  std::vector<RequestContext> held;
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { held.push_back(request); });
  const auto from = client(Role::read);
  const auto answer = ask(*from, Ping{}, Service::rpc, {}, within(std::chrono::milliseconds(200)));
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, Errc::timeout);
  ASSERT_EQ(held.size(), 1U);
  server->reply(held[0], Pong{});  // late: nobody waits for it
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) {
    server->reply(request, Pong{NodeId{2}, {}});
  });
  const auto next = ask(*from, Ping{});
  ASSERT_TRUE(next.ok());
  EXPECT_EQ(next->body.node, NodeId{2});
}

TEST_F(Rpc, ANodeThatIsNotThereIsUnavailableBeforeTheTimeout) {
  const auto from = client(Role::read);
  const auto answer = ask(*from, Ping{}, Service::rpc, {}, within(std::chrono::minutes(10)));
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().code, Errc::unavailable);
  EXPECT_NE(answer.error().detail.find("is the node running?"), std::string::npos) << answer.error().detail;
  std::optional<Error> error;
  from->call(NodeId{9}, Service::rpc, Ping{}, {}, {}, [&](auto result, NodeId) { error = result.error(); });
  EXPECT_TRUE(run_until([&] { return error.has_value(); }));
  EXPECT_EQ(error->code, Errc::not_found);
}

TEST_F(Rpc, CallsWaitForAServerThatComesAndEndWhenItGoes) {
  const auto from = client(Role::read);
  std::vector<bool> connections;
  from->on_connection([&](NodeId, Service, bool connected) { connections.push_back(connected); });
  std::unique_ptr<RpcServer> server;
  const auto start = [&](bool answers) {
    server = serve();
    server->on<Ping>([&server, answers](const RequestContext& request, const Ping&, const Payload&) {
      if (answers) server->reply(request, Pong{});
    });
  };
  loop.after(std::chrono::milliseconds(50), [&] { start(false); });
  std::vector<Errc> errors;
  from->call(NodeId{1}, Service::rpc, Ping{}, {}, within(std::chrono::minutes(10)),
             [&](auto result, NodeId) { errors.push_back(result.error().code); });
  ASSERT_TRUE(run_until([&] { return connections == std::vector{true}; }));
  // In flight when the server dies: over at once, not after ten minutes.
  loop.after(std::chrono::milliseconds(20), [&] { server.reset(); });
  ASSERT_TRUE(run_until([&] { return !errors.empty(); }));
  EXPECT_EQ(errors, std::vector{Errc::unavailable});
  EXPECT_EQ(connections, (std::vector{true, false}));
  start(true);
  ASSERT_TRUE(run_until([&] { return connections.size() == 3; }));  // the same client finds the new server by itself
  EXPECT_TRUE(ask(*from, Ping{}).ok());
}

TEST_F(Rpc, DisconnectEndsCallsAndTheNextCallConnectsAgain) {
  const auto server = serve();
  bool answers = false;
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) {
    if (answers) {
      server->reply(request, Pong{});
    } else {
      loop.after(Duration(0), [&] { answers = true; });
    }
  });
  const auto from = client(Role::read);
  std::optional<Errc> error;
  from->call(NodeId{1}, Service::rpc, Ping{}, {}, {}, [&](auto result, NodeId) { error = result.error().code; });
  ASSERT_TRUE(run_until([&] { return answers; }));
  from->disconnect(NodeId{1}, Service::rpc);
  EXPECT_EQ(error, Errc::unavailable);
  EXPECT_TRUE(ask(*from, Ping{}).ok());
}

TEST_F(Rpc, BoundsAreKept) {
  const auto server = serve();
  server->on<Ping>([&](const RequestContext& request, const Ping&, const Payload&) { server->reply(request, Pong{}); });
  server->on<FsListRequest>([&](const RequestContext& request, const FsListRequest&, const Payload&) {
    FsListReply reply;
    reply.folders.assign(100, Bytes(60000, 'x'));  // more than a message may have
    server->reply(request, reply);
  });
  const auto from = client(keys[Role::read], kCluster, 2);
  std::vector<Errc> errors;
  int answers = 0;
  for (int i = 0; i < 3; ++i) {
    from->call(NodeId{1}, Service::rpc, Ping{}, {}, {},
               [&](auto result, NodeId) { result.ok() ? static_cast<void>(++answers) : errors.push_back(result.error().code); });
  }
  ASSERT_TRUE(run_until([&] { return answers == 2 && !errors.empty(); }));
  EXPECT_EQ(errors, std::vector{Errc::full});
  FsRemoveRequest large;
  large.paths.assign(30, Bytes(60000, 'x'));
  EXPECT_EQ(ask(*from, large).error().code, Errc::too_large);
  EXPECT_EQ(ask(*from, FsListRequest{}).error().code, Errc::too_large);
  EXPECT_TRUE(ask(*from, Ping{}).ok());  // the connection has survived all that
}

TEST_F(Rpc, EachOfManyCallsIsAnsweredOnceAlsoWhenQueuesAreShort) {
  const auto server = serve(Service::data, kDataMessageBytesMax, 4);
  server->on<GetBlocks>([&](const RequestContext& request, const GetBlocks& body, const Payload&) {
    server->reply(request, GetBlocksReply{{BlockStatus::ok}}, Payload(Bytes(body.blocks.at(0).length, 'x')));
  });
  const auto from = client(Role::read);
  constexpr int kCalls = 200;
  std::vector<int> answers(kCalls, 0);
  int done = 0;
  for (int i = 0; i < kCalls; ++i) {
    BlockKey key;
    key.length = 256U << 10U;
    from->call(NodeId{1}, Service::data, GetBlocks{{key}}, {}, within(std::chrono::minutes(1)), [&, i](auto result, NodeId) {
      EXPECT_TRUE(result.ok());
      ++answers[static_cast<std::size_t>(i)];
      ++done;
    });
  }
  ASSERT_TRUE(run_until([&] { return done == kCalls; }));
  EXPECT_EQ(answers, std::vector<int>(kCalls, 1));
}

TEST_F(Rpc, ATakenPortIsUnavailable) {
  const auto server = serve();
  const auto second = RpcServer::bind(loop, *context, {endpoint(Service::rpc), keys[Role::node], kCluster});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::unavailable);
  EXPECT_NE(second.error().detail.find(endpoint(Service::rpc)), std::string::npos);
}

}  // namespace
}  // namespace idunno

#include "bus/log_link.h"

#include <zmq.h>

#include <algorithm>

#include "bus/zmq_socket.h"
#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

using test::kCluster;

struct Heard {
  NodeId from;
  Bytes message;
  bool operator==(const Heard&) const = default;
};

/// Nodes n1, n2, ... with keys of their own, each with a link to all the others.
class LogLinkTest : public test::ClusterFixture {
 protected:
  struct Node {
    KeyPair keys;
    std::vector<Heard> heard;
    std::unique_ptr<LogLink> link;
  };

  void add(std::uint32_t id) {
    Node& node = nodes[NodeId{id}];
    node.keys = generate_key_pair("n" + std::to_string(id), Role::node).value();
    ASSERT_TRUE(admitted.add({node.keys.name, Role::node, node.keys.public_key}).ok());
    zap->replace(admitted);
    book[NodeId{id}] = {"127.0.0.1", test::free_ports(), node.keys.public_key};
  }

  Result<std::unique_ptr<LogLink>> try_open(NodeId id, std::uint64_t cluster = kCluster) {
    Node& node = nodes.at(id);
    return LogLink::open(loop, *context, {id, endpoint_of(book.at(id), Service::log), node.keys, cluster, book},
                         [&node](NodeId from, ByteView message) {
                           node.heard.push_back({from, Bytes(message)});
                         });
  }

  /// The port of a link that was closed a moment ago is free a little later: libzmq closes in its own thread.
  void open(NodeId id, std::uint64_t cluster = kCluster) {
    Node& node = nodes.at(id);
    const Time deadline = monotonic_now() + test::kPatience;
    auto opened = try_open(id, cluster);
    while (!opened && opened.error().code == Errc::unavailable && monotonic_now() < deadline) opened = try_open(id, cluster);
    ASSERT_TRUE(opened.ok()) << opened.error().detail;
    node.link = std::move(opened).value();
  }

  /// Sends every 2 ms until `done`: what is sent before a peer has connected is lost.
  bool send_until(NodeId from, NodeId to, const Bytes& message, const std::function<bool()>& done) {
    EventLoop::TimerId timer = 0;
    std::function<void()> tick = [&] {
      nodes.at(from).link->send(to, message);
      timer = loop.after(std::chrono::milliseconds(2), tick);
    };
    tick();
    const bool seen = run_until(done);
    loop.cancel(timer);
    return seen;
  }

  [[nodiscard]] std::size_t count(NodeId at, const Heard& what) const {
    const auto& heard = nodes.at(at).heard;
    return static_cast<std::size_t>(std::count(heard.begin(), heard.end(), what));
  }

  std::map<NodeId, Node> nodes;
  AddressBook book;
};

const NodeId kOne{1};
const NodeId kTwo{2};
const NodeId kThree{3};

TEST_F(LogLinkTest, TwoNodesHearEachOtherInOrder) {
  for (const std::uint32_t id : {1U, 2U}) add(id);
  for (const NodeId id : {kOne, kTwo}) open(id);
  ASSERT_TRUE(send_until(kOne, kTwo, "hello", [&] { return count(kTwo, {kOne, "hello"}) > 0; }));
  ASSERT_TRUE(send_until(kTwo, kOne, "", [&] { return count(kOne, {kTwo, ""}) > 0; }));
  nodes[kTwo].heard.clear();
  for (int i = 0; i < 1000; ++i) nodes[kOne].link->send(kTwo, std::to_string(i));
  ASSERT_TRUE(run_until([&] { return count(kTwo, {kOne, "999"}) > 0; }));
  ASSERT_EQ(nodes[kTwo].heard.size(), 1000U);
  for (std::size_t i = 0; i < 1000; ++i) EXPECT_EQ(nodes[kTwo].heard[i], (Heard{kOne, std::to_string(i)}));
  EXPECT_EQ(nodes[kTwo].link->refused_messages(), 0U);
}

TEST_F(LogLinkTest, ThreeNodesKnowWhoSentAndHearOnlyWhatIsForThem) {
  for (const std::uint32_t id : {1U, 2U, 3U}) add(id);
  for (const auto& [id, node] : nodes) open(id);
  for (const auto& [from, sender] : nodes) {
    for (const auto& [to, receiver] : nodes) {
      if (from == to) continue;
      const Bytes message = to_string(from) + " to " + to_string(to);
      ASSERT_TRUE(send_until(from, to, message, [&, to = to, from = from] { return count(to, {from, message}) > 0; })) << message;
    }
  }
  for (const auto& [to, receiver] : nodes) {
    for (const Heard& heard : receiver.heard) EXPECT_EQ(heard.message, to_string(heard.from) + " to " + to_string(to));
  }
}

TEST_F(LogLinkTest, N1DoesNotHearWhatIsForN10) {
  for (const std::uint32_t id : {1U, 2U, 10U}) add(id);
  for (const auto& [id, node] : nodes) open(id);
  const NodeId ten{10};
  ASSERT_TRUE(send_until(kTwo, kOne, "for n1", [&] { return count(kOne, {kTwo, "for n1"}) > 0; }));
  ASSERT_TRUE(send_until(kTwo, ten, "for n10", [&] { return count(ten, {kTwo, "for n10"}) > 0; }));
  // n1 gets what was sent after it: so it was not merely late.
  ASSERT_TRUE(send_until(kTwo, kOne, "end", [&] { return count(kOne, {kTwo, "end"}) > 0; }));
  EXPECT_EQ(count(kOne, {kTwo, "for n10"}), 0U);
  EXPECT_EQ(count(ten, {kTwo, "for n1"}), 0U);
  EXPECT_EQ(nodes[kOne].link->refused_messages(), 0U);
}

TEST_F(LogLinkTest, TheLargestMessageArrives) {
  for (const std::uint32_t id : {1U, 2U}) add(id);
  for (const NodeId id : {kOne, kTwo}) open(id);
  ASSERT_TRUE(send_until(kOne, kTwo, "there?", [&] { return count(kTwo, {kOne, "there?"}) > 0; }));
  Bytes large(kLogMessageBytesMax, 'x');
  for (std::size_t i = 0; i < large.size(); i += 4096) large[i] = static_cast<char>(i / 4096);
  nodes[kTwo].heard.clear();
  nodes[kOne].link->send(kTwo, large);
  ASSERT_TRUE(run_until([&] { return !nodes[kTwo].heard.empty(); }));
  EXPECT_TRUE(nodes[kTwo].heard[0] == (Heard{kOne, large}));
}

/// A reader of everything, as anybody could write it who knows the server's public key.
class Eavesdropper {
 public:
  Eavesdropper(EventLoop& loop, ZmqContext& context, const KeyPair& keys, const PeerAddress& server)
      : loop_(loop), socket_(sockets::make(context.raw(), ZMQ_SUB, {1000, kLogMessageBytesMax}).value()) {
    EXPECT_TRUE(socket_.set(ZMQ_SUBSCRIBE, std::string()));
    EXPECT_TRUE(sockets::make_curve_client(socket_, keys, server.public_key).ok());
    EXPECT_TRUE(sockets::connect(socket_, endpoint_of(server, Service::log)).ok());
    loop_.add_socket(socket_.raw(), [this] {
      std::vector<zmq::message_t> frames;
      while (sockets::receive(socket_.raw(), frames) != sockets::Received::nothing) ++heard;
    });
  }
  ~Eavesdropper() { loop_.remove_socket(socket_.raw()); }
  Eavesdropper(const Eavesdropper&) = delete;
  Eavesdropper& operator=(const Eavesdropper&) = delete;
  std::size_t heard = 0;

 private:
  EventLoop& loop_;
  sockets::Socket socket_;
};

TEST_F(LogLinkTest, OnlyKeysOfNodesMayListen) {
  for (const std::uint32_t id : {1U, 2U}) add(id);
  for (const NodeId id : {kOne, kTwo}) open(id);
  std::uint64_t refused = zap->refused();
  for (const Role role : {Role::admin, Role::submit, Role::read, Role::none}) {
    const KeyPair& pair = role == Role::none ? stranger : keys[role];
    Eavesdropper spy(loop, *context, pair, book[kOne]);
    nodes[kTwo].heard.clear();
    ASSERT_TRUE(send_until(kOne, kTwo, "secret", [&] { return zap->refused() > refused && nodes[kTwo].heard.size() > 20; }))
        << to_string(role);
    EXPECT_EQ(spy.heard, 0U) << to_string(role);
    refused = zap->refused();
  }
  // The same reader with a node's key hears: so it was the key.
  Eavesdropper colleague(loop, *context, keys[Role::node], book[kOne]);
  ASSERT_TRUE(send_until(kOne, kTwo, "secret", [&] { return colleague.heard > 0; }));
}

TEST_F(LogLinkTest, AnUnknownKeyIsCountedHearsNothingAndGetsInOnceItIsAdmitted) {
  for (const std::uint32_t id : {1U, 2U, 3U}) add(id);
  ASSERT_TRUE(admitted.remove("n3").ok());
  zap->replace(admitted);
  for (const auto& [id, node] : nodes) open(id);
  ASSERT_TRUE(send_until(kOne, kTwo, "x", [&] { return zap->refused() >= 2 && nodes[kTwo].heard.size() > 20; }));
  for (int i = 0; i < 100; ++i) nodes[kOne].link->send(kThree, "secret");
  ASSERT_TRUE(admitted.add({"n3", Role::node, nodes[kThree].keys.public_key}).ok());
  zap->replace(admitted);
  ASSERT_TRUE(send_until(kOne, kThree, "welcome", [&] { return count(kThree, {kOne, "welcome"}) > 0; }));
  EXPECT_EQ(count(kThree, {kOne, "secret"}), 0U);
}

TEST_F(LogLinkTest, MessagesOfAnotherClusterAreIgnoredAndCounted) {
  for (const std::uint32_t id : {1U, 2U, 3U}) add(id);
  open(kOne, kCluster + 1);
  open(kTwo);
  open(kThree);
  ASSERT_TRUE(send_until(kOne, kTwo, "foreign", [&] { return nodes[kTwo].link->refused_messages() > 3; }));
  ASSERT_TRUE(send_until(kThree, kTwo, "own", [&] { return count(kTwo, {kThree, "own"}) > 0; }));
  EXPECT_EQ(count(kTwo, {kOne, "foreign"}), 0U);
}

TEST_F(LogLinkTest, ARestartedPeerIsHeardAgain) {
  for (const std::uint32_t id : {1U, 2U}) add(id);
  for (const NodeId id : {kOne, kTwo}) open(id);
  ASSERT_TRUE(send_until(kOne, kTwo, "first life", [&] { return count(kTwo, {kOne, "first life"}) > 0; }));
  for (int life = 2; life <= 4; ++life) {
    nodes[kOne].link.reset();
    // While it is gone nobody waits for it.
    for (int i = 0; i < 100; ++i) nodes[kTwo].link->send(kOne, "lost");
    open(kOne);
    const Bytes message = "life " + std::to_string(life);
    ASSERT_TRUE(send_until(kOne, kTwo, message, [&] { return count(kTwo, {kOne, message}) > 0; }));
    ASSERT_TRUE(send_until(kTwo, kOne, message, [&] { return count(kOne, {kTwo, message}) > 0; }));
  }
}

TEST_F(LogLinkTest, APortInUseAndTooManyPeersAreErrors) {
  add(1);
  open(kOne);
  const auto second = try_open(kOne);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::unavailable);
  add(2);
  for (std::uint32_t id = 3; id <= kLogPeersMax + 2; ++id) book[NodeId{id}] = book[kOne];
  const auto crowded = try_open(kTwo);
  ASSERT_FALSE(crowded.ok());
  EXPECT_EQ(crowded.error().code, Errc::invalid);
}

}  // namespace
}  // namespace idunno

#include "bus/log_link.h"

#include <fmt/format.h>
#include <zmq.h>

#include <atomic>
#include <cstring>
#include <vector>

#include "bus/base/assert.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr std::size_t kMessageFrames = 2;  // topic, message
constexpr std::size_t kPrefixBytes = 9;    // the cluster's hash, big-endian, and the version of the protocol
constexpr std::size_t kFrameBytesMax = kPrefixBytes + kLogMessageBytesMax;
constexpr std::size_t kCurveBytesMax = 1024;               // what CURVE adds to a frame, generously: MAXMSGSIZE counts it
constexpr std::size_t kSubscriptionBytesMax = 64U << 10U;  // all that a reader ever sends
constexpr std::uint32_t kMessagesPerTurn = 64;             // of one peer, so that no peer keeps the others waiting
constexpr int kReconnectMs = 20;
constexpr int kReconnectMsMax = 100;  // a restarted voter is heard again within one election timeout

constexpr Duration kRefusedRetry = std::chrono::seconds(1);
constexpr std::size_t kMonitorBytesMax = 1024;
constexpr int kHandshakeFailures =
    ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL;

std::string next_monitor_endpoint() {
  static std::atomic<std::uint64_t> counter{0};  // inproc names are shared by all links of a context
  return "inproc://log-monitor-" + std::to_string(++counter);
}

/// "n1." is no prefix of "n10.", and topics are matched by prefix.
std::string topic_of(NodeId node) { return to_string(node) + "."; }

void write_prefix(char* out, std::uint64_t cluster) {
  for (unsigned i = 0; i < 8; ++i) out[i] = static_cast<char>(cluster >> (56 - 8 * i));
  out[8] = static_cast<char>(kProtocolVersion);
}

}  // namespace

struct LogLink::Impl {
  struct Peer {
    NodeId node;
    std::string endpoint;
    sockets::Socket socket;   ///< SUB: one for each peer, so that we know who sent
    sockets::Socket monitor;  ///< of the SUB
    EventLoop::TimerId retry = 0;
  };

  explicit Impl(EventLoop& event_loop) : loop(event_loop) {}
  ~Impl() {
    for (const Peer& peer : peers) {
      loop.remove_socket(peer.socket.raw());
      loop.remove_socket(peer.monitor.raw());
      if (peer.retry != 0) loop.cancel(peer.retry);
    }
  }

  Status bind(ZmqContext& context, const Options& options) {
    auto made = sockets::make(context.raw(), ZMQ_PUB, {kLogHighWaterMark, kSubscriptionBytesMax});
    if (!made) return made.error();
    publisher = std::move(made).value();
    if (auto status = sockets::make_curve_server(publisher, options.keys, kLogZapDomain); !status) return status;
    return sockets::bind(publisher, options.endpoint);
  }

  Status connect(ZmqContext& context, const Options& options, NodeId node, const PeerAddress& address) {
    auto made = sockets::make(context.raw(), ZMQ_SUB, {kLogHighWaterMark, kFrameBytesMax + kCurveBytesMax});
    if (!made) return made.error();
    sockets::Socket socket = std::move(made).value();
    const bool ok = socket.set(ZMQ_RECONNECT_IVL, kReconnectMs) && socket.set(ZMQ_RECONNECT_IVL_MAX, kReconnectMsMax) &&
                    socket.set(ZMQ_SUBSCRIBE, topic_of(options.self));
    if (!ok) return sockets::last_error("set the options of a socket");
    if (auto status = sockets::make_curve_client(socket, options.keys, address.public_key); !status) return status;
    const std::string name = next_monitor_endpoint();
    if (zmq_socket_monitor(socket.raw(), name.c_str(), kHandshakeFailures) != 0) return sockets::last_error("watch a SUB");
    auto monitor = sockets::make(context.raw(), ZMQ_PAIR, {0, kMonitorBytesMax});  // no high-water mark: libzmq would wait at it
    if (!monitor) return monitor.error();
    if (auto status = sockets::connect(*monitor, name); !status) return status;
    if (auto status = sockets::connect(socket, endpoint_of(address, Service::log)); !status) return status;
    peers.push_back(Peer{node, endpoint_of(address, Service::log), std::move(socket), std::move(monitor).value(), 0});
    return {};
  }

  /// libzmq does not try again by itself once a handshake has failed: the peer may not have known our key yet.
  void on_monitor(Peer& peer) {
    std::vector<zmq::message_t> frames;
    while (sockets::receive(peer.monitor.raw(), frames) == sockets::Received::yes) {
      if (peer.retry != 0) continue;
      peer.retry = loop.after(kRefusedRetry, [this, &peer] {
        peer.retry = 0;
        (void)zmq_disconnect(peer.socket.raw(), peer.endpoint.c_str());  // fails when libzmq has given the connection up
        (void)sockets::connect(peer.socket, peer.endpoint);              // did not fail the first time
        loop.touch(peer.socket.raw());
      });
    }
  }

  void on_readable(const Peer& peer) {
    std::vector<zmq::message_t> frames;
    for (std::uint32_t i = 0; i < kMessagesPerTurn; ++i) {
      const auto received = sockets::receive(peer.socket.raw(), frames);
      if (received == sockets::Received::nothing) return;
      ++messages;
      if (received == sockets::Received::malformed || !well_formed(frames)) {
        ++refused;
        continue;
      }
      handler(peer.node, sockets::view_of(frames[1]).substr(kPrefixBytes));
    }
  }

  [[nodiscard]] bool well_formed(const std::vector<zmq::message_t>& frames) const {
    if (frames.size() != kMessageFrames) return false;
    const ByteView frame = sockets::view_of(frames[1]);
    return sockets::view_of(frames[0]) == topic && frame.size() >= kPrefixBytes && frame.size() <= kFrameBytesMax &&
           std::memcmp(frame.data(), prefix, kPrefixBytes) == 0;
  }

  EventLoop& loop;
  sockets::Socket publisher;
  std::vector<Peer> peers;
  Handler handler;
  std::string topic;  ///< our own
  char prefix[kPrefixBytes] = {};
  std::uint64_t refused = 0;
  std::uint64_t messages = 0;
};

LogLink::LogLink() = default;
LogLink::~LogLink() = default;

Result<std::unique_ptr<LogLink>> LogLink::open(EventLoop& loop, ZmqContext& context, const Options& options, Handler handler) {
  const std::size_t others = options.peers.size() - options.peers.count(options.self);
  if (others > kLogPeersMax) {
    return Error{Errc::invalid, fmt::format("open the log port: {} other log nodes are more than {}", others, kLogPeersMax)};
  }
  std::unique_ptr<LogLink> link(new LogLink());
  link->impl_ = std::make_unique<Impl>(loop);
  Impl& impl = *link->impl_;
  impl.handler = std::move(handler);
  impl.topic = topic_of(options.self);
  write_prefix(impl.prefix, options.cluster);
  if (auto status = impl.bind(context, options); !status) return annotate(status.error(), "open the log port");
  impl.peers.reserve(others);  // on_readable keeps a reference to its peer
  for (const auto& [node, address] : options.peers) {
    if (node == options.self) continue;
    if (auto status = impl.connect(context, options, node, address); !status) {
      return annotate(status.error(), "listen to the log of " + to_string(node));
    }
    Impl::Peer& peer = impl.peers.back();
    loop.add_socket(peer.socket.raw(), [&impl, &peer] { impl.on_readable(peer); });
    loop.add_socket(peer.monitor.raw(), [&impl, &peer] { impl.on_monitor(peer); });
  }
  return link;
}

void LogLink::send(NodeId to, ByteView message) {
  ASSERT(message.size() <= kLogMessageBytesMax);
  std::vector<zmq::message_t> frames;
  frames.emplace_back(topic_of(to));
  zmq::message_t& frame = frames.emplace_back(kPrefixBytes + message.size());
  std::memcpy(frame.data(), impl_->prefix, kPrefixBytes);
  if (!message.empty()) std::memcpy(frame.data<char>() + kPrefixBytes, message.data(), message.size());
  // A PUB never waits: it drops for readers that are too slow. It is not registered with the loop, so there is nothing to touch.
  (void)sockets::send(impl_->publisher.raw(), frames);
}

std::uint64_t LogLink::refused_messages() const { return impl_->refused; }
std::uint64_t LogLink::messages() const { return impl_->messages; }

}  // namespace idunno

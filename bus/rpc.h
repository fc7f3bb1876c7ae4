#pragma once
/// Requests and answers over ROUTER/DEALER with CURVE, as callbacks on an EventLoop.
///
/// A message is: routing id (ROUTER side only), one msgpack frame (bus/codec.h), and for types with kPayload one raw frame. A
/// server refuses what it cannot decode with an ErrorReply that says why, checks the sender's role before a handler runs,
/// and remembers nothing about a request after its answer. A client keeps one DEALER for each (node, service), bounded calls in
/// flight, and answers each call exactly once: with the reply, with the peer's error, or with timeout/unavailable. No object here
/// is thread-safe: all belong to the thread of their EventLoop.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/codec.h"
#include "bus/event_loop.h"
#include "bus/messages.h"
#include "bus/security.h"

namespace idunno {

/// One per process. Sets the limits of pitfalls (ZMQ_BLOCKY 0, max sockets); fails when libzmq was built without CURVE.
class ZmqContext {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ZmqContext>> create(int io_threads = 1);
  ~ZmqContext();
  [[nodiscard]] void* raw() const;

 private:
  ZmqContext();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// The sockets of a node, in the order of their ports: base_port + number.
enum class Service : std::uint8_t { rpc = 0, data = 1, log = 2, events = 3, ping = 4 };
inline constexpr std::uint16_t kMetricsPort = 5;  ///< the last one is plain HTTP (bus/cluster_config.h, MetricsConfig)
inline constexpr std::uint16_t kPortsPerNode = 6;
[[nodiscard]] std::string to_string(Service service);

/// Where every node is and which key it must have. From the cluster's configuration and admitted.toml.
struct PeerAddress {
  std::string host;
  std::uint16_t base_port = 0;
  std::string public_key;  ///< Z85
};
using AddressBook = std::map<NodeId, PeerAddress>;
/// "tcp://10.0.0.11:7401"
[[nodiscard]] std::string endpoint_of(const PeerAddress& peer, Service service);

/// Who sent a request: good for answers and pushes as long as the connection lives.
struct PeerHandle {
  Bytes routing_id;
  Role role = Role::none;
  std::string key_name;
  bool operator==(const PeerHandle&) const = default;
  auto operator<=>(const PeerHandle& other) const { return routing_id <=> other.routing_id; }
};

struct RequestContext {
  PeerHandle peer;
  Header header;
};

class RpcServer {
 public:
  struct Options {
    std::string endpoint;  ///< "tcp://127.0.0.1:7400"
    KeyPair keys;
    std::uint64_t cluster = 0;  ///< hash64 of the cluster id
    std::size_t bytes_max = kControlMessageBytesMax;
    int high_water_mark = 1000;  ///< messages, each way, each peer
    std::uint32_t messages_per_turn = 256;
  };
  /// unavailable (with the endpoint) when the port is taken.
  [[nodiscard]] static Result<std::unique_ptr<RpcServer>> bind(EventLoop& loop, ZmqContext& context, Options options);
  ~RpcServer();

  /// Handles requests of type Req. The handler answers now or later through reply / reply_error, once.
  template <class Req>
  void on(std::function<void(const RequestContext&, Req, Payload)> handler) {
    handlers_[Req::kType] = [this, handler = std::move(handler)](const RequestContext& context, const Envelope& envelope,
                                                                 Payload payload) {
      if (!admit(context, Req::kRole)) return;
      auto body = envelope.body<Req>();
      if (!body) return reply_error(context, body.error());
      handler(context, std::move(body).value(), std::move(payload));
    };
  }

  /// Requests of known types that have no handler (without it they are answered `invalid`).
  void on_other(std::function<void(const RequestContext&)> handler) { other_ = std::move(handler); }

  void set_epoch(Epoch epoch) { epoch_ = epoch; }  ///< stamped on what is sent from now on

  template <class Reply>
  void reply(const RequestContext& context, const Reply& body, Payload payload = {}) {
    (void)send(context.peer, encode_message(header_for(context.header.request), body), std::move(payload));
  }
  void reply_error(const RequestContext& context, const Error& error, NodeId leader = {}) {
    reply(context, ErrorReply{error.code, error.detail, leader});
  }
  /// unavailable when the peer is gone or does not take messages now.
  template <class Push>
  [[nodiscard]] Status push(const PeerHandle& peer, const Push& body) {
    return send(peer, encode_message(header_for({}), body), {});
  }
  /// The same for bodies that are encoded already (bus/codec.h, `encode`).
  void reply_raw(const RequestContext& context, MessageType type, ByteView body, std::uint8_t flags = 0);
  [[nodiscard]] Status push_raw(const PeerHandle& peer, MessageType type, ByteView body);
  [[nodiscard]] std::uint64_t refused_messages() const;  ///< undecodable, wrong cluster or version, not allowed
  [[nodiscard]] std::uint64_t messages() const;          ///< that came in, the refused ones included

 private:
  using Handler = std::function<void(const RequestContext&, const Envelope&, Payload)>;
  struct Impl;
  RpcServer();
  [[nodiscard]] Header header_for(RequestId request) const;
  bool admit(const RequestContext& context, Role needs);  ///< answers forbidden itself when it returns false
  Status send(const PeerHandle& peer, Bytes frame, Payload payload);
  void on_readable();

  std::map<MessageType, Handler> handlers_;
  std::function<void(const RequestContext&)> other_;
  Epoch epoch_;
  std::unique_ptr<Impl> impl_;
};

template <class Reply>
struct RpcReply {
  Header header;
  Reply body;
  Payload payload;
};

class RpcClient {
 public:
  struct Options {
    KeyPair keys;
    std::uint64_t cluster = 0;
    AddressBook peers;
    std::size_t bytes_max = kDataMessageBytesMax;
    std::size_t calls_in_flight_max = 4096;  ///< over all peers; more are answered with Errc::full at once
  };
  struct CallOptions {
    Duration timeout = std::chrono::seconds(5);
    RequestId request;  ///< {0,0}: the client draws a fresh one
    Epoch epoch;
    std::uint8_t flags = 0;  ///< kFlagStale: an answer from a state that may be old will do
  };

  [[nodiscard]] static Result<std::unique_ptr<RpcClient>> create(EventLoop& loop, ZmqContext& context, Options options);
  ~RpcClient();

  template <class Req>
  void call(NodeId node, Service service, const Req& request, Payload payload, CallOptions options,
            std::function<void(Result<RpcReply<typename Req::Reply>>, NodeId leader)> done) {
    using Reply = typename Req::Reply;
    start_call(
        node, service, options, [&](const Header& header) { return encode_message(header, request); }, std::move(payload),
        [done = std::move(done)](Result<std::pair<Envelope, Payload>> answer) {
          if (!answer) return done(answer.error(), {});
          auto& [envelope, bytes] = *answer;
          if (envelope.header.type == MessageType::error_reply) {
            auto error = envelope.template body<ErrorReply>();
            if (!error) return done(error.error(), {});
            return done(Error{error->code, error->detail}, error->leader);
          }
          auto body = envelope.template body<Reply>();
          if (!body) return done(body.error(), {});
          done(RpcReply<Reply>{envelope.header, std::move(body).value(), std::move(bytes)}, {});
        });
  }

  /// The same for a body that is encoded already; `done` gets the answer as it came, an ErrorReply included.
  void call_raw(NodeId node, Service service, MessageType type, ByteView body, CallOptions options,
                std::function<void(Result<Envelope>)> done) {
    start_call(
        node, service, options,
        [&](const Header& header) {
          Header full = header;
          full.type = type;
          return encode_raw_message(full, body);
        },
        {},
        [done = std::move(done)](Result<std::pair<Envelope, Payload>> answer) {
          if (!answer) return done(answer.error());
          done(std::move(answer->first));
        });
  }

  /// Messages that are no answers (leases). One handler for each type.
  template <class Push>
  void on_push(std::function<void(NodeId from, const Header&, Push)> handler) {
    push_handlers_[Push::kType] = [handler = std::move(handler)](NodeId from, const Envelope& envelope) {
      auto body = envelope.body<Push>();
      if (body) handler(from, envelope.header, std::move(body).value());
    };
  }
  /// The connection to a node's service was made or lost (libzmq's socket monitor). Hints, not proofs. Several may be registered
  /// (before the loop runs).
  void on_connection(std::function<void(NodeId, Service, bool connected)> handler);
  [[nodiscard]] RequestId fresh_request_id();
  [[nodiscard]] const AddressBook& peers() const;
  void disconnect(NodeId node, Service service);  ///< calls in flight there end with unavailable

 private:
  struct Impl;
  RpcClient();
  using AnswerCallback = std::function<void(Result<std::pair<Envelope, Payload>>)>;
  void start_call(NodeId node, Service service, const CallOptions& options, const std::function<Bytes(const Header&)>& encode,
                  Payload payload, AnswerCallback done);

  std::map<MessageType, std::function<void(NodeId, const Envelope&)>> push_handlers_;
  std::unique_ptr<Impl> impl_;
};

/// The events PUB socket of a node. Messages are dropped for slow readers, never waited for; sequence numbers show the gaps.
class Publisher {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Publisher>> bind(ZmqContext& context, const std::string& endpoint,
                                                               const KeyPair& keys, std::uint64_t cluster);
  ~Publisher();
  template <class Notice>
  void publish(const char* topic, const Notice& notice) {
    send(topic, encode_message(header(), notice));
  }

 private:
  struct Impl;
  Publisher();
  [[nodiscard]] Header header() const;
  void send(const char* topic, const Bytes& frame);
  std::unique_ptr<Impl> impl_;
};

/// Reads the events of any number of nodes.
class Subscriber {
 public:
  using Handler = std::function<void(const Envelope&)>;
  [[nodiscard]] static Result<std::unique_ptr<Subscriber>> create(EventLoop& loop, ZmqContext& context, const KeyPair& keys,
                                                                  std::uint64_t cluster, const AddressBook& peers,
                                                                  Handler handler);
  ~Subscriber();
  void subscribe(const char* topic);

 private:
  struct Impl;
  Subscriber();
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

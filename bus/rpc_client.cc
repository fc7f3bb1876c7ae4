#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>
#include <set>
#include <utility>
#include <vector>

#include "bus/clock.h"
#include "bus/entropy.h"
#include "bus/rpc.h"
#include "bus/units.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr std::uint32_t kAnswersPerTurn = 256;
constexpr Duration kSendRetry = std::chrono::milliseconds(2);
/// So long a peer may refuse connections before its calls end with unavailable; long enough for several attempts.
constexpr Duration kRefusedAfter = std::chrono::milliseconds(300);

using Frames = std::vector<zmq::message_t>;
using PeerKey = std::pair<NodeId, Service>;

std::string next_monitor_endpoint() {
  static std::atomic<std::uint64_t> counter{0};  // inproc names are shared by all clients of a context
  return "inproc://rpc-monitor-" + std::to_string(++counter);
}

}  // namespace

std::string endpoint_of(const PeerAddress& peer, Service service) {
  return "tcp://" + peer.host + ":" + std::to_string(peer.base_port + static_cast<unsigned>(service));
}

struct RpcClient::Impl {
  struct Call {
    Frames frames;  ///< empty once sent
    Time started;
    Duration timeout{};
    EventLoop::TimerId timer = 0;
    bool sent = false;
    AnswerCallback done;
  };

  /// One DEALER and its monitor. Shared, because a callback may disconnect the peer whose messages are being read.
  struct Peer {
    PeerKey key;
    std::string name;  ///< "n3 (rpc at tcp://10.0.0.13:7400)"
    sockets::Socket dealer;
    sockets::Socket monitor;
    bool closed = false;
    bool connected = false;
    std::string failure;  ///< why the last attempt to connect failed; empty after a success
    Time connecting_since;
    std::map<RequestId, Call> calls;
    std::deque<RequestId> queue;  ///< not sent yet, in order; may name calls that are over
    EventLoop::TimerId retry = 0;
    EventLoop::TimerId give_up = 0;
  };
  using PeerPtr = std::shared_ptr<Peer>;

  RpcClient& client;
  EventLoop* loop = nullptr;
  void* context = nullptr;
  Options options;
  std::uint64_t client_id = random_nonzero();
  std::uint64_t sequence = 0;
  std::size_t in_flight = 0;
  std::map<PeerKey, PeerPtr> peers;
  std::set<EventLoop::TimerId> deferred;  ///< answers to calls that failed at once
  std::vector<std::function<void(NodeId, Service, bool)>> connection_handlers;

  explicit Impl(RpcClient& owner) : client(owner) {}
  ~Impl() {
    for (const EventLoop::TimerId timer : deferred) loop->cancel(timer);
    for (auto& [key, peer] : peers) {
      for (auto& [id, call] : peer->calls) loop->cancel(call.timer);
      close(*peer);
    }
  }

  void on_connection(NodeId node, Service service, bool connected) const {
    for (const auto& handler : connection_handlers) handler(node, service, connected);
  }

  // ---- calls ----

  /// Ends a call that never became one; from the loop, so that `done` never runs inside `call`.
  void answer_later(AnswerCallback done, Error error) {
    auto id = std::make_shared<EventLoop::TimerId>(0);
    *id = loop->after(Duration(0), [this, id, done = std::move(done), error = std::move(error)] {
      deferred.erase(*id);
      done(error);
    });
    deferred.insert(*id);
  }

  void complete(Peer& peer, RequestId id, Result<std::pair<Envelope, Payload>> answer) {
    const auto found = peer.calls.find(id);
    if (found == peer.calls.end()) return;  // answered already: too late
    const AnswerCallback done = std::move(found->second.done);
    loop->cancel(found->second.timer);
    peer.calls.erase(found);
    --in_flight;
    done(std::move(answer));
  }

  /// Ends the calls that `which` picks.
  template <class Which>
  void fail_calls(Peer& peer, const Error& error, Which which) {
    std::vector<RequestId> ids;
    for (const auto& [id, call] : peer.calls) {
      if (which(call)) ids.push_back(id);
    }
    for (const RequestId& id : ids) complete(peer, id, error);
  }

  void on_timeout(const PeerPtr& peer, RequestId id) {
    const auto found = peer->calls.find(id);
    if (found == peer->calls.end()) return;
    const std::string waited = format_duration(found->second.timeout);
    std::string what = found->second.sent ? "no answer from " + peer->name + " within " + waited
                                          : "no connection to " + peer->name + " within " + waited;
    if (!found->second.sent && !peer->failure.empty()) what = peer->name + ": " + peer->failure;
    // Nothing was ever sent there: whether the peer would have been quick is not known.
    complete(*peer, id, Error{found->second.sent ? Errc::timeout : Errc::unavailable, std::move(what)});
  }

  void flush(const PeerPtr& peer) {
    while (peer->connected && !peer->closed && !peer->queue.empty()) {
      const auto found = peer->calls.find(peer->queue.front());
      if (found == peer->calls.end() || found->second.sent) {
        peer->queue.pop_front();
        continue;
      }
      const auto sent = sockets::send(peer->dealer.raw(), found->second.frames);
      loop->touch(peer->dealer.raw());
      if (sent == sockets::Sent::yes) {
        found->second.sent = true;
        found->second.frames.clear();
        peer->queue.pop_front();
      } else if (sent == sockets::Sent::full) {
        return arm_retry(peer);
      } else {
        const RequestId id = peer->queue.front();
        peer->queue.pop_front();
        complete(*peer, id, sockets::last_error("send to " + peer->name));
      }
    }
  }

  /// While (and only while) something waits for room in libzmq's queue.
  void arm_retry(const PeerPtr& peer) {
    if (peer->retry != 0) return;
    peer->retry = loop->after(kSendRetry, [this, peer] {
      peer->retry = 0;
      flush(peer);
    });
  }

  // ---- connections ----

  Result<PeerPtr> peer_of(PeerKey key) {
    if (const auto found = peers.find(key); found != peers.end()) return found->second;
    const auto address = options.peers.find(key.first);
    if (address == options.peers.end()) {
      return Error{Errc::not_found, "there is no node " + to_string(key.first) + " in the configuration"};
    }
    const std::string endpoint = endpoint_of(address->second, key.second);
    auto peer = std::make_shared<Peer>();
    peer->key = key;
    peer->name = to_string(key.first) + " (" + to_string(key.second) + " at " + endpoint + ")";
    peer->connecting_since = monotonic_now();
    if (const Status status = open(*peer, endpoint, address->second.public_key); !status) {
      return annotate(status.error(), "connect to " + peer->name);
    }
    loop->add_socket(peer->monitor.raw(), [this, peer] { on_monitor(peer); });
    loop->add_socket(peer->dealer.raw(), [this, peer] { on_readable(peer); });
    peers[key] = peer;
    return peer;
  }

  Status open(Peer& peer, const std::string& endpoint, const std::string& server_key) const {
    const int high_water_mark = peer.key.second == Service::data ? sockets::kDataHighWaterMark : sockets::kControlHighWaterMark;
    auto dealer = sockets::make(context, ZMQ_DEALER, {high_water_mark, options.bytes_max});
    if (!dealer) return dealer.error();
    if (!dealer->set(ZMQ_IMMEDIATE, 1)) return sockets::last_error("set up a DEALER");
    if (const Status status = sockets::make_curve_client(*dealer, options.keys, server_key); !status) return status;

    constexpr int kEvents = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                            ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_DISCONNECTED |
                            ZMQ_EVENT_CLOSED;
    const std::string name = next_monitor_endpoint();
    if (zmq_socket_monitor(dealer->raw(), name.c_str(), kEvents) != 0) return sockets::last_error("watch a DEALER");
    auto monitor = sockets::make(context, ZMQ_PAIR, {0, 1024});  // no high-water mark: libzmq's thread would wait at it
    if (!monitor) return monitor.error();
    if (const Status status = sockets::connect(*monitor, name); !status) return status;
    if (const Status status = sockets::connect(*dealer, endpoint); !status) return status;
    peer.dealer = std::move(dealer).value();
    peer.monitor = std::move(monitor).value();
    return {};
  }

  void close(Peer& peer) const {
    peer.closed = true;
    peer.connected = false;
    if (peer.retry != 0) loop->cancel(peer.retry);
    if (peer.give_up != 0) loop->cancel(peer.give_up);
    if (peer.dealer) loop->remove_socket(peer.dealer.raw());
    if (peer.monitor) loop->remove_socket(peer.monitor.raw());
    peer.dealer.close();
    peer.monitor.close();
  }

  /// Forgets the connection; the next call makes a new one.
  void drop(const PeerPtr& peer, const Error& error) {
    if (peer->closed) return;
    const bool was_connected = peer->connected;
    peers.erase(peer->key);
    close(*peer);
    if (was_connected) on_connection(peer->key.first, peer->key.second, false);
    fail_calls(*peer, error, [](const Call&) { return true; });
  }

  void on_monitor(const PeerPtr& peer) {
    Frames frames;
    while (!peer->closed && sockets::receive(peer->monitor.raw(), frames) == sockets::Received::yes) {
      if (frames[0].size() < sizeof(std::uint16_t)) continue;
      std::uint16_t event = 0;
      std::memcpy(&event, frames[0].data(), sizeof event);
      on_event(peer, event);
    }
  }

  void on_event(const PeerPtr& peer, int event) {
    switch (event) {
      case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        peer->connected = true;
        peer->failure.clear();
        on_connection(peer->key.first, peer->key.second, true);
        return flush(peer);
      case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        // libzmq would try again without a pause for ever.
        return drop(peer, Error{Errc::forbidden, "connect to " + peer->name +
                                                     ": key not admitted: ask an admin of the cluster to add the key \"" +
                                                     options.keys.name + "\" with `idunno keys add`"});
      case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
      case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        peer->failure = "the handshake failed: is it another program, or is its public key in admitted.toml an old one?";
        return give_up_on_refused(peer);
      case ZMQ_EVENT_CLOSED:
        if (peer->connected) return;
        peer->failure = "the connection is refused or the address does not answer: is the node running?";
        return give_up_on_refused(peer);
      case ZMQ_EVENT_DISCONNECTED:
        return on_disconnected(peer);
      default:
        return;
    }
  }

  void on_disconnected(const PeerPtr& peer) {
    if (!peer->connected) return;
    on_readable(peer);  // answers that came before the end
    if (peer->closed) return;
    loop->touch(peer->dealer.raw());  // read outside of its turn: more may wait, and its signal may be taken in
    peer->connected = false;
    peer->connecting_since = monotonic_now();
    on_connection(peer->key.first, peer->key.second, false);
    fail_calls(*peer, Error{Errc::unavailable, "the connection to " + peer->name + " was lost"},
               [](const Call& call) { return call.sent; });
  }

  /// Ends calls that have waited long enough for a peer that refuses connections, and comes back for the others.
  void give_up_on_refused(const PeerPtr& peer) {
    if (peer->connected || peer->closed || peer->failure.empty()) return;
    const auto given_up_at = [&](const Call& call) { return std::max(call.started, peer->connecting_since) + kRefusedAfter; };
    const Time now = monotonic_now();
    fail_calls(*peer, Error{Errc::unavailable, peer->name + ": " + peer->failure},
               [&](const Call& call) { return given_up_at(call) <= now; });
    if (peer->closed || peer->calls.empty() || peer->give_up != 0) return;
    Time next = kNever;
    for (const auto& [id, call] : peer->calls) next = std::min(next, given_up_at(call));
    peer->give_up = loop->at(next, [this, peer] {
      peer->give_up = 0;
      give_up_on_refused(peer);
    });
  }

  // ---- answers and pushes ----

  void on_readable(const PeerPtr& peer) {
    Frames frames;
    for (std::uint32_t i = 0; i < kAnswersPerTurn && !peer->closed; ++i) {
      const auto received = sockets::receive(peer->dealer.raw(), frames);
      if (received == sockets::Received::nothing) break;
      if (received == sockets::Received::malformed || frames.size() > 2) continue;
      on_message(*peer, frames);
    }
    if (!peer->closed && !peer->queue.empty()) flush(peer);
  }

  void on_message(Peer& peer, Frames& frames) {
    auto envelope = decode_message(sockets::view_of(frames[0]), options.bytes_max);
    if (!envelope) {
      const Header header = codec::salvage_header(sockets::view_of(frames[0]));
      return complete(peer, header.request, annotate(envelope.error(), "the answer of " + peer.name));
    }
    const RequestId id = envelope->header.request;
    if (id) {
      Payload payload = frames.size() > 1 ? sockets::payload_of(std::move(frames[1])) : Payload();
      return complete(peer, id, std::pair(std::move(envelope).value(), std::move(payload)));
    }
    if (envelope->header.cluster != options.cluster) return;
    const auto handler = client.push_handlers_.find(envelope->header.type);
    if (handler != client.push_handlers_.end()) handler->second(peer.key.first, *envelope);
  }
};

RpcClient::RpcClient() : impl_(std::make_unique<Impl>(*this)) {}
RpcClient::~RpcClient() = default;

Result<std::unique_ptr<RpcClient>> RpcClient::create(EventLoop& loop, ZmqContext& context, Options options) {
  std::unique_ptr<RpcClient> client(new RpcClient());
  client->impl_->loop = &loop;
  client->impl_->context = context.raw();
  client->impl_->options = std::move(options);
  return client;
}

void RpcClient::start_call(NodeId node, Service service, const CallOptions& options,
                           const std::function<Bytes(const Header&)>& encode, Payload payload, AnswerCallback done) {
  Impl& impl = *impl_;
  if (impl.in_flight >= impl.options.calls_in_flight_max) {
    return impl.answer_later(std::move(done), Error{Errc::full, "too many calls at once; wait for answers before asking more"});
  }
  auto found = impl.peer_of({node, service});
  if (!found) return impl.answer_later(std::move(done), found.error());
  const Impl::PeerPtr peer = *found;

  Header header;
  header.cluster = impl.options.cluster;
  header.request = options.request ? options.request : fresh_request_id();
  header.epoch = options.epoch;
  header.flags = options.flags;
  const auto timeout_ms = std::chrono::duration_cast<std::chrono::milliseconds>(options.timeout).count();
  header.deadline_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(timeout_ms, 0, 0xFFFFFFFF));
  Bytes frame = encode(header);
  const std::size_t bytes_max = service == Service::data ? kDataMessageBytesMax : kControlMessageBytesMax;
  if (frame.size() > bytes_max || payload.size() > kDataMessageBytesMax) {
    return impl.answer_later(std::move(done),
                             Error{Errc::too_large, "a request to " + peer->name + " is larger than a message may be"});
  }
  if (peer->calls.contains(header.request)) {
    return impl.answer_later(std::move(done), Error{Errc::conflict, "a call with the same request id waits for " + peer->name});
  }

  Impl::Call& call = peer->calls[header.request];
  call.frames.push_back(sockets::frame_of(std::move(frame)));
  if (!payload.empty()) call.frames.push_back(sockets::frame_of(std::move(payload)));
  call.started = monotonic_now();
  call.timeout = options.timeout;
  call.done = std::move(done);
  call.timer = impl.loop->after(options.timeout, [&impl, peer, id = header.request] { impl.on_timeout(peer, id); });
  ++impl.in_flight;
  peer->queue.push_back(header.request);
  // Sent from the loop when this runs inside a callback of the same peer would be no better: sending never calls back.
  impl.flush(peer);
  if (!peer->connected && !peer->failure.empty() && peer->give_up == 0) {
    peer->give_up = impl.loop->after(kRefusedAfter, [&impl, peer] {
      peer->give_up = 0;
      impl.give_up_on_refused(peer);
    });
  }
}

void RpcClient::on_connection(std::function<void(NodeId, Service, bool)> handler) {
  impl_->connection_handlers.push_back(std::move(handler));
}
RequestId RpcClient::fresh_request_id() { return RequestId{impl_->client_id, ++impl_->sequence}; }
const AddressBook& RpcClient::peers() const { return impl_->options.peers; }

void RpcClient::disconnect(NodeId node, Service service) {
  const auto found = impl_->peers.find({node, service});
  if (found == impl_->peers.end()) return;
  const Impl::PeerPtr peer = found->second;
  impl_->drop(peer, Error{Errc::unavailable, "the connection to " + peer->name + " was closed here"});
}

}  // namespace idunno

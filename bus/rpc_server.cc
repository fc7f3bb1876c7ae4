#include <zmq.h>

#include <deque>
#include <utility>

#include "bus/rpc.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr std::size_t kOutboxMessagesMax = 1024;      ///< answers held back for one peer that reads too slowly
constexpr std::size_t kOutboxBytesMax = 256U << 20U;  ///< the same over all peers
constexpr auto kOutboxRetry = std::chrono::milliseconds(2);

using Frames = std::vector<zmq::message_t>;

std::size_t bytes_of(const Frames& frames) {
  std::size_t bytes = 0;
  for (const auto& frame : frames) bytes += frame.size();
  return bytes;
}

/// "admin:alice" as the ZAP handler wrote it. libzmq 4.3.4 loses it on the routing id frame, so it is read from the message
/// frame.
PeerHandle peer_of(const Frames& frames) {
  PeerHandle peer;
  peer.routing_id.assign(sockets::view_of(frames[0]));
  const char* user = zmq_msg_gets(const_cast<zmq_msg_t*>(frames[1].handle()), "User-Id");
  const std::string_view text = user == nullptr ? "" : user;
  const auto colon = text.find(':');
  if (colon == std::string_view::npos) return peer;
  peer.role = role_from_string(text.substr(0, colon)).value_or(Role::none);
  peer.key_name = text.substr(colon + 1);
  return peer;
}

}  // namespace

std::string to_string(Service service) {
  switch (service) {
    case Service::rpc:
      return "rpc";
    case Service::data:
      return "data";
    case Service::log:
      return "log";
    case Service::events:
      return "events";
    case Service::ping:
      return "ping";
  }
  return "unknown";
}

/// libzmq's queue to a peer is short on the data service. Answers that meet a full queue wait in `outboxes` and go out in order;
/// a ROUTER does not say when one peer has room again, so while something waits (and only then) a timer tries every 2 ms.
struct RpcServer::Impl {
  EventLoop* loop = nullptr;
  sockets::Socket socket;
  Options options;
  std::uint64_t refused = 0;
  std::uint64_t received = 0;
  std::map<Bytes, std::deque<Frames>> outboxes;
  std::size_t outbox_bytes = 0;
  EventLoop::TimerId retry = 0;

  ~Impl() {
    if (loop == nullptr) return;
    if (retry != 0) loop->cancel(retry);
    if (socket) loop->remove_socket(socket.raw());
  }

  sockets::Sent send_now(Frames& frames) {
    const auto sent = sockets::send(socket.raw(), frames);
    loop->touch(socket.raw());
    return sent;
  }

  Status send(const PeerHandle& peer, Frames frames) {
    auto waiting = outboxes.find(peer.routing_id);
    if (waiting == outboxes.end()) {
      switch (send_now(frames)) {
        case sockets::Sent::yes:
          return {};
        case sockets::Sent::full:
          break;
        case sockets::Sent::unreachable:
          return Error{Errc::unavailable, "send to " + peer.key_name + ": the connection is gone"};
        case sockets::Sent::failed:
          return sockets::last_error("send to " + peer.key_name);
      }
      waiting = outboxes.try_emplace(peer.routing_id).first;
    }
    const std::size_t bytes = bytes_of(frames);
    if (waiting->second.size() >= kOutboxMessagesMax || outbox_bytes + bytes > kOutboxBytesMax) {
      return Error{Errc::unavailable, "send to " + peer.key_name + ": it does not take its messages"};
    }
    outbox_bytes += bytes;
    waiting->second.push_back(std::move(frames));
    arm_retry();
    return {};
  }

  void arm_retry() {
    if (retry == 0) {
      retry = loop->after(kOutboxRetry, [this] {
        retry = 0;
        flush();
      });
    }
  }

  void flush() {
    for (auto box = outboxes.begin(); box != outboxes.end();) {
      auto& waiting = box->second;
      bool gone = false;
      while (!waiting.empty() && !gone) {
        const std::size_t bytes = bytes_of(waiting.front());
        const auto sent = send_now(waiting.front());
        if (sent == sockets::Sent::full) break;
        gone = sent == sockets::Sent::unreachable;
        outbox_bytes -= bytes;
        waiting.pop_front();
      }
      if (gone) {
        for (const auto& frames : waiting) outbox_bytes -= bytes_of(frames);
        waiting.clear();
      }
      box = waiting.empty() ? outboxes.erase(box) : std::next(box);
    }
    if (!outboxes.empty()) arm_retry();
  }
};

RpcServer::RpcServer() : impl_(std::make_unique<Impl>()) {}
RpcServer::~RpcServer() = default;

Result<std::unique_ptr<RpcServer>> RpcServer::bind(EventLoop& loop, ZmqContext& context, Options options) {
  auto socket = sockets::make(context.raw(), ZMQ_ROUTER, {options.high_water_mark, options.bytes_max});
  if (!socket) return socket.error();
  // Without MANDATORY a ROUTER drops what it cannot deliver without a word.
  if (!socket->set(ZMQ_ROUTER_MANDATORY, 1)) return sockets::last_error("set up a ROUTER");
  if (const Status status = sockets::make_curve_server(*socket, options.keys); !status) return status.error();
  if (const Status status = sockets::bind(*socket, options.endpoint); !status) return status.error();
  std::unique_ptr<RpcServer> server(new RpcServer());
  server->impl_->loop = &loop;
  server->impl_->socket = std::move(socket).value();
  server->impl_->options = std::move(options);
  loop.add_socket(server->impl_->socket.raw(), [raw = server.get()] { raw->on_readable(); });
  return server;
}

Header RpcServer::header_for(RequestId request) const {
  Header header;
  header.cluster = impl_->options.cluster;
  header.request = request;
  header.epoch = epoch_;
  return header;
}

bool RpcServer::admit(const RequestContext& context, Role needs) {
  if (role_allows(context.peer.role, needs)) return true;
  ++impl_->refused;
  reply_error(context,
              Error{Errc::forbidden, "the key \"" + context.peer.key_name + "\" has the role " + to_string(context.peer.role) +
                                         "; " + message_name(context.header.type) + " needs the role " + to_string(needs)});
  return false;
}

Status RpcServer::send(const PeerHandle& peer, Bytes frame, Payload payload) {
  const std::size_t bytes_max = std::max(impl_->options.bytes_max, kControlMessageBytesMax);
  if (frame.size() > bytes_max || payload.size() > kDataMessageBytesMax) {
    // The peer would close the connection over it; this way it learns why there is no answer.
    Error error{Errc::too_large, "the answer is larger than a message may be; ask for less at once"};
    const Header header = codec::salvage_header(frame);
    if (header.request)
      (void)send(peer, encode_message(header_for(header.request), ErrorReply{error.code, error.detail, {}}), {});
    return error;
  }
  Frames frames;
  frames.reserve(sockets::kFramesMax);
  frames.emplace_back(peer.routing_id.data(), peer.routing_id.size());
  frames.push_back(sockets::frame_of(std::move(frame)));
  if (!payload.empty()) frames.push_back(sockets::frame_of(std::move(payload)));
  return impl_->send(peer, std::move(frames));
}

void RpcServer::reply_raw(const RequestContext& context, MessageType type, ByteView body, std::uint8_t flags) {
  Header header = header_for(context.header.request);
  header.flags = flags;
  header.type = type;
  (void)send(context.peer, encode_raw_message(header, body), {});
}

Status RpcServer::push_raw(const PeerHandle& peer, MessageType type, ByteView body) {
  Header header = header_for({});
  header.type = type;
  return send(peer, encode_raw_message(header, body), {});
}

std::uint64_t RpcServer::refused_messages() const { return impl_->refused; }
std::uint64_t RpcServer::messages() const { return impl_->received; }

void RpcServer::on_readable() {
  if (!impl_->outboxes.empty()) impl_->flush();
  Frames frames;
  for (std::uint32_t i = 0; i < impl_->options.messages_per_turn; ++i) {
    const auto received = sockets::receive(impl_->socket.raw(), frames);
    if (received == sockets::Received::nothing) return;
    ++impl_->received;
    if (received == sockets::Received::malformed || frames.size() < 2) {
      ++impl_->refused;
      continue;
    }
    RequestContext context{peer_of(frames), {}};
    const auto refuse = [&](const std::string& why) {
      ++impl_->refused;
      reply_error(context, Error{Errc::invalid, why});
    };
    auto envelope = decode_message(sockets::view_of(frames[1]), impl_->options.bytes_max);
    if (!envelope) {
      context.header = codec::salvage_header(sockets::view_of(frames[1]));
      refuse(envelope.error().detail);
      continue;
    }
    context.header = envelope->header;
    if (envelope->header.cluster != impl_->options.cluster) {
      refuse("the message is for another cluster: compare the cluster's id in the configurations of both sides");
      continue;
    }
    const auto handler = handlers_.find(envelope->header.type);
    if (handler == handlers_.end() && other_) {
      other_(context);
      continue;
    }
    if (handler == handlers_.end()) {
      refuse(message_name(envelope->header.type) + " is not served at " + impl_->options.endpoint);
      continue;
    }
    handler->second(context, *envelope, frames.size() > 2 ? sockets::payload_of(std::move(frames[2])) : Payload());
  }
}

}  // namespace idunno

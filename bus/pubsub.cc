#include <zmq.h>

#include "bus/rpc.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr std::size_t kMessageFrames = 2;  // topic, message
constexpr std::uint32_t kNoticesPerTurn = 256;

}  // namespace

struct Publisher::Impl {
  sockets::Socket socket;
  std::uint64_t cluster = 0;
};

Publisher::Publisher() : impl_(std::make_unique<Impl>()) {}
Publisher::~Publisher() = default;

Result<std::unique_ptr<Publisher>> Publisher::bind(ZmqContext& context, const std::string& endpoint, const KeyPair& keys,
                                                   std::uint64_t cluster) {
  // bytes_max is about what a subscriber sends: nothing but topics.
  auto socket = sockets::make(context.raw(), ZMQ_PUB, {sockets::kEventsHighWaterMark, kControlMessageBytesMax});
  if (!socket) return socket.error();
  if (const Status status = sockets::make_curve_server(*socket, keys); !status) return status.error();
  if (const Status status = sockets::bind(*socket, endpoint); !status) return status.error();
  std::unique_ptr<Publisher> publisher(new Publisher());
  publisher->impl_->socket = std::move(socket).value();
  publisher->impl_->cluster = cluster;
  return publisher;
}

Header Publisher::header() const {
  Header header;
  header.cluster = impl_->cluster;
  return header;
}

void Publisher::send(const char* topic, const Bytes& frame) {
  if (frame.size() > kDataMessageBytesMax) return;  // a reader would close the connection over it; the sequence shows the gap
  std::vector<zmq::message_t> frames;
  frames.emplace_back(std::string_view(topic));
  frames.push_back(sockets::frame_of(frame));
  (void)sockets::send(impl_->socket.raw(), frames);  // a PUB never waits: it drops for readers that are too slow
}

struct Subscriber::Impl {
  EventLoop* loop = nullptr;
  sockets::Socket socket;
  std::uint64_t cluster = 0;
  Handler handler;

  ~Impl() {
    if (loop != nullptr && socket) loop->remove_socket(socket.raw());
  }

  void on_readable() {
    std::vector<zmq::message_t> frames;
    for (std::uint32_t i = 0; i < kNoticesPerTurn; ++i) {
      const auto received = sockets::receive(socket.raw(), frames);
      if (received == sockets::Received::nothing) return;
      if (received == sockets::Received::malformed || frames.size() != kMessageFrames) continue;
      const auto envelope = decode_message(sockets::view_of(frames[1]), kDataMessageBytesMax);
      if (envelope && envelope->header.cluster == cluster) handler(*envelope);
    }
  }
};

Subscriber::Subscriber() : impl_(std::make_unique<Impl>()) {}
Subscriber::~Subscriber() = default;

Result<std::unique_ptr<Subscriber>> Subscriber::create(EventLoop& loop, ZmqContext& context, const KeyPair& keys,
                                                       std::uint64_t cluster, const AddressBook& peers, Handler handler) {
  auto socket = sockets::make(context.raw(), ZMQ_SUB, {sockets::kEventsHighWaterMark, kDataMessageBytesMax});
  if (!socket) return socket.error();
  for (const auto& [node, peer] : peers) {
    // Each connection takes the options that are set when it is made, so one SUB can know many servers' keys.
    if (const Status status = sockets::make_curve_client(*socket, keys, peer.public_key); !status) return status.error();
    if (const Status status = sockets::connect(*socket, endpoint_of(peer, Service::events)); !status) return status.error();
  }
  std::unique_ptr<Subscriber> subscriber(new Subscriber());
  Impl& impl = *subscriber->impl_;
  impl.loop = &loop;
  impl.socket = std::move(socket).value();
  impl.cluster = cluster;
  impl.handler = std::move(handler);
  loop.add_socket(impl.socket.raw(), [&impl] { impl.on_readable(); });
  return subscriber;
}

void Subscriber::subscribe(const char* topic) {
  (void)impl_->socket.set(ZMQ_SUBSCRIBE, std::string(topic));  // cannot fail on a SUB
  impl_->loop->touch(impl_->socket.raw());
}

}  // namespace idunno

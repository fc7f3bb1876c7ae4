#include "bus/zmq_socket.h"

#include <cerrno>
#include <utility>

#include "bus/base/sanitizer.h"

namespace idunno::sockets {
namespace {

constexpr std::size_t kCopyBytesMax = 1024;  // below this a copy is cheaper than handing over the owner

// ZMQ_ZAP_ENFORCE_DOMAIN: the library of Debian has it, its header shows it only to draft builds. Without it, a server whose ZAP
// handler is not there admits everybody.
constexpr int kZapEnforceDomainOption = 93;

// libzmq calls these in a thread of its own; what hands the frame over to that thread is inside libzmq, where ThreadSanitizer
// sees nothing.
void release_payload(void*, void* hint) {
  taken_over(hint);
  delete static_cast<Payload*>(hint);
}
void release_bytes(void*, void* hint) {
  taken_over(hint);
  delete static_cast<Bytes*>(hint);
}

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    handle_ = std::exchange(other.handle_, nullptr);
  }
  return *this;
}

void Socket::close() {
  if (handle_ != nullptr) zmq_close(std::exchange(handle_, nullptr));
}

bool Socket::set(int option, int value) { return zmq_setsockopt(handle_, option, &value, sizeof value) == 0; }
bool Socket::set(int option, std::int64_t value) { return zmq_setsockopt(handle_, option, &value, sizeof value) == 0; }
bool Socket::set(int option, const std::string& value) {
  return zmq_setsockopt(handle_, option, value.data(), value.size()) == 0;
}

Error last_error(const std::string& what) {
  const int number = zmq_errno();
  const bool peer = number == EADDRINUSE || number == EADDRNOTAVAIL || number == EHOSTUNREACH || number == EAGAIN;
  return Error{peer ? Errc::unavailable : Errc::internal, what + ": " + zmq_strerror(number)};
}

Result<Socket> make(void* context, int type, const Limits& limits) {
  Socket socket(zmq_socket(context, type));
  if (!socket) return last_error("make a socket");
  // HEARTBEAT_IVL stays 0 and ROUTING_ID unset: the first has assertion failures in 4.3.4, the second lets a peer take another's
  // name. Reconnects are tried often, because a restarted node should be found at once and an attempt on a local network is
  // cheap.
  const bool ok = socket.set(ZMQ_LINGER, 0) && socket.set(ZMQ_SNDHWM, limits.high_water_mark) &&
                  socket.set(ZMQ_RCVHWM, limits.high_water_mark) &&
                  socket.set(ZMQ_MAXMSGSIZE, static_cast<std::int64_t>(limits.bytes_max)) && socket.set(ZMQ_TCP_KEEPALIVE, 1) &&
                  socket.set(ZMQ_TCP_KEEPALIVE_IDLE, 5) && socket.set(ZMQ_TCP_KEEPALIVE_INTVL, 1) &&
                  socket.set(ZMQ_TCP_KEEPALIVE_CNT, 3) && socket.set(ZMQ_TCP_MAXRT, 5000) && socket.set(ZMQ_RECONNECT_IVL, 20) &&
                  socket.set(ZMQ_RECONNECT_IVL_MAX, 250) && socket.set(ZMQ_HANDSHAKE_IVL, 3000) &&
                  socket.set(ZMQ_BACKLOG, 1024) && socket.set(ZMQ_CONNECT_TIMEOUT, 2000);
  if (!ok) return last_error("set the options of a socket");
  return socket;
}

Status make_curve_server(Socket& socket, const KeyPair& keys, const char* zap_domain) {
  const bool ok = socket.set(ZMQ_ZAP_DOMAIN, std::string(zap_domain)) && socket.set(kZapEnforceDomainOption, 1) &&
                  socket.set(ZMQ_CURVE_SERVER, 1) && socket.set(ZMQ_CURVE_SECRETKEY, keys.secret_key);
  if (!ok) return last_error("secure a socket with the key of " + keys.name);
  return {};
}

Status make_curve_client(Socket& socket, const KeyPair& keys, const std::string& server_key) {
  const bool ok = socket.set(ZMQ_CURVE_SERVERKEY, server_key) && socket.set(ZMQ_CURVE_PUBLICKEY, keys.public_key) &&
                  socket.set(ZMQ_CURVE_SECRETKEY, keys.secret_key);
  if (!ok) return last_error("secure a socket with the key of " + keys.name);
  return {};
}

Status bind(Socket& socket, const std::string& endpoint) {
  if (zmq_bind(socket.raw(), endpoint.c_str()) == 0) return {};
  Error error = last_error("bind " + endpoint);
  if (error.code == Errc::unavailable) error.detail += "; is another node running there?";
  return error;
}

Status connect(Socket& socket, const std::string& endpoint) {
  if (zmq_connect(socket.raw(), endpoint.c_str()) == 0) return {};
  return last_error("connect to " + endpoint);
}

Sent send(void* socket, std::vector<zmq::message_t>& frames) {
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const int flags = ZMQ_DONTWAIT | (i + 1 < frames.size() ? ZMQ_SNDMORE : 0);
    int result = zmq_msg_send(frames[i].handle(), socket, flags);
    while (result < 0 && zmq_errno() == EINTR) result = zmq_msg_send(frames[i].handle(), socket, flags);
    if (result >= 0) continue;
    if (zmq_errno() == EHOSTUNREACH) return Sent::unreachable;
    // Only the first frame of a message can meet a full queue: the high-water mark counts whole messages.
    if (zmq_errno() == EAGAIN && i == 0) return Sent::full;
    return Sent::failed;
  }
  return Sent::yes;
}

Received receive(void* socket, std::vector<zmq::message_t>& frames) {
  frames.clear();
  bool more = true;
  bool too_many = false;
  while (more) {
    zmq::message_t frame;
    int result = zmq_msg_recv(frame.handle(), socket, ZMQ_DONTWAIT);
    while (result < 0 && zmq_errno() == EINTR) result = zmq_msg_recv(frame.handle(), socket, ZMQ_DONTWAIT);
    if (result < 0) return Received::nothing;
    more = frame.more();
    too_many = too_many || frames.size() == kFramesMax;
    if (!too_many) frames.push_back(std::move(frame));
  }
  return too_many ? Received::malformed : Received::yes;
}

zmq::message_t frame_of(Payload payload) {
  if (payload.size() <= kCopyBytesMax || !payload.owner()) return zmq::message_t(payload.view().data(), payload.size());
  auto* kept = new Payload(std::move(payload));
  const ByteView view = kept->view();
  handed_over(kept);
  // libzmq never writes into a frame that it sends.
  return zmq::message_t(const_cast<char*>(view.data()), view.size(), release_payload, kept);
}

zmq::message_t frame_of(Bytes bytes) {
  if (bytes.size() <= kCopyBytesMax) return zmq::message_t(bytes.data(), bytes.size());
  auto* kept = new Bytes(std::move(bytes));
  char* const data = kept->data();
  const std::size_t size = kept->size();
  handed_over(kept);
  return zmq::message_t(data, size, release_bytes, kept);
}

Payload payload_of(zmq::message_t frame) {
  auto owner = std::make_shared<const zmq::message_t>(std::move(frame));
  const ByteView view = view_of(*owner);
  return Payload(std::move(owner), view);
}

}  // namespace idunno::sockets

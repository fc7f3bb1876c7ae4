#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <atomic>
#include <csignal>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

#include "bus/log_link.h"
#include "bus/rpc.h"
#include "bus/security.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr std::size_t kRequestFramesMax = 16;  // ZAP with CURVE has 7
constexpr std::size_t kRequestBytesMax = 64U << 10U;
constexpr std::size_t kCurveKeyBytes = 32;
constexpr std::size_t kCurveFrames = 7;  // version, request id, domain, address, identity, mechanism, public key

struct User {
  Role role = Role::none;
  std::string name;
};
using Users = std::map<std::string, User>;  // by public key in Z85

Users users_of(const AdmittedKeys& admitted) {
  Users users;
  for (const AdmittedKey& key : admitted.keys()) users[key.public_key] = User{key.role, key.name};
  return users;
}

/// What a key must be allowed to connect in a ZAP domain; nothing when we have no such domain.
std::optional<Role> least_role(const std::string& domain) {
  if (domain == sockets::kZapDomain) return Role::read;  // the server looks at the role of each message
  if (domain == kLogZapDomain) return Role::node;
  return std::nullopt;
}

}  // namespace

struct ZapHandler::Impl {
  sockets::Socket socket;  ///< REP; used by the thread only once that runs
  int stop_fd = -1;
  std::mutex mutex;
  Users users;  ///< guarded by mutex
  std::atomic<std::uint64_t> refused{0};
  std::thread thread;

  ~Impl() {
    if (thread.joinable()) {
      const std::uint64_t one = 1;
      (void)!::write(stop_fd, &one, sizeof one);
      thread.join();
    }
    if (stop_fd >= 0) ::close(stop_fd);
  }

  void run() {
    for (;;) {
      std::array<zmq_pollitem_t, 2> items = {{{socket.raw(), 0, ZMQ_POLLIN, 0}, {nullptr, stop_fd, ZMQ_POLLIN, 0}}};
      const int ready = zmq_poll(items.data(), 2, -1);
      if (ready < 0 && zmq_errno() == EINTR) continue;
      if (ready < 0 || items[1].revents != 0) break;  // the context ends, or we do
      answer();
    }
    socket.close();  // here, so that a context that ends is not held up
  }

  void answer() {
    std::vector<std::string> request;
    bool more = true;
    while (more) {
      zmq::message_t frame;
      if (zmq_msg_recv(frame.handle(), socket.raw(), ZMQ_DONTWAIT) < 0) return;
      more = frame.more();
      if (request.size() < kRequestFramesMax) request.push_back(frame.to_string());
    }
    const std::string user = user_of(request);
    if (user.empty()) ++refused;
    std::vector<zmq::message_t> reply;
    reply.emplace_back(std::string("1.0"));
    reply.emplace_back(request.size() > 1 ? request[1] : std::string());
    reply.emplace_back(std::string(user.empty() ? "400" : "200"));
    reply.emplace_back(std::string(user.empty() ? "key not admitted" : "OK"));
    reply.emplace_back(user);
    reply.emplace_back(std::string());
    (void)sockets::send(socket.raw(), reply);  // fails only when the context ends
  }

  /// "<role>:<name>", or "" when the key is not admitted there.
  std::string user_of(const std::vector<std::string>& request) {
    if (request.size() != kCurveFrames || request[0] != "1.0" || request[5] != "CURVE" || request[6].size() != kCurveKeyBytes) {
      return "";
    }
    const std::optional<Role> least = least_role(request[2]);
    if (!least) return "";
    std::array<char, 41> z85{};
    zmq_z85_encode(z85.data(), reinterpret_cast<const std::uint8_t*>(request[6].data()), kCurveKeyBytes);
    const std::lock_guard lock(mutex);
    const auto found = users.find(z85.data());
    if (found == users.end() || !role_allows(found->second.role, *least)) return "";
    return to_string(found->second.role) + ":" + found->second.name;
  }
};

ZapHandler::ZapHandler() : impl_(std::make_unique<Impl>()) {}
ZapHandler::~ZapHandler() = default;

Result<std::unique_ptr<ZapHandler>> ZapHandler::start(ZmqContext& context, AdmittedKeys admitted) {
  std::unique_ptr<ZapHandler> handler(new ZapHandler());
  Impl& impl = *handler->impl_;
  auto socket = sockets::make(context.raw(), ZMQ_REP, {sockets::kControlHighWaterMark, kRequestBytesMax});
  if (!socket) return annotate(socket.error(), "start the ZAP handler");
  impl.socket = std::move(socket).value();
  if (const Status status = sockets::bind(impl.socket, sockets::kZapEndpoint); !status) {
    return annotate(status.error(), "start the ZAP handler");
  }
  impl.users = users_of(admitted);
  impl.stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (impl.stop_fd < 0) return Error{Errc::internal, "start the ZAP handler: no descriptor left"};
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // inherited by the thread: signals go to threads that ask for them
  impl.thread = std::thread([&impl] { impl.run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return handler;
}

void ZapHandler::replace(AdmittedKeys admitted) {
  Users users = users_of(admitted);
  const std::lock_guard lock(impl_->mutex);
  impl_->users.swap(users);
}

std::uint64_t ZapHandler::refused() const { return impl_->refused; }

}  // namespace idunno

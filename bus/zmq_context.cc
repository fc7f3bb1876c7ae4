#include <pthread.h>
#include <sys/resource.h>
#include <zmq.h>

#include <algorithm>
#include <csignal>

#include "bus/rpc.h"
#include "bus/zmq_socket.h"

namespace idunno {
namespace {

constexpr int kSocketsMax = 16384;
constexpr rlim_t kFilesMax = 65536;

/// A node holds a descriptor or more for each peer and client; the default of 1024 would be the first bound that is met.
void raise_file_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= kFilesMax) return;
  limit.rlim_cur = std::min(kFilesMax, limit.rlim_max);
  (void)setrlimit(RLIMIT_NOFILE, &limit);  // refused: we go on with what there is
}

}  // namespace

struct ZmqContext::Impl {
  void* context = nullptr;
  ~Impl() {
    if (context != nullptr) zmq_ctx_term(context);
  }
};

ZmqContext::ZmqContext() : impl_(std::make_unique<Impl>()) {}
ZmqContext::~ZmqContext() = default;
void* ZmqContext::raw() const { return impl_->context; }

Result<std::unique_ptr<ZmqContext>> ZmqContext::create(int io_threads) {
  if (zmq_has("curve") == 0) {
    return Error{Errc::internal, "libzmq was built without CURVE, and there is no insecure mode: install the libzmq5 of Debian"};
  }
  raise_file_limit();
  std::unique_ptr<ZmqContext> made(new ZmqContext());
  void* context = zmq_ctx_new();
  if (context == nullptr) return sockets::last_error("make a ZeroMQ context");
  made->impl_->context = context;
  const int sockets = std::min(kSocketsMax, zmq_ctx_get(context, ZMQ_SOCKET_LIMIT));
  if (zmq_ctx_set(context, ZMQ_IO_THREADS, io_threads) != 0 || zmq_ctx_set(context, ZMQ_MAX_SOCKETS, sockets) != 0 ||
      zmq_ctx_set(context, ZMQ_BLOCKY, 0) != 0) {
    return sockets::last_error("set up the ZeroMQ context");
  }
  // The first socket starts libzmq's threads, which inherit the signal mask: signals are for the threads of ours that ask for
  // them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const sockets::Socket first(::zmq_socket(context, ZMQ_PAIR));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!first) return sockets::last_error("make a socket");
  return made;
}

}  // namespace idunno

#pragma once
/// The loop of a shell thread: waits for ZeroMQ sockets, file descriptors, timers and posted work, and calls what was registered.
/// One thread owns a loop and everything registered with it; only `post` and `stop` may be called from others. A turn is one
/// wait and the calls that follow; `on_turn_end` runs once at the end of each turn (group commit: everything that came in during
/// the turn is made durable at once). No thread of ours ever polls with a short period: an idle loop costs nothing.

#include <cstdint>
#include <functional>
#include <memory>

#include "bus/base/time.h"

namespace idunno {

class EventLoop {
 public:
  using Callback = std::function<void()>;
  using TimerId = std::uint64_t;

  EventLoop();
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  /// `socket` is a raw ZeroMQ socket; `on_readable` is called while messages wait, and reads a bounded number of them. It is also
  /// called when the socket's state has changed otherwise (room to send), with perhaps nothing to read.
  void add_socket(void* socket, Callback on_readable);
  void remove_socket(void* socket);
  /// To be called after sending on a registered socket: libzmq may then have taken in the signal of a message that can be read
  /// now, and the loop has to look before it sleeps.
  void touch(void* socket);
  void add_fd(int fd, Callback on_readable);
  void remove_fd(int fd);

  TimerId at(Time when, Callback callback);  ///< once; never called before this returns
  TimerId after(Duration delay, Callback callback);
  void cancel(TimerId id);              ///< nothing when it has run already
  void on_turn_end(Callback callback);  ///< several may be registered; called in order of registration

  void post(Callback callback);  ///< from any thread; runs in the loop's thread, in order
  void stop();                   ///< from any thread; run() returns after the present turn

  void run();
  /// Runs turns until `done()` or `deadline`; true when done. For clients, which wait for one thing at a time.
  bool run_until(const std::function<bool()>& done, Time deadline);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

#include "bus/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <map>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "bus/base/assert.h"
#include "bus/clock.h"

namespace idunno {
namespace {

constexpr std::size_t kEventsPerWait = 64;  // more are reported by the next turn
constexpr std::uint64_t kWakeToken = 0;

}  // namespace

/// epoll over the descriptors, over libzmq's descriptor of each socket, and over an eventfd for other threads.
///
/// A ZeroMQ socket's descriptor is no level: it fires when libzmq has internal news for the socket, and any call on the socket
/// may take that news in. So each socket that fired, was read, or was sent on (`touch`) is put on the `look` list, and the loop
/// does not sleep before ZMQ_EVENTS has said of each of these that nothing can be read. Sockets not on the list need no look: a
/// turn costs by what happens, not by how many peers there are.
struct EventLoop::Impl {
  struct Source {
    void* socket = nullptr;  ///< or a descriptor when null
    int fd = -1;
    std::shared_ptr<Callback> callback;  ///< shared: a callback may remove its own source while it runs
  };

  int epoll = -1;
  int wake = -1;
  std::uint64_t next_source = 1;
  std::map<std::uint64_t, Source> sources;
  std::map<void*, std::uint64_t> socket_ids;
  std::map<int, std::uint64_t> fd_ids;
  std::set<std::uint64_t> look;          ///< sockets to ask for ZMQ_EVENTS before sleeping
  std::set<std::uint64_t> always_ready;  ///< regular files, which epoll refuses: they can always be read

  std::uint64_t next_timer = 1;
  std::map<std::pair<Time, TimerId>, Callback> timers;
  std::map<TimerId, Time> timer_times;
  std::vector<Callback> turn_end;

  std::mutex mutex;
  std::vector<Callback> posted;  ///< guarded by mutex
  std::atomic<bool> stopped{false};
  bool in_turn = false;

  Impl() : epoll(epoll_create1(EPOLL_CLOEXEC)), wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    ASSERT(epoll >= 0);
    ASSERT(wake >= 0);
    ASSERT(watch(wake, kWakeToken));
  }
  ~Impl() {
    ::close(wake);
    ::close(epoll);
  }

  [[nodiscard]] bool watch(int fd, std::uint64_t token) const {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = token;
    return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
  }

  void wake_up() const {
    const std::uint64_t one = 1;
    (void)!::write(wake, &one, sizeof one);  // fails only when the counter is full, and then the loop wakes anyway
  }

  void drop(std::uint64_t id) {
    const auto found = sources.find(id);
    (void)epoll_ctl(epoll, EPOLL_CTL_DEL, found->second.fd, nullptr);  // fails when the owner has closed it already
    look.erase(id);
    always_ready.erase(id);
    sources.erase(found);
  }

  void call(std::uint64_t id) {
    const auto found = sources.find(id);
    if (found == sources.end()) return;  // removed by an earlier callback of this turn
    const auto callback = found->second.callback;
    (*callback)();
  }

  /// Milliseconds for epoll: rounded up, so that a timer is due when the wait ends.
  [[nodiscard]] int wait_ms(Time deadline) const {
    if (!look.empty() || !always_ready.empty()) return 0;
    const Time until = timers.empty() ? deadline : std::min(deadline, timers.begin()->first.first);
    if (until == kNever) return -1;
    const Time now = monotonic_now();
    if (until <= now) return 0;
    const auto ms = (until - now + std::chrono::microseconds(999)) / std::chrono::milliseconds(1);
    return static_cast<int>(std::min<std::int64_t>(ms, 3'600'000));
  }

  void run_posted() {
    std::uint64_t count = 0;
    (void)!::read(wake, &count, sizeof count);
    std::vector<Callback> now;
    {
      const std::lock_guard lock(mutex);
      now.swap(posted);
    }
    for (auto& callback : now) callback();
  }

  /// Calls each socket that can be read or that fired; the ones that can be read stay on the list.
  void run_sockets(const std::set<std::uint64_t>& fired) {
    const std::vector<std::uint64_t> ids(look.begin(), look.end());
    for (const std::uint64_t id : ids) {
      const auto found = sources.find(id);
      if (found == sources.end()) continue;
      int events = 0;
      std::size_t size = sizeof events;
      const bool ok = zmq_getsockopt(found->second.socket, ZMQ_EVENTS, &events, &size) == 0;
      const bool readable = ok && (events & ZMQ_POLLIN) != 0;
      if (!readable) look.erase(id);  // before the call, which may touch it again
      if (readable || fired.contains(id)) call(id);
    }
  }

  void run_timers() {
    if (timers.empty()) return;
    const Time now = monotonic_now();
    std::vector<std::pair<Time, TimerId>> due;
    for (auto it = timers.begin(); it != timers.end() && it->first.first <= now; ++it) due.push_back(it->first);
    for (const auto& key : due) {
      const auto found = timers.find(key);
      if (found == timers.end()) continue;  // cancelled by an earlier one
      const Callback callback = std::move(found->second);
      timers.erase(found);
      timer_times.erase(key.second);
      callback();
    }
  }

  void turn(Time deadline) {
    ASSERT(!in_turn);  // a callback must not run the loop again
    in_turn = true;
    std::array<epoll_event, kEventsPerWait> events{};
    const int count = epoll_wait(epoll, events.data(), static_cast<int>(events.size()), wait_ms(deadline));
    std::set<std::uint64_t> fired;
    std::vector<std::uint64_t> fds(always_ready.begin(), always_ready.end());
    bool woken = false;
    for (int i = 0; i < count; ++i) {
      const std::uint64_t id = events[static_cast<std::size_t>(i)].data.u64;
      if (id == kWakeToken) {
        woken = true;
      } else if (const auto found = sources.find(id); found != sources.end()) {
        if (found->second.socket == nullptr) {
          fds.push_back(id);
        } else {
          fired.insert(id);
          look.insert(id);
        }
      }
    }
    if (woken) run_posted();
    run_sockets(fired);
    for (const std::uint64_t id : fds) call(id);
    run_timers();
    for (std::size_t i = 0; i < turn_end.size(); ++i) turn_end[i]();  // by index: a hook may add hooks
    in_turn = false;
  }
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::add_socket(void* socket, Callback on_readable) {
  int fd = -1;
  std::size_t size = sizeof fd;
  ASSERT(zmq_getsockopt(socket, ZMQ_FD, &fd, &size) == 0);
  ASSERT(!impl_->socket_ids.contains(socket));
  const std::uint64_t id = impl_->next_source++;
  ASSERT(impl_->watch(fd, id));
  impl_->sources[id] = Impl::Source{socket, fd, std::make_shared<Callback>(std::move(on_readable))};
  impl_->socket_ids[socket] = id;
  impl_->look.insert(id);
}

void EventLoop::remove_socket(void* socket) {
  const auto found = impl_->socket_ids.find(socket);
  if (found == impl_->socket_ids.end()) return;
  impl_->drop(found->second);
  impl_->socket_ids.erase(found);
}

void EventLoop::touch(void* socket) {
  if (const auto found = impl_->socket_ids.find(socket); found != impl_->socket_ids.end()) impl_->look.insert(found->second);
}

void EventLoop::add_fd(int fd, Callback on_readable) {
  ASSERT(!impl_->fd_ids.contains(fd));
  const std::uint64_t id = impl_->next_source++;
  if (!impl_->watch(fd, id)) {
    ASSERT(errno == EPERM);
    impl_->always_ready.insert(id);
  }
  impl_->sources[id] = Impl::Source{nullptr, fd, std::make_shared<Callback>(std::move(on_readable))};
  impl_->fd_ids[fd] = id;
}

void EventLoop::remove_fd(int fd) {
  const auto found = impl_->fd_ids.find(fd);
  if (found == impl_->fd_ids.end()) return;
  impl_->drop(found->second);
  impl_->fd_ids.erase(found);
}

EventLoop::TimerId EventLoop::at(Time when, Callback callback) {
  const TimerId id = impl_->next_timer++;
  impl_->timers.emplace(std::pair(when, id), std::move(callback));
  impl_->timer_times.emplace(id, when);
  return id;
}

EventLoop::TimerId EventLoop::after(Duration delay, Callback callback) {
  const Time now = monotonic_now();
  return at(delay >= kNever - now ? kNever : now + delay, std::move(callback));
}

void EventLoop::cancel(TimerId id) {
  const auto found = impl_->timer_times.find(id);
  if (found == impl_->timer_times.end()) return;
  impl_->timers.erase(std::pair(found->second, id));
  impl_->timer_times.erase(found);
}

void EventLoop::on_turn_end(Callback callback) { impl_->turn_end.push_back(std::move(callback)); }

void EventLoop::post(Callback callback) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->posted.push_back(std::move(callback));
  }
  impl_->wake_up();
}

void EventLoop::stop() {
  impl_->stopped = true;
  impl_->wake_up();
}

void EventLoop::run() {
  while (!impl_->stopped.exchange(false)) impl_->turn(kNever);
}

bool EventLoop::run_until(const std::function<bool()>& done, Time deadline) {
  while (!done()) {
    if (impl_->stopped || monotonic_now() >= deadline) return false;  // stop() stays in force: who gave up once gives up for all
    impl_->turn(deadline);
  }
  return true;
}

}  // namespace idunno

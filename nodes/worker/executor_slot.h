#pragma once
/// One compute slot: a thread that keeps one executor child busy. Tasks are written to the child ahead of its answers, so that
/// short batches do not wait for a round trip; answers come in order. A child that dies or hangs costs the first task without an
/// answer; those behind it are written again to the next child.

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <variant>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/event_loop.h"
#include "nodes/worker/executor_channel.h"
#include "nodes/worker/executor_pool.h"
#include "nodes/worker/executor_process.h"

namespace idunno {

inline constexpr std::size_t kSlotTasksMax = 1024;  ///< waiting in one slot; more are given back at once
inline constexpr std::size_t kSentAheadMax = 32;    ///< written to the child and not answered

/// What slots have to tell, delivered in the loop's thread. Many notes go with one post, so a fast slot does not flood the loop.
/// Kept alive by the posts that are under way; after close() nothing is delivered.
class SlotMailbox : public std::enable_shared_from_this<SlotMailbox> {
 public:
  struct Started {
    std::uint32_t slot;
    LeaseKey lease;
    Time at;
    std::uint64_t cpu_us;
    bool after_loading;  ///< it has begun before, and now has its model
  };
  SlotMailbox(EventLoop& loop, ExecutorPool::Handlers handlers) : loop_(loop), handlers_(std::move(handlers)) {}
  void tell(Started started) { put(started); }
  void tell(ExecutorPool::Outcome outcome) { put(std::move(outcome)); }
  void close() { closed_ = true; }  ///< in the loop's thread

 private:
  using Note = std::variant<Started, ExecutorPool::Outcome>;
  void put(Note note);
  void deliver();

  EventLoop& loop_;
  ExecutorPool::Handlers handlers_;
  bool closed_ = false;  ///< touched by the loop's thread only
  std::mutex mutex_;
  std::vector<Note> notes_;
  bool posted_ = false;
};

class ExecutorSlot {
 public:
  ExecutorSlot(std::uint32_t number, const ExecutorPool::Options& options, std::shared_ptr<SlotMailbox> mailbox);
  ~ExecutorSlot();  ///< kills the child
  ExecutorSlot(const ExecutorSlot&) = delete;
  ExecutorSlot& operator=(const ExecutorSlot&) = delete;

  void start(ExecutorPool::Task task);
  void cancel(const LeaseKey& lease);
  /// Lets the thread end; the destructor waits for it. Several slots so end side by side.
  void request_stop();
  [[nodiscard]] int pid() const { return pid_.load(); }  ///< 0 = no child now
  void add_usage(ExecutorPool::Usage& sum) const;
  /// Of the present child, or the next ones.
  void set_share(ExecutorShare share);
  [[nodiscard]] std::uint64_t cpu_us() const;  ///< of the present child; 0 = none, or not known

 private:
  struct Pending {
    ExecutorPool::Task task;
    bool sent = false;
    bool told = false;       ///< on_started was told: it has begun
    bool cancelled = false;  ///< its answer is thrown away
  };

  // All of these are of the slot's own thread.
  void run();
  void take_inbox();
  void apply_cancel(const LeaseKey& lease);
  void ensure_child();
  void write_ahead();
  void wait();
  void read_answers();
  bool take_answer(const ExecutorFrame& frame);
  bool take_loaded(const ExecutorFrame& frame);
  void begin_front();
  void note_answer(const BatchExecuted& head, const std::string& model);
  void finish_front(ExecutorPool::Outcome outcome);
  void fail_front(const std::string& detail);
  void child_failed(const std::string& why, Duration patience);
  void check_deadlines();
  void end_child(std::string* how, Duration patience);
  [[nodiscard]] Time next_deadline() const;
  [[nodiscard]] std::string name() const;

  const std::uint32_t number_;
  const ExecutorPool::Options options_;
  const std::shared_ptr<SlotMailbox> mailbox_;
  const int wake_fd_;

  mutable std::mutex mutex_;
  std::unique_ptr<ExecutorProcess> child_;  ///< changed by the slot's thread, under the mutex: others look at its processor time
  ExecutorShare share_{kExecutorNice, false};
  ExecutorPool::Usage usage_;
  std::deque<ExecutorPool::Task> inbox_;
  std::vector<LeaseKey> cancels_;
  bool stop_ = false;
  std::size_t held_ = 0;  ///< tasks in inbox_ and pending_

  std::deque<Pending> pending_;
  std::size_t sent_ = 0;  ///< of pending_, from the front
  FrameReader reader_;
  FrameWriter writer_;
  Time front_since_{};  ///< the first task is with the child since
  Time idle_since_{};
  Time retry_at_{};  ///< no child is started before
  Duration backoff_{};
  std::uint64_t answers_ = 0;  ///< of the present child
  std::atomic<int> pid_{0};
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace idunno

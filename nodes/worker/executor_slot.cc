#include "nodes/worker/executor_slot.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr Duration kBackoffMin = std::chrono::milliseconds(100);
constexpr Duration kBackoffMax = std::chrono::seconds(5);
constexpr Duration kExitPatience = std::chrono::milliseconds(500);  // between the end of its socket and the end of a child
constexpr std::size_t kReadsPerTurn = 64;
constexpr Duration kPollMax = std::chrono::hours(1);

}  // namespace

void SlotMailbox::put(Note note) {
  const std::lock_guard lock(mutex_);
  notes_.push_back(std::move(note));
  if (posted_) return;
  posted_ = true;
  loop_.post([self = shared_from_this()] { self->deliver(); });
}

void SlotMailbox::deliver() {
  std::vector<Note> notes;
  {
    const std::lock_guard lock(mutex_);
    notes.swap(notes_);
    posted_ = false;
  }
  for (Note& note : notes) {
    if (closed_) return;  // also by one of the callbacks
    if (auto* started = std::get_if<Started>(&note)) {
      const auto& handler = started->after_loading ? handlers_.loaded : handlers_.started;
      if (handler) handler(started->slot, started->lease, started->at, started->cpu_us);
    } else {
      handlers_.finished(std::move(std::get<ExecutorPool::Outcome>(note)));
    }
  }
}

ExecutorSlot::ExecutorSlot(std::uint32_t number, const ExecutorPool::Options& options, std::shared_ptr<SlotMailbox> mailbox)
    : number_(number),
      options_(options),
      mailbox_(std::move(mailbox)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      reader_(kResultBlockBytesMax) {
  ASSERT(wake_fd_ >= 0);
  idle_since_ = monotonic_now();
  thread_ = std::jthread([this] { run(); });
}

ExecutorSlot::~ExecutorSlot() {
  request_stop();
  thread_.join();
  close(wake_fd_);
}

void ExecutorSlot::request_stop() {
  const std::lock_guard lock(mutex_);
  stop_ = true;
  eventfd_write(wake_fd_, 1);
}

void ExecutorSlot::start(ExecutorPool::Task task) {
  std::unique_lock lock(mutex_);
  if (held_ >= kSlotTasksMax) {
    lock.unlock();
    ExecutorPool::Outcome refused;
    refused.slot = number_;
    refused.lease = task.lease;
    refused.why = BatchFailure::returned;
    refused.at = monotonic_now();
    refused.detail = fmt::format("slot {} has {} batches waiting already", number_, kSlotTasksMax);
    return mailbox_->tell(std::move(refused));
  }
  ++held_;
  inbox_.push_back(std::move(task));
  if (inbox_.size() == 1) eventfd_write(wake_fd_, 1);
}

void ExecutorSlot::cancel(const LeaseKey& lease) {
  const std::lock_guard lock(mutex_);
  if (std::erase_if(inbox_, [&](const ExecutorPool::Task& task) { return task.lease == lease; }) != 0) {
    --held_;
    return;
  }
  if (held_ == 0) return;
  cancels_.push_back(lease);
  eventfd_write(wake_fd_, 1);
}

void ExecutorSlot::add_usage(ExecutorPool::Usage& sum) const {
  const std::lock_guard lock(mutex_);
  sum.children += pid_.load() != 0 ? 1U : 0U;
  sum.models.insert(usage_.models.begin(), usage_.models.end());
  sum.model_loads += usage_.model_loads;
  sum.model_load_us += usage_.model_load_us;
  sum.starts += usage_.starts;
  sum.failures += usage_.failures;
  sum.batches += usage_.batches;
  sum.fixed_nice = sum.fixed_nice || (child_ && !child_->may_renice());
}

void ExecutorSlot::set_share(ExecutorShare share) {
  const std::lock_guard lock(mutex_);
  if (child_ && share_.nice != share.nice) child_->set_nice(share.nice);
  if (child_ && share_.stopped != share.stopped) child_->set_stopped(share.stopped);
  share_ = share;
}

std::uint64_t ExecutorSlot::cpu_us() const {
  const std::lock_guard lock(mutex_);
  return child_ ? child_->cpu_us() : 0;
}

std::string ExecutorSlot::name() const { return fmt::format("executor of slot {} (pid {})", number_, pid_.load()); }

void ExecutorSlot::run() {
  while (true) {
    take_inbox();
    {
      const std::lock_guard lock(mutex_);
      if (stop_) break;
    }
    ensure_child();
    if (child_) write_ahead();
    wait();
    if (child_) read_answers();
    check_deadlines();
  }
  end_child(nullptr, Duration::zero());
}

void ExecutorSlot::take_inbox() {
  std::deque<ExecutorPool::Task> tasks;
  std::vector<LeaseKey> cancels;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(inbox_);
    cancels.swap(cancels_);
  }
  // A task of this turn's inbox was put there after these were cancelled, or it would have been taken out by cancel().
  for (const LeaseKey& lease : cancels) apply_cancel(lease);
  for (ExecutorPool::Task& task : tasks) pending_.push_back({std::move(task)});
}

void ExecutorSlot::apply_cancel(const LeaseKey& lease) {
  const auto found =
      std::find_if(pending_.begin(), pending_.end(), [&](const Pending& pending) { return pending.task.lease == lease; });
  if (found == pending_.end() || found->told) return;  // gone, or running: then its outcome is told
  if (found->sent) {
    found->cancelled = true;  // the child has its bytes and will answer
    return;
  }
  pending_.erase(found);
  const std::lock_guard lock(mutex_);
  --held_;
}

void ExecutorSlot::ensure_child() {
  if (child_ || pending_.empty() || monotonic_now() < retry_at_) return;
  auto started = ExecutorProcess::start(
      {options_.program, options_.memory_bytes, options_.log_dir / fmt::format("executor-{}.log", number_)});
  if (!started) {
    backoff_ = std::clamp(backoff_ * 2, kBackoffMin, kBackoffMax);
    retry_at_ = monotonic_now() + backoff_;
    {
      const std::lock_guard lock(mutex_);
      ++usage_.failures;
    }
    return fail_front(started.error().detail);
  }
  {
    const std::lock_guard lock(mutex_);
    ++usage_.starts;
    child_ = std::move(started).value();
    share_.stopped = false;
    child_->set_nice(share_.nice);
  }
  pid_ = child_->pid();
  answers_ = 0;
  sent_ = 0;
  reader_ = FrameReader(kResultBlockBytesMax);
  writer_.clear();
}

void ExecutorSlot::write_ahead() {
  while (sent_ < pending_.size() && sent_ < kSentAheadMax) {
    Pending& next = pending_[sent_];
    writer_.push(encode_head(next.task.head), next.task.items);
    next.sent = true;
    if (sent_++ == 0) begin_front();
  }
  if (writer_.empty()) return;
  if (const auto flushed = writer_.flush(child_->fd()); !flushed) {
    read_answers();  // what it said before it went
    if (child_) child_failed("", kExitPatience);
  }
}

void ExecutorSlot::begin_front() {
  Pending& front = pending_.front();
  front_since_ = monotonic_now();
  if (front.told || front.cancelled) return;
  front.told = true;
  mailbox_->tell(SlotMailbox::Started{number_, front.task.lease, front_since_, child_->cpu_us(), false});
}

Time ExecutorSlot::next_deadline() const {
  if (!child_) return pending_.empty() ? kNever : retry_at_;
  return sent_ != 0 ? front_since_ + options_.batch_timeout : idle_since_ + options_.idle_after;
}

void ExecutorSlot::wait() {
  std::array<pollfd, 2> watched{};
  watched[0] = {wake_fd_, POLLIN, 0};
  watched[1] = {child_ ? child_->fd() : -1, static_cast<short>(writer_.empty() ? POLLIN : POLLIN | POLLOUT), 0};
  Duration left = kPollMax;
  if (const Time deadline = next_deadline(); deadline != kNever)
    left = std::clamp(deadline - monotonic_now(), Duration::zero(), kPollMax);
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  poll(watched.data(), watched.size(), static_cast<int>(ms));  // an error or a signal is as good as a wake-up
  eventfd_t ignored = 0;
  if ((watched[0].revents & POLLIN) != 0) eventfd_read(wake_fd_, &ignored);
}

void ExecutorSlot::read_answers() {
  for (std::size_t reads = 0; reads < kReadsPerTurn; ++reads) {
    const auto got = reader_.read_some(child_->fd());
    if (!got) return child_failed(got.error().detail, kExitPatience);
    while (true) {
      const auto frame = reader_.next();
      if (!frame) return child_failed("sent " + frame.error().detail, Duration::zero());
      if (!frame->has_value()) break;
      if (!take_answer(**frame)) return child_failed("sent an answer that cannot be read", Duration::zero());
      if (!child_) return;
    }
    if (*got == FrameReader::Read::closed) return child_failed("", kExitPatience);
    if (*got == FrameReader::Read::would_block) return;
  }
}

bool ExecutorSlot::take_answer(const ExecutorFrame& frame) {
  if (sent_ == 0) return false;
  auto head = decode_head<BatchExecuted>(frame.head);
  if (!head) return take_loaded(frame);
  if (!head->ok && head->why == BatchFailure::executor_died) {  // its own word before it ends
    child_failed(head->detail, kExitPatience);
    return true;
  }
  const bool known = head->ok || head->why == BatchFailure::model_unusable || head->why == BatchFailure::result_too_large;
  if (!known) return false;
  ++answers_;
  backoff_ = Duration::zero();
  note_answer(*head, pending_.front().task.head.model_key);
  ExecutorPool::Outcome outcome;
  outcome.executed = head->ok;
  outcome.why = head->why;
  outcome.detail = head->detail;
  if (head->ok) outcome.rows = Payload(Bytes(frame.payload));
  outcome.head = std::move(head).value();
  finish_front(std::move(outcome));
  return true;
}

bool ExecutorSlot::take_loaded(const ExecutorFrame& frame) {
  if (!decode_head<ModelLoaded>(frame.head)) return false;
  const Pending& front = pending_.front();
  if (!front.cancelled) mailbox_->tell(SlotMailbox::Started{number_, front.task.lease, monotonic_now(), child_->cpu_us(), true});
  return true;
}

void ExecutorSlot::note_answer(const BatchExecuted& head, const std::string& model) {
  const std::lock_guard lock(mutex_);
  for (const std::string& gone : head.unloaded) usage_.models.erase(gone);
  if (head.load_us != 0) {
    ++usage_.model_loads;
    usage_.model_load_us += head.load_us;
    usage_.models.insert(model);
  }
  usage_.batches += head.ok ? 1 : 0;
}

void ExecutorSlot::finish_front(ExecutorPool::Outcome outcome) {
  Pending front = std::move(pending_.front());
  pending_.pop_front();
  if (front.sent) --sent_;
  {
    const std::lock_guard lock(mutex_);
    --held_;
  }
  idle_since_ = monotonic_now();
  if (!front.cancelled) {
    outcome.slot = number_;
    outcome.lease = front.task.lease;
    outcome.at = idle_since_;
    outcome.cpu_us = child_ ? child_->cpu_us() : 0;
    mailbox_->tell(std::move(outcome));
  }
  if (child_ && sent_ != 0) begin_front();
}

void ExecutorSlot::fail_front(const std::string& detail) {
  ExecutorPool::Outcome outcome;
  outcome.why = BatchFailure::executor_died;
  outcome.detail = detail;
  finish_front(std::move(outcome));
}

void ExecutorSlot::end_child(std::string* how, Duration patience) {
  if (!child_) return;
  std::unique_ptr<ExecutorProcess> child;
  {
    const std::lock_guard lock(mutex_);
    child = std::move(child_);
    usage_.models.clear();
  }
  const std::string ended = child->end(patience);
  if (how != nullptr) *how = ended;
  pid_ = 0;
  writer_.clear();
}

void ExecutorSlot::child_failed(const std::string& why, Duration patience) {
  const std::string who = name();
  const bool charged = sent_ != 0;
  const bool at_once = answers_ == 0;
  std::string how;
  end_child(&how, patience);
  for (std::size_t i = 0; i < sent_; ++i) pending_[i].sent = false;
  sent_ = 0;
  if (at_once) {  // one that ends before it has done anything would be started again without end
    backoff_ = std::clamp(backoff_ * 2, kBackoffMin, kBackoffMax);
    retry_at_ = monotonic_now() + backoff_;
  }
  if (charged) fail_front(who + " " + (why.empty() ? how : why));
  const std::size_t forgotten = std::erase_if(pending_, [](const Pending& pending) { return pending.cancelled; });
  const std::lock_guard lock(mutex_);
  held_ -= forgotten;
  ++usage_.failures;
}

void ExecutorSlot::check_deadlines() {
  if (!child_) return;
  const Time now = monotonic_now();
  if (sent_ != 0) {
    if (now < front_since_ + options_.batch_timeout) return;
    const auto limit = std::chrono::duration<double>(options_.batch_timeout).count();
    return child_failed(fmt::format("did not answer within {:g} s", limit), Duration::zero());
  }
  if (pending_.empty() && now >= idle_since_ + options_.idle_after) end_child(nullptr, kExitPatience);
}

}  // namespace idunno

#include "nodes/worker/executor_pool.h"

#include <algorithm>

#include "nodes/worker/executor_slot.h"

namespace idunno {

struct ExecutorPool::Impl {
  std::shared_ptr<SlotMailbox> mailbox;
  std::vector<std::unique_ptr<ExecutorSlot>> slots;
};

ExecutorPool::ExecutorPool(EventLoop& loop, Options options, Handlers handlers) : impl_(std::make_unique<Impl>()) {
  impl_->mailbox = std::make_shared<SlotMailbox>(loop, std::move(handlers));
  for (std::uint32_t slot = 0; slot < options.slots; ++slot) {
    impl_->slots.push_back(std::make_unique<ExecutorSlot>(slot, options, impl_->mailbox));
  }
}

ExecutorPool::~ExecutorPool() {
  impl_->mailbox->close();
  for (const auto& slot : impl_->slots) slot->request_stop();
}

void ExecutorPool::start(std::uint32_t slot, Task task) {
  ASSERT(slot < impl_->slots.size());
  impl_->slots[slot]->start(std::move(task));
}

void ExecutorPool::cancel(const LeaseKey& lease) {
  for (const auto& slot : impl_->slots) slot->cancel(lease);
}

std::vector<std::uint32_t> ExecutorPool::masked_places(const Lease& lease) {
  if (!lease.is_trial()) return lease.quarantined;
  std::vector<std::uint32_t> masked;
  for (std::uint32_t place = 0; place < lease.queries; ++place) {
    const bool tried = place >= lease.trial_from && place < lease.trial_to;
    if (!tried || std::binary_search(lease.quarantined.begin(), lease.quarantined.end(), place)) masked.push_back(place);
  }
  return masked;
}

ExecutorPool::Usage ExecutorPool::usage() const {
  Usage sum;
  for (const auto& slot : impl_->slots) slot->add_usage(sum);
  return sum;
}

std::vector<std::uint64_t> ExecutorPool::cpu_us() const {
  std::vector<std::uint64_t> times;
  for (const auto& slot : impl_->slots) times.push_back(slot->cpu_us());
  return times;
}

void ExecutorPool::set_share(std::uint32_t slot, ExecutorShare share) {
  ASSERT(slot < impl_->slots.size());
  impl_->slots[slot]->set_share(share);
}

std::vector<int> ExecutorPool::pids() const {
  std::vector<int> pids;
  for (const auto& slot : impl_->slots) {
    if (const int pid = slot->pid(); pid != 0) pids.push_back(pid);
  }
  return pids;
}

}  // namespace idunno

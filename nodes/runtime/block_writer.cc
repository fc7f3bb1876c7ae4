#include "nodes/runtime/block_writer.h"

#include <memory>
#include <utility>

#include "bus/clock.h"

namespace idunno {
namespace {

/// What may wait while a batch is being synced, and so the largest batch: about a tenth of a second of a common disk.
constexpr std::uint64_t kPendingBytesMax = 16ULL << 20U;
constexpr std::size_t kPendingOperationsMax = 4096;

}  // namespace

BlockWriter::BlockWriter(EventLoop& loop, BlockStore& store, std::function<void(const Error&)> failed)
    : loop_(loop), store_(store), failed_(std::move(failed)), thread_([this] { run(); }) {}

BlockWriter::~BlockWriter() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void BlockWriter::submit(std::vector<NewBlock> blocks, PutDone done) {
  if (has_failed_) return done(std::vector<BlockStatus>(blocks.size(), BlockStatus::failed));
  for (const NewBlock& block : blocks) pending_bytes_ += block.bytes.size();
  Operation operation;
  operation.blocks = std::move(blocks);
  operation.put_done = std::move(done);
  pending_.push_back(std::move(operation));
  wait_for_room();
}

void BlockWriter::remove(std::vector<BlockId> ids, RemoveDone done) {
  if (has_failed_) return done(Error{Errc::internal, "deleting blocks: the store failed before"});
  Operation operation;
  operation.ids = std::move(ids);
  operation.remove_done = std::move(done);
  pending_.push_back(std::move(operation));
  wait_for_room();
}

void BlockWriter::wait_for_room() {
  if (pending_bytes_ < kPendingBytesMax && pending_.size() < kPendingOperationsMax) return;
  {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !has_work_; });
  }
  turn_end();
}

void BlockWriter::turn_end() {
  if (pending_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    if (has_work_) return;
    work_ = std::exchange(pending_, {});
    has_work_ = true;
  }
  pending_bytes_ = 0;
  changed_.notify_all();
}

void BlockWriter::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return has_work_ || stopping_; });
    if (stopping_) return;
    auto group = std::make_shared<Group>(std::exchange(work_, {}));
    lock.unlock();
    execute(*group);
    lock.lock();
    has_work_ = false;
    changed_.notify_all();
    loop_.post([this, group] {
      answer(*group);
      turn_end();
    });
  }
}

void BlockWriter::execute(Group& group) {
  for (std::size_t first = 0; first < group.size();) {
    std::size_t last = first;
    while (last < group.size() && group[last].put_done) ++last;
    if (last > first) {
      put_together(group, first, last);
      first = last;
      continue;
    }
    Operation& removal = group[first++];
    const std::uint64_t before = store_.usage().blocks;
    const Status status = store_.remove(removal.ids);
    if (status)
      removal.removed = before - store_.usage().blocks;
    else
      removal.removed = status.error();
  }
}

/// All puts of operations [first, last) in one synced batch.
void BlockWriter::put_together(Group& group, std::size_t first, std::size_t last) {
  std::vector<BlockWrite> writes;
  for (std::size_t i = first; i < last; ++i) {
    for (const NewBlock& block : group[i].blocks) writes.push_back(BlockWrite{block.key, block.bytes.view()});
  }
  const auto statuses = store_.put(writes, wall_now_ms());
  std::size_t next = 0;
  for (std::size_t i = first; i < last; ++i) {
    Operation& operation = group[i];
    if (!statuses) {
      operation.statuses = statuses.error();
      continue;
    }
    const auto begin = statuses->begin() + static_cast<std::ptrdiff_t>(next);
    next += operation.blocks.size();
    operation.statuses = std::vector<BlockStatus>(begin, statuses->begin() + static_cast<std::ptrdiff_t>(next));
    operation.blocks.clear();  // gives the buffers back before the answers are sent
  }
}

void BlockWriter::answer(Group& group) {
  for (Operation& operation : group) {
    const bool is_put = static_cast<bool>(operation.put_done);
    const Error* error = nullptr;
    if (is_put && !operation.statuses) error = &operation.statuses.error();
    if (!is_put && !operation.removed && operation.removed.error().code != Errc::full) error = &operation.removed.error();
    if (error != nullptr && !has_failed_) {
      has_failed_ = true;
      failed_(*error);
    }
    if (is_put)
      operation.put_done(std::move(operation.statuses));
    else
      operation.remove_done(std::move(operation.removed));
  }
}

}  // namespace idunno

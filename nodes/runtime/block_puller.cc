#include "nodes/runtime/block_puller.h"

namespace idunno {
namespace {

constexpr std::size_t kPullsInFlightMax = 8;
constexpr std::size_t kPullsQueuedMax = 16 * kBlocksPerRequestMax;

}  // namespace

BlockStatus status_of(const Error& error) {
  if (error.code == Errc::not_found) return BlockStatus::missing;
  if (error.code == Errc::damaged) return BlockStatus::damaged;
  return BlockStatus::failed;
}

void BlockPuller::pull(std::vector<BlockRef> wanted, Done done) {
  const std::size_t count = wanted.size();
  // `full` for all of them tells the caller to come again later.
  if (waiting_.size() + count > kPullsQueuedMax) return done(std::vector<BlockStatus>(count, BlockStatus::full));
  if (count == 0) return done({});
  auto task = std::make_shared<Task>(Task{std::move(wanted), {}, count, std::move(done)});
  task->statuses.assign(count, BlockStatus::failed);
  for (std::size_t i = 0; i < count; ++i) waiting_.emplace_back(task, i);
  pull_some();
}

void BlockPuller::pull_some() {
  while (!waiting_.empty() && in_flight_ < kPullsInFlightMax) {
    auto [task, index] = std::move(waiting_.front());
    waiting_.pop_front();
    ++in_flight_;
    BlockRef block = task->blocks[index];
    std::erase(block.replicas, self_);
    const BlockKey key{block.id, block.length, block.hash};
    blocks_.read(block, [this, task = task, index = index, key](Result<Payload> bytes) {
      if (!bytes) return pulled(task, index, status_of(bytes.error()));
      // A good copy that is here already is found by the store, which then writes nothing.
      std::vector<NewBlock> copy{NewBlock{key, std::move(*bytes)}};
      writer_.submit(std::move(copy), [this, task, index](Result<std::vector<BlockStatus>> statuses) {
        pulled(task, index, statuses ? statuses->front() : BlockStatus::failed);
      });
    });
  }
}

void BlockPuller::pulled(const std::shared_ptr<Task>& task, std::size_t index, BlockStatus status) {
  task->statuses[index] = status;
  --in_flight_;
  if (--task->left == 0) task->done(std::move(task->statuses));
  loop_.post([this] { pull_some(); });  // not from here: answers may come at once, and would nest
}

}  // namespace idunno

#pragma once
/// Copies blocks from their replicas into this node's store, for repair and for clients that ask for it. What waits and what is
/// in flight is bounded. One thread: the loop's.

#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "bus/event_loop.h"
#include "bus/messages.h"
#include "nodes/runtime/block_writer.h"
#include "storage/sdfs/client.h"

namespace idunno {

/// What a failed read says of the copy that was read.
[[nodiscard]] BlockStatus status_of(const Error& error);

class BlockPuller {
 public:
  using Done = std::function<void(std::vector<BlockStatus>)>;

  /// The arguments live longer than this object.
  BlockPuller(EventLoop& loop, NodeId self, BlockClient& blocks, BlockWriter& writer)
      : loop_(loop), self_(self), blocks_(blocks), writer_(writer) {}
  BlockPuller(const BlockPuller&) = delete;
  BlockPuller& operator=(const BlockPuller&) = delete;

  /// `done` gets one status a block, in order: `full` for all of them when too many wait already.
  void pull(std::vector<BlockRef> wanted, Done done);

 private:
  struct Task {
    std::vector<BlockRef> blocks;
    std::vector<BlockStatus> statuses;
    std::size_t left = 0;  ///< not done yet
    Done done;
  };

  void pull_some();
  void pulled(const std::shared_ptr<Task>& task, std::size_t index, BlockStatus status);

  EventLoop& loop_;
  NodeId self_;
  BlockClient& blocks_;
  BlockWriter& writer_;
  std::deque<std::pair<std::shared_ptr<Task>, std::size_t>> waiting_;  // task, index of the block
  std::size_t in_flight_ = 0;
};

}  // namespace idunno

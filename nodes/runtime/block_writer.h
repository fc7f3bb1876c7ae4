#pragma once
/// Writes blocks with as few syncs as possible. Everything submitted while one synced batch is under way forms the next one; a
/// thread of its own does the writing, so that the loop goes on answering reads.
///
/// submit, remove and turn_end belong to the loop's thread; answers come back there. What waits is bounded: a submit beyond the
/// bound blocks the loop until the batch in progress is done, so that further requests stay in the sockets and slow their senders
/// down.

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "bus/base/result.h"
#include "bus/event_loop.h"
#include "storage/block_store.h"
#include "storage/sdfs/client.h"

namespace idunno {

class BlockWriter {
 public:
  using PutDone = std::function<void(Result<std::vector<BlockStatus>>)>;
  using RemoveDone = std::function<void(Result<std::uint64_t>)>;  ///< how many blocks were there

  /// `failed` is called once, in the loop's thread, when the store failed for good. `loop` and `store` outlive this.
  BlockWriter(EventLoop& loop, BlockStore& store, std::function<void(const Error&)> failed);
  ~BlockWriter();  ///< waits for the batch in progress; what was not begun is not written and not answered
  BlockWriter(const BlockWriter&) = delete;
  BlockWriter& operator=(const BlockWriter&) = delete;

  void submit(std::vector<NewBlock> blocks, PutDone done);
  void remove(std::vector<BlockId> ids, RemoveDone done);
  /// Hands over what came together in this turn, if the thread is free.
  void turn_end();

 private:
  /// Puts or a removal, in the order in which they came.
  struct Operation {
    std::vector<NewBlock> blocks;
    PutDone put_done;
    std::vector<BlockId> ids;
    RemoveDone remove_done;
    Result<std::vector<BlockStatus>> statuses{std::vector<BlockStatus>()};
    Result<std::uint64_t> removed{std::uint64_t{0}};
  };
  using Group = std::vector<Operation>;

  void wait_for_room();
  void run();
  void execute(Group& group);
  void put_together(Group& group, std::size_t first, std::size_t last);
  void answer(Group& group);

  EventLoop& loop_;
  BlockStore& store_;
  std::function<void(const Error&)> failed_;
  bool has_failed_ = false;

  Group pending_;  // loop's thread
  std::uint64_t pending_bytes_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  Group work_;             // guarded by mutex_
  bool has_work_ = false;  // guarded by mutex_; true until the group is written
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace idunno

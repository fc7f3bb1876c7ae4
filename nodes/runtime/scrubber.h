#pragma once
/// Looks for damage on this node's disk before a reader finds it: reads every block of the store again and again, at a bounded
/// rate, in small steps between other work (the idea of disk scrubbing: Schwarz et al., "Disk Scrubbing in Large Archival Storage
/// Systems", MASCOTS 2004). A damaged copy is deleted here and reported; the cluster makes a new one from good copies.
///
/// A reader that found something wrong names the block as a suspect. It is looked at again a little later, when the reader has
/// perhaps put a good copy in its place; a reader whose expectation was wrong does no harm, since a block is judged by the hash
/// it was stored with.
///
/// One thread: that of the EventLoop.

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "bus/event_loop.h"
#include "storage/block_store.h"

namespace idunno {

class Scrubber {
 public:
  struct Options {
    std::uint64_t bytes_per_s = 0;                     ///< of the walk through the store; 0 = no walk, suspects only
    Duration round_pause = std::chrono::minutes(5);    ///< after the last block, before the first one again
    Duration suspect_delay = std::chrono::seconds(2);  ///< a reader that mends takes less
  };
  struct Totals {
    std::uint64_t blocks = 0;   ///< verified
    std::uint64_t rounds = 0;   ///< complete walks
    std::uint64_t damaged = 0;  ///< found
  };
  using Remove = std::function<void(std::vector<BlockId>, std::function<void(bool removed)> done)>;
  using Damaged = std::function<void(const std::vector<BlockId>&)>;

  /// `remove` deletes blocks here; `damaged` is told when that is done. `loop` and `store` outlive this.
  Scrubber(EventLoop& loop, BlockStore& store, Options options, Remove remove, Damaged damaged);
  ~Scrubber();
  Scrubber(const Scrubber&) = delete;
  Scrubber& operator=(const Scrubber&) = delete;

  void suspect(BlockId id);
  [[nodiscard]] const Totals& totals() const { return totals_; }

 private:
  void walk();
  void start_round();
  [[nodiscard]] bool next_page();
  void look_at_suspects();
  /// Whether the copy is damaged.
  [[nodiscard]] bool is_damaged(BlockId id);
  void give_up(std::vector<BlockId> damaged);

  EventLoop& loop_;
  BlockStore& store_;
  const Options options_;
  const Remove remove_;
  const Damaged damaged_;
  Totals totals_;
  std::vector<HeldBlock> page_;       ///< of the walk
  std::size_t next_ = 0;              ///< in page_
  BlockId after_;                     ///< the last block of page_
  std::map<BlockId, Time> suspects_;  ///< and when to look at each
  EventLoop::TimerId walk_timer_ = 0;
  EventLoop::TimerId suspects_timer_ = 0;
};

}  // namespace idunno

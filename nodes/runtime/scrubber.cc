#include "nodes/runtime/scrubber.h"

#include <algorithm>
#include <utility>

#include "bus/clock.h"

namespace idunno {
namespace {

/// One step of the walk: other requests wait for it, so it is about what one large read costs.
constexpr std::uint64_t kStepBytes = 512U << 10U;
constexpr std::size_t kStepBlocks = 64;
/// Counted for each block besides its bytes: small blocks cost a seek all the same.
constexpr std::uint64_t kBlockCost = 4096;
constexpr std::size_t kPageBlocks = 256;
/// Suspects beyond are left to the walk.
constexpr std::size_t kSuspectsMax = 1024;
/// Of a step, so that a very high rate still lets others in.
constexpr Duration kStepPauseMin = std::chrono::milliseconds(1);

}  // namespace

Scrubber::Scrubber(EventLoop& loop, BlockStore& store, Options options, Remove remove, Damaged damaged)
    : loop_(loop), store_(store), options_(options), remove_(std::move(remove)), damaged_(std::move(damaged)) {
  if (options_.bytes_per_s > 0) walk_timer_ = loop_.after(kStepPauseMin, [this] { start_round(); });
}

Scrubber::~Scrubber() {
  loop_.cancel(walk_timer_);
  loop_.cancel(suspects_timer_);
}

bool Scrubber::is_damaged(BlockId id) {
  const Status good = store_.verify(id);
  if (good) ++totals_.blocks;
  // One that is gone by now was deleted; any other error is the store's own affair (fail-stop at its next write).
  return !good && good.error().code == Errc::damaged;
}

void Scrubber::start_round() {
  page_.clear();
  next_ = 0;
  after_ = BlockId{};
  walk();
}

bool Scrubber::next_page() {
  auto page = store_.list(after_, kPageBlocks);
  if (!page || page->empty()) return false;
  page_ = std::move(*page);
  next_ = 0;
  after_ = page_.back().id;
  return true;
}

void Scrubber::walk() {
  std::vector<BlockId> damaged;
  std::uint64_t cost = 0;
  bool at_end = false;
  for (std::size_t count = 0; count < kStepBlocks && cost < kStepBytes; ++count) {
    if (next_ == page_.size() && !next_page()) {
      at_end = true;
      break;
    }
    const HeldBlock& block = page_[next_++];
    if (is_damaged(block.id)) damaged.push_back(block.id);
    cost += block.length + kBlockCost;
  }
  if (!damaged.empty()) give_up(std::move(damaged));
  if (at_end) {
    ++totals_.rounds;
    walk_timer_ = loop_.after(options_.round_pause, [this] { start_round(); });
    return;
  }
  const double seconds = static_cast<double>(cost) / static_cast<double>(options_.bytes_per_s);
  const auto pause = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
  walk_timer_ = loop_.after(std::max(pause, kStepPauseMin), [this] { walk(); });
}

void Scrubber::suspect(BlockId id) {
  if (suspects_.size() >= kSuspectsMax || suspects_.count(id) != 0) return;
  suspects_[id] = monotonic_now() + options_.suspect_delay;
  if (suspects_timer_ == 0) suspects_timer_ = loop_.after(options_.suspect_delay, [this] { look_at_suspects(); });
}

void Scrubber::look_at_suspects() {
  suspects_timer_ = 0;
  const Time now = monotonic_now();
  Time next = kNever;
  std::vector<BlockId> damaged;
  std::size_t looked = 0;
  for (auto it = suspects_.begin(); it != suspects_.end();) {
    if (it->second > now || looked == kStepBlocks) {
      next = std::min(next, std::max(it->second, now + kStepPauseMin));
      ++it;
      continue;
    }
    ++looked;
    if (is_damaged(it->first)) damaged.push_back(it->first);
    it = suspects_.erase(it);
  }
  if (next != kNever) suspects_timer_ = loop_.at(next, [this] { look_at_suspects(); });
  if (!damaged.empty()) give_up(std::move(damaged));
}

void Scrubber::give_up(std::vector<BlockId> damaged) {
  totals_.damaged += damaged.size();
  // Told only when the copies are gone: what comes back to this node afterwards is a new, good one.
  remove_(damaged, [this, damaged](bool removed) {
    if (removed) damaged_(damaged);
  });
}

}  // namespace idunno

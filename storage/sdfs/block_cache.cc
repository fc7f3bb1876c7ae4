#include "storage/sdfs/block_cache.h"

#include <utility>

namespace idunno {

void BlockCache::read(const PlacedBlock& block, bool keep_it, Done done) {
  const BlockId id = block.block.id;
  if (const auto it = kept_.find(id); it != kept_.end()) {
    uses_.splice(uses_.begin(), uses_, it->second.use);
    const Result<Payload> bytes = it->second.bytes;  // a copy: the callback may make the cache drop it
    return done(bytes);
  }
  Wait& wait = waits_[id];
  wait.callbacks.push_back(std::move(done));
  wait.keep = wait.keep || keep_it;
  if (wait.callbacks.size() > 1) return;
  blocks_.read(block.block, [weak = weak_from_this(), block](const Result<Payload>& bytes) {
    const auto self = weak.lock();
    if (!self) return;
    const bool elsewhere = !bytes && (bytes.error().code == Errc::unavailable || bytes.error().code == Errc::damaged);
    if (elsewhere && self->relocate_) return self->ask_anew(block, bytes.error());
    self->deliver(block.block.id, bytes);
  });
}

void BlockCache::ask_anew(const PlacedBlock& block, const Error& why) {
  relocate_(block.path, block.version, block.index,
            [weak = weak_from_this(), id = block.block.id, why](const Result<BlockRef>& place) {
              const auto self = weak.lock();
              if (!self) return;
              if (!place) return self->deliver(id, annotate(place.error(), why.detail + "; its present place is not known"));
              if (place->id != id) return self->deliver(id, why);
              self->blocks_.read(*place, [weak, id](const Result<Payload>& bytes) {
                if (const auto again = weak.lock()) again->deliver(id, bytes);
              });
            });
}

void BlockCache::deliver(BlockId id, const Result<Payload>& bytes) {
  const auto alive = shared_from_this();
  auto wait = waits_.extract(id);
  if (wait.empty()) return;
  if (bytes && wait.mapped().keep) keep(id, *bytes);
  for (const Done& done : wait.mapped().callbacks) done(bytes);
}

void BlockCache::keep(BlockId id, const Payload& bytes) {
  if (bytes.size() > bytes_max_ || kept_.count(id) != 0) return;
  while (bytes_ + bytes.size() > bytes_max_ && !uses_.empty()) {
    const auto oldest = kept_.find(uses_.back());
    bytes_ -= oldest->second.bytes.size();
    kept_.erase(oldest);
    uses_.pop_back();
  }
  uses_.push_front(id);
  kept_.emplace(id, Kept{bytes, uses_.begin()});
  bytes_ += bytes.size();
}

}  // namespace idunno

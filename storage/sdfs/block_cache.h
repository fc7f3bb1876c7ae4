#pragma once
/// Reads blocks for a ManifestReader: requests for the same block are joined, blocks that will be wanted again are kept up to a
/// bound (the least recently used goes first), and a block that none of its listed replicas has is looked for once at its present
/// place.

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "storage/sdfs/client.h"
#include "storage/sdfs/manifest_reader.h"

namespace idunno {

/// A block and the place in SDFS that it belongs to.
struct PlacedBlock {
  BlockRef block;
  std::string path;
  std::uint32_t version = 0;
  std::uint64_t index = 0;
};

class BlockCache : public std::enable_shared_from_this<BlockCache> {
 public:
  using Done = std::function<void(const Result<Payload>&)>;

  BlockCache(BlockClient& blocks, ManifestReader::Relocate relocate, std::size_t bytes_max)
      : blocks_(blocks), relocate_(std::move(relocate)), bytes_max_(bytes_max) {}

  /// May call back at once when the block is kept here.
  void read(const PlacedBlock& block, bool keep, Done done);

 private:
  struct Kept {
    Payload bytes;
    std::list<BlockId>::iterator use;
  };
  struct Wait {
    std::vector<Done> callbacks;
    bool keep = false;
  };
  void ask_anew(const PlacedBlock& block, const Error& why);
  void deliver(BlockId id, const Result<Payload>& bytes);
  void keep(BlockId id, const Payload& bytes);

  BlockClient& blocks_;
  ManifestReader::Relocate relocate_;
  std::size_t bytes_max_;
  std::size_t bytes_ = 0;
  std::map<BlockId, Kept> kept_;
  std::list<BlockId> uses_;        ///< most recently used first
  std::map<BlockId, Wait> waits_;  ///< being read
};

}  // namespace idunno

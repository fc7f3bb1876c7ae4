#include "storage/sdfs/sdfs_byte_source.h"

#include <algorithm>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr std::size_t kBlocksKept = 12;
constexpr std::size_t kBlocksAhead = 6;
constexpr Duration kWaitStep = std::chrono::seconds(60);

}  // namespace

SdfsByteSource::SdfsByteSource(SdfsClient& sdfs, FileVersion file) : sdfs_(sdfs), file_(std::move(file)) {
  starts_.reserve(file_.blocks.size());
  std::uint64_t at = 0;
  for (const BlockRef& block : file_.blocks) {
    starts_.push_back(at);
    at += block.length;
  }
}

SdfsByteSource::Answer SdfsByteSource::fetch(std::size_t block) {
  if (const auto it = blocks_.find(block); it != blocks_.end()) return it->second;
  if (order_.size() >= kBlocksKept) {
    blocks_.erase(order_.front());
    order_.pop_front();
  }
  auto answer = std::make_shared<std::optional<Result<Payload>>>();
  sdfs_.blocks().read(file_.blocks[block], [answer](Result<Payload> bytes) { *answer = std::move(bytes); });
  blocks_[block] = answer;
  order_.push_back(block);
  return answer;
}

Result<Bytes> SdfsByteSource::read(std::uint64_t offset, std::size_t length) {
  Bytes out;
  while (length > 0 && offset < file_.size) {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), offset);
    if (after == starts_.begin()) break;
    const auto block = static_cast<std::size_t>(after - starts_.begin()) - 1;
    const Answer answer = fetch(block);
    if (block == last_block_ + 1) {
      for (std::size_t ahead = 1; ahead <= kBlocksAhead && block + ahead < file_.blocks.size(); ++ahead)
        (void)fetch(block + ahead);
    }
    last_block_ = block;
    const auto there = [&] { return answer->has_value(); };
    while (!there()) (void)sdfs_.metadata().loop().run_until(there, monotonic_now() + kWaitStep);
    if (!answer->value().ok()) return annotate(answer->value().error(), "read '" + file_.path + "'");
    const ByteView bytes = answer->value()->view();
    const std::size_t skip = offset - starts_[block];
    if (skip >= bytes.size()) break;
    const ByteView part = bytes.substr(skip, length);
    out += part;
    offset += part.size();
    length -= part.size();
  }
  return out;
}

}  // namespace idunno

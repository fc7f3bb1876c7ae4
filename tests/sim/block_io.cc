#include "tests/sim/block_io.h"

#include <algorithm>

#include "bus/hash.h"
#include "storage/sdfs/placement.h"

namespace idunno::sim {
namespace {

constexpr Duration kBlockTimeout = std::chrono::seconds(2);
constexpr Duration kAvoidFailedNode = std::chrono::seconds(3);
constexpr Duration kPutTime = std::chrono::microseconds(300);

}  // namespace

struct BlockIo::Write {
  BlockKey key;
  SharedBytes bytes;
  std::vector<NodeId> order;
  std::size_t next = 0;
  std::size_t wanted = 0;
  std::size_t under_way = 0;
  std::vector<NodeId> stored;
  std::function<void(Result<BlockRef>)> done;
};

struct BlockIo::Read {
  BlockRef block;
  std::vector<NodeId> order;
  std::size_t next = 0;
  std::function<void(Result<SharedBytes>)> done;
};

void BlockIo::write(Bytes bytes, const std::vector<PlacementNode>& nodes, std::uint32_t copies,
                    std::function<void(Result<BlockRef>)> done) {
  auto write = std::make_shared<Write>();
  write->key = BlockKey{BlockId{writer_, ++last_block_}, static_cast<std::uint32_t>(bytes.size()), hash128(bytes)};
  write->bytes = std::make_shared<const Bytes>(std::move(bytes));
  write->order = placement_order(write->key.id, nodes);
  order_by_health(write->order);
  write->wanted = std::max<std::size_t>(1, std::min<std::size_t>(copies, write->order.size()));
  write->done = std::move(done);
  go_on(write);
}

void BlockIo::order_by_health(std::vector<NodeId>& nodes) const {
  std::stable_partition(nodes.begin(), nodes.end(), [this](NodeId node) {
    const auto failed = failed_.find(node);
    return failed == failed_.end() || env_.agenda.now() - failed->second > kAvoidFailedNode;
  });
}

void BlockIo::go_on(const std::shared_ptr<Write>& write) {
  if (!write->done) return;
  if (write->stored.size() == write->wanted) {
    const auto done = std::exchange(write->done, nullptr);
    return done(BlockRef{write->key.id, write->key.length, write->key.hash, write->stored});
  }
  while (write->stored.size() + write->under_way < write->wanted && write->next < write->order.size()) {
    const NodeId node = write->order[write->next++];
    ++write->under_way;
    const auto answered = [this, write, node](bool ok) {
      --write->under_way;
      if (ok) write->stored.push_back(node);
      go_on(write);
    };
    if (disk_ != nullptr && node == process_.id()) {
      put_here(write->key, write->bytes, [answered](BlockStatus status) { answered(status == BlockStatus::ok); });
      continue;
    }
    Caller::Options options;
    options.timeout = kBlockTimeout;
    caller_.call<PutBlocks>(node, PutBlocks{{write->key}}, options, Payload(write->bytes, *write->bytes),
                            [this, node, answered](const Result<PutBlocksReply>& reply, NodeId, const Payload&) {
                              if (!reply) failed_[node] = env_.agenda.now();
                              answered(reply && reply->statuses.size() == 1 && reply->statuses[0] == BlockStatus::ok);
                            });
  }
  if (write->under_way == 0 && write->done && write->stored.size() < write->wanted) {
    const auto done = std::exchange(write->done, nullptr);
    done(Error{Errc::unavailable, "too few nodes took the block"});
  }
}

void BlockIo::read(const BlockRef& block, std::function<void(Result<SharedBytes>)> done) {
  auto read = std::make_shared<Read>();
  read->block = block;
  read->order = block.replicas;
  std::rotate(read->order.begin(),
              read->order.begin() + static_cast<std::ptrdiff_t>(block.id.lo % std::max<std::size_t>(1, read->order.size())),
              read->order.end());
  order_by_health(read->order);
  read->done = std::move(done);
  if (disk_ != nullptr) {
    if (auto bytes = read_here(BlockKey{block.id, block.length, block.hash})) return read->done(std::move(bytes));
  }
  go_on(read);
}

void BlockIo::go_on(const std::shared_ptr<Read>& read) {
  if (read->next == read->order.size()) return read->done(Error{Errc::unavailable, "no replica has the block"});
  const NodeId node = read->order[read->next++];
  if (disk_ != nullptr && node == process_.id()) return go_on(read);
  Caller::Options options;
  options.timeout = kBlockTimeout;
  const BlockKey key{read->block.id, read->block.length, read->block.hash};
  caller_.call<GetBlocks>(node, GetBlocks{{key}}, options, {},
                          [this, node, read](const Result<GetBlocksReply>& reply, NodeId, const Payload& payload) {
                            if (!reply) failed_[node] = env_.agenda.now();
                            const bool ok = reply && reply->statuses.size() == 1 && reply->statuses[0] == BlockStatus::ok &&
                                            hash128(payload.view()) == read->block.hash;
                            if (!ok) return go_on(read);
                            read->done(SharedBytes(std::make_shared<const Bytes>(payload.view())));
                          });
}

Result<BlockIo::SharedBytes> BlockIo::read_here(const BlockKey& key) {
  const StoredBlock* block = disk_->block(key.id);
  if (block == nullptr) return Error{Errc::not_found, "not here"};
  if (!block->damaged && block->hash == key.hash) return SharedBytes(block->bytes);
  env_.trace.note(key.id.lo, [&] { return to_string(process_.id()) + " deletes " + to_string(key.id) + ": damaged"; });
  disk_->remove_block(key.id);
  if (damaged_) damaged_(key.id);
  return Error{Errc::damaged, "the copy is damaged"};
}

void BlockIo::put_here(const BlockKey& key, SharedBytes bytes, std::function<void(BlockStatus)> done) {
  process_.run_after(kPutTime + disk_->slowness(), [this, key, bytes = std::move(bytes), done = std::move(done)] {
    if (disk_->full()) return done(BlockStatus::full);
    if (bytes->size() != key.length || hash128(*bytes) != key.hash) return done(BlockStatus::damaged);
    env_.trace.note(key.id.lo, [&] { return to_string(process_.id()) + " stores " + to_string(key.id); });
    disk_->put_block(key.id, bytes, key.hash, wall_());
    done(BlockStatus::ok);
  });
}

void BlockIo::serve(const PutBlocks& request, const Payload& payload, std::function<void(PutBlocksReply)> done) {
  if (request.blocks.size() != 1)
    return done(PutBlocksReply{std::vector<BlockStatus>(request.blocks.size(), BlockStatus::failed)});
  put_here(request.blocks[0], std::make_shared<const Bytes>(payload.view()),
           [done = std::move(done)](BlockStatus status) { done(PutBlocksReply{{status}}); });
}

std::pair<GetBlocksReply, Payload> BlockIo::serve(const GetBlocks& request) {
  if (request.blocks.size() != 1)
    return {GetBlocksReply{std::vector<BlockStatus>(request.blocks.size(), BlockStatus::failed)}, {}};
  auto bytes = read_here(request.blocks[0]);
  if (bytes) return {GetBlocksReply{{BlockStatus::ok}}, Payload(*bytes, **bytes)};
  return {GetBlocksReply{{bytes.error().code == Errc::damaged ? BlockStatus::damaged : BlockStatus::missing}}, {}};
}

}  // namespace idunno::sim

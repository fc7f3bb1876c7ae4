/// Which nodes a block goes to and comes from, and what happens when one of them fails. The moving itself is in
/// block_transfer.cc.

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <utility>

#include "bus/base/assert.h"
#include "bus/clock.h"
#include "storage/sdfs/block_transfer.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/placement.h"

namespace idunno {
namespace {

/// A node that failed is asked last for so long: it is probably still failing, and others can do the work.
constexpr Duration kAvoidFailedNode = std::chrono::seconds(3);
/// Operations that wait for room. Callers that heed busy() never come near it.
constexpr std::size_t kWaitingMax = 65536;
/// Counted for each operation besides its bytes, so that tiny blocks are bounded as well.
constexpr std::size_t kOperationBytes = 512;
/// Bad copies being replaced at the same time; further ones are left to the next reader, or to the scrubber.
constexpr std::size_t kMendsMax = 64;
/// How often it is looked whether nodes that were asked are silent.
constexpr Duration kSilenceLook = std::chrono::milliseconds(100);
/// A look that comes so late says that this process did not run, not that others are silent.
constexpr Duration kOwnPause = std::chrono::milliseconds(300);
/// Failures of single nodes that an error message names.
constexpr std::size_t kFailuresTold = 4;

std::uint64_t read_rank(BlockId id, NodeId node) {
  std::uint64_t z = id.lo * 0x9E3779B97F4A7C15ULL ^ id.hi ^ (static_cast<std::uint64_t>(node.value) << 32U | node.value);
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31U);
}

/// What went wrong at which node, for the error message of an operation that ran out of nodes.
class Failures {
 public:
  void add(NodeId node, const Error& error) {
    last_ = error.code;
    all_full_ = all_full_ && error.code == Errc::full;
    any_damaged_ = any_damaged_ || error.code == Errc::damaged;
    if (++count_ > kFailuresTold) return;
    if (!text_.empty()) text_ += ", ";
    text_ += to_string(node) + ": " + error.detail;
  }
  [[nodiscard]] std::string text() const {
    return count_ > kFailuresTold ? text_ + " and " + std::to_string(count_ - kFailuresTold) + " more" : text_;
  }
  [[nodiscard]] Errc write_code() const {
    if (count_ > 0 && all_full_) return Errc::full;
    return last_ == Errc::forbidden ? Errc::forbidden : Errc::unavailable;
  }
  [[nodiscard]] Errc read_code() const {
    if (any_damaged_) return Errc::damaged;
    return last_ == Errc::forbidden ? Errc::forbidden : Errc::unavailable;
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
  Errc last_ = Errc::unavailable;
  bool all_full_ = true;
  bool any_damaged_ = false;
};

struct WriteOperation {
  NewBlock block;
  std::function<void(Result<BlockRef>)> done;
  std::size_t cost = 0;
  std::uint64_t generation = 0;  ///< of the placement that `order` follows
  std::vector<NodeId> order;
  std::size_t next = 0;  ///< in `order`
  std::size_t wanted = 0;
  std::vector<NodeId> under_way;
  std::vector<NodeId> tried;
  std::vector<NodeId> stored;
  bool over = false;  ///< copies that come later are nobody's; the node's inventory tells, and they are removed
  Failures failures;
};

struct ReadOperation {
  BlockRef block;
  std::function<void(Result<Payload>)> done;
  std::size_t cost = 0;
  std::vector<NodeId> order;
  std::size_t next = 0;
  std::vector<NodeId> under_way;
  std::vector<std::pair<NodeId, BlockStatus>> bad;
  bool over = false;
  Failures failures;
};

bool contains(const std::vector<NodeId>& nodes, NodeId node) {
  return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

std::size_t count_in(const std::vector<NodeId>& nodes, const std::set<NodeId>& some) {
  return static_cast<std::size_t>(std::count_if(nodes.begin(), nodes.end(), [&](NodeId node) { return some.contains(node); }));
}

}  // namespace

struct BlockClient::Impl : std::enable_shared_from_this<BlockClient::Impl> {
  Impl(EventLoop& event_loop, RpcClient& rpc, Options opts, Local local)
      : loop(event_loop), options(opts), transfer(std::make_shared<BlockTransfer>(rpc, opts, std::move(local))) {}

  // -- admission --

  /// Everything starts from the loop: calls made in one turn gather, and no callback comes before the caller has returned.
  void schedule() {
    if (std::exchange(scheduled, true)) return;
    loop.post([weak = weak_from_this()] {
      if (const auto self = weak.lock()) self->pump();
    });
  }

  void pump() {
    scheduled = false;
    while (!waiting_writes.empty() &&
           (write_bytes == 0 || write_bytes + waiting_writes.front()->cost <= options.bytes_in_flight_max)) {
      const auto operation = std::move(waiting_writes.front());
      waiting_writes.pop_front();
      write_bytes += operation->cost;
      writing.insert(operation);
      order_nodes(*operation);
      continue_write(operation);
    }
    while (!waiting_reads.empty() &&
           (read_bytes == 0 || read_bytes + waiting_reads.front()->cost <= options.bytes_in_flight_max)) {
      const auto operation = std::move(waiting_reads.front());
      waiting_reads.pop_front();
      read_bytes += operation->cost;
      reading.insert(operation);
      order_replicas(*operation);
      continue_read(operation);
    }
    transfer->flush();
    watch();
  }

  // -- nodes that do not answer --

  /// As long as anything is under way.
  void watch() {
    if (watching || (writing.empty() && reading.empty())) return;
    watching = true;
    const Time due = monotonic_now() + kSilenceLook;
    loop.at(due, [weak = weak_from_this(), due] {
      const auto self = weak.lock();
      if (!self) return;
      self->watching = false;
      const Time now = monotonic_now();
      if (now - due >= kOwnPause) {
        self->transfer->listen_anew(now);
      } else {
        self->pass_by(self->transfer->silent(now), now);
      }
      self->watch();
    });
  }

  /// What waits for silent nodes alone goes to others as well, where there are any; the first good answer counts. Without
  /// others it waits on, until they answer or are no longer members.
  void pass_by(const std::set<NodeId>& silent, Time now) {
    for (const NodeId node : silent) avoid_writes[node] = avoid_reads[node] = now + kAvoidFailedNode;
    if (silent.empty()) return;
    for (const auto& operation : std::vector(reading.begin(), reading.end())) {
      const bool waits = !operation->over && count_in(operation->under_way, silent) == operation->under_way.size();
      if (waits && operation->next < operation->order.size()) continue_read(operation);
    }
    for (const auto& operation : std::vector(writing.begin(), writing.end())) {
      if (operation->over || count_in(operation->under_way, silent) == 0) continue;
      if (operation->generation != generation) order_nodes(*operation);  // perhaps fewer are wanted now
      continue_write(operation, silent);
    }
  }

  // -- writes --

  void order_nodes(WriteOperation& operation) {
    operation.generation = generation;
    operation.order = placement_order(operation.block.key.id, nodes);
    operation.wanted = std::min<std::size_t>(replication, operation.order.size());
    std::erase_if(operation.order, [&](NodeId node) { return contains(operation.tried, node); });
    operation.next = 0;
    put_avoided_last(operation.order, 0, avoid_writes);
  }

  void continue_write(const std::shared_ptr<WriteOperation>& operation, const std::set<NodeId>& silent = {}) {
    WriteOperation& op = *operation;
    while (op.stored.size() + op.under_way.size() - count_in(op.under_way, silent) < op.wanted) {
      if (op.next == op.order.size()) {
        if (op.generation == generation) break;
        order_nodes(op);  // the membership has changed meanwhile
        continue;
      }
      const NodeId node = op.order[op.next++];
      op.tried.push_back(node);
      op.under_way.push_back(node);
      transfer->put(node, op.block, [weak = weak_from_this(), operation, node](const CopyOutcome& outcome) {
        if (const auto self = weak.lock()) self->copy_written(operation, node, outcome);
      });
      schedule();
    }
    const bool complete = op.wanted > 0 && op.stored.size() >= op.wanted;
    if (!op.under_way.empty() && !complete) return;
    op.over = true;
    writing.erase(operation);
    write_bytes -= op.cost;
    write_bytes_given -= op.cost;
    if (!waiting_writes.empty()) schedule();
    const auto done = std::move(op.done);
    if (complete) {
      std::sort(op.stored.begin(), op.stored.end());
      const BlockKey& key = op.block.key;
      return done(BlockRef{key.id, key.length, key.hash, std::move(op.stored)});
    }
    if (op.wanted == 0) {
      return done(Error{Errc::unavailable, "write a block: no node takes blocks now; see `idunno status`"});
    }
    done(Error{op.failures.write_code(), "write a block: " + std::to_string(op.stored.size()) + " of " +
                                             std::to_string(op.wanted) + " copies are stored and no further node takes one (" +
                                             op.failures.text() + ")"});
  }

  void copy_written(const std::shared_ptr<WriteOperation>& operation, NodeId node, const CopyOutcome& outcome) {
    std::erase(operation->under_way, node);
    if (operation->over) return;
    if (outcome.status == BlockStatus::ok) {
      operation->stored.push_back(node);
    } else {
      operation->failures.add(node, outcome.error);
      const Time until = monotonic_now() + kAvoidFailedNode;
      avoid_writes[node] = until;
      if (outcome.status == BlockStatus::failed) avoid_reads[node] = until;
    }
    continue_write(operation);
  }

  // -- reads --

  void order_replicas(ReadOperation& operation) {
    operation.order = operation.block.replicas;
    const BlockId id = operation.block.id;
    const NodeId own = transfer->local_node();
    std::sort(operation.order.begin(), operation.order.end(), [&](NodeId a, NodeId b) {
      if ((a == own) != (b == own)) return a == own;
      const std::uint64_t rank_a = read_rank(id, a);
      const std::uint64_t rank_b = read_rank(id, b);
      return rank_a != rank_b ? rank_a < rank_b : a < b;
    });
    const std::ptrdiff_t first = !operation.order.empty() && operation.order.front() == own ? 1 : 0;
    // Those that are dead, as far as is known, only when nobody else has it.
    if (!members.empty())
      std::stable_partition(operation.order.begin() + first, operation.order.end(),
                            [&](NodeId node) { return members.contains(node); });
    put_avoided_last(operation.order, static_cast<std::size_t>(first), avoid_reads);
  }

  void continue_read(const std::shared_ptr<ReadOperation>& operation) {
    ReadOperation& op = *operation;
    if (op.next < op.order.size()) {
      const NodeId node = op.order[op.next++];
      op.under_way.push_back(node);
      transfer->get(node, BlockKey{op.block.id, op.block.length, op.block.hash},
                    [weak = weak_from_this(), operation, node](CopyOutcome outcome) {
                      if (const auto self = weak.lock()) self->copy_read(operation, node, std::move(outcome));
                    });
      return schedule();
    }
    if (!op.under_way.empty()) return;
    tell_bad_copies(op);
    finish_read(operation,
                Error{op.failures.read_code(), "read block " + to_string(op.block.id) + ": no replica has good bytes (" +
                                                   (op.order.empty() ? "none is known" : op.failures.text()) + ")"});
  }

  void copy_read(const std::shared_ptr<ReadOperation>& operation, NodeId node, CopyOutcome outcome) {
    ReadOperation& op = *operation;
    std::erase(op.under_way, node);
    if (op.over) return;
    if (outcome.status == BlockStatus::ok) {
      for (const auto& [bad_node, status] : op.bad) mend(op.block, bad_node, outcome.bytes);
      tell_bad_copies(op);
      return finish_read(operation, std::move(outcome.bytes));
    }
    op.failures.add(node, outcome.error);
    if (outcome.status == BlockStatus::missing || outcome.status == BlockStatus::damaged) {
      op.bad.emplace_back(node, outcome.status);
    } else {
      avoid_reads[node] = monotonic_now() + kAvoidFailedNode;
    }
    continue_read(operation);
  }

  void finish_read(const std::shared_ptr<ReadOperation>& operation, Result<Payload> result) {
    ReadOperation& op = *operation;
    op.over = true;
    reading.erase(operation);
    read_bytes -= op.cost;
    read_bytes_given -= op.cost;
    if (!waiting_reads.empty()) schedule();
    const auto done = std::move(op.done);
    done(std::move(result));
  }

  void tell_bad_copies(const ReadOperation& op) const {
    if (!bad_copy) return;
    const auto handler = bad_copy;
    for (const auto& [node, status] : op.bad) handler(op.block, node, status);
  }

  /// Puts the good bytes where a bad copy was found. Nobody waits for it, and a failure is left to the next reader.
  void mend(const BlockRef& block, NodeId node, const Payload& bytes) {
    if (mends >= kMendsMax) return;
    ++mends;
    transfer->put(node, NewBlock{BlockKey{block.id, block.length, block.hash}, bytes},
                  [weak = weak_from_this()](const CopyOutcome&) {
                    if (const auto self = weak.lock()) --self->mends;
                  });
    schedule();
  }

  // -- nodes that failed lately --

  void put_avoided_last(std::vector<NodeId>& order, std::size_t first, std::map<NodeId, Time>& avoid) const {
    if (avoid.empty()) return;
    const Time now = monotonic_now();
    std::erase_if(avoid, [now](const auto& entry) { return entry.second <= now; });
    std::stable_partition(order.begin() + static_cast<std::ptrdiff_t>(first), order.end(),
                          [&](NodeId node) { return avoid.count(node) == 0; });
  }

  EventLoop& loop;
  Options options;
  std::shared_ptr<BlockTransfer> transfer;
  std::vector<PlacementNode> nodes;
  std::set<NodeId> members;  ///< of `nodes`
  std::uint32_t replication = 1;
  std::uint64_t generation = 0;
  std::deque<std::shared_ptr<WriteOperation>> waiting_writes;
  std::deque<std::shared_ptr<ReadOperation>> waiting_reads;
  std::set<std::shared_ptr<WriteOperation>> writing;  ///< started and not over
  std::set<std::shared_ptr<ReadOperation>> reading;
  std::size_t write_bytes = 0;  ///< of what has been started
  std::size_t read_bytes = 0;
  std::size_t write_bytes_given = 0;  ///< those and what waits
  std::size_t read_bytes_given = 0;
  std::size_t mends = 0;
  bool scheduled = false;
  bool watching = false;
  std::map<NodeId, Time> avoid_writes;
  std::map<NodeId, Time> avoid_reads;
  std::function<void(const BlockRef&, NodeId, BlockStatus)> bad_copy;
};

BlockClient::BlockClient(EventLoop& loop, RpcClient& rpc, Options options, Local local)
    : impl_(std::make_shared<Impl>(loop, rpc, options, std::move(local))) {}
BlockClient::~BlockClient() = default;

void BlockClient::set_placement(std::vector<PlacementNode> nodes, std::uint32_t replication) {
  impl_->nodes = std::move(nodes);
  impl_->members.clear();
  for (const PlacementNode& node : impl_->nodes) impl_->members.insert(node.id);
  impl_->replication = replication;
  ++impl_->generation;
}

void BlockClient::write(NewBlock block, std::function<void(Result<BlockRef>)> done) {
  auto operation = std::make_shared<WriteOperation>();
  const std::size_t copies = std::max<std::size_t>(1, std::min<std::size_t>(impl_->replication, impl_->nodes.size()));
  operation->cost = block.bytes.size() * copies + kOperationBytes;
  operation->block = std::move(block);
  operation->done = std::move(done);
  if (impl_->waiting_writes.size() >= kWaitingMax) {
    impl_->loop.post([operation] { operation->done(Error{Errc::full, "write a block: too many writes wait already"}); });
    return;
  }
  impl_->write_bytes_given += operation->cost;
  impl_->waiting_writes.push_back(std::move(operation));
  impl_->schedule();
}

void BlockClient::read(const BlockRef& block, std::function<void(Result<Payload>)> done) {
  auto operation = std::make_shared<ReadOperation>();
  operation->cost = block.length + kOperationBytes;
  operation->block = block;
  operation->done = std::move(done);
  if (impl_->waiting_reads.size() >= kWaitingMax) {
    impl_->loop.post([operation] { operation->done(Error{Errc::full, "read a block: too many reads wait already"}); });
    return;
  }
  impl_->read_bytes_given += operation->cost;
  impl_->waiting_reads.push_back(std::move(operation));
  impl_->schedule();
}

void BlockClient::on_bad_copy(std::function<void(const BlockRef&, NodeId, BlockStatus)> handler) {
  impl_->bad_copy = std::move(handler);
}

bool BlockClient::busy() const {
  const std::size_t most = impl_->options.bytes_in_flight_max;
  return impl_->write_bytes_given >= most || impl_->read_bytes_given >= most;
}

}  // namespace idunno

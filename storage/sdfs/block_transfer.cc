#include "storage/sdfs/block_transfer.h"

#include <algorithm>
#include <utility>

#include "bus/clock.h"
#include "bus/hash.h"

namespace idunno {
namespace {

constexpr std::uint64_t kSmoothing = 8;  // of answer times: one part in so many is new

std::size_t size_of(const NewBlock& block) { return block.bytes.size(); }
std::size_t size_of(const BlockKey& key) { return key.length; }

/// Takes what goes into the next request off the front of `queue`: one large block, or as many small ones as the bounds allow.
template <class Want, class Of>
std::vector<Want> take_request(std::deque<Want>& queue, Of of) {
  std::vector<Want> taken;
  std::size_t bytes = 0;
  while (!queue.empty() && taken.size() < kBlocksPerRequestMax) {
    const std::size_t size = size_of(of(queue.front()));
    if (!taken.empty() && (size >= kTravelsAloneBytes || bytes + size > kRequestPayloadBytesMax)) break;
    bytes += size;
    taken.push_back(std::move(queue.front()));
    queue.pop_front();
    if (size >= kTravelsAloneBytes) break;
  }
  return taken;
}

Error status_error(BlockStatus status) {
  switch (status) {
    case BlockStatus::ok:
      break;
    case BlockStatus::missing:
      return Error{Errc::not_found, "does not have the block"};
    case BlockStatus::damaged:
      return Error{Errc::damaged, "the bytes do not match their hash"};
    case BlockStatus::full:
      return Error{Errc::full, "its disk is full"};
    case BlockStatus::failed:
      return Error{Errc::unavailable, "could not do it"};
  }
  return Error{Errc::internal, "unknown block status"};
}

CopyOutcome outcome_of(BlockStatus status) {
  if (status == BlockStatus::ok) return {};
  return CopyOutcome{status, status_error(status), {}};
}

CopyOutcome failed(const Error& error) { return CopyOutcome{BlockStatus::failed, error, {}}; }

}  // namespace

void BlockTransfer::put(NodeId node, NewBlock block, Done done) {
  peers_[node].writes.push_back(Write{std::move(block), std::move(done)});
  gathered_.insert(node);
}

void BlockTransfer::get(NodeId node, const BlockKey& key, Done done) {
  peers_[node].reads.push_back(Read{key, std::move(done)});
  gathered_.insert(node);
}

void BlockTransfer::flush() {
  const auto alive = shared_from_this();
  // Callbacks of local reads may gather more; they ask for another flush themselves.
  for (const NodeId node : std::exchange(gathered_, {})) flush_node(node);
}

void BlockTransfer::flush_node(NodeId node) {
  const auto alive = shared_from_this();
  Peer& peer = peers_[node];
  while (!peer.writes.empty() && peer.puts_in_flight < options_.requests_per_node_max) {
    asked(peer, monotonic_now());
    ++peer.puts_in_flight;
    send_writes(node, take_request(peer.writes, [](const Write& write) -> const NewBlock& { return write.block; }));
  }
  if (node == local_.node && local_.get) {
    std::vector<Read> reads(std::make_move_iterator(peer.reads.begin()), std::make_move_iterator(peer.reads.end()));
    peer.reads.clear();
    return read_locally(std::move(reads));
  }
  while (!peer.reads.empty() && peer.gets_in_flight < options_.requests_per_node_max) {
    asked(peer, monotonic_now());
    ++peer.gets_in_flight;
    send_reads(node, take_request(peer.reads, [](const Read& read) -> const BlockKey& { return read.key; }));
  }
}

// ---- who is silent ----------------------------------------------------------------------------------------------------

void BlockTransfer::asked(Peer& peer, Time now) {
  if (peer.puts_in_flight + peer.gets_in_flight == 0) peer.heard = now;
}

void BlockTransfer::answered(Peer& peer, Time sent, bool good) {
  peer.heard = monotonic_now();
  if (!good) return;  // how long a lost connection or a time limit took says nothing of the node
  const auto took = static_cast<std::uint64_t>(std::max<Duration::rep>((peer.heard - sent).count(), 1));
  peer.answer_us = peer.answer_us == 0 ? took : (peer.answer_us * (kSmoothing - 1) + took) / kSmoothing;
}

std::set<NodeId> BlockTransfer::silent(Time now) const {
  std::set<NodeId> found;
  for (const auto& [node, peer] : peers_) {
    if (peer.puts_in_flight + peer.gets_in_flight == 0) continue;
    const Duration usual(static_cast<Duration::rep>(std::min<std::uint64_t>(peer.answer_us, INT32_MAX)));
    if (now - peer.heard >= std::clamp<Duration>(kSilenceFactor * usual, kSilenceMin, kSilenceMax)) found.insert(node);
  }
  return found;
}

void BlockTransfer::listen_anew(Time now) {
  for (auto& [node, peer] : peers_) peer.heard = now;
}

// ---- requests ---------------------------------------------------------------------------------------------------------

void BlockTransfer::send_writes(NodeId node, std::vector<Write> writes) {
  const auto shared = std::make_shared<std::vector<Write>>(std::move(writes));
  const auto finish = [weak = weak_from_this(), node, shared,
                       sent = monotonic_now()](const Result<std::vector<BlockStatus>>& statuses) {
    const auto self = weak.lock();
    if (!self) return;
    Peer& peer = self->peers_[node];
    answered(peer, sent, statuses.ok());
    --peer.puts_in_flight;
    const bool fits = statuses && statuses->size() == shared->size();
    for (std::size_t i = 0; i < shared->size(); ++i) {
      if (fits) {
        (*shared)[i].done(outcome_of((*statuses)[i]));
      } else {
        (*shared)[i].done(failed(statuses ? Error{Errc::invalid, "answered for another number of blocks"} : statuses.error()));
      }
    }
    self->flush_node(node);
  };
  if (node == local_.node && local_.put) {
    std::vector<NewBlock> blocks;
    blocks.reserve(shared->size());
    for (const Write& write : *shared) blocks.push_back(write.block);
    local_.put(std::move(blocks), finish);
    return;
  }
  PutBlocks request;
  request.blocks.reserve(shared->size());
  std::size_t bytes = 0;
  for (const Write& write : *shared) {
    request.blocks.push_back(write.block.key);
    bytes += write.block.bytes.size();
  }
  Payload payload;
  if (shared->size() == 1) {
    payload = shared->front().block.bytes;
  } else {
    Bytes joined;
    joined.reserve(bytes);
    for (const Write& write : *shared) joined += write.block.bytes.view();
    payload = Payload(std::move(joined));
  }
  rpc_.call<PutBlocks>(node, Service::data, request, std::move(payload), RpcClient::CallOptions{options_.request_timeout, {}, {}},
                       [finish](Result<RpcReply<PutBlocksReply>> answer, NodeId) {
                         if (answer) return finish(std::move(answer->body.statuses));
                         finish(answer.error());
                       });
}

void BlockTransfer::send_reads(NodeId node, std::vector<Read> reads) {
  GetBlocks request;
  request.blocks.reserve(reads.size());
  for (const Read& read : reads) request.blocks.push_back(read.key);
  const auto shared = std::make_shared<std::vector<Read>>(std::move(reads));
  rpc_.call<GetBlocks>(
      node, Service::data, request, {}, RpcClient::CallOptions{options_.request_timeout, {}, {}},
      [weak = weak_from_this(), node, shared, sent = monotonic_now()](Result<RpcReply<GetBlocksReply>> answer, NodeId) {
        const auto self = weak.lock();
        if (!self) return;
        Peer& peer = self->peers_[node];
        answered(peer, sent, answer.ok());
        --peer.gets_in_flight;
        std::vector<BlockStatus> statuses;
        std::size_t announced = 0;
        if (answer) {
          statuses = answer->body.statuses;
          for (std::size_t i = 0; i < std::min(statuses.size(), shared->size()); ++i) {
            if (statuses[i] == BlockStatus::ok) announced += (*shared)[i].key.length;
          }
        }
        const bool fits = answer && statuses.size() == shared->size() && announced == answer->payload.size();
        std::size_t offset = 0;
        for (std::size_t i = 0; i < shared->size(); ++i) {
          const BlockKey& key = (*shared)[i].key;
          if (!fits) {
            (*shared)[i].done(failed(answer ? Error{Errc::invalid, "answered with another number of bytes"} : answer.error()));
            continue;
          }
          CopyOutcome outcome = outcome_of(statuses[i]);
          if (statuses[i] == BlockStatus::ok) {
            outcome.bytes = answer->payload.slice(offset, key.length);
            offset += key.length;
            if (hash128(outcome.bytes.view()) != key.hash) outcome = outcome_of(BlockStatus::damaged);
          }
          (*shared)[i].done(std::move(outcome));
        }
        self->flush_node(node);
      });
}

void BlockTransfer::read_locally(std::vector<Read> reads) const {
  for (const Read& read : reads) {
    auto bytes = local_.get(read.key);
    if (bytes) {
      read.done(CopyOutcome{BlockStatus::ok, {}, std::move(bytes).value()});
    } else if (bytes.error().code == Errc::not_found) {
      read.done(outcome_of(BlockStatus::missing));
    } else if (bytes.error().code == Errc::damaged) {
      read.done(outcome_of(BlockStatus::damaged));
    } else {
      read.done(failed(bytes.error()));
    }
  }
}

}  // namespace idunno

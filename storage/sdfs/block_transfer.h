#pragma once
/// Moves single copies of blocks between this process and single nodes; which node, and what to do when one fails, is decided
/// above (block_client.cc). At most `requests_per_node_max` requests of each kind are on their way to a node; what comes
/// meanwhile gathers and goes together in the next one, so many small blocks share a message and a sync without anybody waiting
/// for a timer.
///
/// Belongs to the loop's thread. Callbacks run from the loop or from flush(), never from put() or get(), and not at all once the
/// object is gone.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "bus/rpc.h"
#include "storage/sdfs/client.h"

namespace idunno {

/// Blocks of at least this size travel alone, without being copied; smaller ones are worth the copy that joins them.
inline constexpr std::size_t kTravelsAloneBytes = 256U << 10U;
/// Payload of one request or answer.
inline constexpr std::size_t kRequestPayloadBytesMax = kDataMessageBytesMax - (64U << 10U);

/// What became of one copy. `status` failed stands for everything that is not about the block itself; `error` then says what.
struct CopyOutcome {
  BlockStatus status = BlockStatus::ok;
  Error error;    ///< when status is not ok
  Payload bytes;  ///< of a get that is ok: verified
};

class BlockTransfer : public std::enable_shared_from_this<BlockTransfer> {
 public:
  using Done = std::function<void(CopyOutcome)>;

  BlockTransfer(RpcClient& rpc, BlockClient::Options options, BlockClient::Local local)
      : rpc_(rpc), options_(options), local_(std::move(local)) {}

  [[nodiscard]] NodeId local_node() const { return local_.node; }
  void put(NodeId node, NewBlock block, Done done);
  void get(NodeId node, const BlockKey& key, Done done);
  /// Sends what has gathered, as far as the bounds allow; the rest goes when answers come.
  void flush();

 private:
  struct Write {
    NewBlock block;
    Done done;
  };
  struct Read {
    BlockKey key;
    Done done;
  };
  struct Peer {
    std::deque<Write> writes;
    std::deque<Read> reads;
    std::uint32_t puts_in_flight = 0;
    std::uint32_t gets_in_flight = 0;
  };

  void flush_node(NodeId node);
  void send_writes(NodeId node, std::vector<Write> writes);
  void send_reads(NodeId node, std::vector<Read> reads);
  void read_locally(std::vector<Read> reads) const;

  RpcClient& rpc_;
  BlockClient::Options options_;
  BlockClient::Local local_;
  std::map<NodeId, Peer> peers_;
  std::set<NodeId> gathered_;  ///< nodes with something new since the last flush
};

}  // namespace idunno

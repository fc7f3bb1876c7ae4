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

/// A node that has requests to answer and answers none of them is silent after kSilenceFactor times what it usually takes, within
/// these bounds: paused, cut off without its connection being closed, or its disk hangs.
inline constexpr std::uint32_t kSilenceFactor = 4;
inline constexpr Duration kSilenceMin = std::chrono::milliseconds(500);
inline constexpr Duration kSilenceMax = std::chrono::milliseconds(5000);

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
  /// Their requests stay under way: an answer may still come.
  [[nodiscard]] std::set<NodeId> silent(Time now) const;
  /// Nobody could be heard until now, for this process itself did not run.
  void listen_anew(Time now);

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
    Time heard{};                 ///< last answer, or when it was asked after everything had been answered
    std::uint64_t answer_us = 0;  ///< what an answer takes, of late; 0 = not known
  };

  void flush_node(NodeId node);
  static void asked(Peer& peer, Time now);
  static void answered(Peer& peer, Time sent, bool good);
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

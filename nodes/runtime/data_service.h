#pragma once
/// The data plane of a node, in a thread of its own so that bulk never delays control: the data port (ROUTER), the block store,
/// and the client that moves blocks to and from other nodes.
///
/// Two threads work here. The loop's thread owns the sockets and answers reads. A writer thread does nothing but synced batches
/// (nodes/runtime/block_writer.h): everything that came in while one batch was being synced forms the next one, and reads never
/// wait for a sync. Writes that wait are bounded; beyond that the loop stops reading its sockets.
///
/// Copies that turn out to be damaged, when they are read or when the scrubber (nodes/runtime/scrubber.h) comes by, are deleted
/// and reported through on_damaged.
///
/// An I/O error of the store is final (fail-stop): it is reported once through on_failure, further writes answer `failed`, and
/// the owner ends the process.

#include <cstdint>
#include <functional>
#include <memory>

#include "bus/base/ids.h"
#include "bus/base/result.h"
#include "bus/event_loop.h"
#include "bus/rpc.h"
#include "bus/security.h"
#include "nodes/runtime/scrubber.h"
#include "storage/block_store.h"
#include "storage/sdfs/client.h"

namespace idunno {

class DataService {
 public:
  struct Options {
    NodeId node;
    std::string endpoint;  ///< where the data port is bound, "tcp://127.0.0.1:7401"
    KeyPair keys;
    AddressBook peers;
    std::uint64_t cluster = 0;            ///< ClusterConfig::cluster_hash()
    RocksStoreOptions store;              ///< of the block store
    std::uint64_t scrub_bytes_per_s = 0;  ///< how fast copies on disk are read again to find damage; 0 = only what readers find
    Scrubber::Options scrub = {};         ///< its pauses; `bytes_per_s` is taken from the line above
  };

  /// Opens the store, binds the port and starts the threads; `context` must have its ZapHandler already and outlive this.
  [[nodiscard]] static Result<std::unique_ptr<DataService>> start(ZmqContext& context, Options options);
  /// The same over a store the caller has opened already (tests: memory).
  [[nodiscard]] static Result<std::unique_ptr<DataService>> start_with_store(ZmqContext& context, Options options,
                                                                             OpenedBlockStore opened);
  /// Stops, waits for the write in progress, joins. Requests that are not answered yet stay unanswered; posted calls that did not
  /// run are destroyed.
  ~DataService();
  DataService(const DataService&) = delete;
  DataService& operator=(const DataService&) = delete;

  // -- from any thread --

  /// Runs `work` in the service's thread, in order.
  void post(std::function<void()> work);
  /// Computed at most once a second, in the caller's thread: an idle service is not woken.
  [[nodiscard]] BlockStoreUsage usage();
  [[nodiscard]] std::uint64_t store_id() const;
  [[nodiscard]] bool store_was_replaced() const;  ///< the old one did not open and was put aside
  [[nodiscard]] const std::string& why_store_was_replaced() const;
  /// Called once, in the service's thread, when the store failed for good. Replaces the handler set before; when the failure has
  /// happened already, the new handler is called too.
  void on_failure(std::function<void(Error)> handler);
  /// Called in the service's thread with copies that were found damaged, by the scrubber or by a read, and are deleted here
  /// already; at most kBlocksPerRequestMax at a time. Replaces the handler set before; what nobody heard of is kept for it,
  /// within a bound.
  void on_damaged(std::function<void(std::vector<BlockId>)> handler);

  // -- only from the service's thread (post) --

  [[nodiscard]] EventLoop& loop();
  [[nodiscard]] RpcClient& rpc();     ///< to other nodes; no push handlers of its own
  [[nodiscard]] BlockStore& store();  ///< thread-safe as opened by this class; writes are better given to blocks()
  [[nodiscard]] BlockClient& blocks();
  [[nodiscard]] BlockIdSource& ids();
  /// Copies blocks here from their replicas (this node left out), as PullBlocks does; `done` gets one status a block, in order.
  void pull(std::vector<BlockRef> blocks, std::function<void(std::vector<BlockStatus>)> done);
  [[nodiscard]] const Scrubber::Totals& scrubbed() const;

 private:
  struct Impl;
  explicit DataService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

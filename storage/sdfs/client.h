#pragma once
/// Reading and writing SDFS from any process: the CLI, and inside a node the worker that reads inputs and writes results.
///
/// Two layers. `BlockClient` moves blocks between this process and the nodes' data services (parallel, bounded, verified, with
/// fall-back to other replicas). `SdfsClient` adds the metadata calls to the coordinator. Both are callback-based on one
/// EventLoop and belong to its thread; the CLI wraps them with EventLoop::run_until. All results are delivered exactly once, from
/// the loop and never from within the call that asks; when the object is destroyed first, callbacks of what is under way are not
/// called any more.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "bus/base/time.h"
#include "bus/rpc.h"
#include "bus/types.h"

namespace idunno {

/// Asks the coordinator, whoever that is: follows not_leader, goes on through a change of coordinator, and repeats a request with
/// the same id until it is answered or `timeout` has passed, so that it happens once. A closed connection ends an attempt at
/// once; a node that is silent (paused, or behind a slow network) is not waited for: others are asked beside it who leads now.
///
/// Reads are linearizable, unless a call (or the whole client) is `stale`: then any node that keeps the log may answer, from a
/// state that may be old.
class MetadataClient {
 public:
  struct CallOptions {
    RequestId request;          ///< {0,0}: a fresh one. A caller that chooses it gets the answer of an earlier call with that id
    std::optional<bool> stale;  ///< only for reads; nothing = as set_stale_reads says
    std::optional<Duration> timeout;  ///< of the whole call; nothing = the client's
  };

  /// `nodes`: those that may lead, the likeliest first.
  MetadataClient(EventLoop& loop, RpcClient& rpc, std::vector<NodeId> nodes, Duration timeout);
  ~MetadataClient();

  template <class Req>
  void call(const Req& request, std::function<void(Result<typename Req::Reply>)> done, CallOptions options) {
    using Reply = typename Req::Reply;
    const RequestId id = options.request ? options.request : rpc().fresh_request_id();
    const bool stale = options.stale.value_or(stale_reads());
    auto out = std::make_shared<Result<Reply>>(Error{Errc::internal, "no answer"});
    Attempt attempt = [this, request, id, stale, out](NodeId node, Duration timeout, AttemptDone attempt_done) {
      RpcClient::CallOptions how;
      how.timeout = timeout;
      how.request = id;
      how.flags = stale ? kFlagStale : std::uint8_t{0};
      rpc().call(node, Service::rpc, request, {}, how,
                 std::function<void(Result<RpcReply<Reply>>, NodeId)>(
                     [this, attempt_done = std::move(attempt_done), out](Result<RpcReply<Reply>> answer, NodeId leader) {
                       if (!answer) return attempt_done(answer.error(), leader, {});
                       const bool old = (answer->header.flags & kFlagStale) != 0;
                       attempt_done(Status{}, {}, [this, out, old, body = std::move(answer->body)]() mutable {
                         *out = std::move(body);
                         if (old) note_stale_answer();
                       });
                     }));
    };
    start_attempts(
        std::move(attempt),
        [out, done = std::move(done)](const Status& status) {
          if (!status) return done(status.error());
          done(std::move(*out));
        },
        stale, options.timeout);
  }
  template <class Req>
  void call(const Req& request, std::function<void(Result<typename Req::Reply>)> done, RequestId chosen = {}) {
    call<Req>(request, std::move(done), CallOptions{chosen, {}, {}});
  }

  /// Blocks the calling thread, running the loop meanwhile: for the CLI.
  template <class Req>
  [[nodiscard]] Result<typename Req::Reply> call_and_wait(const Req& request, CallOptions options) {
    auto out = std::make_shared<std::optional<Result<typename Req::Reply>>>();
    call<Req>(
        request, [out](Result<typename Req::Reply> answer) { *out = std::move(answer); }, options);
    run_until([out] { return out->has_value(); }, options.timeout);
    if (!*out) return Error{Errc::timeout, "no answer in time"};
    return std::move(**out);
  }
  template <class Req>
  [[nodiscard]] Result<typename Req::Reply> call_and_wait(const Req& request, RequestId chosen = {}) {
    return call_and_wait(request, CallOptions{chosen, {}, {}});
  }

  void set_stale_reads(bool stale);
  [[nodiscard]] bool stale_reads() const;
  [[nodiscard]] std::uint64_t stale_answers() const;  ///< so many came from a node that does not lead

  [[nodiscard]] RpcClient& rpc();
  [[nodiscard]] EventLoop& loop();
  [[nodiscard]] NodeId coordinator_hint() const;

 private:
  /// `take` puts the answer in its place; it is called for the one answer that counts.
  using AttemptDone = std::function<void(const Status&, NodeId leader, std::function<void()> take)>;
  using Attempt = std::function<void(NodeId, Duration, AttemptDone)>;
  struct Impl;
  std::shared_ptr<Impl> impl_;

  void run_until(const std::function<bool()>& done, std::optional<Duration> timeout);
  void note_stale_answer();
  /// One logical call: attempts at nodes until it succeeds, fails for good, or time is up.
  void start_attempts(Attempt attempt, std::function<void(const Status&)> finished, bool stale, std::optional<Duration> timeout);
};

/// A block to be written.
struct NewBlock {
  BlockKey key;  ///< id from BlockIdSource, length and hash of `bytes`
  Payload bytes;
};

/// Draws block ids: `hi` random for this process, `lo` counts.
class BlockIdSource {
 public:
  explicit BlockIdSource(std::uint64_t writer) : writer_(writer) {}
  BlockId next() { return BlockId{writer_, ++count_}; }

 private:
  std::uint64_t writer_;
  std::uint64_t count_ = 0;
};

class BlockClient {
 public:
  /// Serves reads and writes of the own node without the network; null in the CLI. Called in the loop's thread.
  struct Local {
    NodeId node;
    std::function<Result<Payload>(const BlockKey&)> get;
    /// Calls back when synced.
    std::function<void(std::vector<NewBlock>, std::function<void(Result<std::vector<BlockStatus>>)>)> put;
  };
  struct Options {
    std::size_t bytes_in_flight_max = 32U << 20U;  ///< of reads and of writes each (payload bytes x replicas for writes)
    std::uint32_t requests_per_node_max = 4;       ///< of each kind; more writes to a busy node are gathered into one request
    Duration request_timeout = std::chrono::seconds(10);
  };
  BlockClient(EventLoop& loop, RpcClient& rpc, Options options, Local local = {});
  ~BlockClient();

  /// Where writes go; replaced whenever the membership changes.
  void set_placement(std::vector<PlacementNode> nodes, std::uint32_t replication);

  /// Writes one block to its rendezvous nodes; another node takes the place of one that fails, or is silent (paused, cut off,
  /// its disk hangs: block_transfer.h). Done when min(replication, live nodes) copies are synced; the ref names them. Error
  /// unavailable/full when fewer nodes than that take it.
  void write(NewBlock block, std::function<void(Result<BlockRef>)> done);

  /// Reads one block: own node first, then the replicas, the next one also when one is silent; verified. A replica that answers
  /// damaged or missing is mended afterwards from the good copy (PutBlocks), and `on_bad_copy` is told. damaged/unavailable when
  /// no replica has it.
  void read(const BlockRef& block, std::function<void(Result<Payload>)> done);
  void on_bad_copy(std::function<void(const BlockRef&, NodeId, BlockStatus)> handler);

  [[nodiscard]] bool busy() const;  ///< at its bounds: the caller should wait for a callback before it gives more

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

struct TransferProgress {
  std::uint64_t files_done = 0;
  std::uint64_t bytes_done = 0;
};

/// Whole files, for the CLI and for small writes (manifests, models). Blocking calls that run the loop.
class SdfsClient {
 public:
  SdfsClient(MetadataClient& metadata, BlockClient& blocks, BlockIdSource& ids);

  /// Fetches the placement from the coordinator. Before the first write.
  [[nodiscard]] Status refresh_placement();

  struct PutItem {
    std::string local_path;
    std::string sdfs_path;
  };
  /// Streams local files; many small ones share requests and log entries. Bounded memory whatever the sizes. All files of one
  /// call whose metadata fit one request become visible together. `progress` is called between blocks. Returns the versions made,
  /// in the order of `items`, without blocks. What cannot be read is refused before anything is written.
  [[nodiscard]] Result<std::vector<FileVersion>> put(const std::vector<PutItem>& items,
                                                     const std::function<void(const TransferProgress&)>& progress);
  /// One file from memory, with the caller's block borders (manifests): block i = pieces[i], each at most kBlockBytesMax.
  [[nodiscard]] Result<FileVersion> put_pieces(const std::string& sdfs_path, std::vector<Bytes> pieces);

  /// Streams a file in order, block by block, several in flight; `sink` gets verified bytes. Version 0 = newest.
  [[nodiscard]] Status get(const std::string& sdfs_path, std::uint32_t version, const std::function<Status(ByteView)>& sink);
  /// Many files at once into a folder (get -r): parallel over files and blocks; each file appears under its final name only when
  /// complete.
  struct GetItem {
    FileVersion file;  ///< with all its blocks, or with none: they are fetched
    std::string local_path;
  };
  [[nodiscard]] Status get_files(const std::vector<GetItem>& items, const std::function<void(const TransferProgress&)>& progress);

  /// The file with all its blocks.
  [[nodiscard]] Result<FileVersion> stat(const std::string& sdfs_path, std::uint32_t version);
  /// Everything below a folder, or the file itself, in path order.
  [[nodiscard]] Result<std::vector<FileVersion>> list_all(const std::string& sdfs_path, bool with_blocks);

  [[nodiscard]] MetadataClient& metadata() { return metadata_; }
  [[nodiscard]] BlockClient& blocks() { return blocks_; }

 private:
  MetadataClient& metadata_;
  BlockClient& blocks_;
  BlockIdSource& ids_;
};

}  // namespace idunno

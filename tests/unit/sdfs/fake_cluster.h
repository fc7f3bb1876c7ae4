#pragma once
/// A cluster in one process: data services with memory stores that can be told to misbehave, and a coordinator that is a bare
/// Namespace. Real sockets on loopback, all on one loop.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bus/hash.h"
#include "storage/block_store.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/namespace.h"
#include "tests/unit/bus/cluster_fixture.h"

namespace idunno::test {

struct FakeNode {
  NodeId id;
  PeerAddress address;
  std::unique_ptr<RpcServer> data;  ///< none: the node is dead
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<BlockStore> store;
  std::set<BlockId> lies;  ///< answers ok with wrong bytes, until the block is put again
  BlockStatus put_status = BlockStatus::ok;
  bool silent = false;     ///< takes requests and never answers
  std::uint32_t puts = 0;  ///< requests, not blocks
  std::uint32_t gets = 0;
  std::uint32_t blocks_read = 0;

  bool has(const BlockRef& block) const { return store->get(BlockKey{block.id, block.length, block.hash}).ok(); }
};

class FakeClusterFixture : public ClusterFixture {
 protected:
  void start(std::uint32_t count, std::uint32_t replication = 4) {
    for (std::uint32_t i = 1; i <= count; ++i) {
      FakeNode& node = nodes[NodeId{i}];
      node.id = NodeId{i};
      node.address = PeerAddress{"127.0.0.1", free_ports(), keys.at(Role::node).public_key};
      node.store = make_memory_block_store(i, 1ULL << 32U);
      serve_data(node);
      serve_rpc(node);
      placement.push_back({node.id, 1});
    }
    copies = std::min(replication, count);
    rpc_client = make_client(Role::submit);
    std::vector<NodeId> ids;
    for (const auto& [id, node] : nodes) ids.push_back(id);
    metadata = std::make_unique<MetadataClient>(loop, *rpc_client, ids, std::chrono::seconds(10));
    blocks = std::make_unique<BlockClient>(loop, *rpc_client, options);
    blocks->set_placement(placement, copies);
    sdfs = std::make_unique<SdfsClient>(*metadata, *blocks, ids_source);
  }
  std::unique_ptr<RpcClient> make_client(Role role) {
    AddressBook book;
    for (const auto& [id, node] : nodes) book[id] = node.address;
    return RpcClient::create(loop, *context, {keys[role], kCluster, book, kDataMessageBytesMax, 4096}).value();
  }
  std::unique_ptr<RpcServer> bind(const FakeNode& node, Service service, std::size_t bytes_max) {
    return RpcServer::bind(loop, *context, {endpoint_of(node.address, service), keys[Role::node], kCluster, bytes_max, 1000, 256})
        .value();
  }

  void serve_data(FakeNode& node) {
    node.data = bind(node, Service::data, kDataMessageBytesMax);
    node.data->on<PutBlocks>([&node](const RequestContext& peer, const PutBlocks& request, const Payload& payload) {
      ++node.puts;
      if (node.silent) return;
      std::vector<BlockWrite> writes;
      std::size_t offset = 0;
      for (const BlockKey& key : request.blocks) {
        writes.push_back({key, payload.view().substr(offset, key.length)});
        offset += key.length;
        node.lies.erase(key.id);
      }
      PutBlocksReply reply;
      reply.statuses.assign(writes.size(), node.put_status);
      if (node.put_status == BlockStatus::ok) reply.statuses = node.store->put(writes, 1).value();
      node.data->reply(peer, reply);
    });
    node.data->on<GetBlocks>([&node](const RequestContext& peer, const GetBlocks& request, const Payload&) {
      ++node.gets;
      node.blocks_read += static_cast<std::uint32_t>(request.blocks.size());
      if (node.silent) return;
      GetBlocksReply reply;
      Bytes bytes;
      for (const BlockKey& key : request.blocks) {
        const auto got = node.store->get(key);
        if (got) {
          bytes += got->view();
          if (node.lies.count(key.id) != 0) bytes.back() = static_cast<char>(bytes.back() ^ 1);
        }
        const bool missing = !got && got.error().code == Errc::not_found;
        reply.statuses.push_back(got ? BlockStatus::ok : (missing ? BlockStatus::missing : BlockStatus::damaged));
      }
      node.data->reply(peer, reply, Payload(std::move(bytes)));
    });
  }

  /// n1 leads; the others say so.
  void serve_rpc(FakeNode& node) {
    node.rpc = bind(node, Service::rpc, kControlMessageBytesMax);
    serve_request<PlacementRequest>(node, [this](const PlacementRequest&) {
      return Result<PlacementReply>(PlacementReply{copies, placement});
    });
    serve_request<FsListRequest>(node, [this](const FsListRequest& request) { return files.list(request); });
    serve_request<FsStatRequest>(node, [this](const FsStatRequest& request) { return files.stat(request); });
    serve_request<FsCommitRequest>(node, [this](const FsCommitRequest& request) -> Result<FsCommitReply> {
      ++commits;
      auto versions = files.commit(request.files, 1, {}, freed);
      if (!versions) return versions.error();
      return FsCommitReply{std::move(versions).value()};
    });
  }
  template <class Req, class Handler>
  void serve_request(FakeNode& node, Handler handler) {
    node.rpc->template on<Req>([this, &node, handler](const RequestContext& peer, const Req& request, const Payload&) {
      requests.push_back(peer.header.request);
      if (refusals > 0) {
        --refusals;
        return node.rpc->reply_error(peer, Error{Errc::no_coordinator, "an election is under way"});
      }
      if (node.id != leader) return node.rpc->reply_error(peer, Error{Errc::not_leader, "not me"}, leader);
      auto answer = handler(request);
      if (answer) return node.rpc->reply(peer, *answer);
      node.rpc->reply_error(peer, answer.error());
    });
  }
  void kill(std::uint32_t node) {
    nodes[NodeId{node}].data.reset();
    nodes[NodeId{node}].rpc.reset();
  }

  NewBlock new_block(const Bytes& bytes) {
    return NewBlock{BlockKey{ids_source.next(), static_cast<std::uint32_t>(bytes.size()), hash128(bytes)}, Payload(bytes)};
  }
  Result<BlockRef> write(const Bytes& bytes) {
    std::optional<Result<BlockRef>> answer;
    blocks->write(new_block(bytes), [&](Result<BlockRef> ref) {
      EXPECT_FALSE(answer.has_value());
      answer = std::move(ref);
    });
    EXPECT_FALSE(answer.has_value()) << "must not call back at once";
    run_until([&] { return answer.has_value(); });
    return answer ? std::move(*answer) : Result<BlockRef>(Error{Errc::internal, "never answered"});
  }
  Result<Bytes> read(const BlockRef& block) {
    std::optional<Result<Payload>> answer;
    blocks->read(block, [&](Result<Payload> bytes) {
      EXPECT_FALSE(answer.has_value());
      answer = std::move(bytes);
    });
    run_until([&] { return answer.has_value(); });
    if (!answer) return Error{Errc::internal, "never answered"};
    if (!*answer) return answer->error();
    return Bytes((*answer)->view());
  }

  std::map<NodeId, FakeNode> nodes;
  std::vector<PlacementNode> placement;
  std::uint32_t copies = 1;
  Namespace files;
  FreedBlocks freed;
  NodeId leader{1};
  int refusals = 0;
  std::uint32_t commits = 0;
  std::vector<RequestId> requests;
  BlockIdSource ids_source{99};
  BlockClient::Options options;
  std::unique_ptr<RpcClient> rpc_client;
  std::unique_ptr<MetadataClient> metadata;
  std::unique_ptr<BlockClient> blocks;
  std::unique_ptr<SdfsClient> sdfs;
};

}  // namespace idunno::test

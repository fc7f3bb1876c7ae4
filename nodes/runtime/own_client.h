#pragma once
/// An SDFS client of the node's own, for what runs in a thread of its own beside the control thread (history_shell, follow_shell)
/// and may wait for the cluster as any client does. Loop, context and thread are the caller's: made and used in that one thread.

#include <memory>
#include <vector>

#include "bus/cluster_config.h"
#include "bus/event_loop.h"
#include "bus/rpc.h"
#include "storage/sdfs/client.h"

namespace idunno {

/// Of one call to the coordinator: ourselves, or who came after.
inline constexpr Duration kOwnCallTimeout = std::chrono::seconds(10);

class OwnClient {
 public:
  struct Options {
    KeyPair keys;  ///< the node's
    AddressBook peers;
    std::uint64_t cluster = 0;  ///< ClusterConfig::cluster_hash()
    std::vector<NodeId> log_nodes;
  };
  /// `loop` and `context` outlive it.
  [[nodiscard]] static Result<std::unique_ptr<OwnClient>> create(EventLoop& loop, ZmqContext& context, const Options& options);
  [[nodiscard]] SdfsClient& sdfs() { return sdfs_; }

 private:
  OwnClient(EventLoop& loop, std::unique_ptr<RpcClient> rpc, const Options& options);

  std::unique_ptr<RpcClient> rpc_;
  MetadataClient metadata_;
  BlockClient blocks_;
  BlockIdSource ids_;
  SdfsClient sdfs_;
};

}  // namespace idunno

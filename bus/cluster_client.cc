#include "bus/cluster_client.h"

namespace idunno {

Result<std::unique_ptr<RpcClient>> make_cluster_client(EventLoop& loop, ZmqContext& context, const ClusterConfig& config,
                                                       const AdmittedKeys& admitted, const KeyPair& keys) {
  auto book = address_book(config, admitted);
  if (!book) return book.error();
  RpcClient::Options options;
  options.keys = keys;
  options.cluster = config.cluster_hash();
  options.peers = std::move(*book);
  return RpcClient::create(loop, context, std::move(options));
}

}  // namespace idunno

#pragma once
/// What every process that talks to a cluster sets up alike: node, command line, tests.

#include <memory>

#include "bus/cluster_config.h"
#include "bus/rpc.h"

namespace idunno {

/// A client of all nodes of `config`, whose public keys are those of `admitted`. not_found names the key that is missing.
[[nodiscard]] Result<std::unique_ptr<RpcClient>> make_cluster_client(EventLoop& loop, ZmqContext& context,
                                                                     const ClusterConfig& config, const AdmittedKeys& admitted,
                                                                     const KeyPair& keys);

}  // namespace idunno

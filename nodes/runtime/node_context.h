#pragma once
/// What the parts of a node's control thread share. Owned by NodeShell; outlives them all. All of it belongs to the control
/// thread.

#include <functional>

#include "bus/cluster_config.h"
#include "bus/event_loop.h"
#include "bus/rpc.h"
#include "nodes/runtime/data_service.h"

namespace idunno {

struct NodeContext {
  const ClusterConfig& config;
  const NodeConfig& self;
  Incarnation incarnation;
  std::uint32_t slots;  ///< executors of this node
  EventLoop& loop;
  RpcClient& client;
  DataService& data;
  const ZapHandler& zap;
  std::function<void(Event)> tell;          ///< stamps, logs and publishes an event
  std::function<void(const Error&)> fatal;  ///< the node cannot go on: logs it and ends the process
};

}  // namespace idunno

#include "nodes/runtime/own_client.h"

#include "bus/entropy.h"

namespace idunno {
namespace {

constexpr std::size_t kCallsMax = 64;
constexpr std::size_t kBytesInFlightMax = 8U << 20U;

BlockClient::Options block_options() {
  BlockClient::Options options;
  options.bytes_in_flight_max = kBytesInFlightMax;
  return options;
}

}  // namespace

Result<std::unique_ptr<OwnClient>> OwnClient::create(EventLoop& loop, ZmqContext& context, const Options& options) {
  RpcClient::Options rpc_options;
  rpc_options.keys = options.keys;
  rpc_options.cluster = options.cluster;
  rpc_options.peers = options.peers;
  rpc_options.calls_in_flight_max = kCallsMax;
  auto rpc = RpcClient::create(loop, context, rpc_options);
  if (!rpc) return rpc.error();
  return std::unique_ptr<OwnClient>(new OwnClient(loop, std::move(*rpc), options));
}

OwnClient::OwnClient(EventLoop& loop, std::unique_ptr<RpcClient> rpc, const Options& options)
    : rpc_(std::move(rpc)),
      metadata_(loop, *rpc_, options.log_nodes, kOwnCallTimeout),
      blocks_(loop, *rpc_, block_options()),
      ids_(random_nonzero()),
      sdfs_(metadata_, blocks_, ids_) {}

}  // namespace idunno

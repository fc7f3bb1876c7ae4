#include "nodes/runtime/node_session.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <utility>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr Duration kHelloTimeout = std::chrono::seconds(2);
constexpr Duration kHelloPause = std::chrono::milliseconds(200);
constexpr Duration kInventoryInterval = std::chrono::minutes(10);
/// A block nobody refers to may belong to a write whose metadata is on its way: younger ones are left alone.
constexpr WallMs kOrphanGraceMs = 10 * 60 * 1000;

std::uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  statm >> total >> resident;
  return resident * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

NodeSession::NodeSession(NodeContext& context, std::function<Load()> load, std::function<void(Epoch)> on_session)
    : context_(context), load_(std::move(load)), on_session_(std::move(on_session)) {
  context_.client.on_push<ReplicaTask>([this](NodeId, const Header&, const ReplicaTask& task) { on_task(task); });
  context_.client.on_connection([this](NodeId node, Service service, bool connected) {
    if (node == context_.coordinator && service == Service::rpc && !connected) lost();
  });
}

void NodeSession::hello() {
  if (saying_hello_) return;
  saying_hello_ = true;
  NodeHello request;
  request.node = context_.self.id;
  request.incarnation = context_.incarnation;
  request.store_id = context_.data.store_id();
  request.slots = context_.slots;
  request.pid = static_cast<std::uint32_t>(getpid());
  request.data_dir = context_.self.data_dir.string();
  RpcClient::CallOptions options;
  options.timeout = kHelloTimeout;
  context_.client.call<NodeHello>(
      context_.coordinator, Service::rpc, request, {}, options, [this](const Result<RpcReply<NodeHelloReply>>& answer, NodeId) {
        saying_hello_ = false;
        if (answer) return accepted(answer->header.epoch);
        spdlog::warn("hello to {} failed: {}", to_string(context_.coordinator), answer.error().detail);
        hello_later();
      });
}

void NodeSession::hello_later() {
  context_.loop.after(kHelloPause, [this] {
    if (!in_session_) hello();
  });
}

void NodeSession::accepted(Epoch epoch) {
  in_session_ = true;
  spdlog::info("in session with {} under epoch {}", to_string(context_.coordinator), epoch.value);
  on_session_(epoch);
  context_.loop.cancel(heartbeat_timer_);
  heartbeat();
  context_.loop.cancel(inventory_timer_);
  if (!inventory_running_) report_inventory({});
}

void NodeSession::lost() {
  if (!in_session_) return;
  in_session_ = false;
  spdlog::warn("session with {} lost", to_string(context_.coordinator));
  hello_later();
}

void NodeSession::heartbeat() {
  if (!in_session_) return;
  const BlockStoreUsage usage = context_.data.usage();
  const Load load = load_();
  Heartbeat beat;
  beat.node = context_.self.id;
  beat.incarnation = context_.incarnation;
  beat.running = load.running;
  beat.capacity_bytes = usage.capacity_bytes;
  beat.free_bytes = usage.free_bytes;
  beat.blocks = usage.blocks;
  beat.block_bytes = usage.bytes;
  beat.rss_bytes = resident_bytes();
  beat.read_only = usage.read_only;
  beat.mean_batch_us = load.mean_batch_us;
  RpcClient::CallOptions options;
  options.timeout = context_.config.tuning.dead_after;
  context_.client.call<Heartbeat>(context_.coordinator, Service::rpc, beat, {}, options,
                                  [this](const Result<RpcReply<HeartbeatReply>>& answer, NodeId) {
                                    if (!answer || !answer->body.known) lost();
                                  });
  heartbeat_timer_ = context_.loop.after(context_.config.tuning.heartbeat_interval, [this] { heartbeat(); });
}

void NodeSession::report_inventory(BlockId after) {
  inventory_running_ = true;
  context_.data.post([this, after] {
    auto page = context_.data.store().list(after, kBlocksPerRequestMax);
    context_.loop.post([this, after, page = std::move(page)]() mutable {
      if (!page) return context_.fatal(annotate(page.error(), "listing the block store"));
      const bool more = page->size() == kBlocksPerRequestMax;
      inventory_page(std::move(*page), after, more);
    });
  });
}

void NodeSession::inventory_page(std::vector<HeldBlock> page, BlockId after, bool more) {
  Inventory report;
  report.node = context_.self.id;
  report.from = after;
  report.to = more ? page.back().id : BlockId{~0ULL, ~0ULL};
  for (const HeldBlock& held : page) report.blocks.push_back(held.id);
  RpcClient::CallOptions options;
  options.timeout = kHelloTimeout;
  const BlockId to = report.to;
  context_.client.call<Inventory>(
      context_.coordinator, Service::rpc, report, {}, options,
      [this, page = std::move(page), to, more](const Result<RpcReply<InventoryReply>>& answer, NodeId) {
        if (answer) delete_orphans(answer->body.unknown, page);
        if (answer && more) return report_inventory(to);
        inventory_running_ = false;
        inventory_timer_ = context_.loop.after(kInventoryInterval, [this] {
          if (in_session_ && !inventory_running_) report_inventory({});
        });
      });
}

void NodeSession::delete_orphans(const std::vector<BlockId>& unknown, const std::vector<HeldBlock>& page) {
  std::map<BlockId, WallMs> stored;
  for (const HeldBlock& held : page) stored[held.id] = held.stored_ms;
  const WallMs now = wall_now_ms();
  std::vector<BlockId> old;
  for (const BlockId& id : unknown) {
    const auto found = stored.find(id);
    if (found != stored.end() && found->second + kOrphanGraceMs < now) old.push_back(id);
  }
  if (old.empty()) return;
  spdlog::info("deleting {} blocks that no file refers to", old.size());
  context_.data.post([this, old = std::move(old)] {
    if (Status removed = context_.data.store().remove(old); !removed) {
      context_.loop.post([this, error = removed.error()] { context_.fatal(annotate(error, "deleting blocks")); });
    }
  });
}

void NodeSession::on_task(const ReplicaTask& task) {
  context_.data.post([this, task] {
    if (!task.drop.empty()) {
      if (Status removed = context_.data.store().remove(task.drop); !removed) {
        return context_.loop.post([this, error = removed.error()] { context_.fatal(annotate(error, "deleting blocks")); });
      }
    }
    if (task.pull.empty()) return;
    context_.data.pull(task.pull, [this, number = task.task](std::vector<BlockStatus> statuses) {
      context_.loop.post([this, number, statuses = std::move(statuses)] {
        RpcClient::CallOptions options;
        options.timeout = kHelloTimeout;
        context_.client.call<ReplicaReport>(context_.coordinator, Service::rpc, ReplicaReport{number, statuses}, {}, options,
                                            [](const Result<RpcReply<ReplicaReportReply>>&, NodeId) {});
      });
    });
  });
}

}  // namespace idunno

#pragma once
/// A node's relation to the coordinator: says hello until it is accepted, then sends heartbeats, begins again when the connection
/// or the coordinator is gone; reports the inventory of the block store; obeys ReplicaTasks. Control thread.

#include <cstdint>
#include <functional>

#include "nodes/runtime/node_context.h"

namespace idunno {

class NodeSession {
 public:
  struct Load {
    std::uint32_t running = 0;
    std::uint32_t mean_batch_us = 0;
  };
  NodeSession(NodeContext& context, std::function<Load()> load, std::function<void(Epoch)> on_session);

  void start() { hello(); }
  void lost();  ///< something went unanswered or the connection closed: say hello again

 private:
  void hello();
  void hello_later();
  void accepted(Epoch epoch);
  void heartbeat();
  void report_inventory(BlockId after);
  void inventory_page(std::vector<HeldBlock> page, BlockId after, bool more);
  void delete_orphans(const std::vector<BlockId>& unknown, const std::vector<HeldBlock>& page);
  void on_task(const ReplicaTask& task);

  NodeContext& context_;
  std::function<Load()> load_;
  std::function<void(Epoch)> on_session_;
  bool in_session_ = false;
  bool saying_hello_ = false;
  bool inventory_running_ = false;
  EventLoop::TimerId heartbeat_timer_ = 0;
  EventLoop::TimerId inventory_timer_ = 0;
};

}  // namespace idunno

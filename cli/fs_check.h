#pragma once
/// The looking part of `idunno fs fsck`: every copy of every block is read and verified by the node that holds it, many at a
/// time; the mending part is in cli/fs_repair.cc.

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "cli/app.h"
#include "storage/sdfs/namespace.h"

namespace idunno::cli {

struct CheckedBlock {
  BlockPlace place;
  std::set<NodeId> good;
  std::set<NodeId> damaged;
  std::set<NodeId> missing;
  std::set<NodeId> unknown;  ///< nodes that are dead or did not answer
};

struct CheckReport {
  std::vector<CheckedBlock> blocks;
  std::uint64_t files = 0;
  std::uint64_t copies = 0;  ///< looked at
  std::uint64_t bytes = 0;
  std::set<NodeId> alive;
  std::vector<PlacementNode> placement;
  std::size_t wanted = 1;  ///< copies a block should have now
};

/// All blocks below `path` in all versions, their copies not looked at yet.
[[nodiscard]] Result<CheckReport> find_blocks(Session& session, const std::string& path);

/// Has every copy on a live node read. `progress` gets the number of copies done.
void check_copies(Session& session, CheckReport& report, const std::function<void(std::uint64_t)>& progress);

struct Orphan {
  NodeId node;
  HeldBlock block;
};
/// Blocks on live nodes that no file refers to and that are older than `age`. `report` must be of "/".
[[nodiscard]] std::vector<Orphan> find_orphans(Session& session, const CheckReport& report, Duration age);

/// Runs requests to the nodes' data services, a bounded number at each node and in all.
class NodeRequests {
 public:
  explicit NodeRequests(Session& session) : session_(session) {}

  /// `done` gets the answer's statuses, or nothing when the node did not answer.
  template <class Request>
  void add(NodeId node, Request request, std::function<void(const std::vector<BlockStatus>*)> done) {
    waiting_[node].push_back([this, node, request = std::move(request), done = std::move(done)] {
      RpcClient::CallOptions options;
      options.timeout = kTimeout;
      session_.rpc().call(node, Service::data, request, {}, options,
                          std::function<void(Result<RpcReply<typename Request::Reply>>, NodeId)>(
                              [this, node, done](Result<RpcReply<typename Request::Reply>> answer, NodeId) {
                                done(answer ? &answer->body.statuses : nullptr);
                                --running_[node];
                                --left_;
                                start(node);
                              }));
    });
    ++left_;
  }
  void run();

 private:
  static constexpr std::uint32_t kRunningPerNodeMax = 2;
  static constexpr Duration kTimeout = std::chrono::seconds(60);

  void start(NodeId node);

  Session& session_;
  std::map<NodeId, std::vector<std::function<void()>>> waiting_;
  std::map<NodeId, std::size_t> next_;
  std::map<NodeId, std::uint32_t> running_;
  std::uint64_t left_ = 0;
};

/// Mends what can be mended: new copies in place of bad ones, on other nodes where nodes are gone, and tells the coordinator.
/// Returns the number of copies made; the sets of `report` are brought up to date.
[[nodiscard]] Result<std::uint64_t> repair_blocks(Session& session, CheckReport& report);

}  // namespace idunno::cli

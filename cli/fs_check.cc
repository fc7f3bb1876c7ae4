#include "cli/fs_check.h"

#include <fmt/format.h>

#include <algorithm>

#include "bus/clock.h"
#include "cli/fs_common.h"

namespace idunno::cli {
namespace {

constexpr std::size_t kBlocksPerCheck = 32;  ///< up to 32 MiB read for one answer

Result<std::vector<FileVersion>> all_versions(Session& session, const std::string& path) {
  FsListRequest request;
  request.path = path;
  request.recursive = true;
  request.with_blocks = true;
  request.all_versions = true;
  std::vector<FileVersion> files;
  do {
    auto page = session.metadata().call_and_wait(request);
    if (!page) return page.error();
    for (FileVersion& file : page->files) {
      if (file.size > 0 && file.blocks.empty()) {  // too large for a page
        auto whole = session.sdfs().stat(file.path, file.version);
        if (!whole) return whole.error();
        file = std::move(*whole);
      }
      files.push_back(std::move(file));
    }
    request.after = std::move(page->next);
  } while (!request.after.empty());
  return files;
}

/// All that one node holds, in id order; what was found until it stopped answering.
std::vector<HeldBlock> held_blocks(Session& session, NodeId node) {
  std::vector<HeldBlock> all;
  ListBlocks request;
  bool more = true;
  while (more) {
    bool done = false;
    more = false;
    session.rpc().call(
        node, Service::data, request, {}, RpcClient::CallOptions{},
        std::function<void(Result<RpcReply<ListBlocksReply>>, NodeId)>([&](Result<RpcReply<ListBlocksReply>> answer, NodeId) {
          done = true;
          if (!answer || answer->body.blocks.empty()) return;
          all.insert(all.end(), answer->body.blocks.begin(), answer->body.blocks.end());
          request.after = all.back().id;
          more = answer->body.more;
        }));
    run_until_done(session, [&] { return done; });
  }
  return all;
}

void note_status(CheckedBlock& block, NodeId node, BlockStatus status) {
  switch (status) {
    case BlockStatus::ok:
      block.good.insert(node);
      break;
    case BlockStatus::missing:
      block.missing.insert(node);
      break;
    case BlockStatus::damaged:
      block.damaged.insert(node);
      break;
    case BlockStatus::full:
    case BlockStatus::failed:
      block.unknown.insert(node);
      break;
  }
}

}  // namespace

void NodeRequests::start(NodeId node) {
  while (running_[node] < kRunningPerNodeMax && next_[node] < waiting_[node].size()) {
    ++running_[node];
    const auto request = std::move(waiting_[node][next_[node]++]);
    request();
  }
}

void NodeRequests::run() {
  std::vector<NodeId> nodes;
  for (const auto& [node, requests] : waiting_) nodes.push_back(node);
  for (const NodeId node : nodes) start(node);
  run_until_done(session_, [this] { return left_ == 0; });
}

Result<CheckReport> find_blocks(Session& session, const std::string& path) {
  CheckReport report;
  const auto status = session.metadata().call_and_wait(StatusRequest{});
  if (!status) return status.error();
  for (const NodeReport& node : status->nodes) {
    if (node.state == NodeState::alive || node.state == NodeState::suspect) report.alive.insert(node.id);
  }
  const auto placement = session.metadata().call_and_wait(PlacementRequest{});
  if (!placement) return placement.error();
  report.placement = placement->nodes;
  report.wanted = std::min<std::size_t>(placement->replication, report.alive.size());
  auto files = all_versions(session, path);
  if (!files) return files.error();
  report.files = files->size();
  for (const FileVersion& file : *files) {
    for (std::size_t i = 0; i < file.blocks.size(); ++i) {
      if (file.blocks[i].id == BlockId{}) continue;  // of a result that is still being written
      CheckedBlock block;
      block.place = BlockPlace{file.path, file.version, i, file.blocks[i]};
      report.blocks.push_back(std::move(block));
    }
  }
  return report;
}

void check_copies(Session& session, CheckReport& report, const std::function<void(std::uint64_t)>& progress) {
  std::map<NodeId, std::vector<std::size_t>> by_node;
  for (std::size_t i = 0; i < report.blocks.size(); ++i) {
    for (const NodeId node : report.blocks[i].place.block.replicas) {
      if (report.alive.contains(node))
        by_node[node].push_back(i);
      else
        report.blocks[i].unknown.insert(node);
    }
  }
  NodeRequests requests(session);
  for (const auto& [node, indices] : by_node) {
    for (std::size_t first = 0; first < indices.size(); first += kBlocksPerCheck) {
      const auto begin = indices.begin() + static_cast<std::ptrdiff_t>(first);
      const std::vector<std::size_t> part(begin,
                                          begin + static_cast<std::ptrdiff_t>(std::min(kBlocksPerCheck, indices.size() - first)));
      CheckBlocks request;
      for (const std::size_t i : part) {
        const BlockRef& block = report.blocks[i].place.block;
        request.blocks.push_back(BlockKey{block.id, block.length, block.hash});
      }
      requests.add(node, std::move(request), [&report, &progress, node = node, part](const std::vector<BlockStatus>* statuses) {
        for (std::size_t i = 0; i < part.size(); ++i) {
          CheckedBlock& block = report.blocks[part[i]];
          const bool answered = statuses != nullptr && i < statuses->size();
          note_status(block, node, answered ? (*statuses)[i] : BlockStatus::failed);
          ++report.copies;
          report.bytes += block.place.block.length;
        }
        progress(report.copies);
      });
    }
  }
  requests.run();
}

std::vector<Orphan> find_orphans(Session& session, const CheckReport& report, Duration age) {
  std::set<BlockId> known;
  for (const CheckedBlock& block : report.blocks) known.insert(block.place.block.id);
  const auto age_ms = static_cast<WallMs>(std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
  const WallMs now = wall_now_ms();
  std::vector<Orphan> orphans;
  for (const NodeId node : report.alive) {
    for (const HeldBlock& held : held_blocks(session, node)) {
      if (!known.contains(held.id) && held.stored_ms + age_ms <= now) orphans.push_back(Orphan{node, held});
    }
  }
  return orphans;
}

}  // namespace idunno::cli

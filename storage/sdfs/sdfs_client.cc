/// The metadata side of SdfsClient; streaming in and out is in sdfs_put.cc and sdfs_get.cc.

#include <algorithm>
#include <utility>

#include "storage/sdfs/client.h"
#include "storage/sdfs/namespace.h"

namespace idunno {

SdfsClient::SdfsClient(MetadataClient& metadata, BlockClient& blocks, BlockIdSource& ids)
    : metadata_(metadata), blocks_(blocks), ids_(ids) {}

Status SdfsClient::refresh_placement() {
  auto reply = metadata_.call_and_wait(PlacementRequest{});
  if (!reply) return annotate(reply.error(), "ask where blocks may go");
  const bool any =
      std::any_of(reply->nodes.begin(), reply->nodes.end(), [](const PlacementNode& node) { return node.weight > 0; });
  if (!any) {
    if (reply->nodes.empty()) return Error{Errc::unavailable, "no node is alive that could take blocks; see `idunno status`"};
    return Error{Errc::full, "the disks of all nodes are full; remove files (`idunno fs rm`) or add space"};
  }
  blocks_.set_placement(std::move(reply->nodes), reply->replication);
  return {};
}

Result<FileVersion> SdfsClient::stat(const std::string& sdfs_path, std::uint32_t version) {
  FsStatRequest request;
  request.path = sdfs_path;
  request.version = version;
  auto reply = metadata_.call_and_wait(request);
  if (!reply) return reply.error();
  if (reply->is_folder) return Error{Errc::invalid, "'" + sdfs_path + "' is a folder in SDFS, not a file"};
  FileVersion file = std::move(reply->file);
  while (file.blocks.size() < reply->total_blocks) {
    request.version = file.version;  // the newest may be another one by now
    request.first_block = file.blocks.size();
    auto page = metadata_.call_and_wait(request);
    if (!page) return page.error();
    if (page->file.blocks.empty()) return Error{Errc::conflict, "'" + sdfs_path + "' changed while it was looked at; try again"};
    std::move(page->file.blocks.begin(), page->file.blocks.end(), std::back_inserter(file.blocks));
    file.size = page->file.size;
  }
  return file;
}

Result<std::vector<FileVersion>> SdfsClient::list_all(const std::string& sdfs_path, bool with_blocks) {
  FsListRequest request;
  request.path = sdfs_path;
  request.recursive = true;
  request.with_blocks = with_blocks;
  std::vector<FileVersion> files;
  do {
    auto page = metadata_.call_and_wait(request);
    if (!page) return page.error();
    std::move(page->files.begin(), page->files.end(), std::back_inserter(files));
    if (!page->next.empty() && page->next == request.after) {
      return Error{Errc::internal, "list '" + sdfs_path + "': the coordinator's pages do not go on"};
    }
    request.after = std::move(page->next);
  } while (!request.after.empty());
  if (!with_blocks) return files;
  for (FileVersion& file : files) {
    if (file.size == 0 || !file.blocks.empty()) continue;  // large files come without their blocks
    auto whole = stat(file.path, file.version);
    if (!whole) return whole.error();
    file = std::move(whole).value();
  }
  return files;
}

}  // namespace idunno

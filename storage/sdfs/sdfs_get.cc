/// Getting files: verified blocks, several in flight, in order for a stream and in any order for files.

#include <algorithm>
#include <deque>
#include <utility>

#include "bus/clock.h"
#include "storage/sdfs/client.h"
#include "storage/sdfs/local_files.h"

namespace idunno {
namespace {

/// Read ahead of a stream that is delivered in order.
constexpr std::size_t kReadAheadBytes = 16U << 20U;
constexpr std::size_t kReadAheadBlocks = 256;
constexpr Duration kWaitStep = std::chrono::seconds(60);

Error still_open(const std::string& path) {
  return Error{Errc::conflict, "get '" + path + "': a job is still writing it; use `idunno job results` or wait for the job"};
}

void wait(SdfsClient& sdfs, const std::function<bool()>& done) {
  while (!done()) (void)sdfs.metadata().loop().run_until(done, monotonic_now() + kWaitStep);
}

/// Asks where a block lies now. The replicas in a reference are hints: repair may have moved it since.
Result<BlockRef> present_place(SdfsClient& sdfs, const std::string& path, std::uint32_t version, std::uint64_t index,
                               const BlockRef& old) {
  FsStatRequest request;
  request.path = path;
  request.version = version;
  request.first_block = index;
  request.max_blocks = 1;
  auto reply = sdfs.metadata().call_and_wait(request);
  if (!reply) return reply.error();
  if (reply->file.blocks.empty() || reply->file.blocks.front().id != old.id) {
    return Error{Errc::not_found, "'" + path + "' was removed or replaced while it was read"};
  }
  return std::move(reply->file.blocks.front());
}

/// Reads a block again at its present place and waits for it.
Result<Payload> read_again(SdfsClient& sdfs, const std::string& path, std::uint32_t version, std::uint64_t index,
                           const BlockRef& old) {
  auto place = present_place(sdfs, path, version, index, old);
  if (!place) return place.error();
  const auto answer = std::make_shared<std::optional<Result<Payload>>>();
  sdfs.blocks().read(*place, [answer](Result<Payload> bytes) { *answer = std::move(bytes); });
  wait(sdfs, [&] { return answer->has_value(); });
  return std::move(**answer);
}

bool worth_another_look(const Error& error) { return error.code == Errc::unavailable || error.code == Errc::damaged; }

struct Slot {
  std::uint64_t index = 0;
  BlockRef block;
  std::optional<Result<Payload>> bytes;
};

/// What callbacks may touch; outlives a get that was given up.
struct FilesState {
  std::unique_ptr<LocalFileBatch> files = std::make_unique<LocalFileBatch>();
  std::size_t outstanding = 0;
  std::optional<Error> error;
  TransferProgress progress;
  struct Missing {
    std::size_t item = 0;
    std::uint64_t index = 0;
    std::uint64_t offset = 0;
    BlockRef block;
    Error why;
  };
  std::vector<Missing> missing;
  std::vector<std::uint64_t> blocks_left;  ///< of each item
};

}  // namespace

Status SdfsClient::get(const std::string& sdfs_path, std::uint32_t version, const std::function<Status(ByteView)>& sink) {
  FsStatRequest request;
  request.path = sdfs_path;
  request.version = version;
  auto page = metadata_.call_and_wait(request);
  if (!page) return page.error();
  if (page->is_folder) return Error{Errc::invalid, "get '" + sdfs_path + "': it is a folder; use -r"};
  if (page->file.open) return still_open(sdfs_path);
  const std::uint64_t total = page->total_blocks;
  request.version = page->file.version;

  std::deque<std::shared_ptr<Slot>> window;
  std::size_t window_bytes = 0;
  std::uint64_t asked = 0;  // blocks that were put into the window so far
  while (asked < total || !window.empty()) {
    while (asked < total && window.size() < kReadAheadBlocks && (window.empty() || window_bytes < kReadAheadBytes)) {
      const std::uint64_t in_page = asked - request.first_block;
      if (in_page >= page->file.blocks.size()) {
        request.first_block = asked;
        page = metadata_.call_and_wait(request);
        if (!page) return page.error();
        if (page->file.blocks.empty()) return Error{Errc::conflict, "get '" + sdfs_path + "': it changed meanwhile; try again"};
        continue;
      }
      auto slot = std::make_shared<Slot>();
      slot->index = asked++;
      slot->block = std::move(page->file.blocks[in_page]);
      window_bytes += slot->block.length;
      blocks_.read(slot->block, [slot](Result<Payload> bytes) { slot->bytes = std::move(bytes); });
      window.push_back(std::move(slot));
    }
    const std::shared_ptr<Slot> front = window.front();
    window.pop_front();
    wait(*this, [&] { return front->bytes.has_value(); });
    window_bytes -= front->block.length;
    if (!front->bytes->ok() && worth_another_look(front->bytes->error())) {
      front->bytes = read_again(*this, sdfs_path, request.version, front->index, front->block);
    }
    if (!front->bytes->ok())
      return annotate(front->bytes->error(), "get '" + sdfs_path + "', block " + std::to_string(front->index));
    if (auto status = sink((*front->bytes)->view()); !status) return status;
  }
  return {};
}

Status SdfsClient::get_files(const std::vector<GetItem>& items, const std::function<void(const TransferProgress&)>& progress) {
  const auto state = std::make_shared<FilesState>();
  state->blocks_left.resize(items.size());
  const auto give_up = [&](const Error& error) {
    state->files.reset();  // removes what was begun; callbacks that still come find nothing to write to
    return Status(error);
  };
  const auto look = [&] {
    if (progress) progress(state->progress);
  };
  for (std::size_t item = 0; item < items.size(); ++item) {
    const FileVersion* file = &items[item].file;
    if (file->open) return give_up(still_open(file->path));
    FileVersion fetched;
    if (file->size > 0 && file->blocks.empty()) {
      auto whole = stat(file->path, file->version);
      if (!whole) return give_up(whole.error());
      fetched = std::move(whole).value();
      file = &fetched;
    }
    auto number = state->files->add(items[item].local_path);  // the same as `item`
    if (!number) return give_up(number.error());
    state->blocks_left[item] = file->blocks.size();
    if (file->blocks.empty()) ++state->progress.files_done;
    std::uint64_t offset = 0;
    for (std::uint64_t index = 0; index < file->blocks.size(); ++index) {
      wait(*this, [&] { return !blocks_.busy() || state->error; });
      if (state->error) return give_up(*state->error);
      const BlockRef& block = file->blocks[index];
      ++state->outstanding;
      blocks_.read(block, [state, item, index, offset, block](const Result<Payload>& bytes) {
        --state->outstanding;
        if (!state->files || state->error) return;
        if (!bytes) {
          state->missing.push_back({item, index, offset, block, bytes.error()});
          return;
        }
        if (auto status = state->files->write(item, offset, bytes->view()); !status) state->error = status.error();
        state->progress.bytes_done += block.length;
        if (--state->blocks_left[item] == 0) ++state->progress.files_done;
      });
      offset += block.length;
      look();
    }
  }
  wait(*this, [&] {
    look();
    return state->outstanding == 0 || state->error;
  });
  if (state->error) return give_up(*state->error);
  for (const auto& missing : state->missing) {
    const FileVersion& file = items[missing.item].file;
    auto bytes = worth_another_look(missing.why) ? read_again(*this, file.path, file.version, missing.index, missing.block)
                                                 : Result<Payload>(missing.why);
    if (!bytes) return give_up(annotate(bytes.error(), "get '" + file.path + "', block " + std::to_string(missing.index)));
    if (auto status = state->files->write(missing.item, missing.offset, bytes->view()); !status) return give_up(status.error());
    state->progress.bytes_done += missing.block.length;
    if (--state->blocks_left[missing.item] == 0) ++state->progress.files_done;
    look();
  }
  if (auto status = state->files->finish(); !status) return give_up(status.error());
  look();
  return {};
}

}  // namespace idunno

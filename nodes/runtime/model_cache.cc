#include "nodes/runtime/model_cache.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

#include "bus/hash.h"

namespace idunno {
namespace {

constexpr std::size_t kWantedBlocksInFlight = 8;
constexpr std::size_t kPrefetchBlocksInFlight = 2;

/// Whether a file from an earlier run is exactly this version: every block is read and hashed.
bool same_content(const std::filesystem::path& file, const FileVersion& version) {
  std::error_code error;
  if (std::filesystem::file_size(file, error) != version.size || error) return false;
  std::ifstream in(file, std::ios::binary);
  Bytes piece;
  for (const BlockRef& block : version.blocks) {
    piece.resize(block.length);
    if (!in.read(piece.data(), block.length) || hash128(piece) != block.hash) return false;
  }
  return true;
}

}  // namespace

/// One SDFS file on its way to the local disk: a few blocks in flight, written at their offsets, renamed when all are there.
class ModelCache::Download : public std::enable_shared_from_this<Download> {
 public:
  /// `number` keeps it apart from what a download that was broken off has left.
  Download(BlockClient& blocks, FileVersion version, std::filesystem::path target, std::uint64_t number)
      : blocks_(blocks),
        version_(std::move(version)),
        target_(std::move(target)),
        part_(fmt::format("{}.{}.part", target_.string(), number)) {}
  ~Download() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  Download(const Download&) = delete;
  Download& operator=(const Download&) = delete;

  /// Also of a download that is on its way: it goes as fast as the most urgent asks.
  void join(std::size_t blocks_in_flight, Done done) {
    most_in_flight_ = std::max(most_in_flight_, blocks_in_flight);
    waiting_.push_back(std::move(done));
    if (descriptor_ >= 0) fill();
  }

  [[nodiscard]] const std::string& part() const { return part_; }

  void start() {
    descriptor_ = open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) return finish(Error{Errc::internal, fmt::format("writing {}: {}", part_, std::strerror(errno))});
    if (version_.blocks.empty()) return finish({});
    fill();
  }

 private:
  void fill() {
    while (!finished_ && next_ < version_.blocks.size() && in_flight_ < most_in_flight_) {
      const BlockRef& block = version_.blocks[next_++];
      const std::uint64_t at = offset_;
      offset_ += block.length;
      ++in_flight_;
      blocks_.read(block, [self = shared_from_this(), at](const Result<Payload>& bytes) { self->arrived(at, bytes); });
    }
  }

  void arrived(std::uint64_t at, const Result<Payload>& bytes) {
    --in_flight_;
    if (finished_) return;
    if (!bytes) return finish(annotate(bytes.error(), "fetching " + version_.path));
    const ByteView view = bytes->view();
    if (pwrite(descriptor_, view.data(), view.size(), static_cast<off_t>(at)) != static_cast<ssize_t>(view.size())) {
      return finish(Error{Errc::full, fmt::format("writing {}: {}", part_, std::strerror(errno))});
    }
    if (next_ == version_.blocks.size() && in_flight_ == 0) return finish({});
    fill();
  }

  void finish(Status status) {
    finished_ = true;
    std::error_code error;
    if (status) {
      std::filesystem::rename(part_, target_, error);
      if (error) status = Error{Errc::internal, fmt::format("renaming {}: {}", part_, error.message())};
    } else {
      std::filesystem::remove(part_, error);
    }
    for (const Done& done : std::exchange(waiting_, {})) done(status);
  }

  BlockClient& blocks_;
  FileVersion version_;
  std::filesystem::path target_;
  std::string part_;
  std::vector<Done> waiting_;
  int descriptor_ = -1;
  std::size_t most_in_flight_ = 1;
  std::size_t next_ = 0;
  std::size_t in_flight_ = 0;
  std::uint64_t offset_ = 0;
  bool finished_ = false;
};

ModelCache::ModelCache(BlockClient& blocks, Options options) : blocks_(blocks), options_(std::move(options)) {}

ModelCache::~ModelCache() = default;

/// By what the blocks hold alone: which nodes have copies changes with every repair.
std::string ModelCache::path_of(const FileVersion& file) const {
  std::vector<Hash128> pieces;
  for (const BlockRef& block : file.blocks) pieces.push_back(block.hash);
  const Hash128 content = hash128(encode(pieces));
  return (options_.folder / (to_string(content) + std::filesystem::path(file.path).extension().string())).string();
}

ModelCache::Content ModelCache::look_at(const std::filesystem::path& path) {
  std::error_code error;
  Content content;
  content.bytes = std::filesystem::file_size(path, error);
  if (error) return {};
  content.changed = std::filesystem::last_write_time(path, error);
  return content;
}

/// What it was found to be is believed as long as nobody has changed it: a model is hundreds of megabytes, and many jobs use it.
bool ModelCache::is_there(const FileVersion& file, const std::string& path) {
  const Content now = look_at(path);
  const auto known = known_.find(path);
  if (known != known_.end() && known->second == now && now.bytes == file.size) return true;
  known_.erase(path);
  return same_content(path, file);
}

bool ModelCache::want(const FileVersion& file, Done done) {
  const std::string path = path_of(file);
  if (const auto found = downloads_.find(path); found != downloads_.end()) {
    const std::shared_ptr<Download> download = found->second;
    download->join(kWantedBlocksInFlight, std::move(done));
    return false;
  }
  if (is_there(file, path)) {
    std::error_code ignored;
    std::filesystem::last_write_time(path, std::filesystem::file_time_type::clock::now(), ignored);  // it is in use
    known_[path] = look_at(path);
    return true;
  }
  make_room(file.size);
  download(file, path, kWantedBlocksInFlight, std::move(done));
  return false;
}

void ModelCache::download(const FileVersion& file, const std::string& path, std::size_t blocks_in_flight, Done done) {
  std::error_code ignored;
  std::filesystem::create_directories(options_.folder, ignored);
  const auto download = std::make_shared<Download>(blocks_, file, path, ++download_count_);
  downloads_[path] = download;
  download->join(blocks_in_flight, [weak = weak_from_this(), path](const Status& status) {
    const auto self = weak.lock();
    if (!self) return;
    self->downloads_.erase(path);
    if (status) self->known_[path] = look_at(path);
  });
  download->join(blocks_in_flight, std::move(done));
  download->start();
}

void ModelCache::prefetch(const FileVersion& file) {
  if (file.version == 0 || file.blocks.empty() || ahead_.size() >= kPrefetchQueueMax) return;
  ahead_.push_back(file);
  prefetch_next();
}

void ModelCache::prefetch_next() {
  while (!prefetching_ && !ahead_.empty()) {
    const FileVersion file = std::move(ahead_.front());
    ahead_.pop_front();
    const std::string path = path_of(file);
    // A file of that name and size is enough here: `want` looks into it.
    if (downloads_.contains(path) || look_at(path).bytes == file.size) continue;
    if (!has_room(file.size)) {
      spdlog::info("{} is not fetched ahead of need: there is not enough room in {}", file.path, options_.folder.string());
      continue;
    }
    prefetching_ = true;
    download(file, path, kPrefetchBlocksInFlight, [weak = weak_from_this(), name = file.path](const Status& status) {
      if (!status) spdlog::info("fetching {} ahead of need failed: {}", name, status.error().detail);
      const auto self = weak.lock();
      if (!self) return;
      self->prefetching_ = false;
      self->prefetch_next();
    });
  }
}

bool ModelCache::has_room(std::uint64_t bytes) const {
  std::error_code error;
  std::filesystem::create_directories(options_.folder, error);
  const std::filesystem::space_info disk = std::filesystem::space(options_.folder, error);
  if (error || disk.available < options_.disk_spare_bytes + bytes) return false;
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder, error)) bytes += look_at(entry.path()).bytes;
  return bytes <= options_.bytes_max;
}

void ModelCache::make_room(std::uint64_t bytes) {
  std::set<std::string> used = options_.used();
  for (const auto& [path, download] : downloads_) used.insert(download->part());
  std::multimap<std::filesystem::file_time_type, std::filesystem::path> unused;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(options_.folder, error)) {
    const Content content = look_at(entry.path());
    bytes += content.bytes;
    if (!used.contains(entry.path().string())) unused.emplace(content.changed, entry.path());
  }
  for (const auto& [at, file] : unused) {
    if (bytes <= options_.bytes_max) return;
    bytes -= look_at(file).bytes;
    std::filesystem::remove(file, error);
  }
}

}  // namespace idunno

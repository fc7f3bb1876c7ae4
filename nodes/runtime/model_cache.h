#pragma once
/// Files of models on this machine's disk, named by content, so that jobs share a file and another version is another file. Lives
/// in the data service's thread. At most kModelCacheBytesMax; what no job uses goes first, the longest unused first.

#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "bus/base/result.h"
#include "bus/types.h"
#include "storage/sdfs/client.h"

namespace idunno {

inline constexpr std::uint64_t kModelCacheBytesMax = 8ULL << 30U;
inline constexpr std::uint64_t kPrefetchSpareBytes = 1ULL
                                                     << 30U;  ///< that fetching ahead leaves free on the disk, beside the reserve
inline constexpr std::size_t kPrefetchQueueMax = 128;         ///< files

class ModelCache : public std::enable_shared_from_this<ModelCache> {
 public:
  struct Options {
    std::filesystem::path folder;
    std::uint64_t bytes_max = kModelCacheBytesMax;
    std::uint64_t disk_spare_bytes = kPrefetchSpareBytes;  ///< of the file system, with the reserve
    std::function<std::set<std::string>()> used;           ///< paths that jobs use now: these stay
  };
  using Done = std::function<void(const Status&)>;
  ModelCache(BlockClient& blocks, Options options);
  ~ModelCache();
  ModelCache(const ModelCache&) = delete;
  ModelCache& operator=(const ModelCache&) = delete;

  /// Where the file is, or will be.
  [[nodiscard]] std::string path_of(const FileVersion& file) const;
  /// For a job. True: it is there. Else it is on its way, and `done` is called once.
  [[nodiscard]] bool want(const FileVersion& file, Done done);
  /// Ahead of need: one file at a time, few blocks at once, and only into room that nothing must leave for it. Whether it comes
  /// is not told.
  void prefetch(const FileVersion& file);

 private:
  class Download;
  struct Content {  ///< of a file that was found, or made, to be what its name says
    std::uint64_t bytes = 0;
    std::filesystem::file_time_type changed{};
    bool operator==(const Content&) const = default;
  };
  [[nodiscard]] static Content look_at(const std::filesystem::path& path);
  [[nodiscard]] bool is_there(const FileVersion& file, const std::string& path);
  void download(const FileVersion& file, const std::string& path, std::size_t blocks_in_flight, Done done);
  void prefetch_next();
  void make_room(std::uint64_t bytes);
  [[nodiscard]] bool has_room(std::uint64_t bytes) const;

  BlockClient& blocks_;
  Options options_;
  std::map<std::string, std::shared_ptr<Download>> downloads_;  ///< by path
  std::map<std::string, Content> known_;                        ///< by path
  std::deque<FileVersion> ahead_;
  bool prefetching_ = false;
  std::uint64_t download_count_ = 0;
};

}  // namespace idunno

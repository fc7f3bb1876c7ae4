#include "storage/rocks_reclaimer.h"

#include <rocksdb/options.h>

#include "storage/rocks_common.h"

namespace idunno::rocks {
namespace {

constexpr std::uint64_t kDeletedBytesMin = 64ULL << 20U;     ///< less is not worth a run
constexpr std::uint64_t kDeletedBytesMinFull = 1ULL << 20U;  ///< unless the disk is full

}  // namespace

void Reclaimer::deleted(rocksdb::DB* database, std::uint64_t bytes, std::uint64_t live_bytes, bool disk_full) {
  deleted_bytes_ += bytes;
  const bool pays =
      disk_full ? deleted_bytes_ >= kDeletedBytesMinFull : deleted_bytes_ >= kDeletedBytesMin && deleted_bytes_ >= live_bytes / 2;
  if (!pays || running_.load()) return;
  if (thread_.joinable()) thread_.join();
  deleted_bytes_ = 0;
  cancel_ = false;
  running_ = true;
  thread_ = std::thread([this, database] { run(database); });
}

void Reclaimer::stop() {
  cancel_ = true;
  if (thread_.joinable()) thread_.join();
  running_ = false;
}

/// Errors are not looked at: those that matter make RocksDB refuse the next write.
void Reclaimer::run(rocksdb::DB* database) {
  rocksdb::CompactRangeOptions options;
  options.exclusive_manual_compaction = false;
  options.canceled = &cancel_;
  auto status = database->CompactRange(options, nullptr, nullptr);
  std::uint64_t size = 0;
  std::uint64_t garbage = 0;
  const bool known = database->GetIntProperty(rocksdb::DB::Properties::kLiveBlobFileSize, &size) &&
                     database->GetIntProperty(rocksdb::DB::Properties::kLiveBlobFileGarbageSize, &garbage);
  if (status.ok() && known && garbage > size / 2 && !cancel_.load()) {
    options.blob_garbage_collection_policy = rocksdb::BlobGarbageCollectionPolicy::kForce;
    options.blob_garbage_collection_age_cutoff = 1.0;
    options.bottommost_level_compaction = rocksdb::BottommostLevelCompaction::kForceOptimized;
    status = database->CompactRange(options, nullptr, nullptr);
  }
  running_ = false;
}

}  // namespace idunno::rocks

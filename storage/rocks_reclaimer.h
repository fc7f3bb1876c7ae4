#pragma once
/// Gives the space of deleted blocks back. RocksDB drops a blob file by itself once nothing in it is alive and the deletions have
/// been compacted; its own garbage collection would copy live blocks at every small compaction, which costs writes, so blocks are
/// moved only here: when about as much was deleted as is alive, in a thread of its own, and only while half of the blob bytes are
/// garbage.

#include <rocksdb/db.h>

#include <atomic>
#include <cstdint>
#include <thread>

namespace idunno::rocks {

class Reclaimer {
 public:
  ~Reclaimer() { stop(); }

  /// Notes `bytes` deleted and starts a run when it pays, or sooner when the disk is full. `database` must live until stop(). One
  /// thread.
  void deleted(rocksdb::DB* database, std::uint64_t bytes, std::uint64_t live_bytes, bool disk_full);
  /// Cancels a run and waits for it.
  void stop();

 private:
  void run(rocksdb::DB* database);

  std::uint64_t deleted_bytes_ = 0;
  std::atomic<bool> running_{false};
  std::atomic<bool> cancel_{false};
  std::thread thread_;
};

}  // namespace idunno::rocks

#pragma once
/// What the two RocksDB stores share: options that follow the traps we know of, errors, keys in sort order. Only included by
/// storage/rocks_*.cc: RocksDB's names stay inside this folder.

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "bus/base/bytes.h"
#include "bus/base/ids.h"
#include "bus/base/result.h"

namespace idunno::rocks {

inline constexpr int kOpenFilesMax = 512;
inline constexpr std::size_t kKeptInfoLogs = 2;
inline constexpr std::size_t kInfoLogBytesMax = 1U << 20U;

/// Options that hold for every store of ours. `cache` is for index, filter and data blocks alike.
[[nodiscard]] rocksdb::Options base_options(std::uint64_t write_buffer_bytes, int write_buffers,
                                            std::shared_ptr<rocksdb::Cache> cache);

/// Acknowledged writes are synced.
[[nodiscard]] rocksdb::WriteOptions synced();

/// `doing` is what was being done, to what. Corruption becomes damaged, a full disk full, all else internal.
[[nodiscard]] Error to_error(const rocksdb::Status& status, const std::string& doing);

/// Why a store did not open, sorted: conflict (another process has it), full, internal (no permission, no descriptors, no memory:
/// it may pass), and damaged for everything else: the store can not be trusted.
[[nodiscard]] Error opening_error(const rocksdb::Status& status, const std::string& doing);

/// Whether the folder has files of a database and no CURRENT: RocksDB would make a new store on top of them, and delete them.
[[nodiscard]] bool lost_its_manifest(const std::filesystem::path& folder);

[[nodiscard]] inline rocksdb::Slice to_slice(ByteView bytes) { return {bytes.data(), bytes.size()}; }
[[nodiscard]] inline ByteView to_view(const rocksdb::Slice& slice) { return {slice.data(), slice.size()}; }

/// Numbers in keys and values are big-endian, so that keys sort as the numbers do.
void append_u32(std::string& out, std::uint32_t value);
void append_u64(std::string& out, std::uint64_t value);
[[nodiscard]] std::uint32_t read_u32(ByteView bytes, std::size_t offset);  ///< offset + 4 <= size
[[nodiscard]] std::uint64_t read_u64(ByteView bytes, std::size_t offset);  ///< offset + 8 <= size
void append_hash(std::string& out, const Hash128& hash);
[[nodiscard]] Hash128 read_hash(ByteView bytes, std::size_t offset);  ///< offset + 16 <= size

inline constexpr std::size_t kSealBytes = 16;
/// Appends the xxh3-128 of the value, and returns it.
Hash128 seal(std::string& value);
/// What stands before the seal; damaged when that does not match or when there are fewer than `least` bytes before it.
[[nodiscard]] Result<ByteView> unseal(ByteView value, std::size_t least, const std::string& what);

/// Makes the folder and its parents.
[[nodiscard]] Status make_folder(const std::filesystem::path& folder);

/// Renames `folder` to the first free `<folder>.broken-<n>` and syncs the parent folder. Returns the new name.
[[nodiscard]] Result<std::filesystem::path> set_aside(const std::filesystem::path& folder);

}  // namespace idunno::rocks

#include "storage/rocks_common.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/table.h>
#include <unistd.h>

#include <array>
#include <system_error>

#include "bus/hash.h"

namespace idunno::rocks {

rocksdb::Options base_options(std::uint64_t write_buffer_bytes, int write_buffers, std::shared_ptr<rocksdb::Cache> cache) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  options.paranoid_file_checks = true;
  // The default (point in time) opens as if nothing had happened after dropping everything behind one bad record.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.recycle_log_file_num = 0;
  options.track_and_verify_wals_in_manifest = false;
  options.wal_compression = rocksdb::kNoCompression;
  options.unordered_write = false;
  options.enable_pipelined_write = false;
  options.allow_mmap_reads = false;
  options.allow_mmap_writes = false;
  // A background error is final here: the owner closes and reopens (full disk) or stops the node. Resume() claims success and
  // lets writes fail on.
  options.max_bgerror_resume_count = 0;
  options.avoid_flush_during_shutdown = true;  // everything acknowledged is in the synced log
  options.avoid_flush_during_recovery = true;  // a full disk must not keep a store from opening
  options.max_background_jobs = 2;
  options.max_open_files = kOpenFilesMax;
  options.write_buffer_size = write_buffer_bytes;
  options.max_write_buffer_number = write_buffers;
  options.compression = rocksdb::kNoCompression;
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.skip_stats_update_on_db_open = true;
  options.info_log_level = rocksdb::InfoLogLevel::WARN_LEVEL;
  options.keep_log_file_num = kKeptInfoLogs;
  options.max_log_file_size = kInfoLogBytesMax;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = std::move(cache);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

rocksdb::WriteOptions synced() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

Error to_error(const rocksdb::Status& status, const std::string& doing) {
  const Errc code = status.IsNoSpace() ? Errc::full : status.IsCorruption() ? Errc::damaged : Errc::internal;
  return Error{code, fmt::format("{}: {}", doing, status.ToString())};
}

Error opening_error(const rocksdb::Status& status, const std::string& doing) {
  Error error = to_error(status, doing);
  if (error.code == Errc::full) return error;
  const std::string why = status.ToString();
  const auto says = [&](const char* text) { return why.find(text) != std::string::npos; };
  if (says("/LOCK")) return Error{Errc::conflict, error.detail + " (is another idunnod using it?)"};
  if (says("No space left") || says("Disk quota exceeded")) return Error{Errc::full, error.detail};
  static constexpr std::array kPassing = {"Permission denied", "Operation not permitted", "Read-only file system",
                                          "Too many open files", "Cannot allocate memory"};
  for (const char* text : kPassing) {
    if (says(text)) return Error{Errc::internal, error.detail};
  }
  error.code = Errc::damaged;
  return error;
}

bool lost_its_manifest(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::exists(folder / "CURRENT", error)) return false;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const auto extension = entry.path().extension();
    if (extension == ".sst" || extension == ".blob" || extension == ".log") return true;
  }
  return false;
}

void append_u32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>((value >> shift) & 0xFFU));
}

void append_u64(std::string& out, std::uint64_t value) {
  append_u32(out, static_cast<std::uint32_t>(value >> 32U));
  append_u32(out, static_cast<std::uint32_t>(value));
}

std::uint32_t read_u32(ByteView bytes, std::size_t offset) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = (value << 8U) | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

std::uint64_t read_u64(ByteView bytes, std::size_t offset) {
  return (std::uint64_t{read_u32(bytes, offset)} << 32U) | read_u32(bytes, offset + 4);
}

void append_hash(std::string& out, const Hash128& hash) {
  append_u64(out, hash.hi);
  append_u64(out, hash.lo);
}

Hash128 read_hash(ByteView bytes, std::size_t offset) { return {read_u64(bytes, offset), read_u64(bytes, offset + 8)}; }

Hash128 seal(std::string& value) {
  const Hash128 hash = hash128(value);
  append_hash(value, hash);
  return hash;
}

Result<ByteView> unseal(ByteView value, std::size_t least, const std::string& what) {
  if (value.size() < least + kSealBytes) return Error{Errc::damaged, fmt::format("reading {}: it is cut short", what)};
  const ByteView body = value.substr(0, value.size() - kSealBytes);
  if (hash128(body) != read_hash(value, body.size())) {
    return Error{Errc::damaged, fmt::format("reading {}: its checksum does not match", what)};
  }
  return body;
}

Status make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    const Errc code = error == std::errc::no_space_on_device ? Errc::full : Errc::internal;
    return Error{code, fmt::format("making the folder {}: {}", folder.string(), error.message())};
  }
  return {};
}

Result<std::filesystem::path> set_aside(const std::filesystem::path& folder) {
  static constexpr int kBrokenStoresMax = 1000;
  for (int n = 1; n <= kBrokenStoresMax; ++n) {
    const std::filesystem::path target = folder.string() + ".broken-" + std::to_string(n);
    std::error_code error;
    if (std::filesystem::exists(target, error)) continue;
    std::filesystem::rename(folder, target, error);
    if (error) {
      return Error{Errc::internal, fmt::format("putting {} aside as {}: {}", folder.string(), target.string(), error.message())};
    }
    const int parent = ::open(folder.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent >= 0) {
      (void)::fsync(parent);  // if this is lost in a power cut, the broken store is found, and put aside, once more
      ::close(parent);
    }
    return target;
  }
  return Error{Errc::full, fmt::format("putting {} aside: {} broken stores lie beside it already; remove some", folder.string(),
                                       kBrokenStoresMax)};
}

}  // namespace idunno::rocks

#pragma once
/// The node's log file: one line for each event and note, rotated by size. Lines are buffered and flushed at the end of a loop
/// turn, so that a busy node does not pay a system call for each line, and at once for warnings.

#include <cstdint>
#include <filesystem>

#include "bus/base/result.h"
#include "bus/types.h"

namespace idunno {

/// Makes <data_dir>/log/idunnod.log (and .1, .2, ...) the process's log.
[[nodiscard]] Status open_log(const std::filesystem::path& data_dir, NodeId node, std::uint64_t file_bytes, std::uint32_t files);

/// "event=batch_leased job=j3 batch=17 j3/b17 to n2": what `grep` finds by type, job or batch.
void log_event(const Event& event);

/// Writes out what is buffered, if anything is.
void flush_log();

}  // namespace idunno

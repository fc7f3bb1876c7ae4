#pragma once
/// The node's log: one line for each event and note, in files that are rotated (log_files.h), in the form that log_search.h
/// reads. Lines are buffered and written at the end of a turn of the control thread's loop, so that a busy node does not pay a
/// system call for each line, and at once for warnings. Of other threads, too: the loop turns several times a second.

#include <memory>

#include "bus/base/result.h"
#include "bus/types.h"
#include "nodes/runtime/log_files.h"

namespace idunno {

/// Makes these files the process's log.
[[nodiscard]] Status open_log(NodeId node, LogFiles::Options options);
/// The one that was opened; none before.
[[nodiscard]] std::shared_ptr<LogFiles> opened_log();

/// "[j3/b17] event=batch_leased j3/b17 to n2": what `idunno grep` finds by type, job or batch.
void log_event(const Event& event);

/// Writes out what is buffered, if anything is.
void flush_log();

}  // namespace idunno

#pragma once
/// The child's side of executor_protocol.h: reads requests from descriptor 3, answers in order, ends when the parent closes.

#include <cstdint>
#include <functional>

#include "nodes/worker/engine_cache.h"

namespace idunno {

struct ServeOptions {
  std::uint64_t memory_bytes = 0;
  int parent_pid = 0;
};

/// Confines this process: dies with its parent, no new privileges, first to go when memory runs out, memory limits, no core file.
/// (How nice it is is its parent's business.) False when the parent is gone already.
[[nodiscard]] bool confine(const ServeOptions& options);
/// RLIMIT_DATA and RLIMIT_AS; 0 = none, and none in builds with a sanitizer.
void limit_memory(std::uint64_t bytes);

/// One request to one answer; `rows` is the answer's payload. No exception leaves. After executor_died the process is to end.
/// `on_loaded`: the model had to be loaded, and computing begins.
[[nodiscard]] BatchExecuted execute(EngineCache& engines, const ExecuteBatch& batch, ByteView payload, std::string& rows,
                                    const std::function<void(std::uint64_t load_us)>& on_loaded = {});

/// Returns the exit status.
[[nodiscard]] int serve(const ServeOptions& options);

}  // namespace idunno

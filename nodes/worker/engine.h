#pragma once
/// What computes a batch inside idunno-executor. One engine belongs to one version of a model; engines live in the EngineCache
/// and are used by one thread. Bad inputs become error rows; only a model that cannot be used at all fails the batch.

#include <cstdint>
#include <memory>
#include <string>

#include "bus/base/bytes.h"
#include "bus/base/result.h"
#include "nodes/worker/executor_protocol.h"
#include "storage/models/model_spec.h"

namespace idunno {

class Engine {
 public:
  virtual ~Engine() = default;
  /// Appends one row for each query of `batch` to `rows`; what a trial appends is thrown away. `batch` has passed check_batch().
  /// No exception leaves but std::bad_alloc; lack of memory may also be answered with executor_died.
  [[nodiscard]] virtual BatchExecuted run(const ExecuteBatch& batch, ByteView payload, std::string& rows) = 0;
  /// What this engine holds in memory, as far as it is known.
  [[nodiscard]] virtual std::uint64_t memory_bytes() const = 0;
};

[[nodiscard]] std::unique_ptr<Engine> make_nothing_engine(const ModelSpec& spec);
[[nodiscard]] Result<std::unique_ptr<Engine>> load_dnn_engine(const ModelSpec& spec, const std::string& onnx_file,
                                                              const std::string& labels_file);

/// Whether counts and lengths of a request fit together and stay in bounds.
[[nodiscard]] Status check_batch(const ExecuteBatch& batch, std::size_t payload_bytes);

}  // namespace idunno

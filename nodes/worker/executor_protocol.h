#pragma once
/// What idunnod and its child idunno-executor say to each other over a socket pair (file descriptor 3 of the child): frames of
/// [u32 length of head][u32 length of payload][head: bus/codec struct with a leading kind][payload: raw bytes], little endian.
/// Requests are answered in order. The parent trusts the child no more than the network: heads and sizes are bounded and decoded
/// strictly.

#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bus/base/ids.h"
#include "bus/messages.h"
#include "bus/types.h"

namespace idunno {

inline constexpr std::size_t kExecutorHeadBytesMax = 4U << 20U;
inline constexpr std::size_t kExecutorPayloadBytesMax = 512U << 20U;  ///< inputs of one batch

/// The error of a query in quarantine (nodes/jobs/isolation.h): the same text wherever and however often its batch is computed.
inline constexpr std::string_view kQuarantinedText = "quarantined: it ends the executor each time it is computed";

/// Loads (or finds loaded) the model, computes one batch. Payload: the items' bytes, one after the other.
struct ExecuteBatch {
  static constexpr std::uint8_t kKind = 1;
  std::string model_key;    ///< "resnet18:3": same key = same model
  std::string onnx_file;    ///< local path, verified by the node; empty for the engine that does nothing
  std::string labels_file;  ///< local path or empty
  std::string spec_toml;
  ItemKind item_kind = ItemKind::image;
  std::vector<std::uint32_t> item_shape;
  std::uint32_t batch_size = 1;  ///< of the job: a short last batch is padded with zeros to this, so composition never varies
  std::uint32_t top = 0;
  JobId job;
  BatchIndex batch = 0;
  std::uint64_t first_query = 0;
  std::vector<std::string> queries;         ///< names, one an item
  std::vector<std::uint32_t> item_lengths;  ///< of the payload
  /// Places in the batch, ascending, whose items are not looked at: zeros are computed in their place, as for an item that cannot
  /// be decoded, and their rows are errors (kQuarantinedText).
  std::vector<std::uint32_t> masked;
  bool trial = false;  ///< only to see whether it ends the executor: the answer has no rows
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.model_key, s.onnx_file, s.labels_file, s.spec_toml, s.item_kind, s.item_shape, s.batch_size, s.top, s.job,
                    s.batch, s.first_query, s.queries, s.item_lengths, s.masked, s.trial);
  }
  bool operator==(const ExecuteBatch&) const = default;
};

/// Comes before the answer when the model had to be loaded, at the moment when computing begins. No payload.
struct ModelLoaded {
  static constexpr std::uint8_t kKind = 3;
  std::uint64_t load_us = 0;
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.load_us);
  }
  bool operator==(const ModelLoaded&) const = default;
};

/// Answer. Payload: the rows, JSON Lines (cli.md `job results`), when status is ok.
struct BatchExecuted {
  static constexpr std::uint8_t kKind = 2;
  bool ok = false;
  /// When not ok: model_unusable, result_too_large, or executor_died: it ran out of memory and ends now, to begin anew.
  BatchFailure why = BatchFailure::model_unusable;
  std::string detail;
  std::uint32_t errors = 0;   ///< error rows
  std::uint64_t load_us = 0;  ///< loading the model, when that was needed
  std::uint64_t decode_us = 0;
  std::uint64_t infer_us = 0;
  std::vector<std::string> unloaded;  ///< model keys of those that had to make room
  template <class Self>
  static auto tie(Self& s) {
    return std::tie(s.ok, s.why, s.detail, s.errors, s.load_us, s.decode_us, s.infer_us, s.unloaded);
  }
  bool operator==(const BatchExecuted&) const = default;
};

}  // namespace idunno

#include "nodes/worker/engine_cache.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <numeric>

namespace idunno {
namespace {

constexpr std::uint32_t kBatchSizeMax = 65536;

/// A loaded model takes about twice its file: the weights, and the layouts that its layers make of them.
std::uint64_t expected_bytes(const std::string& onnx_file) {
  std::error_code ignored;
  const std::uintmax_t size = onnx_file.empty() ? 0 : std::filesystem::file_size(onnx_file, ignored);
  return size == static_cast<std::uintmax_t>(-1) ? 0 : 2 * size;
}

}  // namespace

Result<Engine*> EngineCache::get(const ExecuteBatch& batch, std::uint64_t& load_us) {
  load_us = 0;
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == batch.model_key; });
  if (found != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, found);
    return entries_.front().engine.get();
  }
  const auto begin = std::chrono::steady_clock::now();
  const auto spec = parse_model_spec(batch.spec_toml, "spec of " + batch.model_key);
  if (!spec) return spec.error();
  make_room(expected_bytes(batch.onnx_file));
  std::unique_ptr<Engine> engine;
  if (spec->nothing) {
    engine = make_nothing_engine(*spec);
  } else {
    auto loaded = load_dnn_engine(*spec, batch.onnx_file, batch.labels_file);
    if (!loaded) return annotate(loaded.error(), fmt::format("model {} cannot be used", batch.model_key));
    engine = std::move(loaded).value();
  }
  entries_.push_front({batch.model_key, std::move(engine)});
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
  load_us = static_cast<std::uint64_t>(std::max<std::int64_t>(took, 1));  // 0 would say that it was here
  return entries_.front().engine.get();
}

void EngineCache::make_room(std::uint64_t bytes) {
  const auto held = [&] {
    return std::accumulate(entries_.begin(), entries_.end(), std::uint64_t{0},
                           [](std::uint64_t sum, const Entry& entry) { return sum + entry.engine->memory_bytes(); });
  };
  bool dropped = false;
  while (!entries_.empty() && held() + bytes > models_bytes_max_) {
    unloaded_.push_back(std::move(entries_.back().key));
    entries_.pop_back();
    dropped = true;
  }
  if (dropped) malloc_trim(0);  // weights are freed in pieces, which the allocator would keep
}

Status check_batch(const ExecuteBatch& batch, std::size_t payload_bytes) {
  if (batch.batch_size < 1 || batch.batch_size > kBatchSizeMax || batch.queries.empty() ||
      batch.queries.size() > batch.batch_size) {
    return Error{Errc::invalid, fmt::format("{} queries are not a batch of size {}", batch.queries.size(), batch.batch_size)};
  }
  if (batch.item_lengths.size() != batch.queries.size()) {
    return Error{Errc::invalid, fmt::format("{} queries came with {} lengths", batch.queries.size(), batch.item_lengths.size())};
  }
  const std::uint64_t total = std::accumulate(batch.item_lengths.begin(), batch.item_lengths.end(), std::uint64_t{0});
  if (total != payload_bytes)
    return Error{Errc::invalid, fmt::format("{} bytes came for items of {} bytes", payload_bytes, total)};
  const bool ascending =
      std::adjacent_find(batch.masked.begin(), batch.masked.end(), std::greater_equal<>()) == batch.masked.end();
  if (!ascending || (!batch.masked.empty() && batch.masked.back() >= batch.queries.size()))
    return Error{Errc::invalid, fmt::format("the masked places are not places in a batch of {} queries", batch.queries.size())};
  return {};
}

}  // namespace idunno

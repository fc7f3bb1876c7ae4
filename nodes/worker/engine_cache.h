#pragma once
/// The models an executor holds: at most half of its memory limit, the one unused for longest goes first. The other half is for
/// the batch at work and for the second copy of the weights that cv::dnn keeps while it loads a model. One thread.

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/result.h"
#include "nodes/worker/engine.h"

namespace idunno {

class EngineCache {
 public:
  explicit EngineCache(std::uint64_t memory_limit_bytes) : models_bytes_max_(memory_limit_bytes / 2) {}

  /// The engine of `batch.model_key`, loaded when it is not here yet; `load_us` is 0 then. Valid until the next call. Errors: the
  /// spec or the model cannot be used, with what is wrong in one line.
  [[nodiscard]] Result<Engine*> get(const ExecuteBatch& batch, std::uint64_t& load_us);

  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  /// Keys of the models that made room since the last call.
  [[nodiscard]] std::vector<std::string> take_unloaded() { return std::exchange(unloaded_, {}); }

 private:
  struct Entry {
    std::string key;
    std::unique_ptr<Engine> engine;
  };
  void make_room(std::uint64_t bytes);

  std::uint64_t models_bytes_max_;
  std::list<Entry> entries_;  ///< used last first
  std::vector<std::string> unloaded_;
};

}  // namespace idunno

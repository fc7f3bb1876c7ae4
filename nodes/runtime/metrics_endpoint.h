#pragma once
/// Answers Prometheus over plain HTTP at /metrics, with prometheus-cpp's exposer, which has threads of its own. A scrape asks the
/// control thread for the figures and waits for them a bounded time: nothing is computed while nobody scrapes.

#include <functional>
#include <memory>
#include <string>

#include "bus/base/result.h"
#include "bus/event_loop.h"
#include "nodes/runtime/metrics.h"

namespace idunno {

inline constexpr Duration kScrapeWaitMax = std::chrono::seconds(5);  ///< for a control thread that syncs a slow disk

class MetricsEndpoint {
 public:
  /// `figures` is called in the loop's thread. unavailable when the address cannot be bound.
  [[nodiscard]] static Result<std::unique_ptr<MetricsEndpoint>> start(EventLoop& loop, const std::string& address,
                                                                      std::function<NodeFigures()> figures);
  /// In the loop's thread, before the loop goes. Scrapes under way end with an incomplete answer.
  ~MetricsEndpoint();

 private:
  MetricsEndpoint();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

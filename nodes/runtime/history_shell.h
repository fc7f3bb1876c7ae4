#pragma once
/// Writes the history of statistics (history_log.h) into SDFS while this node coordinates, through an ordinary SDFS client in a
/// thread of its own, which begins with the first write: a slow cluster never delays the control thread. Failures are logged
/// once, until a write succeeds again. Control thread, but for that one.

#include <memory>

#include "bus/messages.h"
#include "nodes/runtime/own_client.h"

namespace idunno {

class HistoryShell {
 public:
  struct Options {
    NodeId self;
    OwnClient::Options client;
  };
  /// `loop` is the control thread's; it and `context` outlive this.
  HistoryShell(EventLoop& loop, ZmqContext& context, Options options);
  /// Ends a write under way without waiting for its answer.
  ~HistoryShell();

  /// What this node publishes as coordinator, about once a second. Another epoch than the last begins a new file.
  void stats(const StatsNotice& notice, Epoch epoch);

 private:
  class Writer;
  void written(bool ok, const std::string& why);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

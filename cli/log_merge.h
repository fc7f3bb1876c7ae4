#pragma once
/// The lines of several machines in the order of their times, as far as that can be known: a line is given out when every machine
/// that may still have an older one has shown its next. Lines of one machine stay in the order of its file, also when its clock
/// was set back. Pure.

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "bus/log_messages.h"

namespace idunno::cli {

struct MergedLine {
  NodeId node;     ///< whose log
  NodeId kept_by;  ///< the machine that had it, when it was not that node itself; 0 = it was
  LogLine line;
};

class LogMerge {
 public:
  /// It may have lines that are not here yet: the others wait for it.
  void open(NodeId node);
  void add(NodeId node, std::vector<LogLine> lines, NodeId kept_by);
  /// It has no more for now: the others do not wait for it.
  void close(NodeId node);

  /// The next line, or none: nothing is left, or an open machine has nothing here.
  [[nodiscard]] std::optional<MergedLine> next();
  [[nodiscard]] std::size_t waiting(NodeId node) const;  ///< lines that are here and not given out
  [[nodiscard]] bool done() const;                       ///< all are closed and given out

 private:
  struct Stream {
    bool open = false;
    WallMs latest = 0;  ///< the highest time so far: what a line without a time, or with an earlier one, is taken for
    std::deque<MergedLine> lines;
    std::deque<WallMs> keys;
  };
  std::map<NodeId, Stream> streams_;
};

}  // namespace idunno::cli

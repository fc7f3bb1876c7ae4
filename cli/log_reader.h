#pragma once
/// Reads the logs of several machines at once, in pages, and gives out the lines in the order of their times. A machine that does
/// not answer is replaced by the end of its log that others keep: of those that have one, the one that reaches furthest. Bounded
/// memory: of each machine at most two pages are here.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bus/log_messages.h"
#include "cli/app.h"
#include "cli/log_merge.h"

namespace idunno::cli {

class LogReader {
 public:
  /// What became of one machine.
  struct Machine {
    std::uint64_t matches = 0;
    std::uint64_t scanned_bytes = 0;
    bool answers = true;
    NodeId kept_by;       ///< whose copy of its log was read; 0 = none
    std::string failure;  ///< why it does not answer
  };
  using OnLine = std::function<void(const MergedLine&)>;

  /// `what`: of, from and max_lines are filled in here. `timeout`: of one answer.
  LogReader(Session& session, LogSearchRequest what, const std::vector<NodeId>& nodes, Duration timeout);
  ~LogReader();

  /// Reads what there is since the last call, or from the beginning; `on_line` gets the lines (none with count_only). A machine
  /// that did not answer is left alone for a while, then asked with a short timeout. An error is one of the request (a bad
  /// pattern, no right to ask); a machine that does not answer is none.
  [[nodiscard]] Status read(const OnLine& on_line);
  [[nodiscard]] const std::map<NodeId, Machine>& machines() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno::cli

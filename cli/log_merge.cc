#include "cli/log_merge.h"

#include <algorithm>
#include <utility>

namespace idunno::cli {

void LogMerge::open(NodeId node) { streams_[node].open = true; }
void LogMerge::close(NodeId node) { streams_[node].open = false; }

void LogMerge::add(NodeId node, std::vector<LogLine> lines, NodeId kept_by) {
  Stream& stream = streams_[node];
  for (LogLine& line : lines) {
    stream.latest = std::max(stream.latest, line.at_ms);
    stream.keys.push_back(stream.latest);
    stream.lines.push_back({node, kept_by, std::move(line)});
  }
}

std::optional<MergedLine> LogMerge::next() {
  Stream* oldest = nullptr;
  for (auto& [node, stream] : streams_) {
    if (stream.lines.empty()) {
      if (stream.open) return std::nullopt;
      continue;
    }
    if (oldest == nullptr || stream.keys.front() < oldest->keys.front()) oldest = &stream;
  }
  if (oldest == nullptr) return std::nullopt;
  MergedLine line = std::move(oldest->lines.front());
  oldest->lines.pop_front();
  oldest->keys.pop_front();
  return line;
}

std::size_t LogMerge::waiting(NodeId node) const {
  const auto found = streams_.find(node);
  return found == streams_.end() ? 0 : found->second.lines.size();
}

bool LogMerge::done() const {
  return std::all_of(streams_.begin(), streams_.end(),
                     [](const auto& entry) { return !entry.second.open && entry.second.lines.empty(); });
}

}  // namespace idunno::cli

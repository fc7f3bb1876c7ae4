#include "nodes/runtime/log_tails.h"

#include <algorithm>
#include <utility>

namespace idunno {

LogTails::LogTails(NodeId self, std::vector<NodeId> members) : self_(self), members_(std::move(members)) {}

void LogTails::member(NodeId node, bool may_live) {
  if (!may_live) {
    dead_.insert(node);
    keepers_.erase(node);
  } else if (dead_.erase(node) != 0) {
    keepers_.erase(node);
  }
}

std::vector<NodeId> LogTails::keepers() const {
  std::vector<NodeId> chosen;
  const auto self = std::find(members_.begin(), members_.end(), self_);
  const auto begin = static_cast<std::size_t>(self - members_.begin());
  for (std::size_t i = 1; i < members_.size() && chosen.size() < kLogKeepers; ++i) {
    const NodeId node = members_[(begin + i) % members_.size()];
    if (!dead_.contains(node)) chosen.push_back(node);
  }
  return chosen;
}

bool LogTails::worth_sending(const Keeper& keeper, LogPosition end, Time now) {
  if (!keeper.next) return true;
  if (*keeper.next >= end) return false;
  const bool much = keeper.next->file != end.file || end.offset - keeper.next->offset >= kTailWorthSending;
  return much || now >= keeper.last + kTailInterval;
}

std::vector<LogTails::Send> LogTails::due(LogPosition end, Time now, bool tick) {
  std::vector<Send> sends;
  const std::vector<NodeId> chosen = keepers();
  std::erase_if(keepers_,
                [&](const auto& entry) { return std::find(chosen.begin(), chosen.end(), entry.first) == chosen.end(); });
  for (const NodeId node : chosen) {
    Keeper& keeper = keepers_[node];
    if (tick) keeper.sends_left = kTailSendsPerTick;
    if (keeper.under_way || keeper.sends_left == 0 || now < keeper.not_before || !worth_sending(keeper, end, now)) continue;
    keeper.under_way = true;
    --keeper.sends_left;
    sends.push_back({node, keeper.next});
  }
  return sends;
}

void LogTails::sent(NodeId to, LogPosition wanted, Time now) {
  const auto found = keepers_.find(to);
  if (found == keepers_.end()) return;
  Keeper& keeper = found->second;
  if (keeper.next) keeper.last = now;
  keeper.next = wanted;
  keeper.under_way = false;
}

void LogTails::failed(NodeId to, Time now) {
  const auto found = keepers_.find(to);
  if (found == keepers_.end()) return;
  found->second.under_way = false;
  found->second.next.reset();  // its answer may be what was lost
  found->second.not_before = now + kTailRetry;
}

void LogTails::nothing(NodeId to, Time now) {
  const auto found = keepers_.find(to);
  if (found == keepers_.end()) return;
  found->second.under_way = false;
  found->second.last = now;
}

}  // namespace idunno

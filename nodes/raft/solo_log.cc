#include "nodes/raft/solo_log.h"

#include <fmt/core.h>

#include <iterator>
#include <utility>

#include "bus/base/assert.h"

namespace idunno {
namespace {

/// A hole would make the restored state differ from the one that clients were answered from.
Status check_order(const LoadedLog& loaded) {
  std::uint64_t next = loaded.snapshot ? loaded.snapshot->index.value + 1 : 1;
  Epoch newest = loaded.snapshot ? loaded.snapshot->epoch : Epoch{};
  for (const LogEntry& entry : loaded.entries) {
    if (entry.index.value != next) {
      return Error{
          Errc::damaged,
          fmt::format("open the job log: entry {} follows where {} should; put the folder aside and start this node anew",
                      entry.index.value, next)};
    }
    if (entry.epoch < newest || entry.epoch > loaded.hard_state.epoch) {
      return Error{
          Errc::damaged,
          fmt::format("open the job log: entry {} has epoch {}, out of order; put the folder aside and start this node anew",
                      next, entry.epoch.value)};
    }
    newest = entry.epoch;
    ++next;
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<SoloLog>> SoloLog::open(std::unique_ptr<LogStore> store, NodeId self, LoadedLog& loaded) {
  ASSERT(store != nullptr);
  Result<LoadedLog> found = store->load();
  if (!found) return annotate(found.error(), "open the job log");
  if (Status order = check_order(*found); !order) return order.error();
  loaded = *std::move(found);
  Epoch last = loaded.hard_state.epoch;
  if (loaded.snapshot && loaded.snapshot->epoch > last) last = loaded.snapshot->epoch;
  const Epoch epoch{last.value + 1};
  LogWrite write;
  write.hard_state = HardState{epoch, self};
  if (Status written = store->write(write); !written) {
    return annotate(written.error(), fmt::format("open the job log: begin epoch {}", epoch.value));
  }
  return std::unique_ptr<SoloLog>(new SoloLog(std::move(store), self, epoch, loaded));
}

SoloLog::SoloLog(std::unique_ptr<LogStore> store, NodeId self, Epoch epoch, const LoadedLog& loaded)
    : store_(std::move(store)), self_(self), epoch_(epoch) {
  if (loaded.snapshot) {
    snapshot_ = loaded.snapshot->index;
    reigns_[snapshot_] = loaded.snapshot->epoch;
  }
  last_ = snapshot_;
  for (const LogEntry& entry : loaded.entries) {
    if (reigns_.empty() || reigns_.rbegin()->second != entry.epoch) reigns_[entry.index] = entry.epoch;
    last_ = entry.index;
  }
  flushed_ = last_;
  reigns_[LogIndex{last_.value + 1}] = epoch_;
}

Result<LogIndex> SoloLog::propose(Bytes command) {
  if (!failure_) return Error{Errc::unavailable, "propose: the job log can no longer be written; this node must stop"};
  if (pending_.size() >= kPendingEntriesMax || pending_bytes_ + command.size() > kPendingBytesMax) {
    return Error{Errc::full, fmt::format("propose: {} entries of {} bytes wait for the job log's disk; try again later",
                                         pending_.size(), pending_bytes_)};
  }
  ++last_.value;
  pending_bytes_ += command.size();
  pending_.push_back(LogEntry{last_, epoch_, std::move(command)});
  return last_;
}

Status SoloLog::flush() {
  if (!failure_ || pending_.empty()) return failure_;
  LogWrite write;
  write.append = std::move(pending_);
  pending_.clear();
  pending_bytes_ = 0;
  if (Status written = store_->write(write); !written) {
    failure_ = annotate(written.error(), "write the job log");
    return failure_;
  }
  flushed_ = last_;
  committed_.insert(committed_.end(), std::make_move_iterator(write.append.begin()), std::make_move_iterator(write.append.end()));
  return {};
}

std::vector<LogEntry> SoloLog::take_committed() { return std::exchange(committed_, {}); }

Epoch SoloLog::epoch_of(LogIndex index) const {
  auto after = reigns_.upper_bound(index);
  ASSERT(after != reigns_.begin());
  return std::prev(after)->second;
}

Status SoloLog::compact(LogIndex index, Bytes state) {
  if (!failure_) return failure_;
  if (index <= snapshot_ || index > flushed_) {
    return Error{Errc::invalid, fmt::format("compact the job log up to entry {}: the snapshot has {} and {} are committed",
                                            index.value, snapshot_.value, flushed_.value)};
  }
  const Epoch epoch = epoch_of(index);
  if (Status saved = store_->save_snapshot(Snapshot{index, epoch, std::move(state)}); !saved) {
    failure_ = annotate(saved.error(), "save the snapshot of the job log");
    return failure_;
  }
  snapshot_ = index;
  reigns_.erase(reigns_.begin(), reigns_.upper_bound(index));
  reigns_[index] = epoch;
  return {};
}

}  // namespace idunno

#include "tests/sim/fake_disk.h"

#include <algorithm>

#include "bus/base/assert.h"
#include "storage/log_rules.h"

namespace idunno::sim {
namespace {

/// So many writes of the outbox may be in memory only: the operating system writes them within seconds.
constexpr std::size_t kOutboxUnsyncedMax = 24;

std::tuple<JobId, BatchIndex, std::uint32_t> key_of(const BatchCommit& commit) {
  return {commit.job, commit.batch, commit.attempt};
}

template <class Map>
void apply_to(Map& records, const OutboxWrite& write) {
  for (const OutboxRecord& record : write.add) records[key_of(record.commit)] = record;
  for (const BatchCommit& commit : write.remove) records.erase(key_of(commit));
}

}  // namespace

class FakeDisk::SimLogStore final : public LogStore {
 public:
  explicit SimLogStore(FakeDisk& disk) : disk_(disk) {}
  Result<LoadedLog> load() override { return disk_.log_; }
  Status write(const LogWrite& write) override { return disk_.write_log(write); }
  Status save_snapshot(const Snapshot& snapshot, bool drop_tail) override { return disk_.save_snapshot(snapshot, drop_tail); }

 private:
  FakeDisk& disk_;
};

class FakeDisk::SimOutboxStore final : public OutboxStore {
 public:
  explicit SimOutboxStore(FakeDisk& disk) : disk_(disk) {}
  Result<std::vector<OutboxRecord>> load() override {
    auto records = disk_.outbox_;
    for (const OutboxWrite& write : disk_.outbox_unsynced_) apply_to(records, write);
    std::vector<OutboxRecord> all;
    for (auto& [key, record] : records) all.push_back(std::move(record));
    return all;
  }
  Status write(const OutboxWrite& write) override {
    disk_.outbox_unsynced_.push_back(write);
    if (disk_.outbox_unsynced_.size() > kOutboxUnsyncedMax) {
      apply_to(disk_.outbox_, disk_.outbox_unsynced_.front());
      disk_.outbox_unsynced_.pop_front();
    }
    return {};
  }

 private:
  FakeDisk& disk_;
};

FakeDisk::FakeDisk(DiskOptions options, std::uint64_t seed, LogWatcher* watcher)
    : options_(options), random_(seed), watcher_(watcher) {
  new_ids();
}

void FakeDisk::new_ids() {
  log_.log_id = random_.next() | 1U;
  store_id_ = random_.next() | 1U;
}

std::unique_ptr<LogStore> FakeDisk::open_log() { return std::make_unique<SimLogStore>(*this); }
std::unique_ptr<OutboxStore> FakeDisk::open_outbox() { return std::make_unique<SimOutboxStore>(*this); }

// -- log --------------------------------------------------------------------------------------------------------------

LogIndex FakeDisk::first_index() const { return LogIndex{(log_.snapshot ? log_.snapshot->index.value : 0) + 1}; }
LogIndex FakeDisk::last_index() const { return LogIndex{first_index().value - 1 + log_.entries.size()}; }

const LogEntry* FakeDisk::entry(LogIndex index) const {
  const LogIndex first = first_index();
  if (index > last_index()) return nullptr;
  if (index < first) {
    const auto found = replaced_.find(index);
    return found == replaced_.end() ? nullptr : &found->second;
  }
  return &log_.entries[index.value - first.value];
}

Duration FakeDisk::take_time() { return std::exchange(spent_, Duration{0}); }

Status FakeDisk::failed_write() {
  fails_next_ = false;
  ++failed_writes_;
  return Error{Errc::internal, "writing the log: Input/output error"};
}

Status FakeDisk::write_log(const LogWrite& write) {
  // Whether a write that failed is there nobody knows; and the next one may well succeed, as if nothing had happened.
  const bool fails = std::exchange(fails_next_, false);
  if (fails && random_.chance(0.5)) return failed_write();
  std::uint64_t last = last_index().value;
  if (auto allowed = check_log_write(write, first_index().value - 1, last); !allowed) return allowed;
  spent_ += options_.flush_min + slowness_ +
            Duration{static_cast<Duration::rep>(
                random_.below(static_cast<std::uint64_t>((options_.flush_max - options_.flush_min).count()) + 1))};
  Undo undo;
  undo.hard_state = log_.hard_state;
  undo.keep_until = last_index().value;
  if (write.hard_state) {
    if (watcher_ != nullptr) watcher_->hard_state_changes(options_.node, log_.log_id, log_.hard_state, *write.hard_state);
    log_.hard_state = *write.hard_state;
  }
  if (write.truncate_from && *write.truncate_from <= last_index()) {
    if (watcher_ != nullptr) watcher_->entries_go(options_.node, log_.log_id, *write.truncate_from, last_index());
    const auto first = log_.entries.begin() + static_cast<std::ptrdiff_t>(write.truncate_from->value - first_index().value);
    undo.keep_until = write.truncate_from->value - 1;
    undo.put_back.assign(std::make_move_iterator(first), std::make_move_iterator(log_.entries.end()));
    log_.entries.erase(first, log_.entries.end());
  }
  log_.entries.insert(log_.entries.end(), write.append.begin(), write.append.end());
  undo_.push_back(std::move(undo));
  return fails ? failed_write() : Status{};
}

Status FakeDisk::save_snapshot(const Snapshot& snapshot, bool drop_tail) {
  if (fails_next_) return failed_write();
  if (auto allowed = check_snapshot(snapshot, first_index().value - 1); !allowed) return allowed;
  spent_ += options_.flush_max + slowness_;
  Undo undo;
  undo.hard_state = log_.hard_state;
  undo.has_snapshot = true;
  undo.snapshot = log_.snapshot;
  undo.keep_until = last_index().value;
  const std::uint64_t removed = std::min<std::uint64_t>(snapshot.index.value + 1 - first_index().value, log_.entries.size());
  const auto end = log_.entries.begin() + static_cast<std::ptrdiff_t>(removed);
  const LogEntry* last = entry(snapshot.index);
  if (last != nullptr && last->epoch == snapshot.epoch) {
    for (auto at = log_.entries.begin(); at != end; ++at) replaced_[at->index] = *at;
  } else {
    replaced_.clear();  // another leader's log came in place of this one
  }
  undo.put_front.assign(std::make_move_iterator(log_.entries.begin()), std::make_move_iterator(end));
  log_.entries.erase(log_.entries.begin(), end);
  if (drop_tail && !log_.entries.empty()) {
    if (watcher_ != nullptr)
      watcher_->entries_go(options_.node, log_.log_id, log_.entries.front().index, log_.entries.back().index);
    undo.put_back = std::move(log_.entries);
    log_.entries.clear();
  }
  log_.snapshot = snapshot;
  undo_.push_back(std::move(undo));
  return {};
}

void FakeDisk::undo_last() {
  Undo undo = std::move(undo_.back());
  undo_.pop_back();
  log_.hard_state = undo.hard_state;
  std::erase_if(log_.entries, [&](const LogEntry& entry) { return entry.index.value > undo.keep_until; });
  log_.entries.insert(log_.entries.begin(), std::make_move_iterator(undo.put_front.begin()),
                      std::make_move_iterator(undo.put_front.end()));
  log_.entries.insert(log_.entries.end(), std::make_move_iterator(undo.put_back.begin()),
                      std::make_move_iterator(undo.put_back.end()));
  if (undo.has_snapshot) log_.snapshot = std::move(undo.snapshot);
}

// -- blocks -----------------------------------------------------------------------------------------------------------

const StoredBlock* FakeDisk::block(BlockId id) const {
  const auto found = blocks_.find(id);
  return found == blocks_.end() ? nullptr : &found->second;
}

void FakeDisk::put_block(BlockId id, std::shared_ptr<const Bytes> bytes, Hash128 hash, WallMs now) {
  removed_unsynced_.clear();  // the sync makes what was written before durable as well
  blocks_[id] = StoredBlock{std::move(bytes), hash, now, false};
}

void FakeDisk::remove_block(BlockId id) {
  const auto found = blocks_.find(id);
  if (found == blocks_.end()) return;
  removed_unsynced_.emplace_back(id, std::move(found->second));
  blocks_.erase(found);
}

void FakeDisk::damage_block(BlockId id) {
  const auto found = blocks_.find(id);
  if (found != blocks_.end()) found->second.damaged = true;
}

// -- faults -----------------------------------------------------------------------------------------------------------

void FakeDisk::process_died(bool power_cut) {
  // The write that was under way: nothing of it was told to anybody.
  std::size_t lost = undo_.empty() ? 0 : random_.below(undo_.size() + 1);
  while (lost-- > 0) undo_.size() > 0 ? undo_last() : void();
  undo_.clear();
  spent_ = Duration{0};
  fails_next_ = false;
  if (!power_cut) return;
  const std::size_t kept = random_.below(outbox_unsynced_.size() + 1);
  for (std::size_t i = 0; i < kept; ++i) apply_to(outbox_, outbox_unsynced_[i]);
  outbox_unsynced_.clear();
  while (!removed_unsynced_.empty() && random_.chance(0.5)) {
    auto [id, block] = std::move(removed_unsynced_.back());
    removed_unsynced_.pop_back();
    blocks_.emplace(id, std::move(block));
  }
  removed_unsynced_.clear();
}

void FakeDisk::wipe() {
  log_ = LoadedLog{};
  replaced_.clear();
  undo_.clear();
  outbox_.clear();
  outbox_unsynced_.clear();
  blocks_.clear();
  removed_unsynced_.clear();
  new_ids();
}

}  // namespace idunno::sim

#include "nodes/raft/log_view.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "bus/base/assert.h"
#include "bus/codec.h"
#include "bus/hash.h"
#include "nodes/raft/raft_log.h"

namespace idunno {
namespace {

constexpr std::size_t kConfigurationBytesMax = 4096;
constexpr std::size_t kLengthBytes = 4;

Result<LogConfiguration> decode_configuration(ByteView bytes) {
  auto decoded = decode<LogConfiguration>(bytes, kConfigurationBytesMax);
  if (!decoded) return decoded;
  const auto& members = decoded->members;
  if (members.size() > kLogNodesMax) return Error{Errc::invalid, "a configuration of the log with too many members"};
  for (std::size_t i = 0; i < members.size(); ++i) {
    if (!members[i].node || (i > 0 && members[i].node <= members[i - 1].node)) {
      return Error{Errc::invalid, "a configuration of the log whose members are out of order"};
    }
  }
  return decoded;
}

Result<LogConfiguration> configuration_of(const LogEntry& entry) {
  return decode_configuration(ByteView(entry.command).substr(0, entry.command.size() - 1));
}

Error damaged(const std::string& what) {
  return Error{Errc::damaged, "open the job log: " + what + "; put the folder aside and start this node anew"};
}

/// A hole would make the restored state differ from the one that clients were answered from.
Status check_order(const LoadedLog& loaded) {
  std::uint64_t next = loaded.snapshot ? loaded.snapshot->index.value + 1 : 1;
  Epoch newest = loaded.snapshot ? loaded.snapshot->epoch : Epoch{};
  for (const LogEntry& entry : loaded.entries) {
    if (entry.index.value != next) return damaged(fmt::format("entry {} follows where {} should", entry.index.value, next));
    if (entry.epoch < newest) return damaged(fmt::format("entry {} has epoch {}, out of order", next, entry.epoch.value));
    if (!kind_of_entry(entry.command)) return damaged(fmt::format("entry {} is of no known kind", next));
    newest = entry.epoch;
    ++next;
  }
  if (newest > loaded.hard_state.epoch) return damaged(fmt::format("it holds epoch {}, later than its own", newest.value));
  return {};
}

}  // namespace

Bytes mark_entry(Bytes command, EntryKind kind) {
  command.push_back(static_cast<char>(kind));
  return command;
}

std::optional<EntryKind> kind_of_entry(ByteView marked) {
  if (marked.empty()) return {};
  if (marked.back() == static_cast<char>(EntryKind::command)) return EntryKind::command;
  if (marked.back() != static_cast<char>(EntryKind::configuration)) return {};
  if (!decode_configuration(marked.substr(0, marked.size() - 1))) return {};
  return EntryKind::configuration;
}

const LogMember* LogConfiguration::find(NodeId node) const {
  const auto at = std::find_if(members.begin(), members.end(), [node](const LogMember& member) { return member.node == node; });
  return at == members.end() ? nullptr : &*at;
}

std::size_t LogConfiguration::voters() const {
  return static_cast<std::size_t>(std::count_if(members.begin(), members.end(), [](const LogMember& m) { return m.voter; }));
}

bool LogConfiguration::is_voter(NodeId node, std::uint64_t log_id) const {
  const LogMember* member = find(node);
  return member != nullptr && member->voter && member->log_id == log_id;
}

Bytes wrap_state(Bytes state, const LogConfiguration& configuration) {
  const Bytes encoded = encode(configuration);
  state += encoded;
  for (std::size_t i = 0; i < kLengthBytes; ++i) state.push_back(static_cast<char>((encoded.size() >> (8 * i)) & 0xFFU));
  return state;
}

Result<UnwrappedState> unwrap_state(ByteView wrapped) {
  if (wrapped.size() < kLengthBytes) return Error{Errc::damaged, "a snapshot of the log is too short"};
  std::size_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) {
    length |= std::size_t{static_cast<unsigned char>(wrapped[wrapped.size() - kLengthBytes + i])} << (8 * i);
  }
  const std::size_t before = wrapped.size() - kLengthBytes;
  if (length > before) return Error{Errc::damaged, "a snapshot of the log is cut"};
  auto configuration = decode_configuration(wrapped.substr(before - length, length));
  if (!configuration) return annotate(configuration.error(), "read the configuration in a snapshot of the log");
  return UnwrappedState{before - length, *std::move(configuration)};
}

Result<LogView> LogView::restore(LoadedLog loaded) {
  if (Status order = check_order(loaded); !order) return order.error();
  LogView view;
  LogConfiguration first;
  if (loaded.snapshot) {
    auto unwrapped = unwrap_state(loaded.snapshot->state);
    if (!unwrapped) return damaged(unwrapped.error().detail);
    first = std::move(unwrapped->configuration);
    view.base_ = loaded.snapshot->index;
    view.base_epoch_ = loaded.snapshot->epoch;
    view.set_snapshot(*std::move(loaded.snapshot));
  }
  view.configurations_.emplace_back(view.base_, std::move(first));
  for (LogEntry& entry : loaded.entries) view.append(entry.epoch, std::move(entry.command));
  view.durable_ = view.last();
  return view;
}

Epoch LogView::epoch_at(LogIndex index) const { return index == base_ ? base_epoch_ : at(index).epoch; }

const LogEntry& LogView::at(LogIndex index) const {
  ASSERT(index > base_);
  ASSERT(index <= last());
  return entries_[index.value - base_.value - 1];
}

LogIndex LogView::agreement_before(LogIndex index, Epoch epoch) const {
  LogIndex found = std::clamp(index, base_, last());
  while (found > base_ && epoch_at(found) > epoch) --found.value;
  return found;
}

void LogView::append(Epoch epoch, Bytes marked) {
  ASSERT(epoch >= last_epoch());
  const LogIndex index{last().value + 1};
  entries_.push_back(LogEntry{index, epoch, std::move(marked)});
  if (entries_.back().command.back() == static_cast<char>(EntryKind::configuration)) {
    auto configuration = configuration_of(entries_.back());
    ASSERT(configuration.ok());  // whoever appends has checked the entry with kind_of_entry, or made it
    configurations_.emplace_back(index, *std::move(configuration));
  }
}

void LogView::truncate_from(LogIndex index) {
  ASSERT(index > base_);
  if (index > last()) return;
  if (index <= durable_) {
    truncate_from_ = truncate_from_ ? std::min(*truncate_from_, index) : index;
    durable_ = LogIndex{index.value - 1};
  }
  entries_.resize(index.value - base_.value - 1);
  while (configurations_.size() > 1 && configurations_.back().first >= index) configurations_.pop_back();
}

void LogView::fill(LogWrite& write) const {
  write.truncate_from = truncate_from_;
  write.append.reserve(last().value - durable_.value);
  for (std::uint64_t i = durable_.value + 1; i <= last().value; ++i) write.append.push_back(at(LogIndex{i}));
}

void LogView::written() {
  truncate_from_.reset();
  durable_ = last();
}

const LogConfiguration& LogView::configuration_at(LogIndex index) const {
  auto found = configurations_.rbegin();
  while (std::next(found) != configurations_.rend() && found->first > index) ++found;
  return found->second;
}

void LogView::set_snapshot(Snapshot wrapped) {
  snapshot_hash_ = hash128(wrapped.state);
  snapshot_ = std::move(wrapped);
}

void LogView::drop_front() {
  base_ = entries_.front().index;
  base_epoch_ = entries_.front().epoch;
  covered_bytes_ -= entries_.front().command.size();
  entries_.pop_front();
}

void LogView::compacted(Snapshot wrapped) {
  const LogIndex before = std::max(snapshot_index(), base_);
  for (std::uint64_t i = before.value + 1; i <= wrapped.index.value; ++i) covered_bytes_ += at(LogIndex{i}).command.size();
  set_snapshot(std::move(wrapped));
  const LogIndex covered = snapshot_->index;
  while (base_ < covered && (covered.value - base_.value > kKeepEntries || covered_bytes_ > kKeepBytes)) drop_front();
  while (configurations_.size() > 1 && configurations_[1].first <= covered) configurations_.erase(configurations_.begin());
}

bool LogView::install(Snapshot wrapped, LogConfiguration configuration) {
  ASSERT(!dirty());
  const bool continues = wrapped.index >= base_ && wrapped.index <= last() && epoch_at(wrapped.index) == wrapped.epoch;
  auto later = continues ? std::exchange(entries_, {}) : std::deque<LogEntry>{};
  entries_.clear();
  base_ = wrapped.index;
  base_epoch_ = wrapped.epoch;
  covered_bytes_ = 0;
  configurations_.assign(1, {base_, std::move(configuration)});
  for (LogEntry& entry : later) {
    if (entry.index > base_) append(entry.epoch, std::move(entry.command));
  }
  durable_ = last();
  set_snapshot(std::move(wrapped));
  return !continues;
}

}  // namespace idunno

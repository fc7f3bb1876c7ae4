#include "nodes/jobs/rate_window.h"

#include <algorithm>

#include "bus/done_steps.h"

namespace idunno {

namespace {

constexpr std::int64_t kSecondUs = 1'000'000;
constexpr std::uint64_t kIn5Milli = 1050;
constexpr std::uint64_t kIn10Milli = 1100;
constexpr std::uint64_t kIn20Milli = 1200;
/// A batch that runs across the end of the window by less than this much changes nothing worth waiting for.
constexpr std::uint64_t kNoLagUs = 50'000;
constexpr std::int64_t kMillion = 1'000'000;

std::uint32_t window_of(std::uint32_t window_s) { return std::clamp(window_s, 1U, kRateWindowMaxS); }

}  // namespace

std::int64_t second_of(Time now) { return now.time_since_epoch().count() / kSecondUs; }

const RateWindow::Slot* RateWindow::slot(std::int64_t second) const {
  if (second < 0 || slots_.empty()) return nullptr;
  const Slot& found = slots_[static_cast<std::size_t>(second) % kRateSeconds];
  return found.second == second ? &found : nullptr;
}

RateWindow::Slot* RateWindow::slot_for(std::int64_t second) {
  if (second < 0) return nullptr;
  if (slots_.empty()) slots_.resize(kRateSeconds);
  Slot& into = slots_[static_cast<std::size_t>(second) % kRateSeconds];
  if (into.second > second) return nullptr;
  if (into.second < second) {
    into = Slot{};
    into.second = second;
  }
  return &into;
}

void RateWindow::add(Time now, std::uint64_t queries, std::uint64_t latency_us, const std::vector<std::uint16_t>& done_milli) {
  Slot* into = slot_for(std::max<std::int64_t>(second_of(now), 0));
  if (into == nullptr) return;
  into->queries += queries;
  into->longest_us = std::max(into->longest_us, latency_us);
  into->latency.record(latency_us, queries);
  spread(now, queries, latency_us, done_milli);
}

void RateWindow::spread(Time now, std::uint64_t queries, std::uint64_t latency_us, const std::vector<std::uint16_t>& done_milli) {
  const std::int64_t end = now.time_since_epoch().count();
  const std::int64_t length = std::clamp<std::int64_t>(static_cast<std::int64_t>(latency_us), 1, kFairnessLagMaxS * kSecondUs);
  const std::int64_t start = end - length;
  const std::int64_t whole = static_cast<std::int64_t>(queries) * 1000;
  std::int64_t given = 0;  // up to the end of each second, so that nothing is lost to rounding
  for (std::int64_t second = start / kSecondUs; second <= end / kSecondUs; ++second) {
    const std::int64_t until = std::min((second + 1) * kSecondUs, end);
    const auto part = done_millionths(done_milli, until - start, length);
    const std::int64_t due = std::max(given, whole * part / kMillion);
    if (Slot* into = slot_for(second)) into->processed_milli += static_cast<std::uint64_t>(due - given);
    given = due;
  }
}

std::uint64_t RateWindow::processed_milli(std::int64_t first, std::int64_t last) const {
  std::uint64_t sum = 0;
  for (std::int64_t second = std::max(first, last - static_cast<std::int64_t>(kRateSeconds) + 1); second <= last; ++second) {
    if (const Slot* found = slot(second)) sum += found->processed_milli;
  }
  return sum;
}

std::uint64_t RateWindow::longest_us(std::int64_t first) const {
  std::uint64_t longest = 0;
  for (const Slot& one : slots_) {
    if (one.second >= first) longest = std::max(longest, one.longest_us);
  }
  return longest;
}

std::uint64_t RateWindow::count(std::int64_t first, std::int64_t last) const {
  std::uint64_t sum = 0;
  for (std::int64_t second = std::max(first, last - static_cast<std::int64_t>(kRateSeconds) + 1); second <= last; ++second) {
    if (const Slot* found = slot(second)) sum += found->queries;
  }
  return sum;
}

std::uint64_t RateWindow::rate_milli(std::uint32_t window_s, Duration age, Time now) const {
  const std::int64_t present = second_of(now);
  const std::int64_t window = window_of(window_s);
  const std::int64_t covered_us = window * kSecondUs + now.time_since_epoch().count() % kSecondUs;
  const std::int64_t over_us = std::max<std::int64_t>(std::min<std::int64_t>(covered_us, age.count()), 1000);
  return count(present - window, present) * 1'000'000'000U / static_cast<std::uint64_t>(over_us);
}

LatencyHistogram RateWindow::latency(std::uint32_t window_s, Time now) const {
  LatencyHistogram sum;
  const std::int64_t present = second_of(now);
  for (std::int64_t second = present - window_of(window_s); second <= present; ++second) {
    if (const Slot* found = slot(second)) sum.merge(found->latency);
  }
  return sum;
}

void FairnessMonitor::second(std::int64_t now_second, const std::vector<Candidate>& candidates, WallMs wall) {
  if (now_second == last_second_) {
    // Within the second: only those that stop competing matter.
    for (const Candidate& candidate : candidates) {
      if (!candidate.competes) since_.erase(candidate.job);
    }
    return;
  }
  if (now_second != last_second_ + 1) since_.clear();
  last_second_ = now_second;

  for (const Candidate& candidate : candidates) {
    const auto found = since_.find(candidate.job);
    if (!candidate.competes || candidate.rates == nullptr) {
      if (found != since_.end()) since_.erase(found);
    } else if (found == since_.end() || found->second.weight_milli != candidate.weight_milli) {
      since_[candidate.job] = Since{now_second, candidate.weight_milli, candidate.rates};
    }
  }
  const std::uint64_t ratio = ratio_milli(kFairnessWindowS, report_.jobs);
  report_.max_min_milli = ratio;
  if (ratio == 0) return;
  report_.last_max_min_milli = ratio;
  ++report_.windows;
  if (ratio <= kIn5Milli) ++report_.in5_windows;
  if (ratio <= kIn10Milli) ++report_.in10_windows;
  if (ratio <= kIn20Milli) ++report_.in20_windows;
  if (ratio > report_.worst_max_min_milli) note_worst(ratio, wall);
}

void FairnessMonitor::happened(std::int64_t now_second, std::string what) {
  if (causes_.size() >= kFairnessCausesMax) causes_.pop_front();
  causes_.emplace_back(now_second, std::move(what));
}

void FairnessMonitor::note_worst(std::uint64_t ratio, WallMs wall) {
  const std::int64_t lag = lag_s();
  const std::int64_t end = last_second_ - lag;
  const auto lag_ms = static_cast<WallMs>(lag) * 1000;
  report_.worst_max_min_milli = ratio;
  report_.worst_at_ms = wall - std::min(wall, lag_ms);
  report_.worst_cause.clear();
  std::size_t told = 0;
  for (auto cause = causes_.rbegin(); cause != causes_.rend() && told < kFairnessCausesToldMax; ++cause) {
    if (cause->first >= end || cause->first < end - std::int64_t{kFairnessWindowS} - kFairnessCauseBeforeS) continue;
    report_.worst_cause = cause->second + (told == 0 ? "" : ", ") + report_.worst_cause;
    ++told;
  }
  if (told == 0) report_.worst_cause = "nothing known";
}

/// Whole seconds after which all batches that were computed in a second have been committed.
std::int64_t FairnessMonitor::lag_s() const {
  std::uint64_t longest = 0;
  for (const auto& [job, since] : since_) longest = std::max(longest, since.rates->longest_us(last_second_ - kFairnessWindowS));
  const auto lag = static_cast<std::int64_t>((longest + static_cast<std::uint64_t>(kSecondUs) - kNoLagUs) / kSecondUs);
  return std::min(lag, kFairnessLagMaxS);
}

std::uint64_t FairnessMonitor::ratio_milli(std::int64_t window, std::uint32_t& jobs) const {
  const std::int64_t lag = lag_s();
  const std::int64_t end = last_second_ - lag;
  window = std::min(window, static_cast<std::int64_t>(kRateSeconds) - lag - 1);
  std::uint64_t lowest = 0;
  std::uint64_t highest = 0;
  jobs = 0;
  for (const auto& [job, since] : since_) {
    if (end - since.second < window) continue;
    const std::uint64_t share = since.rates->processed_milli(end - window, end - 1) * 1000U / std::max(since.weight_milli, 1U);
    lowest = jobs == 0 ? share : std::min(lowest, share);
    highest = std::max(highest, share);
    ++jobs;
  }
  return jobs < 2 || highest == 0 ? 0 : highest * 1000U / std::max<std::uint64_t>(lowest, 1);
}

FairnessReport FairnessMonitor::report(std::uint32_t window_s) const {
  FairnessReport report = report_;
  report.max_min_milli = ratio_milli(window_of(window_s), report.jobs);
  return report;
}

}  // namespace idunno

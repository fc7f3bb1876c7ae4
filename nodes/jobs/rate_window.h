#pragma once
/// Rates over the last seconds, counted in whole seconds and integers: what `stats` shows of a job and what fairness is judged
/// by. Local to the coordinator, not replicated. Bounded: kRateSeconds slots a job.

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "bus/base/time.h"
#include "bus/types.h"
#include "nodes/jobs/latency_histogram.h"

namespace idunno {

inline constexpr std::size_t kRateSeconds = 64;
inline constexpr std::uint32_t kRateWindowMaxS = 60;
inline constexpr std::uint32_t kFairnessWindowS = 10;
inline constexpr std::int64_t kFairnessLagMaxS = 30;
inline constexpr std::size_t kFairnessCausesMax = 64;     ///< remembered
inline constexpr std::size_t kFairnessCausesToldMax = 3;  ///< of one window
inline constexpr std::int64_t kFairnessCauseBeforeS = 2;  ///< what happened so long before a window may still be seen in it

/// The second that `now` lies in.
[[nodiscard]] std::int64_t second_of(Time now);

class RateWindow {
 public:
  /// `queries` of one batch, committed now, that took `latency_us` each; `done_milli`: how its work was spread over that time
  /// (BatchCommit), from a node that is not trusted to give sensible numbers.
  void add(Time now, std::uint64_t queries, std::uint64_t latency_us, const std::vector<std::uint16_t>& done_milli = {});
  /// Queries committed in the seconds [first, last]; those longer than kRateSeconds ago are forgotten.
  [[nodiscard]] std::uint64_t count(std::int64_t first, std::int64_t last) const;
  /// Thousandths of queries processed in the seconds [first, last]: a batch counts for the time in which it was computed, in
  /// proportion, not for the moment of its commit. Complete only for seconds that lie further back than `longest_us`.
  [[nodiscard]] std::uint64_t processed_milli(std::int64_t first, std::int64_t last) const;
  /// The longest processing time of the batches committed since that second: about what those in work now will take.
  [[nodiscard]] std::uint64_t longest_us(std::int64_t first) const;
  /// Thousandths of queries per second over the last `window_s` (bounded to 1..kRateWindowMaxS) whole seconds and the part of the
  /// present one; over `age` when the job is younger than that.
  [[nodiscard]] std::uint64_t rate_milli(std::uint32_t window_s, Duration age, Time now) const;
  [[nodiscard]] LatencyHistogram latency(std::uint32_t window_s, Time now) const;
  /// Forgets everything and gives the memory back.
  void clear() { slots_ = {}; }

 private:
  struct Slot {
    std::int64_t second = -1;
    std::uint64_t queries = 0;          ///< committed in this second
    std::uint64_t processed_milli = 0;  ///< thousandths of queries computed in this second
    std::uint64_t longest_us = 0;
    LatencyHistogram latency;
  };
  Slot* slot_for(std::int64_t second);  ///< null when it is too long ago
  void spread(Time now, std::uint64_t queries, std::uint64_t latency_us, const std::vector<std::uint16_t>& done_milli);
  [[nodiscard]] const Slot* slot(std::int64_t second) const;
  std::vector<Slot> slots_;  ///< none or kRateSeconds, by second modulo that
};

/// Judges once a second whether the jobs that ran all through a window of kFairnessWindowS seconds were processed at rates in the
/// ratio of their weights. Commits come in lumps of a batch, which would make a window of a few batches look unfair by whole
/// batches; so the work is counted where it was done, and the window ends as far back as the longest batch of the candidates
/// takes.
class FairnessMonitor {
 public:
  struct Candidate {
    JobId job;
    const RateWindow* rates = nullptr;
    std::uint32_t weight_milli = 1000;
    bool competes = false;  ///< runs, has batches left to lease, nothing but the others holds it back
  };
  /// To be called at least once in each second that counts; a second that was left out counts for nobody. The weight must have
  /// been the same all through the window.
  /// `wall`: the present time for people.
  void second(std::int64_t now_second, const std::vector<Candidate>& candidates, WallMs wall = 0);
  /// Something that may disturb the rates: "n3 died", "j4 was submitted".
  void happened(std::int64_t now_second, std::string what);
  void forget(JobId job) { since_.erase(job); }
  /// Windows judged so far, and the present ratio over the last `window_s` (1..kRateWindowMaxS, bounded by what the lag leaves of
  /// kRateSeconds) instead of kFairnessWindowS.
  [[nodiscard]] FairnessReport report(std::uint32_t window_s = kFairnessWindowS) const;

 private:
  struct Since {
    std::int64_t second = 0;  ///< first whole second through which it competed
    std::uint32_t weight_milli = 0;
    const RateWindow* rates = nullptr;
  };
  /// max/min of the shares in the window before `end`, and of how many jobs; 0 when fewer than two ran all through it.
  [[nodiscard]] std::uint64_t ratio_milli(std::int64_t window, std::uint32_t& jobs) const;
  [[nodiscard]] std::int64_t lag_s() const;
  void note_worst(std::uint64_t ratio, WallMs wall);
  std::map<JobId, Since> since_;
  std::int64_t last_second_ = -1;
  std::deque<std::pair<std::int64_t, std::string>> causes_;
  FairnessReport report_;
};

}  // namespace idunno

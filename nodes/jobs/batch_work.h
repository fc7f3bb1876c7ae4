#pragma once
/// How the processor time that an executor has for one batch was spread over the batch's time. Executors that share a processor
/// (more slots than cores, several nodes on one machine) compute at a pace that changes from moment to moment, so the time that
/// has passed says little of how far a batch is. Pure; bounded by kWorkSamplesMax samples, which lie further apart the longer it
/// takes.

#include <cstdint>
#include <vector>

#include "bus/base/time.h"

namespace idunno {

inline constexpr std::size_t kWorkSamplesMax = 64;
inline constexpr Duration kDoneStep = std::chrono::milliseconds(100);  ///< of BatchCommit::done_milli, about
/// An executor that had less of a processor than this (in a thousand) did not compute: it slept, as an engine of known speed
/// does.
inline constexpr std::uint64_t kComputesMilli = 20;

class BatchWork {
 public:
  /// The executor begins; `cpu_us` is its processor time so far, here and below. 0 all along = not known.
  void begin(Time now, std::uint64_t cpu_us);
  /// The executor has loaded the model and computes from now on: what came before is no work on the batch.
  void loaded(Time now, std::uint64_t cpu_us);
  /// Values that go back, in time or in processor time, are ignored.
  void sample(Time now, std::uint64_t cpu_us);
  [[nodiscard]] std::uint64_t cpu_us() const { return cpu_us_; }
  [[nodiscard]] Time sampled_at() const { return samples_.empty() ? began_ : began_ + samples_.back().after; }
  /// Of the last sample: thousandths of a processor since the one before it; 0 = not known.
  [[nodiscard]] std::uint32_t pace_milli() const { return pace_milli_; }
  /// BatchCommit::done_milli for a batch that took `duration` in all; its computing ended with the last sample.
  [[nodiscard]] std::vector<std::uint16_t> done_milli(Duration duration) const;
  /// It computed all that time, as far as processor time tells.
  [[nodiscard]] bool computed() const;

 private:
  struct Sample {
    Duration after{};  ///< since the begin
    std::uint64_t cpu_us = 0;
  };
  Time began_{};
  std::uint64_t cpu_began_us_ = 0;
  std::uint64_t cpu_us_ = 0;
  std::uint32_t pace_milli_ = 0;
  Duration spacing_{};
  std::vector<Sample> samples_;
};

}  // namespace idunno

#pragma once
/// Processor time and memory of this process and of its executors, from /proc (proc(5)). One thread.

#include <cstdint>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "bus/base/time.h"
#include "nodes/jobs/executor_throttle.h"

namespace idunno {

/// What /proc says of one process.
struct ProcessStat {
  std::uint64_t cpu_ticks = 0;   ///< user and system time, its ended children not included
  std::uint64_t started_at = 0;  ///< ticks after boot: tells a process from a later one of the same number
  std::uint64_t rss_pages = 0;
  bool operator==(const ProcessStat&) const = default;
};
/// The text of /proc/<pid>/stat; none when it is not of that form.
[[nodiscard]] std::optional<ProcessStat> parse_process_stat(std::string_view text);

/// The threads of the text of /proc/loadavg that run or wait for a processor; 0 when it is not of that form.
[[nodiscard]] std::uint32_t parse_runnable(std::string_view text);
/// Of this machine now, with the processors that this process may use.
[[nodiscard]] ProcessorLoad processor_load();

class ProcessUsage {
 public:
  struct Sample {
    std::uint32_t cpu_milli = 0;  ///< since the last sample, all of them together, in thousandths of one core
    double own_cpu_s = 0;         ///< processor time in all, of this process
    double executor_cpu_s = 0;    ///< of executors seen so far, those that ended included (but for their last moments)
    std::uint64_t rss_bytes = 0;
    std::uint64_t executor_rss_bytes = 0;
  };
  /// `executors`: process ids of those that live now. One that cannot be read has just ended and counts nothing.
  [[nodiscard]] Sample sample(const std::vector<int>& executors, Time now);
  /// The last one.
  [[nodiscard]] const Sample& last() const { return last_; }
  [[nodiscard]] Duration age(Time now) const { return at_ ? now - *at_ : Duration::max(); }

 private:
  std::map<int, ProcessStat> executors_;
  std::uint64_t own_ticks_ = 0;
  std::uint64_t executor_ticks_ = 0;
  std::optional<Time> at_;
  Sample last_;
};

}  // namespace idunno

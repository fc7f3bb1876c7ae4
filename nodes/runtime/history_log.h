#pragma once
/// Which samples of statistics are kept, and when which file is written: the deciding half of the history (storage/sdfs/
/// stats_history.h). No clock, no files: history_shell.h brings both. One for each reign of a coordinator.
///
/// A sample is taken every kHistorySampleEvery while a job runs, and one more when the last one has ended; nothing while nothing
/// runs. The present file is written whole, as a new version, every kHistoryWriteEvery and at the end; a failed write is tried
/// again kHistoryRetriesMax times, then what was not written is given up.

#include <cstdint>
#include <optional>
#include <string>

#include "bus/messages.h"
#include "storage/sdfs/stats_history.h"

namespace idunno {

inline constexpr Duration kHistorySampleEvery = std::chrono::seconds(10);
inline constexpr Duration kHistoryWriteEvery = std::chrono::seconds(30);
inline constexpr Duration kHistoryFileSpan = std::chrono::hours(1);
inline constexpr std::size_t kHistoryFileBytesMax = 4U << 20U;  ///< then a new file begins
inline constexpr std::size_t kHistoryFilesMax = 200;            ///< the oldest go; 800 MiB at most, in practice a tenth
inline constexpr std::uint32_t kHistoryRetriesMax = 20;

class HistoryLog {
 public:
  explicit HistoryLog(Epoch epoch) : epoch_(epoch) {}

  /// To be called about once a second.
  void stats(const StatsNotice& notice, NodeId coordinator, Time now);

  struct Write {
    std::string path;
    Bytes bytes;
    bool begins_file = false;  ///< the first write of it: a good moment to remove old files
  };
  /// What is to be written now; to be answered by `written` before the next one is given.
  [[nodiscard]] std::optional<Write> take_write(Time now);
  void written(bool ok, Time now);

 private:
  void add(const StatsNotice& notice, NodeId coordinator, Time now);

  Epoch epoch_;
  std::optional<Time> sampled_at_;  ///< none: nothing ran at the last look
  bool was_active_ = false;
  // the present file
  std::string path_;
  Bytes bytes_;
  Time begins_{};
  std::size_t written_bytes_ = 0;  ///< of bytes_, in SDFS
  bool full_ = false;              ///< it is written, then the next sample begins a new file
  // the write under way
  bool writing_ = false;
  std::size_t writing_bytes_ = 0;
  Time write_at_{};  ///< not before
  std::uint32_t failures_ = 0;
};

}  // namespace idunno

#pragma once
/// What the cluster's event stream told during one round of an experiment, and the numbers that follow from it. Pure: events come
/// with their times. Seconds count from the moment at which the script's clock started; what came before is negative.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"
#include "cli/timeline.h"

namespace idunno::cli {

inline constexpr double kFairWindowS = 10;  ///< requirement R13

/// One committed batch. Times are the wall clocks of the nodes that told them: the worker for the start, the coordinator for the
/// rest. Nodes of a temporary cluster share one clock.
struct BatchRecord {
  std::size_t job = 0;  ///< index of Recording::jobs
  std::uint64_t batch = 0;
  std::uint32_t queries = 0;
  NodeId node;
  double leased_s = 0;
  double started_s = 0;
  double committed_s = 0;
  std::vector<std::uint16_t> done_milli = {};  ///< how the work was spread over its time (BatchCommit)
  [[nodiscard]] double took_s() const { return committed_s - started_s; }  ///< processing time, as `stats` counts it
};

struct JobTrack {
  JobId id;
  std::string name;
  std::uint32_t batch = 1;
  double weight = 1;
  double commanded_s = 0;             ///< when the client began to submit it
  double accepted_s = 0;              ///< when the coordinator took it (job_submitted)
  std::optional<double> started_s;    ///< its first batch
  std::optional<double> committed_s;  ///< the first result
};

/// Any other event, for the marks in plots and for the raw data.
struct Moment {
  double at_s = 0;
  NodeId node;
  std::string type;
  std::string text;
};

/// One action of the script that took nodes away, and how the cluster came through it.
struct KillRecord {
  std::string name;
  double at_s = 0;
  std::vector<NodeId> victims;
  bool coordinator = false;  ///< the one that led was among them
  double slots_left = 1;     ///< share of the slots
  Duration before{};         ///< what "before" means, and over how long a rate is looked at
  Duration window{};
  Timeline timeline;
};

struct LatencyPoint {
  double at_s = 0;  ///< end of the window
  std::size_t queries = 0;
  double mean_ms = 0, sd_ms = 0, median_ms = 0, p90_ms = 0, p95_ms = 0, p99_ms = 0;
};

struct FairWindow {
  double end_s = 0;
  double ratio = 1;  ///< of the highest to the lowest rate/weight
};

class Recording {
 public:
  std::vector<JobTrack> jobs;
  std::vector<BatchRecord> batches;  ///< by the time of their commit
  std::vector<Moment> moments;
  std::vector<KillRecord> kills;
  std::uint64_t lost_notices = 0;
  double end_s = 0;

  /// Of one job, or of all: committed queries a second in (from, to].
  [[nodiscard]] double committed_rate(std::optional<std::size_t> job, double from_s, double to_s) const;
  /// Queries a second of which the work was done in [from, to]: a batch counts where it was computed, in proportion, not at its
  /// commit (as the coordinator's own fairness does). Complete only up to `complete_until`.
  [[nodiscard]] double processed_rate(std::size_t job, double from_s, double to_s) const;
  [[nodiscard]] double complete_until() const;
  /// Executors that computed the job's batches in [from, to], on average.
  [[nodiscard]] double machines(std::size_t job, double from_s, double to_s) const;
  /// Processing times of the queries committed in (from, to].
  [[nodiscard]] LatencyPoint latency(std::optional<std::size_t> job, double from_s, double to_s) const;
  /// Every second a window, over the jobs that computed all through it; windows of fewer than two such jobs are left out.
  [[nodiscard]] std::vector<FairWindow> fair_windows(double from_s, double to_s, double window_s = kFairWindowS) const;
};

/// Makes a Recording of events as they come.
class Recorder {
 public:
  /// The script's clock starts.
  void start_clock(Time now, WallMs wall);
  [[nodiscard]] bool clock_runs() const { return zero_wall_ != 0; }
  [[nodiscard]] double seconds_at(WallMs wall) const;

  void watch_job(const JobReport& job, const std::string& name, double weight, WallMs commanded);
  void notice(Time at, const EventNotice& notice);
  /// The statistics of a second say so: counts if no event has told it (a new coordinator that knows of a death from the
  /// beginning tells none).
  void seen_dead(Time at, NodeId node);
  /// Commits of a job so far, for those who wait for it to run.
  [[nodiscard]] std::uint64_t commits(JobId job) const;
  /// Nodes that have committed batches of it.
  [[nodiscard]] std::size_t nodes_of(JobId job) const;

  struct Strike {
    std::string name;
    std::vector<NodeId> victims;
    bool coordinator = false;  ///< the one that leads is among them
    double slots_left = 1;     ///< share of the slots
    double quiet_s = 0;        ///< until the script's next action or its end: rates are looked at over half of it at most
  };
  /// In this moment the victims get their signals.
  void killed(Time now, WallMs wall, const Strike& strike);
  /// All that was hit is back to normal: known dead, leased again, and the rates what the slots that are left can give.
  [[nodiscard]] bool settled(Time now) const;
  [[nodiscard]] std::vector<KillRecord>& kills() { return kills_; }

  [[nodiscard]] Recording finish(WallMs wall);

 private:
  struct Raw {  // before the zero is known
    std::size_t job = 0;
    std::uint64_t batch = 0;
    NodeId node;
    WallMs leased = 0;
    WallMs started = 0;
    WallMs committed = 0;
    std::vector<std::uint16_t> done_milli;
  };
  struct InWork {
    WallMs leased = 0;
    std::map<NodeId, WallMs> started;
  };
  struct Job {
    JobTrack track;
    WallMs commanded = 0;
    WallMs accepted = 0;
    WallMs started = 0;
    WallMs committed = 0;
    std::uint64_t commits = 0;
    std::map<NodeId, std::uint64_t> by_node;
  };
  void batch_event(const Event& event, std::size_t job);

  std::vector<Job> jobs_;
  std::map<JobId, std::size_t> index_;
  std::map<std::pair<std::size_t, std::uint64_t>, InWork> in_work_;
  std::vector<Raw> batches_;
  std::vector<std::pair<WallMs, Moment>> moments_;
  std::vector<KillRecord> kills_;
  std::map<JobId, JobReport> reports_;
  Timeline timeline_;
  std::map<JobId, std::vector<EventNotice>> early_;  ///< of jobs whose submit has not been answered here yet
  Time zero_;
  WallMs zero_wall_ = 0;
};

}  // namespace idunno::cli

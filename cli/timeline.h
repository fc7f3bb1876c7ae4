#pragma once
/// What the cluster's event stream told around a moment at which nodes were killed (or paused), and the figures that follow from
/// it. Pure: events come with the time at which they arrived. All figures are of committed queries; `work_rate` and `dip` count
/// them in the time in which they were computed, the others at their commit.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"

namespace idunno::cli {

inline constexpr double kNormalShare = 0.9;  ///< "within 10 % of before again"

class Timeline {
 public:
  using Batch = std::pair<JobId, std::uint64_t>;

  /// The jobs whose rates count. Before the first event.
  void watch_job(const JobReport& job);
  void notice(Time at, const EventNotice& notice);
  /// Seen elsewhere than in the stream (a status report): counts if the stream has not told earlier.
  void seen_dead(Time at, NodeId node);
  /// The moment of the signals. What was leased until now is `outstanding`.
  void killed(Time at, const std::set<NodeId>& victims);
  /// The batch is committed or leased again, whatever the stream told (a notice may get lost).
  void settled(const Batch& batch, Time at);
  /// The job is over (done, failed or stopped); the stream tells it too. Its rate means nothing from there on.
  void ended(JobId job, Time at);
  [[nodiscard]] bool all_ended() const;  ///< false when no job is watched
  /// When the first watched job was over.
  [[nodiscard]] std::optional<Time> first_end() const;

  struct Change {
    Time at;
    NodeId told_by;
  };
  [[nodiscard]] Time killed_at() const { return killed_at_; }
  [[nodiscard]] std::optional<Duration> detected(NodeId node) const;
  /// The first coordinator_changed that `coordinator` told after the kill: it says so when its own first log entry is committed.
  [[nodiscard]] std::optional<Duration> took_over(NodeId coordinator) const;
  [[nodiscard]] const std::vector<Change>& changes() const { return changes_; }
  /// Batches that victims held at the kill and that are neither committed nor leased again.
  [[nodiscard]] std::vector<Batch> not_settled() const;
  /// From the kill to the last such batch being leased again or committed (or passed over by the leases of a new coordinator,
  /// which shows that it was committed before); 0 when the victim held nothing that this client knew
  /// of. Nothing as long as one is open.
  [[nodiscard]] std::optional<Duration> reassigned(NodeId victim) const;
  [[nodiscard]] std::uint64_t repeated_batches() const { return repeated_.size(); }
  [[nodiscard]] std::uint64_t queries_of(const Batch& batch) const;
  [[nodiscard]] std::uint64_t lost_notices() const { return lost_notices_; }

  /// Committed queries per second in (from, to], of one job or of all that are watched.
  [[nodiscard]] double rate(JobId job, Time from, Time to) const;
  [[nodiscard]] double rate(Time from, Time to) const;
  /// Of all jobs: queries per second in the time in which they were computed. A batch that was committed counts from its start to
  /// its commit as its commit tells (Event::done_milli), so that a second says something although it sees few commits; what was
  /// computed in vain counts nothing. Known for times that lie a batch time back.
  [[nodiscard]] double work_rate(Time from, Time to) const;
  /// A window that is long enough for rates to be told to a few percent: 20 batches of the slowest job, 1 s to 30 s.
  [[nodiscard]] static Duration window_of(const std::vector<JobReport>& jobs);

  /// From the kill to the first moment from which every job has at least `share` of its rate before over one `window`. `before`:
  /// the length of the time before the kill that is compared with. Nothing when that was not so until `now`. A job that is over
  /// is no longer asked for; windows in which all are over say nothing.
  [[nodiscard]] std::optional<Duration> normal(Duration before, Duration window, Time now, double share = kNormalShare) const;

  struct Dip {
    double depth_pct = 0;    ///< of the work before: what the lowest `window` after the kill lacks
    Duration length{};       ///< how long windows that begin then have less than kNormalShare of it
    Duration longest_gap{};  ///< without any commit; may begin before the kill
  };
  /// Over all jobs together, in [kill, end], or until the first of them is over. Work is known until a batch time before that.
  [[nodiscard]] Dip dip(Duration before, Duration window, Time end) const;

 private:
  struct Commit {
    Time at;
    std::uint64_t queries_so_far = 0;  ///< of this job, this one included
    Time started;                      ///< `at` when that was not told
    std::vector<std::uint16_t> done_milli;
    /// Of its batch, until then.
    [[nodiscard]] double done(Time until) const;
  };
  struct Job {
    std::uint64_t queries = 0;
    std::uint64_t batch = 1;
    std::vector<Commit> commits;  ///< by time
    std::optional<Time> ended;
  };
  struct Outstanding {
    std::set<NodeId> victims;  ///< that held it
    std::optional<Time> settled;
  };

  [[nodiscard]] static std::uint64_t committed(const Job& job, Time from, Time to);
  [[nodiscard]] Time work_known_until(Time end) const;
  [[nodiscard]] std::vector<double> work_until(Time from, Time to) const;
  void leased(Time at, const Event& event);
  void passed_over(const Batch& leased, Time at);
  void started(Time at, const Event& event);
  void committed(Time at, const Event& event);

  std::map<JobId, Job> jobs_;
  std::map<Batch, std::set<NodeId>> held_;  ///< leases that are not committed
  std::map<Batch, Time> started_;           ///< of batches that are not committed: when it was begun last
  std::map<Batch, Outstanding> outstanding_;
  std::set<Batch> open_;  ///< of `outstanding_`, not settled yet
  std::set<Batch> repeated_;
  std::map<NodeId, Time> dead_;
  std::vector<Change> changes_;
  std::vector<Time> commit_times_;  ///< of all jobs
  std::map<NodeId, std::uint64_t> sequences_;
  std::uint64_t lost_notices_ = 0;
  std::set<NodeId> victims_;
  Time killed_at_ = kNever;
};

}  // namespace idunno::cli

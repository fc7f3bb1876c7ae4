#pragma once
/// Watches a cluster while nodes of it are killed: the event stream into a Timeline, beside it the coordinator's status now and
/// then, for what the stream does not tell or lost. One thread: the session's.

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "cli/app.h"
#include "cli/timeline.h"

namespace idunno::cli {

/// Lets the session's loop do what comes for so long.
void run_for(Session& session, Duration duration);

inline constexpr Duration kHealthyLimit = std::chrono::seconds(120);  ///< for nodes and jobs to be as they should be
/// Until all `nodes` are alive with a coordinator, a standby (where others vote) and all copies; timeout and alarms say why not.
[[nodiscard]] Status wait_until_healthy(Session& session, unsigned nodes, Duration limit = kHealthyLimit);

/// Queries of `jobs` whose batches victims of the timeline held, and that are neither committed nor leased again nor waiting to
/// be. Asks the coordinator about what the stream has not told.
[[nodiscard]] Result<std::uint64_t> lost_queries(Session& session, Timeline& timeline, const std::vector<JobReport>& jobs);

class ClusterWatch {
 public:
  /// Subscribes, and asks for the running jobs and the coordinator. no_coordinator when nobody leads.
  [[nodiscard]] static Result<std::unique_ptr<ClusterWatch>> start(Session& session);
  ~ClusterWatch();
  ClusterWatch(const ClusterWatch&) = delete;
  ClusterWatch& operator=(const ClusterWatch&) = delete;

  [[nodiscard]] NodeId coordinator() const { return coordinator_; }  ///< at the start
  [[nodiscard]] Epoch epoch() const { return epoch_; }
  [[nodiscard]] const std::vector<JobReport>& jobs() const { return jobs_; }  ///< those that ran at the start
  [[nodiscard]] Duration window() const { return window_; }                   ///< of `normal`
  [[nodiscard]] Duration before() const { return before_; }                   ///< length of measure_before
  [[nodiscard]] Duration batch_time() const { return batch_time_; }           ///< mean, of the slowest job
  [[nodiscard]] Timeline& timeline() { return timeline_; }

  /// Lets the jobs run for a while, to know their rates and leases; nothing when no job runs.
  void measure_before();
  /// `send` calls `at_once` and then sends the signals: that is the moment from which everything is measured.
  [[nodiscard]] Status kill(const std::set<NodeId>& victims,
                            const std::function<Status(const std::function<void()>& at_once)>& send);
  [[nodiscard]] WallMs killed_at() const { return killed_wall_; }

  struct Wanted {
    bool detected = true;
    bool reassigned = true;
    bool takeover = false;
    bool normal = true;
  };
  /// Runs the loop until all that is wanted has been seen; false when `limit` (from the kill) has passed first. Leases and rates
  /// are not waited for when the jobs are over.
  [[nodiscard]] bool wait(const Wanted& wanted, Duration limit, const std::function<bool()>& also = {});

  [[nodiscard]] NodeId new_coordinator() const { return new_coordinator_; }  ///< 0 = not seen
  [[nodiscard]] Epoch new_epoch() const { return new_epoch_; }
  [[nodiscard]] std::optional<Duration> takeover() const;
  [[nodiscard]] std::optional<Duration> normal() const { return normal_; }
  /// When the rates were again what the slots that are left can give, should that be less than before.
  [[nodiscard]] std::optional<Duration> steady() const { return steady_; }
  [[nodiscard]] Timeline::Dip dip() const;
  [[nodiscard]] bool jobs_over() const { return timeline_.all_ended(); }
  /// Of the jobs that ran (see above).
  [[nodiscard]] Result<std::uint64_t> lost_queries() { return cli::lost_queries(session_, timeline_, jobs_); }

 private:
  explicit ClusterWatch(Session& session) : session_(session) {}
  void on_notice(const Envelope& envelope);
  void look();
  void saw(const StatusReply& status);
  void look_at_jobs();
  void judge_rates(Time now);

  Session& session_;
  std::unique_ptr<Subscriber> subscriber_;
  Timeline timeline_;
  NodeId coordinator_;
  Epoch epoch_;
  std::vector<JobReport> jobs_;
  Duration window_{};
  Duration before_{};
  Duration batch_time_{};
  std::set<NodeId> victims_;
  std::uint32_t slots_ = 0;
  std::uint32_t slots_left_ = 0;
  NodeId new_coordinator_;
  Epoch new_epoch_;
  std::optional<Time> new_coordinator_seen_;
  std::optional<Duration> normal_;
  std::optional<Duration> steady_;
  Time judged_at_;
  bool killed_ = false;
  WallMs killed_wall_ = 0;
  std::shared_ptr<bool> asking_ = std::make_shared<bool>(false);
  std::shared_ptr<bool> asking_jobs_ = std::make_shared<bool>(false);
};

}  // namespace idunno::cli

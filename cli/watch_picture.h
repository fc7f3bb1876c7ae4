#pragma once
/// What a live view knows of its cluster: put together from the event stream, the numbers that the coordinator publishes once a
/// second, and its status now and then. Pure: time is an argument. Shared by `watch` and `dash`.

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/time.h"
#include "bus/messages.h"
#include "bus/swim_messages.h"

namespace idunno::cli {

/// The coordinator publishes once a second. After so long without, it is taken to be gone or going.
inline constexpr Duration kSilence = std::chrono::milliseconds(1400);
/// Over which rates are measured, here and by the coordinator.
inline constexpr Duration kRateWindow = std::chrono::seconds(10);
/// So long a view still says that the office has changed hands.
inline constexpr Duration kTakeoverShown = std::chrono::seconds(12);

/// A batch in an executor. `slot` is -1 when only the coordinator's report tells of it.
struct LiveBatch {
  JobId job;
  BatchIndex batch = 0;
  int slot = -1;
  WallMs started_ms = 0;
  bool operator==(const LiveBatch&) const = default;
};

/// A piece of the strip chart: one slot of a node ran one batch. Open while end_ms is 0.
struct BatchSpan {
  NodeId node;
  int slot = 0;
  JobId job;
  BatchIndex batch = 0;
  WallMs start_ms = 0;
  WallMs end_ms = 0;
};

class ClusterPicture {
 public:
  static constexpr std::size_t kEventsMax = 400;  ///< of batches, and as many others
  static constexpr std::size_t kRatesMax = 120;   ///< of each job, one a second
  static constexpr std::size_t kRunningMax = 64;  ///< of each node
  static constexpr std::size_t kSpansMax = 512;   ///< ended and not taken yet

  explicit ClusterPicture(std::string name) : name_(std::move(name)) {}

  void apply(const Event& event, Time now);
  void apply(const StatsNotice& notice, Time now);
  void apply(const StatusReply& status, Time now);
  /// What a node that is not the coordinator thinks of the members: used while there is no coordinator to tell.
  void apply(const MemberListReply& members, Time now);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::vector<JobReport>& jobs() const { return jobs_; }  ///< running first, then the newest
  [[nodiscard]] const FairnessReport& fairness() const { return fairness_; }
  [[nodiscard]] const std::vector<NodeReport>& nodes() const { return nodes_; }
  /// Newest last. Leases, starts and commits of batches come by the thousand, so they are kept apart from the others.
  [[nodiscard]] std::vector<const Event*> events(bool with_batches) const;
  [[nodiscard]] const StatusReply& status() const { return status_; }
  [[nodiscard]] bool has_status() const { return status_at_.has_value(); }
  [[nodiscard]] NodeId coordinator() const { return coordinator_; }
  [[nodiscard]] Epoch epoch() const { return epoch_; }
  [[nodiscard]] std::vector<LiveBatch> running(NodeId node) const;
  /// In thousandths of a query a second, oldest first; nothing for an unknown job.
  [[nodiscard]] const std::deque<std::uint64_t>& rates(JobId job) const;
  [[nodiscard]] std::vector<std::string> roles(NodeId node) const;  ///< coordinator, standby, voter, learner

  /// How old the numbers are; nothing before the first.
  [[nodiscard]] std::optional<Duration> age(Time now) const;
  [[nodiscard]] bool silent(Time now) const;  ///< longer than kSilence
  /// One line that a view shows above all else: no numbers are coming, or somebody took over lately. "" = all is as usual.
  [[nodiscard]] std::string banner(Time now) const;
  /// What is not well, in words; empty = healthy.
  [[nodiscard]] std::vector<std::string> troubles() const;

  /// Batches that have ended since the last call.
  [[nodiscard]] std::vector<BatchSpan> take_spans();

 private:
  void started(const Event& event);
  void ended(JobId job, BatchIndex batch, WallMs at);
  void took_over(NodeId node, Epoch epoch, Time now);
  void close(NodeId node, const LiveBatch& batch, WallMs at);
  void keep_rates(Time now);

  std::string name_;
  std::vector<JobReport> jobs_;
  FairnessReport fairness_;
  std::vector<NodeReport> nodes_;
  struct Seen {
    std::uint64_t number;
    Event event;
  };
  std::deque<Seen> events_;
  std::deque<Seen> batch_events_;
  std::uint64_t seen_ = 0;
  StatusReply status_;
  NodeId coordinator_;
  Epoch epoch_;
  std::optional<Time> stats_at_;
  std::optional<Time> status_at_;
  std::optional<Time> took_over_at_;
  NodeId before_;                ///< the coordinator before the last takeover
  std::optional<Duration> gap_;  ///< longest time without numbers around the last takeover
  std::map<NodeId, std::vector<LiveBatch>> running_;
  std::map<JobId, std::deque<std::uint64_t>> rates_;
  std::map<JobId, std::deque<std::pair<Time, std::uint64_t>>> done_;  ///< of the last kRateWindow
  std::deque<BatchSpan> spans_;
};

/// A lease, start or commit of a batch: what happens all the time.
[[nodiscard]] bool is_routine(const Event& event);
/// Queries after which the job is done; 0 = it ends only when it is stopped.
[[nodiscard]] std::uint64_t goal_of(const JobReport& job);
/// Done of the total, 0 to 1; nothing for an endless job.
[[nodiscard]] std::optional<double> fraction_of(const JobReport& job);
/// Of the window when something was committed in it, else of the whole job.
[[nodiscard]] const LatencySummary& recent_latency(const JobReport& job);

}  // namespace idunno::cli

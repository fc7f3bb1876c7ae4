#pragma once
/// What happened to batches lately, as one node knows it: for `idunno job explain`. A bounded ring of short notes; the
/// coordinator notes its decisions, a worker what it does with its leases. Noting costs no allocation for a batch that goes
/// straight. What is older than the ring is in the logs. Pure.

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bus/base/ids.h"
#include "bus/base/time.h"
#include "bus/log_messages.h"

namespace idunno {

inline constexpr std::size_t kBatchNotesMax = 16384;

enum class BatchEvent : std::uint8_t {
  // the coordinator
  leased,
  hedged,
  committed,
  refused,   ///< a commit that was not wanted
  lost,      ///< the node died or its session is over: all that it held (no job, no batch)
  isolated,  ///< the query that ends executors is looked for
  // the worker
  received,
  fetched,
  started,
  inferred,
  stored,
  // both
  failed,
};
[[nodiscard]] const char* to_string(BatchEvent event);

struct BatchNote {
  Time at{};
  JobId job;
  BatchIndex batch = 0;
  std::uint32_t attempt = 0;
  BatchEvent what = BatchEvent::leased;
  NodeId node;
  std::uint32_t held = 0;     ///< leased: leases of that node then, this one included
  std::uint32_t credit = 0;   ///< leased: how many it may hold
  std::uint64_t took_us = 0;  ///< 0: the time since the note before it of the same attempt, where that says something
  std::string text;           ///< only where something did not go straight
};

class BatchLives {
 public:
  explicit BatchLives(std::size_t notes_max = kBatchNotesMax) : notes_max_(notes_max) {}

  void note(BatchNote note);
  /// In order of time, the last kBatchStepsMax. Of one batch: all that is known. batch < 0, of the whole job: only what did not
  /// go straight. `wall` is the time of day at `now`.
  [[nodiscard]] std::vector<BatchStep> steps(JobId job, std::int64_t batch, Time now, WallMs wall) const;
  /// Notes have been forgotten.
  [[nodiscard]] bool forgot() const { return notes_.size() == notes_max_ && next_ != 0; }
  [[nodiscard]] std::size_t size() const { return notes_.size(); }

 private:
  std::size_t notes_max_;
  std::size_t next_ = 0;  ///< where the next note goes, once the ring is full
  std::vector<BatchNote> notes_;
};

/// Why a job does not go on, or not as fast as it could.
struct JobWait {
  JobId id;
  JobState state = JobState::running;
  std::string reason;  ///< why it failed or was stopped
  JobKind kind = JobKind::inference;
  Phase phase = Phase::inference;  ///< of the cluster
  bool taking_over = false;        ///< the coordinator waits for the nodes to say what they compute
  std::uint32_t workers = 0;       ///< nodes that compute and get leases
  std::uint32_t workers_away = 0;  ///< configured ones that do not
  bool follows = false;            ///< its data may grow
  std::string data_path;
  bool endless = false;
  std::uint64_t batches_left = 0;  ///< not committed; if not endless
  std::uint32_t leased = 0;        ///< of those
  std::uint32_t nodes = 0;         ///< that hold leases of it
  std::uint32_t nodes_max = 0;     ///< 0 = all
  std::uint32_t rate_limit_milli = 0;
  bool rate_limited = false;     ///< its rate limit holds it back just now
  std::uint32_t nodes_kept = 0;  ///< for jobs that are to have a number of nodes at least
  std::int32_t priority = 0;
  std::uint32_t weight_milli = 1000;
  struct Other {
    JobId id;
    std::int32_t priority = 0;
    std::uint32_t weight_milli = 1000;
    bool urgent = false;
  };
  bool urgent = false;
  std::vector<Other> others;         ///< that compete
  std::vector<NodeId> computed_now;  ///< where
  std::uint32_t credit_free = 0;     ///< leases that all nodes together could still take
};
/// In words for a person who knows the commands but not the inside; empty: nothing holds it up.
[[nodiscard]] std::string why_waits(const JobWait& job);

}  // namespace idunno

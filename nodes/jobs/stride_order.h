#pragma once
/// The policy of the scheduler: which runnable job gets the next lease. Stride scheduling (Waldspurger and Weihl 1995) on
/// queries, not on time: a job's pass is (queries served + queries out on lease) / weight plus an offset, and the lowest pass
/// goes first, so jobs of equal weight get equal rates whatever their models cost. Urgent jobs and then higher priorities go
/// before any pass. The policies for comparison count other things in the same way: round robin batches (by weight or not), least
/// load only what is out.

#include <cstdint>
#include <map>
#include <set>

#include "bus/base/ids.h"
#include "bus/schedule_policy.h"

namespace idunno {

inline constexpr std::uint64_t kPassPerQuery = 100'000;  ///< pass units that one query costs a job of weight 1
/// Where the first job starts: `shift` may move it down by ten million queries.
inline constexpr std::uint64_t kPassOrigin = 10'000'000 * kPassPerQuery;

class StrideOrder {
 public:
  explicit StrideOrder(SchedulePolicy policy = SchedulePolicy::fair_rate) : policy_(policy) {}

  /// A job arrives. It starts where the jobs that compete with it are now (see `arrival_pass`).
  void add(JobId job, std::uint32_t weight_milli, std::int32_t priority, bool urgent = false);
  void remove(JobId job);
  /// Keeps the pass; a job that changes its priority starts anew among its new competitors.
  void change(JobId job, std::uint32_t weight_milli, std::int32_t priority);

  /// Runnable jobs stand in the order. With `arrives`, a job that was not runnable is moved up to the lowest of its competitors,
  /// so that it cannot claim what it left unused while it was paused or held back by its own limit.
  void set_runnable(JobId job, bool runnable, bool arrives);

  void leased(JobId job, std::uint64_t queries);
  void lost(JobId job, std::uint64_t queries);    ///< a lease came to nothing: the job catches up
  void served(JobId job, std::uint64_t queries);  ///< a lease became a result
  /// A result that no lease was counted for (it came from before a failover).
  void served_unleased(JobId job, std::uint64_t queries);

  struct Key {
    std::int64_t priority_down;  ///< negated, so that higher priorities sort first
    std::uint64_t pass;
    JobId job;
    auto operator<=>(const Key&) const = default;
  };
  [[nodiscard]] const std::set<Key>& order() const { return order_; }
  [[nodiscard]] std::uint64_t pass(JobId job) const;
  /// Without what is out on lease.
  [[nodiscard]] std::uint64_t served_pass(JobId job) const;
  /// The job is taken to have been served more, or less.
  void shift(JobId job, std::int64_t passes);
  /// What `queries` cost the job.
  [[nodiscard]] std::uint64_t cost(JobId job, std::uint64_t queries) const;

 private:
  struct Entry {
    std::uint64_t served = 0;
    std::uint64_t leased = 0;
    std::uint64_t base = 0;  ///< pass at which served and leased began to count
    std::uint32_t weight_milli = 1000;
    std::int32_t priority = 0;
    bool urgent = false;
    bool runnable = false;
  };
  [[nodiscard]] static std::uint64_t pass_of(const Entry& entry, std::uint64_t queries);
  [[nodiscard]] static Key key_of(JobId job, const Entry& entry);
  [[nodiscard]] std::uint64_t amount(std::uint64_t queries) const;
  [[nodiscard]] std::uint32_t counted_weight(std::uint32_t weight_milli) const;
  [[nodiscard]] std::uint64_t arrival_pass(JobId job, const Entry& entry) const;
  void restart_at(Entry& entry, std::uint64_t pass);
  template <class Change>
  void update(JobId job, Change change);

  SchedulePolicy policy_;
  std::map<JobId, Entry> jobs_;
  std::set<Key> order_;
  /// The highest pass at which a lease was given: where a job starts that finds nobody to compare with.
  std::uint64_t floor_ = kPassOrigin;
};

}  // namespace idunno

#pragma once
/// Jobs, decisions and commits for tests of the scheduler.

#include <cstdint>
#include <string>
#include <vector>

#include "nodes/jobs/scheduler.h"

namespace idunno {

inline constexpr Time kStart = Time{} + std::chrono::seconds(100);

inline SchedulerJob job_of(std::uint64_t id, std::uint64_t queries, std::uint32_t batch, std::uint32_t weight_milli = 1000) {
  SchedulerJob job;
  job.id = JobId{id};
  job.queries = queries;
  job.batch = batch;
  job.weight_milli = weight_milli;
  job.model = "m" + std::to_string(id);
  return job;
}

inline std::vector<Assignment> all_next(Scheduler& scheduler, Time now = kStart) {
  std::vector<Assignment> given;
  while (auto next = scheduler.next(now)) given.push_back(*next);
  return given;
}

inline LeaseKey key_of(const Assignment& given) { return {given.lease.job, given.lease.batch, given.lease.attempt}; }

inline BatchCommit commit_of(const Assignment& given, std::uint64_t duration_us = 100'000) {
  BatchCommit commit;
  commit.job = given.lease.job;
  commit.batch = given.lease.batch;
  commit.attempt = given.lease.attempt;
  commit.node = given.node;
  commit.queries = given.lease.queries;
  commit.duration_us = duration_us;
  commit.infer_us = duration_us;
  return commit;
}

/// False when that lease was not out.
inline bool lose(Scheduler& scheduler, const Assignment& given, LeaseLoss why) {
  return scheduler.lost(given.lease.job, given.lease.batch, given.lease.attempt, given.node, why);
}

}  // namespace idunno

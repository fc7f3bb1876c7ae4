// How many decisions a second the scheduler makes: a lease given and its commit taken back are one decision. Plain main, not a
// test.
//   scheduler_bench [nodes jobs decisions]

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>

#include "nodes/jobs/scheduler.h"

int main(int argc, char** argv) {
  using namespace idunno;
  const auto argument = [&](int index, unsigned long fallback) {
    return argc > index ? std::strtoul(argv[index], nullptr, 10) : fallback;
  };
  const unsigned long nodes = argument(1, 1000);
  const unsigned long jobs = argument(2, 100);
  const unsigned long decisions = argument(3, 1'000'000);

  Scheduler scheduler({});
  const Time now = Time{} + std::chrono::seconds(1);
  for (unsigned long i = 1; i <= nodes; ++i) scheduler.add_node(NodeId{static_cast<std::uint32_t>(i)}, 4);
  for (unsigned long i = 1; i <= jobs; ++i) {
    SchedulerJob job;
    job.id = JobId{i};
    job.queries = 64'000'000;
    job.batch = 16;
    job.weight_milli = static_cast<std::uint32_t>(1000 + i % 3 * 500);
    job.model = "model" + std::to_string(i % 10) + ":1";
    scheduler.add_job(job, {}, true, now);
  }
  std::deque<Assignment> out;
  const auto begin = std::chrono::steady_clock::now();
  for (unsigned long done = 0; done < decisions; ++done) {
    while (auto given = scheduler.next(now)) out.push_back(*given);
    if (out.empty()) break;
    BatchCommit commit;
    commit.job = out.front().lease.job;
    commit.batch = out.front().lease.batch;
    commit.node = out.front().node;
    commit.duration_us = 100'000;
    commit.infer_us = 100'000;
    scheduler.committed(commit);
    out.pop_front();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::printf("%lu nodes, %lu jobs: %lu decisions in %.3f s, %.0f a second\n", nodes, jobs, decisions, seconds,
              static_cast<double>(decisions) / seconds);
  return 0;
}

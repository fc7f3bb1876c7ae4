// Batches per second through one slot with the engine that does nothing: the cost of the path between idunnod and its executor.
// Usage: executor_bench EXECUTOR [batches] [queries per batch]. Not a test: it prints and judges nothing.

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "bus/clock.h"
#include "nodes/worker/executor_pool.h"

namespace {

using namespace idunno;

ExecutorPool::Task task(BatchIndex batch, std::uint32_t queries) {
  ExecutorPool::Task task;
  task.lease = {JobId{1}, batch, 1};
  task.head.model_key = "nothing:1";
  task.head.spec_toml = "[engine]\nkind = \"nothing\"\n";
  task.head.item_kind = ItemKind::nothing;
  task.head.batch_size = queries;
  task.head.batch = batch;
  task.head.first_query = std::uint64_t{batch} * queries;
  for (std::uint32_t i = 0; i < queries; ++i) {
    task.head.queries.push_back("/data/" + std::to_string(batch * queries + i));
    task.head.item_lengths.push_back(0);
  }
  return task;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: executor_bench EXECUTOR [batches] [queries per batch]\n");
    return 2;
  }
  const auto batches = static_cast<BatchIndex>(argc > 2 ? std::atoi(argv[2]) : 200'000);
  const auto queries = static_cast<std::uint32_t>(argc > 3 ? std::atoi(argv[3]) : 1);
  constexpr BatchIndex kAhead = 64;  // given to the slot and not answered
  EventLoop loop;
  ExecutorPool::Options options;
  options.program = argv[1];
  options.log_dir = std::filesystem::temp_directory_path();
  BatchIndex given = 0;
  BatchIndex done = 0;
  BatchIndex failed = 0;
  Time begin{};
  ExecutorPool* feed = nullptr;
  ExecutorPool pool(loop, options, {{}, {}, [&](ExecutorPool::Outcome outcome) {
                                      if (done == 0) begin = monotonic_now();  // the start of the child is not counted
                                      ++done;
                                      failed += outcome.executed ? 0U : 1U;
                                      if (given < batches) feed->start(0, task(given++, queries));
                                    }});
  feed = &pool;
  const Time start = monotonic_now();
  while (given < kAhead && given < batches) pool.start(0, task(given++, queries));
  if (!loop.run_until([&] { return done >= batches; }, monotonic_now() + std::chrono::minutes(5))) return 1;
  const double seconds = std::chrono::duration<double>(monotonic_now() - begin).count();
  std::printf("{\"batches\":%u,\"queries_per_batch\":%u,\"failed\":%u,\"first_ms\":%.1f,\"batches_per_s\":%.0f}\n", done, queries,
              failed, std::chrono::duration<double, std::milli>(begin - start).count(), (done - 1) / seconds);
  return failed == 0 ? 0 : 1;
}

// Whole runs with deaths, restarts, frozen processes, wiped stores, crashing executors, lost messages, pauses and a replaced
// coordinator, all drawn from a seed. At the end every query of every job was committed exactly once.
// SEED=17 runs one seed, SEEDS=500 runs so many.

#include <cstdlib>

#include "tests/unit/jobs/coordinator_sim.h"

namespace idunno {
namespace {

class RandomRun {
 public:
  explicit RandomRun(std::uint64_t seed)
      : random(seed),
        sim(static_cast<std::uint32_t>(2 + random.below(5)), 1 + static_cast<std::uint32_t>(random.below(3)), seed) {
    for (auto& [id, worker] : sim.workers) nodes.push_back(id);
    crash_chance = random.chance(0.5) ? 0.03 : 0.0;
    loss_chance = random.chance(0.5) ? 0.02 : 0.0;
    if (loss_chance > 0)
      sim.loses = [this](NodeId, MessageType type) {
        const bool heals = type != MessageType::replica_report && type != MessageType::replica_task;
        return heals && random.chance(loss_chance);
      };
    sim.fails = [this](const FakeWorker&, const Lease&, BatchFailed& failure) {
      if (!random.chance(crash_chance)) return false;
      const BatchFailure kinds[] = {BatchFailure::executor_died, BatchFailure::input_missing, BatchFailure::not_stored};
      failure.why = kinds[random.below(3)];
      return true;
    };
  }

  void submit_some() {
    const std::uint64_t count = 1 + random.below(4);
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto batch = static_cast<std::uint32_t>(1 + random.below(20));
      const std::uint64_t queries = 1 + random.below(4000);
      const Duration cost = std::chrono::microseconds(2000 + random.below(80'000));
      const auto weight = static_cast<std::uint32_t>(500 + random.below(3000));
      const auto priority = static_cast<std::int32_t>(random.below(2));
      jobs.push_back(sim.submit("m" + std::to_string(jobs.size()), queries, batch, cost, weight, 0, priority));
    }
  }

  void disturb() {
    const NodeId victim = nodes[random.below(nodes.size())];
    FakeWorker& worker = sim.workers.at(victim);
    switch (random.below(7)) {
      case 0:
      case 1:
        if (!worker.up) return sim.start_worker(victim);
        sim.kill(victim, random.chance(0.7));
        if (random.chance(0.3)) sim.wipe(victim);
        return;
      case 2:
      case 3: {
        const JobId job = jobs[random.below(jobs.size())];
        sim.ask(JobControlRequest{job, JobAction::pause}, sim.fresh());
        return sim.after(std::chrono::milliseconds(500), [this, job] {
          sim.ask(JobControlRequest{job, JobAction::resume}, sim.fresh());
        });
      }
      case 4:
        if (random.chance(0.2)) sim.replace_coordinator(++epoch);
        return;
      case 5:
        // Up to two suspicions long: it may be suspect, or dead and come back.
        worker.frozen = true;
        return sim.after(std::chrono::milliseconds(random.below(6000)),
                         [this, victim] { sim.workers.at(victim).frozen = false; });
      default:
        if (jobs.size() < 8) submit_some();
    }
  }

  void run() {
    sim.start();
    submit_some();
    for (int i = 0; i < 25; ++i) {
      sim.run_for(std::chrono::milliseconds(50 + random.below(1500)));
      disturb();
    }
    // From here on all is well: everything must come to its end in a bounded time.
    for (const NodeId id : nodes) {
      sim.workers.at(id).frozen = false;
      if (!sim.workers.at(id).up) sim.start_worker(id);
    }
    crash_chance = 0;
    loss_chance = 0;
    sim.run_for(std::chrono::seconds(2));
    for (const JobId job : jobs) sim.ask(JobControlRequest{job, JobAction::resume}, sim.fresh());
    EXPECT_TRUE(sim.run_until_done(jobs, std::chrono::minutes(20)));
    check();
  }

  void check() {
    for (const JobId id : jobs) {
      const Job& job = *sim.coordinator->state().job(id);
      EXPECT_EQ(job.state, JobState::done) << to_string(id) << " " << job.queries_done << " of " << job.spec.queries
                                           << ", leased " << sim.report(id).leased;
      EXPECT_EQ(job.queries_done, job.spec.queries);
      EXPECT_EQ(job.conflicting_commits, 0U);
      for (BatchIndex batch = 0; batch < job.batches; ++batch) {
        ASSERT_EQ((sim.commits_accepted[{id, batch}]), 1U) << batch_name(id, batch);
      }
    }
    sim.run_for(std::chrono::seconds(10));
    for (const NodeId id : nodes) {
      EXPECT_EQ(sim.node(id).state, NodeState::alive) << to_string(id);
      EXPECT_EQ(sim.node(id).leased, 0U) << to_string(id);
    }
  }

  Random random;
  Sim sim;
  std::vector<NodeId> nodes;
  std::vector<JobId> jobs;
  std::uint64_t epoch = 1;
  double crash_chance = 0;
  double loss_chance = 0;
};

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

TEST(CoordinatorRandom, EveryQueryIsCommittedExactlyOnceWhateverHappens) {
  const std::uint64_t first = number_from("SEED", 1);
  const std::uint64_t last = number_from("SEED", number_from("SEEDS", 60));
  for (std::uint64_t seed = first; seed <= last; ++seed) {
    SCOPED_TRACE("SEED=" + std::to_string(seed));
    RandomRun(seed).run();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace idunno

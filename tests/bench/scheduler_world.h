#pragma once
/// A cluster in virtual time around the real decisions: Scheduler, one WorkerQueue a worker, RateWindow and FairnessMonitor. What
/// is made up: how long batches take, messages, hellos, deaths. Single-threaded; the same scenario and seed give the same run.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <queue>
#include <string>
#include <vector>

#include "bus/base/random.h"
#include "nodes/jobs/rate_window.h"
#include "nodes/jobs/scheduler.h"
#include "nodes/jobs/worker_queue.h"

namespace idunno::bench {

struct SimJob {
  double batch_s = 1;  ///< of a core's time, for one batch
  std::uint32_t batch = 16;
  double weight = 1;
  double arrives_s = 0;
  std::int32_t priority = 0;
};

struct Scenario {
  std::string name;
  std::uint32_t workers = 10;
  std::uint32_t slots = 1;
  double cores = 0;  ///< that all workers share; 0 = each slot has its own
  std::vector<SimJob> jobs;
  double seconds = 120;
  SchedulePolicy policy = SchedulePolicy::fair_rate;
  double noise = 0.08;         ///< standard deviation of a batch's time
  double speed_spread = 0;     ///< workers are up to so much faster and slower than the mean
  double straggler = 0;        ///< probability of a batch that takes 4 times as long
  double message_s = 0.004;    ///< a message takes so long, up to three times that
  double fetch_s = 0.05;       ///< inputs of a batch
  double store_s = 0.06;       ///< result and commit
  std::size_t models_fit = 0;  ///< an executor keeps so many; 0 = all
  double load_s = 0.5;         ///< of a core's time, loading a model
  Duration reload_lag = std::chrono::milliseconds(300);
  double worker_dies_s = 0;  ///< 0 = none
  double worker_joins_s = 0;
  double coordinator_dies_s = 0;
  double takeover_s = 1.2;
  std::uint64_t seed = 1;
};

struct Window {
  double end_s = 0;
  double ratio = 0;  ///< max / min of rate / weight
};

struct Outcome {
  std::vector<Window> windows;  ///< judged ones, one a second
  double disturbed_s = 0;       ///< the death, or the join; 0 = none
  std::uint64_t batches = 0;
  std::uint64_t decisions = 0;
  double scheduler_s = 0;     ///< processor time in the scheduler's calls
  double utilisation = 0;     ///< of the slots of living workers, from the last arrival on
  std::uint64_t reloads = 0;  ///< of models that the executor had loaded before
  double second_start_s = 0;  ///< from the last job's arrival to the start of its first batch
  double mean_batch_s = 0;    ///< as they took
  double long_run = 0;        ///< ratio of rate / weight over the whole time in which all jobs ran
  std::uint64_t orders = 0;   ///< sent, to all workers each
  FairnessReport report;
};

class World {
 public:
  explicit World(Scenario scenario);
  ~World();
  [[nodiscard]] Outcome run();

 private:
  struct Worker;
  struct Computing;
  struct Job;
  using Action = std::function<void()>;
  struct Event {
    Time at;
    std::uint64_t number = 0;
    Action act;
    bool operator<(const Event& other) const { return std::pair(other.at, other.number) < std::pair(at, number); }
  };

  void at(Time when, Action act);
  void after(double seconds, Action act);
  [[nodiscard]] double travel() { return scenario_.message_s * (1 + 2 * random_.unit()); }
  [[nodiscard]] double seconds(Time time) const;

  void start_coordinator(bool first);
  void add_job(std::size_t index);
  void coordinate();
  void watch();
  void commit(const std::vector<BatchCommit>& commits, std::uint64_t reign);
  void judge();

  void start_worker(std::size_t index);
  void kill_worker(std::size_t index);
  void obey(std::size_t index, const WorkerOutput& out);
  void heartbeat(std::size_t index, bool again);
  void begin_next(std::size_t index, std::uint32_t slot);
  void computed(std::uint64_t id);
  [[nodiscard]] JobDescription describe(std::size_t job) const;
  [[nodiscard]] LeaseGrant grant_of(std::vector<Lease> leases) const;

  void advance_processor();
  void plan_processor();
  void set_speeds();
  void renice(std::size_t index);
  void look_at_executors(std::size_t index);
  [[nodiscard]] std::uint64_t executor_us(const Computing& batch) const;
  double noisy(double mean);

  Scenario scenario_;
  Random random_;
  Time now_{};
  std::priority_queue<Event> events_;
  std::uint64_t event_number_ = 0;

  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<FairnessMonitor> monitor_;
  std::uint64_t reign_ = 0;
  Time watch_at_ = kNever;
  std::vector<Job> jobs_;
  std::vector<std::unique_ptr<Worker>> workers_;

  Time advanced_at_{};
  std::map<std::uint64_t, Computing> computing_;
  std::uint64_t plan_ = 0;

  Outcome outcome_;
  double busy_s_ = 0;
  double available_s_ = 0;
  double took_s_ = 0;
};

}  // namespace idunno::bench

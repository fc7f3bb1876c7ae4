#include "tests/bench/scheduler_world.h"

#include <algorithm>
#include <chrono>
#include <cmath>

namespace idunno::bench {

namespace {

constexpr double kHeartbeatS = 0.5;
constexpr double kStartNoticeS = 0.05;  // heartbeats about a batch that began do not come more often
constexpr double kLookS = 0.02;         // between looks at the executors' processor time, where cores are shared
constexpr double kDetectS = 1.0;        // until a death is known
constexpr std::uint64_t kQueries = 4'000'000;
constexpr double kStragglerFactor = 4;

Duration micros(double seconds) { return Duration(static_cast<Duration::rep>(std::llround(seconds * 1e6))); }

LeaseKey key_of(const Lease& lease) { return {lease.job, lease.batch, lease.attempt}; }

/// Adds the processor time of a call.
class Stopwatch {
 public:
  explicit Stopwatch(double& sum) : sum_(sum), began_(std::chrono::steady_clock::now()) {}
  ~Stopwatch() { sum_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  double& sum_;
  std::chrono::steady_clock::time_point began_;
};

}  // namespace

struct World::Job {
  SimJob spec;
  JobId id;
  bool submitted = false;
  bool has_result = false;
  std::vector<bool> committed;
  RateWindow rates;
  Time submitted_at{};
  Time first_start = kNever;
  double fair_queries = 0;  ///< committed while all jobs ran
};

struct World::Computing {
  std::uint64_t id = 0;
  std::size_t worker = 0;
  std::uint64_t life = 0;
  std::uint32_t slot = 0;
  Lease lease;
  Time began{};
  double load_s = 0;
  double work_s = 0;  ///< of a core's time
  double done_s = 0;  ///< of that
  double speed = 1;   ///< cores that it gets now
  int nice = 10;
  bool loaded = true;
};

struct World::Worker {
  struct Slot {
    std::deque<Lease> queue;
    bool busy = false;
    std::vector<std::string> models;  ///< loaded, the last used first
    std::vector<std::string> known;   ///< ever loaded
  };
  std::unique_ptr<WorkerQueue> queue;
  std::vector<Slot> slots;
  double speed = 1;
  bool alive = false;
  std::uint64_t life = 0;
  Time notice_at{};
};

World::World(Scenario scenario) : scenario_(std::move(scenario)), random_(scenario_.seed) {
  now_ = Time{} + std::chrono::seconds(1000);
  advanced_at_ = now_;
}
World::~World() = default;

// -- time ---------------------------------------------------------------------------------------------------------------

void World::at(Time when, Action act) { events_.push({std::max(when, now_), ++event_number_, std::move(act)}); }
void World::after(double seconds, Action act) { at(now_ + micros(seconds), std::move(act)); }
double World::seconds(Time time) const { return std::chrono::duration<double>(time - Time{}).count() - 1000; }

double World::noisy(double mean) {
  double sum = 0;  // of twelve: nearly normal
  for (int i = 0; i < 12; ++i) sum += random_.unit();
  const double factor = std::max(0.4, 1 + scenario_.noise * (sum - 6));
  return mean * factor * (random_.chance(scenario_.straggler) ? kStragglerFactor : 1);
}

/// Only where cores are shared; else each batch ends by itself.
void World::advance_processor() {
  const double elapsed = std::chrono::duration<double>(now_ - advanced_at_).count();
  advanced_at_ = now_;
  const auto active = static_cast<double>(computing_.size());
  if (scenario_.cores > 0) {
    for (auto& [id, batch] : computing_) batch.done_s += elapsed * batch.speed;
  }
  busy_s_ += elapsed * active;
  for (const auto& worker : workers_) available_s_ += worker->alive ? elapsed * scenario_.slots : 0;
}

void World::plan_processor() {
  if (scenario_.cores == 0) return;
  const std::uint64_t plan = ++plan_;
  if (computing_.empty()) return;
  set_speeds();
  double left = 1e9;
  for (const auto& [id, batch] : computing_) {
    const double goal = batch.loaded ? batch.work_s : batch.load_s;
    left = std::min(left, (goal - batch.done_s) / batch.speed);
  }
  at(now_ + micros(std::max(0.0, left)) + Duration(1), [this, plan] {
    if (plan != plan_) return;
    advance_processor();
    std::vector<std::uint64_t> ended;
    for (auto& [id, batch] : computing_) {
      if (batch.done_s >= batch.work_s - 1e-7) ended.push_back(id);
      if (batch.loaded || batch.done_s < batch.load_s - 1e-7) continue;
      batch.loaded = true;
      workers_[batch.worker]->queue->loaded(batch.slot, key_of(batch.lease), now_, executor_us(batch));
      heartbeat(batch.worker, false);
    }
    for (const std::uint64_t id : ended) computed(id);
    plan_processor();
  });
}

/// By weight, as the kernel does: a step of nice is a factor of 1.25, and nobody uses more than one core.
void World::set_speeds() {
  double cores = scenario_.cores;
  std::vector<Computing*> rest;
  for (auto& [id, batch] : computing_) rest.push_back(&batch);
  const auto weight = [](const Computing& batch) { return std::pow(1.25, 10 - batch.nice); };
  for (bool again = true; again && !rest.empty();) {
    double sum = 0;
    for (const Computing* batch : rest) sum += weight(*batch);
    again = false;
    for (Computing* batch : rest) {
      batch->speed = std::min(1.0, std::max(cores, 0.0) * weight(*batch) / sum);
      again = again || batch->speed >= 1;
    }
    cores -= static_cast<double>(std::erase_if(rest, [](const Computing* batch) { return batch->speed >= 1; }));
  }
}

std::uint64_t World::executor_us(const Computing& batch) const {
  return 1'000'000 + static_cast<std::uint64_t>(batch.done_s * 1e6);
}

/// As the worker's queue says now.
void World::renice(std::size_t index) {
  if (scenario_.cores == 0) return;
  advance_processor();
  for (auto& [id, batch] : computing_) {
    if (batch.worker == index) batch.nice = workers_[index]->queue->executor_share(batch.slot, now_).nice;
  }
  plan_processor();
}

void World::look_at_executors(std::size_t index) {
  Worker& worker = *workers_[index];
  if (!worker.alive) return;
  advance_processor();
  for (const auto& [id, batch] : computing_) {
    if (batch.worker == index) worker.queue->executor_time(batch.slot, executor_us(batch), {}, now_);
  }
  renice(index);
  if (worker.queue->shares_processors() && worker.notice_at <= now_) {
    worker.notice_at = now_ + micros(kStartNoticeS);
    heartbeat(index, false);
  }
  after(kLookS, [this, index, life = worker.life] {
    if (workers_[index]->life == life) look_at_executors(index);
  });
}

// -- the coordinator ----------------------------------------------------------------------------------------------------

void World::start_coordinator(bool first) {
  ++reign_;
  SchedulerConfig config;
  config.policy = scenario_.policy;
  config.split_period = std::chrono::seconds(20);
  config.seed = scenario_.seed;
  scheduler_ = std::make_unique<Scheduler>(config);
  monitor_ = std::make_unique<FairnessMonitor>();
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    jobs_[i].rates.clear();
    if (jobs_[i].submitted) add_job(i);
  }
  if (first) return;
  for (std::size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = *workers_[i];
    if (!worker.alive) continue;
    const NodeId id{static_cast<std::uint32_t>(i + 1)};
    scheduler_->add_node(id, scenario_.slots);
    WorkerOutput out;
    std::set<LeaseKey> kept;
    std::vector<LeaseKey> dropped;
    for (const auto& [lease, stage] : worker.queue->held(out)) {
      if (scheduler_->adopt(id, lease, stage, now_)) {
        kept.insert(lease);
      } else {
        dropped.push_back(lease);
      }
    }
    scheduler_->reconcile(id, kept);
    worker.queue->new_session(Epoch{reign_}, dropped, out);
    obey(i, out);
    heartbeat(i, false);
  }
}

void World::add_job(std::size_t index) {
  Job& job = jobs_[index];
  SchedulerJob spec;
  spec.id = job.id;
  spec.queries = kQueries;
  spec.batch = job.spec.batch;
  spec.weight_milli = static_cast<std::uint32_t>(std::lround(job.spec.weight * 1000));
  spec.priority = job.spec.priority;
  spec.model = "m" + std::to_string(index);
  const Stopwatch watch(outcome_.scheduler_s);
  scheduler_->add_job(spec, job.committed, true, now_);
}

void World::coordinate() {
  if (!scheduler_) return;
  std::map<NodeId, std::vector<Lease>> grants;
  std::vector<std::pair<NodeId, JobOrder>> orders;
  {
    const Stopwatch watch(outcome_.scheduler_s);
    while (auto given = scheduler_->next(now_)) {
      ++outcome_.decisions;
      grants[given->node].push_back(given->lease);
    }
    orders = scheduler_->order_due(now_);
  }
  for (auto& [id, leases] : grants) {
    const std::size_t index = id.value - 1;
    after(travel(), [this, index, life = workers_[index]->life, leases = std::move(leases)] {
      Worker& worker = *workers_[index];
      if (!worker.alive || worker.life != life) return;
      WorkerOutput out;
      worker.queue->granted(grant_of(leases), now_, out);
      obey(index, out);
    });
  }
  outcome_.orders += orders.size();
  for (auto& [id, told] : orders) {
    const std::size_t index = id.value - 1;
    after(travel(), [this, index, order = std::move(told)] {
      if (!workers_[index]->alive) return;
      workers_[index]->queue->ordered(order, now_);
      renice(index);
    });
  }
  watch();
}

void World::watch() {
  const Time wake = scheduler_->wake_at();
  if (wake == kNever || (watch_at_ > now_ && watch_at_ <= wake)) return;
  watch_at_ = wake;
  at(wake, [this, wake] {
    if (watch_at_ != wake) return;
    watch_at_ = kNever;
    coordinate();
  });
}

void World::commit(const std::vector<BatchCommit>& commits, std::uint64_t reign) {
  if (!scheduler_ || reign != reign_) return;
  for (const BatchCommit& commit : commits) {
    Job& job = jobs_[commit.job.value - 1];
    if (job.committed.size() <= commit.batch) job.committed.resize(kQueries / job.spec.batch, false);
    if (job.committed[commit.batch]) continue;
    job.committed[commit.batch] = true;
    {
      const Stopwatch watch(outcome_.scheduler_s);
      scheduler_->committed(commit);
    }
    job.has_result = true;
    job.rates.add(now_, commit.queries, commit.duration_us, commit.done_milli);
    ++outcome_.batches;
    took_s_ += static_cast<double>(commit.duration_us) / 1e6;
    if (std::all_of(jobs_.begin(), jobs_.end(), [](const Job& one) { return one.has_result; }))
      job.fair_queries += commit.queries;
    const std::size_t index = commit.node.value - 1;
    after(travel(), [this, index, key = LeaseKey{commit.job, commit.batch, commit.attempt}] {
      if (!workers_[index]->alive) return;
      WorkerOutput out;
      workers_[index]->queue->offered_answer({key}, out);
      obey(index, out);
    });
  }
  coordinate();
}

void World::judge() {
  if (scheduler_) {
    std::vector<FairnessMonitor::Candidate> candidates;
    std::int32_t highest = INT32_MIN;
    for (const Job& job : jobs_) {
      if (job.submitted) highest = std::max(highest, job.spec.priority);
    }
    for (Job& job : jobs_) {
      const bool competes = job.submitted && job.has_result && job.spec.priority == highest && scheduler_->competes(job.id);
      candidates.push_back({job.id, &job.rates, static_cast<std::uint32_t>(std::lround(job.spec.weight * 1000)), competes});
    }
    const std::uint32_t before = monitor_->report().windows;
    monitor_->second(second_of(now_), candidates);
    const FairnessReport report = monitor_->report();
    if (report.windows > before && report.jobs == jobs_.size())
      outcome_.windows.push_back({seconds(now_), static_cast<double>(report.max_min_milli) / 1000});
  }
  after(1.0, [this] { judge(); });
}

// -- workers ------------------------------------------------------------------------------------------------------------

JobDescription World::describe(std::size_t job) const {
  JobDescription description;
  description.job = jobs_[job].id;
  description.spec.batch = jobs_[job].spec.batch;
  description.model.name = "m" + std::to_string(job);
  description.model.version = 1;
  return description;
}

LeaseGrant World::grant_of(std::vector<Lease> leases) const {
  LeaseGrant grant;
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    if (std::any_of(leases.begin(), leases.end(), [&](const Lease& lease) { return lease.job == jobs_[i].id; }))
      grant.descriptions.push_back(describe(i));
  }
  grant.leases = std::move(leases);
  return grant;
}

void World::start_worker(std::size_t index) {
  Worker& worker = *workers_[index];
  worker.alive = true;
  ++worker.life;
  worker.queue = std::make_unique<WorkerQueue>(scenario_.slots, 64U << 20U, std::chrono::milliseconds(5), scenario_.reload_lag);
  worker.slots.assign(scenario_.slots, {});
  if (scheduler_) scheduler_->add_node(NodeId{static_cast<std::uint32_t>(index + 1)}, scenario_.slots);
  after(kHeartbeatS * random_.unit(), [this, index, life = worker.life] {
    if (workers_[index]->life == life) heartbeat(index, true);
  });
  if (scenario_.cores == 0) return;
  after(kLookS * random_.unit(), [this, index, life = worker.life] {
    if (workers_[index]->life == life) look_at_executors(index);
  });
}

void World::kill_worker(std::size_t index) {
  advance_processor();
  Worker& worker = *workers_[index];
  worker.alive = false;
  std::erase_if(computing_, [index](const auto& entry) { return entry.second.worker == index; });
  plan_processor();
  after(kDetectS, [this, index] {
    if (!scheduler_) return;
    scheduler_->remove_node(NodeId{static_cast<std::uint32_t>(index + 1)});
    coordinate();
  });
}

void World::obey(std::size_t index, const WorkerOutput& out) {
  const std::uint64_t life = workers_[index]->life;
  for (const Lease& lease : out.fetch) {
    after(scenario_.fetch_s * (0.5 + random_.unit()),
          [this, index, life, key = key_of(lease), bytes = lease.queries * 100'000ULL] {
            if (!workers_[index]->alive || workers_[index]->life != life) return;
            WorkerOutput more;
            workers_[index]->queue->input_ready(key, bytes / 16, now_, more);
            obey(index, more);
          });
  }
  for (const WorkerOutput::Start& start : out.start) {
    workers_[index]->slots[start.slot].queue.push_back(start.lease);
    begin_next(index, start.slot);
  }
  if (!out.offer.empty()) {
    after(travel(), [this, offer = out.offer, reign = reign_] { commit(offer, reign); });
  }
}

void World::begin_next(std::size_t index, std::uint32_t slot_index) {
  Worker& worker = *workers_[index];
  Worker::Slot& slot = worker.slots[slot_index];
  if (slot.busy || slot.queue.empty()) return;
  slot.busy = true;
  Computing batch;
  batch.id = ++event_number_;
  batch.worker = index;
  batch.slot = slot_index;
  batch.lease = slot.queue.front();
  batch.began = now_;
  slot.queue.pop_front();
  Job& job = jobs_[batch.lease.job.value - 1];
  if (job.first_start == kNever) job.first_start = now_;
  const std::string model = "m" + std::to_string(batch.lease.job.value);
  const auto loaded = std::find(slot.models.begin(), slot.models.end(), model);
  if (loaded == slot.models.end()) {
    batch.load_s = scenario_.load_s;
    batch.loaded = scenario_.cores == 0;
    const bool again = std::find(slot.known.begin(), slot.known.end(), model) != slot.known.end();
    outcome_.reloads += again ? 1 : 0;
    if (!again) slot.known.push_back(model);
  } else {
    slot.models.erase(loaded);
  }
  slot.models.insert(slot.models.begin(), model);
  if (scenario_.models_fit != 0 && slot.models.size() > scenario_.models_fit) slot.models.pop_back();
  worker.queue->started(slot_index, key_of(batch.lease), now_, 0, 1'000'000);
  batch.nice = worker.queue->executor_share(slot_index, now_).nice;
  if (worker.notice_at <= now_ && job.spec.batch_s > 0.02) {
    worker.notice_at = now_ + micros(kStartNoticeS);
    heartbeat(index, false);
  }
  advance_processor();
  const double part = static_cast<double>(batch.lease.queries) / job.spec.batch;
  batch.work_s = noisy(job.spec.batch_s * part) / worker.speed + batch.load_s;
  computing_.emplace(batch.id, batch);
  plan_processor();
  if (scenario_.cores > 0) return;
  after(batch.work_s, [this, id = batch.id] {
    advance_processor();
    if (computing_.contains(id)) computed(id);
  });
}

void World::computed(std::uint64_t id) {
  const Computing batch = computing_.extract(id).mapped();
  Worker& worker = *workers_[batch.worker];
  worker.slots[batch.slot].busy = false;
  WorkerOutput out;
  const LeaseKey key = key_of(batch.lease);
  const auto load_us = static_cast<std::uint64_t>(batch.load_s * 1e6);
  const auto infer_us = static_cast<std::uint64_t>((now_ - batch.began).count());
  const bool wanted = worker.queue->finished(batch.slot, key, 0, infer_us, now_, out, load_us, executor_us(batch));
  obey(batch.worker, out);
  begin_next(batch.worker, batch.slot);
  if (!wanted) return;
  after(scenario_.store_s * (0.5 + random_.unit()), [this, index = batch.worker, life = worker.life, key] {
    if (!workers_[index]->alive || workers_[index]->life != life) return;
    WorkerOutput more;
    workers_[index]->queue->stored(key, BlockRef{}, NodeId{static_cast<std::uint32_t>(index + 1)}, now_, more);
    obey(index, more);
  });
}

void World::heartbeat(std::size_t index, bool again) {
  const Worker& worker = *workers_[index];
  if (!worker.alive) return;
  after(travel(), [this, index, life = worker.life, mean = worker.queue->mean_batch_us(), reign = reign_,
                   running = worker.queue->running_batches(now_)] {
    if (!scheduler_ || reign != reign_ || workers_[index]->life != life || !workers_[index]->alive) return;
    const NodeId id{static_cast<std::uint32_t>(index + 1)};
    {
      const Stopwatch watch(outcome_.scheduler_s);
      scheduler_->batch_time(id, mean);
      scheduler_->progress(id, running, now_);
    }
    coordinate();
  });
  if (!again) return;
  after(kHeartbeatS, [this, index, life = worker.life] {
    if (workers_[index]->life == life) heartbeat(index, true);
  });
}

// -- the run ------------------------------------------------------------------------------------------------------------

Outcome World::run() {
  start_coordinator(true);
  for (std::size_t i = 0; i < scenario_.jobs.size(); ++i) {
    Job& job = jobs_.emplace_back();
    job.spec = scenario_.jobs[i];
    job.id = JobId{i + 1};
  }
  const std::size_t workers = scenario_.workers + (scenario_.worker_joins_s > 0 ? 1 : 0);
  for (std::size_t i = 0; i < workers; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->speed = 1 + scenario_.speed_spread * (2 * random_.unit() - 1);
    if (i < scenario_.workers) start_worker(i);
  }
  double last_arrival = 0;
  for (std::size_t i = 0; i < jobs_.size(); ++i) {
    last_arrival = std::max(last_arrival, jobs_[i].spec.arrives_s);
    after(jobs_[i].spec.arrives_s, [this, i] {
      jobs_[i].submitted = true;
      jobs_[i].submitted_at = now_;
      if (scheduler_) add_job(i);
      after(0, [this] { coordinate(); });  // those that come together are all there then
    });
  }
  after(last_arrival + 1, [this] {
    advance_processor();
    busy_s_ = available_s_ = 0;
  });
  after(1.0, [this] { judge(); });
  if (scenario_.worker_dies_s > 0) {
    outcome_.disturbed_s = scenario_.worker_dies_s;
    after(scenario_.worker_dies_s, [this] { kill_worker(0); });
  }
  if (scenario_.worker_joins_s > 0) {
    outcome_.disturbed_s = scenario_.worker_joins_s;
    after(scenario_.worker_joins_s, [this] {
      start_worker(scenario_.workers);
      coordinate();
    });
  }
  if (scenario_.coordinator_dies_s > 0) {
    outcome_.disturbed_s = scenario_.coordinator_dies_s;
    after(scenario_.coordinator_dies_s, [this] { scheduler_.reset(); });
    after(scenario_.coordinator_dies_s + scenario_.takeover_s, [this] {
      start_coordinator(false);
      coordinate();
    });
  }
  const Time end = now_ + micros(scenario_.seconds);
  while (!events_.empty() && events_.top().at <= end) {
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.act();
  }
  advance_processor();
  outcome_.utilisation = available_s_ > 0 ? busy_s_ / available_s_ : 0;
  outcome_.mean_batch_s = outcome_.batches > 0 ? took_s_ / static_cast<double>(outcome_.batches) : 0;
  double lowest = 0;
  double highest = 0;
  for (const Job& job : jobs_) {
    const double share = job.fair_queries / job.spec.weight;
    lowest = lowest == 0 ? share : std::min(lowest, share);
    highest = std::max(highest, share);
  }
  outcome_.long_run = lowest > 0 ? highest / lowest : 0;
  const Job& last = *std::max_element(jobs_.begin(), jobs_.end(),
                                      [](const Job& a, const Job& b) { return a.spec.arrives_s < b.spec.arrives_s; });
  outcome_.second_start_s =
      last.first_start == kNever ? -1 : std::chrono::duration<double>(last.first_start - last.submitted_at).count();
  outcome_.report = monitor_->report();
  return outcome_;
}

}  // namespace idunno::bench

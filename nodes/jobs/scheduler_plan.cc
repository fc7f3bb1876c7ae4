// Who starts what next, all over the cluster: the slots in the order in which they become free, each taking the job that would be
// behind the others most just then. A node is told how far the jobs will be at its turn; what it makes of that is its own affair
// (worker_queue_order.cc), and the plan is made anew with every piece of news.

#include <cmath>
#include <queue>

#include "nodes/jobs/scheduler_impl.h"

namespace idunno {

namespace {

constexpr std::size_t kTurnsPerSlot = 4;  // short batches give a slot several turns in one plan
constexpr double kUnknownUs = 1e6;
constexpr std::uint32_t kSharesMilli = 800;  // an executor with less of a processor shares it
constexpr double kPlanFirmUs = 200e3;        // before a node's turn: about what its news, a new plan and the way back take
constexpr double kLeadMaxMs = 60'000;
constexpr double kLeadPerCpuMaxMilli = 1e9;

}  // namespace

/// Passes are counted from `origin_`, times in microseconds from now.
class Scheduler::Plan {
 public:
  Plan(Scheduler& scheduler, const std::map<JobId, std::uint64_t>& levels, Time now) : scheduler_(scheduler), now_(now) {
    add_jobs(levels);
    for (const auto& [id, node] : scheduler_.nodes_) add_node(*node);
    add_leads();
  }

  [[nodiscard]] std::vector<std::pair<NodeId, JobOrder>> make() {
    std::map<NodeId, JobOrder> orders;
    std::size_t unplanned = turns_.size();
    for (std::size_t left = turns_.size() * kTurnsPerSlot; left > 0 && unplanned > 0; --left) {
      const Turn turn = turns_.top();
      turns_.pop();
      look_at(turn.at);
      NodeEntry& node = *turn.node;
      const auto [order, first] = orders.try_emplace(node.id);
      if (first) order->second.jobs = order_now();
      PlanJob* chosen = choose(turn);
      if (turn.next) --unplanned;
      if (chosen == nullptr) continue;
      std::vector<PlannedStart>& next = order->second.next;
      if (turn.next && next.size() < kStartsPlannedMax) next.push_back({turn.after, chosen->entry->spec.id});
      add_work(*chosen, chosen->batch_cost, 1 / chosen->took_us, look_ / chosen->took_us, turn.at + chosen->took_us);
      turns_.push({turn.at + chosen->took_us, &node, {}, false});
    }
    std::vector<std::pair<NodeId, JobOrder>> told;
    for (auto& [id, order] : orders) {
      scheduler_.nodes_.at(id)->planned = order.next;
      told.emplace_back(id, std::move(order));
    }
    return told;
  }

 private:
  struct End {  // of a run that is still going on: the job is `slope` slower afterwards
    double at = 0;
    double slope = 0;
    bool operator<(const End& other) const { return other.at < at; }
  };
  struct PlanJob {
    const JobEntry* entry = nullptr;
    std::int64_t priority_down = 0;
    double cost = 0;  // of one query
    double batch_cost = 0;
    double took_us = 0;
    double level = 0;  // at `at`
    double slope = 0;
    double level_now = 0;
    double pace_now = 0;  // what it goes on by in a microsecond
    double lead_us = 0;
    double lead_per_cpu = 0;  // what a microsecond of an executor's processor adds to it; 0 = not known
    double at = 0;
    bool waits = false;  // has not begun since it arrived
    double soon = 0;     // what it stands at for the next choice
    std::priority_queue<End> ends;
    double works_until = 0;  // the last of its batches in work, and of those planned
  };
  struct Turn {  // of a slot
    double at = 0;
    NodeEntry* node = nullptr;
    LeaseKey after;    // what the slot computes, or was the last it computed
    bool next = true;  // its first from now
    bool operator<(const Turn& other) const { return std::pair(other.at, other.node->id) < std::pair(at, node->id); }
  };

  /// How far the jobs will be kLookAhead after that moment, with all that is planned to start until then.
  void look_at(double moment) {
    const double until = moment + look_;
    for (PlanJob& job : jobs_) {
      advance(job, until);
      // Where it stands when the half of a batch is added: a job of large batches must not wait longer for its first one.
      job.soon = job.level - (job.waits ? job.batch_cost * part_soon(job) / 2 : 0);
    }
  }

  void add_jobs(const std::map<JobId, std::uint64_t>& levels) {
    origin_ = UINT64_MAX;
    for (const auto& [id, level] : levels) origin_ = std::min(origin_, scheduler_.order_.served_pass(id));
    for (const auto& [id, level] : levels) {
      const JobEntry* entry = scheduler_.jobs_.at(id).get();
      PlanJob& job = jobs_.emplace_back();
      job.entry = entry;
      job.priority_down = entry->priority_down();
      job.cost = static_cast<double>(scheduler_.order_.cost(id, 1));
      job.batch_cost = static_cast<double>(scheduler_.order_.cost(id, entry->spec.batch));
      job.took_us = entry->took_us == 0 ? kUnknownUs : entry->took_us;
      job.level = static_cast<double>(scheduler_.order_.served_pass(id) - origin_);
      job.level_now = static_cast<double>(level - origin_);
      job.at = look_;
      job.waits = entry->arriving && entry->runs == 0;
      index_[id] = jobs_.size() - 1;
    }
  }

  void add_node(NodeEntry& node) {
    if (!node.open) return;
    slots_ += node.slots;
    std::size_t busy = 0;
    for (const auto& [lease, run] : node.runs) {
      const auto found = index_.find(lease.job);
      if (!run.ended) ++(run.by_processor() && run.pace_milli < kSharesMilli ? sharing_ : alone_);
      if (!run.ended && busy < node.slots) {
        ++busy;
        turns_.push({run.left_us(now_), &node, lease});
      }
      if (found == index_.end() || run.second) continue;
      PlanJob& job = jobs_[found->second];
      const double cost = job.cost * job.entry->queries_of(lease.batch);
      if (run.ended) {
        job.level += cost;
      } else {
        add_run(job, cost, run);
      }
    }
    for (const LeaseKey& last : last_of_free(node, node.slots - busy)) turns_.push({0, &node, last});
  }

  /// What free slots computed last. A slot whose result has come may have begun what it was told, only the news of that is still
  /// under way: it is to be told the same.
  [[nodiscard]] static std::vector<LeaseKey> last_of_free(const NodeEntry& node, std::size_t free) {
    std::vector<LeaseKey> last;
    for (const auto& [lease, run] : node.runs) {
      if (run.ended && last.size() < free) last.push_back(lease);
    }
    for (const PlannedStart& planned : node.planned) {
      if (last.size() < free && !node.runs.contains(planned.after)) last.push_back(planned.after);
    }
    last.resize(free);
    return last;
  }

  void add_run(PlanJob& job, double cost, const Run& run) const {
    const double pace = run.part_per_us();
    const double left_us = run.left_us(now_);
    job.pace_now += cost * pace;
    add_work(job, cost, pace, run.done(now_) + look_ * pace, left_us);
  }

  /// A batch in work, or planned: of its cost it does the part `pace` in a microsecond, and has done `done` at job.at.
  static void add_work(PlanJob& job, double cost, double pace, double done, double ends_at) {
    job.level += cost * std::min(1.0, done);
    job.works_until = std::max(job.works_until, ends_at);
    if (ends_at <= job.at) return;
    job.slope += cost * pace;
    job.ends.push({ends_at, cost * pace});
  }

  /// How far the jobs of one priority that compete are from their mean. The others are held back by something else: more of a
  /// processor would not help them, and they would shift the mean. With more jobs than slots some wait for a slot at any time;
  /// then what runs is best done with soon, whoever is ahead.
  void add_leads() {
    struct Peers {
      double level = 0;
      double pace = 0;
      double jobs = 0;
    };
    std::map<std::int64_t, Peers> peers;
    if (slots_ < jobs_.size()) return;
    const auto counts = [&](const PlanJob& job) { return !job.waits && scheduler_.competes(job.entry->spec.id); };
    for (const PlanJob& job : jobs_) {
      if (!counts(job)) continue;
      Peers& mine = peers[job.priority_down];
      mine.level += job.level_now;
      mine.pace += job.pace_now;
      mine.jobs += 1;
    }
    for (PlanJob& job : jobs_) {
      const auto found = peers.find(job.priority_down);
      if (!counts(job) || found->second.jobs < 2 || found->second.pace <= 0) continue;
      const double mean_pace = found->second.pace / found->second.jobs;
      job.lead_us = (job.level_now - found->second.level / found->second.jobs) / mean_pace;
      if (job.entry->cpu_us != 0) job.lead_per_cpu = job.batch_cost / job.entry->cpu_us / mean_pace;
    }
  }

  static void advance(PlanJob& job, double until) {
    while (!job.ends.empty() && job.ends.top().at <= until) {
      const End end = job.ends.top();
      job.ends.pop();
      job.level += job.slope * (end.at - job.at);
      job.at = end.at;
      job.slope -= end.slope;
    }
    job.level += job.slope * (until - job.at);
    job.at = until;
  }

  [[nodiscard]] double part_soon(const PlanJob& job) const { return std::min(1.0, look_ / job.took_us); }

  [[nodiscard]] bool may_start(const PlanJob& job, const NodeEntry& node) const {
    if (!job.entry->has_work() && held_at(*job.entry, node) == 0) return false;
    return !scheduler_.bounded_ || scheduler_.may_use(*job.entry, node);
  }
  /// With half of a batch added. Where there is a slot for each job, one that would have none goes before those that have one,
  /// unless these lag by more than a batch: shares of the processors make them even. (Not where each executor has a processor of
  /// its own: there only the choice makes them even.)
  [[nodiscard]] double standing(const PlanJob& job, double at) const {
    const double half = job.batch_cost * part_soon(job) / 2;
    const bool to_share = sharing_ > alone_ && slots_ >= jobs_.size();
    return to_share && job.works_until <= at ? job.soon - half : job.soon + half;
  }

  /// What starts at that turn. When that is soon, what the node has been told already stays, unless it has become clearly wrong:
  /// the node may have begun with it, and then a new plan would give the same job to others as well.
  [[nodiscard]] PlanJob* choose(const Turn& turn) {
    const NodeEntry& node = *turn.node;
    PlanJob* best = nullptr;
    double lowest = 0;
    for (PlanJob& job : jobs_) {
      if (best != nullptr && job.priority_down > best->priority_down) continue;
      if (!may_start(job, node)) continue;
      const double stands_at = standing(job, turn.at);
      if (best != nullptr && job.priority_down == best->priority_down && stands_at >= lowest) continue;
      best = &job;
      lowest = stands_at;
    }
    if (best == nullptr || !turn.next || turn.at > kPlanFirmUs) return best;
    const auto planned = std::ranges::find(node.planned, turn.after, &PlannedStart::after);
    const auto found = planned == node.planned.end() ? index_.end() : index_.find(planned->job);
    if (found == index_.end()) return best;
    PlanJob& told = jobs_[found->second];
    const bool stands = told.priority_down == best->priority_down && may_start(told, node) &&
                        standing(told, turn.at) < lowest + told.batch_cost * part_soon(told) / 2;
    return stands ? &told : best;
  }

  [[nodiscard]] std::vector<JobPass> order_now() const {
    std::vector<JobPass> order;
    for (const PlanJob& job : jobs_) {
      const double per_query = std::max(job.cost * part_soon(job), 1.0);
      const auto away = static_cast<std::uint64_t>(std::abs(job.soon));
      const std::uint64_t pass = job.soon >= 0 ? origin_ + away : origin_ - std::min(origin_, away);
      const double lead_ms = std::clamp(job.lead_us / 1000, -kLeadMaxMs, kLeadMaxMs);
      const auto per_cpu_milli = static_cast<std::uint32_t>(std::min(1000 * job.lead_per_cpu, kLeadPerCpuMaxMilli));
      order.push_back({job.entry->spec.id, pass, static_cast<std::uint64_t>(per_query), static_cast<std::int32_t>(lead_ms),
                       per_cpu_milli, job.entry->runs});
    }
    std::sort(order.begin(), order.end(),
              [](const JobPass& a, const JobPass& b) { return std::pair(a.pass, a.job) < std::pair(b.pass, b.job); });
    if (order.size() > kJobsOrderedMax) order.resize(kJobsOrderedMax);
    return order;
  }

  Scheduler& scheduler_;
  Time now_;
  double look_ = static_cast<double>(kLookAhead.count());
  std::uint64_t origin_ = 0;
  std::size_t slots_ = 0;
  std::size_t sharing_ = 0;  // batches in work whose executors get clearly less than a processor each, and the others
  std::size_t alone_ = 0;
  std::vector<PlanJob> jobs_;
  std::map<JobId, std::size_t> index_;
  std::priority_queue<Turn> turns_;
};

std::vector<std::pair<NodeId, JobOrder>> Scheduler::make_plan(const std::map<JobId, std::uint64_t>& levels, Time now) {
  return Plan(*this, levels, now).make();
}

}  // namespace idunno

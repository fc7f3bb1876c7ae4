#include "cli/experiments/runner.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "bus/names.h"
#include "bus/units.h"
#include "cli/cluster_watch.h"
#include "cli/experiments/stage.h"
#include "cli/model_store.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

constexpr Duration kWarmLimit = std::chrono::seconds(180);
constexpr Duration kLook = std::chrono::milliseconds(50);
constexpr Duration kAfterSettled = std::chrono::seconds(3);  ///< what a failure's curves show of the time after it
constexpr std::size_t kStatsLinesMax = 100'000;

/// "case, round 2 of 5, 12 of 60 s": one line that is drawn over on a terminal; nothing elsewhere.
class Ticker {
 public:
  Ticker(const Globals& globals, std::string what) : on_(!globals.quiet && stderr_is_terminal()), what_(std::move(what)) {}
  ~Ticker() {
    if (on_ && drawn_) std::fputs("\r\x1b[K", stderr);
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;
  void tell(const std::string& state, double fraction) {
    if (!on_ || monotonic_now() < next_) return;
    next_ = monotonic_now() + std::chrono::milliseconds(200);
    drawn_ = true;
    static constexpr std::size_t kBar = 24;
    std::string line = fmt::format("{}  {}  {}", bar_text(fraction, kBar), what_, state);
    const std::size_t width = terminal_width(STDERR_FILENO);
    if (line.size() >= width) line.resize(width - 1);
    std::fputs(("\r" + line + "\x1b[K").c_str(), stderr);
    std::fflush(stderr);
  }

 private:
  bool on_;
  std::string what_;
  bool drawn_ = false;
  Time next_;
};

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

/// One round: jobs, clock, script, end.
class Round {
 public:
  Round(App& app, const Experiment& experiment, const ExpCase& about, Stage& stage, std::uint64_t seed, double capacity_qps)
      : app_(app), experiment_(experiment), about_(about), stage_(stage), random_(seed), capacity_qps_(capacity_qps) {}

  Status play(const std::string& what, RoundResult& result) {
    Session& session = stage_.session();
    auto subscriber = Subscriber::create(session.loop(), session.zmq(), session.keys(), session.config().cluster_hash(),
                                         session.rpc().peers(), [this](const Envelope& envelope) { heard(envelope); });
    if (!subscriber) return subscriber.error();
    (*subscriber)->subscribe(kEventTopic);
    (*subscriber)->subscribe(kStatsTopic);
    Ticker ticker(app_.globals, what);
    for (const ExpJob& job : about_.jobs) {
      if (job.at > Duration::zero()) continue;
      if (auto there = submit(job); !there) return there;
    }
    if (auto warm = warm_up(ticker); !warm) return warm;
    run_for(session, experiment_.settle);
    zero_ = monotonic_now();
    recorder_.start_clock(zero_, wall_now_ms());
    if (auto played = play_script(ticker); !played) return played;
    return finish(result);
  }
  [[nodiscard]] const std::vector<Json>& stats() const { return stats_; }

 private:
  void heard(const Envelope& envelope) {
    if (envelope.header.type == MessageType::event_notice) {
      if (const auto notice = envelope.body<EventNotice>()) recorder_.notice(monotonic_now(), *notice);
    } else if (envelope.header.type == MessageType::stats_notice && recorder_.clock_runs()) {
      const auto notice = envelope.body<StatsNotice>();
      if (!notice) return;
      for (const NodeReport& node : notice->nodes) {
        if (node.state == NodeState::dead || node.state == NodeState::left) recorder_.seen_dead(monotonic_now(), node.id);
      }
      if (stats_.size() >= kStatsLinesMax) return;
      Json line = Json::object();
      line["t_s"] = recorder_.seconds_at(notice->at_ms);
      NodeId from;
      for (const NodeReport& node : notice->nodes) {
        if (node.coordinator) from = node.id;
      }
      line.update(stats_event_json(*notice, from));
      stats_.push_back(std::move(line));
    }
  }

  Status submit(const ExpJob& job) {
    const WallMs commanded = wall_now_ms();
    const double rate = about_.load > 0 ? about_.load * capacity_qps_ : job.rate_qps;
    auto report = stage_.submit(job, rate);
    if (!report) return Error{report.error().code, fmt::format("submitting job {}: {}", job.name, report.error().detail)};
    recorder_.watch_job(*report, job.name, job.weight, commanded);
    reports_.push_back(*report);
    return {};
  }

  /// Until every job that is there from the beginning has gone through the executors once or twice, so that models are loaded.
  Status warm_up(Ticker& ticker) {
    const std::uint64_t slots = std::uint64_t{about_.nodes} * about_.slots;
    // Under a load of a curve the models are there: the round without a limit came before.
    const std::uint64_t wanted = about_.load > 0 ? 1 : std::max<std::uint64_t>(2, 2 * slots / reports_.size());
    const Time deadline = monotonic_now() + kWarmLimit;
    while (true) {
      std::uint64_t least = wanted;
      for (const JobReport& job : reports_) least = std::min(least, recorder_.commits(job.id));
      if (least >= wanted) return {};
      if (monotonic_now() > deadline) return Error{Errc::timeout, "the jobs did not get going in time"};
      ticker.tell("warming up", 0);
      run_for(stage_.session(), kLook);
    }
  }

  Status play_script(Ticker& ticker) {
    std::vector<ExpJob> late;
    for (const ExpJob& job : about_.jobs) {
      if (job.at > Duration::zero()) late.push_back(job);
    }
    std::stable_sort(late.begin(), late.end(), [](const ExpJob& one, const ExpJob& other) { return one.at < other.at; });
    auto job = late.begin();
    auto action = about_.actions.begin();
    const Time end = zero_ + about_.duration;
    Time settled_at = kNever;
    for (Time now = monotonic_now(); now < end; now = monotonic_now()) {
      Time next = end;
      if (job != late.end()) next = std::min(next, zero_ + job->at);
      if (action != about_.actions.end()) next = std::min(next, zero_ + action->at);
      if (now >= next && job != late.end() && zero_ + job->at <= now) {
        if (auto there = submit(*job++); !there) return there;
        continue;
      }
      if (now >= next && action != about_.actions.end()) {
        const ExpAction& next_one = *action++;
        if (auto done = act(next_one, action == about_.actions.end() ? about_.duration : action->at); !done) return done;
        continue;
      }
      const bool over = job == late.end() && action == about_.actions.end();
      if (experiment_.measure == Measure::failure && over && settled_at == kNever && recorder_.settled(now)) settled_at = now;
      if (settled_at != kNever && now >= settled_at + kAfterSettled) break;
      ticker.tell(fmt::format("{:.0f} of {:.0f} s", seconds(now - zero_), seconds(about_.duration)),
                  seconds(now - zero_) / seconds(about_.duration));
      run_for(stage_.session(), std::min<Duration>(next - now, kLook));
    }
    return {};
  }

  /// `until`: of the script, when something else happens.
  Status act(const ExpAction& action, Duration until) {
    auto nodes = stage_.choose(action, random_.next());
    if (!nodes) return Error{nodes.error().code, fmt::format("action {}: {}", action.name, nodes.error().detail)};
    if (action.what == ExpAction::What::resume || action.what == ExpAction::What::start) return stage_.bring_back(*nodes);
    const NodeId leads = stage_.coordinator();
    Recorder::Strike strike;
    strike.name = action.name;
    strike.victims = *nodes;
    strike.coordinator = std::find(nodes->begin(), nodes->end(), leads) != nodes->end();
    strike.slots_left = stage_.slots_left(*nodes);
    strike.quiet_s = seconds(until - action.at);
    run_for(stage_.session(), Duration::zero());  // what has arrived is of before
    return stage_.strike(*nodes, action.what, [&] { recorder_.killed(monotonic_now(), wall_now_ms(), strike); });
  }

  Status finish(RoundResult& result) {
    const WallMs wall = wall_now_ms();
    for (KillRecord& kill : recorder_.kills()) {
      auto lost = lost_queries(stage_.session(), kill.timeline, reports_);
      if (!lost) return lost.error();
      result.facts.lost_queries[kill.name] = *lost;
    }
    JobReportsRequest request;
    for (const JobReport& job : reports_) request.jobs.push_back(job.id);
    auto reports = stage_.session().metadata().call_and_wait(request);
    if (!reports) return reports.error();
    for (const JobReport& job : reports->jobs) {
      result.facts.model_loads += job.model_loads;
      result.facts.hedged += job.hedged;
      result.facts.conflicts += job.conflicting_commits;
      if (job.state == JobState::failed) result.notes.push_back(fmt::format("job {} failed: {}", job.spec.name, job.reason));
      if (is_over(job.state)) result.notes.push_back(fmt::format("job {} ended before the round did", job.spec.name));
      if (job.errors > 0) result.notes.push_back(fmt::format("job {} has {} error rows", job.spec.name, job.errors));
    }
    for (const ExpJob& job : about_.jobs) result.facts.services_s.push_back(seconds(experiment_.model(job.model)->service));
    result.facts.capacity_qps = capacity_qps_;
    result.recording = recorder_.finish(wall);
    if (result.recording.lost_notices > 0)
      result.notes.push_back(fmt::format("{} events did not reach this client", result.recording.lost_notices));
    result.figures = figures_of(experiment_.measure, about_, result.recording, result.facts);
    return {};
  }

  App& app_;
  const Experiment& experiment_;
  const ExpCase& about_;
  Stage& stage_;
  Random random_;
  double capacity_qps_;
  Recorder recorder_;
  std::vector<JobReport> reports_;
  std::vector<Json> stats_;
  Time zero_;
};

/// Batches as CSV, everything else that was told as JSON lines.
Status write_raw(const std::filesystem::path& folder, std::size_t case_number, unsigned round, const Recording& recording,
                 const std::vector<Json>& stats) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Error{Errc::internal, fmt::format("making {}: {}", folder.string(), error.message())};
  const std::string stem = fmt::format("case{:02}-round{:02}", case_number + 1, round);
  std::string csv = "job,batch,queries,node,leased_s,started_s,committed_s,done_milli\n";
  for (const BatchRecord& one : recording.batches) {
    csv += fmt::format("{},{},{},{},{:.3f},{:.3f},{:.3f},{}\n", csv_field(recording.jobs[one.job].name), one.batch, one.queries,
                       to_string(one.node), one.leased_s, one.started_s, one.committed_s, fmt::join(one.done_milli, " "));
  }
  if (auto written = write_whole_file(folder / (stem + ".batches.csv"), csv); !written) return written;
  std::string lines;
  for (const Moment& moment : recording.moments) {
    lines +=
        dump(Json{{"t_s", moment.at_s}, {"node", to_string(moment.node)}, {"type", moment.type}, {"text", moment.text}}) + "\n";
  }
  for (const Json& line : stats) lines += dump(line) + "\n";
  return write_whole_file(folder / (stem + ".events.jsonl"), lines);
}

class Runner {
 public:
  Runner(App& app, const Experiment& experiment, const ExpPlan& plan, const RunOptions& options)
      : app_(app), experiment_(experiment), plan_(plan), options_(options) {}

  Status run(RunResult& result) {
    for (std::size_t i = 0; i < plan_.cases.size(); ++i) {
      result.cases.push_back({plan_.cases[i], {}});
      if (auto done = run_case(i, result.cases.back()); !done) {
        const std::string& name = plan_.cases[i].name;
        return Error{done.error().code, (name.empty() ? "" : name + ": ") + done.error().detail};
      }
    }
    return {};
  }

 private:
  Status run_case(std::size_t number, CaseResult& result) {
    const ExpCase& about = plan_.cases[number];
    if (!stage_ || !stage_->made_for().same_cluster(about)) {
      stage_.reset();
      if (app_.globals.verbose) app_.note(fmt::format("starting {} nodes", about.nodes));
      auto stage = Stage::build(app_, about);
      if (!stage) return stage.error();
      stage_ = std::move(*stage);
      fresh_ = true;
    }
    if (auto ready = stage_->prepare(app_, experiment_, plan_, about); !ready) return ready;
    for (unsigned round = 1; round <= plan_.repeat; ++round) {
      if (!std::exchange(fresh_, false)) {
        if (auto restored = stage_->restore(); !restored) return restored;
      }
      const std::string what = fmt::format("{}{}{}", experiment_.name, about.name.empty() ? "" : ", " + about.name,
                                           plan_.repeat > 1 ? fmt::format(", round {} of {}", round, plan_.repeat) : "");
      RoundResult& played = result.rounds.emplace_back();
      const std::uint64_t seed = options_.seed * 1'000'003 + number * 1009 + round;
      Round one(app_, experiment_, about, *stage_, seed, capacity_of(about));
      if (auto done = one.play(what, played); !done) {
        result.rounds.pop_back();
        return done;
      }
      tell(what, played);
      if (auto written = write_raw(options_.raw_folder, number, round, played.recording, one.stats()); !written) return written;
    }
    if (experiment_.measure == Measure::curve && about.load <= 0) {
      double sum = 0;
      for (const RoundResult& round : result.rounds) sum += round.figures.at("rate_qps");
      capacities_[about.group] = sum / static_cast<double>(result.rounds.size());
    }
    return {};
  }

  double capacity_of(const ExpCase& about) const {
    const auto found = capacities_.find(about.group);
    return about.load > 0 && found != capacities_.end() ? found->second : 0;
  }

  void tell(const std::string& what, const RoundResult& round) const {
    std::vector<std::string> names;
    for (const auto& [name, value] : round.figures) {
      if (figure_text(name).shown) names.push_back(name);
    }
    std::string line;
    for (const std::string& name : in_table_order(names))
      line += fmt::format("{}{} {}", line.empty() ? "" : ", ", name, number_text(round.figures.at(name)));
    app_.note(fmt::format("{}: {}", what, line));
    for (const std::string& note : round.notes) app_.note("  " + note);
  }

  App& app_;
  const Experiment& experiment_;
  const ExpPlan& plan_;
  const RunOptions& options_;
  std::unique_ptr<Stage> stage_;
  bool fresh_ = false;
  std::map<std::string, double> capacities_;  ///< of a curve, by group
};

}  // namespace

RunResult run_plan(App& app, const Experiment& experiment, const ExpPlan& plan, const RunOptions& options) {
  RunResult result;
  result.started = wall_now_ms();
  Runner runner(app, experiment, plan, options);
  result.status = runner.run(result);
  result.finished = wall_now_ms();
  std::vector<CaseFigures> all;
  for (const CaseResult& one : result.cases) {
    CaseFigures& figures = all.emplace_back(CaseFigures{one.about.group, one.about.nodes * one.about.slots, {}});
    for (const RoundResult& round : one.rounds) figures.rounds.push_back(round.figures);
  }
  add_figures_across(experiment.measure, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (std::size_t k = 0; k < all[i].rounds.size(); ++k) result.cases[i].rounds[k].figures = all[i].rounds[k];
  }
  return result;
}

}  // namespace idunno::cli

/// `idunno bench failover`: kills (or pauses) the coordinator or a worker of a temporary cluster under full load, again and
/// again, and measures how the cluster recovers.

#include <fmt/core.h>

#include <algorithm>
#include <csignal>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "cli/cluster_watch.h"
#include "cli/failover_load.h"
#include "cli/failover_rounds.h"
#include "cli/gnuplot.h"
#include "cli/jobs.h"
#include "cli/kill_node.h"
#include "cli/local_cluster.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "bench failover";
constexpr Duration kRoundLimit = std::chrono::seconds(60);

struct Options {
  unsigned repeat = 10;
  unsigned nodes = 7;
  std::string signal = "both";
  std::string target = "both";
  FailoverLoad::Options load;
  std::uint64_t seed = 1;
  std::string csv;
  std::string svg;
};

/// A client that submits a job at the moment of the kill, and goes on until it is taken.
struct Probe {
  std::optional<Time> accepted;
  JobId job;
};

void set(FailoverRound& round, const std::string& name, const std::optional<Duration>& value) {
  if (value) round.figures[name] = static_cast<double>(value->count()) / 1000.0;
}

void fill(FailoverRound& round, ClusterWatch& watch, NodeId victim, const Probe& probe) {
  Timeline& timeline = watch.timeline();
  const Time killed = timeline.killed_at();
  set(round, "detected_ms", timeline.detected(victim));
  set(round, "reassigned_ms", timeline.reassigned(victim));
  set(round, "takeover_ms", watch.takeover());
  if (probe.accepted) set(round, "submit_ms", *probe.accepted - killed);
  set(round, "normal_ms", watch.normal());
  const Timeline::Dip dip = watch.dip();
  round.figures["dip_pct"] = dip.depth_pct;
  set(round, "dip_ms", dip.length);
  set(round, "longest_gap_ms", dip.longest_gap);
  if (watch.batch_time() > Duration::zero()) {
    round.figures["gap_batches"] = static_cast<double>(dip.longest_gap.count()) / static_cast<double>(watch.batch_time().count());
  }
  const double before = timeline.rate(killed - watch.before(), killed);
  for (int i = 0; before > 0 && i < 3; ++i) {
    const Time from = killed + std::chrono::seconds(i);
    round.figures[fmt::format("second_{}_pct", i + 1)] = 100 * timeline.rate(from, from + std::chrono::seconds(1)) / before;
  }
  const double work_before = timeline.work_rate(killed - watch.before(), killed);
  for (int i = 0; work_before > 0 && i < 3; ++i) {
    const Time from = killed + std::chrono::seconds(i);
    round.figures[fmt::format("second_{}_work_pct", i + 1)] =
        100 * timeline.work_rate(from, from + std::chrono::seconds(1)) / work_before;
  }
  for (Time from = killed - kRatesBefore; from < killed + kRatesAfter; from += kRateStep)
    round.rates.push_back(timeline.rate(from, from + kRateStep));
}

class Bench {
 public:
  Bench(App& app, const Options& options, TemporaryCluster& cluster)
      : app_(app),
        options_(options),
        cluster_(cluster),
        session_(cluster.session()),
        load_(session_, options.load, options.nodes),
        random_(options.seed) {}

  Status run(const std::vector<std::string>& targets, const std::vector<std::string>& signals) {
    if (auto ready = load_.prepare(app_); !ready) return ready;
    auto spec = load_.probe_spec();
    if (!spec) return spec.error();
    probe_spec_ = std::move(*spec);
    for (unsigned i = 0; i < options_.repeat; ++i) {
      for (const std::string& target : targets) {
        for (const std::string& signal : signals) {
          if (auto done = round(i + 1, target, signal); !done) return done;
        }
      }
    }
    return {};
  }
  [[nodiscard]] const std::vector<FailoverRound>& rounds() const { return rounds_; }

 private:
  Result<NodeId> choose(const std::string& target, const ClusterWatch& watch) {
    if (target == "coordinator") return watch.coordinator();
    std::vector<NodeId> others;
    for (const auto& [node, pid] : cluster_.cluster().running()) {
      if (node != watch.coordinator()) others.push_back(node);
    }
    if (others.empty()) return Error{Errc::conflict, "there is no node but the coordinator; say more --nodes"};
    random_.shuffle(others);
    return others.front();
  }

  Status round(unsigned number, const std::string& target, const std::string& signal) {
    if (auto running = load_.keep_running(); !running) return running;
    auto started = ClusterWatch::start(session_);
    if (!started) return started.error();
    ClusterWatch& watch = **started;
    if (watch.jobs().size() < 2) return Error{Errc::internal, "the two jobs do not run"};
    watch.measure_before();
    auto victim = choose(target, watch);
    if (!victim) return victim.error();
    // At any moment of the heartbeats and batches, not always at the same one.
    run_for(session_, std::chrono::milliseconds(random_.below(500)));

    auto probe = std::make_shared<Probe>();
    const int number_of_signal = signal_by_name(signal);
    const Status sent = watch.kill({*victim}, [&](const std::function<void()>& at_once) -> Status {
      auto signalled = cluster_.cluster().signal_together({*victim}, number_of_signal, at_once);
      return signalled ? Status() : Status(signalled.error());
    });
    if (!sent) return sent;
    MetadataClient::CallOptions call;
    call.timeout = kRoundLimit;
    session_.metadata().call<SubmitRequest>(
        SubmitRequest{probe_spec_},
        [probe](Result<SubmitReply> reply) {
          if (!reply) return;
          probe->accepted = monotonic_now();
          probe->job = reply->job;
        },
        call);
    ClusterWatch::Wanted wanted;
    wanted.takeover = target == "coordinator";
    const bool complete = watch.wait(
        wanted, kRoundLimit, [&] { return probe->accepted && monotonic_now() >= watch.timeline().killed_at() + kRatesAfter; });
    auto lost = watch.lost_queries();

    FailoverRound round;
    round.target = target;
    round.signal = signal;
    fill(round, watch, *victim, *probe);
    if (lost) round.figures["lost_queries"] = static_cast<double>(*lost);
    tell(number, round, *victim, complete, watch.timeline().lost_notices());
    rounds_.push_back(std::move(round));
    started->reset();
    return recover(*victim, number_of_signal, *probe);
  }

  void tell(unsigned number, const FailoverRound& round, NodeId victim, bool complete, std::uint64_t lost_notices) const {
    const auto figure = [&](const char* name) {
      const auto found = round.figures.find(name);
      return found == round.figures.end() ? std::string("-") : fmt::format("{:.0f}", found->second);
    };
    app_.note(
        fmt::format("round {}: SIG{} to the {} {}: known dead {} ms, new coordinator {} ms, submit {} ms, leased again {} ms, "
                    "normal {} ms, dip {} % for {} ms, gap {} ms{}{}",
                    number, round.signal, round.target, to_string(victim), figure("detected_ms"), figure("takeover_ms"),
                    figure("submit_ms"), figure("reassigned_ms"), figure("normal_ms"), figure("dip_pct"), figure("dip_ms"),
                    figure("longest_gap_ms"), complete ? "" : "; NOT everything recovered in time",
                    lost_notices == 0 ? "" : fmt::format("; {} events were lost on the way here", lost_notices)));
  }

  Status recover(NodeId victim, int signal, const Probe& probe) {
    if (signal == SIGSTOP) {
      if (auto woken = cluster_.cluster().signal(victim, SIGCONT); !woken) return woken.error();
    } else {
      auto pid = cluster_.cluster().start(victim);
      if (!pid) return pid.error();
    }
    if (auto healthy = wait_until_healthy(session_, options_.nodes); !healthy) return healthy;
    if (probe.job) (void)session_.metadata().call_and_wait(JobControlRequest{probe.job, JobAction::remove});
    run_for(session_, kFailoverSettle);
    return {};
  }

  App& app_;
  const Options& options_;
  TemporaryCluster& cluster_;
  Session& session_;
  FailoverLoad load_;
  Random random_;
  JobSpec probe_spec_;
  std::vector<FailoverRound> rounds_;
};

void bench_failover(App& app, const Options& options) {
  clean_up_when_interrupted();
  const std::vector<std::string> targets =
      options.target == "both" ? std::vector<std::string>{"worker", "coordinator"} : std::vector<std::string>{options.target};
  const std::vector<std::string> signals =
      options.signal == "both" ? std::vector<std::string>{"KILL", "STOP"} : std::vector<std::string>{options.signal};
  LocalCluster::Options wanted;
  wanted.nodes = options.nodes;
  wanted.slots = 1;
  auto cluster = TemporaryCluster::up(wanted, app.globals.timeout);
  if (!cluster) return app.fail(cluster.error(), kDoing);
  Bench bench(app, options, **cluster);
  const Status done = bench.run(targets, signals);
  // What was measured is worth showing even when a later round failed.
  if (!bench.rounds().empty()) {
    if (auto finished = failover_table(bench.rounds()).finish(app.globals, options.csv); !finished)
      return app.fail(finished.error(), kDoing);
    if (!options.svg.empty()) {
      if (auto drawn = run_gnuplot(failover_plot(bench.rounds(), options.svg)); !drawn) return app.fail(drawn.error(), kDoing);
    }
  }
  if (!done) app.fail(done.error(), kDoing);
}

}  // namespace

void add_bench_failover_command(CLI::App& bench, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = bench.add_subcommand(
      "failover", "kill the coordinator, or a worker, under two jobs, again and again: how long until all goes on as before");
  command->add_option("--repeat", options->repeat, "rounds of each kind (default 10)")
      ->check(CLI::Range(1U, 1000U))
      ->type_name("N");
  command->add_option("--nodes", options->nodes, "of the temporary cluster, one slot each (default 7)")
      ->check(CLI::Range(3U, kLocalNodesMax))
      ->type_name("N");
  command->add_option("--signal", options->signal, "KILL, STOP or both (default both)")
      ->check(CLI::IsMember({"KILL", "STOP", "both"}))
      ->type_name("SIGNAL");
  command->add_option("--target", options->target, "coordinator, worker or both (default both)")
      ->check(CLI::IsMember({"coordinator", "worker", "both"}))
      ->type_name("WHO");
  command->add_option("--models", options->load.models, "two architectures, random weights (default resnet18,alexnet)")
      ->type_name("NAMES");
  command
      ->add_option("--service", options->load.service,
                   "instead of models: an engine that takes TIME for a query and computes nothing")
      ->type_name("TIME");
  command->add_option("--batch", options->load.batch, "queries in a batch (default 4)")
      ->check(CLI::Range(1U, 256U))
      ->type_name("N");
  command->add_option("--images", options->load.images, "folder of JPEG or PNG files (default: made-up ones)")->type_name("DIR");
  command->add_option("--seed", options->seed, "of the choice of workers and moments (default 1)")->type_name("S");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->add_option("--svg", options->svg, "draw queries/s around the signal (needs gnuplot)")->type_name("FILE");
  command->callback([&app, options] { bench_failover(app, *options); });
  command->footer(
      "Example:\n  idunno bench failover --repeat 10 --csv failover.csv --svg failover.svg\n"
      "  idunno bench failover --target coordinator --signal KILL --repeat 30");
}

}  // namespace idunno::cli

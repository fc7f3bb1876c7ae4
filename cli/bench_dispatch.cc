#include <fmt/core.h>

#include <algorithm>
#include <thread>

#include "bus/clock.h"
#include "cli/bench.h"
#include "cli/jobs.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "bench dispatch";
constexpr char kData[] = "/bench/lines.csv";
constexpr double kWantedOneNode = 10000;
constexpr double kWantedFiveNodes = 3000;
constexpr unsigned kManyNodes = 5;

struct Options {
  std::uint64_t batches = 50000;
  std::string workers = "1,4,16";
  std::string csv;
  bool second_job = false;
  bool one_node = false;
};

SubmitOptions job_of(const std::string& model) {
  SubmitOptions submit;
  submit.model = model;
  submit.data = kData;
  return submit;
}

Status measure(App& app, unsigned nodes, std::uint32_t slots, std::uint64_t batches, double wanted, BenchTable& table) {
  LocalCluster::Options options;
  options.nodes = nodes;
  options.slots = slots;
  auto cluster = TemporaryCluster::up(options, app.globals.timeout);
  if (!cluster) return cluster.error();
  Session& session = (*cluster)->session();
  // A first, small job starts the executors: their start is no part of dispatching.
  if (auto ready = prepare_nothing(session, kData, "nothing", Duration::zero(), batches); !ready) return ready;
  Globals quiet = app.globals;
  quiet.quiet = true;
  auto warm = submit_job(session, job_of("nothing"));
  if (!warm) return warm.error();
  static constexpr Duration kWarm = std::chrono::seconds(2);
  auto warmed = wait_for_job(quiet, session, *warm, kWarm);
  if (!warmed && warmed.error().code != Errc::timeout) return warmed.error();
  if (!warmed) (void)session.metadata().call_and_wait(JobControlRequest{*warm, JobAction::stop});

  auto job = submit_job(session, job_of("nothing"));
  if (!job) return job.error();
  static constexpr Duration kLimit = std::chrono::minutes(10);
  auto report = wait_for_job(app.globals, session, *job, kLimit);
  if (!report) return report.error();
  if (report->state != JobState::done || report->errors != 0) {
    return Error{Errc::internal, fmt::format("{} ended {} with {} errors: {}", to_string(*job), to_string(report->state),
                                             report->errors, report->reason)};
  }
  const double seconds = static_cast<double>(std::max<WallMs>(report->finished_ms - report->submitted_ms, 1)) / 1000;
  const auto ms = [](std::uint64_t us) { return rounded_to(static_cast<double>(us) / 1000, 3); };
  table.add({{nodes, ""},
             {slots * nodes, ""},
             {batches, ""},
             {rounded_to(seconds, 3), ""},
             {rounded_to(static_cast<double>(batches) / seconds, 0), ""},
             {ms(report->latency.median_us), ""},
             {ms(report->latency.p99_us), ""},
             {wanted, ""}});
  return {};
}

void dispatch(App& app, const Options& options) {
  auto workers = parse_numbers(options.workers, 256);
  if (!workers) return app.usage("bench dispatch --workers: " + workers.error().detail);
  BenchTable table("idunno.bench_dispatch.v1", {{"nodes", "NODES", true},
                                                {"workers", "WORKERS", true},
                                                {"batches", "BATCHES", true},
                                                {"seconds", "SECONDS", true},
                                                {"batches_per_s", "BATCHES/s", true},
                                                {"p50_ms", "P50 ms", true},
                                                {"p99_ms", "P99 ms", true},
                                                {"wanted_per_s", "WANTED/s", true}});
  for (const std::uint32_t slots : *workers) {
    app.note(fmt::format("1 node, {} workers", slots));
    if (auto status = measure(app, 1, slots, options.batches, kWantedOneNode, table); !status)
      return app.fail(status.error(), kDoing);
  }
  if (!options.one_node) {
    app.note(fmt::format("{} nodes, 1 worker each, four copies of each result", kManyNodes));
    if (auto status = measure(app, kManyNodes, 1, options.batches, kWantedFiveNodes, table); !status)
      return app.fail(status.error(), kDoing);
  }
  table.footer =
      "the whole path: submit, lease, execute (an engine that computes nothing), result block on its replicas, commit, synced "
      "log, done;\n"
      "p50 and p99: from the start of a batch in its executor to its commit";
  if (auto finished = table.finish(app.globals, options.csv); !finished) app.fail(finished.error(), kDoing);
}

/// How long a new job waits when every slot is busy with another one.
Result<double> second_job_delay_ms(Session& session, const std::string& model) {
  auto job = submit_job(session, job_of(model));
  const WallMs returned = wall_now_ms();
  if (!job) return job.error();
  while (true) {
    auto report = job_report(session, *job);
    if (!report) return report.error();
    if (report->first_batch_ms != 0) {
      (void)session.metadata().call_and_wait(JobControlRequest{*job, JobAction::stop});
      return static_cast<double>(report->first_batch_ms) - static_cast<double>(returned);
    }
    if (is_over(report->state))
      return Error{Errc::internal, fmt::format("{} ended {} before a batch started", to_string(*job), to_string(report->state))};
    (void)session.loop().run_until([] { return false; }, monotonic_now() + std::chrono::milliseconds(5));
  }
}

Status second_job(App& app, const Options& options) {
  static constexpr Duration kService = std::chrono::milliseconds(200);
  static constexpr unsigned kRounds = 7;
  static constexpr std::uint64_t kQueries = 20000;
  static constexpr double kBesideMs = 50;
  LocalCluster::Options wanted;
  wanted.nodes = 2;
  wanted.slots = std::max(1U, std::thread::hardware_concurrency() / 2);
  auto cluster = TemporaryCluster::up(wanted, app.globals.timeout);
  if (!cluster) return cluster.error();
  Session& session = (*cluster)->session();
  if (auto ready = prepare_nothing(session, kData, "busy", kService, kQueries); !ready) return ready;
  auto busy = submit_job(session, job_of("busy"));
  if (!busy) return busy.error();
  const Time deadline = monotonic_now() + app.globals.timeout;
  for (bool all_busy = false; !all_busy;) {
    auto status = session.metadata().call_and_wait(StatusRequest{});
    if (!status) return status.error();
    all_busy = std::all_of(status->nodes.begin(), status->nodes.end(), [](const NodeReport& n) { return n.running >= n.slots; });
    if (!all_busy && monotonic_now() > deadline) return Error{Errc::timeout, "the first job did not fill all slots in time"};
    (void)session.loop().run_until([] { return false; }, monotonic_now() + std::chrono::milliseconds(50));
  }
  std::vector<double> delays;
  for (unsigned round = 0; round < kRounds; ++round) {
    auto delay = second_job_delay_ms(session, "busy");
    if (!delay) return delay.error();
    delays.push_back(*delay);
  }
  auto report = job_report(session, *busy);
  if (!report) return report.error();
  const double batch_ms = static_cast<double>(report->latency.mean_us) / 1000;
  const Spread spread = spread_of(delays);
  BenchTable table("idunno.bench_second_job.v1", {{"slots", "SLOTS", true},
                                                  {"batch_ms", "BATCH ms", true},
                                                  {"rounds", "ROUNDS", true},
                                                  {"delay_min_ms", "DELAY min ms", true},
                                                  {"delay_median_ms", "median", true},
                                                  {"delay_max_ms", "max", true},
                                                  {"wanted_ms", "WANTED", true}});
  table.add({{wanted.nodes * wanted.slots, ""},
             {rounded_to(batch_ms, 1), ""},
             {kRounds, ""},
             {spread.min, ""},
             {spread.median, ""},
             {spread.max, ""},
             {rounded_to(batch_ms + kBesideMs, 1), ""}});
  table.footer =
      "from submit returning to the new job's first batch starting, with all slots busy; wanted: one batch time of the running "
      "job + 50 ms";
  return table.finish(app.globals, options.csv);
}

}  // namespace

void add_bench_dispatch_command(CLI::App& bench, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench.add_subcommand("dispatch", "batches a second through the whole path, with an engine that computes nothing");
  command->add_option("--batches", options->batches, "of one query each (default 50000)")
      ->check(CLI::Range(100, 10000000))
      ->type_name("N");
  command->add_option("--workers", options->workers, "executors of the one node, one run for each (default 1,4,16)")
      ->type_name("K,...");
  command->add_flag("--one-node", options->one_node, "leave out the run with 5 nodes");
  command->add_flag("--second-job", options->second_job, "instead: how long a second job waits when all slots are busy");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->callback([&app, options] {
    clean_up_when_interrupted();
    if (!options->second_job) return dispatch(app, *options);
    if (auto status = second_job(app, *options); !status) app.fail(status.error(), "bench dispatch --second-job");
  });
  command->footer("Example:\n  idunno bench dispatch --workers 1,4,16 --csv dispatch.csv\n  idunno bench dispatch --second-job");
}

}  // namespace idunno::cli

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "bus/clock.h"
#include "cli/bench.h"
#include "cli/image_set.h"
#include "cli/jobs.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"
#include "cli/process.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr double kWantedRatio = 0.95;
constexpr char kDoing[] = "bench infer";

struct Options {
  double seconds = 20;
  std::string models = "resnet18,alexnet";
  std::uint32_t batch = 16;
  unsigned rounds = 3;
  std::string images;
  std::string csv;
};

/// One `cv::dnn` loop a core, all at the same time: images a second together.
Result<double> bare_rate(const BenchModel& model, const fs::path& images, const Options& options, unsigned cores,
                         double seconds) {
  auto executor = program_beside_us("idunno-executor");
  if (!executor) return executor.error();
  const std::vector<std::string> command{
      executor->string(), "bench-loop",    "--onnx",  model.onnx.string(),           "--spec",    model.spec.string(),
      "--images",         images.string(), "--batch", std::to_string(options.batch), "--seconds", fmt::format("{:.1f}", seconds)};
  auto finished = run_together(std::vector<std::vector<std::string>>(cores, command));
  if (!finished) return finished.error();
  double sum = 0;
  for (const Finished& one : *finished) {
    const Json result = Json::parse(one.out, nullptr, false);
    if (one.exit_code != 0 || !result.is_object() || !result.contains("images_per_s")) {
      return Error{Errc::internal, fmt::format("the bare loop for {} ended with {}", model.name, one.text())};
    }
    sum += result["images_per_s"].get<double>();
  }
  return sum;
}

struct ClusterRate {
  double steady = 0;  ///< images a second while every slot is busy
  double whole = 0;   ///< from the first batch's start (model loading included) to the last commit
};

/// Both ends of the steady part lie where a commit has just come, so that the batches in progress count for neither or both.
Result<ClusterRate> cluster_rate(Session& session, const std::string& model, const std::string& data, const Options& options,
                                 unsigned slots) {
  SubmitOptions submit;
  submit.model = model;
  submit.data = data;
  submit.batch = std::to_string(options.batch);
  auto job = submit_job(session, submit);
  if (!job) return job.error();
  // Looking costs processor time that is missing in what is measured: five times as often took 3 % of two cores.
  static constexpr Duration kLook = std::chrono::milliseconds(25);
  const std::uint64_t wave = std::uint64_t{slots} * options.batch;
  std::uint64_t first_done = 0;
  std::uint64_t last_done = 0;
  Time first_at;
  Time last_at;
  while (true) {
    auto report = job_report(session, *job);
    if (!report) return report.error();
    const Time now = monotonic_now();
    if (first_done == 0 && report->done >= 2 * wave) {
      first_done = last_done = report->done;
      first_at = last_at = now;
    } else if (first_done != 0 && report->done > last_done && report->done + wave <= report->spec.queries) {
      last_done = report->done;
      last_at = now;
    }
    if (is_over(report->state)) {
      if (report->state != JobState::done)
        return Error{Errc::internal, fmt::format("{} ended {}: {}", to_string(*job), to_string(report->state), report->reason)};
      if (report->errors > 0)
        return Error{Errc::internal, fmt::format("{} of {} images had errors", report->errors, report->spec.queries)};
      ClusterRate rate;
      const double span = std::chrono::duration<double>(last_at - first_at).count();
      if (span <= 0) return Error{Errc::invalid, "the run is too short to measure; say more --seconds"};
      rate.steady = static_cast<double>(last_done - first_done) / span;
      rate.whole = static_cast<double>(report->spec.queries) * 1000 /
                   static_cast<double>(std::max<WallMs>(report->finished_ms - report->first_batch_ms, 1));
      return rate;
    }
    (void)session.loop().run_until([] { return false; }, now + kLook);
  }
}

Result<unsigned> add_rows(App& app, const Options& options, Session& session, const BenchModel& model, const fs::path& images,
                          unsigned cores, BenchTable& table) {
  // Also warms the page cache, so that neither side pays for that.
  auto probe = bare_rate(model, images, options, cores, std::min(options.seconds, 3.0));
  if (!probe) return probe.error();
  const std::uint64_t wave = std::uint64_t{cores} * options.batch;
  const auto count = std::max<std::uint64_t>(static_cast<std::uint64_t>(*probe * options.seconds) / wave + 4, 8) * wave;
  const std::string data = "/bench/" + model.name;
  app.note(fmt::format("{}: {} images, {} rounds of bare and cluster in turn", model.name, count, options.rounds));
  if (auto put = upload_images(session, images, count, data); !put) return put.error();
  auto version = add_model(session, model.name, model.onnx.string(), model.spec_toml, "", "bench, random weights");
  if (!version) return version.error();
  std::vector<double> bare;
  std::vector<double> steady;
  std::vector<double> whole;
  std::vector<double> ratios;
  for (unsigned round = 0; round < options.rounds; ++round) {
    auto one = bare_rate(model, images, options, cores, options.seconds);
    if (!one) return one.error();
    auto other = cluster_rate(session, model.name, data, options, cores);
    if (!other) return other.error();
    bare.push_back(*one);
    steady.push_back(other->steady);
    whole.push_back(other->whole);
    ratios.push_back(other->steady / *one);
    app.note(fmt::format("  round {}: bare {:.1f}, cluster {:.1f} images/s (whole job {:.1f}), ratio {:.3f}", round + 1, *one,
                         other->steady, other->whole, ratios.back()));
  }
  const Spread ratio = spread_of(ratios);
  table.add({{model.name, ""},
             {options.batch, ""},
             {cores, ""},
             {rounded_to(spread_of(bare).median, 2), ""},
             {rounded_to(spread_of(steady).median, 2), ""},
             {rounded_to(spread_of(whole).median, 2), ""},
             {rounded_to(ratio.min, 3), ""},
             {rounded_to(ratio.median, 3), ""},
             {rounded_to(ratio.max, 3), ""},
             {kWantedRatio, ""}});
  (void)session.metadata().call_and_wait(FsRemoveRequest{{data}, true});
  return 0U;
}

void bench_infer(App& app, const Options& options) {
  clean_up_when_interrupted();
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  auto scratch = ScratchFolder::make();
  if (!scratch) return app.fail(scratch.error(), kDoing);
  std::vector<BenchModel> models;
  for (const std::string& name : split_commas(options.models)) {
    auto model = make_bench_model(name, (*scratch)->path());
    if (!model) return app.fail(model.error(), kDoing);
    models.push_back(std::move(model).value());
  }
  fs::path images = options.images;
  if (images.empty()) {
    images = (*scratch)->path() / "images";
    static constexpr std::uint64_t kImages = 64;
    static constexpr std::uint32_t kSide = 256;
    if (auto made = make_images(images, kImages, kSide, 1); !made) return app.fail(made.error(), kDoing);
  }
  LocalCluster::Options wanted;
  wanted.nodes = cores >= 2 ? 2 : 1;
  wanted.slots = cores / wanted.nodes;
  const unsigned slots = wanted.nodes * wanted.slots;
  auto cluster = TemporaryCluster::up(wanted, app.globals.timeout);
  if (!cluster) return app.fail(cluster.error(), kDoing);
  app.note(fmt::format("temporary cluster: {} nodes of {} slot{}, beside {} bare loops", wanted.nodes, wanted.slots,
                       wanted.slots == 1 ? "" : "s", slots));
  BenchTable table("idunno.bench_infer.v1", {{"model", "MODEL"},
                                             {"batch", "BATCH", true},
                                             {"slots", "SLOTS", true},
                                             {"bare_images_per_s", "BARE images/s", true},
                                             {"cluster_images_per_s", "CLUSTER images/s", true},
                                             {"whole_job_images_per_s", "WHOLE JOB", true},
                                             {"ratio_min", "RATIO min", true},
                                             {"ratio_median", "median", true},
                                             {"ratio_max", "max", true},
                                             {"wanted", "WANTED", true}});
  for (const BenchModel& model : models) {
    auto added = add_rows(app, options, (*cluster)->session(), model, images, slots, table);
    if (!added) return app.fail(added.error(), fmt::format("{} {}", kDoing, model.name));
  }
  table.footer =
      "bare: one single-threaded cv::dnn loop a core; cluster: while all slots are busy; whole job: model loading and the last "
      "batches included";
  if (auto finished = table.finish(app.globals, options.csv); !finished) app.fail(finished.error(), kDoing);
}

}  // namespace

void add_bench_infer_command(CLI::App& bench, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench.add_subcommand("infer", "images a second of a cluster job beside a bare cv::dnn loop on the same cores");
  command->add_option("--seconds", options->seconds, "of each measurement (default 20)")
      ->check(CLI::Range(1.0, 3600.0))
      ->type_name("S");
  command->add_option("--models", options->models, "architectures (default resnet18,alexnet)")->type_name("NAMES");
  command->add_option("--batch", options->batch, "queries in a batch (default 16)")->check(CLI::Range(1U, 1024U))->type_name("N");
  command->add_option("--rounds", options->rounds, "of bare and cluster in turn (default 3)")
      ->check(CLI::Range(1U, 100U))
      ->type_name("N");
  command->add_option("--images", options->images, "folder of JPEG or PNG files (default: made-up ones)")->type_name("DIR");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->callback([&app, options] { bench_infer(app, *options); });
  command->footer("Example:\n  idunno bench infer --seconds 10 --models resnet18");
}

}  // namespace idunno::cli

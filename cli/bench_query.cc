/// `idunno bench query`: how long a user waits for the answer to one image, with and without batch work beside it.

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "bus/clock.h"
#include "cli/bench.h"
#include "cli/image_set.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"
#include "cli/query.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kDoing[] = "bench query";
constexpr char kImages[] = "/bench/images";
constexpr std::uint64_t kImageCount = 64;
constexpr std::uint32_t kImageSide = 256;

struct Options {
  unsigned repeat = 50;
  std::string models = "resnet18,alexnet";
  std::uint32_t batch = 16;
  unsigned nodes = 2;
  std::string csv;
};

/// The smallest value that `share` of them do not exceed (nearest rank).
double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size())));
  return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
}

Status measure(App& app, Session& session, const Options& options, const std::string& model, const fs::path& image,
               const std::string& load, BenchTable& table) {
  auto ends = JobEnds::watch(session);
  if (!ends) return ends.error();
  QueryOptions query;
  query.model = model;
  query.files = {image.string()};
  query.timeout = app.globals.timeout;
  std::vector<double> totals;
  std::vector<double> waits;
  for (unsigned i = 0; i <= options.repeat; ++i) {
    auto answer = run_query(session, **ends, query);
    if (!answer) return answer.error();
    if (i == 0) continue;  // loads the model
    totals.push_back(answer->times.total_ms);
    waits.push_back(answer->times.wait_ms);
  }
  table.add({{model, ""},
             {load, ""},
             {options.repeat, ""},
             {rounded_to(percentile(totals, 0.5), 1), ""},
             {rounded_to(percentile(totals, 0.9), 1), ""},
             {rounded_to(percentile(totals, 0.99), 1), ""},
             {rounded_to(percentile(totals, 1), 1), ""},
             {rounded_to(percentile(waits, 0.5), 1), ""}});
  return {};
}

/// Two jobs without end, so that every slot is busy all the time.
Result<std::vector<JobId>> keep_busy(App& app, Session& session, const Options& options, const std::vector<std::string>& models) {
  std::vector<JobId> jobs;
  for (const std::string& model : models) {
    SubmitOptions submit;
    submit.model = model;
    submit.data = kImages;
    submit.batch = std::to_string(options.batch);
    submit.repeat = 0;
    auto job = submit_job(session, submit);
    if (!job) return job.error();
    jobs.push_back(*job);
  }
  const Time deadline = monotonic_now() + app.globals.timeout;
  for (const JobId job : jobs) {
    while (true) {
      auto report = job_report(session, job);
      if (!report) return report.error();
      if (report->done > 0) break;
      if (monotonic_now() > deadline) return Error{Errc::timeout, to_string(job) + " has not begun in time"};
      (void)session.loop().run_until([] { return false; }, monotonic_now() + std::chrono::milliseconds(100));
    }
  }
  return jobs;
}

Status bench(App& app, const Options& options, BenchTable& table) {
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  const fs::path images = (*scratch)->path() / "images";
  if (auto made = make_images(images, kImageCount, kImageSide, 1); !made) return made;
  const fs::path image = fs::directory_iterator(images)->path();
  LocalCluster::Options wanted;
  wanted.nodes = options.nodes;
  wanted.slots = std::max(1U, std::thread::hardware_concurrency() / options.nodes);
  auto cluster = TemporaryCluster::up(wanted, app.globals.timeout);
  if (!cluster) return cluster.error();
  Session& session = (*cluster)->session();
  if (auto put = upload_images(session, images, kImageCount, kImages); !put) return put;
  const std::vector<std::string> models = split_commas(options.models);
  for (const std::string& name : models) {
    auto model = make_bench_model(name, (*scratch)->path());
    if (!model) return model.error();
    auto version = add_model(session, name, model->onnx.string(), model->spec_toml, "", "bench, random weights");
    if (!version) return version.error();
  }
  for (const std::string& model : models) {
    if (auto idle = measure(app, session, options, model, image, "idle", table); !idle) return idle;
  }
  auto jobs = keep_busy(app, session, options, models);
  if (!jobs) return jobs.error();
  const std::string load = fmt::format("{} jobs, batch {}", jobs->size(), options.batch);
  for (const std::string& model : models) {
    if (auto busy = measure(app, session, options, model, image, load, table); !busy) return busy;
  }
  return {};
}

}  // namespace

void add_bench_query_command(CLI::App& command, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* query = command.add_subcommand("query", "latency of one image sent by hand, with idle workers and beside batch jobs");
  query->add_option("--repeat", options->repeat, "queries of each kind (default 50)")
      ->check(CLI::Range(1U, 100000U))
      ->type_name("N");
  query->add_option("--models", options->models, "architectures, each queried and each a batch job (default resnet18,alexnet)")
      ->type_name("NAMES");
  query->add_option("--batch", options->batch, "of the batch jobs (default 16)")->check(CLI::Range(1U, 1024U))->type_name("N");
  query->add_option("--nodes", options->nodes, "of the temporary cluster (default 2)")
      ->check(CLI::Range(1U, 32U))
      ->type_name("N");
  query->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  query->callback([&app, options] {
    clean_up_when_interrupted();
    BenchTable table("idunno.bench_query.v1", {{"model", "MODEL"},
                                               {"load", "BESIDE"},
                                               {"queries", "QUERIES", true},
                                               {"median_ms", "MEDIAN ms", true},
                                               {"p90_ms", "P90", true},
                                               {"p99_ms", "P99", true},
                                               {"max_ms", "MAX", true},
                                               {"computed_median_ms", "OF THAT COMPUTED", true}});
    table.footer = "from the local file to its row: stored in SDFS, submitted, computed (leased, fetched, run, committed), read";
    if (auto done = bench(app, *options, table); !done) return app.fail(done.error(), kDoing);
    if (auto finished = table.finish(app.globals, options->csv); !finished) app.fail(finished.error(), kDoing);
  });
  query->footer("Example:\n  idunno bench query --repeat 200 --csv query.csv");
}

}  // namespace idunno::cli

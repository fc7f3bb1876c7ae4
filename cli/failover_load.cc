#include "cli/failover_load.h"

#include <fmt/core.h>

#include <utility>

#include "bus/clock.h"
#include "bus/names.h"
#include "bus/units.h"
#include "cli/bench.h"
#include "cli/cluster_watch.h"
#include "cli/image_set.h"
#include "cli/jobs.h"
#include "cli/model_store.h"
#include "cli/process.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kImages[] = "/bench/images";
constexpr char kLines[] = "/bench/lines.csv";
constexpr char kProbe[] = "probe";  ///< the model of the job that is submitted during the takeover
constexpr char kProbeLines[] = "/bench/probe.csv";
constexpr std::uint64_t kImageCount = 256;
constexpr std::uint64_t kJobQueries = 100000;

}  // namespace

Status FailoverLoad::prepare(App& app) {
  // One query for the probe jobs, which must not wait for anything but the cluster.
  if (auto ready = prepare_nothing(session_, kProbeLines, kProbe, Duration::zero(), 1); !ready) return ready;
  if (!options_.service.empty()) {
    auto service = parse_duration(options_.service);
    if (!service) return service.error();
    for (const char* name : {"first", "second"}) {
      if (auto ready = prepare_nothing(session_, kLines, name, *service, kImageCount); !ready) return ready;
      models_.emplace_back(name);
    }
    data_ = kLines;
    return {};
  }
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  fs::path images = options_.images;
  if (images.empty()) {
    images = (*scratch)->path() / "images";
    static constexpr std::uint64_t kDifferent = 64;
    static constexpr std::uint32_t kSide = 256;
    if (auto made = make_images(images, kDifferent, kSide, 1); !made) return made;
  }
  if (auto put = upload_images(session_, images, kImageCount, kImages); !put) return put;
  for (const std::string& name : split_commas(options_.models)) {
    app.note(fmt::format("adding {} with random weights", name));
    auto model = make_bench_model(name, (*scratch)->path());
    if (!model) return model.error();
    auto version = add_model(session_, name, model->onnx.string(), model->spec_toml, "", "bench, random weights");
    if (!version) return version.error();
    models_.push_back(name);
  }
  data_ = kImages;
  if (models_.size() != 2) return Error{Errc::invalid, "--models: two are wanted, one for each job"};
  return {};
}

Status FailoverLoad::keep_running() {
  for (const std::string& model : models_) {
    auto found = jobs_.find(model);
    if (found != jobs_.end()) {
      auto report = job_report(session_, found->second);
      if (!report) return report.error();
      if (report->state == JobState::failed) return Error{Errc::internal, "job " + model + " failed: " + report->reason};
      if (!is_over(report->state) && report->done < total_of(*report) / 2) continue;
      (void)session_.metadata().call_and_wait(JobControlRequest{found->second, JobAction::stop});
    }
    SubmitOptions submit;
    submit.model = model;
    submit.data = data_;
    submit.batch = std::to_string(options_.batch);
    submit.repeat = static_cast<std::uint32_t>(kJobQueries / kImageCount);
    auto job = submit_job(session_, submit);
    if (!job) return job.error();
    jobs_[model] = *job;
    fresh_ = true;
  }
  return wait_for_rates();
}

Result<JobSpec> FailoverLoad::probe_spec() {
  SubmitOptions submit;
  submit.model = kProbe;
  submit.data = kProbeLines;
  auto job = submit_job(session_, submit);
  if (!job) return job.error();
  auto report = job_report(session_, *job);
  if (!report) return report.error();
  return report->spec;
}

Status FailoverLoad::wait_for_rates() {
  if (!std::exchange(fresh_, false)) return {};
  const Time deadline = monotonic_now() + kHealthyLimit;
  while (monotonic_now() < deadline) {
    bool all = true;
    for (const auto& [model, job] : jobs_) {
      auto report = job_report(session_, job);
      if (!report) return report.error();
      all = all && report->batches_done >= 2ULL * nodes_ && report->rate_milli_qps > 0;
    }
    if (all) {
      run_for(session_, kFailoverSettle);
      return {};
    }
    run_for(session_, std::chrono::milliseconds(100));
  }
  return Error{Errc::timeout, "the jobs did not get going in time"};
}

}  // namespace idunno::cli

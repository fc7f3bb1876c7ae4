#include <fmt/core.h>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/jobs.h"
#include "cli/reports.h"

namespace idunno::cli {

Result<JobReport> job_report(Session& session, JobId job, std::uint32_t window_s) {
  JobReportsRequest request;
  request.jobs = {job};
  request.window_s = window_s;
  auto reports = session.metadata().call_and_wait(request);
  if (!reports) return reports.error();
  for (JobReport& report : reports->jobs) {
    if (report.id == job) return std::move(report);
  }
  return Error{Errc::not_found, fmt::format("no job {}; `idunno job list` shows what is there", to_string(job))};
}

Result<JobReport> wait_for_job(const Globals& globals, Session& session, JobId job, std::optional<Duration> limit) {
  static constexpr Duration kLook = std::chrono::milliseconds(100);
  const Time began = monotonic_now();
  const Time deadline = limit ? began + *limit : kNever;
  std::unique_ptr<ProgressBar> bar;
  while (true) {
    auto report = job_report(session, job);
    if (!report) return report.error();
    if (!bar)
      bar = std::make_unique<ProgressBar>(globals, fmt::format("{} {}", to_string(job), report->spec.name), "queries",
                                          total_of(*report));
    if (report->spec.follow) bar->set_total(total_of(*report));
    bar->update(report->done);
    if (is_over(report->state)) {
      if (report->state == JobState::done) bar->finish();
      return report;
    }
    const Time now = monotonic_now();
    if (now >= deadline) {
      return Error{Errc::timeout,
                   fmt::format("{} is {} with {} of {} queries done after {}; it goes on", to_string(job),
                               to_string(report->state), report->done, total_of(*report), format_duration(now - began))};
    }
    (void)session.loop().run_until([] { return false; }, std::min(deadline, now + kLook));
  }
}

std::optional<JobReport> wait_and_tell(App& app, Session& session, JobId job, const std::string& doing) {
  const auto limit = app.globals.timeout_given ? std::optional<Duration>(app.globals.timeout) : std::nullopt;
  auto report = wait_for_job(app.globals, session, job, limit);
  if (!report) {
    const std::string next =
        report.error().code == Errc::timeout ? fmt::format("`idunno job wait {}` waits on", to_string(job)) : "";
    app.fail(report.error(), doing, next);
    return std::nullopt;
  }
  app.exit_code = exit_code_of(*report);
  const std::string why = report->reason.empty() ? "" : ": " + report->reason;
  if (report->state == JobState::failed) {
    app.fail(Error{Errc::internal, fmt::format("{} failed{}", to_string(job), why)}, doing,
             fmt::format("`idunno job show {}` tells more", to_string(job)));
    app.exit_code = kJobFailed;
  } else if (report->state == JobState::stopped) {
    app.note(fmt::format("{} was stopped with {} of {} queries done{}", to_string(job), report->done, total_of(*report), why));
  } else {
    app.note(fmt::format("{} done: {} queries, {} with errors; digest {}", to_string(job), report->done, report->errors,
                         idunno::to_string(report->digest)));
    if (report->errors > 0) app.note(fmt::format("`idunno job errors {}` shows which", to_string(job)));
  }
  return std::move(report).value();
}

}  // namespace idunno::cli

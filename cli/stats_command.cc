#include <fmt/core.h>

#include <cstdlib>
#include <cstring>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/jobs.h"
#include "cli/reports.h"
#include "cli/stats_history.h"

namespace idunno::cli {

namespace {

struct Options {
  std::vector<std::string> jobs;
  std::string window = "10s";
  std::string assert_fair;
  std::string since = "24h";
  bool fair = false;
  bool history = false;
  bool nodes = false;
};

/// "10%" or "10": 10.
Result<double> parse_percent(std::string text) {
  if (!text.empty() && text.back() == '%') text.pop_back();
  char* end = nullptr;
  const double percent = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(percent >= 0 && percent <= 1000))
    return Error{Errc::invalid, "--assert-fair: a percentage such as 10% is wanted"};
  return percent;
}

Result<std::vector<JobId>> resolve_jobs(Session& session, const std::vector<std::string>& names) {
  std::vector<JobId> jobs;
  for (const std::string& name : names) {
    auto id = resolve_job(session, name);
    if (!id) return id.error();
    jobs.push_back(*id);
  }
  return jobs;
}

void stats(App& app, const Options& options) {
  static constexpr char kDoing[] = "stats";
  JobReportsRequest request;
  auto window = parse_duration(options.window);
  if (!window) return app.fail(window.error(), "stats --window");
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(*window).count();
  if (seconds < 1 || seconds > 60) return app.usage(fmt::format("stats --window {}: must be from 1s to 60s", options.window));
  request.window_s = static_cast<std::uint32_t>(seconds);
  std::optional<double> percent;
  if (!options.assert_fair.empty()) {
    auto parsed = parse_percent(options.assert_fair);
    if (!parsed) return app.fail(parsed.error(), kDoing);
    percent = *parsed;
  }
  Session* session = app.session();
  if (session == nullptr) return;
  auto jobs = resolve_jobs(*session, options.jobs);
  if (!jobs) return app.fail(jobs.error(), kDoing);
  request.jobs = std::move(*jobs);
  auto reports = session->metadata().call_and_wait(request);
  if (!reports) return app.fail(reports.error(), kDoing);
  if (reports->jobs.size() < request.jobs.size())
    return app.fail(Error{Errc::not_found, "not all of these jobs exist; `idunno job list` shows what is there"}, kDoing);
  const bool as_bars = options.fair && app.globals.format == Format::table;
  (as_bars ? fairness_listing(*reports) : stats_listing(*reports)).print(app.globals);
  if (!percent) return;
  if (const auto why = unfair(reports->fairness, *percent)) {
    app.fail(Error{Errc::internal, *why}, "stats --assert-fair");
    app.exit_code = kAssertion;
  }
}

/// Curves of block characters where they can be seen.
bool unicode_terminal() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0')
      return std::strstr(value, "UTF-8") != nullptr || std::strstr(value, "utf8") != nullptr;
  }
  return false;
}

void history(App& app, const Options& options) {
  static constexpr char kDoing[] = "stats --history";
  auto since = parse_duration(options.since);
  if (!since) return app.fail(since.error(), "stats --since");
  Session* session = app.session();
  if (session == nullptr) return;
  // Also of jobs that were removed meanwhile: then the id as it is.
  std::vector<std::string> jobs;
  for (const std::string& name : options.jobs) {
    auto id = resolve_job(*session, name);
    jobs.push_back(id ? to_string(*id) : name);
  }
  const WallMs now = wall_now_ms();
  const auto back = static_cast<WallMs>(std::chrono::duration_cast<std::chrono::milliseconds>(*since).count());
  auto samples = read_history(session->sdfs(), now > back ? now - back : 0);
  if (!samples) return app.fail(samples.error(), kDoing);
  if (app.globals.format == Format::table) {
    history_summary(*samples, jobs, options.nodes, unicode_terminal()).print(app.globals);
  } else {
    history_rows(*samples, jobs, options.nodes).print(app.globals);
  }
}

}  // namespace

void add_stats_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("stats", "progress, rates, processing times and fairness of jobs, now and in the past");
  command->add_option("job,--job", options->jobs, "ids or names (default: all)")->type_name("J...");
  command->add_option("--window", options->window, "over which the present rate is measured, 1s to 60s (default 10s)")
      ->type_name("TIME");
  command->add_flag("--fair", options->fair, "rate by weight of each job, how far it is from the mean, and the worst window");
  command->add_option("--assert-fair", options->assert_fair, "exit code 11 when the max/min ratio of the rates is over 1 + this")
      ->type_name("PCT");
  auto* past = command->add_flag("--history", options->history, "what was: a sample every 10 s in which a job ran, kept in SDFS");
  command->add_option("--since", options->since, "how far back the history is read (default 24h)")
      ->type_name("TIME")
      ->needs(past);
  command->add_flag("--nodes", options->nodes, "the history of nodes instead of jobs")->needs(past);
  command->callback([&app, options] { options->history ? history(app, *options) : stats(app, *options); });
  command->footer(
      "Example:\n  idunno stats\n  idunno stats --fair\n  idunno stats --assert-fair 10%\n"
      "  idunno stats --history --since 1h -o csv > rates.csv");
}

}  // namespace idunno::cli

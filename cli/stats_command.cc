#include <fmt/core.h>

#include <cstdlib>

#include "bus/units.h"
#include "cli/jobs.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

struct Options {
  std::vector<std::string> jobs;
  std::string window = "10s";
  std::string assert_fair;
  bool fair = false;
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

/// Now, or, when fewer than two jobs run now, the last time that there were two.
void assert_fair(App& app, const FairnessReport& fairness, double percent) {
  const std::uint64_t milli = fairness.max_min_milli != 0 ? fairness.max_min_milli : fairness.last_max_min_milli;
  const auto not_met = [&](const std::string& why) {
    app.fail(Error{Errc::internal, why}, "stats --assert-fair");
    app.exit_code = kAssertion;
  };
  if (milli == 0) return not_met("no 10 s window in which two jobs ran throughout, so nothing to compare");
  if (from_milli(milli) > 1 + percent / 100)
    return not_met(fmt::format("the max/min ratio is {:.3f}, more than {:.3f}", from_milli(milli), 1 + percent / 100));
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
  for (const std::string& name : options.jobs) {
    auto id = resolve_job(*session, name);
    if (!id) return app.fail(id.error(), kDoing);
    request.jobs.push_back(*id);
  }
  auto reports = session->metadata().call_and_wait(request);
  if (!reports) return app.fail(reports.error(), kDoing);
  if (reports->jobs.size() < request.jobs.size())
    return app.fail(Error{Errc::not_found, "not all of these jobs exist; `idunno job list` shows what is there"}, kDoing);
  Listing listing = stats_listing(*reports);
  if (options.fair && listing.footer.empty())
    listing.footer = "fairness: no 10 s window yet in which two or more jobs ran throughout";
  listing.print(app.globals);
  if (percent) assert_fair(app, reports->fairness, *percent);
}

}  // namespace

void add_stats_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("stats", "progress, rates, processing times and fairness of jobs");
  command->add_option("job", options->jobs, "ids or names (default: all)")->type_name("J...");
  command->add_option("--window", options->window, "over which the present rate is measured, 1s to 60s (default 10s)")
      ->type_name("TIME");
  command->add_flag("--fair", options->fair, "say it also when there is nothing to compare yet");
  command->add_option("--assert-fair", options->assert_fair, "exit code 11 when the max/min ratio of the rates is over 1 + this")
      ->type_name("PCT");
  command->callback([&app, options] { stats(app, *options); });
  command->footer("Example:\n  idunno stats\n  idunno stats --assert-fair 10%");
}

}  // namespace idunno::cli

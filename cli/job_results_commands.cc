#include "cli/job_results_commands.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "cli/jobs.h"
#include "cli/manifest_names.h"
#include "cli/reports.h"
#include "cli/result_check.h"
#include "cli/result_writer.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

struct ResultsOptions {
  std::string job;
  std::string file;
  bool follow = false;
};

/// Rows of the result that is kept: of a job without end, those of one pass.
std::uint64_t rows_wanted(const JobReport& report) { return total_of(report) == 0 ? report.spec.queries : total_of(report); }

Status to_stdout(std::string_view bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), stdout) == bytes.size()) return {};
  return Error{Errc::full, "writing to stdout failed"};
}

void results(App& app, const ResultsOptions& options) {
  static constexpr char kDoing[] = "job results";
  ResultFormat format = app.globals.format == Format::csv ? ResultFormat::csv : ResultFormat::jsonl;
  const bool to_file = !options.file.empty() && options.file != "-";
  if (to_file) {
    auto by_name = result_format_of(options.file);
    if (!by_name) return app.fail(by_name.error(), kDoing);
    format = *by_name;
  }
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = resolve_job(*session, options.job);
  if (!id) return app.fail(id.error(), kDoing);
  auto report = job_report(*session, *id);
  if (!report) return app.fail(report.error(), kDoing);

  std::unique_ptr<AtomicFile> file;
  if (to_file) {
    auto created = AtomicFile::create(options.file);
    if (!created) return app.fail(created.error(), kDoing);
    file = std::move(created).value();
  }
  auto writer = make_result_writer(format, rows_wanted(*report),
                                   [&](std::string_view bytes) { return file ? file->write(bytes) : to_stdout(bytes); });
  std::unique_ptr<ProgressBar> bar;
  if (to_file) bar = std::make_unique<ProgressBar>(app.globals, "results", "queries", rows_wanted(*report));
  auto totals = read_results(*session, *id, options.follow, [&](const ResultBlock& block) {
    if (auto status = writer->rows(block.rows.view()); !status) return status;
    if (bar) bar->update(std::min<std::uint64_t>((block.batch + 1) * report->spec.batch, rows_wanted(*report)));
    if (!to_file && options.follow) std::fflush(stdout);
    return Status();
  });
  if (!totals) return app.fail(totals.error(), kDoing);
  if (auto finished = writer->finish(); !finished) return app.fail(finished.error(), kDoing);
  if (bar) bar->finish();
  if (file) {
    if (auto kept = file->commit(); !kept) return app.fail(kept.error(), kDoing);
  }
  if (totals->delivered < totals->batches) {
    app.note(fmt::format("{} is {}: {} of {} batches have a result{}", to_string(*id), to_string(totals->state),
                         totals->delivered, totals->batches, is_over(totals->state) ? "" : "; --follow waits for the others"));
  }
}

void errors(App& app, const std::string& name) {
  static constexpr char kDoing[] = "job errors";
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = resolve_job(*session, name);
  if (!id) return app.fail(id.error(), kDoing);
  auto report = job_report(*session, *id);
  if (!report) return app.fail(report.error(), kDoing);
  Listing listing("idunno.job_errors.v1", "errors", {{"index", "INDEX", true}, {"query", "QUERY"}, {"error", "ERROR"}});
  std::uint64_t found = 0;
  if (report->errors > 0) {
    auto totals = read_results(*session, *id, false, [&](const ResultBlock& block) {
      std::string_view rows = block.rows.view();
      while (!rows.empty()) {
        const std::size_t length = std::min(rows.find('\n'), rows.size());
        const Json row = Json::parse(rows.substr(0, length), nullptr, false);
        if (row.is_object() && row.contains("error")) {
          listing.add({{row.value("index", std::uint64_t{0}), ""}, {row.value("query", ""), ""}, {row["error"], ""}});
          ++found;
        }
        rows.remove_prefix(std::min(length + 1, rows.size()));
      }
      return Status();
    });
    if (!totals) return app.fail(totals.error(), kDoing);
  }
  listing.extra["job"] = to_string(*id);
  if (found == 0) app.note(fmt::format("{}: no query with an error so far", to_string(*id)));
  if (found > 0 || app.globals.format != Format::table) listing.print(app.globals);
}

/// Done, or a job that would never be done by itself, which was stopped with all done that had come.
Status check_complete(const JobReport& report) {
  const bool goes_on = report.spec.follow || report.spec.repeat == 0;
  const bool complete = report.spec.repeat == 0 ? report.digest != Hash128{} : report.done == total_of(report);
  if (report.state == JobState::done || (goes_on && report.state == JobState::stopped && complete)) return {};
  return Error{Errc::conflict, fmt::format("{} is {} with {} queries done{}; only a job that is done can be complete",
                                           to_string(report.id), to_string(report.state), report.done,
                                           total_of(report) == 0 ? "" : fmt::format(" of {}", total_of(report)))};
}

void verify(App& app, const std::string& name) {
  static constexpr char kDoing[] = "job verify";
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = resolve_job(*session, name);
  if (!id) return app.fail(id.error(), kDoing);
  auto report = job_report(*session, *id);
  if (!report) return app.fail(report.error(), kDoing);
  if (auto complete = check_complete(*report); !complete) {
    const bool goes_on = report->spec.follow || report->spec.repeat == 0;
    const std::string next = fmt::format("`idunno job {} {}` first", goes_on ? "stop" : "wait", to_string(*id));
    return app.fail(complete.error(), kDoing, is_over(report->state) ? "" : next);
  }
  ManifestNames names(*session, *report);
  if (auto opened = names.open(); !opened) return app.fail(opened.error(), kDoing);
  ResultCheck check(rows_wanted(*report), report->spec.batch, [&](std::uint64_t query) { return names.name(query); });
  if (report->spec.repeat != 1) check.passes_of(report->spec.queries);
  if (report->spec.follow) check.parts_end([&](std::uint64_t query) { return names.part_end(query); });
  ProgressBar bar(app.globals, "verify", "queries", rows_wanted(*report));
  std::uint64_t batches = 0;
  auto totals = read_results(*session, *id, false, [&](const ResultBlock& block) {
    ++batches;
    if (auto status = check.block(block.batch, block.rows.view()); !status) return status;
    bar.update(check.rows());
    return Status();
  });
  Status good = totals ? check.finish() : Status(totals.error());
  if (good && check.digest() != report->digest) {
    good = Error{Errc::damaged, fmt::format("the rows' digest is {}, the coordinator has {}", idunno::to_string(check.digest()),
                                            idunno::to_string(report->digest))};
  }
  // Of a job without end only one pass is here, and all were counted.
  if (good && report->spec.repeat != 0 && check.errors() != report->errors) {
    good = Error{Errc::damaged, fmt::format("{} rows have errors, the coordinator counted {}", check.errors(), report->errors)};
  }
  if (!good) return app.fail(good.error(), fmt::format("{} {}", kDoing, to_string(*id)));
  bar.finish();
  Json out = Json::object();
  out["id"] = to_string(*id);
  out["verified"] = true;
  out["queries"] = rows_wanted(*report);
  out["rows"] = check.rows();
  out["batches"] = batches;
  out["errors"] = check.errors();
  out["result_digest"] = idunno::to_string(check.digest());
  print_object(app.globals, "idunno.verify.v1", out);
  app.note(fmt::format("{}: every query has exactly one row, in order{}", to_string(*id),
                       check.errors() == 0
                           ? ""
                           : fmt::format("; {} of them are errors (`idunno job errors {}`)", check.errors(), to_string(*id))));
}

}  // namespace

void add_job_results_commands(CLI::App& job, App& app) {
  auto options = std::make_shared<ResultsOptions>();
  CLI::App* results_command = job.add_subcommand("results", "the result rows in input order, while it runs and after");
  results_command->add_option("job", options->job, "id or name")->required()->type_name("J");
  results_command->add_option("-O,--out", options->file, "into FILE.jsonl, FILE.csv or FILE.npy (float32, for tensor outputs)")
      ->type_name("FILE");
  results_command->add_flag("-f,--follow", options->follow, "wait for rows until the job is over");
  results_command->callback([&app, options] { results(app, *options); });
  results_command->footer("Example:\n  idunno job results j12 --follow | head\n  idunno job results j12 -O rows.csv");

  auto failing = std::make_shared<std::string>();
  CLI::App* errors_command = job.add_subcommand("errors", "the queries whose row is an error");
  errors_command->add_option("job", *failing, "id or name")->required()->type_name("J");
  errors_command->callback([&app, failing] { errors(app, *failing); });
  errors_command->footer("Example:\n  idunno job errors j12");

  auto checked = std::make_shared<std::string>();
  CLI::App* verify_command =
      job.add_subcommand("verify", "prove that each query has exactly one row, and print the result's digest");
  verify_command->add_option("job", *checked, "id or name")->required()->type_name("J");
  verify_command->callback([&app, checked] { verify(app, *checked); });
  verify_command->footer("Example:\n  idunno job verify j12 --json | jq -r .result_digest");
}

}  // namespace idunno::cli

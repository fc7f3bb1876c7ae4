#include "cli/job_results_commands.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "bus/codec.h"
#include "cli/jobs.h"
#include "cli/reports.h"
#include "cli/result_check.h"
#include "cli/result_writer.h"
#include "cli/text.h"
#include "storage/sdfs/manifest.h"

namespace idunno::cli {

namespace {

struct ResultsOptions {
  std::string job;
  std::string file;
  bool follow = false;
};

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
  auto writer = make_result_writer(format, report->spec.queries,
                                   [&](std::string_view bytes) { return file ? file->write(bytes) : to_stdout(bytes); });
  std::unique_ptr<ProgressBar> bar;
  if (to_file) bar = std::make_unique<ProgressBar>(app.globals, "results", "queries", report->spec.queries);
  auto totals = read_results(*session, *id, options.follow, [&](const ResultBlock& block) {
    if (auto status = writer->rows(block.rows.view()); !status) return status;
    if (bar) bar->update(std::min<std::uint64_t>((block.batch + 1) * report->spec.batch, report->spec.queries));
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

/// The names of a job's queries, read one manifest block at a time.
class ManifestNames {
 public:
  ManifestNames(Session& session, const JobSpec& spec) : session_(session), spec_(spec) {}

  Status open() {
    auto file = session_.sdfs().stat(spec_.manifest_path, spec_.manifest_version);
    if (!file) return annotate(file.error(), "reading the job's list of queries");
    file_ = std::move(file).value();
    if (spec_.items_per_chunk == 0) return Error{Errc::damaged, "the job's list of queries has no chunk size"};
    return {};
  }

  Result<std::string> name(std::uint64_t query) {
    const std::uint64_t chunk = query / spec_.items_per_chunk;
    if (chunk != loaded_) {
      if (auto status = load(chunk); !status) return status.error();
    }
    const std::uint64_t at = query % spec_.items_per_chunk;
    if (at >= chunk_.items.size()) return Error{Errc::damaged, fmt::format("the job's list of queries has no query {}", query)};
    return chunk_.items[at].query;
  }

 private:
  Status load(std::uint64_t chunk) {
    if (chunk >= file_.blocks.size()) return Error{Errc::damaged, fmt::format("the job's list of queries has no part {}", chunk)};
    auto out = std::make_shared<std::optional<Result<Payload>>>();
    session_.blocks().read(file_.blocks[chunk], [out](Result<Payload> bytes) { *out = std::move(bytes); });
    (void)session_.loop().run_until([&] { return out->has_value(); }, kNever);
    if (!**out) return annotate((*out)->error(), "reading the job's list of queries");
    auto decoded = decode<ManifestChunk>((*out)->value().view());
    if (!decoded) return Error{Errc::damaged, "the job's list of queries: " + decoded.error().detail};
    chunk_ = std::move(decoded).value();
    loaded_ = chunk;
    return {};
  }

  Session& session_;
  const JobSpec& spec_;
  FileVersion file_;
  ManifestChunk chunk_;
  std::uint64_t loaded_ = UINT64_MAX;
};

void verify(App& app, const std::string& name) {
  static constexpr char kDoing[] = "job verify";
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = resolve_job(*session, name);
  if (!id) return app.fail(id.error(), kDoing);
  auto report = job_report(*session, *id);
  if (!report) return app.fail(report.error(), kDoing);
  if (report->state != JobState::done) {
    return app.fail(
        Error{Errc::conflict, fmt::format("{} is {} with {} of {} queries done; only a job that is done can be complete",
                                          to_string(*id), to_string(report->state), report->done, report->spec.queries)},
        kDoing, is_over(report->state) ? "" : fmt::format("`idunno job wait {}` first", to_string(*id)));
  }
  ManifestNames names(*session, report->spec);
  if (auto opened = names.open(); !opened) return app.fail(opened.error(), kDoing);
  ResultCheck check(report->spec.queries, report->spec.batch, [&](std::uint64_t query) { return names.name(query); });
  ProgressBar bar(app.globals, "verify", "queries", report->spec.queries);
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
  if (good && check.errors() != report->errors) {
    good = Error{Errc::damaged, fmt::format("{} rows have errors, the coordinator counted {}", check.errors(), report->errors)};
  }
  if (!good) return app.fail(good.error(), fmt::format("{} {}", kDoing, to_string(*id)));
  bar.finish();
  Json out = Json::object();
  out["id"] = to_string(*id);
  out["verified"] = true;
  out["queries"] = report->spec.queries;
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

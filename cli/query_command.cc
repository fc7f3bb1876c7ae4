/// `idunno query`.

#include <fmt/core.h>

#include "cli/bench.h"
#include "cli/query.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

std::string label_of(const Json& best) {
  const Json label = best.value("label", Json(nullptr));
  return label.is_string() ? label.get<std::string>() : fmt::format("class {}", best.value("index", 0));
}

/// Of any kind of output: the first label, or the row itself.
std::string text_of(const Json& row) {
  if (row.contains("error")) return row["error"].get<std::string>();
  if (row.contains("top") && row["top"].is_array() && !row["top"].empty()) return label_of(row["top"][0]);
  return "see --json";
}

void print_answer(App& app, const QueryOptions& options, const QueryAnswer& answer) {
  Listing listing("idunno.query.v1", "rows",
                  {{"index", ""}, {"file", "FILE"}, {"answer", "ANSWER"}, {"p", "P", true}, {"row", ""}});
  for (std::size_t i = 0; i < answer.rows.size(); ++i) {
    const Json& row = answer.rows[i];
    const bool classes = row.contains("top") && row["top"].is_array() && !row["top"].empty() && row["top"][0].contains("p");
    const Json p = classes ? row["top"][0]["p"] : Json(nullptr);
    Json kept = row;
    kept.erase("index");
    kept.erase("query");
    listing.add({{i, ""},
                 {options.files[i], ""},
                 {text_of(row), ""},
                 {p, classes ? fmt::format("{:.4f}", p.get<double>()) : "-"},
                 {kept, ""}});
  }
  const QueryTimes& times = answer.times;
  const auto ms = [](double value) { return rounded_to(value, 2); };
  listing.extra["job"] = to_string(answer.report.id);
  listing.extra["model"] = fmt::format("{}:{}", answer.report.spec.model, answer.report.spec.model_version);
  listing.extra["errors"] = answer.report.errors;
  listing.extra["latency_ms"] = ms(times.total_ms);
  listing.extra["parts_ms"] = {
      {"put", ms(times.put_ms)}, {"submit", ms(times.submit_ms)}, {"wait", ms(times.wait_ms)}, {"read", ms(times.read_ms)}};
  listing.print(app.globals);
  app.note(fmt::format("{} input{} in {:.1f} ms: stored {:.1f}, submitted {:.1f}, computed {:.1f}, read {:.1f}",
                       answer.rows.size(), answer.rows.size() == 1 ? "" : "s", times.total_ms, times.put_ms, times.submit_ms,
                       times.wait_ms, times.read_ms));
}

void query(App& app, QueryOptions options) {
  static constexpr char kDoing[] = "query";
  Session* session = app.session();
  if (session == nullptr) return;
  options.timeout = app.globals.timeout;
  auto ends = JobEnds::watch(*session);
  if (!ends) return app.fail(ends.error(), kDoing);
  auto answer = run_query(*session, **ends, options);
  if (!answer) {
    const bool phase = answer.error().code == Errc::conflict;
    return app.fail(answer.error(), kDoing, phase ? "`idunno phase` shows what is on" : "");
  }
  print_answer(app, options, *answer);
  if (answer->report.errors > 0) app.exit_code = kQueryErrors;
}

}  // namespace

void add_query_command(CLI::App& root, App& app) {
  auto options = std::make_shared<QueryOptions>();
  CLI::App* command =
      root.add_subcommand("query", "a few images now, answered at once, ahead of batch work; nothing stays in SDFS");
  command->add_option("--model", options->model, "model, or model:version (default: the newest version)")
      ->required()
      ->type_name("M[:V]");
  command->add_option("files", options->files, "local JPEG or PNG files")->required()->type_name("FILE...");
  command->add_option("--top", options->top, "labels in a row (default: as the model says)")
      ->check(CLI::Range(1U, 1000U))
      ->type_name("K");
  command->add_option("--batch", options->batch, "files computed together (default: all, at most 16)")
      ->check(CLI::Range(1U, 1024U))
      ->type_name("N");
  command->callback([&app, options] { query(app, *options); });
  command->footer(
      "Example:\n  idunno query --model resnet18 cat.jpg dog.jpg\n"
      "Exit codes: 0 answered, 3 no such file or model, 5 --timeout passed, 8 an input could not be read, 9 another phase is on");
}

}  // namespace idunno::cli

/// `idunno exp run|list|report`.

#include <fmt/core.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>

#include "bus/clock.h"
#include "bus/strict_toml.h"
#include "bus/units.h"
#include "cli/experiments/machine.h"
#include "cli/experiments/plots.h"
#include "cli/experiments/report.h"
#include "cli/experiments/result.h"
#include "cli/experiments/runner.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"
#include "cli/process.h"
#include "cli/result_writer.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kDoing[] = "exp run";
constexpr char kSystemsFile[] = "systems.toml";
constexpr char kRunsFolder[] = "idunno-experiments";

struct RunCommand {
  std::string what;
  bool quick = false;
  bool check = false;
  unsigned repeat = 0;
  std::uint64_t seed = 1;
  std::vector<std::string> cases;
  std::string out;
};
struct ReportCommand {
  std::vector<std::string> folders;
  std::string file;
};

/// Where the experiments that come with this program lie: of the installation, of the source tree it was built in, or here.
Result<fs::path> experiments_folder() {
  std::vector<fs::path> places;
  if (const char* given = std::getenv("IDUNNO_EXPERIMENTS"); given != nullptr && *given != '\0') places.emplace_back(given);
  places.emplace_back("configs/experiments");
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error).parent_path();
  places.push_back(program / ".." / "share" / "idunno" / "experiments");
  for (const char* up : {"..", "../.."}) places.push_back(program / up / "configs" / "experiments");
  for (const fs::path& place : places) {
    if (fs::exists(place / kSystemsFile, error)) return place;
  }
  std::string looked;
  for (const fs::path& place : places) looked += (looked.empty() ? "" : ", ") + place.lexically_normal().string();
  return Error{Errc::not_found, "no experiments found; looked in " + looked + "; IDUNNO_EXPERIMENTS names another folder"};
}

std::vector<fs::path> experiment_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().extension() == ".toml" && it->path().filename() != kSystemsFile) files.push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

/// A name of `exp list`, or a file.
Result<fs::path> find_experiment(const std::string& what) {
  std::error_code error;
  if (what.find('/') != std::string::npos || what.ends_with(".toml")) {
    if (fs::exists(what, error)) return fs::path(what);
    return Error{Errc::not_found, fmt::format("{} does not exist", what)};
  }
  auto folder = experiments_folder();
  if (!folder) return folder.error();
  std::vector<std::string> names;
  for (const fs::path& file : experiment_files(*folder)) {
    names.push_back(file.stem());
    if (file.stem() == what) return file;
  }
  const std::string near = nearest_word(what, names);
  return Error{Errc::not_found, fmt::format("there is no experiment '{}'{}; `idunno exp list` names them", what,
                                            near.empty() ? "" : fmt::format("; did you mean '{}'?", near))};
}

std::string stamp(WallMs at) {
  const auto seconds = static_cast<std::time_t>(at / 1000);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[32];
  return std::string(text, std::strftime(text, sizeof text, "%Y%m%d-%H%M%S", &utc));
}

Result<fs::path> make_folder(const RunCommand& options, const std::string& name) {
  const fs::path folder =
      options.out.empty() ? fs::path(kRunsFolder) / fmt::format("{}-{}", name, stamp(wall_now_ms())) : fs::path(options.out);
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Error{Errc::internal, fmt::format("making {}: {}", folder.string(), error.message())};
  if (fs::exists(folder / "result.json", error))
    return Error{Errc::conflict, fmt::format("{} holds a result already; name another folder with --out", folder.string())};
  return fs::absolute(folder);
}

/// What repeats this run.
std::string command_text(const RunCommand& options) {
  std::string text = "idunno exp run " + options.what;
  if (options.quick) text += " --quick";
  if (options.repeat != 0) text += fmt::format(" --repeat {}", options.repeat);
  if (options.seed != 1) text += fmt::format(" --seed {}", options.seed);
  for (const std::string& one : options.cases) text += fmt::format(" --case '{}'", one);
  return text;
}

/// Programs and pictures; a machine without gnuplot is told once and keeps the programs.
Status draw(App& app, const std::vector<ExpPlot>& plots, const fs::path& folder, Json& result) {
  for (const ExpPlot& plot : plots) {
    const fs::path program = folder / (plot.stem + ".gnuplot");
    if (auto written = write_whole_file(program, plot.program); !written) return written;
    // Also those that are drawn later, by hand: a report shows what is there then.
    result["plots"].push_back({{"file", plot.stem + ".svg"}, {"title", plot.title}});
  }
  for (const ExpPlot& plot : plots) {
    // The program names its file without a folder, so that it draws beside itself wherever it is run.
    if (auto drawn = run_gnuplot(fmt::format("cd {}\n", gnuplot_quoted(folder.string())) + plot.program); !drawn) {
      if (drawn.error().code != Errc::not_found) return drawn;
      app.note(fmt::format("no pictures: {}; afterwards `cd {} && gnuplot *.gnuplot` draws them", drawn.error().detail,
                           folder.string()));
      return {};
    }
  }
  return {};
}

void run(App& app, const RunCommand& options) {
  clean_up_when_interrupted();
  auto file = find_experiment(options.what);
  if (!file) return app.fail(file.error(), kDoing);
  auto experiment = Experiment::load(*file);
  if (!experiment) return app.fail(experiment.error(), kDoing);
  auto plan = make_plan(*experiment, {options.quick, options.repeat, options.cases});
  if (!plan) return app.fail(plan.error(), kDoing);
  Systems systems;
  if (auto folder = experiments_folder()) {
    auto loaded = Systems::load(*folder / kSystemsFile);
    if (!loaded) return app.fail(loaded.error(), kDoing);
    systems = std::move(*loaded);
  }
  auto folder = make_folder(options, experiment->name);
  if (!folder) return app.fail(folder.error(), kDoing);
  app.note(fmt::format("{}: {} case{}, {} round{} each, about {} and the starting of clusters; into {}", experiment->name,
                       plan->cases.size(), plan->cases.size() == 1 ? "" : "s", plan->repeat, plan->repeat == 1 ? "" : "s",
                       format_duration(planned_duration(*experiment, *plan)), fs::proximate(*folder).string()));
  const Json machine = machine_json();
  const RunResult played = run_plan(app, *experiment, *plan, {options.seed, *folder / "raw"});
  Json result = result_json(*experiment, *plan, played, systems, options.seed, command_text(options), machine);
  result["folder"] = folder->string();
  const auto plots = plots_of(*experiment, played, systems, result["engine"].get<std::string>());
  if (auto drawn = draw(app, plots, *folder, result); !drawn) return app.fail(drawn.error(), kDoing);
  for (const auto& [name, bytes] : {std::pair<std::string, std::string>("experiment.toml", experiment->source),
                                    std::pair<std::string, std::string>("result.json", result.dump(2) + "\n")}) {
    if (auto written = write_whole_file(*folder / name, bytes); !written) return app.fail(written.error(), kDoing);
  }
  if (!result["cases"].empty()) result_listing(result).print(app.globals);
  for (const std::string& line : wanted_lines(result, true)) app.note(line);
  if (!played.status) return app.fail(played.status.error(), kDoing);
  if (options.check && wanted_missed(result) > 0) {
    app.note(
        fmt::format("exp run --assert: {} of {} wanted figures were missed", wanted_missed(result), result["wanted"].size()));
    app.exit_code = kAssertion;
  }
}

void list(App& app) {
  auto folder = experiments_folder();
  if (!folder) return app.fail(folder.error(), "exp list");
  Listing listing("idunno.experiments.v1", "experiments",
                  {{"name", "NAME"},
                   {"title", ""},
                   {"cases", "CASES", true},
                   {"repeat", "ROUNDS", true},
                   {"duration_s", "TIME", true},
                   {"quick_duration_s", "QUICK", true},
                   {"text", "WHAT"},
                   {"file", ""}});
  for (const fs::path& file : experiment_files(*folder)) {
    auto experiment = Experiment::load(file);
    if (!experiment) return app.fail(experiment.error(), "exp list");
    auto whole = make_plan(*experiment, {});
    auto quick = make_plan(*experiment, {true, 0, {}});
    if (!whole || !quick) return app.fail((whole ? quick : whole).error(), "exp list");
    const auto time = [&](const ExpPlan& plan) -> Listing::Cell {
      const Duration duration = planned_duration(*experiment, plan);
      return {std::chrono::duration<double>(duration).count(), format_duration(duration)};
    };
    listing.add({{experiment->name, ""},
                 {experiment->title, ""},
                 {whole->cases.size(), ""},
                 {whole->repeat, ""},
                 time(*whole),
                 time(*quick),
                 {experiment->text, experiment->text.substr(0, experiment->text.find(". "))},
                 {file.lexically_normal().string(), ""}});
  }
  listing.footer = "TIME: of the scripts; clusters start and models load besides. `idunno exp run NAME [--quick]` runs one";
  listing.print(app.globals);
}

void report(App& app, const ReportCommand& options) {
  static constexpr char kReport[] = "exp report";
  std::vector<fs::path> folders;
  for (const std::string& root : options.folders) {
    const auto found = latest_runs(root);
    if (found.empty()) {
      return app.fail(Error{Errc::not_found, fmt::format("no result.json in {} or the folders in it", root)}, kReport,
                      "`idunno exp run NAME` makes one");
    }
    folders.insert(folders.end(), found.begin(), found.end());
  }
  std::vector<ReportedRun> runs;
  for (const fs::path& folder : folders) {
    auto one = read_run(folder);
    if (!one) return app.fail(one.error(), kReport);
    runs.push_back(std::move(*one));
  }
  const fs::path file = options.file.empty() ? fs::path(options.folders.front()) / "report.html" : fs::path(options.file);
  auto page = report_html(runs, rfc3339(wall_now_ms()));
  if (!page) return app.fail(page.error(), kReport);
  auto out = AtomicFile::create(file);
  if (!out) return app.fail(out.error(), kReport);
  if (auto written = (*out)->write(*page); !written) return app.fail(written.error(), kReport);
  if (auto done = (*out)->commit(); !done) return app.fail(done.error(), kReport);
  Json names = Json::array();
  for (const ReportedRun& one : runs) names.push_back(one.folder);
  print_object(app.globals, "idunno.experiment_report.v1", Json{{"file", file.string()}, {"runs", names}});
}

}  // namespace

void add_exp_commands(CLI::App& root, App& app) {
  CLI::App* exp = root.add_subcommand("exp", "experiments: repeatable measurements with tables, plots and an HTML report");
  exp->require_subcommand(1);
  exp->footer("Example:\n  idunno exp list\n  idunno exp run second-job --quick\n  idunno exp report");

  auto options = std::make_shared<RunCommand>();
  CLI::App* run_it = exp->add_subcommand("run", "run an experiment in a temporary cluster of its own");
  run_it->add_option("what", options->what, "a name of `idunno exp list`, or a TOML file")->required()->type_name("NAME|FILE");
  run_it->add_flag("--quick", options->quick, "the short form, for a look");
  run_it->add_option("--repeat", options->repeat, "rounds of each case (default: as the file says)")
      ->check(CLI::Range(1U, 1000U))
      ->type_name("N");
  run_it->add_option("--case", options->cases, "only this case; may be given again")->type_name("NAME");
  run_it->add_option("--seed", options->seed, "of the choice of the workers that are killed (default 1)")->type_name("S");
  run_it->add_option("--out", options->out, "folder for the result (default ./idunno-experiments/NAME-TIME)")->type_name("DIR");
  run_it->add_flag("--assert", options->check, "exit code 11 when a figure misses what the file wants");
  run_it->callback([&app, options] { run(app, *options); });
  run_it->footer("Example:\n  idunno exp run worker-failure --quick\n  idunno exp run fairness --case '16 against 4' --assert");

  CLI::App* list_them = exp->add_subcommand("list", "the experiments there are, and how long they take");
  list_them->callback([&app] { list(app); });
  list_them->footer("Example:\n  idunno exp list");

  auto reported = std::make_shared<ReportCommand>();
  CLI::App* report_it = exp->add_subcommand("report", "one HTML file of the latest run of each experiment");
  report_it->add_option("folder", reported->folders, "results, or folders of results (default ./idunno-experiments)")
      ->type_name("DIR...");
  report_it->add_option("-O,--output-file", reported->file, "where to (default report.html in the first folder)")
      ->type_name("FILE");
  report_it->callback([&app, reported] {
    ReportCommand with = *reported;
    if (with.folders.empty()) with.folders.emplace_back(kRunsFolder);
    report(app, with);
  });
  report_it->footer("Example:\n  idunno exp report\n  idunno exp report idunno-experiments -O report.html");
}

}  // namespace idunno::cli

#include "cli/root.h"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "bus/strict_toml.h"
#include "bus/units.h"

namespace idunno::cli {

namespace {

/// Help in this tool's own order: examples (footers) last, no second usage line.
void add_global_options(CLI::App& root, App& app) {
  Globals& globals = app.globals;
  static constexpr char kGroup[] = "Global options";
  globals.dir = "./.idunno";
  root.add_option("--dir", globals.dir, "folder of the local cluster")
      ->envname("IDUNNO_DIR")
      ->type_name("DIR")
      ->capture_default_str()
      ->group(kGroup);
  root.add_option("--config", globals.config, "the cluster's TOML file (default <dir>/cluster.toml)")
      ->envname("IDUNNO_CONFIG")
      ->type_name("FILE")
      ->group(kGroup);
  root.add_option("--key", globals.key, "secret key file (default <keys>/admin.key)")->type_name("FILE")->group(kGroup);
  root.add_option_function<std::string>(
          "--timeout",
          [&globals](const std::string& text) {
            auto duration = parse_duration(text);
            if (!duration) throw CLI::ValidationError("--timeout", duration.error().detail);
            if (*duration <= Duration::zero()) throw CLI::ValidationError("--timeout", "must be more than 0");
            globals.timeout = *duration;
            globals.timeout_given = true;
          },
          "how long to try, through a change of coordinator (default 30s)")
      ->type_name("TIME")
      ->group(kGroup);
  root.add_option("-o,--output", globals.format, "table, json, jsonl or csv (default table)")
      ->type_name("FORMAT")
      ->transform(CLI::CheckedTransformer(
                      std::map<std::string, Format>{
                          {"table", Format::table}, {"json", Format::json}, {"jsonl", Format::jsonl}, {"csv", Format::csv}})
                      .description("{table,json,jsonl,csv}"))
      ->group(kGroup);
  root.add_flag_callback(
          "--json", [&globals] { globals.format = Format::json; }, "same as -o json")
      ->group(kGroup);
  root.add_flag("-y,--yes", globals.yes, "do not ask")->group(kGroup);
  root.add_flag("-q,--quiet", globals.quiet, "no progress and no notes on stderr")->group(kGroup);
  root.add_flag("-v,--verbose", globals.verbose, "say more")->group(kGroup);
  root.set_version_flag("--version", "idunno " IDUNNO_VERSION)->group(kGroup);
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!sub->get_name().empty() && !sub->get_group().empty()) names.push_back(sub->get_name());
  }
  return names;
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* at = &app; at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return names;
}

const CLI::App& deepest(const CLI::App& root) {
  const CLI::App* at = &root;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

/// Words the parser could not place; kept by the subcommand that saw them or by the root.
std::vector<std::string> left_over(const CLI::App& root) {
  std::vector<std::string> words = deepest(root).remaining();
  if (words.empty()) words = root.remaining(true);
  return words;
}

}  // namespace

std::pair<std::string, std::string> explain_usage_error(const CLI::App& root, const CLI::ParseError& error) {
  const CLI::App& at = deepest(root);
  const std::string command = full_name(at);
  const std::string help = fmt::format("see `{} --help`", command);
  const std::vector<std::string> words = left_over(root);
  const auto commands = command_names(at);
  if (!words.empty()) {
    const std::string& word = words.front();
    const bool option = word.size() > 1 && word.front() == '-';
    std::string kind = option ? "option" : commands.empty() ? "argument" : "command";
    std::string near = option ? nearest_word(word.substr(0, word.find('=')), option_names(at)) : nearest_word(word, commands);
    return {
        fmt::format("{}: unknown {} '{}'{}", command, kind, word, near.empty() ? "" : fmt::format("; did you mean '{}'?", near)),
        help};
  }
  if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !commands.empty()) {
    std::string list;
    for (const std::string& name : commands) list += (list.empty() ? "" : ", ") + name;
    return {fmt::format("{}: say what to do: {}", command, list), help};
  }
  std::string what = error.what();
  std::replace(what.begin(), what.end(), '\n', ' ');
  return {fmt::format("{}: {}", command, what), help};
}

void build_tree(CLI::App& root, App& app) {
  root.name("idunno");
  root.description("IDunno: batch inference over a cluster of CPU machines, with replicated storage and fair shares.");
  root.fallthrough();  // global options may stand before or after the command; subcommands inherit this
  root.require_subcommand(1);
  root.get_formatter()->column_width(36);
  add_global_options(root, app);
  root.parse_complete_callback([&app] {
    if (app.globals.config.empty()) app.globals.config = app.globals.dir / "cluster.toml";
  });
  add_cluster_commands(root, app);
  add_status_commands(root, app);
  add_phase_command(root, app);
  add_query_command(root, app);
  add_fs_commands(root, app);
  add_model_commands(root, app);
  add_submit_command(root, app);
  add_job_commands(root, app);
  add_stats_command(root, app);
  add_watch_command(root, app);
  add_dash_command(root, app);
  add_grep_command(root, app);
  add_bench_commands(root, app);
  add_exp_commands(root, app);
  add_keys_commands(root, app);
  add_completion_command(root, app);
  root.footer(
      "Example:\n  idunno up -n 5\n  idunno fs put -r photos /data/photos\n  idunno model init resnet18\n"
      "  idunno submit --model resnet18 --data /data/photos --batch 16 --wait\n"
      "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 no coordinator, 5 timed out, 6 job failed, 7 job stopped,\n"
      "  8 job done with query errors, 9 not now, 10 not allowed, 11 assertion failed, 12 damaged data");
}

int run(int argc, const char* const* argv) {
  // `idunno ... | head` ends quietly when the reader goes, also when the caller had SIGPIPE ignored.
  std::signal(SIGPIPE, SIG_DFL);
  App app;
  CLI::App root;
  try {
    build_tree(root, app);
    root.parse(argc, argv);
  } catch (const CLI::Success& success) {  // --help, --version
    return root.exit(success);
  } catch (const CLI::ParseError& error) {
    const auto [what, next] = explain_usage_error(root, error);
    std::fprintf(stderr, "%s\n%s\n", what.c_str(), next.c_str());
    return kUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "idunno: %s\n", error.what());
    return kFailed;
  }
  if (std::fflush(stdout) != 0) {
    std::perror("idunno: writing the output");
    return app.exit_code == kDone ? kFailed : app.exit_code;
  }
  return app.exit_code;
}

}  // namespace idunno::cli

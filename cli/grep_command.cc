#include <fmt/core.h>
#include <re2/re2.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <deque>
#include <memory>
#include <set>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/cluster_watch.h"
#include "cli/log_reader.h"
#include "cli/names.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

constexpr Duration kMachineTimeout = std::chrono::seconds(5);      ///< of one page; --timeout makes it shorter
constexpr Duration kFollowPause = std::chrono::milliseconds(300);  ///< between looks for new lines
constexpr std::uint32_t kLastMax = 100'000;
constexpr int kGrepNothing = 1;
constexpr int kGrepError = 2;

struct Options {
  std::string pattern;
  bool ignore_case = false;
  bool count = false;
  bool follow = false;
  std::vector<std::string> nodes;
  std::string job;
  std::string batch;
  std::string since;
  std::string level;
  std::uint32_t last = 0;
};

const std::map<std::string, LogLevel> kLevels = {
    {"trace", LogLevel::trace},     {"debug", LogLevel::debug}, {"info", LogLevel::info},        {"warn", LogLevel::warning},
    {"warning", LogLevel::warning}, {"error", LogLevel::error}, {"critical", LogLevel::critical}};

const char* name_of(LogLevel level) {
  switch (level) {
    case LogLevel::trace:
      return "trace";
    case LogLevel::debug:
      return "debug";
    case LogLevel::info:
      return "info";
    case LogLevel::warning:
      return "warning";
    case LogLevel::error:
      return "error";
    case LogLevel::critical:
      return "critical";
  }
  return "info";
}

Json line_json(const MergedLine& found) {
  Json line;
  line["node"] = to_string(found.node);
  line["kept_by"] = found.kept_by ? Json(to_string(found.kept_by)) : Json(nullptr);
  line["at"] = found.line.at_ms == 0 ? Json(nullptr) : Json(rfc3339(found.line.at_ms));
  line["level"] = name_of(found.line.level);
  line["text"] = found.line.text;
  return line;
}

/// Writes lines as they come, in the format asked for.
class Printer {
 public:
  Printer(const Globals& globals, const Options& options)
      : format_(globals.format), coloured_(colours() && globals.format == Format::table) {
    // As a stream it never ends: no list around it.
    if (options.follow && format_ == Format::json) format_ = Format::jsonl;
    if (coloured_ && !options.pattern.empty()) {
      re2::RE2::Options re;
      re.set_log_errors(false);
      re.set_case_sensitive(!options.ignore_case);
      pattern_ = std::make_unique<re2::RE2>(options.pattern, re);
    }
    if (format_ == Format::json) put("{\"schema\": \"idunno.grep.v1\", \"lines\": [");
    if (format_ == Format::csv) put("node,kept_by,at,level,text\n");
  }

  void line(const MergedLine& found) {
    ++lines_;
    switch (format_) {
      case Format::table:
        return put(prefix(found) + highlighted(printable(found.line.text)) + "\n");
      case Format::json:
        return put((lines_ > 1 ? ",\n" : "\n") + dump(line_json(found)));
      case Format::jsonl:
        return put(dump(line_json(found)) + "\n");
      case Format::csv: {
        std::string row;
        const Json values = line_json(found);
        for (const Json& value : values) row += (row.empty() ? "" : ",") + csv_field(value);
        return put(row + "\n");
      }
    }
  }

  void end(const Json& nodes) {
    if (format_ == Format::json) put(fmt::format("\n], \"matches\": {}, \"nodes\": {}}}\n", lines_, dump(nodes)));
    std::fflush(stdout);
  }
  [[nodiscard]] std::uint64_t lines() const { return lines_; }

 private:
  static void put(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

  [[nodiscard]] std::string prefix(const MergedLine& found) const {
    std::string text = to_string(found.node);
    if (found.kept_by) text += " (kept by " + to_string(found.kept_by) + ")";
    if (!coloured_) return text + ": ";
    static constexpr std::array<int, 6> kColours{36, 33, 35, 32, 34, 96};
    return fmt::format("\x1b[{}m{}\x1b[0m: ", kColours[found.node.value % kColours.size()], text);
  }

  [[nodiscard]] std::string highlighted(const std::string& line) const {
    if (!pattern_ || !pattern_->ok()) return line;
    std::string out;
    std::size_t at = 0;
    re2::StringPiece found;
    while (at < line.size() && pattern_->Match(line, at, line.size(), re2::RE2::UNANCHORED, &found, 1)) {
      const auto begin = static_cast<std::size_t>(found.data() - line.data());
      if (found.empty()) break;
      out += line.substr(at, begin - at) + "\x1b[1;31m" + std::string(found) + "\x1b[0m";
      at = begin + found.size();
    }
    return out + line.substr(at);
  }

  Format format_;
  bool coloured_;
  std::unique_ptr<re2::RE2> pattern_;
  std::uint64_t lines_ = 0;
};

/// "j3/b17", "3/17".
Result<std::pair<JobId, std::int64_t>> parse_batch(const std::string& text) {
  const auto slash = text.find('/');
  const std::string job = text.substr(0, slash);
  std::string batch = slash == std::string::npos ? "" : text.substr(slash + 1);
  if (batch.starts_with("b")) batch.erase(0, 1);
  const std::uint64_t number = numbered(job, 'j');
  const auto index = parse_count(batch);
  if (number == 0 || !index || *index > ~BatchIndex{0}) {
    return Error{Errc::invalid, fmt::format("'{}' is no batch; write it as j3/b17", text)};
  }
  return std::pair{JobId{number}, static_cast<std::int64_t>(*index)};
}

Result<LogSearchRequest> request_of(App& app, const Options& options) {
  LogSearchRequest request;
  request.pattern = options.pattern;
  request.ignore_case = options.ignore_case;
  request.count_only = options.count;
  if (!options.level.empty()) request.level = kLevels.at(options.level);
  if (!options.since.empty()) {
    const auto ago = parse_duration(options.since);
    if (!ago) return annotate(ago.error(), "--since");
    const auto ago_ms = static_cast<WallMs>(std::chrono::duration_cast<std::chrono::milliseconds>(*ago).count());
    request.since_ms = std::max<WallMs>(1, wall_now_ms() - std::min(ago_ms, wall_now_ms()));
  }
  if (!options.job.empty()) {
    request.job = JobId{numbered(options.job, 'j')};
    if (!request.job) {  // a name: the coordinator knows it
      auto found = resolve_job(*app.session(), options.job);
      if (!found) return annotate(found.error(), "--job");
      request.job = *found;
    }
  }
  if (!options.batch.empty()) {
    const auto batch = parse_batch(options.batch);
    if (!batch) return annotate(batch.error(), "--batch");
    if (request.job && request.job != batch->first) {
      return Error{Errc::invalid, "--batch " + options.batch + " is not of --job " + options.job};
    }
    request.job = batch->first;
    request.batch = batch->second;
  }
  return request;
}

Result<std::vector<NodeId>> nodes_of(Session& session, const std::vector<std::string>& names) {
  std::vector<NodeId> nodes;
  for (const std::string& name : names) {
    auto node = parse_node(name, session.config());
    if (!node) return annotate(node.error(), "--node");
    if (std::find(nodes.begin(), nodes.end(), *node) == nodes.end()) nodes.push_back(*node);
  }
  if (!nodes.empty()) return nodes;
  for (const NodeConfig& node : session.config().nodes) nodes.push_back(node.id);
  return nodes;
}

Json nodes_json(const LogReader& reader) {
  Json nodes = Json::array();
  for (const auto& [node, machine] : reader.machines()) {
    Json entry;
    entry["node"] = to_string(node);
    entry["matches"] = machine.matches;
    entry["scanned_bytes"] = machine.scanned_bytes;
    entry["answers"] = machine.answers;
    entry["kept_by"] = machine.kept_by ? Json(to_string(machine.kept_by)) : Json(nullptr);
    nodes.push_back(std::move(entry));
  }
  return nodes;
}

/// Names, once for each change, the machines that do not answer. Returns how many have nothing to read at all.
class Absent {
 public:
  std::size_t tell(const LogReader& reader) {
    std::size_t unread = 0;
    for (const auto& [node, machine] : reader.machines()) {
      if (machine.answers) {
        if (told_.erase(node) != 0) say(to_string(node) + " answers again");
        continue;
      }
      if (!machine.kept_by) ++unread;
      if (!told_.insert(node).second) continue;
      say(to_string(node) + " cannot be asked: " + machine.failure);
      say(machine.kept_by ? fmt::format("the end of its log as {} keeps it was searched instead", to_string(machine.kept_by))
                          : std::string("no other machine that answers keeps the end of its log"));
    }
    return unread;
  }

 private:
  static void say(const std::string& text) {
    std::fflush(stdout);
    std::fputs(("idunno: " + printable(text) + "\n").c_str(), stderr);
  }
  std::set<NodeId> told_;
};

void print_counts(const App& app, const LogReader& reader) {
  Listing listing("idunno.grep_count.v1", "nodes",
                  {{"node", "NODE"},
                   {"matches", "MATCHES", true},
                   {"scanned_bytes", "SEARCHED", true},
                   {"answers", ""},
                   {"kept_by", "KEPT BY"}});
  std::uint64_t total = 0;
  for (const auto& [node, machine] : reader.machines()) {
    total += machine.matches;
    listing.add({{to_string(node), ""},
                 {machine.matches, ""},
                 {machine.scanned_bytes, format_size(machine.scanned_bytes)},
                 {machine.answers, ""},
                 {machine.kept_by ? Json(to_string(machine.kept_by)) : Json(nullptr), machine.answers ? " " : ""}});
  }
  listing.extra["matches"] = total;
  listing.footer = fmt::format("{} in all", total);
  listing.print(app.globals);
}

/// Returns the exit code: 0 found, 1 nothing, 2 error.
int search(App& app, Session& session, const Options& options, LogReader& reader) {
  Printer printer(options.count ? Globals{} : app.globals, options);
  std::deque<MergedLine> last;
  bool first = true;
  Absent absent;
  std::size_t unread = 0;
  const auto on_line = [&](const MergedLine& line) {
    if (!first || options.last == 0) return printer.line(line);
    last.push_back(line);
    if (last.size() > options.last) last.pop_front();
  };
  while (true) {
    if (Status read = reader.read(on_line); !read) {
      app.fail(read.error(), "grep");
      return kGrepError;
    }
    for (const MergedLine& line : last) printer.line(line);
    last.clear();
    first = false;
    std::fflush(stdout);
    unread = absent.tell(reader);
    if (!options.follow) break;
    run_for(session, kFollowPause);
  }
  if (options.count) {
    print_counts(app, reader);
  } else {
    printer.end(nodes_json(reader));
  }
  std::uint64_t found = 0;
  for (const auto& [node, machine] : reader.machines()) found += machine.matches;
  if (found > 0) return kDone;
  return unread > 0 ? kGrepError : kGrepNothing;
}

void grep(App& app, const Options& options) {
  if (options.count && (options.follow || options.last > 0)) {
    return app.usage("grep: -c counts what is there; it goes neither with -f nor with -n", "see `idunno grep --help`");
  }
  // As grep: whatever goes wrong is 2.
  const auto fail = [&app](const Error& error) {
    app.fail(error, "grep");
    app.exit_code = kGrepError;
  };
  Session* session = app.session();
  if (session == nullptr) {
    app.exit_code = kGrepError;
    return;
  }
  auto request = request_of(app, options);
  if (!request) return fail(request.error());
  const auto nodes = nodes_of(*session, options.nodes);
  if (!nodes) return fail(nodes.error());
  LogReader reader(*session, *request, *nodes, app.globals.timeout_given ? app.globals.timeout : kMachineTimeout);
  app.exit_code = search(app, *session, options, reader);
}

}  // namespace

void add_grep_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("grep", "search the logs of all machines at once, in the order of time");
  command->add_option("pattern", options->pattern, "RE2 regular expression; '' = every line")->required()->type_name("PATTERN");
  command->add_flag("-i,--ignore-case", options->ignore_case, "capital and small letters are the same");
  command->add_flag("-c,--count", options->count, "only the number of lines, of each machine and in all");
  command->add_flag("-f,--follow", options->follow, "go on with new lines until Ctrl-C");
  command->add_option("-n,--tail", options->last, "only the last N lines (with -f: to begin with)")
      ->check(CLI::Range(1U, kLastMax))
      ->type_name("N");
  command->add_option("--node", options->nodes, "only this machine's log; may be given several times")->type_name("N");
  command->add_option("--job", options->job, "only lines about this job and its batches")->type_name("J");
  command->add_option("--batch", options->batch, "only lines about this batch")->type_name("J/B");
  command->add_option("--since", options->since, "only lines of the last while: 30s, 10m, 2h")->type_name("TIME");
  command->add_option("--level", options->level, "only lines of this level and worse: info, warn, error, ...")
      ->check(CLI::IsMember(kLevels))
      ->type_name("LEVEL");
  command->callback([&app, options] { grep(app, *options); });
  command->footer(
      "The last lines of a machine that is dead come from the copies that other machines keep of them.\n"
      "Exit code: 0 found, 1 nothing found, 2 error.\n"
      "Example:\n  idunno grep 'event=batch_(leased|committed)' --job j3 --since 10m\n  idunno grep -c error\n"
      "  idunno grep '' --level warn -f");
}

}  // namespace idunno::cli

// How fast a cluster counts lines in its logs, beside `grep -c` over one node's share of them.

#include <fmt/core.h>

#include <algorithm>
#include <fstream>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "bus/units.h"
#include "cli/bench.h"
#include "cli/local_cluster.h"
#include "cli/log_reader.h"
#include "cli/process.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "bench grep";
constexpr double kWantedMoreS = 0.5;
constexpr Duration kTimeout = std::chrono::seconds(30);

struct Options {
  std::string size = "1G";
  unsigned nodes = 10;
  unsigned repeat = 3;
  std::string csv;
};

struct Pattern {
  const char* name;
  const char* re2;
  const char* ere;  ///< the same for grep -E
};
constexpr Pattern kPatterns[] = {
    {"rare word", "query_quarantined", "query_quarantined"},
    {"frequent word", "event=batch_committed", "event=batch_committed"},
    {"word and more", "batch_leased.* to n[37]", "batch_leased.* to n[37]"},
    {"no fixed word", "[0-9]+/b[0-9]*99 ", "[0-9]+/b[0-9]*99 "},
};

/// Lines as a busy node writes them, the same for the same seed. Older than the node's own log, in a file of its own.
Status write_log(const std::filesystem::path& file, std::uint64_t bytes, std::uint64_t seed) {
  std::ofstream out(file, std::ios::binary);
  Random random(seed);
  std::string text;
  std::uint64_t written = 0;
  WallMs at = 1'700'000'000'000;
  std::uint64_t batch = 0;
  while (written < bytes && out) {
    at += random.below(3);
    const std::uint64_t node = 1 + random.below(9);
    switch (random.below(1000)) {
      case 0:
        text += fmt::format("{} warning n{} [j3/b{}] event=query_quarantined j3: query {} ends its executor\n", rfc3339(at), node,
                            batch, batch * 16);
        break;
      default:
        ++batch;
        text += fmt::format("{0} info n{1} [j3/b{2}] event=batch_leased j3/b{2} to n{3}\n", rfc3339(at), node, batch,
                            1 + random.below(9));
        text += fmt::format("{0} info n{1} [j3/b{2}] event=batch_committed j3/b{2} by n{3}\n", rfc3339(at), node, batch,
                            1 + random.below(9));
    }
    if (text.size() < (1U << 20U)) continue;
    out << text;
    written += text.size();
    text.clear();
  }
  out << text;
  out.close();
  if (!out) return Error{Errc::full, "writing " + file.string() + " failed: is the disk full?"};
  return {};
}

struct Measured {
  double grep_s = 0;
  double cluster_s = 0;
  std::uint64_t grep_matches = 0;
  std::uint64_t matches = 0;
};

double seconds_since(Time begin) { return std::chrono::duration<double>(monotonic_now() - begin).count(); }

Result<std::uint64_t> count_by_grep(const char* pattern, const std::string& file, double& took_s) {
  const Time begin = monotonic_now();
  auto ran = run_together({{"/usr/bin/env", "grep", "-cE", pattern, file}}, {"LC_ALL=C"});
  took_s = seconds_since(begin);
  if (!ran) return ran.error();
  if (ran->front().exit_code > 1 || ran->front().exit_code < 0) {
    return Error{Errc::internal, "grep -c ended with " + ran->front().text()};
  }
  return std::strtoull(ran->front().out.c_str(), nullptr, 10);
}

Result<std::uint64_t> count_in_cluster(Session& session, const char* pattern, double& took_s) {
  LogSearchRequest what;
  what.pattern = pattern;
  what.count_only = true;
  std::vector<NodeId> nodes;
  for (const NodeConfig& node : session.config().nodes) nodes.push_back(node.id);
  LogReader reader(session, what, nodes, kTimeout);
  const Time begin = monotonic_now();
  const Status read = reader.read([](const MergedLine&) {});
  took_s = seconds_since(begin);
  if (!read) return read.error();
  std::uint64_t matches = 0;
  for (const auto& [node, machine] : reader.machines()) {
    if (!machine.answers) return Error{Errc::unavailable, to_string(node) + ": " + machine.failure};
    matches += machine.matches;
  }
  return matches;
}

Status measure(Session& session, const std::vector<std::filesystem::path>& files, const Options& options, std::uint64_t share,
               BenchTable& table) {
  for (const Pattern& pattern : kPatterns) {
    std::vector<double> grep_s;
    std::vector<double> cluster_s;
    std::uint64_t expected = 0;
    for (const auto& file : files) {  // also to have all of them in the page cache
      double ignored = 0;
      auto count = count_by_grep(pattern.ere, file.string(), ignored);
      if (!count) return count.error();
      expected += *count;
    }
    std::uint64_t found = 0;
    for (unsigned i = 0; i < options.repeat; ++i) {
      auto count = count_by_grep(pattern.ere, files.front().string(), grep_s.emplace_back());
      if (!count) return count.error();
      auto matches = count_in_cluster(session, pattern.re2, cluster_s.emplace_back());
      if (!matches) return matches.error();
      found = *matches;
    }
    // The nodes' own logs say little in that time; what they do say may match, too.
    if (found < expected) {
      return Error{Errc::internal, fmt::format("\"{}\": the cluster counts {}, grep {}", pattern.re2, found, expected)};
    }
    const double grep_median = spread_of(grep_s).median;
    const double cluster_median = spread_of(cluster_s).median;
    table.add({{pattern.name, ""},
               {pattern.re2, ""},
               {options.nodes, ""},
               {share * options.nodes, format_size(share * options.nodes)},
               {found, ""},
               {rounded_to(grep_median, 3), ""},
               {rounded_to(cluster_median, 3), ""},
               {rounded_to(cluster_median - grep_median, 3), ""},
               {kWantedMoreS, ""}});
  }
  return {};
}

void bench(App& app, const Options& options) {
  const auto size = parse_size(options.size);
  if (!size) return app.usage("bench grep --size: " + size.error().detail);
  clean_up_when_interrupted();
  LocalCluster::Options up;
  up.nodes = options.nodes;
  up.slots = 1;
  auto cluster = TemporaryCluster::up(up, app.globals.timeout);
  if (!cluster) return app.fail(cluster.error(), kDoing);
  Session& session = (*cluster)->session();
  const std::uint64_t share = *size / options.nodes;
  std::vector<std::filesystem::path> files;
  for (const NodeConfig& node : session.config().nodes) {
    files.push_back(node.data_dir / "log" / "idunnod-0000000000001.log");
    if (Status written = write_log(files.back(), share, node.id.value); !written) return app.fail(written.error(), kDoing);
  }
  BenchTable table("idunno.bench_grep.v1", {{"pattern_name", "PATTERN"},
                                            {"pattern", "RE2"},
                                            {"nodes", "NODES", true},
                                            {"size_bytes", "SIZE", true},
                                            {"matches", "MATCHES", true},
                                            {"grep_share_s", "grep -c OF ONE SHARE s", true},
                                            {"cluster_s", "idunno grep -c s", true},
                                            {"more_s", "MORE s", true},
                                            {"wanted_more_s", "WANTED <", true}});
  if (Status measured = measure(session, files, options, share, table); !measured) return app.fail(measured.error(), kDoing);
  table.footer =
      fmt::format("medians of {}; logs in the page cache; all {} nodes on this machine", options.repeat, options.nodes);
  if (Status finished = table.finish(app.globals, options.csv); !finished) app.fail(finished.error(), kDoing);
}

}  // namespace

void add_bench_grep_command(CLI::App& bench_command, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command =
      bench_command.add_subcommand("grep", "counting in the logs of all nodes, beside `grep -c` over one node's share");
  command->add_option("--size", options->size, "of all logs together (default 1G)")->type_name("SIZE");
  command->add_option("--nodes", options->nodes, "default 10")->check(CLI::Range(1U, 64U))->type_name("N");
  command->add_option("--repeat", options->repeat, "default 3")->check(CLI::Range(1U, 1000U))->type_name("N");
  command->add_option("--csv", options->csv, "write the table there as well")->type_name("FILE");
  command->callback([&app, options] { bench(app, *options); });
  command->footer("Example:\n  idunno bench grep --size 200M --nodes 5");
}

}  // namespace idunno::cli

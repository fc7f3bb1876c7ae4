#include "cli/kill_node.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <csignal>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "bus/entropy.h"
#include "bus/units.h"
#include "cli/cluster_watch.h"
#include "cli/local_cluster.h"
#include "cli/process.h"

namespace idunno::cli {

int signal_by_name(const std::string& name) {
  const std::string bare = name.compare(0, 3, "SIG") == 0 ? name.substr(3) : name;
  if (bare == "KILL") return SIGKILL;
  if (bare == "STOP") return SIGSTOP;
  if (bare == "CONT") return SIGCONT;
  if (bare == "TERM") return SIGTERM;
  return 0;
}

namespace {

struct Options {
  std::vector<std::string> nodes;
  std::string signal = "KILL";
  unsigned random = 0;
  bool coordinator = false;
  bool standby = false;
  bool wait = false;
};

constexpr char kDoing[] = "kill-node";
constexpr Duration kStatusLimit = std::chrono::seconds(5);
constexpr Duration kEndOfProcesses = std::chrono::seconds(10);

/// Who leads and who is next. Nothing when the command needs to know neither.
Result<StatusReply> ask_roles(App& app, const Options& options) {
  if (!options.coordinator && !options.standby && options.random == 0 && !options.wait) return StatusReply{};
  Session* session = app.session();
  if (session == nullptr) return Error{Errc::cancelled, ""};
  MetadataClient::CallOptions call;
  call.timeout = std::min(app.globals.timeout, kStatusLimit);
  auto status = session->metadata().call_and_wait(StatusRequest{}, call);
  if (!status && !options.coordinator && !options.standby && !options.wait) {
    app.note("idunno kill-node: no coordinator answers, so any node may be the one");
    return StatusReply{};
  }
  return status;
}

Result<std::vector<NodeId>> choose(const LocalCluster& cluster, const Options& options, const StatusReply& roles) {
  std::vector<NodeId> chosen;
  for (const std::string& name : options.nodes) {
    auto id = parse_node(name, cluster.config());
    if (!id) return id.error();
    chosen.push_back(*id);
  }
  if (options.coordinator) chosen.push_back(roles.coordinator);
  if (options.standby && !roles.standby)
    return Error{Errc::not_found, "--standby: there is none; a cluster of one or two nodes has no failover"};
  if (options.standby) chosen.push_back(roles.standby);
  if (options.random > 0) {
    std::vector<NodeId> others;
    for (const auto& [node, pid] : cluster.running()) {
      if (node != roles.coordinator && std::find(chosen.begin(), chosen.end(), node) == chosen.end()) others.push_back(node);
    }
    if (others.size() < options.random) {
      return Error{Errc::conflict,
                   fmt::format("--random {}: only {} nodes other than the coordinator run", options.random, others.size())};
    }
    Random random(random_nonzero());
    random.shuffle(others);
    chosen.insert(chosen.end(), others.begin(), others.begin() + options.random);
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  if (chosen.empty())
    return Error{Errc::invalid, "name the nodes (idunno kill-node n3), or say --random K, --coordinator or --standby"};
  for (const NodeId node : chosen) {
    if (cluster.pid(node) == 0) {
      return Error{Errc::conflict, fmt::format("{} does not run; `idunno node start {}` starts it", to_string(node), node.value)};
    }
  }
  return chosen;
}

Json ms_or_null(const std::optional<Duration>& duration) {
  if (!duration) return nullptr;
  return static_cast<double>(duration->count()) / 1000.0;
}

void print_rows(const App& app, const std::vector<Json>& rows) {
  static constexpr char kSchema[] = "idunno.kill_node.v1";
  if (rows.size() == 1) return print_object(app.globals, kSchema, rows.front());
  std::vector<Column> columns;
  for (const auto& [name, value] : rows.front().items()) columns.push_back({name, name, value.is_number()});
  Listing listing(kSchema, "nodes", columns);
  for (const Json& row : rows) {
    std::vector<Listing::Cell> cells;
    for (const auto& [name, value] : row.items()) cells.push_back({value, ""});
    listing.add(std::move(cells));
  }
  listing.print(app.globals);
}

/// cli.md `kill-node --wait`: one row a node. What is of the whole cluster (rates, dip) stands in every row.
std::vector<Json> measured_rows(ClusterWatch& watch, const std::vector<NodeId>& nodes, bool coordinator_too, const Json& lost) {
  const bool rates = !watch.jobs().empty();
  const Timeline::Dip dip = rates ? watch.dip() : Timeline::Dip{};
  const auto only = [](bool known, Json value) { return known ? std::move(value) : Json(nullptr); };
  std::vector<Json> rows;
  for (const NodeId node : nodes) {
    const Timeline& timeline = watch.timeline();
    Json row = Json::object();
    row["node"] = to_string(node);
    row["killed_at"] = rfc3339(watch.killed_at());
    row["detected_ms"] = ms_or_null(timeline.detected(node));
    row["reassigned_ms"] = ms_or_null(rates ? timeline.reassigned(node) : std::nullopt);
    row["normal_ms"] = ms_or_null(watch.normal());
    row["lost_queries"] = lost;
    row["repeated_batches"] = timeline.repeated_batches();
    row["dip_pct"] = only(rates, std::round(dip.depth_pct * 10) / 10);
    row["dip_ms"] = only(rates, static_cast<double>(dip.length.count()) / 1000.0);
    if (coordinator_too) {
      row["new_coordinator"] = watch.new_coordinator() ? Json(to_string(watch.new_coordinator())) : Json(nullptr);
      row["new_epoch"] = only(static_cast<bool>(watch.new_coordinator()), watch.new_epoch().value);
      row["takeover_ms"] = ms_or_null(watch.takeover());
    }
    row["longest_gap_ms"] = only(rates, static_cast<double>(dip.longest_gap.count()) / 1000.0);
    row["steady_ms"] = ms_or_null(watch.steady());
    row["lost_notices"] = timeline.lost_notices();
    rows.push_back(std::move(row));
  }
  return rows;
}

/// Sends the signals; which processes got them.
Result<std::map<NodeId, std::vector<pid_t>>> send(const LocalCluster& cluster, const std::vector<NodeId>& nodes, int number,
                                                  bool wait_for_end, const std::function<void()>& at_once) {
  auto signalled = cluster.signal_together(nodes, number, at_once);
  if (!signalled) return signalled;
  if (wait_for_end) {
    std::vector<pid_t> gone;
    for (const auto& [node, pids] : *signalled) gone.insert(gone.end(), pids.begin(), pids.end());
    (void)wait_gone(gone, kEndOfProcesses);
  }
  return signalled;
}

std::string why_not_normal(const ClusterWatch& watch) {
  if (watch.jobs_over()) {
    return "the jobs were over before their rates could be compared with those of before (normal_ms is null; the dip ends where "
           "the first of them did)";
  }
  if (watch.steady()) return "the rates are what the slots that are left can give, which is less than before (normal_ms is null)";
  return "the rates were not within 10 % of before again in time (normal_ms is null)";
}

void kill_and_measure(App& app, const LocalCluster& cluster, const std::vector<NodeId>& nodes, int number) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto watch = ClusterWatch::start(*session);
  if (!watch) return app.fail(watch.error(), kDoing);
  ClusterWatch& w = **watch;
  if (!w.jobs().empty()) app.note(fmt::format("measuring the rates before for {}", format_duration(w.window())));
  w.measure_before();
  const bool coordinator_too = std::find(nodes.begin(), nodes.end(), w.coordinator()) != nodes.end();
  const Status sent = w.kill({nodes.begin(), nodes.end()}, [&](const std::function<void()>& at_once) -> Status {
    // The processes' end is not waited for: what is measured goes on meanwhile.
    auto signalled = send(cluster, nodes, number, false, at_once);
    return signalled ? Status() : Status(signalled.error());
  });
  if (!sent) return app.fail(sent.error(), kDoing);
  ClusterWatch::Wanted wanted;
  wanted.takeover = coordinator_too;
  // That the rates are back shows only after a whole window of them, and of slow jobs that is as long as the usual limit.
  const bool rates = !w.jobs().empty() && !app.globals.timeout_given;
  const bool complete = w.wait(wanted, app.globals.timeout + (rates ? w.window() : Duration::zero()));
  auto lost = w.lost_queries();
  print_rows(app, measured_rows(w, nodes, coordinator_too, lost ? Json(*lost) : Json(nullptr)));
  if (!lost) return app.fail(lost.error(), kDoing);
  if (!w.jobs().empty() && !w.normal()) app.note(why_not_normal(w));
  if (complete) return;
  app.fail(Error{Errc::timeout, coordinator_too && !w.takeover()
                                    ? "no new coordinator was seen in time"
                                    : "not everything was detected, leased again and back to normal in time"},
           kDoing, "--timeout waits longer");
}

void kill_nodes(App& app, const Options& options) {
  const int number = signal_by_name(options.signal);
  auto cluster = LocalCluster::open(app.globals.config);
  if (!cluster) return app.fail(cluster.error(), kDoing);
  auto roles = ask_roles(app, options);
  if (!roles) {
    if (roles.error().code != Errc::cancelled) app.fail(roles.error(), kDoing);
    return;
  }
  auto chosen = choose(*cluster, options, *roles);
  if (!chosen) return app.fail(chosen.error(), kDoing);
  if (options.wait && number != SIGCONT) return kill_and_measure(app, *cluster, *chosen, number);
  WallMs killed_at = 0;
  auto signalled = send(*cluster, *chosen, number, number == SIGKILL, [&killed_at] { killed_at = wall_now_ms(); });
  if (!signalled) return app.fail(signalled.error(), kDoing);
  std::vector<Json> rows;
  for (const auto& [node, pids] : *signalled) {
    rows.push_back(Json{{"node", to_string(node)},
                        {"pid", pids.empty() ? 0 : pids.front()},
                        {"signal", options.signal},
                        {"processes", pids.size()},
                        {"killed_at", rfc3339(killed_at)}});
  }
  print_rows(app, rows);
}

}  // namespace

void add_kill_node_command(CLI::App& root, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = root.add_subcommand("kill-node", "kill (or stop, continue) nodes of the local cluster, to see it go on");
  command->add_option("node", options->nodes, "n3 or 3")->type_name("N...");
  command
      ->add_option("--signal", options->signal,
                   "KILL (default), STOP, CONT or TERM; KILL, STOP and CONT also go to the executors")
      ->type_name("SIGNAL")
      ->check([](const std::string& name) {
        return signal_by_name(name) != 0 ? std::string() : "must be KILL, STOP, CONT or TERM, not '" + name + "'";
      });
  command->add_option("--random", options->random, "K nodes by chance, never the coordinator; with --coordinator: K others")
      ->check(CLI::Range(1U, kLocalNodesMax))
      ->type_name("K");
  command->add_flag("--coordinator", options->coordinator, "the one that leads now");
  command->add_flag("--standby", options->standby, "the one that leads next");
  command->add_flag(
      "--wait", options->wait,
      "measure the running jobs' rates, kill, wait until the cluster has recovered, and tell how long each step took");
  command->callback([&app, options] { kill_nodes(app, *options); });
  command->footer("Example:\n  idunno kill-node n3 --wait --json\n  idunno kill-node --coordinator --random 2 --wait");
}

}  // namespace idunno::cli

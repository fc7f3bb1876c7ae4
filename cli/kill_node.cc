#include "cli/kill_node.h"

#include <fmt/core.h>
#include <sys/random.h>

#include <algorithm>
#include <csignal>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "cli/local_cluster.h"
#include "cli/process.h"
#include "cli/reports.h"

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
  bool wait = false;
};

/// What happened to one node, as far as it could be measured.
struct Observed {
  NodeId node;
  pid_t pid = 0;
  std::size_t processes = 0;
  WallMs killed_at = 0;
  bool had_leases = false;
  std::optional<Duration> detected;
  std::optional<Duration> reassigned;
};

std::uint64_t seed() {
  std::uint64_t value = 0;
  if (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) value = static_cast<std::uint64_t>(wall_now_ms());
  return value;
}

Result<std::vector<NodeId>> choose(const LocalCluster& cluster, const Options& options) {
  const ClusterConfig& config = cluster.config();
  const NodeId coordinator = config.nodes.front().id;  // the only voter
  std::vector<NodeId> chosen;
  for (const std::string& name : options.nodes) {
    auto id = parse_node(name, config);
    if (!id) return id.error();
    chosen.push_back(*id);
  }
  if (options.coordinator) chosen.push_back(coordinator);
  if (options.random > 0) {
    std::vector<NodeId> others;
    for (const auto& [node, pid] : cluster.running()) {
      if (node != coordinator && std::find(chosen.begin(), chosen.end(), node) == chosen.end()) others.push_back(node);
    }
    if (others.size() < options.random) {
      return Error{Errc::conflict,
                   fmt::format("--random {}: only {} nodes other than the coordinator run", options.random, others.size())};
    }
    Random random(seed());
    random.shuffle(others);
    chosen.insert(chosen.end(), others.begin(), others.begin() + options.random);
  }
  std::sort(chosen.begin(), chosen.end());
  chosen.erase(std::unique(chosen.begin(), chosen.end()), chosen.end());
  if (chosen.empty()) return Error{Errc::invalid, "name the nodes (idunno kill-node n3), or say --random K or --coordinator"};
  for (const NodeId node : chosen) {
    if (cluster.pid(node) == 0) {
      return Error{Errc::conflict, fmt::format("{} does not run; `idunno node start {}` starts it", to_string(node), node.value)};
    }
  }
  return chosen;
}

/// Batches leased again so far, over all jobs.
std::uint64_t retried_so_far(Session& session) {
  auto reports = session.metadata().call_and_wait(JobReportsRequest{});
  std::uint64_t sum = 0;
  if (reports) {
    for (const JobReport& job : reports->jobs) sum += job.retried;
  }
  return sum;
}

/// Looks at the coordinator's view until every node is known dead and its leases are with others, or time is up.
void observe(App& app, Session& session, std::vector<Observed>& all, std::uint64_t retried_before, Time killed) {
  static constexpr Duration kLook = std::chrono::milliseconds(5);
  const Time deadline = killed + app.globals.timeout;
  bool again = false;
  while (monotonic_now() < deadline) {
    auto status = session.metadata().call_and_wait(StatusRequest{});
    const Time now = monotonic_now();
    if (!status) return;
    bool complete = true;
    again = again || retried_so_far(session) > retried_before;
    for (Observed& seen : all) {
      const auto report =
          std::find_if(status->nodes.begin(), status->nodes.end(), [&](const NodeReport& n) { return n.id == seen.node; });
      if (report == status->nodes.end()) continue;
      if (!seen.detected && report->state == NodeState::dead) seen.detected = now - killed;
      if (seen.had_leases && !seen.reassigned && seen.detected && report->leased == 0 && again) seen.reassigned = now - killed;
      complete = complete && seen.detected && (seen.reassigned || !seen.had_leases);
    }
    if (complete) return;
    (void)session.loop().run_until([] { return false; }, now + kLook);
  }
}

Json ms_or_null(const std::optional<Duration>& duration) {
  if (!duration) return nullptr;
  return static_cast<double>(duration->count()) / 1000.0;
}

Json observed_json(const Observed& seen, const Json& repeated) {
  Json out = Json::object();
  out["node"] = to_string(seen.node);
  out["killed_at"] = rfc3339(seen.killed_at);
  out["detected_ms"] = ms_or_null(seen.detected);
  out["reassigned_ms"] = ms_or_null(seen.reassigned);
  // Not measured by this version: they need the rate before and after in small steps, and the end of the jobs.
  for (const char* name : {"normal_ms", "lost_queries"}) out[name] = nullptr;
  out["repeated_batches"] = repeated;
  for (const char* name : {"dip_pct", "dip_ms"}) out[name] = nullptr;
  return out;
}

void print_rows(const App& app, const std::string& schema, const std::vector<Json>& rows) {
  if (rows.size() == 1) return print_object(app.globals, schema, rows.front());
  std::vector<Column> columns;
  for (const auto& [name, value] : rows.front().items()) columns.push_back({name, name, value.is_number()});
  Listing listing(schema, "nodes", columns);
  for (const Json& row : rows) {
    std::vector<Listing::Cell> cells;
    for (const auto& [name, value] : row.items()) cells.push_back({value, ""});
    listing.add(std::move(cells));
  }
  listing.print(app.globals);
}

void kill_nodes(App& app, const Options& options) {
  static constexpr char kDoing[] = "kill-node";
  const int number = signal_by_name(options.signal);
  auto cluster = LocalCluster::open(app.globals.config);
  if (!cluster) return app.fail(cluster.error(), kDoing);
  auto chosen = choose(*cluster, options);
  if (!chosen) return app.fail(chosen.error(), kDoing);
  const bool coordinator_too = chosen->front() == cluster->config().nodes.front().id;
  const bool watch = options.wait && (number == SIGKILL || number == SIGSTOP || number == SIGTERM);

  Session* session = nullptr;
  std::uint64_t retried_before = 0;
  std::vector<Observed> all;
  for (const NodeId node : *chosen) all.push_back(Observed{node, cluster->pid(node), 0, 0, false, {}, {}});
  if (watch && !coordinator_too) {
    session = app.session();
    if (session == nullptr) return;
    retried_before = retried_so_far(*session);
    auto before = session->metadata().call_and_wait(StatusRequest{});
    if (!before) return app.fail(before.error(), kDoing);
    for (Observed& seen : all) {
      for (const NodeReport& report : before->nodes)
        seen.had_leases = seen.had_leases || (report.id == seen.node && report.leased > 0);
    }
  }
  const Time killed = monotonic_now();
  std::vector<pid_t> gone;
  for (Observed& seen : all) {
    seen.killed_at = wall_now_ms();
    auto signalled = cluster->signal(seen.node, number);
    if (!signalled) return app.fail(signalled.error(), kDoing);
    seen.processes = signalled->size();
    gone.insert(gone.end(), signalled->begin(), signalled->end());
  }
  static constexpr Duration kEndOf = std::chrono::seconds(10);
  if (number == SIGKILL || (number == SIGTERM && options.wait)) (void)wait_gone(gone, kEndOf);
  if (coordinator_too) {
    app.note(fmt::format("{} is the coordinator, and this version has one voter: jobs wait until `idunno node start {}`",
                         to_string(chosen->front()), chosen->front().value));
  }
  std::vector<Json> rows;
  if (!options.wait) {
    for (const Observed& seen : all) {
      rows.push_back(Json{{"node", to_string(seen.node)},
                          {"pid", seen.pid},
                          {"signal", options.signal},
                          {"processes", seen.processes},
                          {"killed_at", rfc3339(seen.killed_at)}});
    }
    return print_rows(app, "idunno.kill_node.v1", rows);
  }
  Json repeated = nullptr;
  if (session != nullptr) {
    observe(app, *session, all, retried_before, killed);
    repeated = retried_so_far(*session) - retried_before;
  }
  for (const Observed& seen : all) rows.push_back(observed_json(seen, repeated));
  print_rows(app, "idunno.kill_node.v1", rows);
  const bool undetected = std::any_of(all.begin(), all.end(), [](const Observed& seen) { return !seen.detected; });
  if (session != nullptr && undetected)
    app.fail(Error{Errc::timeout, "the coordinator did not call every one dead in time"}, kDoing);
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
  command->add_option("--random", options->random, "K nodes by chance, never the coordinator")
      ->check(CLI::Range(1U, kLocalNodesMax))
      ->type_name("K");
  command->add_flag("--coordinator", options->coordinator, "the coordinator");
  command->add_flag("--wait", options->wait, "wait until the cluster has noticed, and tell how long it took");
  command->callback([&app, options] { kill_nodes(app, *options); });
  command->footer("Example:\n  idunno kill-node n3 --wait --json\n  idunno kill-node --random 2");
}

}  // namespace idunno::cli

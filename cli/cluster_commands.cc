#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/kill_node.h"
#include "cli/local_cluster.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr Duration kStopGrace = std::chrono::seconds(10);

/// `up`, `down` and `node start` work on --dir; a --config elsewhere must not silently mean another cluster.
Result<LocalCluster> open_local(const Globals& globals) { return LocalCluster::open(globals.config); }

// ---- up -------------------------------------------------------------------------------------------------------------

struct UpOptions {
  unsigned nodes = 0;  ///< 0 = as it is, 5 for a new one
  std::uint16_t port = 0;
  std::uint32_t slots = 0;
  std::string data_root;
  std::vector<std::string> tuning;
};

/// `up` again with other settings than those that the cluster was made with; empty when they are the same.
std::string set_otherwise(const LocalCluster& cluster, const UpOptions& options) {
  const ClusterConfig& config = cluster.config();
  std::error_code error;
  const fs::path data = config.nodes.front().data_dir.parent_path();
  if (!options.data_root.empty() && !fs::equivalent(options.data_root, data, error))
    return fmt::format("keeps its data in {}, not {}", data.string(), options.data_root);
  for (const std::string& assignment : options.tuning) {
    ClusterConfig changed = config;
    if (!changed.set_tuning(assignment) || changed.to_toml() != config.to_toml())
      return fmt::format("has another setting than {} in {}", assignment, config.file.string());
  }
  return "";
}

Result<LocalCluster> open_or_make(App& app, const UpOptions& options) {
  std::error_code error;
  if (!fs::exists(app.globals.config, error)) {
    if (app.globals.config.filename() != "cluster.toml") {
      return Error{Errc::invalid, fmt::format("{} does not exist, and `up` makes only <dir>/cluster.toml; leave --config out",
                                              app.globals.config.string())};
    }
    LocalCluster::Options wanted;
    if (options.nodes != 0) wanted.nodes = options.nodes;
    wanted.port = options.port;
    wanted.slots = options.slots;
    wanted.data_root = options.data_root;
    wanted.tuning = options.tuning;
    return LocalCluster::make(app.globals.config.parent_path(), wanted);
  }
  auto cluster = LocalCluster::open(app.globals.config);
  if (!cluster) return cluster.error();
  const ClusterConfig& config = cluster->config();
  const std::string again = "; `idunno down --purge` removes it, --dir names another folder";
  if (options.nodes != 0 && options.nodes != config.nodes.size()) {
    return Error{Errc::conflict, fmt::format("the cluster in {} has {} nodes, not {}{}", cluster->folder().string(),
                                             config.nodes.size(), options.nodes, again)};
  }
  if (options.port != 0 && options.port != config.nodes.front().base_port) {
    return Error{Errc::conflict, fmt::format("the cluster in {} uses ports from {}, not {}{}", cluster->folder().string(),
                                             config.nodes.front().base_port, options.port, again)};
  }
  if (options.slots != 0 && options.slots != config.tuning.slots) {
    return Error{Errc::conflict, fmt::format("the cluster in {} has {} slots a node, not {}{}", cluster->folder().string(),
                                             config.tuning.slots, options.slots, again)};
  }
  if (const std::string other = set_otherwise(*cluster, options); !other.empty()) {
    return Error{Errc::conflict, fmt::format("the cluster in {} {}{}", cluster->folder().string(), other, again)};
  }
  return cluster;
}

/// Starts these nodes and waits until all of the cluster are alive; on failure ends what was started here.
Result<StatusReply> start_and_wait(App& app, const LocalCluster& cluster, const std::vector<NodeId>& nodes) {
  std::map<NodeId, pid_t> started;
  Status failed;
  for (const NodeId node : nodes) {
    auto pid = cluster.start(node);
    if (!pid) {
      failed = pid.error();
      break;
    }
    started[node] = *pid;
  }
  Result<StatusReply> status = Error{Errc::internal, "not asked"};
  if (failed) {
    auto session = Session::open(app.globals);
    status = session ? wait_until_up(cluster, **session, started, app.globals.timeout) : Result<StatusReply>(session.error());
  } else {
    status = failed.error();
  }
  if (!status) {
    for (const auto& [node, pid] : started) (void)cluster.signal(node, SIGKILL);
  }
  return status;
}

void up(App& app, const UpOptions& options) {
  const Time began = monotonic_now();
  auto cluster = open_or_make(app, options);
  if (!cluster) return app.fail(cluster.error(), "up");
  const auto running = cluster->running();
  std::vector<NodeId> down;
  for (const NodeConfig& node : cluster->config().nodes) {
    if (running.count(node.id) == 0) down.push_back(node.id);
  }
  auto status = start_and_wait(app, *cluster, down);
  if (!status) return app.fail(status.error(), "up");
  std::string names;
  for (const NodeId node : down) names += (names.empty() ? "" : ", ") + to_string(node);
  if (down.empty()) {
    app.note(fmt::format("all {} nodes run already", status->nodes.size()));
  } else if (!running.empty()) {
    app.note(fmt::format("{} ran already; started {}", running.size(), names));
  }
  app.note(fmt::format("{} nodes up in {}; folder {}", status->nodes.size(), format_duration(monotonic_now() - began),
                       cluster->folder().string()));
  Listing listing = nodes_listing(*status, "idunno.up.v1");
  listing.extra["coordinator"] = to_string(status->coordinator);
  listing.extra["dir"] = cluster->folder().string();
  listing.extra["started"] = down.size();
  listing.print(app.globals);
}

// ---- down -----------------------------------------------------------------------------------------------------------

bool confirmed(const App& app, const std::string& question) {
  if (app.globals.yes) return true;
  if (isatty(STDIN_FILENO) != 1) return false;
  std::fprintf(stderr, "%s [y/N] ", question.c_str());
  std::string answer;
  return std::getline(std::cin, answer) && (answer == "y" || answer == "Y" || answer == "yes");
}

void down(App& app, bool purge) {
  auto cluster = open_local(app.globals);
  if (!cluster) return app.fail(cluster.error(), "down");
  if (purge && !confirmed(app, fmt::format("Remove {} with all data stored in it?", cluster->folder().string()))) {
    app.exit_code = kUsage;
    return app.note(
        fmt::format("nothing done: --purge removes {} with all its data; say -y to mean it", cluster->folder().string()));
  }
  auto stopped = cluster->stop(kStopGrace);
  if (!stopped) return app.fail(stopped.error(), "down");
  app.note(*stopped == 0 ? "no node was running" : fmt::format("{} node{} stopped", *stopped, *stopped == 1 ? "" : "s"));
  if (purge) {
    if (auto removed = cluster->purge(); !removed) return app.fail(removed.error(), "down --purge");
    app.note(fmt::format("{} removed", cluster->folder().string()));
  }
  Json out = Json::object();
  out["nodes_stopped"] = *stopped;
  out["purged"] = purge;
  print_outcome(app.globals, "idunno.down.v1", out);
}

// ---- nodes ----------------------------------------------------------------------------------------------------------

Result<StatusReply> ask_status(Session& session) { return session.metadata().call_and_wait(StatusRequest{}); }

void node_list(App& app) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto reply = ask_status(*session);
  if (!reply) return app.fail(reply.error(), "node list");
  nodes_listing(*reply, "idunno.nodes.v1").print(app.globals);
}

void node_show(App& app, const std::string& name) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = parse_node(name, session->config());
  if (!id) return app.fail(id.error(), "node show");
  auto reply = ask_status(*session);
  if (!reply) return app.fail(reply.error(), "node show");
  for (const NodeReport& node : reply->nodes) {
    if (node.id != *id) continue;
    Json json = node_json(node, *reply);
    const NodeConfig* configured = session->config().node(*id);
    const std::string metrics = configured == nullptr ? "" : session->config().metrics_address(*configured);
    json["metrics_url"] =
        metrics.empty() ? Json(nullptr) : Json(fmt::format("http://{}{}/metrics", node.host, metrics.substr(metrics.rfind(':'))));
    return print_object(app.globals, "idunno.node.v1", json);
  }
  app.fail(Error{Errc::not_found, fmt::format("the coordinator does not know {}", to_string(*id))}, "node show");
}

void node_start(App& app, const std::vector<std::string>& names) {
  auto cluster = open_local(app.globals);
  if (!cluster) return app.fail(cluster.error(), "node start");
  std::vector<NodeId> nodes;
  for (const std::string& name : names) {
    auto id = parse_node(name, cluster->config());
    if (!id) return app.fail(id.error(), "node start");
    if (const pid_t pid = cluster->pid(*id); pid != 0) {
      return app.fail(Error{Errc::conflict, fmt::format("{} runs already (pid {})", to_string(*id), pid)}, "node start");
    }
    nodes.push_back(*id);
  }
  std::map<NodeId, pid_t> started;
  for (const NodeId node : nodes) {
    auto pid = cluster->start(node);
    if (!pid) return app.fail(pid.error(), "node start");
    started[node] = *pid;
  }
  Session* session = app.session();
  if (session == nullptr) return;
  auto status = wait_until_nodes_alive(*cluster, *session, started, app.globals.timeout);
  if (!status) return app.fail(status.error(), "node start");
  Listing listing("idunno.node_start.v1", "nodes", {{"id", "NODE"}, {"state", "STATE"}, {"pid", "PID", true}});
  for (const NodeReport& node : status->nodes) {
    if (started.count(node.id) != 0) listing.add({{to_string(node.id), ""}, {to_string(node.state), ""}, {node.pid, ""}});
  }
  listing.print(app.globals);
}

/// The coordinator's office goes to another voter, without a gap worth speaking of.
void node_lead(App& app, const std::string& name) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = parse_node(name, session->config());
  if (!id) return app.fail(id.error(), "node lead");
  auto reply = session->metadata().call_and_wait(TransferLeadership{*id});
  if (!reply) return app.fail(reply.error(), "node lead " + to_string(*id));
  print_object(app.globals, "idunno.node_lead.v1", Json{{"coordinator", to_string(reply->to)}});
}

/// Before a machine is taken down. What it computes it finishes or others take over when it is stopped (SIGTERM says good-bye).
void node_drain(App& app, const std::string& name) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto id = parse_node(name, session->config());
  if (!id) return app.fail(id.error(), "node drain");
  const std::string doing = "node drain " + to_string(*id);
  auto status = ask_status(*session);
  if (!status) return app.fail(status.error(), doing);
  NodeId coordinator = status->coordinator;
  if (coordinator == *id) {
    auto reply = session->metadata().call_and_wait(TransferLeadership{});
    if (!reply) return app.fail(reply.error(), doing);
    coordinator = reply->to;
  }
  print_object(app.globals, "idunno.node_drain.v1", Json{{"node", to_string(*id)}, {"coordinator", to_string(coordinator)}});
  app.note(
      fmt::format("{} does not lead; `idunno kill-node {} --signal TERM` on a local cluster, or systemctl stop there, ends it",
                  to_string(*id), id->value));
}

}  // namespace

void add_cluster_commands(CLI::App& root, App& app) {
  auto up_options = std::make_shared<UpOptions>();
  CLI::App* up_command = root.add_subcommand("up", "start a local cluster under --dir (or what of it is down)");
  up_command->add_option("-n,--nodes", up_options->nodes, "number of nodes (default 5)")
      ->check(CLI::Range(1U, kLocalNodesMax))
      ->type_name("N");
  up_command->add_option("--port", up_options->port, "first port (default: free ones are found)")
      ->check(CLI::Range(1024, 65000))
      ->type_name("PORT");
  up_command->add_option("--slots", up_options->slots, "executors a node (default: cores / nodes, at least 1)")
      ->check(CLI::Range(1U, 256U))
      ->type_name("K");
  up_command->add_option("--data-root", up_options->data_root, "the nodes' data goes to DIR/n1, DIR/n2, ... (default: --dir)")
      ->type_name("DIR");
  up_command
      ->add_option("--set", up_options->tuning,
                   "a key of [tuning] in the new cluster.toml (repeatable), as in configs/lab-10.toml")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  up_command->callback([&app, up_options] { up(app, *up_options); });
  up_command->footer("Example:\n  idunno up -n 5 && idunno status");

  auto purge = std::make_shared<bool>(false);
  CLI::App* down_command = root.add_subcommand("down", "stop the local cluster");
  down_command->add_flag("--purge", *purge, "remove its folder, with all stored data, too (asks unless -y)");
  down_command->callback([&app, purge] { down(app, *purge); });
  down_command->footer("Example:\n  idunno down --purge -y");

  CLI::App* node = root.add_subcommand("node", "the machines of the cluster");
  node->require_subcommand(1);
  node->footer("Example:\n  idunno node list\n  idunno node start 3");
  CLI::App* nodes = node->add_subcommand("list", "all nodes with load and storage");
  nodes->callback([&app] { node_list(app); });
  nodes->footer("Example:\n  idunno node list -o csv");
  auto name = std::make_shared<std::string>();
  CLI::App* show = node->add_subcommand("show", "everything about one node");
  show->add_option("node", *name, "n3 or 3")->required()->type_name("N");
  show->callback([&app, name] { node_show(app, *name); });
  show->footer("Example:\n  idunno node show n3");
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* start = node->add_subcommand("start", "start nodes of the local cluster that were killed");
  start->add_option("node", *names, "n3 or 3")->required()->type_name("N...");
  start->callback([&app, names] { node_start(app, *names); });
  start->footer("Example:\n  idunno node start 3");

  auto leader = std::make_shared<std::string>();
  CLI::App* lead = node->add_subcommand("lead", "make a node the coordinator: it must be a voter that is up to date");
  lead->add_option("node", *leader, "n3 or 3")->required()->type_name("N");
  lead->callback([&app, leader] { node_lead(app, *leader); });
  lead->footer("Example:\n  idunno node lead n2");
  auto drained = std::make_shared<std::string>();
  CLI::App* drain = node->add_subcommand("drain", "before a machine is taken down: another node leads, if this one did");
  drain->add_option("node", *drained, "n3 or 3")->required()->type_name("N");
  drain->callback([&app, drained] { node_drain(app, *drained); });
  drain->footer("Example:\n  idunno node drain n1");

  add_kill_node_command(root, app);
}

}  // namespace idunno::cli

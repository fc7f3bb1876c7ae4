#include "cli/local_cluster.h"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

#include "bus/clock.h"
#include "bus/hash.h"
#include "cli/process.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kLoopback[] = "127.0.0.1";
constexpr char kNodeProgram[] = "idunnod";
constexpr char kExecutorProgram[] = "idunno-executor";
constexpr std::uint16_t kPortFirst = 10000;
constexpr std::uint16_t kPortLast = 30000;  ///< below Linux's ephemeral ports

bool can_bind(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const int on = 1;
  (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // as libzmq does: sockets in TIME_WAIT do not count
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, kLoopback, &address.sin_addr);
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return bound;
}

Status write_file(const fs::path& file, const std::string& text) {
  const fs::path fresh = file.string() + ".new";
  {
    std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
    out << text;
    out.flush();
    if (!out) return Error{Errc::internal, fmt::format("writing {}: {}", fresh.string(), std::strerror(errno))};
  }
  std::error_code error;
  fs::rename(fresh, file, error);
  if (error) return Error{Errc::internal, fmt::format("writing {}: {}", file.string(), error.message())};
  return {};
}

bool is_loopback(const std::string& host) { return host == "localhost" || host.compare(0, 4, "127.") == 0; }

fs::path absolute_path(const fs::path& path) {
  std::error_code error;
  // Absolute first: of a relative path that does not exist yet, weakly_canonical makes no absolute one.
  const fs::path full = fs::absolute(path, error);
  const fs::path clean = fs::weakly_canonical(full, error);
  return error ? full : clean;
}

}  // namespace

std::uint16_t free_port_range(std::uint16_t first, unsigned count) {
  for (unsigned from = first; from + count <= 65536;) {
    unsigned free = 0;
    while (free < count && can_bind(static_cast<std::uint16_t>(from + free))) ++free;
    if (free == count) return static_cast<std::uint16_t>(from);
    from += free + 1;
  }
  return 0;
}

Result<std::vector<std::string>> make_missing_keys(const ClusterConfig& config, bool clients) {
  std::error_code error;
  fs::create_directories(config.keys_dir, error);
  if (error) return Error{Errc::internal, fmt::format("making {}: {}", config.keys_dir.string(), error.message())};
  fs::permissions(config.keys_dir, fs::perms::owner_all, error);
  const fs::path list = config.keys_dir / "admitted.toml";
  AdmittedKeys admitted;
  if (fs::exists(list, error)) {
    auto loaded = AdmittedKeys::load(list);
    if (!loaded) return loaded.error();
    admitted = std::move(loaded).value();
  }
  std::vector<std::pair<std::string, Role>> wanted{{"admin", Role::admin}};
  if (clients) wanted.insert(wanted.end(), {{"submit", Role::submit}, {"read", Role::read}});
  for (const NodeConfig& node : config.nodes) wanted.emplace_back(to_string(node.id), Role::node);

  std::vector<std::string> made;
  for (const auto& [name, role] : wanted) {
    if (admitted.by_name(name) != nullptr) continue;
    auto keys = generate_key_pair(name, role);
    if (!keys) return keys.error();
    if (auto saved = save_secret_key(config.keys_dir, *keys); !saved) return saved.error();
    if (auto added = admitted.add({name, role, keys->public_key}); !added) return added.error();
    made.push_back(name);
  }
  if (!made.empty()) {
    if (auto saved = admitted.save(list); !saved) return saved.error();
  }
  return made;
}

Result<LocalCluster> LocalCluster::make(const fs::path& folder, const Options& options) {
  const fs::path home = absolute_path(folder);
  const fs::path file = home / "cluster.toml";
  std::error_code error;
  if (fs::exists(file, error)) return Error{Errc::conflict, fmt::format("{} exists already", file.string())};
  if (fs::exists(home, error) && !fs::is_empty(home, error)) {
    return Error{Errc::conflict,
                 fmt::format("{} is not empty and holds no cluster.toml; name another folder with --dir", home.string())};
  }
  const unsigned ports = options.nodes * kPortsPerNode;
  std::uint16_t port = options.port;
  if (port == 0) {
    // Two folders start looking at different places, so that clusters made at the same moment do not race for the same ports.
    const auto spread = static_cast<std::uint16_t>(hash64(home.string()) % (kPortLast - kPortFirst));
    port = free_port_range(static_cast<std::uint16_t>(kPortFirst + spread), ports);
    if (port == 0) return Error{Errc::unavailable, fmt::format("no {} free ports in a row on {}", ports, kLoopback)};
  } else if (free_port_range(port, ports) != port) {
    return Error{Errc::conflict, fmt::format("ports {} to {} on {} are not all free; leave --port out to have free ones found",
                                             port, port + ports - 1, kLoopback)};
  }
  ClusterConfig config;
  config.file = file;
  config.keys_dir = home / "keys";
  config.id = fmt::format("local-{:012x}",
                          (hash64(home.string(), wall_now_ms()) ^ static_cast<std::uint64_t>(getpid())) & 0xFFFFFFFFFFFFU);
  for (const std::string& assignment : options.tuning) {
    if (Status set = config.set_tuning(assignment); !set) return set.error();
  }
  const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
  if (options.slots != 0) config.tuning.slots = options.slots;
  if (config.tuning.slots == 0) config.tuning.slots = std::max(1U, cores / options.nodes);
  const fs::path data_root = options.data_root.empty() ? home : absolute_path(options.data_root);
  for (unsigned i = 0; i < options.nodes; ++i) {
    NodeConfig node;
    node.id = NodeId{i + 1};
    node.host = kLoopback;
    node.base_port = static_cast<std::uint16_t>(port + i * kPortsPerNode);
    node.data_dir = data_root / to_string(node.id);
    if (data_root != home && fs::exists(node.data_dir, error)) {
      return Error{Errc::conflict, fmt::format("{} exists already, perhaps another cluster's data; name another --data-root",
                                               node.data_dir.string())};
    }
    config.nodes.push_back(std::move(node));
  }
  fs::create_directories(home, error);
  for (const NodeConfig& node : config.nodes) {
    if (!error) fs::create_directories(node.data_dir, error);
  }
  if (error) return Error{Errc::internal, fmt::format("making the cluster's folder {}: {}", home.string(), error.message())};
  if (auto keys = make_missing_keys(config, true); !keys) return keys.error();
  // Last, because its presence says that the rest is there.
  if (auto written = write_file(file, config.to_toml()); !written) return written.error();
  return open(file);
}

Result<LocalCluster> LocalCluster::open(const fs::path& config_file) {
  const fs::path file = absolute_path(config_file);
  std::error_code error;
  if (!fs::exists(file, error)) {
    return Error{Errc::not_found,
                 fmt::format("no local cluster here: {} does not exist; start one with `idunno up`", file.string())};
  }
  auto config = ClusterConfig::load(file);
  if (!config) return config.error();
  const fs::path home = file.parent_path();
  for (const NodeConfig& node : config->nodes) {
    const fs::path data = absolute_path(node.data_dir);
    // `up` makes folders of just this name, side by side; any other is somebody's own layout, and not for --purge.
    const bool made_by_up = data.filename() == to_string(node.id) &&
                            data.parent_path() == absolute_path(config->nodes.front().data_dir).parent_path();
    if (!is_loopback(node.host) || !made_by_up) {
      return Error{Errc::conflict,
                   fmt::format("{} is not a local cluster: node {} is {} with data in {}; start, stop and kill its nodes on "
                               "their own machines (systemctl, or ssh and kill)",
                               file.string(), to_string(node.id), node.host, node.data_dir.string())};
    }
  }
  config->file = file;
  return LocalCluster(std::move(config).value(), home);
}

pid_t LocalCluster::pid(NodeId node) const {
  const NodeConfig* found = config_.node(node);
  if (found == nullptr) return 0;
  const pid_t pid = read_pid_file(found->data_dir / "idunnod.pid");
  return is_node_process(command_line(pid), config_.file, node.value) ? pid : 0;
}

std::map<NodeId, pid_t> LocalCluster::running() const {
  std::map<NodeId, pid_t> found;
  for (const NodeConfig& node : config_.nodes) {
    if (const pid_t at = pid(node.id); at != 0) found[node.id] = at;
  }
  return found;
}

Result<pid_t> LocalCluster::start(NodeId node) const {
  const NodeConfig* found = config_.node(node);
  if (found == nullptr) return Error{Errc::not_found, fmt::format("no node {} in {}", to_string(node), config_.file.string())};
  if (const pid_t at = pid(node); at != 0)
    return Error{Errc::conflict, fmt::format("{} runs already (pid {})", to_string(node), at)};
  auto program = program_beside_us(kNodeProgram);
  if (!program) return program.error();
  std::error_code error;
  fs::create_directories(found->data_dir, error);
  if (error) return Error{Errc::internal, fmt::format("making {}: {}", found->data_dir.string(), error.message())};
  return spawn_detached({program->string(), "--config", config_.file.string(), "--node", std::to_string(node.value)},
                        found->data_dir / "idunnod.out");
}

Result<std::map<NodeId, std::vector<pid_t>>> LocalCluster::signal_together(const std::vector<NodeId>& nodes, int number,
                                                                           const std::function<void()>& at_once) const {
  std::vector<std::pair<NodeId, pid_t>> daemons;
  std::vector<std::pair<NodeId, pid_t>> executors;
  for (const NodeId node : nodes) {
    const pid_t at = pid(node);
    if (at == 0)
      return Error{Errc::conflict, fmt::format("{} does not run; `idunno node start {}` starts it", to_string(node), node.value)};
    daemons.emplace_back(node, at);
    // A node that is asked to end ends its executors itself.
    if (number == SIGTERM) continue;
    for (const pid_t executor : children_of(at, kExecutorProgram)) executors.emplace_back(node, executor);
  }
  std::map<NodeId, std::vector<pid_t>> signalled;
  std::pair<NodeId, int> refused;
  if (at_once) at_once();
  for (const auto& [node, at] : daemons) {
    if (kill(at, number) != 0) {
      refused = {node, errno};
    } else {
      signalled[node].push_back(at);
    }
  }
  for (const auto& [node, at] : executors) {
    if (kill(at, number) == 0) signalled[node].push_back(at);
  }
  if (refused.first) {
    return Error{Errc::forbidden, fmt::format("signalling {}: {}", to_string(refused.first), std::strerror(refused.second))};
  }
  return signalled;
}

Result<std::vector<pid_t>> LocalCluster::signal(NodeId node, int number) const {
  auto signalled = signal_together({node}, number);
  if (!signalled) return signalled.error();
  return std::move((*signalled)[node]);
}

Result<unsigned> LocalCluster::stop(Duration grace) const {
  std::vector<pid_t> pids;
  for (const auto& [node, at] : running()) {
    // A stopped process (kill-node --signal STOP) takes SIGTERM only after SIGCONT.
    if (kill(at, SIGTERM) != 0 || kill(at, SIGCONT) != 0) {
      return Error{Errc::forbidden, fmt::format("stopping {} (pid {}): {}", to_string(node), at, std::strerror(errno))};
    }
    for (const pid_t executor : children_of(at, kExecutorProgram)) (void)kill(executor, SIGCONT);
    pids.push_back(at);
  }
  if (!wait_gone(pids, grace)) {
    for (const auto& [node, at] : running()) (void)signal(node, SIGKILL);
    static constexpr Duration kAfterKill = std::chrono::seconds(10);
    if (!wait_gone(pids, kAfterKill)) return Error{Errc::internal, "some nodes do not end, not even by SIGKILL; see `ps`"};
  }
  return static_cast<unsigned>(pids.size());
}

Status LocalCluster::purge() const {
  // Only what `up` made: a folder that holds other things as well keeps them.
  std::vector<fs::path> ours;
  for (const NodeConfig& node : config_.nodes) ours.push_back(absolute_path(node.data_dir));
  ours.push_back(folder_ / "keys");
  ours.push_back(config_.file);
  std::error_code error;
  for (const fs::path& path : ours) {
    fs::remove_all(path, error);
    if (error) return Error{Errc::internal, fmt::format("removing {}: {}", path.string(), error.message())};
  }
  if (fs::is_empty(folder_, error) && !error) fs::remove(folder_, error);
  if (error) return Error{Errc::internal, fmt::format("removing {}: {}", folder_.string(), error.message())};
  return {};
}

std::vector<std::string> LocalCluster::last_words(NodeId node) const {
  static constexpr std::size_t kLines = 5;
  const NodeConfig* found = config_.node(node);
  if (found == nullptr) return {};
  auto lines = tail_of(found->data_dir / "idunnod.out", kLines);
  return lines.empty() ? tail_of(found->data_dir / "log" / "idunnod.log", kLines) : lines;
}

namespace {

Error not_up(const LocalCluster& cluster, NodeId node, Errc code, const std::string& why) {
  std::string detail = fmt::format("{} did not come up: {}", to_string(node), why);
  const auto words = cluster.last_words(node);
  if (!words.empty()) detail += "; it said: " + words.back();
  detail += fmt::format(" (see {})", cluster.config().node(node)->data_dir.string());
  return Error{code, detail};
}

using Wanted = std::function<bool(const StatusReply&)>;

/// The first node whose process has ended, told as an error.
Status ended_early(const LocalCluster& cluster, const std::map<NodeId, pid_t>& started) {
  for (const auto& [node, pid] : started) {
    if (const std::string end = child_end(pid); !end.empty()) return not_up(cluster, node, Errc::internal, end);
  }
  return {};
}

Result<StatusReply> wait_until(const LocalCluster& cluster, Session& session, const std::map<NodeId, pid_t>& started,
                               Duration limit, const Wanted& wanted) {
  static constexpr Duration kLook = std::chrono::milliseconds(50);
  const Time deadline = monotonic_now() + limit;
  EventLoop& loop = session.loop();
  StatusReply last;
  while (monotonic_now() < deadline) {
    auto answer = std::make_shared<std::optional<Result<StatusReply>>>();
    session.metadata().call<StatusRequest>({}, [answer](Result<StatusReply> reply) { *answer = std::move(reply); });
    // Between looks at the answer, look at the processes: one that has ended will never answer.
    while (!loop.run_until([&] { return answer->has_value(); }, std::min(deadline, monotonic_now() + kLook))) {
      if (auto running = ended_early(cluster, started); !running) return running.error();
      if (monotonic_now() >= deadline) break;
    }
    if (answer->has_value() && (*answer)->ok()) {
      last = (*answer)->value();
      if (wanted(last)) return last;
    } else if (answer->has_value() && (*answer)->error().code == Errc::forbidden) {
      return (*answer)->error();
    }
    (void)loop.run_until([] { return false; }, std::min(deadline, monotonic_now() + kLook));
    if (auto running = ended_early(cluster, started); !running) return running.error();
  }
  for (const NodeConfig& node : cluster.config().nodes) {
    const auto found = std::find_if(last.nodes.begin(), last.nodes.end(), [&](const NodeReport& n) { return n.id == node.id; });
    if (found == last.nodes.end() || found->state != NodeState::alive) {
      return not_up(cluster, node.id, Errc::timeout, "no sign of life in time (--timeout waits longer)");
    }
  }
  return Error{Errc::timeout, "the nodes run, but no coordinator answered in time"};
}

}  // namespace

Result<StatusReply> wait_until_up(const LocalCluster& cluster, Session& session, const std::map<NodeId, pid_t>& started,
                                  Duration limit) {
  return wait_until(cluster, session, started, limit, [&](const StatusReply& status) {
    return status.coordinator && status.nodes.size() == cluster.config().nodes.size() &&
           std::all_of(status.nodes.begin(), status.nodes.end(), [](const NodeReport& n) { return n.state == NodeState::alive; });
  });
}

Result<StatusReply> wait_until_nodes_alive(const LocalCluster& cluster, Session& session, const std::map<NodeId, pid_t>& started,
                                           Duration limit) {
  return wait_until(cluster, session, started, limit, [&](const StatusReply& status) {
    return std::all_of(started.begin(), started.end(), [&](const auto& one) {
      return std::any_of(status.nodes.begin(), status.nodes.end(), [&](const NodeReport& n) {
        return n.id == one.first && n.state == NodeState::alive && n.pid == static_cast<std::uint32_t>(one.second);
      });
    });
  });
}

}  // namespace idunno::cli

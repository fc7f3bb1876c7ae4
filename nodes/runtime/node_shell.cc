#include "nodes/runtime/node_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <optional>
#include <thread>
#include <utility>

#include "bus/clock.h"
#include "bus/files.h"
#include "nodes/runtime/agent_shell.h"
#include "nodes/runtime/control_shell.h"
#include "nodes/runtime/follow_shell.h"
#include "nodes/runtime/history_shell.h"
#include "nodes/runtime/log_shell.h"
#include "nodes/runtime/logging.h"
#include "nodes/runtime/metrics_endpoint.h"
#include "nodes/runtime/node_context.h"
#include "nodes/runtime/swim_shell.h"

namespace idunno {
namespace {

constexpr Duration kHandOverMax = std::chrono::milliseconds(500);  ///< for the office of a coordinator that is stopped
constexpr std::uint32_t kMetricsWindowS = 10;                      ///< of the rates that metrics show
constexpr Duration kGoodByeTime = std::chrono::milliseconds(150);  ///< for the last messages to leave

std::string endpoint(const NodeConfig& node, Service service) {
  return fmt::format("tcp://{}:{}", node.bind.empty() ? node.host : node.bind, node.base_port + static_cast<unsigned>(service));
}

std::uint32_t slots_of(const ClusterConfig& config) {
  return config.tuning.slots != 0 ? config.tuning.slots : std::max(1U, std::thread::hardware_concurrency());
}

std::vector<NodeId> node_ids(const ClusterConfig& config) {
  std::vector<NodeId> ids;
  for (const NodeConfig& node : config.nodes) ids.push_back(node.id);
  return ids;
}

/// Grows from start to start, also when the clock was set back: a life with an earlier number would be taken for a dead one.
Result<Incarnation> next_incarnation(const std::filesystem::path& data_dir) {
  const std::filesystem::path file = data_dir / "incarnation";
  std::uint64_t last = 0;
  std::ifstream(file) >> last;
  const std::uint64_t next = std::max<std::uint64_t>(wall_now_ms(), last + 1);
  const Status written = files::write_atomically(file, std::to_string(next) + "\n", 0644, files::Existing::replace);
  if (!written) return written.error();
  return Incarnation{next};
}

}  // namespace

struct NodeShell::Impl {
  ClusterConfig config;
  const NodeConfig* self = nullptr;
  int signals = -1;
  int exit_code = 0;
  std::uint64_t event_sequence = 0;

  // Destroyed from the bottom up: parts before what they use.
  std::unique_ptr<ZmqContext> zmq;
  std::unique_ptr<ZapHandler> zap;
  EventLoop loop;
  std::unique_ptr<Publisher> events;
  std::unique_ptr<RpcServer> rpc;
  std::unique_ptr<RpcServer> ping;
  std::unique_ptr<RpcClient> client;
  std::unique_ptr<DataService> data;
  std::optional<NodeContext> context;
  std::unique_ptr<AgentShell> agent;
  std::unique_ptr<HistoryShell> history;  ///< as control
  std::unique_ptr<ControlShell> control;  ///< none on a node that keeps no log
  std::unique_ptr<FollowShell> follow;    ///< as control
  std::unique_ptr<SwimShell> swim;
  std::unique_ptr<LogShell> logs;
  std::unique_ptr<MetricsEndpoint> metrics;  ///< none when it is off

  bool stopping = false;

  ~Impl() {
    if (signals >= 0) close(signals);
    metrics.reset();  // it asks the parts below
    data.reset();     // its thread posts to the parts below
    logs.reset();
    swim.reset();
    follow.reset();
    control.reset();
    history.reset();
    agent.reset();
  }

  Status open_sockets(const KeyPair& keys, const AddressBook& peers);
  Status start_data(const KeyPair& keys, const AddressBook& peers);
  Status start_parts(const KeyPair& keys, const AddressBook& peers, const std::filesystem::path& executor_program);
  Status start_control(const KeyPair& keys, const AddressBook& peers);
  void start_membership();
  void start_metrics();
  [[nodiscard]] NodeFigures figures();
  void member_changed(const MemberChange& change);
  void answer_without_log();
  void answer_batch_lives();
  void stop();
  void say_good_bye();
  void tell(Event event);
  void fatal(const Error& error);
  void on_signal();
  void reload_keys();
};

NodeShell::NodeShell() : impl_(std::make_unique<Impl>()) {}
NodeShell::~NodeShell() = default;

Result<std::unique_ptr<NodeShell>> NodeShell::create(ClusterConfig config, NodeId self,
                                                     const std::filesystem::path& executor_program) {
  std::unique_ptr<NodeShell> shell(new NodeShell());
  Impl& impl = *shell->impl_;
  impl.config = std::move(config);
  impl.self = impl.config.node(self);
  if (impl.self == nullptr) {
    return Error{Errc::not_found,
                 fmt::format("{} is not in {}; its nodes are n{} to n{}", to_string(self), impl.config.file.string(),
                             impl.config.nodes.front().id.value, impl.config.nodes.back().id.value)};
  }
  auto admitted = AdmittedKeys::load(impl.config.keys_dir / "admitted.toml");
  if (!admitted) return admitted.error();
  auto keys = load_secret_key(impl.config.keys_dir / (to_string(self) + ".key"));
  if (!keys) return keys.error();
  auto peers = address_book(impl.config, *admitted);
  if (!peers) return peers.error();

  auto zmq = ZmqContext::create();
  if (!zmq) return zmq.error();
  impl.zmq = std::move(*zmq);
  auto zap = ZapHandler::start(*impl.zmq, *admitted);
  if (!zap) return zap.error();
  impl.zap = std::move(*zap);
  if (Status opened = impl.open_sockets(*keys, *peers); !opened) return opened.error();
  if (Status started = impl.start_parts(*keys, *peers, executor_program); !started) return started.error();
  return shell;
}

Status NodeShell::Impl::open_sockets(const KeyPair& keys, const AddressBook& peers) {
  const std::uint64_t cluster = config.cluster_hash();
  RpcServer::Options options;
  options.keys = keys;
  options.cluster = cluster;
  options.endpoint = endpoint(*self, Service::rpc);
  auto rpc_server = RpcServer::bind(loop, *zmq, options);
  if (!rpc_server) return rpc_server.error();
  rpc = std::move(*rpc_server);
  options.endpoint = endpoint(*self, Service::ping);
  auto ping_server = RpcServer::bind(loop, *zmq, options);
  if (!ping_server) return ping_server.error();
  ping = std::move(*ping_server);
  auto publisher = Publisher::bind(*zmq, endpoint(*self, Service::events), keys, cluster);
  if (!publisher) return publisher.error();
  events = std::move(*publisher);
  RpcClient::Options client_options;
  client_options.keys = keys;
  client_options.cluster = cluster;
  client_options.peers = peers;
  auto rpc_client = RpcClient::create(loop, *zmq, client_options);
  if (!rpc_client) return rpc_client.error();
  client = std::move(*rpc_client);
  return {};
}

Status NodeShell::Impl::start_data(const KeyPair& keys, const AddressBook& peers) {
  DataService::Options data_options;
  data_options.node = self->id;
  data_options.endpoint = endpoint(*self, Service::data);
  data_options.keys = keys;
  data_options.peers = peers;
  data_options.cluster = config.cluster_hash();
  data_options.store.folder = self->data_dir / "blocks";
  data_options.store.cache_bytes = config.tuning.block_cache_bytes;
  data_options.store.reserve_bytes = config.tuning.disk_reserve_bytes;
  data_options.scrub_bytes_per_s = config.tuning.scrub_bytes_per_s;
  auto service = DataService::start(*zmq, data_options);
  if (!service) return service.error();
  data = std::move(*service);
  data->on_failure([this](const Error& error) { loop.post([this, error] { fatal(error); }); });

  return {};
}

Status NodeShell::Impl::start_parts(const KeyPair& keys, const AddressBook& peers,
                                    const std::filesystem::path& executor_program) {
  if (Status started = start_data(keys, peers); !started) return started;
  const auto incarnation = next_incarnation(self->data_dir);
  if (!incarnation) return incarnation.error();
  context.emplace(NodeContext{config, *self, *incarnation, slots_of(config), loop, *client, *data, *zap,
                              [this](Event event) { tell(std::move(event)); }, [this](const Error& error) { fatal(error); }});

  ping->on<Ping>([this, life = *incarnation](const RequestContext& request, const Ping&, const Payload&) {
    ping->reply(request, Pong{self->id, life});
  });
  agent = std::make_unique<AgentShell>(*context, executor_program);
  loop.on_turn_end([this] { agent->end_turn(); });
  if (Status started = start_control(keys, peers); !started) return started;
  answer_batch_lives();
  start_membership();
  start_metrics();
  logs = std::make_unique<LogShell>(*context, *rpc, opened_log());
  loop.on_turn_end([] { flush_log(); });
  return {};
}

Status NodeShell::Impl::start_control(const KeyPair& keys, const AddressBook& peers) {
  const std::vector<NodeId> log_nodes = config.log_nodes();
  if (std::find(log_nodes.begin(), log_nodes.end(), self->id) == log_nodes.end()) {
    answer_without_log();
    return {};
  }
  auto started =
      ControlShell::start(*context, ControlShell::Sockets{*zmq, *rpc, *events, keys, peers}, [this](NodeId leader, Epoch epoch) {
        agent->leader_hint(leader, epoch);
        loop.post([] {});  // the agent's turn has ended already
      });
  if (!started) return started.error();
  control = std::move(*started);
  const OwnClient::Options own{keys, peers, config.cluster_hash(), log_nodes};
  history = std::make_unique<HistoryShell>(loop, *zmq, HistoryShell::Options{self->id, own});
  follow = std::make_unique<FollowShell>(loop, *zmq, *control, own);
  control->on_follow([this](Epoch epoch, const FollowNotice& notice) { follow->notice(epoch, notice); });
  control->on_stats([this](const StatsNotice& notice, Epoch epoch) { history->stats(notice, epoch); });
  return {};
}

void NodeShell::Impl::start_membership() {
  SwimShell::Options options;
  options.self = self->id;
  options.members = node_ids(config);
  options.incarnation = context->incarnation;
  options.seed = context->incarnation.value ^ (std::uint64_t{self->id.value} << 32U);
  options.config.probe_interval = config.tuning.probe_interval;
  swim = std::make_unique<SwimShell>(loop, *client, *ping, *rpc, options,
                                     [this](const MemberChange& change) { member_changed(change); });
}

/// A port that is taken costs the figures, not the node.
void NodeShell::Impl::start_metrics() {
  const std::string address = config.metrics_address(*self);
  if (address.empty()) return;
  auto started = MetricsEndpoint::start(loop, address, [this] { return figures(); });
  if (!started) {
    spdlog::error("no metrics: {}; free the port or change [metrics] listen, then start the node again", started.error().detail);
    return;
  }
  metrics = std::move(*started);
}

NodeFigures NodeShell::Impl::figures() {
  NodeFigures out;
  out.self = self->id;
  out.now_ms = wall_now_ms();
  out.started_ms = context->incarnation.value;
  out.slots = context->slots;
  out.running = agent->running();
  out.executors = agent->executors();
  out.processes = agent->processes();
  out.store = data->usage();
  out.members = swim->members();
  out.awareness = swim->awareness();
  out.sockets = {{"rpc", rpc->messages(), rpc->refused_messages()},
                 {"ping", ping->messages(), ping->refused_messages() + swim->refused()}};
  out.refused_keys = zap->refused();
  if (!control) return out;
  out.sockets.push_back({"log", control->link().messages(), control->link().refused_messages()});
  out.raft = control->plane().raft_status();
  if (auto status = control->plane().status()) {
    out.cluster = NodeFigures::Cluster{std::move(*status), control->plane().reports(kMetricsWindowS, monotonic_now())};
  }
  return out;
}

void NodeShell::Impl::member_changed(const MemberChange& change) {
  spdlog::info("membership: {} {}", to_string(change.node), change.why);
  if (control) control->member_changed(change);
  if (logs) logs->member_changed(change);
}

/// What this node did with the batch, and what it decided if it coordinates.
void NodeShell::Impl::answer_batch_lives() {
  rpc->on<BatchLivesRequest>([this](const RequestContext& request, const BatchLivesRequest& body, const Payload&) {
    BatchLivesReply reply = agent->batch_lives(body.job, body.batch);
    const auto decided = control ? control->batch_lives(body.job, body.batch) : std::nullopt;
    if (decided) {
      reply.coordinator = true;
      reply.waits = decided->waits;
      reply.forgotten = reply.forgotten || decided->forgotten;
      reply.steps.insert(reply.steps.end(), decided->steps.begin(), decided->steps.end());
      std::ranges::stable_sort(reply.steps, {}, &BatchStep::at_ms);
      const std::size_t more = reply.steps.size() - std::min(reply.steps.size(), kBatchStepsMax);
      reply.steps.erase(reply.steps.begin(), reply.steps.begin() + static_cast<std::ptrdiff_t>(more));
    }
    rpc->reply(request, reply);
  });
}

void NodeShell::Impl::answer_without_log() {
  // A node without a log cannot lead: it names the coordinator it works for, and clients follow.
  rpc->on_other([this](const RequestContext& request) {
    const NodeId leader = agent->coordinator();
    rpc->reply_error(request,
                     {Errc::not_leader, fmt::format("{} keeps no log and cannot coordinate; {}", to_string(self->id),
                                                    leader ? to_string(leader) + " does" : "nobody is known to do so now")},
                     leader);
  });
}

void NodeShell::Impl::tell(Event event) {
  event.at_ms = wall_now_ms();
  event.node = self->id;
  log_event(event);
  events->publish(kEventTopic, EventNotice{++event_sequence, std::move(event)});
}

void NodeShell::Impl::fatal(const Error& error) {
  spdlog::critical("the node stops: {}", error.detail);
  fmt::print(stderr, "idunnod: {} stops: {}\n", to_string(self->id), error.detail);
  exit_code = 1;
  loop.stop();
}

void NodeShell::Impl::on_signal() {
  signalfd_siginfo info{};
  while (read(signals, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGHUP) {
      reload_keys();
    } else {
      spdlog::info("stopping on signal {}", info.ssi_signo);
      stop();
    }
  }
}

/// A coordinator gives its office away before it goes, so that nobody has to find out. A second signal does not wait.
void NodeShell::Impl::stop() {
  if (std::exchange(stopping, true)) return loop.stop();
  if (!control || !control->serving()) return say_good_bye();
  loop.after(kHandOverMax, [this] { loop.stop(); });
  control->hand_over([this] { loop.post([this] { say_good_bye(); }); });
}

void NodeShell::Impl::say_good_bye() {
  swim->leave();
  loop.after(kGoodByeTime, [this] { loop.stop(); });
}

void NodeShell::Impl::reload_keys() {
  auto admitted = AdmittedKeys::load(config.keys_dir / "admitted.toml");
  if (!admitted) {
    spdlog::warn("the admitted keys stay as they were: {}", admitted.error().detail);
    return;
  }
  spdlog::info("admitted keys read again: {}", admitted->keys().size());
  zap->replace(std::move(*admitted));
}

int NodeShell::run() {
  Impl& impl = *impl_;
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) sigaddset(&set, signal);
  impl.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (impl.signals < 0) {
    impl.fatal({Errc::internal, "signalfd failed"});
    return 1;
  }
  impl.loop.add_fd(impl.signals, [&impl] { impl.on_signal(); });
  spdlog::info("{} runs: {} slots, ports {} to {}, blocks in {}", to_string(impl.self->id), impl.context->slots,
               impl.self->base_port, impl.self->base_port + kPortsPerNode - 1, (impl.self->data_dir / "blocks").string());
  impl.agent->start();
  impl.loop.run();
  impl.loop.remove_fd(impl.signals);
  flush_log();
  return impl.exit_code;
}

}  // namespace idunno

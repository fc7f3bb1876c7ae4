#include "nodes/runtime/node_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <thread>
#include <utility>

#include "bus/clock.h"
#include "nodes/runtime/coordinator_shell.h"
#include "nodes/runtime/logging.h"
#include "nodes/runtime/node_context.h"
#include "nodes/runtime/node_session.h"
#include "nodes/runtime/worker_shell.h"

namespace idunno {
namespace {

std::string endpoint(const NodeConfig& node, Service service) {
  return fmt::format("tcp://{}:{}", node.bind.empty() ? node.host : node.bind, node.base_port + static_cast<unsigned>(service));
}

std::uint32_t slots_of(const ClusterConfig& config) {
  return config.tuning.slots != 0 ? config.tuning.slots : std::max(1U, std::thread::hardware_concurrency());
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
  std::unique_ptr<WorkerShell> worker;
  std::unique_ptr<NodeSession> session;
  std::unique_ptr<CoordinatorShell> coordinator;

  ~Impl() {
    if (signals >= 0) close(signals);
    coordinator.reset();
    session.reset();
    data.reset();  // its thread posts to the parts below
    worker.reset();
  }

  Status open_sockets(const KeyPair& keys, const AddressBook& peers);
  Status start_parts(const KeyPair& keys, const AddressBook& peers, const std::filesystem::path& executor_program);
  void answer_for_followers();
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

Status NodeShell::Impl::start_parts(const KeyPair& keys, const AddressBook& peers,
                                    const std::filesystem::path& executor_program) {
  DataService::Options data_options;
  data_options.node = self->id;
  data_options.endpoint = endpoint(*self, Service::data);
  data_options.keys = keys;
  data_options.peers = peers;
  data_options.cluster = config.cluster_hash();
  data_options.store.folder = self->data_dir / "blocks";
  data_options.store.cache_bytes = config.tuning.block_cache_bytes;
  data_options.store.reserve_bytes = config.tuning.disk_reserve_bytes;
  auto service = DataService::start(*zmq, data_options);
  if (!service) return service.error();
  data = std::move(*service);
  data->on_failure([this](const Error& error) { loop.post([this, error] { fatal(error); }); });

  const Incarnation incarnation{wall_now_ms()};  // grows from start to start
  context.emplace(NodeContext{config, *self, config.nodes.front().id, incarnation, slots_of(config), loop, *client, *data, *zap,
                              [this](Event event) { tell(std::move(event)); }, [this](const Error& error) { fatal(error); }});

  ping->on<Ping>([this, incarnation](const RequestContext& request, const Ping&, const Payload&) {
    ping->reply(request, Pong{self->id, incarnation});
  });
  worker = std::make_unique<WorkerShell>(*context, executor_program, [this] { session->lost(); });
  session = std::make_unique<NodeSession>(
      *context,
      [this] {
        return NodeSession::Load{worker->running(), worker->mean_batch_us()};
      },
      [this](Epoch epoch) { worker->new_session(epoch); });
  loop.on_turn_end([this] { worker->end_turn(); });
  if (self->id == context->coordinator) {
    auto leading = CoordinatorShell::start(*context, *rpc, *events);
    if (!leading) return leading.error();
    coordinator = std::move(*leading);
  } else {
    answer_for_followers();
  }
  loop.on_turn_end([] { flush_log(); });
  return {};
}

void NodeShell::Impl::answer_for_followers() {
  // A node that does not lead names the coordinator; clients follow.
  rpc->on_other([this](const RequestContext& request) {
    rpc->reply_error(
        request,
        {Errc::not_leader, fmt::format("{} does not lead; {} does", to_string(self->id), to_string(context->coordinator))},
        context->coordinator);
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
      loop.stop();
    }
  }
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
  impl.session->start();
  impl.loop.run();
  impl.loop.remove_fd(impl.signals);
  flush_log();
  return impl.exit_code;
}

}  // namespace idunno

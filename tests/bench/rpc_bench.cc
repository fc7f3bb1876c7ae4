// How fast the bus is on this machine: small requests per second and MB/s of 1 MiB blocks, client and server in threads of their
// own, over TCP on loopback with CURVE. Prints one line each. Not a test: `ninja rpc_bench && bin/rpc_bench`.
// The last line tells whether the machine was busy: threads that were ready and got no core look like a stalled bus, and TCP then
// shows zero windows and late acknowledgements, because the reader of a full buffer does not run.

#include <fmt/format.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "bus/clock.h"
#include "bus/rpc.h"

namespace idunno {
namespace {

constexpr std::uint16_t kPort = 17950;
constexpr std::uint64_t kCluster = 1;
constexpr int kSmallCalls = 200000;
constexpr int kSmallInFlight = 512;
constexpr int kBlocks = 2000;
constexpr int kBlocksInFlight = 16;
constexpr std::uint32_t kBlockBytes = 1U << 20U;

double seconds_since(Time start) { return std::chrono::duration<double>(monotonic_now() - start).count(); }

/// Over all threads, from /proc: the seconds on a core, and the seconds spent ready to run without one.
std::pair<double, double> core_seconds() {
  double used = 0;
  double waited = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/task", error), end; !error && it != end; it.increment(error)) {
    double on_core_ns = 0;
    double ready_ns = 0;
    if (std::ifstream(it->path() / "schedstat") >> on_core_ns >> ready_ns) {
      used += on_core_ns / 1e9;
      waited += ready_ns / 1e9;
    }
  }
  return {used, waited};
}

void serve(ZmqContext& context, const KeyPair& keys, std::atomic<EventLoop*>& running) {
  EventLoop loop;
  const auto rpc = RpcServer::bind(loop, context, {fmt::format("tcp://127.0.0.1:{}", kPort), keys, kCluster}).value();
  const auto data =
      RpcServer::bind(loop, context, {fmt::format("tcp://127.0.0.1:{}", kPort + 1), keys, kCluster, kDataMessageBytesMax, 16})
          .value();
  rpc->on<Ping>([&](const RequestContext& request, const Ping& ping, const Payload&) {
    rpc->reply(request, Pong{ping.from, {}});
  });
  const Payload block(Bytes(kBlockBytes, 'b'));
  data->on<PutBlocks>([&](const RequestContext& request, const PutBlocks&, const Payload&) {
    data->reply(request, PutBlocksReply{{BlockStatus::ok}});
  });
  data->on<GetBlocks>([&](const RequestContext& request, const GetBlocks&, const Payload&) {
    data->reply(request, GetBlocksReply{{BlockStatus::ok}}, block);
  });
  running = &loop;
  loop.run();
}

/// Keeps `in_flight` calls going until `total` are answered; seconds.
template <class Req>
double measure(EventLoop& loop, RpcClient& client, Service service, const Req& request, const Payload& payload, int total,
               int in_flight) {
  int started = 0;
  int answered = 0;
  int failed = 0;
  std::function<void()> next = [&] {
    ++started;
    client.call(NodeId{1}, service, request, payload, {std::chrono::seconds(60), {}, {}}, [&](auto result, NodeId) {
      ++answered;
      if (!result) ++failed;
      if (started < total) next();
    });
  };
  const Time start = monotonic_now();
  for (int i = 0; i < in_flight; ++i) next();
  loop.run_until([&] { return answered == total; }, monotonic_now() + std::chrono::minutes(2));
  if (failed > 0 || answered != total) fmt::print("  {} of {} failed\n", failed + total - answered, total);
  return seconds_since(start);
}

int run() {
  const auto context = ZmqContext::create(2).value();
  const KeyPair node = generate_key_pair("n1", Role::node).value();
  const KeyPair user = generate_key_pair("bench", Role::admin).value();
  AdmittedKeys admitted;
  if (!admitted.add({"bench", Role::admin, user.public_key})) return 1;
  const auto zap = ZapHandler::start(*context, admitted).value();
  std::atomic<EventLoop*> running{nullptr};
  std::thread server([&] { serve(*context, node, running); });
  {
    EventLoop loop;
    const auto client =
        RpcClient::create(loop, *context, {user, kCluster, {{NodeId{1}, {"127.0.0.1", kPort, node.public_key}}}}).value();
    (void)measure(loop, *client, Service::rpc, Ping{}, {}, 1000, 1);
    const double single = measure(loop, *client, Service::rpc, Ping{}, {}, 5000, 1);
    fmt::print("request and reply, 1 in flight:    {:8.0f} /s, {:.0f} us each\n", 5000 / single, single / 5000 * 1e6);
    const double many = measure(loop, *client, Service::rpc, Ping{}, {}, kSmallCalls, kSmallInFlight);
    fmt::print("request and reply, {} in flight:  {:8.0f} /s\n", kSmallInFlight, kSmallCalls / many);
    BlockKey key;
    key.length = kBlockBytes;
    const double put =
        measure(loop, *client, Service::data, PutBlocks{{key}}, Payload(Bytes(kBlockBytes, 'p')), kBlocks, kBlocksInFlight);
    fmt::print("1 MiB blocks, put:                 {:8.0f} MB/s\n", kBlocks * 1.048576 / put);
    const double get = measure(loop, *client, Service::data, GetBlocks{{key}}, {}, kBlocks, kBlocksInFlight);
    fmt::print("1 MiB blocks, get:                 {:8.0f} MB/s\n", kBlocks * 1.048576 / get);
  }
  const auto [used, waited] = core_seconds();
  fmt::print("all threads: {:.1f} s on a core, {:.1f} s ready without one\n", used, waited);
  while (running == nullptr) std::this_thread::yield();
  running.load()->stop();
  server.join();
  return 0;
}

}  // namespace
}  // namespace idunno

int main() { return idunno::run(); }

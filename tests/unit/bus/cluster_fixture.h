#pragma once
/// A context with security, keys of each role and free ports, for tests that use real sockets on loopback.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "bus/clock.h"
#include "bus/rpc.h"

namespace idunno::test {

inline constexpr std::uint64_t kCluster = 77;
inline constexpr auto kPatience = std::chrono::seconds(20);  // a bound for broken code; nothing waits for it when all is well

/// kPortsPerNode neighbouring ports that were free a moment ago.
inline std::uint16_t free_ports() {
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::uint16_t first = 0;
    std::vector<int> fds;
    for (unsigned i = 0; i < kPortsPerNode; ++i) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      fds.push_back(fd);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      address.sin_port = htons(static_cast<std::uint16_t>(i == 0 ? 0U : first + i));
      if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) break;
      socklen_t size = sizeof address;
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
      if (i == 0) first = ntohs(address.sin_port);
      if (first > 60000) break;
      if (i + 1 == kPortsPerNode) {
        for (const int open : fds) ::close(open);
        return first;
      }
    }
    for (const int open : fds) ::close(open);
  }
  return 0;
}

class ClusterFixture : public testing::Test {
 protected:
  ClusterFixture() {
    context = ZmqContext::create().value();
    for (const Role role : {Role::node, Role::admin, Role::submit, Role::read}) {
      keys[role] = generate_key_pair(to_string(role), role).value();
      EXPECT_TRUE(admitted.add({to_string(role), role, keys[role].public_key}).ok());
    }
    stranger = generate_key_pair("stranger", Role::admin).value();
    zap = ZapHandler::start(*context, admitted).value();
    base_port = free_ports();
  }

  [[nodiscard]] std::string endpoint(Service service) const { return endpoint_of(address(), service); }
  [[nodiscard]] PeerAddress address() const { return {"127.0.0.1", base_port, keys.at(Role::node).public_key}; }

  std::unique_ptr<RpcServer> serve(Service service = Service::rpc, std::size_t bytes_max = kControlMessageBytesMax,
                                   int hwm = 1000) {
    return RpcServer::bind(loop, *context, {endpoint(service), keys[Role::node], kCluster, bytes_max, hwm, 256}).value();
  }
  std::unique_ptr<RpcClient> client(const KeyPair& pair, std::uint64_t cluster = kCluster, std::size_t calls = 4096) {
    return RpcClient::create(loop, *context, {pair, cluster, {{NodeId{1}, address()}}, kDataMessageBytesMax, calls}).value();
  }
  std::unique_ptr<RpcClient> client(Role role) { return client(keys[role]); }

  bool run_until(const std::function<bool()>& done) { return loop.run_until(done, monotonic_now() + kPatience); }

  /// One call, run to its end.
  template <class Req>
  Result<RpcReply<typename Req::Reply>> ask(RpcClient& from, const Req& request, Service service = Service::rpc,
                                            Payload payload = {}, RpcClient::CallOptions options = {}, NodeId* leader = nullptr) {
    std::optional<Result<RpcReply<typename Req::Reply>>> answer;
    int answers = 0;
    from.call(NodeId{1}, service, request, std::move(payload), options, [&](auto result, NodeId named) {
      answer.emplace(std::move(result));
      if (leader != nullptr) *leader = named;
      ++answers;
    });
    EXPECT_EQ(answers, 0) << "a call must not be answered before it returns";
    run_until([&] { return answer.has_value(); });
    EXPECT_EQ(answers, 1);
    if (!answer) return Error{Errc::internal, "never answered"};
    return std::move(*answer);
  }

  std::unique_ptr<ZmqContext> context;  // declared first: destroyed after the sockets
  std::map<Role, KeyPair> keys;
  KeyPair stranger;
  AdmittedKeys admitted;
  std::unique_ptr<ZapHandler> zap;
  std::uint16_t base_port = 0;
  EventLoop loop;
};

/// A folder that is removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "bus_test.XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ec;
    std::filesystem::remove_all(path, ec);
  }
  std::filesystem::path path;
};

}  // namespace idunno::test

#include "nodes/runtime/metrics_endpoint.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>

#include "tests/unit/bus/cluster_fixture.h"

namespace idunno {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);  // a bound for broken code

std::string http_get(std::uint16_t to, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(to);
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
    (void)!write(fd, request.data(), request.size());
    char buffer[4096];
    for (ssize_t got = 0; (got = read(fd, buffer, sizeof buffer)) > 0;) answer.append(buffer, static_cast<std::size_t>(got));
  }
  close(fd);
  return answer;
}

class Endpoint : public ::testing::Test {
 protected:
  Result<std::unique_ptr<MetricsEndpoint>> start() {
    return MetricsEndpoint::start(loop, "127.0.0.1:" + std::to_string(port), [this] {
      ++asked;
      NodeFigures figures;
      figures.self = NodeId{3};
      return figures;
    });
  }
  /// Runs the loop until the answer is there.
  std::string get(const std::string& path) {
    bool done = false;
    auto answer = std::async(std::launch::async, [&] {
      std::string text = http_get(port, path);
      loop.post([&] { done = true; });
      return text;
    });
    EXPECT_TRUE(loop.run_until([&] { return done; }, monotonic_now() + kPatience));
    return answer.get();
  }
  EventLoop loop;
  int asked = 0;
  const std::uint16_t port = test::free_ports();
};

TEST_F(Endpoint, AnswersWithTheFiguresOfTheMomentAndNothingElse) {
  const auto endpoint = start();
  ASSERT_TRUE(endpoint.ok()) << endpoint.error().detail;
  EXPECT_EQ(asked, 0) << "nothing is computed while nobody asks";
  const std::string answer = get("/metrics");
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer;
  EXPECT_NE(answer.find("idunno_node_info{node=\"n3\""), std::string::npos) << answer;
  EXPECT_NE(answer.find("\nidunno_scrape_complete 1"), std::string::npos);
  EXPECT_EQ(asked, 1);
  const std::string root = get("/");
  EXPECT_TRUE(root.find(" 404 ") < 16) << root;
  EXPECT_TRUE(get("/../../etc/passwd").find("root:") == std::string::npos);
}

TEST_F(Endpoint, OnAPortThatIsTakenSaysSo) {
  const auto first = start();
  ASSERT_TRUE(first.ok());
  const auto second = start();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Errc::unavailable);
  EXPECT_NE(second.error().detail.find(std::to_string(port)), std::string::npos) << second.error().detail;
}

TEST_F(Endpoint, ThatEndsDoesNotWaitForAScrapeAndTheScrapeSaysSo) {
  std::unique_ptr<MetricsEndpoint> endpoint;
  auto started = MetricsEndpoint::start(loop, "127.0.0.1:" + std::to_string(port), [&] {
    endpoint.reset();  // while the scraping thread waits for these figures
    return NodeFigures{};
  });
  ASSERT_TRUE(started.ok());
  endpoint = std::move(started).value();
  const std::string answer = get("/metrics");
  EXPECT_EQ(endpoint, nullptr);
  EXPECT_NE(answer.find("\nidunno_scrape_complete 0"), std::string::npos) << answer;
  EXPECT_EQ(answer.find("idunno_node_info"), std::string::npos);
}

}  // namespace
}  // namespace idunno

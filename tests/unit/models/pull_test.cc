#include "cli/models/pull.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sodium.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <functional>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "cli/models/zoo.h"

namespace idunno::models {
namespace {

namespace fs = std::filesystem;

struct Answer {
  int status = 200;
  std::string body;                           ///< what is sent
  std::optional<std::size_t> content_length;  ///< announced; the body's size when absent
  std::string headers;
};

/// Answers one HTTP request after another on a loopback port, each by its number and its Range (or ""), and closes the
/// connection.
class TinyServer {
 public:
  using Handler = std::function<Answer(std::size_t request, const std::string& range)>;

  explicit TinyServer(Handler handler) : handler_(std::move(handler)), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(listener_, 16) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~TinyServer() {
    ::shutdown(listener_, SHUT_RDWR);  // ends accept
    thread_.join();
    ::close(listener_);
  }
  [[nodiscard]] std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/zoo/model.onnx"; }
  [[nodiscard]] std::vector<std::string> ranges() {
    const std::lock_guard lock(mutex_);
    return ranges_;
  }

 private:
  void serve() {
    for (;;) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      answer(peer);
      ::close(peer);
    }
  }
  void answer(int peer) {
    std::string request;
    std::array<char, 4096> buffer{};
    while (request.find("\r\n\r\n") == std::string::npos) {
      const ssize_t n = ::recv(peer, buffer.data(), buffer.size(), 0);
      if (n <= 0) return;
      request.append(buffer.data(), static_cast<std::size_t>(n));
    }
    std::string range;
    if (const auto at = request.find("Range: bytes="); at != std::string::npos) {
      range = request.substr(at + 13, request.find("\r\n", at) - at - 13);
    }
    std::size_t number = 0;
    {
      const std::lock_guard lock(mutex_);
      number = ranges_.size();
      ranges_.push_back(range);
    }
    const Answer reply = handler_(number, range);
    std::ostringstream head;
    head << "HTTP/1.1 " << reply.status << " X\r\nContent-Length: " << reply.content_length.value_or(reply.body.size())
         << "\r\nConnection: close\r\n"
         << reply.headers << "\r\n";
    send_all(peer, head.str() + reply.body);
  }
  static void send_all(int peer, const std::string& bytes) {
    for (std::size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = ::send(peer, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<std::size_t>(n);
    }
    ::shutdown(peer, SHUT_WR);
    std::array<char, 256> rest{};
    while (::recv(peer, rest.data(), rest.size(), 0) > 0) {
    }
  }

  Handler handler_;
  int listener_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> ranges_;
  std::thread thread_;
};

std::string content() {
  std::string bytes;
  for (int i = 0; i < 50'000; ++i) bytes += std::to_string(i) + ",";
  return bytes;
}

std::string sha256(const std::string& bytes) {
  std::array<unsigned char, crypto_hash_sha256_BYTES> digest{};
  crypto_hash_sha256(digest.data(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
  std::array<char, 2 * crypto_hash_sha256_BYTES + 1> text{};
  sodium_bin2hex(text.data(), text.size(), digest.data(), digest.size());
  return text.data();
}

/// Serves `bytes` from the start of the range.
Answer ranged(const std::string& bytes, const std::string& range) {
  if (range.empty()) return {200, bytes, {}, ""};
  const std::size_t from = std::stoul(range);
  return {206,
          bytes.substr(from),
          {},
          "Content-Range: bytes " + std::to_string(from) + "-" + std::to_string(bytes.size() - 1) + "/" +
              std::to_string(bytes.size()) + "\r\n"};
}

class Pull : public testing::Test {
 protected:
  Pull() {
    std::string pattern = (fs::temp_directory_path() / "idunno-pull-XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
  }
  ~Pull() override { fs::remove_all(folder); }

  PullRequest request(const TinyServer& server) {
    PullRequest r;
    r.url = server.url();
    r.size = bytes.size();
    r.sha256 = sha256(bytes);
    r.folder = folder / "cache";
    r.file_name = "model.onnx";
    r.idle_attempts_max = 3;
    r.first_pause = std::chrono::milliseconds(1);
    return r;
  }
  void put_part(const std::string& text) {
    fs::create_directories(folder / "cache");
    std::ofstream(part(), std::ios::binary) << text;
  }
  [[nodiscard]] fs::path part() const { return folder / "cache" / "model.onnx.part"; }
  [[nodiscard]] fs::path target() const { return folder / "cache" / "model.onnx"; }
  void expect_complete(const Result<fs::path>& result) {
    ASSERT_TRUE(result) << result.error().detail;
    EXPECT_EQ(*result, target());
    std::ifstream in(target(), std::ios::binary);
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
    EXPECT_FALSE(fs::exists(part()));
  }
  void expect_nothing_there() {
    EXPECT_FALSE(fs::exists(target()));
    EXPECT_FALSE(fs::exists(part()));
  }

  const std::string bytes = content();
  fs::path folder;
};

TEST_F(Pull, FetchesAFileOnce) {
  TinyServer server([&](std::size_t, const std::string& range) { return ranged(bytes, range); });
  std::uint64_t seen = 0;
  auto r = request(server);
  r.progress = [&](std::uint64_t now) { seen = now; };
  expect_complete(pull_file(r));
  EXPECT_EQ(seen, bytes.size());
  expect_complete(pull_file(r));  // from the cache
  EXPECT_EQ(server.ranges().size(), 1U);
}

TEST_F(Pull, GoesOnAfterHalf) {
  put_part(bytes.substr(0, bytes.size() / 2));
  TinyServer server([&](std::size_t, const std::string& range) { return ranged(bytes, range); });
  expect_complete(pull_file(request(server)));
  EXPECT_EQ(server.ranges(), std::vector<std::string>{std::to_string(bytes.size() / 2) + "-"});
}

TEST_F(Pull, StartsAgainWhenTheServerIgnoresRanges) {
  put_part(bytes.substr(0, 1000));
  TinyServer server([&](std::size_t, const std::string&) { return Answer{200, bytes, {}, ""}; });
  expect_complete(pull_file(request(server)));
}

TEST_F(Pull, GoesOnWhenTheServerClosesEarly) {
  TinyServer server([&](std::size_t number, const std::string& range) {
    Answer answer = ranged(bytes, range);
    if (number < 4) {
      answer.content_length = answer.body.size();
      answer.body.resize(answer.body.size() / 3);
    }
    return answer;
  });
  expect_complete(pull_file(request(server)));
  EXPECT_EQ(server.ranges().size(), 5U);  // more than idle_attempts_max: each brought bytes
}

TEST_F(Pull, GivesUpAfterIdleAttemptsAndKeepsThePart) {
  put_part(bytes.substr(0, 100));
  TinyServer server([&](std::size_t, const std::string&) { return Answer{503, "busy", {}, ""}; });
  const auto result = pull_file(request(server));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::unavailable);
  EXPECT_NE(result.error().detail.find("503"), std::string::npos);
  EXPECT_LE(server.ranges().size(), 4U);
  EXPECT_EQ(fs::file_size(part()), 100U);
  EXPECT_FALSE(fs::exists(target()));
}

TEST_F(Pull, RemovesAFileWithTheWrongDigest) {
  std::string other = bytes;
  other[1234] ^= 1;
  TinyServer server([&](std::size_t, const std::string& range) { return ranged(other, range); });
  const auto result = pull_file(request(server));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::damaged);
  EXPECT_NE(result.error().detail.find("SHA-256"), std::string::npos);
  expect_nothing_there();
}

TEST_F(Pull, ReplacesADamagedFileInTheCache) {
  fs::create_directories(folder / "cache");
  std::ofstream(target(), std::ios::binary) << std::string(bytes.size(), 'x');
  TinyServer server([&](std::size_t, const std::string& range) { return ranged(bytes, range); });
  expect_complete(pull_file(request(server)));
}

TEST_F(Pull, SaysWhenThereIsNoSuchFile) {
  TinyServer server([&](std::size_t, const std::string&) { return Answer{404, "<html>no</html>", {}, ""}; });
  const auto result = pull_file(request(server));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::not_found);
  EXPECT_EQ(server.ranges().size(), 1U);
  expect_nothing_there();
}

TEST_F(Pull, CutsOffAServerThatSendsMore) {
  TinyServer server([&](std::size_t, const std::string&) { return Answer{200, bytes + "more", {}, ""}; });
  const auto result = pull_file(request(server));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::too_large);
  EXPECT_EQ(server.ranges().size(), 1U);
  expect_nothing_there();
}

TEST_F(Pull, StartsAgainWhenTheRangeIsRefused) {
  put_part(bytes.substr(0, 10));
  TinyServer server([&](std::size_t number, const std::string& range) {
    return number == 0 ? Answer{416, "", {}, ""} : ranged(bytes, range);
  });
  expect_complete(pull_file(request(server)));
}

TEST_F(Pull, RefusesAddressesThatAreNotHttp) {
  TinyServer server([&](std::size_t, const std::string& range) { return ranged(bytes, range); });
  auto r = request(server);
  r.url = "file:///etc/hostname";
  const auto result = pull_file(r);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Errc::invalid);
  expect_nothing_there();
}

TEST(Zoo, HasCompleteEntriesWithSpecsThatParse) {
  for (const auto& model : zoo()) {
    EXPECT_GT(model.size, 0U);
    EXPECT_EQ(model.sha256.size(), 64U) << model.name;
    EXPECT_EQ(model.sha256.find_first_not_of("0123456789abcdef"), std::string::npos) << model.name;
    const auto spec = parse_model_spec(to_toml(model.spec), model.name);
    EXPECT_TRUE(spec) << model.name << ": " << spec.error().detail;
    EXPECT_TRUE(find_zoo_model(model.name));
  }
  const auto missing = find_zoo_model("resnet18-v1-8");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  EXPECT_NE(missing.error().detail.find("resnet18-v"), std::string::npos);
}

}  // namespace
}  // namespace idunno::models

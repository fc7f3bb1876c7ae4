#include "tests/chaos/relay.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <deque>
#include <list>
#include <random>
#include <string>
#include <vector>

namespace idunno::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kHeldMax = 64;  ///< pieces of one direction; then the relay stops reading

struct Direction {
  int from = -1;
  int to = -1;
  struct Piece {
    Clock::time_point due;
    std::string bytes;
  };
  std::deque<Piece> held;
};

struct Pair {
  std::array<Direction, 2> ways;
  bool torn = false;
};

sockaddr_in address_of(const std::string& host, int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  inet_pton(AF_INET, host.c_str(), &address.sin_addr);
  return address;
}

}  // namespace

Relay::Relay(Lab& lab, const Options& options) : lab_(lab), options_(options) {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in address = address_of(lab.bridge_address(), 0);
  EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(listener_, 64), 0);
  socklen_t length = sizeof address;
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
  port_ = ntohs(address.sin_port);
  divert(true);
  thread_ = std::thread([this] { run(); });
}

Relay::~Relay() {
  divert(false);
  stop_ = true;
  thread_.join();
  close(listener_);
}

void Relay::divert(bool on) const {
  EXPECT_TRUE(shell("ip netns exec " + lab_.netns(options_.from) + " iptables -t nat " + (on ? "-A" : "-D") +
                    " OUTPUT -p tcp -d " + lab_.address(options_.to) + " --dport " +
                    std::to_string(lab_.port() + options_.service) + " -j DNAT --to-destination " + lab_.bridge_address() + ":" +
                    std::to_string(port_)));
}

void Relay::run() {
  std::mt19937 random(options_.seed);
  std::list<Pair> pairs;
  const auto shut = [&](Pair& pair) {
    close(pair.ways[0].from);
    close(pair.ways[0].to);
  };
  while (!stop_) {
    std::vector<pollfd> wait{{listener_, POLLIN, 0}};
    for (Pair& pair : pairs) {
      for (Direction& way : pair.ways) {
        wait.push_back({way.held.size() < kHeldMax ? way.from : -1, POLLIN, 0});
      }
    }
    constexpr int kTickMs = 5;
    poll(wait.data(), wait.size(), kTickMs);
    std::size_t at = 1;
    const auto now = Clock::now();
    for (Pair& pair : pairs) {
      for (Direction& way : pair.ways) {
        if ((wait[at++].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
          std::array<char, 16384> buffer{};
          const ssize_t got = recv(way.from, buffer.data(), buffer.size(), MSG_DONTWAIT);
          if (got == 0 || (got < 0 && errno != EAGAIN)) pair.torn = true;
          if (got > 0) {
            const auto hold =
                std::chrono::milliseconds(options_.hold_ms_max > 0 ? random() % static_cast<unsigned>(options_.hold_ms_max) : 0);
            const auto due = std::max(now + hold, way.held.empty() ? now : way.held.back().due);
            way.held.push_back({due, std::string(buffer.data(), static_cast<std::size_t>(got))});
          }
        }
        while (!pair.torn && !way.held.empty() && way.held.front().due <= now) {
          const std::string& bytes = way.held.front().bytes;
          if (send(way.to, bytes.data(), bytes.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(bytes.size())) pair.torn = true;
          carried_ += bytes.size();
          way.held.pop_front();
          if (random() % 1000 < static_cast<unsigned>(options_.tear_per_mille)) pair.torn = true;
        }
      }
    }
    for (auto pair = pairs.begin(); pair != pairs.end();) {
      if (!pair->torn) {
        ++pair;
        continue;
      }
      shut(*pair);
      ++torn_;
      pair = pairs.erase(pair);
    }
    if ((wait[0].revents & POLLIN) == 0) continue;
    const int accepted = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (accepted < 0) continue;
    const int forward = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = address_of(lab_.address(options_.to), lab_.port() + options_.service);
    timeval limit{2, 0};  // a node that is dead or cut off must not stop the relay
    setsockopt(forward, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(forward, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      close(forward);
      close(accepted);
      continue;
    }
    Pair& pair = pairs.emplace_back();
    pair.ways[0].from = accepted;
    pair.ways[0].to = forward;
    pair.ways[1].from = forward;
    pair.ways[1].to = accepted;
  }
  for (Pair& pair : pairs) shut(pair);
}

}  // namespace idunno::testing

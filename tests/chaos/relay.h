#pragma once
/// A relay between one node and one service of another, which holds bytes back, and tears connections at random moments. Packets
/// in the node's namespace are diverted to it. What it makes of the traffic: requests whose answer is lost are asked again (so
/// they arrive twice), pushes vanish with their connection, messages of different connections overtake each other. Single
/// messages inside a connection cannot be repeated or swapped: CURVE's nonces would end the connection (the simulator does that
/// instead).

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "tests/chaos/lab.h"

namespace idunno::testing {

class Relay {
 public:
  struct Options {
    int from = 0;
    int to = 0;
    int service = 0;         ///< number of the port after the base: 0 rpc, 1 data, 2 log, 3 events, 4 ping
    int tear_per_mille = 5;  ///< chance that a piece of data is the last of its connection
    int hold_ms_max = 20;    ///< a piece is held back for up to so long
    unsigned seed = 1;
  };
  Relay(Lab& lab, const Options& options);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  [[nodiscard]] std::uint64_t torn() const { return torn_; }        ///< connections ended so far
  [[nodiscard]] std::uint64_t carried() const { return carried_; }  ///< bytes

 private:
  void run();
  void divert(bool on) const;

  Lab& lab_;
  Options options_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> torn_{0};
  std::atomic<std::uint64_t> carried_{0};
  std::thread thread_;
};

}  // namespace idunno::testing

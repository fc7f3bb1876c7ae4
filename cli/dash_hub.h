#pragma once
/// Server-sent events to many browsers. Each has a bounded buffer; one that does not read fast enough is dropped, and its browser
/// connects again and gets the history anew. Thread-safe: one thread publishes, a thread for each client waits.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "bus/base/time.h"

namespace idunno::cli {

/// "event: name\ndata: ...\n\n"; `data` is one line.
[[nodiscard]] std::string sse_message(const std::string& event, const std::string& data);

class DashHub {
 public:
  static constexpr std::size_t kClientsMax = 16;
  static constexpr std::size_t kMessagesMax = 256;     ///< waiting for one client
  static constexpr std::size_t kBytesMax = 4U << 20U;  ///< of them

  class Client;

  /// nullptr when there are kClientsMax, or after close(). `first` is called to make the first message, while nothing can be
  /// published in between.
  [[nodiscard]] std::shared_ptr<Client> join(const std::string& first);
  void leave(const std::shared_ptr<Client>& client);
  void publish(const std::string& message);
  void close();  ///< ends all clients
  [[nodiscard]] std::size_t clients() const;
  [[nodiscard]] std::uint64_t dropped() const;  ///< clients that were too slow

  enum class Next : std::uint8_t { message, nothing, ended };
  /// Waits up to `limit` for the next message of this client.
  [[nodiscard]] Next next(Client& client, std::string& message, Duration limit);

 private:
  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::list<std::shared_ptr<Client>> clients_;
  std::uint64_t dropped_ = 0;
  bool closed_ = false;
};

}  // namespace idunno::cli

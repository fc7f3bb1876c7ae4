#include "cli/dash_hub.h"

namespace idunno::cli {

std::string sse_message(const std::string& event, const std::string& data) {
  return "event: " + event + "\ndata: " + data + "\n\n";
}

class DashHub::Client {
 public:
  struct Item {
    std::shared_ptr<const std::string> text;
    std::size_t counted = 0;
  };
  std::deque<Item> waiting;
  std::size_t bytes = 0;
  bool ended = false;
};

std::shared_ptr<DashHub::Client> DashHub::join(const std::string& first) {
  const std::lock_guard lock(mutex_);
  if (closed_ || clients_.size() >= kClientsMax) return nullptr;
  auto client = std::make_shared<Client>();
  // The history may be large; it does not count against a client that has just come.
  client->waiting.push_back({std::make_shared<const std::string>(first), 0});
  clients_.push_back(client);
  return client;
}

void DashHub::leave(const std::shared_ptr<Client>& client) {
  const std::lock_guard lock(mutex_);
  clients_.remove(client);
}

void DashHub::publish(const std::string& message) {
  const auto shared = std::make_shared<const std::string>(message);
  {
    const std::lock_guard lock(mutex_);
    for (const auto& client : clients_) {
      if (client->ended) continue;
      if (client->waiting.size() >= kMessagesMax || client->bytes + message.size() > kBytesMax) {
        client->ended = true;
        client->waiting.clear();
        ++dropped_;
        continue;
      }
      client->waiting.push_back({shared, message.size()});
      client->bytes += message.size();
    }
  }
  news_.notify_all();
}

void DashHub::close() {
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (const auto& client : clients_) client->ended = true;
  }
  news_.notify_all();
}

std::size_t DashHub::clients() const {
  const std::lock_guard lock(mutex_);
  return clients_.size();
}

std::uint64_t DashHub::dropped() const {
  const std::lock_guard lock(mutex_);
  return dropped_;
}

DashHub::Next DashHub::next(Client& client, std::string& message, Duration limit) {
  std::unique_lock lock(mutex_);
  (void)news_.wait_for(lock, limit, [&] { return client.ended || !client.waiting.empty(); });
  if (client.ended) return Next::ended;
  if (client.waiting.empty()) return Next::nothing;
  message = *client.waiting.front().text;
  client.bytes -= client.waiting.front().counted;
  client.waiting.pop_front();
  return Next::message;
}

}  // namespace idunno::cli

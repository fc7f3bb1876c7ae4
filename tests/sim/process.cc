#include "tests/sim/process.h"

namespace idunno::sim {

void Process::run(Agenda::Action action) {
  if (paused_)
    waiting_.push_back(std::move(action));
  else
    action();
}

void Process::run_after(Duration wait, Agenda::Action action) {
  env_.agenda.after(wait, [weak = weak_from_this(), action = std::move(action)]() mutable {
    if (const auto self = weak.lock()) self->run(std::move(action));
  });
}

void Process::resume() {
  paused_ = false;
  const auto self = shared_from_this();
  while (!waiting_.empty() && !paused_) {
    const Agenda::Action action = std::move(waiting_.front());
    waiting_.pop_front();
    action();
  }
}

void Caller::call_raw(NodeId to, MessageType type, ByteView body, const Options& options, const Payload& payload, Done done) {
  Header header;
  header.cluster = kSimCluster;
  header.type = type;
  header.request = options.request ? options.request : fresh();
  header.epoch = options.epoch;
  header.flags = options.flags;
  header.deadline_ms = static_cast<std::uint32_t>(options.timeout.count() / 1000);
  const Key key{to, header.request};
  const std::uint64_t number = ++last_number_;
  if (const auto old = calls_.find(key); old != calls_.end()) finish(key, old->second.number, {Errc::cancelled, "asked again"});
  const ConnectionId connection = env_.network.connect(process_.id(), to);
  calls_[key] = Call{number, connection, std::move(done)};
  process_.run_after(options.timeout, [this, key, number, to] {
    finish(key, number, {Errc::timeout, to_string(to) + " did not answer in time"});
  });
  if (connection.number == 0) {
    if (!env_.swarm.refuses_at_once) return;
    return process_.run_after(env_.network.delay(), [this, key, number, to] {
      finish(key, number, {Errc::unavailable, to_string(to) + " cannot be reached"});
    });
  }
  env_.network.send(connection, true, [&env = env_, connection, frame = encode_raw_message(header, body), payload]() mutable {
    const auto server = env.find(connection.server);
    if (!server) return;
    server->run([server, connection, frame = std::move(frame), payload]() mutable {
      server->on_request(connection, std::move(frame), std::move(payload));
    });
  });
}

bool Caller::answered(NodeId from, const Envelope& envelope, const Payload& payload) {
  if (!envelope.header.request) return false;
  const auto found = calls_.find({from, envelope.header.request});
  if (found == calls_.end()) return true;  // late
  const Done done = std::move(found->second.done);
  calls_.erase(found);
  done(envelope, payload);
  return true;
}

void Caller::finish(const Key& key, std::uint64_t number, Error error) {
  const auto found = calls_.find(key);
  if (found == calls_.end() || found->second.number != number) return;
  const Done done = std::move(found->second.done);
  calls_.erase(found);
  done(std::move(error), {});
}

void Caller::broken(const ConnectionId& connection) {
  std::vector<std::pair<Key, std::uint64_t>> lost;
  for (const auto& [key, call] : calls_) {
    if (call.connection == connection) lost.emplace_back(key, call.number);
  }
  for (const auto& [key, number] : lost)
    finish(key, number, {Errc::unavailable, "the connection to " + to_string(key.first) + " closed"});
}

}  // namespace idunno::sim

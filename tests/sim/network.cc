#include "tests/sim/network.h"

#include <algorithm>
#include <vector>

namespace idunno::sim {
namespace {

using std::chrono::milliseconds;

/// How long a connection lives across a cut: heartbeats of the sockets and retransmissions of TCP.
constexpr Duration kSilenceMin = milliseconds(1000);
constexpr Duration kSilenceMax = milliseconds(6000);

}  // namespace

Network::Network(Agenda& agenda, const Swarm& swarm, Random random, Host host)
    : agenda_(agenda), swarm_(swarm), random_(random), host_(std::move(host)) {}

Duration Network::delay() {
  return swarm_.delay_min + Duration{static_cast<Duration::rep>(
                                random_.below(static_cast<std::uint64_t>((swarm_.delay_max - swarm_.delay_min).count()) + 1))};
}

void Network::datagram(NodeId from, NodeId to, Agenda::Action deliver) {
  if (is_cut(from, to)) return;
  if (calm_) return agenda_.after(delay(), std::move(deliver));
  if (swarm_.loss > 0 && random_.chance(swarm_.loss)) return;
  const auto hold_back = [this] {
    if (swarm_.reorder == 0 || !random_.chance(swarm_.reorder)) return Duration{0};
    return Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(swarm_.reorder_max.count())))};
  };
  if (swarm_.duplicate > 0 && random_.chance(swarm_.duplicate)) agenda_.after(delay() + hold_back(), deliver);
  agenda_.after(delay() + hold_back(), std::move(deliver));
}

ConnectionId Network::connect(NodeId client, NodeId server) {
  Connection& connection = connections_[{client, server}];
  if (!connection.open) {
    const bool reachable = client == server || (!is_cut(client, server) && !is_cut(server, client));
    if (!reachable || !host_.is_up(server)) return ConnectionId{client, server, 0};
    connection.open = true;
    connection.number = ++connection_count_;
    connection.last_to_server = connection.last_to_client = agenda_.now();
    connection.stuck.clear();
  }
  return ConnectionId{client, server, connection.number};
}

bool Network::is_open(const ConnectionId& id) const {
  const auto found = connections_.find({id.client, id.server});
  return found != connections_.end() && found->second.open && found->second.number == id.number;
}

bool Network::send(const ConnectionId& id, bool to_server, Agenda::Action deliver) {
  const auto found = connections_.find({id.client, id.server});
  if (found == connections_.end() || !found->second.open || found->second.number != id.number) return false;
  const NodeId from = to_server ? id.client : id.server;
  const NodeId to = to_server ? id.server : id.client;
  if (is_cut(from, to))
    found->second.stuck.push_back({to_server, std::move(deliver)});
  else
    transmit(found->first, found->second, to_server, std::move(deliver));
  return true;
}

void Network::transmit(const Ends& ends, Connection& connection, bool to_server, Agenda::Action deliver) {
  Time& last = to_server ? connection.last_to_server : connection.last_to_client;
  last = std::max(last, agenda_.now() + delay());
  agenda_.at(last, [this, ends, number = connection.number, deliver = std::move(deliver)] {
    if (is_open(ConnectionId{ends.first, ends.second, number})) deliver();
  });
}

void Network::close(const Ends& ends, Connection& connection, bool tell_at_once) {
  if (!connection.open) return;
  connection.open = false;
  connection.stuck.clear();
  const ConnectionId gone{ends.first, ends.second, connection.number};
  for (const NodeId at : {ends.first, ends.second}) {
    agenda_.after(tell_at_once ? delay() : Duration{0}, [this, at, gone] {
      if (host_.is_up(at)) host_.broken(at, gone);
    });
  }
}

// -- faults -----------------------------------------------------------------------------------------------------------

void Network::cut(NodeId from, NodeId to) {
  cuts_[{from, to}] = ++cut_count_;
  give_up_later(from, to);
}

void Network::give_up_later(NodeId from, NodeId to) {
  const Duration patience =
      kSilenceMin +
      Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>((kSilenceMax - kSilenceMin).count())))};
  agenda_.after(patience, [this, from, to, number = cuts_[{from, to}]] {
    const auto found = cuts_.find({from, to});
    if (found != cuts_.end() && found->second == number) break_connections(from, to);
  });
}

void Network::mend(NodeId from, NodeId to) {
  if (cuts_.erase({from, to}) > 0) release_stuck(from, to);
}

void Network::mend_all() {
  while (!cuts_.empty()) mend(cuts_.begin()->first.first, cuts_.begin()->first.second);
}

void Network::release_stuck(NodeId from, NodeId to) {
  for (const bool to_server : {true, false}) {
    const Ends ends = to_server ? Ends{from, to} : Ends{to, from};
    const auto found = connections_.find(ends);
    if (found == connections_.end() || !found->second.open) continue;
    std::deque<Waiting> stuck = std::exchange(found->second.stuck, {});
    for (Waiting& waiting : stuck) {
      if (waiting.to_server == to_server)
        transmit(ends, found->second, to_server, std::move(waiting.deliver));
      else
        found->second.stuck.push_back(std::move(waiting));
    }
  }
}

void Network::calm() { calm_ = true; }

void Network::break_connections(NodeId a, NodeId b) {
  for (const Ends& ends : {Ends{a, b}, Ends{b, a}}) {
    const auto found = connections_.find(ends);
    if (found != connections_.end()) close(ends, found->second, true);
  }
}

void Network::process_died(NodeId id, bool power_cut) {
  for (auto& [ends, connection] : connections_) {
    if ((ends.first != id && ends.second != id) || !connection.open) continue;
    if (!power_cut) {
      close(ends, connection, true);
      continue;
    }
    const Duration silence =
        kSilenceMin +
        Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>((kSilenceMax - kSilenceMin).count())))};
    agenda_.after(silence, [this, ends = ends, number = connection.number] {
      Connection& silent = connections_[ends];
      if (silent.open && silent.number == number) close(ends, silent, false);
    });
  }
}

}  // namespace idunno::sim

#pragma once
/// The network between the processes of a world: nodes (their NodeId) and clients (ids from kFirstClient on).
///
/// Two kinds of traffic, as the real sockets have them. *Datagrams* (messages of the log and of membership): may be lost, doubled
/// and overtaken. *Connections* (rpc): in order and complete as long as the connection lives; on a cut link they wait, and after
/// some time the connection breaks; what was under way is lost then, and both ends are told. A connection is named by its two
/// ends and a number that grows each time it is made anew.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "bus/base/ids.h"
#include "bus/base/random.h"
#include "tests/sim/agenda.h"
#include "tests/sim/swarm.h"

namespace idunno::sim {

inline constexpr std::uint32_t kFirstClient = 1000;
[[nodiscard]] inline bool is_client(NodeId id) { return id.value >= kFirstClient; }

/// One connection: who opened it, to whose rpc service, and which one of those that ever were.
struct ConnectionId {
  NodeId client;
  NodeId server;
  std::uint64_t number = 0;
  auto operator<=>(const ConnectionId&) const = default;
};

class Network {
 public:
  /// What a process must answer for: whether it runs now, and that a connection of it is gone.
  struct Host {
    std::function<bool(NodeId)> is_up;
    std::function<void(NodeId at, const ConnectionId& gone)> broken;
  };
  Network(Agenda& agenda, const Swarm& swarm, Random random, Host host);

  void datagram(NodeId from, NodeId to, Agenda::Action deliver);

  /// The connection from `client` to `server`, made if need be; number 0 when it cannot be made now.
  [[nodiscard]] ConnectionId connect(NodeId client, NodeId server);
  [[nodiscard]] bool is_open(const ConnectionId& connection) const;
  /// False when the connection is gone. `deliver` is called at the other end, or never.
  bool send(const ConnectionId& connection, bool to_server, Agenda::Action deliver);

  // -- faults --
  void cut(NodeId from, NodeId to);
  void mend(NodeId from, NodeId to);
  void mend_all();
  [[nodiscard]] bool is_cut(NodeId from, NodeId to) const { return cuts_.contains({from, to}); }
  void calm();  ///< no loss, no duplication, no reordering from now on
  void break_connections(NodeId a, NodeId b);
  /// A process ended: its connections close, or (power cut) just fall silent and break much later.
  void process_died(NodeId id, bool power_cut);
  /// A process begins: connections of the one before are closed, if they still stand.
  void process_started(NodeId id) { process_died(id, false); }
  [[nodiscard]] Duration delay();

 private:
  struct Waiting {
    bool to_server = false;
    Agenda::Action deliver;
  };
  struct Connection {
    std::uint64_t number = 0;
    bool open = false;
    Time last_to_server{};
    Time last_to_client{};
    std::deque<Waiting> stuck;  ///< behind a cut
  };
  using Ends = std::pair<NodeId, NodeId>;  ///< client, server

  void transmit(const Ends& ends, Connection& connection, bool to_server, Agenda::Action deliver);
  void close(const Ends& ends, Connection& connection, bool tell_at_once);
  void release_stuck(NodeId from, NodeId to);
  void give_up_later(NodeId from, NodeId to);

  Agenda& agenda_;
  const Swarm& swarm_;
  Random random_;
  Host host_;
  bool calm_ = false;
  std::map<Ends, Connection> connections_;
  std::map<Ends, std::uint64_t> cuts_;  ///< from, to: and which cut it is
  std::uint64_t cut_count_ = 0;
  std::uint64_t connection_count_ = 0;
};

}  // namespace idunno::sim

#pragma once
/// Carries the messages of the job log (nodes/raft) between nodes over the `log` PUB/SUB sockets: each node has one PUB, bound to
/// its log port, and one SUB connected to every other log node; the topic is the receiver ("n3" and an end mark, so that n1 does
/// not hear n10). Messages may be lost, never garbled: Raft repairs losses. One thread: the owner of the EventLoop.
///
/// Security: CURVE, and only keys with the role `node` may connect to a log port (ZAP domain kLogZapDomain). A message is
/// believed to come from the node to whose address and public key the SUB connected.
///
/// Bounds: kLogMessageBytesMax a message (larger ones are a bug of the sender: ASSERT), kLogHighWaterMark messages a peer.

#include <cstdint>
#include <functional>
#include <memory>

#include "bus/event_loop.h"
#include "bus/raft_messages.h"
#include "bus/rpc.h"

namespace idunno {

inline constexpr std::size_t kLogMessageBytesMax = kRaftMessageBytesMax + (64U << 10U);  ///< a log message, with room for frames
inline constexpr std::size_t kLogPeersMax = 8;  ///< other log nodes; more is `invalid`
inline constexpr int kLogHighWaterMark = 4000;
inline constexpr char kLogZapDomain[] = "idunno-log";

class LogLink {
 public:
  struct Options {
    NodeId self;
    std::string endpoint;  ///< to bind, "tcp://127.0.0.1:7402"
    KeyPair keys;
    std::uint64_t cluster = 0;  ///< hash of the cluster id; messages of another cluster are ignored and counted
    AddressBook peers;          ///< the other log nodes (self is left out)
  };
  using Handler = std::function<void(NodeId from, ByteView message)>;

  [[nodiscard]] static Result<std::unique_ptr<LogLink>> open(EventLoop& loop, ZmqContext& context, const Options& options,
                                                             Handler handler);
  ~LogLink();
  /// Never waits; dropped when nobody listens or a peer is too slow.
  void send(NodeId to, ByteView message);
  [[nodiscard]] std::uint64_t refused_messages() const;  ///< malformed, or of another cluster
  [[nodiscard]] std::uint64_t messages() const;          ///< that came in, the refused ones included

 private:
  LogLink();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace idunno

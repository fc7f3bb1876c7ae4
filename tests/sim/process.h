#pragma once
/// A process of the world: a node or a client. Things reach it in the order in which they come; while it is stopped (SIGSTOP)
/// they wait, and all happen at once when it goes on. Held by shared_ptr: what was planned for a process that has died does not
/// happen.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "bus/codec.h"
#include "tests/sim/agenda.h"
#include "tests/sim/network.h"
#include "tests/sim/swarm.h"

namespace idunno::sim {

inline constexpr WallMs kSimWall = 1'700'000'000'000;
inline constexpr std::uint64_t kSimCluster = 4711;

class Process;

/// What every process can reach.
struct Env {
  const Swarm& swarm;
  Agenda& agenda;
  Network& network;
  Trace& trace;
  std::function<std::shared_ptr<Process>(NodeId)> find;  ///< that runs, or null
  std::function<void(const std::string&)> violation;     ///< a rule is broken: the run ends
};

class Process : public std::enable_shared_from_this<Process> {
 public:
  Process(Env& env, NodeId id) : env_(env), id_(id) {}
  virtual ~Process() = default;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] NodeId id() const { return id_; }
  /// Now, or as soon as it goes on.
  void run(Agenda::Action action);
  /// The same after some time, in this life.
  void run_after(Duration wait, Agenda::Action action);
  void pause() { paused_ = true; }
  void resume();
  [[nodiscard]] bool paused() const { return paused_; }

  virtual void on_request(const ConnectionId& from, Bytes frame, Payload payload) = 0;
  virtual void on_message(const ConnectionId& from, const Bytes& frame, const Payload& payload) = 0;  ///< answer or push
  virtual void on_broken(const ConnectionId& connection) = 0;

 protected:
  Env& env_;

 private:
  NodeId id_;
  bool paused_ = false;
  std::deque<Agenda::Action> waiting_;
};

/// The client side of rpc for one process, as bus/rpc.h has it: each call is answered exactly once.
class Caller {
 public:
  using Done = std::function<void(Result<Envelope>, const Payload&)>;
  struct Options {
    Duration timeout = std::chrono::seconds(5);
    RequestId request;
    Epoch epoch;
    std::uint8_t flags = 0;
  };
  Caller(Env& env, Process& process, std::uint64_t client) : env_(env), process_(process), client_(client) {}

  void call_raw(NodeId to, MessageType type, ByteView body, const Options& options, const Payload& payload, Done done);
  template <class Req>
  void call(NodeId to, const Req& request, const Options& options, const Payload& payload,
            std::function<void(Result<typename Req::Reply>, NodeId leader, const Payload&)> done) {
    using Reply = typename Req::Reply;
    call_raw(to, Req::kType, encode(request), options, payload,
             [done = std::move(done)](const Result<Envelope>& answer, const Payload& bytes) {
               if (!answer) return done(answer.error(), {}, bytes);
               if (answer->header.type == MessageType::error_reply) {
                 auto error = answer->template body<ErrorReply>();
                 if (!error) return done(error.error(), {}, bytes);
                 return done(Error{error->code, error->detail}, error->leader, bytes);
               }
               done(answer->template body<Reply>(), {}, bytes);
             });
  }
  [[nodiscard]] RequestId fresh() { return RequestId{client_, ++last_request_}; }

  /// False when it is no answer to a call: a push.
  bool answered(NodeId from, const Envelope& envelope, const Payload& payload);
  void broken(const ConnectionId& connection);

 private:
  struct Call {
    std::uint64_t number = 0;
    ConnectionId connection;
    Done done;
  };
  using Key = std::pair<NodeId, RequestId>;
  void finish(const Key& key, std::uint64_t number, Error error);

  Env& env_;
  Process& process_;
  std::uint64_t client_;
  std::uint64_t last_request_ = 0;
  std::uint64_t last_number_ = 0;
  std::map<Key, Call> calls_;
};

}  // namespace idunno::sim

#include "tests/sim/node_process.h"

#include <algorithm>

namespace idunno::sim {
namespace {

using std::chrono::milliseconds;

constexpr Duration kReconnect = milliseconds(100);
constexpr std::uint64_t kTurnsAtOneMomentMax = 1000;

std::vector<NodeId> all_nodes(const Swarm& swarm) {
  std::vector<NodeId> ids;
  for (std::uint32_t i = 1; i <= swarm.nodes; ++i) ids.push_back(NodeId{i});
  return ids;
}

std::vector<NodeId> log_nodes(const Swarm& swarm) { return log_nodes_of(all_nodes(swarm)); }

CoordinatorConfig coordinator_config(const Swarm& swarm, NodeId self) {
  CoordinatorConfig config;
  config.self = self;
  for (const NodeId id : all_nodes(swarm)) config.members.push_back({id, "10.0.0." + std::to_string(id.value), 7000});
  config.dead_after = milliseconds(3000);
  return config;
}

ControlConfig control_config(const Swarm& swarm, NodeId self) {
  ControlConfig config;
  config.coordinator = coordinator_config(swarm, self);
  config.raft.self = self;
  config.raft.log_nodes = log_nodes(swarm);
  config.raft.voters_wanted = voters_wanted_for(swarm.nodes);
  config.compact_bytes_min = swarm.compact_bytes;
  return config;
}

AgentConfig agent_config(const Swarm& swarm, NodeId self, Incarnation incarnation, std::uint64_t store_id) {
  AgentConfig config;
  config.self = self;
  config.incarnation = incarnation;
  config.store_id = store_id;
  config.slots = swarm.slots;
  config.pid = self.value;
  config.data_dir = "/sim/" + to_string(self);
  config.log_nodes = log_nodes(swarm);
  return config;
}

}  // namespace

NodeProcess::NodeProcess(Env& env, SimNode& node, Truth& truth, Observer& observer, Incarnation incarnation, Random random)
    : Process(env, node.id()),
      node_(node),
      truth_(truth),
      observer_(observer),
      incarnation_(incarnation),
      random_(random),
      caller_(env, *this, random_.next() | 1U),
      blocks_(
          env, *this, caller_, &node.disk(), [this] { return wall(); }, random_.next() | 1U),
      executors_(env, truth, env.swarm.slots, Random(random_.next()),
                 {[this](std::uint32_t slot, const LeaseKey& lease) {
                    const Time at = now();
                    run([this, slot, lease, at] { in_turn([this, slot, lease, at] { began(slot, lease, at); }); });
                  },
                  [this](const ExecutorOutcome& outcome) {
                    run([this, outcome] { in_turn([this, outcome] { executed(outcome); }); });
                  }}) {}

NodeProcess::~NodeProcess() = default;

void NodeProcess::start() {
  const std::vector<NodeId> keepers = log_nodes(env_.swarm);
  if (std::find(keepers.begin(), keepers.end(), id()) != keepers.end()) {
    auto opened =
        ControlPlane::open(control_config(env_.swarm, id()), node_.disk().open_log(), Random(random_.next()), now(), wall());
    if (!opened) return env_.violation(to_string(id()) + " does not open its log: " + opened.error().detail);
    control_ = std::move(*opened);
  }
  outbox_ = node_.disk().open_outbox();
  auto records = outbox_->load();
  ASSERT(records.ok());
  agent_ = std::make_unique<NodeAgent>(agent_config(env_.swarm, id(), incarnation_, node_.disk().store_id()), std::move(*records),
                                       Random(random_.next()), now(), wall());
  swim_ = std::make_unique<Swim>(SwimConfig{}, all_nodes(env_.swarm), id(), incarnation_, Random(random_.next()), now());
  blocks_.on_damaged([this](BlockId block) { in_turn([this, block] { agent_->blocks_damaged({block}, now()); }); });
  reconnect();
  swim_turn();
  want_turn();
}

/// The sockets to the other nodes are there all the time: made again soon after they broke.
void NodeProcess::reconnect() {
  for (const NodeId other : all_nodes(env_.swarm)) {
    if (other == id()) continue;
    const ConnectionId connection = env_.network.connect(id(), other);
    if (connection.number != 0 && connected_[other] != connection.number) {
      connected_[other] = connection.number;
      swim_->connection_made(other, now());
    }
  }
  swim_turn();
  run_after(kReconnect, [this] { reconnect(); });
}

// -- what comes in ----------------------------------------------------------------------------------------------------

void NodeProcess::on_log_message(NodeId from, Bytes message) {
  env_.trace.note(hash64(message, from.value << 8U | id().value), [&] {
    return "log " + to_string(from) + "->" + to_string(id()) + " " + std::to_string(message.size()) + " bytes";
  });
  if (!control_) return;
  in_turn([this, from, message = std::move(message)] { control_->log_message(from, message, now()); });
}

void NodeProcess::on_swim_message(NodeId from, const Bytes& message) {
  env_.trace.mix(hash64(message, from.value << 8U | id().value));
  const auto decoded = decode<SwimMessage>(message);
  if (!decoded) return env_.violation("a membership message does not decode: " + decoded.error().detail);
  swim_->receive(from, *decoded, now());
  swim_turn();
}

void NodeProcess::on_broken(const ConnectionId& connection) {
  if (connection.client != id()) return;  // a ROUTER is not told
  const NodeId other = connection.server;
  env_.trace.note(connection.number, [&] { return to_string(id()) + ": the connection to " + to_string(other) + " closed"; });
  caller_.broken(connection);
  const auto known = connected_.find(other);
  if (known == connected_.end() || known->second != connection.number) return;  // of an earlier life, or replaced already
  swim_->connection_lost(other, now());
  swim_turn();
  in_turn([this, other] {
    agent_->connection_lost(other, now());
    if (control_) control_->connection_lost(other, now());
  });
}

void NodeProcess::on_message(const ConnectionId& from, const Bytes& frame, const Payload& payload) {
  const auto envelope = decode_message(frame, kDataMessageBytesMax);
  if (!envelope) return env_.violation("an answer or push does not decode: " + envelope.error().detail);
  env_.trace.note(hash64(frame), [&] {
    return "rpc " + to_string(from.server) + "->" + to_string(id()) + " " + message_name(envelope->header.type) + " epoch " +
           to_string(envelope->header.epoch);
  });
  if (caller_.answered(from.server, *envelope, payload)) return;
  in_turn([this, from, envelope = *envelope] { pushed(from.server, envelope); });
}

void NodeProcess::on_request(const ConnectionId& from, Bytes frame, Payload payload) {
  const auto envelope = decode_message(frame, kDataMessageBytesMax);
  if (!envelope) return env_.violation("a request does not decode: " + envelope.error().detail);
  env_.trace.note(hash64(frame), [&] {
    return "rpc " + to_string(from.client) + "->" + to_string(id()) + " " + message_name(envelope->header.type);
  });
  const RequestId request = envelope->header.request;
  if (envelope->header.type == MessageType::put_blocks) {
    return blocks_.serve(*envelope->body<PutBlocks>(), payload, [this, from, request](const PutBlocksReply& answer) {
      reply(from, request, {}, PutBlocksReply::kType, encode(answer), 0, {});
    });
  }
  if (envelope->header.type == MessageType::get_blocks) {
    auto [answer, bytes] = blocks_.serve(*envelope->body<GetBlocks>());
    return reply(from, request, {}, GetBlocksReply::kType, encode(answer), 0, bytes);
  }
  in_turn([this, from, envelope = *envelope] { dispatch(from, envelope); });
}

template <class Req>
bool NodeProcess::dispatch_as(const ConnectionId& from, const Envelope& envelope) {
  if (envelope.header.type != Req::kType) return false;
  auto body = envelope.body<Req>();
  if (!body) {
    env_.violation(message_name(Req::kType) + " does not decode: " + body.error().detail);
    return true;
  }
  const std::string key = is_client(from.client) ? "admin" : to_string(from.client);
  if constexpr (std::is_same_v<Req, NodeHello>) {
    if (body->node == from.client) sessions_[from.client] = from;
  }
  const Ticket ticket = ++last_ticket_;
  waiting_.emplace(ticket, Waiting{from, envelope});
  RequestInfo info;
  info.ticket = ticket;
  info.request = envelope.header.request;
  info.key_name = key;
  info.wall_ms = wall();
  info.epoch = envelope.header.epoch;
  info.stale_ok = (envelope.header.flags & kFlagStale) != 0;
  control_->request(info, *body, now());
  return true;
}

void NodeProcess::dispatch(const ConnectionId& from, const Envelope& envelope) {
  if (!control_) {
    const ErrorReply error{Errc::not_leader, to_string(id()) + " keeps no log", {}};
    return reply(from, envelope.header.request, {}, ErrorReply::kType, encode(error), 0, {});
  }
  bool found = false;
  const auto visit = [&]<class Req>() { found = found || dispatch_as<Req>(from, envelope); };
  ReadRequests::for_each(visit);
  ChangeRequests::for_each(visit);
  NodeRequests::for_each(visit);
  if (!found) found = dispatch_as<TransferLeadership>(from, envelope);
  if (!found) env_.violation("nobody handles " + message_name(envelope.header.type));
}

// -- turns ------------------------------------------------------------------------------------------------------------

void NodeProcess::in_turn(Agenda::Action action) {
  inbox_.push_back(std::move(action));
  want_turn();
}

void NodeProcess::want_turn() {
  if (busy_ || turn_wanted_) return;
  turn_wanted_ = true;
  run_after(Duration{0}, [this] { turn(); });
}

void NodeProcess::tick_cores() {
  if (control_ && control_->wake_at() <= now()) control_->tick(now(), wall());
  if (agent_->wake_at() <= now()) agent_->tick(now(), wall());
}

void NodeProcess::turn() {
  turn_wanted_ = false;
  if (busy_) return;
  if (env_.agenda.now() != std::exchange(spun_at_, env_.agenda.now())) spins_ = 0;
  if (++spins_ > kTurnsAtOneMomentMax) return env_.violation(to_string(id()) + " takes turns without end at one moment");
  std::deque<Agenda::Action> inbox = std::exchange(inbox_, {});
  for (const Agenda::Action& action : inbox) action();
  tick_cores();
  obey_agent();
  if (control_) {
    if (Status done = control_->end_turn(now(), wall(), done_.out); !done) return node_.stopped_itself(done.error().detail);
    done_.epoch = control_->epoch();
    if (control_->leader() != leader_told_ || control_->epoch() != epoch_told_) {
      leader_told_ = control_->leader();
      epoch_told_ = control_->epoch();
      agent_->leader_hint(leader_told_, epoch_told_, now());
      obey_agent();
    }
  }
  done_.calls = std::exchange(calls_, {});
  const Duration took = node_.disk().take_time();
  if (took == Duration{0}) return release();
  busy_ = true;
  run_after(took, [this] { release(); });
}

/// The write is done: what the turn had to say may be said.
void NodeProcess::release() {
  busy_ = false;
  node_.disk().settle();
  observer_.turn_ended(node_);
  Turn done = std::exchange(done_, {});
  for (auto& [to, message] : done.out.log_messages) {
    env_.network.datagram(id(), to, [&env = env_, from = id(), to = to, message = std::move(message)] {
      const auto receiver = std::dynamic_pointer_cast<NodeProcess>(env.find(to));
      if (receiver) receiver->run([receiver, from, message] { receiver->on_log_message(from, message); });
    });
  }
  for (const ControlOutput::Reply& reply : done.out.replies) send_reply(reply, done.epoch);
  for (const auto& [to, push] : done.out.pushes) send_push(to, push, done.epoch);
  for (const Event& event : done.out.events) {
    env_.trace.note(hash64(event.type, event.job.value), [&] {
      return to_string(id()) + " tells " + event.type + " " +
             (event.job ? batch_name(event.job, static_cast<BatchIndex>(event.batch)) : "") + " " + event.text;
    });
  }
  for (AgentOutput::Call& call : done.calls) send_call(std::move(call));
  if (!inbox_.empty()) want_turn();
  arm();
}

void NodeProcess::arm() {
  Time due = agent_->wake_at();
  if (control_) due = std::min(due, control_->wake_at());
  if (due == kNever || busy_) return;
  const Time at = std::max(node_.clock().world(due), env_.agenda.now());
  if (armed_ <= at && armed_ > env_.agenda.now()) return;
  armed_ = at;
  run_after(at - env_.agenda.now(), [this, at] {
    if (armed_ == at) armed_ = kNever;
    const bool is_due = agent_->wake_at() <= now() || (control_ && control_->wake_at() <= now());
    if (is_due)
      want_turn();
    else
      arm();
  });
}

void NodeProcess::swim_turn() {
  if (swim_->wake_at() <= now()) swim_->tick(now());
  SwimOutput out = swim_->take_output();
  for (const auto& [to, message] : out.messages) {
    env_.network.datagram(id(), to, [&env = env_, from = id(), to = to, bytes = encode(message)] {
      const auto receiver = std::dynamic_pointer_cast<NodeProcess>(env.find(to));
      if (receiver) receiver->run([receiver, from, bytes] { receiver->on_swim_message(from, bytes); });
    });
  }
  for (const MemberChange& change : out.changes) {
    env_.trace.note(change.node.value * 8 + static_cast<std::uint64_t>(change.to), [&] {
      static constexpr const char* kStates[] = {"alive", "suspect", "dead", "left", "unknown"};
      return to_string(id()) + " holds " + to_string(change.node) + " for " + kStates[static_cast<int>(change.to)] + ": " +
             change.why;
    });
    if (control_) in_turn([this, change] { control_->member_changed(change.node, change.to, change.incarnation, now()); });
  }
  if (swim_->wake_at() == kNever) return;
  const Time at = std::max(node_.clock().world(swim_->wake_at()), env_.agenda.now() + Duration{1});
  if (swim_armed_ <= at && swim_armed_ > env_.agenda.now()) return;
  swim_armed_ = at;
  run_after(at - env_.agenda.now(), [this, at] {
    if (swim_armed_ == at) swim_armed_ = kNever;
    swim_turn();
  });
}

void NodeProcess::transfer_leadership(NodeId to) {
  if (!control_) return;
  in_turn([this, to] {
    RequestInfo info;
    info.ticket = ++last_ticket_;
    info.request = caller_.fresh();
    info.key_name = "admin";
    info.wall_ms = wall();
    control_->request(info, TransferLeadership{to}, now());
  });
}

// -- what goes out ----------------------------------------------------------------------------------------------------

void NodeProcess::reply(const ConnectionId& to, RequestId request, Epoch epoch, MessageType type, ByteView body,
                        std::uint8_t flags, const Payload& payload) {
  Header header;
  header.cluster = kSimCluster;
  header.type = type;
  header.request = request;
  header.epoch = epoch;
  header.flags = flags;
  env_.network.send(to, false, [&env = env_, to, frame = encode_raw_message(header, body), payload] {
    const auto client = env.find(to.client);
    if (client) client->run([client, to, frame, payload] { client->on_message(to, frame, payload); });
  });
}

void NodeProcess::send_reply(const ControlOutput::Reply& answer, Epoch epoch) {
  auto waiting = waiting_.extract(answer.ticket);
  if (waiting.empty()) return;  // an order of the world itself
  const Waiting& asked = waiting.mapped();
  Bytes body = answer.answer.body;
  if (answer.answer.type == MessageType::error_reply && answer.leader) {
    auto error = decode<ErrorReply>(body);
    ASSERT(error.ok());
    error->leader = answer.leader;
    body = encode(*error);
  }
  observer_.answered(node_, asked.question, answer.answer.type, body, answer.stale);
  reply(asked.connection, asked.question.header.request, epoch, answer.answer.type, body,
        answer.stale ? kFlagStale : std::uint8_t{0}, {});
}

void NodeProcess::send_push(NodeId to, const Answer& push, Epoch epoch) {
  const auto session = sessions_.find(to);
  Header header;
  header.cluster = kSimCluster;
  header.type = push.type;
  header.epoch = epoch;
  const bool sent = session != sessions_.end() &&
                    env_.network.send(session->second, false,
                                      [&env = env_, connection = session->second, frame = encode_raw_message(header, push.body)] {
                                        const auto client = env.find(connection.client);
                                        if (client)
                                          client->run([client, connection, frame] { client->on_message(connection, frame, {}); });
                                      });
  if (!sent) in_turn([this, to] { control_->push_failed(to, now()); });
}

}  // namespace idunno::sim

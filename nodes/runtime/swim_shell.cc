#include "nodes/runtime/swim_shell.h"

#include <algorithm>

#include "bus/clock.h"

namespace idunno {
namespace {

constexpr std::size_t kOpenMax = 1024;
/// Longer than any probe of the core waits; what is later is of no use to it.
constexpr Duration kCallTimeout = std::chrono::seconds(5);

bool is_answer(SwimKind kind) { return kind == SwimKind::ack || kind == SwimKind::nack || kind == SwimKind::table; }

}  // namespace

SwimShell::SwimShell(EventLoop& loop, RpcClient& client, RpcServer& ping, RpcServer& rpc, const Options& options,
                     OnChange on_change)
    : loop_(loop),
      client_(client),
      ping_(ping),
      self_(options.self),
      on_change_(std::move(on_change)),
      core_(options.config, options.members, options.self, options.incarnation, Random(options.seed), monotonic_now()) {
  for (const NodeId member : options.members) since_ms_[member] = wall_now_ms();
  client_.on_connection([this](NodeId node, Service service, bool connected) {
    if (service != Service::ping) return;
    const Time now = monotonic_now();
    connected ? core_.connection_made(node, now) : core_.connection_lost(node, now);
    pump();
  });
  ping_.on<SwimProbe>(
      [this](const RequestContext& request, const SwimProbe& probe, const Payload&) { on_probe(request, probe.message); });
  serve(rpc);
  arm();
}

SwimShell::~SwimShell() { loop_.cancel(timer_); }

void SwimShell::serve(RpcServer& rpc) {
  rpc.on<MemberListRequest>(
      [this, &rpc](const RequestContext& request, const MemberListRequest&, const Payload&) { rpc.reply(request, list()); });
  rpc.on<MemberHistoryRequest>([this, &rpc](const RequestContext& request, const MemberHistoryRequest& asked, const Payload&) {
    rpc.reply(request, history(asked.last));
  });
}

void SwimShell::on_probe(const RequestContext& request, const SwimMessage& message) {
  // Any node's key may ask, but only in its own name.
  if (request.peer.key_name != to_string(message.from)) {
    ++refused_;
    return ping_.reply_error(
        request, Error{Errc::forbidden, "the key \"" + request.peer.key_name + "\" is not that of " + to_string(message.from)});
  }
  if (is_answer(message.kind)) {
    ping_.reply(request, SwimAck{});  // an answer that came too late for its call
  } else {
    const Question question{message.from, message.sequence};
    if (open_.insert_or_assign(question, request).second) open_order_.push_back(question);
    if (open_order_.size() > kOpenMax) {
      open_.erase(open_order_.front());
      open_order_.pop_front();
    }
  }
  core_.receive(message.from, message, monotonic_now());
  pump();
}

void SwimShell::send(NodeId to, SwimMessage message) {
  if (is_answer(message.kind)) {
    const auto found = open_.find({to, message.sequence});
    if (found != open_.end()) {
      ping_.reply(found->second, SwimAck{std::move(message)});
      std::erase(open_order_, found->first);
      open_.erase(found);
      return;
    }
  }
  RpcClient::CallOptions options;
  options.timeout = kCallTimeout;
  // A failed call is a message lost: the core has its own timeouts.
  client_.call<SwimProbe>(to, Service::ping, SwimProbe{std::move(message)}, {}, options,
                          [this, to](const Result<RpcReply<SwimAck>>& answer, NodeId) {
                            if (!answer) return;
                            core_.receive(to, answer->body.message, monotonic_now());
                            pump();
                          });
}

/// Sends and tells what the core has given. A handler of changes may call back into this; then the outer call goes on.
void SwimShell::pump() {
  if (pumping_) return;
  pumping_ = true;
  for (SwimOutput output = core_.take_output(); !output.messages.empty() || !output.changes.empty();
       output = core_.take_output()) {
    for (auto& [to, message] : output.messages) send(to, std::move(message));
    const WallMs wall = wall_now_ms();
    for (const MemberChange& change : output.changes) {
      since_ms_[change.node] = wall;
      events_.push_back({wall, change.node, change.from, change.to, change.incarnation, change.why});
      if (events_.size() > kMemberHistoryMax) events_.pop_front();
      on_change_(change);
    }
  }
  pumping_ = false;
  arm();
}

void SwimShell::arm() {
  if (timer_at_ == core_.wake_at()) return;
  loop_.cancel(timer_);
  timer_at_ = core_.wake_at();
  if (timer_at_ == kNever) return;
  timer_ = loop_.at(timer_at_, [this] {
    timer_at_ = kNever;
    core_.tick(monotonic_now());
    pump();
  });
}

void SwimShell::leave() {
  core_.leave(monotonic_now());
  pump();
}

MemberListReply SwimShell::list() const {
  MemberListReply reply;
  reply.answered_by = self_;
  reply.awareness = core_.awareness();
  for (const MemberInfo& member : core_.members()) {
    reply.members.push_back({member.id, member.state, member.incarnation, member.refutations, since_ms_.at(member.id)});
  }
  return reply;
}

MemberHistoryReply SwimShell::history(std::uint32_t last) const {
  const std::size_t count = last == 0 ? events_.size() : std::min<std::size_t>(last, events_.size());
  return {self_, {events_.end() - static_cast<std::ptrdiff_t>(count), events_.end()}};
}

}  // namespace idunno

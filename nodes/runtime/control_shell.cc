#include "nodes/runtime/control_shell.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <utility>
#include <vector>

#include "bus/clock.h"
#include "storage/log_store.h"

namespace idunno {
namespace {

constexpr Duration kStatsInterval = std::chrono::seconds(1);
constexpr std::uint32_t kStatsWindowS = 10;

ControlConfig core_config(const NodeContext& context) {
  const Tuning& tuning = context.config.tuning;
  ControlConfig config;
  config.coordinator.self = context.self.id;
  for (const NodeConfig& node : context.config.nodes) config.coordinator.members.push_back({node.id, node.host, node.base_port});
  config.coordinator.replication = tuning.replication;
  config.coordinator.dead_after = tuning.dead_after;
  config.coordinator.lease_horizon = tuning.lease_horizon;
  config.coordinator.attempts_max = tuning.attempts_max;
  config.coordinator.policy = tuning.policy;
  config.coordinator.split_period = tuning.split_period;
  config.coordinator.prefetch_models = tuning.prefetch_models;
  config.raft.self = context.self.id;
  config.raft.log_nodes = context.config.log_nodes();
  config.raft.voters_wanted = voters_wanted_for(context.config.nodes.size());
  config.raft.heartbeat = tuning.log_heartbeat;
  config.raft.election_timeout_min = tuning.election_timeout_min;
  config.raft.election_timeout_max = tuning.election_timeout_max;
  config.raft.voter_replace_after = tuning.voter_replace_after;
  config.versions_max = tuning.versions_max;
  return config;
}

std::string log_endpoint(const NodeConfig& node) {
  return fmt::format("tcp://{}:{}", node.bind.empty() ? node.host : node.bind,
                     node.base_port + static_cast<unsigned>(Service::log));
}

/// With one voter the log that was put aside is the cluster's whole memory: nobody could give it back, so a new one must not
/// begin in its place, now or at a later start.
Status check_only_copy(const NodeContext& context) {
  if (voters_wanted_for(context.config.nodes.size()) > 1) return {};
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(context.self.data_dir, ignored)) {
    if (entry.path().filename().string().rfind("joblog.broken-", 0) != 0) continue;
    return Error{Errc::damaged, fmt::format("the only copy of the job log was damaged and lies in {}; restore a backup as {} and "
                                            "then remove it; removing it alone begins an empty cluster",
                                            entry.path().string(), (context.self.data_dir / "joblog").string())};
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<ControlShell>> ControlShell::start(NodeContext& context, const Sockets& sockets, OnLeader on_leader) {
  auto opened = open_rocks_log_store(context.self.data_dir / "joblog");
  if (!opened) return opened.error();
  if (Status only_copy = check_only_copy(context); !only_copy) return only_copy.error();
  const Random random(context.incarnation.value ^ (std::uint64_t{context.self.id.value} << 48U));
  auto control = ControlPlane::open(core_config(context), std::move(opened->store), random, monotonic_now(), wall_now_ms());
  if (!control) return control.error();
  spdlog::info("job log opened: {} entries, {} files and {} jobs in its snapshot", (*control)->log().last_index().value,
               (*control)->state().files().files(), (*control)->state().jobs().size());
  std::unique_ptr<ControlShell> shell(new ControlShell(context, sockets, std::move(on_leader), std::move(*control)));
  if (Status linked = shell->open_link(sockets); !linked) return linked.error();
  if (opened->was_replaced) {
    spdlog::error("the job log of this node could not be used and was put aside: {}", opened->why_replaced);
    Event event;
    event.type = "log_replaced";
    event.text = to_string(context.self.id) + " begins with an empty job log: " + opened->why_replaced;
    context.tell(std::move(event));
  }
  return shell;
}

ControlShell::ControlShell(NodeContext& context, const Sockets& sockets, OnLeader on_leader,
                           std::unique_ptr<ControlPlane> control)
    : context_(context),
      rpc_(sockets.rpc),
      events_(sockets.events),
      on_leader_(std::move(on_leader)),
      control_(std::move(control)) {
  route_all();
  // A process that ends closes its connections: the voters look for a new leader at once.
  context_.client.on_connection([this](NodeId node, Service service, bool connected) {
    if (connected || (service != Service::ping && service != Service::rpc)) return;
    control_->connection_lost(node, monotonic_now());
    due_ = true;
  });
  context_.loop.on_turn_end([this] { end_turn(); });
  context_.loop.after(kStatsInterval, [this] { publish_stats(); });
  context_.loop.post([] {});  // the first turn
}

ControlShell::~ControlShell() = default;

Status ControlShell::open_link(const Sockets& sockets) {
  LogLink::Options options;
  options.self = context_.self.id;
  options.endpoint = log_endpoint(context_.self);
  options.keys = sockets.keys;
  options.cluster = context_.config.cluster_hash();
  for (const NodeId node : context_.config.log_nodes()) {
    if (const auto peer = sockets.peers.find(node); peer != sockets.peers.end()) options.peers.insert(*peer);
  }
  auto link = LogLink::open(context_.loop, sockets.zmq, options, [this](NodeId from, ByteView message) {
    control_->log_message(from, message, monotonic_now());
    due_ = true;
  });
  if (!link) return link.error();
  link_ = std::move(*link);
  return {};
}

// ---- requests ---------------------------------------------------------------------------------------------------------

template <class Req>
void ControlShell::request(Ticket ticket, const Header& header, const std::string& key_name, const Req& body) {
  RequestInfo info;
  info.ticket = ticket;
  info.request = header.request;
  info.key_name = key_name;
  info.wall_ms = wall_now_ms();
  info.epoch = header.epoch;
  info.stale_ok = (header.flags & kFlagStale) != 0;
  control_->request(info, body, monotonic_now());
  due_ = true;
}

template <class Req>
void ControlShell::route() {
  rpc_.on<Req>([this](const RequestContext& context, Req body, const Payload&) {
    if (failed_) return;
    if constexpr (std::is_same_v<Req, NodeHello>) {
      if (control_->serving() && context.peer.key_name == to_string(body.node)) sessions_[body.node] = context.peer;
    }
    const Ticket ticket = ++last_ticket_;
    waiting_.emplace(ticket, context);
    request(ticket, context.header, context.peer.key_name, body);
  });
}

void ControlShell::route_all() {
  const auto each = [this]<class Req>() { route<Req>(); };
  ReadRequests::for_each(each);
  ChangeRequests::for_each(each);
  NodeRequests::for_each(each);
  route<TransferLeadership>();
}

void ControlShell::member_changed(const MemberChange& change) {
  control_->member_changed(change.node, change.to, change.incarnation, monotonic_now());
  due_ = true;
}

std::optional<BatchLivesReply> ControlShell::batch_lives(JobId job, std::int64_t batch) const {
  return control_->batch_lives(job, batch, monotonic_now());
}

void ControlShell::hand_over(std::function<void()> done) {
  handed_over_ = std::move(done);
  hand_over_ticket_ = ++last_ticket_;
  request(hand_over_ticket_, Header{}, "", TransferLeadership{});
}

// ---- the end of a turn ------------------------------------------------------------------------------------------------

void ControlShell::end_turn() {
  if (failed_ || !due_) return;
  due_ = false;
  ControlOutput out;
  if (Status ended = control_->end_turn(monotonic_now(), wall_now_ms(), out); !ended) {
    failed_ = true;
    return context_.fatal(ended.error());
  }
  rpc_.set_epoch(control_->epoch());
  obey(std::move(out));
  if (!control_->serving()) sessions_.clear();
  tell_leader();
  tell_vote();
  arm_timer();
}

void ControlShell::obey(ControlOutput&& out) {
  for (const auto& [node, message] : out.log_messages) link_->send(node, message);
  for (const ControlOutput::Reply& answer : out.replies) reply(answer);
  for (const auto& [node, message] : out.pushes) push(node, message);
  for (Event& event : out.events) context_.tell(std::move(event));
  if (!on_follow_) return;
  for (const FollowNotice& notice : out.follow) on_follow_(control_->epoch(), notice);
}

Status ControlShell::extend(const FollowSegment& segment) {
  due_ = true;
  return control_->extend(segment, monotonic_now());
}

void ControlShell::reply(const ControlOutput::Reply& answer) {
  if (answer.ticket == hand_over_ticket_) {
    if (const auto done = std::exchange(handed_over_, nullptr)) done();
    return;
  }
  const auto found = waiting_.extract(answer.ticket);
  if (found.empty()) return;
  const std::uint8_t flags = answer.stale ? kFlagStale : std::uint8_t{0};
  if (answer.answer.type == MessageType::status_reply) {
    if (auto status = decode<StatusReply>(answer.answer.body)) {
      status->refused_keys = context_.zap.refused();
      status->refused_messages = rpc_.refused_messages() + link_->refused_messages();
      return rpc_.reply_raw(found.mapped(), MessageType::status_reply, encode(*status), flags);
    }
  }
  rpc_.reply_raw(found.mapped(), answer.answer.type, answer.answer.body, flags);
}

void ControlShell::push(NodeId node, const Answer& message) {
  const auto session = sessions_.find(node);
  if (session != sessions_.end() && rpc_.push_raw(session->second, message.type, message.body)) return;
  context_.loop.post([this, node] {
    control_->push_failed(node, monotonic_now());
    due_ = true;
  });
}

/// For operators, who must know how many failures the cluster survives now.
void ControlShell::tell_vote() {
  bool votes = false;
  for (const LogMember& member : control_->log().members()) {
    votes = votes || (member.node == context_.self.id && member.voter && member.log_id == control_->log().log_id());
  }
  if (votes == votes_) return;
  votes_ = votes;
  Event event;
  event.type = "vote_changed";
  event.text = to_string(context_.self.id) + (votes ? " votes" : " has no vote") + " in the job log";
  context_.tell(std::move(event));
}

void ControlShell::tell_leader() {
  const NodeId leader = control_->leader();
  const Epoch epoch = control_->epoch();
  if (leader == told_leader_ && epoch == told_epoch_) return;
  told_leader_ = leader;
  told_epoch_ = epoch;
  on_leader_(leader, epoch);
}

void ControlShell::arm_timer() {
  const Time due = control_->wake_at();
  if (due == timer_at_ && timer_ != 0) return;
  if (timer_ != 0) context_.loop.cancel(timer_);
  timer_ = 0;
  timer_at_ = due;
  if (due == kNever) return;
  timer_ = context_.loop.at(due, [this] {
    timer_ = 0;
    control_->tick(monotonic_now(), wall_now_ms());
    due_ = true;
  });
}

void ControlShell::publish_stats() {
  const Time now = monotonic_now();
  if (control_->serving() && !failed_) {
    const StatsNotice notice{++stats_sequence_, wall_now_ms(), control_->reports(kStatsWindowS, now),
                             control_->node_reports(now)};
    events_.publish(kStatsTopic, notice);
    if (on_stats_) on_stats_(notice, control_->epoch());
  }
  context_.loop.after(kStatsInterval, [this] { publish_stats(); });
}

}  // namespace idunno

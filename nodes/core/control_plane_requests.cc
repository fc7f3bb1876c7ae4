// Requests to a log node: the coordinator answers, or this node answers from what it has, or it names who leads.

#include <fmt/core.h>

#include <algorithm>
#include <type_traits>

#include "nodes/core/control_plane_impl.h"

namespace idunno {

namespace {

template <class List, class T>
struct Contains;
template <class... Types, class T>
struct Contains<TypeList<Types...>, T> : std::bool_constant<(std::is_same_v<Types, T> || ...)> {};

}  // namespace

// ---- answers ----------------------------------------------------------------------------------------------------------

void ControlPlane::Impl::reply(Ticket ticket, Answer answer, bool stale) {
  out_.replies.push_back(ControlOutput::Reply{ticket, std::move(answer), NodeId{}, stale});
}

void ControlPlane::Impl::reply_error(Ticket ticket, Errc code, std::string detail) {
  reply(ticket, make_error(code, std::move(detail)));
}

/// A node that leads but does not serve yet names nobody: it could only name itself.
void ControlPlane::Impl::reply_not_leader(Ticket ticket) {
  const NodeId self = config_.coordinator.self;
  const NodeId leader = log_->leader() == self ? NodeId{} : log_->leader();
  std::string detail = to_string(self) + " does not lead; ";
  detail += leader ? to_string(leader) + " does" : "nobody is known to lead now";
  out_.replies.push_back(
      ControlOutput::Reply{ticket, make_answer(ErrorReply{Errc::not_leader, std::move(detail), leader}), leader, false});
}

// ---- reads ------------------------------------------------------------------------------------------------------------

LogServers ControlPlane::Impl::servers() const {
  LogServers servers;
  servers.standby = log_->standby();
  for (const LogMember& member : log_->members()) (member.voter ? servers.voters : servers.learners).push_back(member.node);
  return servers;
}

StatusReply ControlPlane::Impl::stale_status() const {
  StatusReply status;
  status.answered_by = config_.coordinator.self;
  status.coordinator = log_->leader();
  status.epoch = log_->epoch();
  LogServers known = servers();
  status.standby = known.standby;
  status.voters = std::move(known.voters);
  status.learners = std::move(known.learners);
  fill_status(state_, status);
  std::set<NodeId> live;
  for (const CoordinatorConfig::Member& configured : config_.coordinator.members) {
    NodeReport& report = status.nodes.emplace_back();
    report.id = configured.id;
    report.coordinator = configured.id == status.coordinator;
    report.host = configured.host;
    report.base_port = configured.base_port;
    if (configured.id == config_.coordinator.self) report.state = NodeState::alive;
    if (const auto member = members_.find(configured.id); member != members_.end()) {
      report.state = member->second.state;
      report.incarnation = member->second.incarnation;
      report.since_ms = member->second.since_ms;
    }
    if (report.state == NodeState::alive || report.state == NodeState::suspect) live.insert(configured.id);
  }
  const auto copies = std::min<std::size_t>(config_.coordinator.replication, config_.coordinator.members.size());
  (void)state_.files().misplaced(live, static_cast<std::uint32_t>(copies), 0, status.under_replicated_blocks);
  return status;
}

template <class Req>
std::optional<Answer> ControlPlane::Impl::stale_answer(const Req& request) const {
  if constexpr (std::is_same_v<Req, StatusRequest>) {
    return make_answer(stale_status());
  } else if constexpr (std::is_same_v<Req, PlacementRequest>) {
    return std::nullopt;  // where blocks may go depends on who is in session
  } else {
    const auto result = read_state(state_, request);
    if (!result) return make_error(result.error().code, result.error().detail);
    return make_answer(*result);
  }
}

template <class Req>
void ControlPlane::Impl::read(const RequestInfo& info, const Req& request, Time now) {
  if (!in_office()) {
    // Between the loss of the office and the end of the turn the state is still with the coordinator.
    const std::optional<Answer> answer = info.stale_ok && !coordinator_ ? stale_answer(request) : std::nullopt;
    return answer ? reply(info.ticket, *answer, true) : reply_not_leader(info.ticket);
  }
  if (info.stale_ok) return ask_coordinator(info, request, now);
  if (reads_.size() >= kReadsWaitingMax) {
    return reply_error(info.ticket, Errc::full, "the coordinator is busy: too many reads wait; retry");
  }
  const std::uint64_t number = ++last_read_;
  reads_[number] = Read{info.ticket, [this, info, request](Time at) { ask_coordinator(info, request, at); }};
  log_->read_barrier(number, now);
}

template <class Req>
void ControlPlane::Impl::ask_coordinator(const RequestInfo& info, const Req& request, Time now) {
  if constexpr (std::is_same_v<Req, StatusRequest>) coordinator_->log_servers(servers());
  waiting_.insert(info.ticket);
  CoordinatorOutput done;
  coordinator_->handle(info, request, now, done);
  obey(std::move(done));
}

// ---- a transfer of the office -----------------------------------------------------------------------------------------

void ControlPlane::Impl::transfer(const RequestInfo& info, const TransferLeadership& request, Time now) {
  if (!in_office()) return reply_not_leader(info.ticket);
  const NodeId to = request.to ? request.to : log_->standby();
  if (!to) {
    return reply_error(info.ticket, Errc::conflict, "hand over the coordinator's office: no other voter could take it now");
  }
  if (to == config_.coordinator.self) return reply(info.ticket, make_answer(TransferLeadershipReply{to}));
  if (transfer_) {
    if (transfer_->to == to && transfer_->askers.size() < kTransferAskersMax) return transfer_->askers.push_back(info.ticket);
    return reply_error(info.ticket, Errc::conflict,
                       fmt::format("hand over the coordinator's office: {} is getting it already", to_string(transfer_->to)));
  }
  if (const Status begun = log_->transfer(to, now); !begun) {
    return reply_error(info.ticket, begun.error().code,
                       fmt::format("hand over the coordinator's office to {}: {}", to_string(to), begun.error().detail));
  }
  transfer_ = Transfer{to, now + kTransferTimeout, {info.ticket}};
}

/// Answered when somebody else is known to lead, which is after this node has stopped.
void ControlPlane::Impl::settle_transfer(Time now) {
  if (!transfer_) return;
  const NodeId leader = log_->leader();
  const bool handed_over = leader == transfer_->to;
  const bool other = leader && !handed_over && leader != config_.coordinator.self;
  if (!handed_over && !other && now < transfer_->give_up) return;
  for (const Ticket ticket : transfer_->askers) {
    if (handed_over)
      reply(ticket, make_answer(TransferLeadershipReply{leader}));
    else if (other)
      reply_error(ticket, Errc::conflict, fmt::format("{} leads now instead of {}", to_string(leader), to_string(transfer_->to)));
    else
      reply_error(ticket, Errc::timeout,
                  fmt::format("{} has not taken the coordinator's office in time", to_string(transfer_->to)));
  }
  transfer_.reset();
}

// ---- the public face --------------------------------------------------------------------------------------------------

template <class Req>
void ControlPlane::request(const RequestInfo& info, const Req& request, Time now) {
  if constexpr (std::is_same_v<Req, TransferLeadership>) {
    impl_->transfer(info, request, now);
  } else if constexpr (Contains<ReadRequests, Req>::value) {
    impl_->read(info, request, now);
  } else {
    if (!impl_->in_office()) return impl_->reply_not_leader(info.ticket);
    impl_->ask_coordinator(info, request, now);
  }
}

// One for each type of the lists in nodes/jobs/coordinator.h, and for the transfer.
#define IDUNNO_REQUEST(Req) template void ControlPlane::request<Req>(const RequestInfo&, const Req&, Time);
IDUNNO_REQUEST(StatusRequest)
IDUNNO_REQUEST(PlacementRequest)
IDUNNO_REQUEST(FsListRequest)
IDUNNO_REQUEST(FsStatRequest)
IDUNNO_REQUEST(FsStoreRequest)
IDUNNO_REQUEST(ModelListRequest)
IDUNNO_REQUEST(JobReportsRequest)
IDUNNO_REQUEST(JobResultsRequest)
IDUNNO_REQUEST(FsCommitRequest)
IDUNNO_REQUEST(FsRemoveRequest)
IDUNNO_REQUEST(FsMoveReplicasRequest)
IDUNNO_REQUEST(ModelAddRequest)
IDUNNO_REQUEST(ModelRemoveRequest)
IDUNNO_REQUEST(SubmitRequest)
IDUNNO_REQUEST(JobControlRequest)
IDUNNO_REQUEST(JobSetRequest)
IDUNNO_REQUEST(PhaseRequest)
IDUNNO_REQUEST(NodeHello)
IDUNNO_REQUEST(Heartbeat)
IDUNNO_REQUEST(CommitBatches)
IDUNNO_REQUEST(BatchFailed)
IDUNNO_REQUEST(ReplicaReport)
IDUNNO_REQUEST(Inventory)
IDUNNO_REQUEST(DamagedBlocks)
IDUNNO_REQUEST(TransferLeadership)
#undef IDUNNO_REQUEST

}  // namespace idunno

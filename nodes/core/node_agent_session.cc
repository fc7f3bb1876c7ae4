// Who coordinates: the search, the hello, heartbeats, epochs, the end of a session.

#include <algorithm>

#include "nodes/core/node_agent_impl.h"

namespace idunno {
namespace {

/// Two nodes that name each other as the leader are asked in a circle; after so many turns there is a pause.
constexpr std::uint32_t kFollowsMax = 2;

}  // namespace

// -- the search -------------------------------------------------------------------------------------------------------

NodeId NodeAgent::Impl::best_guess() const {
  if (hint_ && hint_epoch_ >= epoch_) return hint_;
  return guess_ ? guess_ : coordinator_;
}

NodeId NodeAgent::Impl::next_to_ask() {
  if (guess_) return std::exchange(guess_, {});
  const NodeId next = order_.front();
  order_.pop_front();
  order_.push_back(next);
  return next;
}

/// Doubles; between half and all of it, so that nodes that lost their coordinator together do not ask together for ever.
Duration NodeAgent::Impl::next_pause() {
  pause_ = pause_ == Duration{} ? kHelloPauseFirst : std::min(pause_ * 2, kHelloPauseMax);
  const auto half = static_cast<std::uint64_t>(pause_.count() / 2);
  return Duration(static_cast<Duration::rep>(half + random_.below(half + 1)));
}

/// Better news than what is being tried: an answer to an earlier hello is not waited for.
void NodeAgent::Impl::ask_at_once(NodeId node) {
  unreachable_.erase(node);
  if (hello_call_ != 0 && hello_to_ == node) return;
  hello_call_ = 0;
  guess_ = node;
  follows_ = 0;
  hello_at_ = now_;
}

/// Asked last, and not because others name it: they may not have noticed yet.
void NodeAgent::Impl::note_unreachable(NodeId node) {
  unreachable_.insert(node);
  const auto found = std::ranges::find(order_, node);
  if (found == order_.end()) return;
  order_.erase(found);
  order_.push_back(node);
}

void NodeAgent::Impl::say_hello() {
  forget_old_results();
  NodeHello hello;
  hello.node = config_.self;
  hello.incarnation = config_.incarnation;
  hello.store_id = config_.store_id;
  hello.slots = config_.slots;
  hello.pid = config_.pid;
  hello.data_dir = config_.data_dir;
  hello.held = held_leases();
  hello_to_ = next_to_ask();
  hello_call_ = call(hello_to_, hello, kHelloTimeout, HelloCall{});
}

void NodeAgent::Impl::hello_answered(NodeId to, const Outcome& outcome) {
  if (outcome.error) return hello_failed(to, *outcome.error, outcome.leader);
  const auto reply = outcome.envelope->body<NodeHelloReply>();
  if (!reply) return hello_failed(to, reply.error(), {});
  begin_session(to, outcome.envelope->header.epoch, *reply);
}

void NodeAgent::Impl::hello_failed(NodeId to, const Error& error, NodeId leader) {
  const bool silent = error.code == Errc::timeout || error.code == Errc::unavailable;
  if (silent) note_unreachable(to);
  const bool searching = silent || error.code == Errc::not_leader || error.code == Errc::stale_epoch ||
                         error.code == Errc::no_coordinator || error.code == Errc::cancelled;
  if (!searching && error.detail != refusal_) {
    refusal_ = error.detail;
    tell("hello_refused", {}, -1, to_string(to) + " refuses the hello: " + error.detail);
  }
  const bool may_lead = std::ranges::find(config_.log_nodes, leader) != config_.log_nodes.end() && !unreachable_.contains(leader);
  if (may_lead) guess_ = leader;
  if (may_lead && leader != to && follows_ < kFollowsMax) {
    ++follows_;
    hello_at_ = now_;
    return;
  }
  follows_ = 0;
  hello_at_ = now_ + next_pause();
}

void NodeAgent::Impl::leader_hint(NodeId leader, Epoch epoch) {
  if (!leader || epoch < hint_epoch_ || (epoch == hint_epoch_ && leader == hint_)) return;
  hint_ = leader;
  hint_epoch_ = epoch;
  if (in_session_) {
    if (epoch > session_epoch_) {
      end_session("the log names " + to_string(leader) + " as its leader under epoch " + to_string(epoch), leader, true);
    }
  } else if (epoch >= epoch_) {
    ask_at_once(leader);
  }
}

void NodeAgent::Impl::connection_lost(NodeId node) {
  if (in_session_) {
    if (node != coordinator_) return;
    note_unreachable(node);
    return end_session("the connection closed", {}, false);
  }
  if (hello_call_ == 0 || hello_to_ != node) return;
  hello_call_ = 0;
  hello_failed(node, Error{Errc::unavailable, "the connection closed"}, {});
}

// -- the session ------------------------------------------------------------------------------------------------------

void NodeAgent::Impl::begin_session(NodeId coordinator, Epoch epoch, const NodeHelloReply& reply) {
  in_session_ = true;
  proven_ = false;
  ++session_;
  coordinator_ = coordinator;
  session_epoch_ = epoch;
  session_since_ = now_;
  epoch_ = std::max(epoch_, epoch);
  guess_ = {};
  unreachable_.clear();
  follows_ = 0;
  refusal_.clear();
  heartbeat_at_ = now_;
  tell("session_begun", {}, -1, "in session with " + to_string(coordinator) + " under epoch " + to_string(epoch));
  WorkerOutput work;
  queue_.new_session(epoch, reply.dropped, work);
  take(std::move(work));
  offer_all_again();
  store_session_began();
}

/// What is held goes on. Calls that are under way may still be answered, and count if they are under an epoch that is not over.
void NodeAgent::Impl::end_session(const std::string& why, NodeId ask_next, bool at_once) {
  in_session_ = false;
  tell("session_lost", {}, -1, "session with " + to_string(coordinator_) + " over: " + why);
  for (auto& [id, request] : requests_) request.in_flight = false;
  for (auto& [id, failure] : failures_) failure.in_flight = false;
  for (auto& [id, report] : reports_) report.in_flight = false;
  failures_in_flight_ = 0;
  damaged_in_flight_ = false;
  out_.wants_usage = false;
  if (!ask_next && hint_epoch_ > session_epoch_) ask_next = hint_;
  guess_ = ask_next;
  follows_ = 0;
  if (ask_next) unreachable_.erase(ask_next);
  // A session that ends before anything in it was answered must not be begun again and again without a pause.
  if (proven_) pause_ = {};
  hello_at_ = at_once || proven_ ? now_ : now_ + next_pause();
}

bool NodeAgent::Impl::accepts_push(NodeId from, Epoch epoch) {
  if (epoch < epoch_) return false;
  if (in_session_ && epoch == session_epoch_) return from == coordinator_;
  const bool news = epoch > epoch_;
  note_epoch(from, epoch);
  // It knows this node from a hello whose answer was lost or not waited for.
  if (news && !in_session_) ask_at_once(from);
  return true;
}

void NodeAgent::Impl::note_epoch(NodeId from, Epoch epoch) {
  epoch_ = std::max(epoch_, epoch);
  if (in_session_ && epoch > session_epoch_) {
    end_session(to_string(from) + " speaks under epoch " + to_string(epoch), from, true);
  }
}

bool NodeAgent::Impl::ends_session(NodeId to, const Outcome& outcome, std::string_view what) {
  if (!outcome.of_this_session) return true;
  switch (outcome.error->code) {
    case Errc::timeout:
    case Errc::unavailable:
      note_unreachable(to);
      break;
    case Errc::not_leader:
    case Errc::stale_epoch:
    case Errc::no_coordinator:
    case Errc::cancelled:
      break;
    default:
      return false;
  }
  end_session(std::string(what) + ": " + outcome.error->detail, outcome.leader == to ? NodeId{} : outcome.leader, false);
  return true;
}

bool NodeAgent::Impl::ends_session_by_leader(NodeId to, const Outcome& outcome, std::string_view what) {
  const bool slow = outcome.error && (outcome.error->code == Errc::timeout || outcome.error->code == Errc::unavailable);
  return outcome.error && !slow && ends_session(to, outcome, what);
}

void NodeAgent::Impl::send_heartbeat(const NodeUsage& usage) {
  if (!in_session_) return;
  Heartbeat beat;
  beat.node = config_.self;
  beat.incarnation = config_.incarnation;
  beat.running = queue_.running();
  beat.capacity_bytes = usage.capacity_bytes;
  beat.free_bytes = usage.free_bytes;
  beat.blocks = usage.blocks;
  beat.block_bytes = usage.block_bytes;
  beat.rss_bytes = usage.rss_bytes;
  beat.read_only = usage.read_only;
  beat.cpu_milli = usage.cpu_milli;
  beat.executor_rss_bytes = usage.executor_rss_bytes;
  beat.models = usage.models;
  if (beat.models.size() > kModelsLoadedShownMax) beat.models.resize(kModelsLoadedShownMax);
  beat.model_loads = usage.model_loads;
  beat.mean_batch_us = queue_.mean_batch_us();
  beat.running_batches = queue_.running_batches(now_);
  call(coordinator_, beat, config_.heartbeat_timeout, HeartbeatCall{});
}

void NodeAgent::Impl::heartbeat_answered(NodeId to, const Outcome& outcome) {
  if (!outcome.of_this_session) return;
  if (outcome.error) {
    if (!ends_session(to, outcome, "a heartbeat")) end_session("a heartbeat: " + outcome.error->detail, to, false);
    return;
  }
  const auto reply = outcome.envelope->body<HeartbeatReply>();
  if (!reply || !reply->known) return end_session(to_string(to) + " does not know this node", to, false);
  proven_ = true;
}

}  // namespace idunno

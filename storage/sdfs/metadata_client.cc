#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "bus/clock.h"
#include "storage/sdfs/client.h"

namespace idunno {
namespace {

/// A node that says nothing for so long is passed over for now; asking it again later with the same request id is harmless.
constexpr Duration kAttemptTimeout = std::chrono::seconds(2);
/// Between rounds over all nodes: doubles from the first to the last value.
constexpr Duration kPauseFirst = std::chrono::milliseconds(20);
constexpr Duration kPauseMax = std::chrono::milliseconds(200);
/// How often one round follows the name of a leader: two nodes that name each other must not send us to and fro.
constexpr std::uint32_t kLeaderHopsMax = 3;
/// What the loop may take longer than the call itself.
constexpr Duration kWaitSlack = std::chrono::seconds(1);

bool is_final(Errc code) {
  switch (code) {
    case Errc::no_coordinator:
    case Errc::timeout:
    case Errc::unavailable:
    case Errc::not_leader:
    case Errc::stale_epoch:
      return false;
    default:
      return true;
  }
}

}  // namespace

struct MetadataClient::Impl : std::enable_shared_from_this<MetadataClient::Impl> {
  using Attempt = std::function<void(NodeId, Duration, AttemptDone)>;

  struct Call {
    Attempt attempt;
    std::function<void(Status)> finished;
    Time deadline;
    std::vector<NodeId> to_ask;  ///< of this round, the next one last
    NodeId asked;                ///< the attempt under way
    NodeId named_leader;         ///< by the last not_leader
    std::uint32_t hops_left = kLeaderHopsMax;
    std::uint64_t attempt_number = 0;
    Duration pause = kPauseFirst;
    bool anyone_answered = false;
    bool leader_was_silent = false;  ///< the named leader did not answer in time
    std::map<NodeId, std::string> failures;
  };

  Impl(EventLoop& event_loop, RpcClient& client, std::vector<NodeId> all, Duration call_timeout)
      : loop(event_loop), rpc(client), nodes(std::move(all)), timeout(call_timeout) {
    if (!nodes.empty()) hint = nodes.front();
  }

  void begin_round(Call& call) const {
    call.to_ask.assign(nodes.rbegin(), nodes.rend());
    const auto first = std::find(call.to_ask.begin(), call.to_ask.end(), hint);
    if (first != call.to_ask.end()) call.to_ask.erase(first);
    if (hint) call.to_ask.push_back(hint);
    call.hops_left = kLeaderHopsMax;
  }

  void next(const std::shared_ptr<Call>& call) {
    const Time now = monotonic_now();
    if (now >= call->deadline) return give_up(*call);
    if (call->to_ask.empty()) {
      const Duration pause = std::min(call->pause, call->deadline - now);
      call->pause = std::min(call->pause * 2, kPauseMax);
      loop.after(pause, [weak = weak_from_this(), call] {
        const auto self = weak.lock();
        if (!self) return;
        self->begin_round(*call);
        self->next(call);
      });
      return;
    }
    const NodeId node = call->to_ask.back();
    call->to_ask.pop_back();
    call->asked = node;
    const std::uint64_t number = ++call->attempt_number;
    call->attempt(node, std::min(kAttemptTimeout, call->deadline - now),
                  [weak = weak_from_this(), call, number](const Status& status, NodeId leader) {
                    const auto self = weak.lock();
                    if (self && number == call->attempt_number) self->answered(call, status, leader);
                  });
  }

  void answered(const std::shared_ptr<Call>& call, const Status& status, NodeId leader) {
    const NodeId node = call->asked;
    ++call->attempt_number;  // whatever comes for this attempt now is late
    if (status) {
      hint = node;
      return finish(*call, status);
    }
    const Errc code = status.error().code;
    if (is_final(code)) return finish(*call, status);
    call->failures[node] = status.error().detail;
    const bool silent = code == Errc::timeout || code == Errc::unavailable;
    if (!silent) call->anyone_answered = true;
    if (node == call->named_leader) call->leader_was_silent = code == Errc::timeout;
    if (code == Errc::not_leader && leader && leader != node) {
      call->named_leader = leader;
      if (call->hops_left > 0) {
        --call->hops_left;
        std::erase(call->to_ask, leader);
        call->to_ask.push_back(leader);
      }
    }
    next(call);
  }

  void give_up(Call& call) const {
    std::string tried;
    for (const NodeId node : nodes) {
      if (!tried.empty()) tried += ", ";
      tried += to_string(node);
    }
    std::string why;
    if (!call.failures.empty()) {
      const auto& [node, failure] = *call.failures.begin();
      const bool names_it = failure.find(to_string(node) + " (") != std::string::npos;
      why = "; " + (names_it ? failure : to_string(node) + ": " + failure);
    }
    if (call.anyone_answered && call.leader_was_silent) {
      return finish(call,
                    Error{Errc::timeout, "the coordinator " + to_string(call.named_leader) + " did not answer in time" + why});
    }
    finish(call, Error{Errc::no_coordinator, "no coordinator reachable: tried " + (tried.empty() ? "no nodes" : tried) + why});
  }

  static void finish(Call& call, const Status& status) {
    ++call.attempt_number;
    const auto finished = std::exchange(call.finished, nullptr);
    if (finished) finished(status);
  }

  EventLoop& loop;
  RpcClient& rpc;
  std::vector<NodeId> nodes;
  Duration timeout;
  NodeId hint;
};

MetadataClient::MetadataClient(EventLoop& loop, RpcClient& rpc, std::vector<NodeId> nodes, Duration timeout)
    : impl_(std::make_shared<Impl>(loop, rpc, std::move(nodes), timeout)) {}
MetadataClient::~MetadataClient() = default;

RpcClient& MetadataClient::rpc() { return impl_->rpc; }
EventLoop& MetadataClient::loop() { return impl_->loop; }
NodeId MetadataClient::coordinator_hint() const { return impl_->hint; }

void MetadataClient::run_until(const std::function<bool()>& done) {
  (void)impl_->loop.run_until(done, monotonic_now() + impl_->timeout + kWaitSlack);
}

void MetadataClient::start_attempts(std::function<void(NodeId, Duration, AttemptDone)> attempt,
                                    std::function<void(Status)> finished) {
  auto call = std::make_shared<Impl::Call>();
  call->attempt = std::move(attempt);
  call->finished = std::move(finished);
  call->deadline = monotonic_now() + impl_->timeout;
  impl_->begin_round(*call);
  // From the loop, so that an answer never comes before the caller has returned.
  impl_->loop.post([weak = std::weak_ptr<Impl>(impl_), call] {
    if (const auto self = weak.lock()) self->next(call);
  });
}

}  // namespace idunno

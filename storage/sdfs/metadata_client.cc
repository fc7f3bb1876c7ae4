#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <utility>

#include "bus/clock.h"
#include "storage/sdfs/client.h"

namespace idunno {
namespace {

/// An attempt ends after so long; asking the node again later with the same request id is harmless.
constexpr Duration kAttemptTimeout = std::chrono::seconds(2);
/// After so long without an answer the next node is asked beside the silent one: it says who leads now.
constexpr Duration kSilence = std::chrono::milliseconds(500);
/// The same for a node that has not answered this client yet, or not of late: probably it is not there, and a refused connection
/// is known only after several attempts.
constexpr Duration kSilenceOfStranger = std::chrono::milliseconds(100);
/// So long a node that could not be reached is asked after the others.
constexpr Duration kUnreachable = std::chrono::seconds(3);
/// Between rounds over all nodes: doubles from the first to the last value. An election takes about 100 ms.
constexpr Duration kPauseFirst = std::chrono::milliseconds(20);
constexpr Duration kPauseMax = std::chrono::milliseconds(100);
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
  struct Call {
    Attempt attempt;
    std::function<void(const Status&)> finished;
    Time deadline;
    std::vector<NodeId> to_ask;              ///< of this round, the next one last
    std::map<NodeId, std::uint64_t> asking;  ///< attempts under way, one a node at most; those before the newest are silent ones
    std::uint64_t newest = 0;                ///< attempts are numbered; only the newest one's end starts another
    EventLoop::TimerId timer = 0;            ///< end of patience with the newest attempt, or of a pause
    NodeId named_leader;                     ///< by the last not_leader
    std::uint32_t hops_left = kLeaderHopsMax;
    Duration pause = kPauseFirst;
    bool stale = false;
    bool anyone_answered = false;
    bool leader_was_silent = false;  ///< the named leader did not answer in time
    std::map<NodeId, std::string> failures;
  };
  using CallPtr = std::shared_ptr<Call>;

  Impl(EventLoop& event_loop, RpcClient& client, std::vector<NodeId> all, Duration call_timeout)
      : loop(event_loop), rpc(client), nodes(std::move(all)), timeout(call_timeout) {
    if (!nodes.empty()) hint = nodes.front();
  }

  void begin_round(Call& call) const {
    const Time now = monotonic_now();
    std::vector<NodeId> order = nodes;
    // The leader as far as is known first (a stale read spares it), nodes that could not be reached last.
    const NodeId first = call.stale && nodes.size() > 1 ? stale_first : hint;
    const auto rank = [&](NodeId node) {
      const auto known = unreachable_until.find(node);
      if (known != unreachable_until.end() && now < known->second) return 2;
      return node == first ? 0 : 1;
    };
    std::stable_sort(order.begin(), order.end(), [&](NodeId a, NodeId b) { return rank(a) < rank(b); });
    call.to_ask.assign(order.rbegin(), order.rend());
    call.hops_left = kLeaderHopsMax;
  }

  /// One timer a call.
  void arm(const CallPtr& call, Duration delay, std::function<void(Impl&)> then) {
    disarm(*call);
    call->timer = loop.after(delay, [weak = weak_from_this(), call, then = std::move(then)] {
      call->timer = 0;
      if (const auto self = weak.lock()) then(*self);
    });
  }
  void disarm(Call& call) { loop.cancel(std::exchange(call.timer, 0)); }

  void next(const CallPtr& call) {
    const Time now = monotonic_now();
    if (now >= call->deadline) return give_up(*call);
    while (!call->to_ask.empty() && call->asking.count(call->to_ask.back()) != 0) call->to_ask.pop_back();
    if (call->to_ask.empty()) {
      const Duration pause = std::min(call->pause, call->deadline - now);
      call->pause = std::min(call->pause * 2, kPauseMax);
      return arm(call, pause, [call](Impl& self) {
        self.begin_round(*call);
        self.next(call);
      });
    }
    const NodeId node = call->to_ask.back();
    call->to_ask.pop_back();
    const std::uint64_t number = ++call->newest;
    call->asking[node] = number;
    const bool known = answered_before.count(node) != 0 && unreachable_until.count(node) == 0;
    arm(call, std::min(known ? kSilence : kSilenceOfStranger, call->deadline - now), [call](Impl& self) { self.next(call); });
    call->attempt(
        node, std::min(kAttemptTimeout, call->deadline - now),
        [weak = weak_from_this(), call, node, number](const Status& status, NodeId leader, const std::function<void()>& take) {
          const auto self = weak.lock();
          if (self && call->finished) self->answered(call, node, number, status, leader, take);
        });
  }

  void answered(const CallPtr& call, NodeId node, std::uint64_t number, const Status& status, NodeId leader,
                const std::function<void()>& take) {
    call->asking.erase(node);
    note_reachable(node, status);
    if (status) {
      take();
      if (!call->stale) hint = node;
      return finish(*call, status);
    }
    const Errc code = status.error().code;
    if (is_final(code)) return finish(*call, status);
    call->failures[node] = status.error().detail;
    if (code != Errc::timeout && code != Errc::unavailable) call->anyone_answered = true;
    if (node == call->named_leader) call->leader_was_silent = code == Errc::timeout;
    if (code == Errc::not_leader && leader && leader != node) {
      call->named_leader = leader;
      if (call->hops_left > 0) {
        --call->hops_left;
        std::erase(call->to_ask, leader);
        call->to_ask.push_back(leader);
      }
    }
    // The end of an attempt that others were asked beside changes nothing: the newest one, or the pause, goes on.
    if (number == call->newest) next(call);
  }

  void note_reachable(NodeId node, const Status& status) {
    const bool failed = !status && (status.error().code == Errc::unavailable || status.error().code == Errc::timeout);
    if (failed) {
      unreachable_until[node] = monotonic_now() + kUnreachable;
    } else {
      unreachable_until.erase(node);
      answered_before.insert(node);
    }
  }

  void give_up(Call& call) {
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
    const bool silent = call.leader_was_silent || call.asking.count(call.named_leader) != 0;
    if (call.anyone_answered && silent) {
      return finish(call,
                    Error{Errc::timeout, "the coordinator " + to_string(call.named_leader) + " did not answer in time" + why});
    }
    finish(call, Error{Errc::no_coordinator, "no coordinator reachable: tried " + (tried.empty() ? "no nodes" : tried) + why});
  }

  void finish(Call& call, const Status& status) {
    disarm(call);
    const auto finished = std::exchange(call.finished, nullptr);
    if (finished) finished(status);
  }

  EventLoop& loop;
  RpcClient& rpc;
  std::vector<NodeId> nodes;
  Duration timeout;
  NodeId hint;
  NodeId stale_first;  ///< whom stale reads go to
  bool stale_reads = false;
  std::uint64_t stale_answers = 0;
  std::set<NodeId> answered_before;
  std::map<NodeId, Time> unreachable_until;
};

MetadataClient::MetadataClient(EventLoop& loop, RpcClient& rpc, std::vector<NodeId> nodes, Duration timeout)
    : impl_(std::make_shared<Impl>(loop, rpc, std::move(nodes), timeout)) {
  // Clients spread over the nodes, each staying with one: what a client has seen from it is not older at its next read.
  if (!impl_->nodes.empty()) impl_->stale_first = impl_->nodes[rpc.fresh_request_id().client % impl_->nodes.size()];
}
MetadataClient::~MetadataClient() = default;

RpcClient& MetadataClient::rpc() { return impl_->rpc; }
EventLoop& MetadataClient::loop() { return impl_->loop; }
NodeId MetadataClient::coordinator_hint() const { return impl_->hint; }
void MetadataClient::set_stale_reads(bool stale) { impl_->stale_reads = stale; }
bool MetadataClient::stale_reads() const { return impl_->stale_reads; }
std::uint64_t MetadataClient::stale_answers() const { return impl_->stale_answers; }
void MetadataClient::note_stale_answer() { ++impl_->stale_answers; }

void MetadataClient::run_until(const std::function<bool()>& done, std::optional<Duration> timeout) {
  (void)impl_->loop.run_until(done, monotonic_now() + timeout.value_or(impl_->timeout) + kWaitSlack);
}

void MetadataClient::start_attempts(Attempt attempt, std::function<void(const Status&)> finished, bool stale,
                                    std::optional<Duration> timeout) {
  auto call = std::make_shared<Impl::Call>();
  call->attempt = std::move(attempt);
  call->finished = std::move(finished);
  call->deadline = monotonic_now() + timeout.value_or(impl_->timeout);
  call->stale = stale;
  impl_->begin_round(*call);
  // From the loop, so that an answer never comes before the caller has returned.
  impl_->loop.post([weak = std::weak_ptr<Impl>(impl_), call] {
    if (const auto self = weak.lock()) self->next(call);
  });
}

}  // namespace idunno

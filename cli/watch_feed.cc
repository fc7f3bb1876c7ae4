#include "cli/watch_feed.h"

#include "bus/clock.h"

namespace idunno::cli {

namespace {

constexpr Duration kLook = std::chrono::milliseconds(250);
constexpr Duration kStatusEvery = std::chrono::seconds(2);  ///< it counts replicas, so not more often than is needed
constexpr Duration kAttempt = std::chrono::seconds(2);      ///< of one question
constexpr Duration kMemberAttempt = std::chrono::milliseconds(500);

}  // namespace

ClusterFeed::ClusterFeed(Session& session, Hooks hooks)
    : session_(session), hooks_(std::move(hooks)), picture_(session.config().id) {}

ClusterFeed::~ClusterFeed() {
  if (timer_ != 0) session_.loop().cancel(timer_);
}

Result<std::unique_ptr<ClusterFeed>> ClusterFeed::start(Session& session, Hooks hooks) {
  auto status = session.metadata().call_and_wait(StatusRequest{});
  if (!status) return status.error();
  std::unique_ptr<ClusterFeed> feed(new ClusterFeed(session, std::move(hooks)));
  feed->picture_.apply(*status, monotonic_now());
  auto subscriber =
      Subscriber::create(session.loop(), session.zmq(), session.keys(), session.config().cluster_hash(), session.rpc().peers(),
                         [raw = feed.get()](const Envelope& envelope) { raw->on_notice(envelope); });
  if (!subscriber) return subscriber.error();
  feed->subscriber_ = std::move(*subscriber);
  feed->subscriber_->subscribe(kEventTopic);
  feed->subscriber_->subscribe(kStatsTopic);
  feed->look();
  return feed;
}

void ClusterFeed::on_notice(const Envelope& envelope) {
  const Time now = monotonic_now();
  if (envelope.header.type == MessageType::event_notice) {
    const auto notice = envelope.body<EventNotice>();
    if (!notice) return;
    picture_.apply(notice->event, now);
    if (notice->event.type == "coordinator_changed" || notice->event.type == "node_dead" || notice->event.type == "node_joined")
      status_due_ = now;
    if (hooks_.on_event) hooks_.on_event(notice->event);
  } else if (envelope.header.type == MessageType::stats_notice) {
    const auto notice = envelope.body<StatsNotice>();
    if (!notice) return;
    picture_.apply(*notice, now);
    if (hooks_.on_stats) hooks_.on_stats(*notice);
  }
}

void ClusterFeed::look() {
  const Time now = monotonic_now();
  if (picture_.silent(now)) ask_members();
  if (now >= status_due_) {
    ask_status();
    status_due_ = now + kStatusEvery;
  }
  timer_ = session_.loop().after(kLook, [this] { look(); });
}

void ClusterFeed::ask_status() {
  if (*asking_status_) return;
  *asking_status_ = true;
  MetadataClient::CallOptions options;
  options.timeout = kAttempt;
  session_.metadata().call<StatusRequest>(
      {},
      [this, asking = std::weak_ptr<bool>(asking_status_)](const Result<StatusReply>& status) {
        const auto alive = asking.lock();
        if (!alive) return;
        *alive = false;
        if (!status) return;
        picture_.apply(*status, monotonic_now());
        if (hooks_.on_status) hooks_.on_status();
      },
      options);
}

void ClusterFeed::ask_members() {
  const auto& nodes = session_.config().nodes;
  if (*asking_members_ || nodes.empty()) return;
  *asking_members_ = true;
  const NodeId node = nodes[next_node_++ % nodes.size()].id;
  RpcClient::CallOptions options;
  options.timeout = kMemberAttempt;
  session_.rpc().call(
      node, Service::rpc, MemberListRequest{}, {}, options,
      std::function<void(Result<RpcReply<MemberListReply>>, NodeId)>(
          [this, asking = std::weak_ptr<bool>(asking_members_)](const Result<RpcReply<MemberListReply>>& reply, NodeId) {
            const auto alive = asking.lock();
            if (!alive) return;
            *alive = false;
            if (!reply) return;
            picture_.apply(reply->body, monotonic_now());
            if (hooks_.on_status) hooks_.on_status();
          }));
}

}  // namespace idunno::cli

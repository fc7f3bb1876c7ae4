#include "cli/log_reader.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "bus/clock.h"

namespace idunno::cli {

namespace {

constexpr Duration kRetryTimeout = std::chrono::milliseconds(500);  ///< of a machine that did not answer the last time
constexpr Duration kRetryPause = std::chrono::seconds(2);
constexpr LogPosition kEnd{std::numeric_limits<std::uint64_t>::max(), std::numeric_limits<std::uint64_t>::max()};

bool is_of_the_request(Errc code) { return code == Errc::invalid || code == Errc::forbidden || code == Errc::too_large; }

}  // namespace

struct LogReader::Impl {
  /// Where the reading of one machine's log stands in this round.
  struct Reading {
    Machine about;
    LogPosition next;
    bool asking = false;
    bool ended = true;
    Time retry_at{};
    std::size_t keepers_asked = 0;                       ///< that have not answered yet
    std::map<LogPosition, std::vector<NodeId>> keepers;  ///< who has it, by how far they reach
  };

  Session& session;
  LogSearchRequest what;
  Duration timeout;
  std::map<NodeId, Reading> readings;
  std::map<NodeId, Machine> shown;
  LogMerge merge;
  std::optional<Error> refused;
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  Impl(Session& s, LogSearchRequest w, Duration t) : session(s), what(std::move(w)), timeout(t) {}

  template <class Then>
  void call(NodeId to, NodeId of, LogPosition from, Then then) {
    LogSearchRequest request = what;
    request.of = of;
    request.from = from;
    RpcClient::CallOptions options;
    const auto found = readings.find(to);
    options.timeout = found != readings.end() && !found->second.about.answers ? std::min(timeout, kRetryTimeout) : timeout;
    session.rpc().call<LogSearchRequest>(
        to, Service::rpc, request, {}, options,
        [still = std::weak_ptr<bool>(alive), then = std::move(then)](Result<RpcReply<LogSearchReply>> reply, NodeId) {
          if (!still.expired()) then(std::move(reply));
        });
  }

  void begin(NodeId node, Reading& reading) {
    if (!reading.about.answers && monotonic_now() < reading.retry_at) return;
    reading.ended = false;
    reading.keepers.clear();
    merge.open(node);
    ask(node, reading);
  }

  void ask(NodeId node, Reading& reading) {
    reading.asking = true;
    call(node, node, reading.next, [this, node, &reading](Result<RpcReply<LogSearchReply>> reply) {
      reading.asking = false;
      if (reply) {
        reading.about.answers = true;
        reading.about.kept_by = {};
        return take(node, reading, std::move(reply->body), {});
      }
      if (is_of_the_request(reply.error().code)) {
        refused = reply.error();
        return end(node, reading);
      }
      reading.about.answers = false;
      reading.about.failure = reply.error().detail;
      reading.retry_at = monotonic_now() + kRetryPause;
      look_for_keepers(node, reading);
    });
  }

  void take(NodeId node, Reading& reading, LogSearchReply&& reply, NodeId kept_by) {
    reading.about.matches += reply.matches;
    reading.about.scanned_bytes += reply.scanned_bytes;
    reading.next = std::max(reading.next, reply.next);
    merge.add(node, std::move(reply.lines), kept_by);
    if (reply.at_end) end(node, reading);
  }

  void end(NodeId node, Reading& reading) {
    reading.ended = true;
    merge.close(node);
  }

  /// Any machine may keep its end: which two it chose depends on who was alive then.
  void look_for_keepers(NodeId node, Reading& reading) {
    for (const NodeConfig& other : session.config().nodes) {
      if (other.id == node) continue;
      ++reading.keepers_asked;
      call(other.id, node, kEnd, [this, node, &reading, from = other.id](Result<RpcReply<LogSearchReply>> reply) {
        if (reply && reply->body.held) reading.keepers[reply->body.next].push_back(from);
        if (--reading.keepers_asked == 0) read_kept(node, reading);
      });
    }
    if (reading.keepers_asked == 0) end(node, reading);
  }

  void read_kept(NodeId node, Reading& reading) {
    while (!reading.keepers.empty() && reading.keepers.rbegin()->second.empty()) {
      reading.keepers.erase(std::prev(reading.keepers.end()));
    }
    if (reading.keepers.empty()) return end(node, reading);
    const NodeId keeper = reading.keepers.rbegin()->second.front();
    reading.asking = true;
    reading.about.kept_by = keeper;
    call(keeper, node, reading.next, [this, node, &reading, keeper](Result<RpcReply<LogSearchReply>> reply) {
      reading.asking = false;
      if (reply) return take(node, reading, std::move(reply->body), keeper);
      reading.about.kept_by = {};
      auto& candidates = reading.keepers.rbegin()->second;
      candidates.erase(candidates.begin());
      read_kept(node, reading);
    });
  }

  /// Asks for the next page of machines of which only one page is left here.
  void ask_more() {
    for (auto& [node, reading] : readings) {
      if (reading.ended || reading.asking || reading.keepers_asked > 0 || merge.waiting(node) > kLogLinesPerReplyMax) continue;
      if (reading.about.kept_by) {
        read_kept(node, reading);
      } else {
        ask(node, reading);
      }
    }
  }

  [[nodiscard]] bool all_ended() const {
    return std::all_of(readings.begin(), readings.end(), [](const auto& entry) { return entry.second.ended; });
  }
};

LogReader::LogReader(Session& session, LogSearchRequest what, const std::vector<NodeId>& nodes, Duration timeout)
    : impl_(std::make_unique<Impl>(session, std::move(what), timeout)) {
  for (const NodeId node : nodes) impl_->readings[node];
}
LogReader::~LogReader() = default;

Status LogReader::read(const OnLine& on_line) {
  Impl& impl = *impl_;
  for (auto& [node, reading] : impl.readings) impl.begin(node, reading);
  while (!impl.refused) {
    // Lines go out as soon as they can, while pages are under way.
    std::uint64_t before = 0;
    for (const auto& [node, reading] : impl.readings) before += reading.about.scanned_bytes + (reading.ended ? 1 : 0);
    while (auto line = impl.merge.next()) on_line(*line);
    if (impl.all_ended()) break;
    impl.ask_more();
    (void)impl.session.loop().run_until(
        [&] {
          std::uint64_t now = 0;
          for (const auto& [node, reading] : impl.readings) now += reading.about.scanned_bytes + (reading.ended ? 1 : 0);
          return now != before || impl.refused;
        },
        monotonic_now() + std::chrono::milliseconds(50));
  }
  while (auto line = impl.merge.next()) on_line(*line);
  if (impl.refused) return *impl.refused;
  for (const auto& [node, reading] : impl.readings) impl.shown[node] = reading.about;
  return {};
}

const std::map<NodeId, LogReader::Machine>& LogReader::machines() const { return impl_->shown; }

}  // namespace idunno::cli

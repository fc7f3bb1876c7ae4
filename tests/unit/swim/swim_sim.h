#pragma once
/// Many Swim cores, one virtual clock, a network that loses, delays and is cut, machines that run late or stand still. Used by
/// the unit tests and by tests/bench/membership_scale.cc. Same seed, same run.

#include <cstdint>
#include <functional>
#include <memory>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bus/base/random.h"
#include "nodes/swim/swim.h"

namespace idunno::test {

using namespace std::chrono_literals;

class SwimSim {
 public:
  struct Options {
    std::uint32_t nodes = 10;
    std::uint64_t seed = 1;
    double loss = 0;
    Duration delay_min = 200us;
    Duration delay_max = 1ms;
    Duration run_delay_max = 0us;  ///< a process runs so much later than it could: a loaded machine
    bool through_codec = false;
    bool deaths_only = false;  ///< in `told`: a large cluster has millions of suspicions
    SwimConfig config;
  };
  struct Told {
    NodeId observer;
    MemberChange change;
    bool wrong;  ///< a death of a process that ran at that time
  };

  explicit SwimSim(const Options& options) : options_(options), random_(options.seed), machines_(options.nodes) {
    for (std::uint32_t i = 1; i <= options.nodes; ++i) ids_.push_back(NodeId{i});
  }

  [[nodiscard]] Time now() const { return now_; }
  [[nodiscard]] const std::vector<NodeId>& ids() const { return ids_; }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] bool up(NodeId id) const { return machine(id).swim != nullptr; }
  [[nodiscard]] Swim& swim(NodeId id) { return *machine(id).swim; }
  [[nodiscard]] NodeState view(NodeId observer, NodeId of) { return swim(observer).state_of(of); }

  void start(NodeId id, std::uint64_t incarnation = 0) {
    Machine& m = machine(id);
    ++m.life;
    m.inbox.clear();
    m.run_scheduled = false;
    m.paused_until = Time{};
    if (incarnation == 0)
      incarnation = 1'700'000'000'000ULL + static_cast<std::uint64_t>(now_.time_since_epoch().count()) / 1000 + 1;
    m.swim = std::make_unique<Swim>(options_.config, ids_, id, Incarnation{incarnation}, Random(random_.next()), now_);
    schedule_run(id, now_);
  }
  void start_all() {
    for (const NodeId id : ids_) start(id);
  }
  /// `closed`: the kernel lives and closes its connections; otherwise the machine is silent.
  void kill(NodeId id, bool closed) {
    Machine& m = machine(id);
    m.swim.reset();
    ++m.life;
    if (!closed) return;
    for (const NodeId other : ids_) {
      if (other != id && up(other)) connection_lost(other, id);
    }
  }
  void connection_lost(NodeId observer, NodeId peer) {
    later(now_ + delay(), [this, observer, peer] { input(observer, [peer](Swim& s, Time t) { s.connection_lost(peer, t); }); });
  }
  void connection_made(NodeId observer, NodeId peer) {
    later(now_ + delay(), [this, observer, peer] { input(observer, [peer](Swim& s, Time t) { s.connection_made(peer, t); }); });
  }
  void leave(NodeId id) {
    input(id, [](Swim& s, Time t) { s.leave(t); });
  }
  void pause(NodeId id, Duration length) { machine(id).paused_until = now_ + length; }
  /// True: a message from the first to the second is lost.
  void cut(std::function<bool(NodeId, NodeId)> rule) { cut_ = std::move(rule); }
  void heal() { cut_ = nullptr; }
  void set_loss(double loss) { options_.loss = loss; }

  /// True when `done` became true before the time was over.
  bool run_for(Duration length, const std::function<bool()>& done = {}) {
    const Time until = now_ + length;
    while (!events_.empty() && events_.top().at <= until) {
      const std::function<void()> act = std::move(const_cast<Event&>(events_.top()).act);
      now_ = std::max(now_, events_.top().at);
      events_.pop();
      act();
      if (done && done()) return true;
    }
    now_ = until;
    return false;
  }

  /// Everybody who is up holds `state` of `of`.
  [[nodiscard]] bool all_see(NodeId of, NodeState state) {
    for (const NodeId id : ids_) {
      if (id != of && up(id) && view(id, of) != state) return false;
    }
    return true;
  }
  [[nodiscard]] bool all_right() {
    for (const NodeId id : ids_) {
      for (const NodeId other : ids_) {
        if (up(id) && id != other && (view(id, other) == NodeState::alive) != up(other)) return false;
      }
    }
    return true;
  }
  [[nodiscard]] std::size_t wrong_deaths() const {
    std::size_t count = 0;
    for (const Told& t : told) count += t.wrong ? 1 : 0;
    return count;
  }

  std::vector<Told> told;
  std::uint64_t messages = 0;
  std::size_t claims_max = 0;   ///< most claims seen in a message that is no table
  std::size_t outputs_max = 0;  ///< most messages out of one call
  std::uint64_t trace = 0;      ///< hash of all that was told

 private:
  struct Machine {
    std::unique_ptr<Swim> swim;
    std::uint64_t life = 0;
    bool run_scheduled = false;
    Time run_at;
    Time paused_until;
    std::vector<std::function<void(Swim&, Time)>> inbox;
  };
  struct Event {
    Time at;
    std::uint64_t order;
    std::function<void()> act;
    bool operator<(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
  };

  Machine& machine(NodeId id) { return machines_[id.value - 1]; }
  [[nodiscard]] const Machine& machine(NodeId id) const { return machines_[id.value - 1]; }
  void later(Time at, std::function<void()> act) { events_.push({at, ++order_, std::move(act)}); }
  Duration below(Duration bound) {
    return bound.count() <= 0 ? Duration(0)
                              : Duration(static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(bound.count()))));
  }
  Duration delay() { return options_.delay_min + below(options_.delay_max - options_.delay_min); }

  void input(NodeId id, std::function<void(Swim&, Time)> act) {
    if (!up(id)) return;
    machine(id).inbox.push_back(std::move(act));
    schedule_run(id, now_);
  }
  void schedule_run(NodeId id, Time at) {
    Machine& m = machine(id);
    if (m.run_scheduled && m.run_at <= at) return;
    m.run_scheduled = true;
    m.run_at = at;
    later(at + below(options_.run_delay_max), [this, id, at, life = m.life] {
      Machine& mine = machine(id);
      if (life != mine.life || !mine.run_scheduled || mine.run_at != at) return;
      run(id);
    });
  }
  void run(NodeId id) {
    Machine& m = machine(id);
    if (now_ < m.paused_until) {
      return later(m.paused_until, [this, id, life = m.life] {
        if (machine(id).life == life) run(id);
      });
    }
    m.run_scheduled = false;
    const auto inbox = std::exchange(m.inbox, {});
    // Timers first: the harder order, the answers that came meanwhile are still unread.
    if (now_ >= m.swim->wake_at()) m.swim->tick(now_);
    deliver(id);
    for (const auto& act : inbox) {
      act(*m.swim, now_);
      deliver(id);
    }
    if (m.swim->wake_at() != kNever) schedule_run(id, std::max(now_ + 1us, m.swim->wake_at()));
  }
  void deliver(NodeId id) {
    SwimOutput output = swim(id).take_output();
    outputs_max = std::max(outputs_max, output.messages.size());
    for (MemberChange& change : output.changes) {
      const bool wrong = change.to == NodeState::dead && up(change.node) && swim(change.node).incarnation() == change.incarnation;
      trace = trace * 1099511628211ULL + id.value * 1000003ULL + change.node.value * 101ULL +
              static_cast<std::uint64_t>(change.to) + static_cast<std::uint64_t>(now_.time_since_epoch().count());
      if (!options_.deaths_only || change.to == NodeState::dead) told.push_back({id, std::move(change), wrong});
    }
    for (auto& [to, message] : output.messages) post(id, to, std::move(message));
  }
  void post(NodeId from, NodeId to, SwimMessage message) {
    ++messages;
    if (message.kind != SwimKind::sync && message.kind != SwimKind::table)
      claims_max = std::max(claims_max, message.claims.size());
    if (random_.chance(options_.loss) || (cut_ && cut_(from, to)) || !up(to)) return;
    if (options_.through_codec) message = *decode<SwimMessage>(encode(message));
    auto shared = std::make_shared<const SwimMessage>(std::move(message));
    later(now_ + delay(), [this, from, to, shared, life = machine(to).life] {
      if (machine(to).life == life) input(to, [from, shared](Swim& s, Time t) { s.receive(from, *shared, t); });
    });
  }

  Options options_;
  Random random_;
  std::vector<Machine> machines_;
  std::vector<NodeId> ids_;
  std::priority_queue<Event> events_;
  std::uint64_t order_ = 0;
  Time now_{};
  std::function<bool(NodeId, NodeId)> cut_;
};

}  // namespace idunno::test

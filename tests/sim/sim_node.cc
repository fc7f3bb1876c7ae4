#include "tests/sim/sim_node.h"

#include "tests/sim/node_process.h"

namespace idunno::sim {
namespace {

constexpr Time kBegin = Time{} + std::chrono::seconds(1000);

std::int64_t between(Random& random, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(high - low) + 1));
}

DiskOptions disk_options(const Swarm& swarm, NodeId id) { return DiskOptions{id, swarm.flush_min, swarm.flush_max}; }

SimClock make_clock(const Swarm& swarm, Random& random) {
  const Duration offset = std::chrono::seconds(between(random, 0, 100000));
  return SimClock(offset, swarm.drift_ppm == 0 ? 0 : between(random, -swarm.drift_ppm, swarm.drift_ppm));
}

}  // namespace

Time SimClock::local(Time world) const {
  const Duration since = world - kBegin;
  return world + offset_ + since * ppm_ / 1'000'000;
}

Time SimClock::world(Time local) const {
  if (local == kNever) return kNever;
  const Duration since = local - offset_ - kBegin;
  Time guess = kBegin + since * 1'000'000 / (1'000'000 + ppm_) - Duration{2};
  while (this->local(guess) < local) guess += Duration{1};
  return guess;
}

SimNode::SimNode(Env& env, Truth& truth, Observer& observer, LogWatcher& watcher, NodeId id, std::uint64_t seed)
    : env_(env),
      truth_(truth),
      observer_(observer),
      id_(id),
      random_(seed),
      disk_(disk_options(env.swarm, id), random_.next(), &watcher),
      clock_(make_clock(env.swarm, random_)),
      wall_offset_ms_(env.swarm.wall_skew_ms == 0 ? 0 : between(random_, -env.swarm.wall_skew_ms, env.swarm.wall_skew_ms)) {}

SimNode::~SimNode() = default;

WallMs SimNode::wall() const {
  const auto since = std::chrono::duration_cast<std::chrono::milliseconds>(env_.agenda.now() - kBegin).count();
  return static_cast<WallMs>(static_cast<std::int64_t>(kSimWall) + since + wall_offset_ms_);
}

void SimNode::start() {
  ++lives_;
  since_ = env_.agenda.now();
  // As nodes/runtime has it: the start time, and always more than the life before (a file in the data folder remembers it).
  last_incarnation_ = std::max(last_incarnation_ + 1, wall());
  env_.trace.note(0x57A7, [&] { return to_string(id_) + " starts, life " + std::to_string(lives_); });
  env_.network.process_started(id_);
  process_ =
      std::make_shared<NodeProcess>(env_, *this, truth_, observer_, Incarnation{last_incarnation_}, Random(random_.next()));
  process_->start();
}

void SimNode::crash(bool power_cut) {
  if (!up()) return;
  since_ = env_.agenda.now();
  env_.trace.note(0xDEAD, [&] { return to_string(id_) + (power_cut ? " loses power" : " is killed"); });
  process_.reset();
  disk_.process_died(power_cut);
  env_.network.process_died(id_, power_cut);
}

void SimNode::stopped_itself(const std::string& why) {
  env_.trace.print(to_string(id_) + " stops: " + why);
  // Not from within its own call.
  env_.agenda.after(Duration{0}, [this, life = lives_] {
    if (lives_ == life) crash(false);
  });
}

bool SimNode::paused() const { return process_ != nullptr && process_->paused(); }

void SimNode::pause() {
  env_.trace.note(0x9A05, [&] { return to_string(id_) + " is stopped (SIGSTOP)"; });
  process_->pause();
}

void SimNode::resume() {
  env_.trace.note(0x9A06, [&] { return to_string(id_) + " goes on (SIGCONT)"; });
  const auto process = process_;
  process->resume();
}

}  // namespace idunno::sim

#include "tests/sim/swarm.h"

namespace idunno::sim {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed ^ 0x5EEDC0DEULL) {}
  bool chance(double p) { return random_.chance(p); }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(high - low + 1)));
  }
  Duration time(Duration low, Duration high) { return Duration{between(low.count(), high.count())}; }
  /// A kind of fault that is in this run with probability `p`, and then once in low to high.
  Duration every(double p, Duration low, Duration high) { return chance(p) ? time(low, high) : Duration{0}; }
  template <class T>
  T one_of(const std::vector<T>& items) {
    return items[random_.below(items.size())];
  }

 private:
  Random random_;
};

void draw_faults(Draw& draw, Swarm& swarm) {
  if (draw.chance(0.4)) swarm.loss = draw.one_of<double>({0.001, 0.02, 0.1, 0.3});
  if (draw.chance(0.3)) swarm.duplicate = draw.one_of<double>({0.01, 0.1, 0.3});
  if (draw.chance(0.4)) swarm.reorder = draw.one_of<double>({0.01, 0.1, 0.5});
  swarm.reorder_max = draw.time(milliseconds(1), milliseconds(200));
  swarm.crash_every = draw.every(0.6, milliseconds(800), milliseconds(6000));
  swarm.assassinate_every = draw.every(0.3, milliseconds(1500), milliseconds(6000));
  swarm.cut_every = draw.every(0.4, milliseconds(1000), milliseconds(6000));
  swarm.pause_every = draw.every(0.3, milliseconds(800), milliseconds(5000));
  swarm.slow_disk_every = draw.every(0.2, milliseconds(500), milliseconds(4000));
  swarm.failed_write_every = draw.every(0.15, milliseconds(2000), milliseconds(6000));
  swarm.break_every = draw.every(0.3, milliseconds(100), milliseconds(3000));
  swarm.damage_every = draw.every(0.2, milliseconds(300), milliseconds(3000));
  swarm.wall_jump_every = draw.every(0.1, milliseconds(1000), milliseconds(4000));
  swarm.transfer_every = draw.every(0.1, milliseconds(1000), milliseconds(4000));
  if (draw.chance(0.5)) swarm.wipe = draw.one_of<double>({0.1, 0.3, 0.6});
  if (draw.chance(0.5)) swarm.power_cut = draw.one_of<double>({0.2, 0.5, 1.0});
  swarm.one_way = draw.one_of<double>({0, 0.3, 1});
  swarm.group_cut = draw.one_of<double>({0, 0.5, 1});
  swarm.majority_may_go = draw.chance(0.25);
  if (draw.chance(0.5)) swarm.drift_ppm = draw.one_of<std::int64_t>({50, 500, 5000});
  if (draw.chance(0.5)) swarm.wall_skew_ms = draw.one_of<std::int64_t>({5, 500, 60000});
}

void draw_work(Draw& draw, Swarm& swarm) {
  swarm.slots = static_cast<std::uint32_t>(draw.between(1, 3));
  swarm.clients = static_cast<std::uint32_t>(draw.between(1, 3));
  swarm.jobs = static_cast<std::uint32_t>(draw.between(1, 2));
  swarm.files = static_cast<std::uint32_t>(draw.between(1, 8));
  swarm.batch_time = draw.time(milliseconds(20), milliseconds(400));
  // Enough for about the whole time of faults, whatever the batches cost.
  const std::int64_t wanted =
      swarm.faults_for.count() * swarm.slots * swarm.nodes / (swarm.batch_time.count() * swarm.clients * swarm.jobs * 2);
  swarm.batches = static_cast<std::uint32_t>(std::min<std::int64_t>(std::max<std::int64_t>(wanted, 4), 60));
  if (draw.chance(0.3)) swarm.straggler = 0.02;
  if (draw.chance(0.25)) {
    swarm.executor_crash = 0.03;
    swarm.executor_hang = draw.one_of<double>({0, 0.3, 1});
  } else if (draw.chance(0.3))
    swarm.poison = static_cast<std::uint32_t>(draw.between(1, 2));
  swarm.full_disk_every = draw.every(0.15, milliseconds(1500), milliseconds(6000));
  swarm.compact_bytes = draw.one_of<std::size_t>({1U << 12U, 1U << 14U, 1U << 16U, 64U << 20U});
  swarm.last_kill = draw.chance(0.25);
}

}  // namespace

Swarm draw_swarm(std::uint64_t seed, const std::vector<std::uint32_t>& node_counts) {
  Draw draw(seed);
  Swarm swarm;
  swarm.seed = seed;
  swarm.nodes = draw.one_of(node_counts);
  swarm.faults_for = draw.time(milliseconds(6000), milliseconds(14000));
  swarm.delay_min = draw.time(microseconds(20), microseconds(500));
  swarm.delay_max = swarm.delay_min + draw.time(microseconds(10), draw.chance(0.3) ? milliseconds(20) : milliseconds(1));
  swarm.refuses_at_once = draw.chance(0.7);
  swarm.flush_min = draw.time(microseconds(10), microseconds(500));
  swarm.flush_max = swarm.flush_min + draw.time(microseconds(10), draw.chance(0.2) ? milliseconds(10) : milliseconds(1));
  draw_faults(draw, swarm);
  draw_work(draw, swarm);
  return swarm;
}

}  // namespace idunno::sim

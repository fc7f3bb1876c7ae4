#pragma once
/// What one seed is made of. Each seed draws its own mix of faults (swarm testing; Groce et al., ISSTA 2012): leaving most kinds
/// of fault out of a run finds more than a little of everything in every run.

#include <cstdint>
#include <vector>

#include "bus/base/random.h"
#include "bus/base/time.h"

namespace idunno::sim {

/// Probabilities and sizes; times are virtual.
struct Swarm {
  std::uint64_t seed = 0;
  std::uint32_t nodes = 3;
  std::uint32_t slots = 2;
  Duration faults_for{};  ///< how long faults happen before all is healed

  // network
  Duration delay_min{};
  Duration delay_max{};
  double loss = 0;       ///< of messages of the log and of membership
  double duplicate = 0;  ///< of those
  double reorder = 0;    ///< of those: held back for up to reorder_max
  Duration reorder_max = std::chrono::milliseconds(100);
  bool refuses_at_once = true;  ///< a call to a process that is not there ends at once, else by its timeout

  // disks
  Duration flush_min{};
  Duration flush_max{};

  // how often a fault begins: mean time between two of a kind, 0 = never
  Duration crash_every{};
  Duration cut_every{};
  Duration pause_every{};
  Duration slow_disk_every{};
  Duration failed_write_every{};
  Duration full_disk_every{};
  Duration break_every{};
  Duration damage_every{};
  Duration wall_jump_every{};
  Duration transfer_every{};
  Duration assassinate_every{};  ///< the node that leads is killed
  double wipe = 0;               ///< of crashes: the folder is lost
  double power_cut = 0;          ///< of crashes: what was not synced is lost, and no connection closes
  double one_way = 0;            ///< of cuts
  double group_cut = 0;          ///< of cuts: two groups, else single links
  bool majority_may_go = false;  ///< more nodes than can be spared are down or cut off at once: nothing is lost, all waits
  std::int64_t drift_ppm = 0;    ///< clocks go wrong by up to this
  std::int64_t wall_skew_ms = 0;

  // work
  std::uint32_t clients = 2;
  std::uint32_t jobs = 2;      ///< each client's
  std::uint32_t files = 6;     ///< each client's
  std::uint32_t batches = 24;  ///< of a job
  Duration batch_time{};
  double straggler = 0;           ///< of batches: take 10 times as long
  double executor_crash = 0;      ///< of batches, at most twice each
  double executor_hang = 0;       ///< of those: nothing comes until its deadline, then it is killed
  std::uint32_t poison = 0;       ///< queries in a job that kill every executor
  std::size_t compact_bytes = 0;  ///< the log becomes a snapshot when it is larger
  bool last_kill = false;         ///< after all is healed: one node dies, its blocks are copied, it comes back
};

[[nodiscard]] Swarm draw_swarm(std::uint64_t seed, const std::vector<std::uint32_t>& node_counts);

}  // namespace idunno::sim

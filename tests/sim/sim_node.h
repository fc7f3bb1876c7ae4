#pragma once
/// One machine: its disk and its clock, which outlive the processes that run on it, one after the other.

#include <memory>

#include "tests/sim/fake_disk.h"
#include "tests/sim/process.h"
#include "tests/sim/truth.h"

namespace idunno {
class ControlPlane;
class NodeAgent;
class Swim;
}  // namespace idunno

namespace idunno::sim {

class NodeProcess;
class SimNode;

/// A clock that goes wrong: by an offset and a rate. Wall time may jump besides.
class SimClock {
 public:
  SimClock(Duration offset, std::int64_t ppm) : offset_(offset), ppm_(ppm) {}
  [[nodiscard]] Time local(Time world) const;
  /// The first moment of the world at which it shows `local` or more.
  [[nodiscard]] Time world(Time local) const;

 private:
  Duration offset_;
  std::int64_t ppm_;
};

/// Sees what the nodes do (tests/sim/checkers.h).
class Observer {
 public:
  virtual ~Observer() = default;
  /// A turn of the node is over, and what it wrote is safe: its messages and answers go out now.
  virtual void turn_ended(const SimNode& node) = 0;
  virtual void answered(const SimNode& node, const Envelope& question, MessageType type, const Bytes& body, bool stale) = 0;
};

class SimNode {
 public:
  SimNode(Env& env, Truth& truth, Observer& observer, LogWatcher& watcher, NodeId id, std::uint64_t seed);
  ~SimNode();

  void start();
  void crash(bool power_cut);
  void wipe() { disk_.wipe(); }  ///< while it is down
  void pause();
  void resume();
  /// The process ends by itself: a write failed.
  void stopped_itself(const std::string& why);

  [[nodiscard]] NodeId id() const { return id_; }
  [[nodiscard]] bool up() const { return process_ != nullptr; }
  [[nodiscard]] bool paused() const;
  [[nodiscard]] FakeDisk& disk() { return disk_; }
  [[nodiscard]] const FakeDisk& disk() const { return disk_; }
  [[nodiscard]] const std::shared_ptr<NodeProcess>& process() const { return process_; }
  [[nodiscard]] Time local_now() const { return clock_.local(env_.agenda.now()); }
  [[nodiscard]] const SimClock& clock() const { return clock_; }
  [[nodiscard]] WallMs wall() const;
  void jump_wall(std::int64_t ms) { wall_offset_ms_ += ms; }
  [[nodiscard]] std::uint64_t lives() const { return lives_; }
  [[nodiscard]] Time since() const { return since_; }  ///< of the world: when it last started or died

 private:
  Env& env_;
  Truth& truth_;
  Observer& observer_;
  NodeId id_;
  Random random_;
  FakeDisk disk_;
  SimClock clock_;
  std::int64_t wall_offset_ms_ = 0;
  std::uint64_t lives_ = 0;
  WallMs last_incarnation_ = 0;
  Time since_{};
  std::shared_ptr<NodeProcess> process_;
};

}  // namespace idunno::sim

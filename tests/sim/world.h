#pragma once
/// A whole cluster in one thread and virtual time. The same seed gives the same run, to the last byte: `Outcome::trace_hash`.
///
/// A run: all starts; clients work while faults happen (safety: the checkers look at every turn); then everything is healed, and
/// within kProgressBound all that was promised must have come true (progress); in some runs a node then dies alone and comes
/// back.

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/checkers.h"
#include "tests/sim/client.h"
#include "tests/sim/faults.h"

namespace idunno::sim {

/// After all is healed: a coordinator serves, every job is done, every block has its copies.
inline constexpr Duration kProgressBound = std::chrono::seconds(60);
/// After one node died, and after it came back.
inline constexpr Duration kRepairBound = std::chrono::seconds(30);

struct Outcome {
  std::string violation;  ///< empty: all is well
  std::uint64_t trace_hash = 0;
  std::uint64_t events = 0;
  Duration virtual_time{};
  Duration healing{};  ///< from healing to all done
  std::uint64_t acknowledged = 0;
  std::uint64_t epochs = 0;
  std::uint64_t wipes = 0;
  std::uint64_t entries = 0;
};

class World final : public Observer {
 public:
  World(const Swarm& swarm, std::FILE* trace);
  ~World() override;
  [[nodiscard]] Outcome run();

 private:
  void turn_ended(const SimNode& node) override;
  void answered(const SimNode& node, const Envelope& question, MessageType type, const Bytes& body, bool stale) override;

  void violated(const std::string& what);
  [[nodiscard]] std::shared_ptr<Process> find(NodeId id) const;
  void run_for(Duration time);
  /// Until `lacks` has nothing to say. False, and a violation, when that takes longer than `bound`.
  bool run_until(const std::function<std::string()>& lacks, Duration bound, const char* what);
  void start_all();
  void sample_states();
  [[nodiscard]] std::string lacks() const;
  void kill_one_more();
  void final_checks();

  Swarm swarm_;
  Random random_;
  Agenda agenda_;
  Trace trace_;
  Network network_;
  Truth truth_;
  Env env_;
  std::string violation_;
  Nodes nodes_;
  LeaderChecker leader_checker_;
  LogChecker log_checker_;
  StateChecker state_checker_;
  AnswerChecker answer_checker_;
  Faults faults_;
  std::vector<std::shared_ptr<SimClient>> clients_;
};

}  // namespace idunno::sim

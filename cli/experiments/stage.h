#pragma once
/// Where an experiment plays: a temporary cluster with its models and data, made as `idunno up` makes one. Also what is done to
/// it: jobs, signals to nodes, and everything as it was before the next round. One thread: the session's.

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/app.h"
#include "cli/experiments/experiment.h"
#include "cli/local_cluster.h"

namespace idunno::cli {

class Stage {
 public:
  /// Starts the cluster of a case.
  [[nodiscard]] static Result<std::unique_ptr<Stage>> build(const App& app, const ExpCase& one);
  /// Puts the models and data of a case into it, unless they are there.
  [[nodiscard]] Status prepare(const App& app, const Experiment& experiment, const ExpPlan& plan, const ExpCase& one);

  [[nodiscard]] Session& session() { return cluster_->session(); }
  [[nodiscard]] const ExpCase& made_for() const { return made_for_; }

  /// An endless job; `rate_qps` 0 = no limit.
  [[nodiscard]] Result<JobReport> submit(const ExpJob& job, double rate_qps);
  /// The nodes that `who` means now; not_found when there are not so many.
  [[nodiscard]] Result<std::vector<NodeId>> choose(const ExpAction& action, std::uint64_t chance);
  /// Kill or pause, all in one moment; `at_once` is called just before the first signal.
  [[nodiscard]] Status strike(const std::vector<NodeId>& nodes, ExpAction::What what, const std::function<void()>& at_once);
  /// Resume paused nodes or start killed ones.
  [[nodiscard]] Status bring_back(const std::vector<NodeId>& nodes);
  [[nodiscard]] NodeId coordinator();  ///< 0 = nobody leads
  /// Share of the slots that `victims` leave; those that are away already count as gone.
  [[nodiscard]] double slots_left(const std::vector<NodeId>& victims) const;

  /// All jobs are removed, all nodes are back and the cluster is healthy.
  [[nodiscard]] Status restore();

 private:
  Stage() = default;
  [[nodiscard]] Status add_model_of(const App& app, const ExpModel& model);
  [[nodiscard]] Status add_lines();
  [[nodiscard]] Status add_images(const Experiment& experiment, const ExpPlan& plan);

  std::unique_ptr<TemporaryCluster> cluster_;
  ExpCase made_for_;
  std::map<std::string, bool> models_;  ///< those that are there: computes nothing?
  std::set<std::string> data_;          ///< data sets that are there, by path
  std::vector<JobId> jobs_;
  std::set<NodeId> killed_;
  std::set<NodeId> paused_;
};

}  // namespace idunno::cli

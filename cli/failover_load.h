#pragma once
/// The load of `idunno bench failover`: two jobs that never end while it measures, and the job that a client submits during the
/// takeover. One thread: the session's.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

/// After the nodes are back, before the next round: the first leases of a new node come in a burst.
inline constexpr Duration kFailoverSettle = std::chrono::seconds(2);

class FailoverLoad {
 public:
  struct Options {
    std::string models = "resnet18,alexnet";
    std::string service;  ///< of a query with the engine that computes nothing, instead of models
    std::uint32_t batch = 4;
    std::string images;
  };

  /// `nodes`: of the cluster. `options` lives longer than this object.
  FailoverLoad(Session& session, const Options& options, unsigned nodes) : session_(session), options_(options), nodes_(nodes) {}

  [[nodiscard]] Status prepare(App& app);
  /// Both jobs run, with enough left for a round: they are submitted anew before they come to an end.
  [[nodiscard]] Status keep_running();
  /// What a client sends during the takeover; everything about it is prepared before.
  [[nodiscard]] Result<JobSpec> probe_spec();

 private:
  /// Jobs that have just begun load their models first: their rates mean nothing until every node has committed something.
  [[nodiscard]] Status wait_for_rates();

  Session& session_;
  const Options& options_;
  unsigned nodes_;
  std::string data_;
  std::vector<std::string> models_;
  std::map<std::string, JobId> jobs_;
  bool fresh_ = false;
};

}  // namespace idunno::cli

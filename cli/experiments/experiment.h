#pragma once
/// An experiment as its TOML file describes it (configs/experiments/README.md lists every key), and the plan that follows from
/// it: the cases, each one cluster, and how often each is repeated. Pure but for reading the file. Unknown keys are errors that
/// name the key.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "bus/base/time.h"

namespace idunno::cli {

/// What is made of the events of a run.
enum class Measure {
  second_job,  ///< when a second job starts, and how machines and rates are shared then
  failure,     ///< how long until all is as before after machines died
  script,      ///< curves over time of a longer script
  fairness,    ///< ratio of the rates in windows of 10 s
  curve,       ///< latency against throughput, with the knee
  scaling,     ///< throughput over the number of workers
};
[[nodiscard]] const char* to_string(Measure measure);

struct ExpModel {
  std::string name;
  std::string init;  ///< a published architecture with random weights; empty = the engine that computes nothing
  std::uint64_t seed = 1;
  Duration service{};  ///< ... which takes so long for a query
  [[nodiscard]] bool nothing() const { return init.empty(); }
};

struct ExpJob {
  std::string name;
  std::string model;
  std::uint32_t batch = 1;
  double weight = 1;
  double rate_qps = 0;  ///< at most so many queries a second; 0 = no limit
  Duration at{};        ///< submitted then; 0 = before the clock starts, which waits until it runs everywhere
};

struct ExpAction {
  enum class What { kill, pause, resume, start };
  std::string name;  ///< prefix of its figures where there are several; default: what it does to whom
  What what = What::kill;
  Duration at{};
  /// "worker" (one by chance that neither leads nor stands by), "coordinator", "standby", "n3"; resume and start: also "all",
  /// those that were paused or killed. All in one moment.
  std::vector<std::string> who;
};

/// Where the queries come from. Models that compute nothing take lines of a CSV file, the others pictures.
struct ExpData {
  std::filesystem::path path;  ///< a folder of pictures; empty = made up from the seed
  std::uint64_t images = 256;
  std::uint32_t side = 256;  ///< pixels of made-up ones
  std::uint64_t seed = 1;
};

/// A limit of a figure: `exp run --assert` fails when it is missed.
struct ExpWanted {
  std::string figure;
  std::string of = "mean";              ///< mean, min or max of the repeats
  std::map<std::string, double> limit;  ///< "min", "max": one of them or both
  std::vector<std::string> cases;       ///< empty = every case
  std::string text;
};

struct ExpCase {
  std::string name;  ///< empty = the only one
  unsigned nodes = 5;
  std::uint32_t slots = 1;
  std::string policy;  ///< of the scheduler; empty = the default
  std::vector<std::string> tuning;
  std::vector<ExpJob> jobs;
  std::vector<ExpAction> actions;
  Duration duration = std::chrono::seconds(60);
  double load = 0;    ///< of a curve: offered share of the throughput that the batch size reaches at most; 0 = no limit
  std::string group;  ///< of a sweep: cases with the same group make one curve
  /// The cluster may stay for a case that asks for the same.
  [[nodiscard]] bool same_cluster(const ExpCase& other) const {
    return nodes == other.nodes && slots == other.slots && policy == other.policy && tuning == other.tuning;
  }
};

/// What [quick] changes for a quick look.
struct ExpQuick {
  unsigned nodes = 0;  ///< 0 = as in the whole form, here and below
  double scale = 1;    ///< of all times in the script
  unsigned repeat = 1;
  std::uint64_t images = 0;
  std::vector<std::string> cases;
  std::vector<std::int64_t> workers;
  std::vector<std::int64_t> batches;
  std::vector<double> loads;
};

struct Experiment {
  std::string name;
  std::string title;
  std::string text;
  Measure measure = Measure::failure;
  std::vector<ExpModel> models;
  ExpData data;
  ExpCase base;                               ///< what cases begin as
  std::vector<ExpCase> cases;                 ///< as written; none = the base alone
  std::vector<std::int64_t> workers;          ///< sweep: nodes with one slot each
  std::vector<std::int64_t> batches;          ///< sweep: batch sizes
  std::vector<double> loads;                  ///< sweep, for each batch size
  Duration settle = std::chrono::seconds(2);  ///< from all jobs running until the clock starts
  unsigned repeat = 3;
  ExpQuick quick;
  std::vector<ExpWanted> wanted;
  std::string source;  ///< text of the file

  [[nodiscard]] static Result<Experiment> parse(const std::string& toml, const std::string& source_name);
  [[nodiscard]] static Result<Experiment> load(const std::filesystem::path& file);
  [[nodiscard]] const ExpModel* model(const std::string& name) const;
};

struct ExpPlan {
  std::vector<ExpCase> cases;
  unsigned repeat = 1;
  std::uint64_t images = 0;
  bool quick = false;
};
struct PlanOptions {
  bool quick = false;
  unsigned repeat = 0;             ///< 0 = as the file says
  std::vector<std::string> cases;  ///< only these; empty = all
};
/// not_found names a case that there is not.
[[nodiscard]] Result<ExpPlan> make_plan(const Experiment& experiment, const PlanOptions& options);
/// How long the plan takes, without the starting of clusters and the loading of models.
[[nodiscard]] Duration planned_duration(const Experiment& experiment, const ExpPlan& plan);

/// A figure of one of the systems that this one is compared with (configs/experiments/systems.toml).
struct SystemFigure {
  std::string system;      ///< "A"
  std::string experiment;  ///< whose figure it stands beside
  std::string figure;
  double mean = 0;
  double sd = 0;     ///< 0 = not told
  std::string text;  ///< how to write it: "22.6 s (sd 2.3)"
};
struct Systems {
  std::map<std::string, std::string> names;  ///< "A" -> what it is
  std::vector<SystemFigure> figures;
  [[nodiscard]] static Result<Systems> parse(const std::string& toml, const std::string& source_name);
  [[nodiscard]] static Result<Systems> load(const std::filesystem::path& file);
};

}  // namespace idunno::cli

#include "cli/experiments/stage.h"

#include <fmt/core.h>

#include <algorithm>
#include <csignal>

#include "bus/base/random.h"
#include "bus/clock.h"
#include "cli/bench.h"
#include "cli/cluster_watch.h"
#include "cli/image_set.h"
#include "cli/jobs.h"
#include "cli/model_store.h"
#include "cli/names.h"
#include "storage/models/model_spec.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr char kImages[] = "/exp/images";
constexpr char kLines[] = "/exp/lines.csv";
constexpr std::uint64_t kLinesCount = 1000;
constexpr std::uint64_t kDifferentImages = 64;
constexpr Duration kUpLimit = std::chrono::seconds(60);

}  // namespace

Result<std::unique_ptr<Stage>> Stage::build(const App& app, const ExpCase& one) {
  std::unique_ptr<Stage> stage(new Stage());
  stage->made_for_ = one;
  LocalCluster::Options options;
  options.nodes = one.nodes;
  options.slots = one.slots;
  options.tuning = one.tuning;
  if (!one.policy.empty()) options.tuning.push_back("policy=" + one.policy);
  auto cluster = TemporaryCluster::up(options, std::max<Duration>(app.globals.timeout, kUpLimit));
  if (!cluster) return cluster.error();
  stage->cluster_ = std::move(*cluster);
  return stage;
}

Status Stage::prepare(const App& app, const Experiment& experiment, const ExpPlan& plan, const ExpCase& one) {
  for (const ExpJob& job : one.jobs) {
    const ExpModel& model = *experiment.model(job.model);
    if (auto there = add_model_of(app, model); !there) return there;
    if (auto data = model.nothing() ? add_lines() : add_images(experiment, plan); !data) return data;
  }
  return {};
}

Status Stage::add_model_of(const App& app, const ExpModel& model) {
  if (!models_.emplace(model.name, model.nothing()).second) return {};
  if (model.nothing()) {
    ModelSpec spec;
    spec.nothing = true;
    spec.nothing_us = static_cast<std::uint32_t>(model.service.count());
    auto version = add_model(session(), model.name, "", to_toml(spec), "", "experiment: computes nothing");
    return version ? Status() : Status(version.error());
  }
  if (app.globals.verbose) app.note(fmt::format("adding {} ({}, random weights of seed {})", model.name, model.init, model.seed));
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  auto files = make_bench_model(model.init, (*scratch)->path(), model.seed);
  if (!files) return files.error();
  auto version = add_model(session(), model.name, files->onnx.string(), files->spec_toml, "", "experiment, random weights");
  return version ? Status() : Status(version.error());
}

Status Stage::add_lines() {
  if (!data_.insert(kLines).second) return {};
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  std::string lines;
  for (std::uint64_t i = 0; i < kLinesCount; ++i) lines += fmt::format("{},{}\n", i % 10, i);
  const fs::path file = (*scratch)->path() / "lines.csv";
  if (auto written = write_whole_file(file, lines); !written) return written;
  if (auto ready = session().sdfs().refresh_placement(); !ready) return ready;
  auto put = session().sdfs().put({{file.string(), kLines}}, [](const TransferProgress&) {});
  return put ? Status() : Status(put.error());
}

Status Stage::add_images(const Experiment& experiment, const ExpPlan& plan) {
  if (!data_.insert(kImages).second) return {};
  fs::path folder = experiment.data.path;
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  if (folder.empty()) {
    folder = (*scratch)->path() / "images";
    const std::uint64_t different = std::min(plan.images, kDifferentImages);
    if (auto made = make_images(folder, different, experiment.data.side, experiment.data.seed); !made) return made;
  }
  return upload_images(session(), folder, plan.images, kImages);
}

Result<JobReport> Stage::submit(const ExpJob& job, double rate_qps) {
  SubmitOptions submit;
  submit.model = job.model;
  submit.data = models_.at(job.model) ? kLines : kImages;
  submit.name = job.name;
  submit.batch = std::to_string(job.batch);
  submit.weight = fmt::format("{}", job.weight);
  if (rate_qps > 0) submit.rate = fmt::format("{:.3f}/s", rate_qps);
  submit.repeat = 0;  // until the round ends
  auto id = submit_job(session(), submit);
  if (!id) return id.error();
  jobs_.push_back(*id);
  return job_report(session(), *id);
}

NodeId Stage::coordinator() {
  auto status = session().metadata().call_and_wait(StatusRequest{});
  return status ? status->coordinator : NodeId{};
}

Result<std::vector<NodeId>> Stage::choose(const ExpAction& action, std::uint64_t chance) {
  if (action.what == ExpAction::What::resume || action.what == ExpAction::What::start) {
    std::vector<NodeId> away(killed_.begin(), killed_.end());
    away.insert(away.end(), paused_.begin(), paused_.end());
    if (action.who == std::vector<std::string>{"all"}) return away;
    std::vector<NodeId> named;
    for (const std::string& who : action.who) {
      auto node = parse_node(who, cluster_->cluster().config());
      if (!node) return node.error();
      if (std::find(away.begin(), away.end(), *node) == away.end())
        return Error{Errc::conflict, fmt::format("{} was neither killed nor paused", to_string(*node))};
      named.push_back(*node);
    }
    return named;
  }
  auto status = session().metadata().call_and_wait(StatusRequest{});
  if (!status) return status.error();
  std::vector<NodeId> chosen;
  std::vector<NodeId> others;
  for (const auto& [node, pid] : cluster_->cluster().running()) {
    if (node != status->coordinator && node != status->standby && paused_.count(node) == 0) others.push_back(node);
  }
  Random(chance).shuffle(others);
  const auto taken = [&](NodeId node) { return std::find(chosen.begin(), chosen.end(), node) != chosen.end(); };
  for (const std::string& who : action.who) {
    NodeId node;
    if (who == "coordinator") node = status->coordinator;
    if (who == "standby") node = status->standby;
    if (who == "worker") {
      while (!others.empty() && taken(others.back())) others.pop_back();
      if (!others.empty()) node = others.back();
    } else if (!node) {
      auto named = parse_node(who, cluster_->cluster().config());
      if (!named) return named.error();
      node = *named;
    }
    if (!node || taken(node)) return Error{Errc::not_found, fmt::format("there is no {} (left) to take away", who)};
    chosen.push_back(node);
  }
  return chosen;
}

Status Stage::strike(const std::vector<NodeId>& nodes, ExpAction::What what, const std::function<void()>& at_once) {
  const bool pause = what == ExpAction::What::pause;
  auto signalled = cluster_->cluster().signal_together(nodes, pause ? SIGSTOP : SIGKILL, at_once);
  if (!signalled) return signalled.error();
  (pause ? paused_ : killed_).insert(nodes.begin(), nodes.end());
  return {};
}

Status Stage::bring_back(const std::vector<NodeId>& nodes) {
  for (const NodeId node : nodes) {
    if (paused_.erase(node) != 0) {
      if (auto woken = cluster_->cluster().signal(node, SIGCONT); !woken) return woken.error();
    } else if (killed_.erase(node) != 0) {
      if (auto pid = cluster_->cluster().start(node); !pid) return pid.error();
    }
  }
  return {};
}

double Stage::slots_left(const std::vector<NodeId>& victims) const {
  const auto all = static_cast<double>(made_for_.nodes);
  const double there = all - static_cast<double>(killed_.size() + paused_.size());
  return there <= 0 ? 0 : std::max(0.0, there - static_cast<double>(victims.size())) / there;
}

Status Stage::restore() {
  for (const JobId job : jobs_) {
    (void)session().metadata().call_and_wait(JobControlRequest{job, JobAction::stop});
    (void)session().metadata().call_and_wait(JobControlRequest{job, JobAction::remove});
  }
  jobs_.clear();
  std::vector<NodeId> away(killed_.begin(), killed_.end());
  away.insert(away.end(), paused_.begin(), paused_.end());
  if (auto back = bring_back(away); !back) return back;
  return wait_until_healthy(session(), made_for_.nodes);
}

}  // namespace idunno::cli

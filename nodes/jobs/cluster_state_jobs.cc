// Jobs: submitting and steering.
#include <fmt/core.h>

#include <algorithm>

#include "bus/base/assert.h"
#include "bus/names.h"
#include "nodes/jobs/cluster_state.h"

namespace idunno {
namespace {

constexpr std::uint32_t kTopMax = 65536;
constexpr std::uint32_t kItemSideMax = 16384;  // pixels
constexpr std::size_t kReasonBytesMax = 4096;

const char* verb_of(JobAction action) {
  switch (action) {
    case JobAction::stop:
      return "stop";
    case JobAction::pause:
      return "pause";
    case JobAction::resume:
      return "resume";
    case JobAction::remove:
      return "remove";
  }
  return "change";
}

std::string folder_of(JobId id) { return "/jobs/" + to_string(id); }
std::string result_path_of(JobId id) { return folder_of(id) + "/result.jsonl"; }

Status check_weight(std::uint32_t weight_milli) {
  if (weight_milli >= 1 && weight_milli <= kWeightMilliMax) return {};
  return Error{Errc::invalid, fmt::format("weight {}.{:03}: 0.001 to {} are possible", weight_milli / 1000, weight_milli % 1000,
                                          kWeightMilliMax / 1000)};
}

Status check_node_limits(std::uint32_t least, std::uint32_t most) {
  if (most == 0 || least <= most) return {};
  return Error{Errc::invalid, fmt::format("at least {} and at most {} nodes: the first must not be the larger one", least, most)};
}

std::string repeat_text(std::uint32_t repeat) {
  if (repeat == 1) return "";
  return repeat == 0 ? ", repeated without end," : fmt::format(", {} times,", repeat);
}

/// What can be judged by looking at the spec alone.
Status check_numbers(const JobSpec& spec) {
  if (spec.name.size() > kNameBytesMax)
    return Error{Errc::invalid, fmt::format("its name has {} bytes, {} are possible", spec.name.size(), kNameBytesMax)};
  if (std::any_of(spec.name.begin(), spec.name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
    return Error{Errc::invalid, "its name has control characters"};
  }
  if (spec.kind != JobKind::inference) return Error{Errc::invalid, "jobs of training are not possible with this version"};
  if (spec.queries == 0 && !spec.follow)
    return Error{Errc::invalid, fmt::format("{} has no queries", spec.data_path.empty() ? "the job" : spec.data_path)};
  if (spec.batch == 0 || spec.batch > kBatchQueriesMax) {
    return Error{Errc::invalid, fmt::format("batch size {}: 1 to {} are possible", spec.batch, kBatchQueriesMax)};
  }
  if (spec.follow && (spec.repeat != 1 || spec.item_kind != ItemKind::image || spec.data_path.empty())) {
    return Error{Errc::invalid, "a job can follow a folder of images, and then it cannot be repeated"};
  }
  if (spec.urgent && (spec.follow || spec.repeat != 1 || spec.queries > kUrgentQueriesMax)) {
    return Error{Errc::invalid,
                 fmt::format("an urgent job goes ahead of all others: it has at most {} queries, once", kUrgentQueriesMax)};
  }
  if (const std::uint64_t batches = kept_batches(shape_of(spec, {}), {}); batches > kBatchesMax) {
    return Error{Errc::too_large, fmt::format("{} queries in batches of {}{} are {} batches, {} are possible; use a larger batch",
                                              spec.queries, spec.batch, repeat_text(spec.repeat), batches, kBatchesMax)};
  }
  if (Status weight = check_weight(spec.weight_milli); !weight) return weight;
  if (Status nodes = check_node_limits(spec.nodes_min, spec.nodes_max); !nodes) return nodes;
  if (spec.top > kTopMax)
    return Error{Errc::invalid, fmt::format("{} labels in a row: at most {} are possible", spec.top, kTopMax)};
  if (spec.item_kind == ItemKind::pixels) {
    const auto fits = [](std::uint32_t side) { return side >= 1 && side <= kItemSideMax; };
    if (spec.item_shape.size() != 2 || !std::all_of(spec.item_shape.begin(), spec.item_shape.end(), fits)) {
      return Error{Errc::invalid, fmt::format("items of raw pixels need a height and a width of 1 to {}", kItemSideMax)};
    }
  }
  return {};
}

}  // namespace

std::string segments_folder_of(JobId job) { return folder_of(job) + "/segments"; }
std::string segment_path_of(JobId job, std::uint64_t number) { return fmt::format("{}/{:08}", segments_folder_of(job), number); }

// -- submitting -------------------------------------------------------------------------------------------------------

Status ClusterState::check_submit(const JobSpec& spec) const {
  if (Status numbers = check_numbers(spec); !numbers) return annotate(numbers.error(), "submit");
  const ModelVersion* used = model(spec.model, spec.model_version);
  if (used == nullptr && model(spec.model) == nullptr) {
    return Error{
        Errc::not_found,
        fmt::format("submit: there is no model {}; `idunno model list` names them, `idunno model add` adds one", spec.model)};
  }
  if (used == nullptr) {
    return Error{Errc::not_found, fmt::format("submit: model {} has no version {}; its newest is {}", spec.model,
                                              spec.model_version, model(spec.model)->version)};
  }
  if (Status onnx = check_model_file("its ONNX file", used->onnx_path, used->onnx_version); !onnx)
    return annotate(onnx.error(), "submit: model " + spec.model);
  if (Status labels = check_model_file("its labels file", used->labels_path, used->labels_version); !labels) {
    return annotate(labels.error(), "submit: model " + spec.model);
  }
  // Only queries without bytes need no list of what they consist of.
  const bool needs_items = spec.item_kind != ItemKind::nothing && spec.queries > 0;
  if (needs_items && spec.manifest_path.empty()) return Error{Errc::invalid, "submit: no manifest (list of queries) was given"};
  if (!spec.manifest_path.empty()) {
    if (Status manifest = check_model_file("the manifest", spec.manifest_path, spec.manifest_version); !manifest)
      return annotate(manifest.error(), "submit");
    const std::uint64_t chunks = files_.find(spec.manifest_path, spec.manifest_version)->blocks.size();
    if (needs_items && (spec.items_per_chunk == 0 || chunks < (spec.queries - 1) / spec.items_per_chunk + 1)) {
      return Error{Errc::invalid, fmt::format("submit: the manifest {} has {} chunks of {} items, too few for {} queries",
                                              spec.manifest_path, chunks, spec.items_per_chunk, spec.queries)};
    }
  }
  if (spec.follow && files_.find(spec.data_path) != nullptr) {
    return Error{Errc::invalid, fmt::format("submit: {} is a file; only a folder can be followed", spec.data_path)};
  }
  if (needs_items && !spec.data_path.empty() && files_.find(spec.data_path) == nullptr && !files_.is_folder(spec.data_path)) {
    return Error{Errc::not_found, fmt::format("submit: {} is not in SDFS (any more); put the data there first", spec.data_path)};
  }
  if (jobs_.size() >= kJobsMax) {
    return Error{Errc::full,
                 fmt::format("submit: {} jobs are kept, no more are possible; remove finished ones with `idunno job remove`",
                             jobs_.size())};
  }
  return {};
}

void ClusterState::on(const SubmitJob& command, WallMs stamp, Applied& out) {
  if (const Status status = check_submit(command.spec); !status) {
    out.answer = make_error(status.error().code, status.error().detail);
    return;
  }
  Job job;
  // A user may have put files where the result would go; the number is left out then.
  for (std::uint64_t number = next_job_;; ++number) {
    job.id = JobId{number};
    if (files_.find(folder_of(job.id)) == nullptr && !files_.is_folder(result_path_of(job.id)) &&
        files_.find(result_path_of(job.id)) == nullptr)
      break;
  }
  job.spec = command.spec;
  job.spec.model_version = model(job.spec.model, job.spec.model_version)->version;
  if (!job.spec.manifest_path.empty())
    job.spec.manifest_version = files_.find(job.spec.manifest_path, job.spec.manifest_version)->version;
  if (job.spec.name.empty()) job.spec.name = fmt::format("{}-{}", job.spec.model, job.id.value);
  job.result_path = result_path_of(job.id);
  job.submitted_ms = stamp;
  job.batches = batches_of(job.shape(), {});
  job.digests.resize(kept_batches(job.shape(), {}));
  if (const Status created = files_.create_open(job.result_path, job.digests.size(), stamp); !created) {
    out.answer =
        make_error(created.error().code, annotate(created.error(), "submit: make the result file " + job.result_path).detail);
    return;
  }
  next_job_ = job.id.value + 1;
  out.submitted.push_back(job.id);
  out.answer = make_answer(SubmitReply{job.id});
  jobs_.emplace(job.id, std::move(job));
}

// -- steering ---------------------------------------------------------------------------------------------------------

void ClusterState::on(const ControlJob& command, WallMs stamp, Applied& out) {
  const auto found = jobs_.find(command.job);
  if (found == jobs_.end()) {
    out.answer = make_error(Errc::not_found, fmt::format("{} job {}: there is no such job; `idunno job list` names them",
                                                         verb_of(command.action), to_string(command.job)));
    return;
  }
  Job& job = found->second;
  const auto refuse = [&](const char* next) {
    out.answer = make_error(Errc::conflict, fmt::format("{} job {} ({}): it is {}; {}", verb_of(command.action),
                                                        to_string(job.id), job.spec.name, to_string(job.state), next));
  };
  switch (command.action) {
    case JobAction::stop:
      if (!job.active()) return refuse("only a job that has not ended can be stopped");
      end_job(job, JobState::stopped, "stopped by a user", stamp, out);
      break;
    case JobAction::pause:
      if (!job.active()) return refuse("only a job that has not ended can be paused");
      if (job.state == JobState::paused) return refuse("resume lets it go on");
      job.state = JobState::paused;
      job.reason = "paused by a user";
      break;
    case JobAction::resume:
      if (job.state != JobState::paused) return refuse("only a paused job can be resumed");
      job.state = JobState::running;
      job.reason.clear();
      break;
    case JobAction::remove:
      if (job.active()) return refuse("stop it first or wait for its end");
      out.answer = make_answer(JobControlReply{job.state});
      return remove_job(job, out);
  }
  out.changed.push_back(job.id);
  out.answer = make_answer(JobControlReply{job.state});
}

void ClusterState::on(const SetJob& command, WallMs /*stamp*/, Applied& out) {
  const auto found = jobs_.find(command.job);
  if (found == jobs_.end()) {
    out.answer = make_error(
        Errc::not_found, fmt::format("set job {}: there is no such job; `idunno job list` names them", to_string(command.job)));
    return;
  }
  Job& job = found->second;
  if (!job.active()) {
    out.answer = make_error(Errc::conflict, fmt::format("set job {} ({}): it is {}; weight, rate and priority no longer matter",
                                                        to_string(job.id), job.spec.name, to_string(job.state)));
    return;
  }
  if (const Status weight = check_weight(command.weight_milli); !weight) {
    out.answer = make_error(weight.error().code, annotate(weight.error(), "set job " + to_string(job.id)).detail);
    return;
  }
  if (const Status nodes = check_node_limits(command.nodes_min, command.nodes_max); !nodes) {
    out.answer = make_error(nodes.error().code, annotate(nodes.error(), "set job " + to_string(job.id)).detail);
    return;
  }
  job.spec.weight_milli = command.weight_milli;
  job.spec.rate_limit_milli = command.rate_limit_milli;
  job.spec.priority = command.priority;
  job.spec.nodes_min = command.nodes_min;
  job.spec.nodes_max = command.nodes_max;
  out.changed.push_back(job.id);
  out.answer = make_answer(JobSetReply{});
}

void ClusterState::on(const FailJob& command, WallMs stamp, Applied& out) {
  const auto found = jobs_.find(command.job);
  out.answer = make_answer(JobSetReply{});
  // The job may have ended between the proposal and now: then there is nothing left to fail.
  if (found == jobs_.end() || !found->second.active()) return;
  end_job(found->second, JobState::failed, command.reason.substr(0, kReasonBytesMax), stamp, out);
  out.changed.push_back(command.job);
}

void ClusterState::remove_job(Job& job, Applied& out) {
  const JobId id = job.id;
  std::vector<std::string> paths{job.result_path};
  const std::string manifest = job.spec.manifest_path;
  const bool shared = std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& other) {
    return other.first != id && other.second.spec.manifest_path == manifest;
  });
  if (!manifest.empty() && !shared) paths.push_back(manifest);
  const std::string segments = segments_folder_of(id);
  for (const std::string& path : paths) {
    // A user may have removed them already, and a new job may read what is there now.
    if (files_.find(path) == nullptr || !check_remove({path}, false)) continue;
    if (files_.remove({path}, false, out.freed).ok()) out.namespace_changed = true;
  }
  if (job.spec.follow && files_.is_folder(segments) && check_remove({segments}, true) &&
      files_.remove({segments}, true, out.freed).ok()) {
    out.namespace_changed = true;
  }
  jobs_.erase(id);
  out.removed.push_back(id);
}

}  // namespace idunno

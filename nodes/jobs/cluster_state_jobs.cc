// Jobs: submitting, steering, and the commits of their batches.
#include <fmt/core.h>

#include <algorithm>
#include <functional>

#include "bus/base/assert.h"
#include "bus/hash.h"
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

std::uint64_t batches_of(const JobSpec& spec) { return spec.queries / spec.batch + (spec.queries % spec.batch != 0 ? 1 : 0); }

Status check_weight(std::uint32_t weight_milli) {
  if (weight_milli >= 1 && weight_milli <= kWeightMilliMax) return {};
  return Error{Errc::invalid, fmt::format("weight {}.{:03}: 0.001 to {} are possible", weight_milli / 1000, weight_milli % 1000,
                                          kWeightMilliMax / 1000)};
}

/// What can be judged by looking at the spec alone.
Status check_numbers(const JobSpec& spec) {
  if (spec.name.size() > kNameBytesMax)
    return Error{Errc::invalid, fmt::format("its name has {} bytes, {} are possible", spec.name.size(), kNameBytesMax)};
  if (std::any_of(spec.name.begin(), spec.name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20; })) {
    return Error{Errc::invalid, "its name has control characters"};
  }
  if (spec.queries == 0)
    return Error{Errc::invalid, fmt::format("{} has no queries", spec.data_path.empty() ? "the job" : spec.data_path)};
  if (spec.batch == 0 || spec.batch > kBatchQueriesMax) {
    return Error{Errc::invalid, fmt::format("batch size {}: 1 to {} are possible", spec.batch, kBatchQueriesMax)};
  }
  if (batches_of(spec) > kBatchesMax) {
    return Error{Errc::too_large, fmt::format("{} queries in batches of {} are {} batches, {} are possible; use a larger batch",
                                              spec.queries, spec.batch, batches_of(spec), kBatchesMax)};
  }
  if (Status weight = check_weight(spec.weight_milli); !weight) return weight;
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

bool block_is_whole(const BlockRef& block) {
  return block.id != BlockId{} && block.hash != Hash128{} && block.length >= 1 && block.length <= kResultBlockBytesMax &&
         !block.replicas.empty() && block.replicas.size() <= kReplicasMax;
}

/// Ascending places in the batch, each with its error row.
bool quarantine_is_right(const BatchCommit& commit) {
  const auto& places = commit.quarantined;
  return places.size() <= commit.errors &&
         std::adjacent_find(places.begin(), places.end(), std::greater_equal<>()) == places.end() &&
         (places.empty() || places.back() < commit.queries);
}

Hash128 digest_of(const std::vector<Hash128>& digests) {
  Bytes text;
  text.reserve(digests.size() * 16);
  for (const Hash128& digest : digests) {
    for (const std::uint64_t half : {digest.hi, digest.lo}) {
      for (unsigned shift = 64; shift > 0; shift -= 8) text.push_back(static_cast<char>((half >> (shift - 8)) & 0xFFU));
    }
  }
  return hash128(text);
}

}  // namespace

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
  const bool needs_items = spec.item_kind != ItemKind::nothing;
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
  job.batches = batches_of(job.spec);
  job.digests.resize(job.batches);
  if (const Status created = files_.create_open(job.result_path, job.batches, stamp); !created) {
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
      end_job(job, JobState::stopped, "stopped by a user", stamp);
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
  end_job(found->second, JobState::failed, command.reason.substr(0, kReasonBytesMax), stamp);
  out.changed.push_back(command.job);
}

void ClusterState::on(const ExtendJob& command, WallMs /*stamp*/, Applied& out) {
  const auto found = jobs_.find(command.job);
  if (found == jobs_.end() || !found->second.active() || !found->second.spec.follow) {
    out.answer = make_error(Errc::conflict, fmt::format("extend job {}: it follows no folder", to_string(command.job)));
    return;
  }
  out.answer = make_error(Errc::conflict, fmt::format("extend job {}: the segment does not go on where it ends",
                                                      to_string(command.job)));
}

/// The rows that are there stay readable: the result becomes an ordinary file of the committed blocks in order.
void ClusterState::end_job(Job& job, JobState state, std::string reason, WallMs stamp) {
  job.state = state;
  job.reason = std::move(reason);
  job.finished_ms = stamp;
  files_.close_open(job.result_path, stamp);
}

void ClusterState::remove_job(Job& job, Applied& out) {
  const JobId id = job.id;
  std::vector<std::string> paths{job.result_path};
  const std::string manifest = job.spec.manifest_path;
  const bool shared = std::any_of(jobs_.begin(), jobs_.end(), [&](const auto& other) {
    return other.first != id && other.second.spec.manifest_path == manifest;
  });
  if (!manifest.empty() && !shared) paths.push_back(manifest);
  for (const std::string& path : paths) {
    // A user may have removed them already, and a new job may read what is there now.
    if (files_.find(path) == nullptr || !check_remove({path}, false)) continue;
    if (files_.remove({path}, false, out.freed).ok()) out.namespace_changed = true;
  }
  jobs_.erase(id);
  out.removed.push_back(id);
}

// -- commits ----------------------------------------------------------------------------------------------------------

void ClusterState::on(const CommitBatchResults& command, WallMs stamp, Applied& out) {
  CommitBatchesReply reply;
  reply.outcomes.reserve(command.commits.size());
  out.commits.reserve(command.commits.size());
  for (const BatchCommit& commit : command.commits) {
    const CommitOutcome outcome = commit_batch(commit, stamp, out);
    reply.outcomes.push_back(outcome);
    out.commits.push_back(Applied::Commit{commit, outcome});
    // The surplus copy of a result is deleted, unless this is the committed block itself, offered again.
    if (outcome == CommitOutcome::accepted) {
      out.namespace_changed = true;
    } else if (commit.block.id != BlockId{} && !commit.block.replicas.empty() && !files_.refers_to(commit.block.id)) {
      out.freed.push_back(commit.block);
    }
  }
  out.answer = make_answer(reply);
}

/// The first commit of a batch wins; what comes later can only agree with it or raise an alarm.
CommitOutcome ClusterState::commit_batch(const BatchCommit& commit, WallMs stamp, Applied& out) {
  const auto found = jobs_.find(commit.job);
  if (found == jobs_.end()) return CommitOutcome::not_wanted;
  Job& job = found->second;
  if (!job.active() && job.state != JobState::done) return CommitOutcome::not_wanted;
  if (commit.batch >= job.batches || commit.queries != job.queries_of(commit.batch) || commit.errors > commit.queries ||
      !block_is_whole(commit.block) || !quarantine_is_right(commit)) {
    return CommitOutcome::not_wanted;
  }
  if (job.committed(commit.batch)) {
    if (job.digests[commit.batch] == commit.block.hash) {
      ++job.duplicate_commits;
      return CommitOutcome::duplicate;
    }
    ++job.conflicting_commits;
    return CommitOutcome::conflict;
  }
  if (!files_.fill_open(job.result_path, commit.batch, commit.block)) return CommitOutcome::not_wanted;
  accept_batch(job, commit);
  if (job.batches_done == job.batches) {
    job.digest = digest_of(job.digests);
    end_job(job, JobState::done, {}, stamp);
    out.finished.push_back(job.id);
  }
  return CommitOutcome::accepted;
}

void ClusterState::accept_batch(Job& job, const BatchCommit& commit) {
  job.digests[commit.batch] = commit.block.hash;
  ++job.batches_done;
  job.queries_done += commit.queries;
  job.errors += commit.errors;
  for (const std::uint32_t place : commit.quarantined) {
    if (job.quarantined.size() >= kQuarantinedShownMax) break;
    job.quarantined.push_back(std::uint64_t{commit.batch} * job.spec.batch + place);
  }
  job.latency.record(commit.duration_us, commit.queries);
  if (commit.started_ms != 0 && (job.first_batch_ms == 0 || commit.started_ms < job.first_batch_ms))
    job.first_batch_ms = commit.started_ms;
}

}  // namespace idunno

#include "nodes/jobs/cluster_state.h"

#include <fmt/core.h>

#include <algorithm>

#include "bus/base/assert.h"
#include "bus/names.h"

namespace idunno {
namespace {

/// Requests of clients are done once, whatever is retried. What nodes and the coordinator itself propose is harmless when it is
/// applied twice, and far more frequent, so no answer is kept for it.
bool is_remembered(CommandKind kind) {
  switch (kind) {
    case CommandKind::commit_files:
    case CommandKind::remove_files:
    case CommandKind::add_model:
    case CommandKind::remove_model:
    case CommandKind::submit_job:
    case CommandKind::control_job:
    case CommandKind::set_job:
    case CommandKind::set_phase:
    case CommandKind::move_replicas:  // those of the coordinator itself have no request id
      return true;
    case CommandKind::new_epoch:
    case CommandKind::register_node:
    case CommandKind::forget_blocks:
    case CommandKind::fail_job:
    case CommandKind::commit_batches:
    case CommandKind::extend_job:
      return false;
  }
  return false;
}

}  // namespace

bool is_at_or_below(const std::string& path, std::string_view top) {
  while (top.size() > 1 && top.back() == '/') top.remove_suffix(1);
  if (top == "/") return true;
  if (path.size() < top.size() || path.compare(0, top.size(), top) != 0) return false;
  return path.size() == top.size() || path[top.size()] == '/';
}

ClusterState::ClusterState(std::uint32_t versions_max) : files_(versions_max) {}

// -- applying ---------------------------------------------------------------------------------------------------------

Applied ClusterState::apply(const LogEntry& entry) {
  ASSERT(entry.index.value == applied_.value + 1);
  applied_ = entry.index;
  Applied out;
  const Result<CommandEnvelope> command = decode_command(entry.command);
  if (!command) {
    out.answer = make_error(command.error().code, fmt::format("log entry {}: {}", entry.index.value, command.error().detail));
    return out;
  }
  const bool once = command->header.request && is_remembered(command->header.kind);
  if (once) {
    if (const Answer* before = remembered(command->header.request)) {
      out.answer = *before;
      return out;
    }
  }
  dispatch(*command, out);
  if (once) remember(command->header.request, out.answer);
  return out;
}

template <class Command>
void ClusterState::run(const CommandEnvelope& command, Applied& out) {
  const Result<Command> body = command.body<Command>();
  if (!body) {
    out.answer = make_error(body.error().code, fmt::format("log entry {}: {}", applied_.value, body.error().detail));
    return;
  }
  on(*body, command.header.stamp_ms, out);
}

void ClusterState::dispatch(const CommandEnvelope& command, Applied& out) {
  switch (command.header.kind) {
    case CommandKind::new_epoch:
      return run<NewEpoch>(command, out);
    case CommandKind::register_node:
      return run<RegisterNode>(command, out);
    case CommandKind::commit_files:
      return run<CommitFiles>(command, out);
    case CommandKind::remove_files:
      return run<RemoveFiles>(command, out);
    case CommandKind::move_replicas:
      return run<MoveReplicas>(command, out);
    case CommandKind::forget_blocks:
      return run<ForgetBlocks>(command, out);
    case CommandKind::add_model:
      return run<AddModel>(command, out);
    case CommandKind::remove_model:
      return run<RemoveModel>(command, out);
    case CommandKind::submit_job:
      return run<SubmitJob>(command, out);
    case CommandKind::control_job:
      return run<ControlJob>(command, out);
    case CommandKind::set_job:
      return run<SetJob>(command, out);
    case CommandKind::fail_job:
      return run<FailJob>(command, out);
    case CommandKind::commit_batches:
      return run<CommitBatchResults>(command, out);
    case CommandKind::set_phase:
      return run<SetPhase>(command, out);
    case CommandKind::extend_job:
      return run<ExtendJob>(command, out);
  }
  out.answer = make_error(Errc::invalid, fmt::format("log entry {}: its kind is not known to this version", applied_.value));
}

void ClusterState::remember(RequestId request, const Answer& answer) {
  if (answer_order_.size() >= kRememberedAnswersMax) {
    answers_.erase(answer_order_.front());
    answer_order_.pop_front();
  }
  answers_.emplace(request, answer);
  answer_order_.push_back(request);
}

// -- the reign and the nodes ------------------------------------------------------------------------------------------

void ClusterState::on(const NewEpoch& command, WallMs /*stamp*/, Applied& out) {
  if (command.epoch < epoch_) {
    out.answer = make_error(Errc::stale_epoch,
                            fmt::format("begin epoch {}: epoch {} has begun already", command.epoch.value, epoch_.value));
    return;
  }
  epoch_ = command.epoch;
  out.answer = make_answer(NodeHelloReply{command.leader, {}});
}

void ClusterState::on(const RegisterNode& command, WallMs /*stamp*/, Applied& out) {
  if (!command.node) {
    out.answer = make_error(Errc::invalid, "register node: n0 is no node");
    return;
  }
  const auto known = nodes_.find(command.node);
  if (known != nodes_.end() && command.incarnation < known->second.incarnation) {
    out.answer = make_error(Errc::conflict,
                            fmt::format("register {}: a later life of this node is known already; the older process must end",
                                        to_string(command.node)));
    return;
  }
  if (known != nodes_.end() && known->second.store_id != command.store_id) files_.forget_node(command.node);
  out.namespace_changed = known == nodes_.end() || known->second.store_id != command.store_id;
  nodes_[command.node] = KnownNode{command.incarnation, command.store_id};
  out.answer = make_answer(NodeHelloReply{});
}

void ClusterState::on(const SetPhase& command, WallMs stamp, Applied& out) {
  if (command.phase == phase_.phase) {
    out.answer = make_answer(PhaseReply{phase_.phase, phase_.number});
    return;
  }
  if (command.phase != Phase::none && phase_.phase != Phase::none) {
    out.answer = make_error(Errc::conflict, fmt::format("start the phase {}: the phase {} is on; `idunno phase stop` ends it",
                                                        to_string(command.phase), to_string(phase_.phase)));
    return;
  }
  phase_ = CurrentPhase{command.phase, phase_.number + 1, stamp};
  out.phase_changed = true;
  out.answer = make_answer(PhaseReply{phase_.phase, phase_.number});
}

// -- files ------------------------------------------------------------------------------------------------------------

void ClusterState::on(const CommitFiles& command, WallMs stamp, Applied& out) {
  if (const Status segments = check_segments(command.files); !segments) {
    out.answer = make_error(segments.error().code, segments.error().detail);
    return;
  }
  Result<std::vector<std::uint32_t>> versions = files_.commit(command.files, stamp, pinned_paths(), out.freed);
  if (!versions) {
    out.answer = make_error(versions.error().code, versions.error().detail);
    return;
  }
  out.namespace_changed = true;
  out.answer = make_answer(FsCommitReply{*std::move(versions)});
}

void ClusterState::on(const RemoveFiles& command, WallMs /*stamp*/, Applied& out) {
  if (const Status status = check_remove(command.paths, command.recursive); !status) {
    out.answer = make_error(status.error().code, status.error().detail);
    return;
  }
  const Result<FsRemoveReply> removed = files_.remove(command.paths, command.recursive, out.freed);
  if (!removed) {
    out.answer = make_error(removed.error().code, removed.error().detail);
    return;
  }
  out.namespace_changed = true;
  out.answer = make_answer(*removed);
}

void ClusterState::on(const MoveReplicas& command, WallMs /*stamp*/, Applied& out) {
  for (const ReplicaMove& move : command.moves) {
    const std::size_t most = std::max(move.replicas.size(), move.seen.size());
    if (!move.replicas.empty() && most <= kReplicasListedMax) continue;
    out.answer = make_error(Errc::invalid, fmt::format("move replicas of {}: {} replicas were given; 1 to {} are possible",
                                                       move.path, most, kReplicasListedMax));
    return;
  }
  // Whoever has another store by now does not hold what was copied to the one before.
  std::set<NodeId> refused;
  for (const ReplicaMove& move : command.moves) refused.insert(move.replicas.begin(), move.replicas.end());
  for (const AddedStore& added : command.stores) {
    const auto known = nodes_.find(added.node);
    if (known != nodes_.end() && known->second.store_id == added.store_id) refused.erase(added.node);
  }
  const std::uint32_t changed = files_.move_replicas(command.moves, refused);
  out.namespace_changed = changed > 0;
  out.answer = make_answer(FsMoveReplicasReply{changed});
}

void ClusterState::on(const ForgetBlocks& command, WallMs /*stamp*/, Applied& out) {
  // Two nodes may report their copies of a block at once, each relying on the other's: the last one is never forgotten.
  for (const BlockId id : command.blocks) {
    const BlockRef* block = files_.block(id);
    if (block == nullptr || block->replicas.size() <= 1) continue;
    if (files_.forget_blocks(command.node, {id}) > 0) out.namespace_changed = true;
  }
  out.answer = make_answer(DamagedBlocksReply{});
}

/// Old versions of these are still read: by active jobs, and by registered models for as long as they are registered.
std::set<std::string> ClusterState::pinned_paths() const {
  std::set<std::string> pinned;
  for (const auto& [id, job] : jobs_) {
    if (!job.active()) continue;
    if (!job.spec.data_path.empty()) pinned.insert(job.spec.data_path);
    if (!job.spec.manifest_path.empty()) pinned.insert(job.spec.manifest_path);
    if (job.spec.follow) pinned.insert(segments_folder_of(id));
  }
  for (const auto& [name, versions] : models_) {
    for (const ModelVersion& version : versions) {
      if (!version.onnx_path.empty()) pinned.insert(version.onnx_path);
      if (!version.labels_path.empty()) pinned.insert(version.labels_path);
    }
  }
  return pinned;
}

Status ClusterState::check_remove(const std::vector<std::string>& paths, bool /*recursive*/) const {
  for (const auto& [id, job] : jobs_) {
    if (!job.active()) continue;
    const ModelVersion* used = model(job.spec.model, job.spec.model_version);
    const std::string no_path;
    const std::string segments = job.spec.follow ? segments_folder_of(id) : no_path;
    const std::pair<const char*, const std::string*> needed[] = {{"data", &job.spec.data_path},
                                                                 {"manifest", &job.spec.manifest_path},
                                                                 {"lists of queries", &segments},
                                                                 {"result", &job.result_path},
                                                                 {"model file", used != nullptr ? &used->onnx_path : &no_path},
                                                                 {"labels", used != nullptr ? &used->labels_path : &no_path}};
    for (const std::string& path : paths) {
      for (const auto& [what, file] : needed) {
        if (file->empty()) continue;
        // The data path may be a folder: a single file below it is needed as well.
        if (!is_at_or_below(*file, path) && !is_at_or_below(path, *file)) continue;
        return Error{
            Errc::conflict,
            fmt::format("remove {}: job {} ({}) is {} and needs its {} {}; stop the job first or wait for its end", path,
                        to_string(id), job.spec.name, job.state == JobState::paused ? "paused" : "running", what, *file)};
      }
    }
  }
  return {};
}

// -- questions --------------------------------------------------------------------------------------------------------

const Job* ClusterState::job(JobId id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() ? nullptr : &found->second;
}

const Answer* ClusterState::remembered(RequestId request) const {
  const auto found = answers_.find(request);
  return found == answers_.end() ? nullptr : &found->second;
}

}  // namespace idunno

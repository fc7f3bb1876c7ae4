// Requests of clients: what reads is answered at once, what changes something is checked, proposed, and answered when it is
// applied.

#include <fmt/core.h>

#include <algorithm>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

namespace {

/// Counts and paths of a commit; everything else is judged when it is applied.
Status check_parts(const std::vector<FsFilePart>& files) {
  if (files.empty()) return Error{Errc::invalid, "commit files: the request names none"};
  if (files.size() > kFilesPerRequestMax) {
    return Error{Errc::too_large,
                 fmt::format("commit files: {} files in one request, {} are possible", files.size(), kFilesPerRequestMax)};
  }
  for (const FsFilePart& part : files) {
    if (Status path = check_path(part.path); !path) return annotate(path.error(), "commit file");
    for (const BlockRef& block : part.blocks) {
      if (block.replicas.empty() || block.replicas.size() > kReplicasMax) {
        return Error{Errc::invalid, fmt::format("commit {}: a block names {} replicas, 1 to {} are possible", part.path,
                                                block.replicas.size(), kReplicasMax)};
      }
    }
  }
  return {};
}

Status check_paths(const std::vector<std::string>& paths, const char* doing) {
  if (paths.empty()) return Error{Errc::invalid, fmt::format("{}: the request names no path", doing)};
  if (paths.size() > kFilesPerRequestMax) {
    return Error{Errc::too_large,
                 fmt::format("{}: {} paths in one request, {} are possible", doing, paths.size(), kFilesPerRequestMax)};
  }
  for (const std::string& path : paths) {
    if (Status status = check_path(path); !status && path != "/") return annotate(status.error(), doing);
  }
  return {};
}

}  // namespace

void Coordinator::Impl::refuse(const RequestInfo& info, const Error& error, CoordinatorOutput& out) {
  out.answers.emplace_back(info.ticket, make_error(error.code, error.detail));
}

bool Coordinator::Impl::handled_before(const RequestInfo& info, CoordinatorOutput& out) {
  if (!info.request) {
    refuse(info, Error{Errc::invalid, "a request that changes something needs a request id, so that it can be repeated safely"},
           out);
    return true;
  }
  if (const Answer* before = state_.remembered(info.request)) {
    out.answers.emplace_back(info.ticket, *before);
    return true;
  }
  if (const auto waiting = pending_.find(info.request); waiting != pending_.end()) {
    if (waiting->second.size() < kJoinedTicketsMax) {
      waiting->second.push_back(info.ticket);
    } else {
      refuse(info, Error{Errc::full, "this request was repeated too often while it waits; wait for its answer"}, out);
    }
    return true;
  }
  if (pending_.size() < kPendingRequestsMax) return false;
  refuse(info, Error{Errc::full, "the coordinator is busy: too many requests wait for the log; retry"}, out);
  return true;
}

void Coordinator::refused_by_log(ByteView command, const Error& why, CoordinatorOutput& out) {
  const Result<CommandEnvelope> refused = decode_command(command);
  if (!refused) return;
  const auto waiting = impl_->pending_.find(refused->header.request);
  if (waiting == impl_->pending_.end()) return;
  for (const Ticket ticket : waiting->second) out.answers.emplace_back(ticket, make_error(why.code, why.detail));
  impl_->pending_.erase(waiting);
}

// ---- questions --------------------------------------------------------------------------------------------------------

void Coordinator::handle(const RequestInfo& info, const StatusRequest&, Time, CoordinatorOutput& out) {
  Impl::answer(info, impl_->status(), out);
}

void Coordinator::handle(const RequestInfo& info, const PlacementRequest&, Time, CoordinatorOutput& out) {
  // Whoever asked now would write to the few nodes that have said hello already, with fewer copies than promised.
  if (!impl_->serving_) {
    return Impl::refuse(
        info, Error{Errc::no_coordinator, "the coordinator has just taken over and does not know its nodes yet; ask again"}, out);
  }
  Impl::answer(info, impl_->placement_reply(), out);
}

void Coordinator::handle(const RequestInfo& info, const FsListRequest& request, Time, CoordinatorOutput& out) {
  Impl::answer(info, read_state(impl_->state_, request), out);
}

void Coordinator::handle(const RequestInfo& info, const FsStatRequest& request, Time, CoordinatorOutput& out) {
  Impl::answer(info, read_state(impl_->state_, request), out);
}

void Coordinator::handle(const RequestInfo& info, const FsStoreRequest& request, Time, CoordinatorOutput& out) {
  if (!impl_->nodes_.contains(request.node)) {
    return Impl::refuse(
        info, Error{Errc::not_found, fmt::format("list the store of {}: no such node is configured", to_string(request.node))},
        out);
  }
  Impl::answer(info, read_state(impl_->state_, request), out);
}

void Coordinator::handle(const RequestInfo& info, const ModelListRequest& request, Time, CoordinatorOutput& out) {
  Impl::answer(info, read_state(impl_->state_, request), out);
}

void Coordinator::handle(const RequestInfo& info, const JobReportsRequest& request, Time now, CoordinatorOutput& out) {
  if (const Status status = check_reports(impl_->state_, request); !status) return Impl::refuse(info, status.error(), out);
  Impl::answer(info, impl_->reports(request.jobs, request.window_s, now), out);
}

void Coordinator::handle(const RequestInfo& info, const JobResultsRequest& request, Time, CoordinatorOutput& out) {
  Impl::answer(info, read_state(impl_->state_, request), out);
}

// ---- changes ----------------------------------------------------------------------------------------------------------

void Coordinator::handle(const RequestInfo& info, const FsCommitRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (const Status status = check_parts(request.files); !status) return Impl::refuse(info, status.error(), out);
  impl_->propose_request(info, CommitFiles{request.files}, out);
}

void Coordinator::handle(const RequestInfo& info, const FsRemoveRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (const Status status = check_paths(request.paths, "remove"); !status) return Impl::refuse(info, status.error(), out);
  if (const Status status = impl_->state_.check_remove(request.paths, request.recursive); !status) {
    return Impl::refuse(info, status.error(), out);
  }
  impl_->propose_request(info, RemoveFiles{request.paths, request.recursive}, out);
}

void Coordinator::handle(const RequestInfo& info, const FsMoveReplicasRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (request.moves.empty() || request.moves.size() > kBlocksPerRequestMax) {
    return Impl::refuse(info,
                        Error{Errc::invalid, fmt::format("move replicas: {} moves in one request, 1 to {} are possible",
                                                         request.moves.size(), kBlocksPerRequestMax)},
                        out);
  }
  for (const ReplicaMove& move : request.moves) {
    for (const NodeId node : move.replicas) {
      if (!impl_->nodes_.contains(node)) {
        return Impl::refuse(
            info, Error{Errc::invalid, fmt::format("move replicas of {}: no node {} is configured", move.path, to_string(node))},
            out);
      }
    }
  }
  impl_->propose_request(info, impl_->with_stores(request.moves), out);
}

void Coordinator::handle(const RequestInfo& info, const ModelAddRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  const ModelVersion& model = request.model;
  for (const std::string& path : {model.onnx_path, model.labels_path}) {
    if (path.empty()) continue;
    if (const Status status = check_path(path); !status) {
      return Impl::refuse(info, annotate(status.error(), "add model " + model.name), out);
    }
  }
  impl_->propose_request(info, AddModel{model}, out);
}

void Coordinator::handle(const RequestInfo& info, const ModelRemoveRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (!impl_->state_.models().contains(request.name)) {
    return Impl::refuse(
        info,
        Error{Errc::not_found,
              fmt::format("remove model {}: there is no such model; `idunno model list` names them", request.name)},
        out);
  }
  impl_->propose_request(info, RemoveModel{request.name}, out);
}

void Coordinator::handle(const RequestInfo& info, const SubmitRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (const Status status = impl_->state_.check_submit(request.spec); !status) return Impl::refuse(info, status.error(), out);
  impl_->propose_request(info, SubmitJob{request.spec}, out);
}

void Coordinator::handle(const RequestInfo& info, const JobControlRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (impl_->state_.job(request.job) == nullptr) return Impl::refuse(info, no_such_job("steer", request.job), out);
  impl_->propose_request(info, ControlJob{request.job, request.action}, out);
}

void Coordinator::handle(const RequestInfo& info, const JobSetRequest& request, Time, CoordinatorOutput& out) {
  if (impl_->handled_before(info, out)) return;
  if (impl_->state_.job(request.job) == nullptr) return Impl::refuse(info, no_such_job("set", request.job), out);
  if (request.weight_milli == 0) {
    return Impl::refuse(
        info, Error{Errc::invalid, fmt::format("set {}: a weight of 0; `job pause` holds a job back", to_string(request.job))},
        out);
  }
  impl_->propose_request(
      info,
      SetJob{request.job, request.weight_milli, request.rate_limit_milli, request.priority, request.nodes_min, request.nodes_max},
      out);
}

}  // namespace idunno

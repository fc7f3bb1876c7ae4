// Models are brought to the workers ahead of need: a job's first batch does not wait for its model to come.

#include <algorithm>
#include <vector>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

/// None for the engine that does nothing, and when the files are gone or do not fit a message: then a job's description says so.
std::optional<Answer> Coordinator::Impl::prefetch_push(const ModelVersion& model) const {
  if (model.onnx_path.empty()) return std::nullopt;
  const Result<PrefetchModel> files = files_of(model);
  if (!files) return std::nullopt;
  Answer push = make_answer(*files);
  if (push.body.size() > kGrantBytesMax) return std::nullopt;
  return push;
}

void Coordinator::Impl::model_added(const AddModel& command, const Answer& result, CoordinatorOutput& out) const {
  if (config_.prefetch_models == 0 || result.type != MessageType::model_add_reply) return;
  const Result<ModelAddReply> added = decode<ModelAddReply>(result.body);
  const ModelVersion* model = added ? state_.model(command.model.name, added->version) : nullptr;
  const std::optional<Answer> push = model == nullptr ? std::nullopt : prefetch_push(*model);
  if (!push) return;
  for (const auto& [id, node] : nodes_) {
    if (node.session) out.pushes.emplace_back(id, *push);
  }
}

/// A node that was away, or is new, gets what the others have been told: the newest versions of the models added last.
void Coordinator::Impl::prefetch_newest(const NodeEntry& node, CoordinatorOutput& out) const {
  std::size_t left = config_.prefetch_models;
  if (left == 0) return;
  std::vector<const ModelVersion*> newest;
  for (const auto& [name, versions] : state_.models()) {
    if (!versions.empty()) newest.push_back(&versions.back());
  }
  std::ranges::stable_sort(newest, std::ranges::greater{}, &ModelVersion::created_ms);
  for (auto model = newest.begin(); model != newest.end() && left > 0; ++model) {
    std::optional<Answer> push = prefetch_push(**model);
    if (!push) continue;
    out.pushes.emplace_back(node.member.id, std::move(*push));
    --left;
  }
}

}  // namespace idunno

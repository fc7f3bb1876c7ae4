// Models are brought to the workers ahead of need: a job's first batch does not wait for its model to come.

#include <algorithm>
#include <vector>

#include "nodes/jobs/coordinator_impl.h"

namespace idunno {

/// None for the engine that does nothing, and when the files are gone or do not fit a message: then a job's description says so.
std::optional<PrefetchModel> Coordinator::Impl::files_of(const ModelVersion& model) const {
  const FileVersion* onnx = model.onnx_path.empty() ? nullptr : state_.files().find(model.onnx_path, model.onnx_version);
  if (onnx == nullptr) return std::nullopt;
  PrefetchModel files{*onnx, {}};
  const FileVersion* labels = model.labels_path.empty() ? nullptr : state_.files().find(model.labels_path, model.labels_version);
  if (labels != nullptr) files.labels = *labels;
  if (encode(files).size() > kGrantBytesMax) return std::nullopt;
  return files;
}

void Coordinator::Impl::model_added(const AddModel& command, const Answer& result, CoordinatorOutput& out) const {
  if (config_.prefetch_models == 0 || result.type != MessageType::model_add_reply) return;
  const Result<ModelAddReply> added = decode<ModelAddReply>(result.body);
  const ModelVersion* model = added ? state_.model(command.model.name, added->version) : nullptr;
  const std::optional<PrefetchModel> files = model == nullptr ? std::nullopt : files_of(*model);
  if (!files) return;
  for (const auto& [id, node] : nodes_) {
    if (node.session) out.pushes.emplace_back(id, make_answer(*files));
  }
}

/// A node that was away, or is new, gets what the others have been told: the newest versions of the models added last.
void Coordinator::Impl::prefetch_newest(const NodeEntry& node, CoordinatorOutput& out) const {
  std::vector<const ModelVersion*> newest;
  for (const auto& [name, versions] : state_.models()) {
    if (!versions.empty()) newest.push_back(&versions.back());
  }
  std::ranges::stable_sort(newest, std::ranges::greater{}, &ModelVersion::created_ms);
  std::size_t left = config_.prefetch_models;
  for (auto model = newest.begin(); model != newest.end() && left > 0; ++model) {
    const std::optional<PrefetchModel> files = files_of(**model);
    if (!files) continue;
    out.pushes.emplace_back(node.member.id, make_answer(*files));
    --left;
  }
}

}  // namespace idunno

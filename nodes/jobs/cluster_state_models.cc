// Models: registered versions and the files they consist of.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>

#include "nodes/jobs/cluster_state.h"

namespace idunno {
namespace {

constexpr std::size_t kOriginBytesMax = 1024;

Status check_model_name(const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  };
  if (!name.empty() && name.size() <= kNameBytesMax && name[0] != '.' && name[0] != '-' &&
      std::all_of(name.begin(), name.end(), fits))
    return {};
  return Error{Errc::invalid,
               fmt::format("model name '{}': 1 to {} letters, digits, '_', '-' and '.' are possible, '-' and '.' not in front",
                           name.substr(0, kNameBytesMax), kNameBytesMax)};
}

}  // namespace

const ModelVersion* ClusterState::model(const std::string& name, std::uint32_t version) const {
  const auto found = models_.find(name);
  if (found == models_.end() || found->second.empty()) return nullptr;
  if (version == 0) return &found->second.back();
  for (const ModelVersion& candidate : found->second) {
    if (candidate.version == version) return &candidate;
  }
  return nullptr;
}

Status ClusterState::check_model_file(const std::string& what, const std::string& path, std::uint32_t version) const {
  if (path.empty()) return {};
  const FileVersion* file = files_.find(path, version);
  if (file == nullptr && version == 0)
    return Error{Errc::not_found, fmt::format("{} {} is not in SDFS; put it there first", what, path)};
  if (file == nullptr)
    return Error{Errc::not_found, fmt::format("{} {} has no version {} in SDFS; put it there again", what, path, version)};
  if (file->open) return Error{Errc::conflict, fmt::format("{} {} is still being written by a job", what, path)};
  return {};
}

Status ClusterState::check_model(const ModelVersion& model) const {
  if (Status name = check_model_name(model.name); !name) return name;
  if (model.spec_toml.size() > kSpecBytesMax) {
    return Error{Errc::too_large, fmt::format("add model {}: its spec has {} bytes, {} are possible", model.name,
                                              model.spec_toml.size(), kSpecBytesMax)};
  }
  if (model.origin.size() > kOriginBytesMax) {
    return Error{Errc::too_large, fmt::format("add model {}: its origin has {} bytes, {} are possible", model.name,
                                              model.origin.size(), kOriginBytesMax)};
  }
  if (Status onnx = check_model_file("the ONNX file", model.onnx_path, model.onnx_version); !onnx) {
    return annotate(onnx.error(), "add model " + model.name);
  }
  if (Status labels = check_model_file("the labels file", model.labels_path, model.labels_version); !labels) {
    return annotate(labels.error(), "add model " + model.name);
  }
  std::size_t versions = 0;
  for (const auto& [name, list] : models_) versions += list.size();
  if (versions >= kModelVersionsMax ||
      (last_model_version_.size() >= kModelNamesMax && !last_model_version_.contains(model.name))) {
    return Error{Errc::full, fmt::format("add model {}: {} model versions are registered, no more are possible; remove some",
                                         model.name, versions)};
  }
  return {};
}

void ClusterState::on(const AddModel& command, WallMs stamp, Applied& out) {
  if (const Status status = check_model(command.model); !status) {
    out.answer = make_error(status.error().code, status.error().detail);
    return;
  }
  ModelVersion added = command.model;
  added.version = ++last_model_version_[added.name];
  added.created_ms = stamp;
  // "The newest version" of a file is fixed now, so that the model stays what it is.
  added.onnx_version = added.onnx_path.empty() ? 0 : files_.find(added.onnx_path, added.onnx_version)->version;
  added.labels_version = added.labels_path.empty() ? 0 : files_.find(added.labels_path, added.labels_version)->version;
  out.answer = make_answer(ModelAddReply{added.version});
  models_[added.name].push_back(std::move(added));
}

void ClusterState::on(const RemoveModel& command, WallMs /*stamp*/, Applied& out) {
  const auto found = models_.find(command.name);
  if (found == models_.end()) {
    out.answer = make_error(Errc::not_found,
                            fmt::format("remove model {}: there is no such model; `idunno model list` names them", command.name));
    return;
  }
  for (const auto& [id, job] : jobs_) {
    if (!job.active() || job.spec.model != command.name) continue;
    out.answer =
        make_error(Errc::conflict, fmt::format("remove model {}: job {} ({}) uses it; stop the job first or wait for its end",
                                               command.name, to_string(id), job.spec.name));
    return;
  }
  // Only files in the model's own folder are its own, and of those only what no other model refers to.
  const std::string folder = "/models/" + command.name + "/";
  std::set<std::string> own;
  for (const ModelVersion& version : found->second) {
    for (const std::string& path : {version.onnx_path, version.labels_path}) {
      if (path.starts_with(folder) && files_.find(path) != nullptr) own.insert(path);
    }
  }
  for (const auto& [name, versions] : models_) {
    if (name == command.name) continue;
    for (const ModelVersion& version : versions) {
      own.erase(version.onnx_path);
      own.erase(version.labels_path);
    }
  }
  const std::vector<std::string> paths(own.begin(), own.end());
  if (const Status status = check_remove(paths, false); !status) {
    out.answer = make_error(status.error().code, annotate(status.error(), "remove model " + command.name).detail);
    return;
  }
  if (!paths.empty()) {
    const Result<FsRemoveReply> removed = files_.remove(paths, false, out.freed);
    if (!removed) {
      out.answer = make_error(removed.error().code, annotate(removed.error(), "remove model " + command.name).detail);
      return;
    }
    out.namespace_changed = true;
  }
  out.answer = make_answer(ModelRemoveReply{static_cast<std::uint32_t>(found->second.size())});
  models_.erase(found);
}

}  // namespace idunno

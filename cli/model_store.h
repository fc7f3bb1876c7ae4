#pragma once
/// From files to a registered model. Everything that can be wrong with a model is looked for on this machine first (name, spec,
/// graph, loading in an executor); only then is anything stored, and what was stored is removed again when a later step fails.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bus/base/result.h"
#include "cli/app.h"
#include "cli/models/graph_check.h"
#include "storage/models/model_spec.h"

namespace idunno::cli {

/// A folder under $TMPDIR that is removed with this object.
class ScratchFolder {
 public:
  [[nodiscard]] static Result<std::unique_ptr<ScratchFolder>> make();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  explicit ScratchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

/// Files up to `bytes_max`; not_found, invalid (a folder), too_large.
[[nodiscard]] Result<Bytes> read_whole_file(const std::filesystem::path& file, std::uint64_t bytes_max);
[[nodiscard]] Status write_whole_file(const std::filesystem::path& file, ByteView bytes);

/// 1 to 64 of A-Z a-z 0-9 . _ -, and not only dots.
[[nodiscard]] Status check_model_name(const std::string& name);
/// "squeezenet:3" -> name and version; version 0 = newest.
struct ModelReference {
  std::string name;
  std::uint32_t version = 0;
};
[[nodiscard]] Result<ModelReference> parse_model_reference(const std::string& text);

struct ModelFiles {
  std::string name;
  std::filesystem::path onnx;  ///< empty for the engine that computes nothing
  std::string spec_toml;
  std::string spec_source;       ///< for messages: the spec's file
  std::filesystem::path labels;  ///< empty = none
  std::string origin;
};

/// A model that passed all checks, ready to be stored.
struct PreparedModel {
  ModelFiles files;  ///< `onnx` is the rewritten copy where there is one
  models::GraphReport graph;
  std::vector<std::string> notes;          ///< what was rewritten, for the user
  std::unique_ptr<ScratchFolder> scratch;  ///< holds the copies
};
/// Without a cluster. not_found (a file), invalid (not ONNX, wrong spec, cannot be loaded).
[[nodiscard]] Result<PreparedModel> prepare_model(ModelFiles files);

/// Uploads to /models/<name>/<unique>/ and registers; the new version. Nothing is left in SDFS on failure.
[[nodiscard]] Result<std::uint32_t> store_model(Session& session, const PreparedModel& model,
                                                const std::function<void(std::uint64_t bytes)>& progress = {});

/// Both steps. `onnx_path` empty: the engine that computes nothing (spec `[engine] kind = "nothing"`).
[[nodiscard]] Result<std::uint32_t> add_model(Session& session, const std::string& name, const std::string& onnx_path,
                                              const std::string& spec_toml, const std::string& labels_path,
                                              const std::string& origin);

/// Registered versions of one name, newest first; not_found when there is none.
[[nodiscard]] Result<ModelVersion> find_model(Session& session, const ModelReference& reference);

}  // namespace idunno::cli

#pragma once
/// What the commands of `idunno model` share, and one function for each. Every function sets app.exit_code through App::fail.

#include <cstdint>
#include <string>

#include "cli/app.h"
#include "cli/model_store.h"

namespace idunno::cli {

struct ModelAddOptions {
  std::string name;
  std::string onnx;
  std::string spec;  ///< empty = FILE.toml beside FILE.onnx
};
struct ModelInitOptions {
  std::string architecture;
  std::string name;  ///< empty = the architecture's
  std::uint64_t seed = 1;
  std::string output;  ///< write here, without a cluster
};
struct ModelPullOptions {
  std::string zoo_name;
  std::string name;  ///< empty = the zoo's
  std::string url_base;
  std::string cache;
  std::string labels;
  bool list = false;
};
struct ModelCheckOptions {
  std::string what;  ///< FILE.onnx, or NAME[:V] of the cluster
  std::string spec;
};

void model_add(App& app, const ModelAddOptions& options);  // cli/model_add.cc
void model_init(App& app, const ModelInitOptions& options);
void model_pull(App& app, const ModelPullOptions& options);    // cli/model_pull.cc
void model_check(App& app, const ModelCheckOptions& options);  // cli/model_check_command.cc
void model_list(App& app, bool all_versions);                  // cli/model_show.cc
void model_show(App& app, const std::string& reference);
void model_remove(App& app, const std::string& name);

/// Checks, stores, and prints "NAME:VERSION" (or the object idunno.model_added.v1); false after an error, which was told.
bool prepare_and_store(App& app, ModelFiles files);

/// FILE.toml for FILE.onnx.
[[nodiscard]] std::filesystem::path spec_beside(const std::filesystem::path& onnx);
/// Reads a spec and finds its labels, which are named relative to its folder.
[[nodiscard]] Status read_spec(const std::filesystem::path& file, ModelFiles& files);

}  // namespace idunno::cli

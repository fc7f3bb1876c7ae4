#include <fmt/core.h>

#include "bus/units.h"
#include "cli/model_commands.h"
#include "cli/models/pull.h"
#include "cli/models/zoo.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

void list_zoo(const App& app) {
  Listing listing(
      "idunno.model_zoo.v1", "models",
      {{"name", "NAME"}, {"about", "WHAT"}, {"size_bytes", "SIZE", true}, {"licence", "LICENCE"}, {"sha256", ""}, {"path", ""}});
  for (const auto& model : models::zoo()) {
    listing.add({{model.name, ""},
                 {model.about, ""},
                 {model.size, format_size(model.size)},
                 {model.licence, ""},
                 {model.sha256, ""},
                 {model.path, ""}});
  }
  listing.print(app.globals);
}

Result<fs::path> download(const App& app, const models::ZooModel& model, const ModelPullOptions& options) {
  models::PullRequest request;
  request.url = options.url_base.empty() ? models::kZooUrlBase : options.url_base;
  if (request.url.back() != '/') request.url += '/';
  request.url += model.path;
  request.size = model.size;
  request.sha256 = model.sha256;
  request.folder = options.cache.empty() ? models::default_cache_folder() : fs::path(options.cache);
  request.file_name = model.name + ".onnx";
  ProgressBar bar(app.globals, "download", "B", model.size, true);
  request.progress = [&bar](std::uint64_t bytes) { bar.update(bytes); };
  return models::pull_file(request);
}

}  // namespace

void model_pull(App& app, const ModelPullOptions& options) {
  if (options.list) return list_zoo(app);
  if (options.zoo_name.empty()) return app.usage("model pull needs the name of a model", "`idunno model pull --list` shows all");
  const std::string doing = "pulling " + options.zoo_name;
  const auto model = models::find_zoo_model(options.zoo_name);
  if (!model) return app.fail(model.error(), doing);
  ModelFiles files;
  files.name = options.name.empty() ? model->name : options.name;
  if (Status good = check_model_name(files.name); !good) return app.fail(good.error(), doing);
  std::error_code error;
  if (!options.labels.empty() && !fs::is_regular_file(options.labels, error)) {
    return app.fail({Errc::not_found, "no file " + options.labels}, doing, "--labels FILE names the classes, one a line");
  }
  const auto file = download(app, *model, options);
  if (!file) {
    const Errc code = file.error().code;
    app.fail(file.error(), doing,
             code == Errc::unavailable ? "the same command goes on where it stopped; --url-base URL names a mirror" : "");
    // The codes of the cluster ("no coordinator", "damaged data") would mislead: it is the download that failed.
    if (app.exit_code != kNotFound && app.exit_code != kNotNow) app.exit_code = kFailed;
    return;
  }
  ModelSpec spec = model->spec;
  if (!options.labels.empty()) {
    spec.output.labels = "labels.txt";
    files.labels = options.labels;
  } else {
    app.note("without --labels FILE the results name classes by number");
  }
  files.onnx = *file;
  files.spec_toml = to_toml(spec);
  files.spec_source = "the spec of " + model->name;
  files.origin = fmt::format("pull {} (ONNX model zoo, {}, sha256 {})", model->name, model->licence, model->sha256.substr(0, 12));
  (void)prepare_and_store(app, std::move(files));
}

}  // namespace idunno::cli

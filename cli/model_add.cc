#include <fmt/core.h>

#include "bus/units.h"
#include "cli/model_commands.h"
#include "cli/models/architectures.h"
#include "cli/roles.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kSpecFileBytesMax = 64U << 10U;

void print_added(const App& app, const std::string& name, std::uint32_t version, const ModelFiles& files) {
  if (app.globals.format == Format::table) {
    fmt::print("{}:{}\n", name, version);
    return;
  }
  print_object(
      app.globals, "idunno.model_added.v1",
      Json{{"model", fmt::format("{}:{}", name, version)}, {"name", name}, {"version", version}, {"origin", files.origin}});
}

Status refuse_to_overwrite(const App& app, const fs::path& file) {
  std::error_code error;
  if (app.globals.yes || !fs::exists(file, error)) return {};
  return Error{Errc::conflict, fmt::format("{} exists already", file.string())};
}

/// FILE.onnx and FILE.toml on this machine.
void write_locally(App& app, const ModelInitOptions& options, const Bytes& onnx, const std::string& spec) {
  const std::string doing = "writing " + options.output;
  const fs::path onnx_file = options.output;
  const fs::path spec_file = spec_beside(onnx_file);
  for (const auto& file : {onnx_file, spec_file}) {
    if (Status free = refuse_to_overwrite(app, file); !free) return app.fail(free.error(), doing, "-y overwrites it");
  }
  if (Status written = write_whole_file(onnx_file, onnx); !written) return app.fail(written.error(), doing);
  if (Status written = write_whole_file(spec_file, spec); !written) return app.fail(written.error(), doing);
  if (app.globals.format == Format::table) {
    fmt::print("{}\n", options.output);
  } else {
    print_object(
        app.globals, "idunno.model_file.v1",
        Json{{"onnx", onnx_file.string()}, {"spec", spec_file.string()}, {"size_bytes", onnx.size()}, {"seed", options.seed}});
  }
}

}  // namespace

fs::path spec_beside(const fs::path& onnx) {
  fs::path spec = onnx;
  return spec.replace_extension(".toml");
}

Status read_spec(const fs::path& file, ModelFiles& files) {
  const auto text = read_whole_file(file, kSpecFileBytesMax);
  if (!text) return annotate(text.error(), "the model's spec");
  files.spec_toml = *text;
  files.spec_source = file.string();
  const auto spec = parse_model_spec(*text, file.string());
  if (!spec) return spec.error();
  if (!spec->output.labels.empty()) files.labels = file.parent_path() / spec->output.labels;
  return {};
}

bool prepare_and_store(App& app, ModelFiles files) {
  const std::string name = files.name;
  const std::string doing = "adding model " + name;
  auto prepared = prepare_model(std::move(files));
  if (!prepared) {
    app.fail(prepared.error(), doing);
    return false;
  }
  for (const auto& note : prepared->notes) app.note("rewritten: " + note);
  Session* session = app.session();
  if (session == nullptr) return false;
  if (Status allowed = check_role(*session, Role::submit); !allowed) {
    app.fail(allowed.error(), doing);
    return false;
  }
  Result<std::uint32_t> version = Error{};
  {
    std::error_code error;
    const auto total = fs::file_size(prepared->files.onnx, error);
    ProgressBar bar(app.globals, "upload", "B", error ? 0 : total, true);
    version = store_model(*session, *prepared, [&](std::uint64_t bytes) { bar.update(bytes); });
  }
  if (!version) {
    app.fail(version.error(), doing, "nothing was added");
    return false;
  }
  print_added(app, name, *version, prepared->files);
  return true;
}

void model_add(App& app, const ModelAddOptions& options) {
  const std::string doing = "adding model " + options.name;
  ModelFiles files;
  files.name = options.name;
  files.onnx = options.onnx;
  files.origin = "file " + files.onnx.filename().string();
  std::error_code error;
  if (Status good = check_model_name(files.name); !good) return app.fail(good.error(), doing);
  if (!fs::exists(files.onnx, error)) return app.fail({Errc::not_found, "no file " + options.onnx}, doing);
  const fs::path spec = options.spec.empty() ? spec_beside(files.onnx) : fs::path(options.spec);
  if (Status read = read_spec(spec, files); !read) {
    // A file that is no model at all is worth saying before its missing spec.
    const auto bytes = read_whole_file(files.onnx, std::uint64_t{2} << 30U);
    if (bytes) {
      if (const auto graph = models::check_graph(*bytes, options.onnx); !graph) return app.fail(graph.error(), doing);
    }
    const bool missing = read.error().code == Errc::not_found;
    return app.fail(read.error(), doing,
                    missing ? "write one (README, \"Your own model\") or name it with --spec FILE.toml" : "");
  }
  (void)prepare_and_store(app, std::move(files));
}

void model_init(App& app, const ModelInitOptions& options) {
  const std::string doing = "building " + options.architecture;
  const auto architecture = models::find_architecture(options.architecture);
  if (!architecture) return app.usage(architecture.error().detail);
  const std::string name = options.name.empty() ? architecture->name : options.name;
  if (Status good = check_model_name(name); !good) return app.fail(good.error(), doing);
  // A cluster that cannot be reached should cost no building.
  if (options.output.empty() && app.session() == nullptr) return;
  auto onnx = models::build_architecture(architecture->name, options.seed);
  if (!onnx) return app.fail(onnx.error(), doing);
  const std::string spec = to_toml(models::architecture_spec(*architecture));
  app.note(fmt::format("{} ({}): {} parameters, {}; the weights are random (seed {}), so its labels mean nothing",
                       architecture->name, architecture->source, architecture->parameters, format_size(onnx->size()),
                       options.seed));
  if (!options.output.empty()) return write_locally(app, options, *onnx, spec);

  const auto scratch = ScratchFolder::make();
  if (!scratch) return app.fail(scratch.error(), doing);
  ModelFiles files;
  files.name = name;
  files.onnx = (*scratch)->path() / (architecture->name + ".onnx");
  files.spec_toml = spec;
  files.spec_source = "the spec of " + architecture->name;
  files.origin = fmt::format("init {} seed {} (random weights)", architecture->name, options.seed);
  if (Status written = write_whole_file(files.onnx, *onnx); !written) return app.fail(written.error(), doing);
  onnx = Bytes();  // AlexNet is 233 MiB: not twice
  (void)prepare_and_store(app, std::move(files));
}

}  // namespace idunno::cli

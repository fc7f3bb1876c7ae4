#include <fmt/core.h>

#include "bus/clock.h"
#include "cli/model_commands.h"
#include "cli/names.h"

namespace idunno::cli {
namespace {

/// "classify 224x224", "tensor 16", "nothing".
std::string kind_of(const ModelVersion& model) {
  const auto spec = parse_model_spec(model.spec_toml, model.name);
  if (!spec) return "?";
  if (spec->nothing) return "nothing";
  std::string text = spec->output.kind == OutputKind::classify ? "classify" : "tensor";
  if (spec->input.width > 0) return fmt::format("{} {}x{}", text, spec->input.width, spec->input.height);
  for (std::size_t i = 0; i < spec->input.shape.size(); ++i) text += (i == 0 ? " " : "x") + std::to_string(spec->input.shape[i]);
  return text;
}

Json parameters_json(const ModelVersion& model) { return model.parameters == 0 ? Json(nullptr) : Json(model.parameters); }

}  // namespace

void model_list(App& app, bool all_versions) {
  Session* session = app.session();
  if (session == nullptr) return;
  ModelListRequest request;
  request.all_versions = all_versions;
  const auto reply = session->metadata().call_and_wait(request);
  if (!reply) return app.fail(reply.error(), "listing models");
  Listing listing("idunno.models.v1", "models",
                  {{"name", "NAME"},
                   {"version", "VERSION", true},
                   {"kind", "KIND"},
                   {"parameters", "PARAMETERS", true},
                   {"labels", "LABELS"},
                   {"created_at", "CREATED"},
                   {"origin", "ORIGIN"},
                   {"onnx_path", ""}});
  for (const auto& model : reply->models) {
    listing.add({{model.name, ""},
                 {model.version, ""},
                 {kind_of(model), ""},
                 {parameters_json(model), ""},
                 {!model.labels_path.empty(), model.labels_path.empty() ? "numbers" : "names"},
                 {rfc3339(model.created_ms), ""},
                 {model.origin, printable(model.origin)},
                 {model.onnx_path, ""}});
  }
  app.mark_stale(listing.extra);
  listing.print(app.globals);
}

void model_show(App& app, const std::string& text) {
  const std::string doing = "showing model " + text;
  const auto reference = parse_model_reference(text);
  if (!reference) return app.fail(reference.error(), doing);
  Session* session = app.session();
  if (session == nullptr) return;
  const auto model = find_model(*session, *reference);
  if (!model) return app.fail(model.error(), doing);
  Json object{{"name", model->name},
              {"version", model->version},
              {"kind", kind_of(*model)},
              {"parameters", parameters_json(*model)},
              {"origin", model->origin},
              {"created_at", rfc3339(model->created_ms)},
              {"onnx_path", model->onnx_path},
              {"onnx_version", model->onnx_version},
              {"labels_path", model->labels_path},
              {"labels_version", model->labels_version}};
  if (app.globals.format != Format::table) object["spec"] = model->spec_toml;
  print_object(app.globals, "idunno.model.v1", object);
  if (app.globals.format == Format::table) fmt::print("\n{}", model->spec_toml);
}

void model_remove(App& app, const std::string& name) {
  const std::string doing = "removing model " + name;
  if (name.find(':') != std::string::npos)
    return app.usage("`model remove` removes all versions of a name", "leave out the version");
  if (Status good = check_model_name(name); !good) return app.fail(good.error(), doing);
  Session* session = app.session();
  if (session == nullptr) return;
  ModelRemoveRequest request;
  request.name = name;
  const auto reply = session->metadata().call_and_wait(request);
  if (!reply)
    return app.fail(reply.error(), doing, reply.error().code == Errc::conflict ? "stop its jobs first (`idunno job stop`)" : "");
  app.note(fmt::format("removed {} version{} of {}", reply->versions, reply->versions == 1 ? "" : "s", name));
  Json out = Json::object();
  out["name"] = name;
  out["versions"] = reply->versions;
  print_outcome(app.globals, "idunno.model_removed.v1", out);
}

}  // namespace idunno::cli

#include <fmt/core.h>

#include <algorithm>
#include <fstream>

#include "bus/units.h"
#include "cli/model_commands.h"
#include "cli/model_executor.h"
#include "cli/names.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr Duration kCheckLimit = std::chrono::minutes(10);

/// Streams one file of SDFS to this machine.
Status fetch(Session& session, const std::string& path, std::uint32_t version, const fs::path& to) {
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  const Status got = session.sdfs().get(path, version, [&](ByteView bytes) -> Status {
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return out ? Status{} : Status(Error{Errc::full, "writing " + to.string() + " failed"});
  });
  if (!got) return got;
  out.close();
  return out ? Status{} : Status(Error{Errc::full, "writing " + to.string() + " failed"});
}

/// The files of a registered model, in `folder`.
Result<ModelFiles> fetch_model(Session& session, const ModelReference& reference, const fs::path& folder) {
  const auto model = find_model(session, reference);
  if (!model) return model.error();
  if (model->onnx_path.empty())
    return Error{Errc::invalid, fmt::format("model {} computes nothing: there is no graph to check", model->name)};
  ModelFiles files;
  files.name = model->name;
  files.spec_toml = model->spec_toml;
  files.spec_source = fmt::format("the spec of {}:{}", model->name, model->version);
  files.onnx = folder / "model.onnx";
  if (Status got = fetch(session, model->onnx_path, model->onnx_version, files.onnx); !got) return got.error();
  if (model->labels_path.empty()) return files;
  files.labels = folder / "labels.txt";
  if (Status got = fetch(session, model->labels_path, model->labels_version, files.labels); !got) return got.error();
  return files;
}

Json ports_json(const std::vector<models::GraphPort>& ports) {
  Json out = Json::array();
  for (const auto& port : ports) out.push_back({{"name", port.name}, {"type", port.type}, {"shape", port.shape}});
  return out;
}

Json findings_json(const models::GraphReport& report) {
  Json out = Json::array();
  for (const auto& finding : report.findings) {
    out.push_back({{"kind", to_string(finding.kind)},
                   {"operator", finding.op},
                   {"node", finding.node},
                   {"problem", finding.problem},
                   {"advice", finding.advice}});
  }
  return out;
}

/// What the graph says of itself and what the executor measured, in one object.
Json report_json(const std::string& what, const models::GraphReport& graph, const Json& executor) {
  Json operators = Json::object();
  for (const auto& [op, count] : graph.operators) operators[op] = count;
  const auto measured = [&](const char* key) {
    return executor.is_object() && executor.contains(key) ? executor[key] : Json(nullptr);
  };
  Json unsupported = graph.unsupported;
  if (unsupported.empty() && measured("unsupported").is_array()) {
    for (const auto& missing : executor["unsupported"])
      unsupported.push_back(missing.is_object() ? missing.value("operator", "?") : "?");
  }
  const bool ok = graph.usable() && measured("ok").is_boolean() && executor["ok"].get<bool>();
  return Json{{"model", what},
              {"ok", ok},
              {"inputs", ports_json(graph.inputs)},
              {"outputs", ports_json(graph.outputs)},
              {"opset", graph.opset},
              {"producer", graph.producer},
              {"parameters", graph.parameters},
              {"weight_bytes", graph.weight_bytes},
              {"operators", operators},
              {"unsupported", unsupported},
              {"findings", findings_json(graph)},
              {"problems", measured("problems").is_null() ? Json::array() : measured("problems")},
              {"load_ms", measured("load_ms")},
              {"memory_mb", measured("memory_mb")},
              {"timings", measured("timings").is_null() ? Json::array() : measured("timings")}};
}

void line(const std::string& key, const std::string& text) { fmt::print("{:<14}{}\n", key, printable(text)); }

void print_timings(const Json& report) {
  for (const auto& timing : report["timings"]) {
    const double ms = timing.value("ms", 0.0);
    const int batch = timing.value("batch", 1);
    line(fmt::format("batch of {}", batch),
         fmt::format("{:.2f} ms ({:.1f} queries/s in one executor)", ms, ms > 0 ? batch * 1000 / ms : 0));
  }
}

void print_report(const models::GraphReport& graph, const Json& report) {
  line("model", report["model"].get<std::string>());
  for (const auto& port : graph.inputs) line("input", to_string(port));
  for (const auto& port : graph.outputs) line("output", to_string(port));
  line("parameters", fmt::format("{} ({})", graph.parameters, format_size(graph.weight_bytes)));
  line("opset", fmt::format("{}, written by {}", graph.opset, graph.producer.empty() ? "unknown" : graph.producer));
  std::string operators;
  for (const auto& [op, count] : graph.operators) operators += fmt::format("{}{} x {}", operators.empty() ? "" : ", ", op, count);
  line("operators", operators);
  std::string unsupported;
  for (const auto& op : report["unsupported"]) unsupported += (unsupported.empty() ? "" : ", ") + op.get<std::string>();
  line("unsupported", unsupported.empty() ? "none" : unsupported);
  if (report["load_ms"].is_number()) line("loading", fmt::format("{:.1f} ms", report["load_ms"].get<double>()));
  if (report["memory_mb"].is_object() && report["memory_mb"].contains("peak") && report["memory_mb"]["peak"].is_number()) {
    line("memory", fmt::format("{:.0f} MiB at most, {:.0f} MiB in use", report["memory_mb"]["peak"].get<double>(),
                               report["memory_mb"].value("after", 0.0)));
  }
  print_timings(report);
  for (const auto& finding : graph.findings) line(to_string(finding.kind), to_string(finding));
  for (const auto& problem : report["problems"])
    line("problem", problem.is_string() ? problem.get<std::string>() : problem.dump());
  line("result", report["ok"].get<bool>() ? "can be used" : "cannot be used");
}

/// Runs both checks on files of this machine and prints the report.
void check_files(App& app, const std::string& what, const ModelFiles& files, const fs::path& scratch) {
  const std::string doing = "checking " + what;
  const auto bytes = read_whole_file(files.onnx, std::uint64_t{2} << 30U);
  if (!bytes) return app.fail(bytes.error(), doing);
  const auto graph = models::check_graph(*bytes, what);
  if (!graph) return app.fail(graph.error(), doing);
  Json executor;
  if (graph->report.usable()) {
    ExecutorCheck check;
    check.onnx = files.onnx;
    check.spec = scratch / "spec.toml";
    check.labels = files.labels;
    check.batches = {1, 16};
    check.limit = kCheckLimit;
    if (!graph->onnx.empty()) {
      check.onnx = scratch / "rewritten.onnx";
      if (Status written = write_whole_file(check.onnx, graph->onnx); !written) return app.fail(written.error(), doing);
    }
    if (Status written = write_whole_file(check.spec, files.spec_toml); !written) return app.fail(written.error(), doing);
    auto report = check_in_executor(check);
    if (!report) return app.fail(report.error(), doing);
    executor = std::move(*report);
  }
  const Json report = report_json(what, graph->report, executor);
  if (app.globals.format == Format::table) {
    print_report(graph->report, report);
  } else {
    print_object(app.globals, "idunno.model_check.v1", report);
  }
  if (report["ok"].get<bool>()) return;
  std::string why;  // the first reason; the report has all
  for (const auto& finding : graph->report.findings) {
    if (why.empty() && finding.kind == models::FindingKind::refused) why = to_string(finding);
  }
  if (why.empty() && executor.is_object()) why = problems_of(executor);
  app.fail(Error{Errc::invalid, "cannot be used: " + why}, doing);  // as `model add` would end
}

}  // namespace

void model_check(App& app, const ModelCheckOptions& options) {
  const std::string doing = "checking " + options.what;
  const auto scratch = ScratchFolder::make();
  if (!scratch) return app.fail(scratch.error(), doing);
  const fs::path folder = (*scratch)->path();
  std::error_code error;
  ModelFiles files;
  if (fs::exists(options.what, error)) {
    files.onnx = options.what;
    const fs::path spec = options.spec.empty() ? spec_beside(files.onnx) : fs::path(options.spec);
    if (Status read = read_spec(spec, files); !read) {
      const auto bytes = read_whole_file(files.onnx, std::uint64_t{2} << 30U);
      if (!bytes) return app.fail(bytes.error(), doing);
      if (const auto graph = models::check_graph(*bytes, options.what); !graph) return app.fail(graph.error(), doing);
      return app.fail(read.error(), doing, read.error().code == Errc::not_found ? "name it with --spec FILE.toml" : "");
    }
    return check_files(app, options.what, files, folder);
  }
  const auto reference = parse_model_reference(options.what);
  const bool looks_like_file = options.what.find('/') != std::string::npos || fs::path(options.what).extension() == ".onnx";
  if (!reference || looks_like_file) return app.fail({Errc::not_found, "no file " + options.what}, doing);
  Session* session = app.session();
  if (session == nullptr) return;
  auto fetched = fetch_model(*session, *reference, folder);
  if (!fetched) return app.fail(fetched.error(), doing);
  if (!options.spec.empty()) {
    if (Status read = read_spec(options.spec, *fetched); !read) return app.fail(read.error(), doing);
  }
  check_files(app, options.what, *fetched, folder);
}

}  // namespace idunno::cli

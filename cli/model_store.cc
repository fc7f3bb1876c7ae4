#include "cli/model_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "bus/entropy.h"
#include "cli/model_executor.h"
#include "cli/names.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kNameMax = 64;
constexpr std::uint64_t kOnnxBytesMax = (2ULL << 30U) - 1;  ///< protobuf's own limit
constexpr std::uint64_t kLabelsBytesMax = 16ULL << 20U;
constexpr std::size_t kSpecBytesMax = 64U << 10U;  ///< ModelVersion::spec_toml

std::string unique_name() { return fmt::format("{:016x}", random_nonzero()); }

/// What refuses the graph, in one line: the first reason and how many more there are.
Error refusal(const models::GraphReport& report, const std::string& file) {
  std::string first;
  std::size_t count = 0;
  for (const auto& finding : report.findings) {
    if (finding.kind != models::FindingKind::refused) continue;
    if (count++ == 0) first = to_string(finding);
  }
  const std::string more = count > 1 ? fmt::format(" (and {} more; `idunno model check` lists all)", count - 1) : "";
  return Error{Errc::invalid, printable(fmt::format("{} cannot be used: {}{}", file, first, more))};
}

/// Labels that the spec names must be given, and the other way round.
Status check_labels(const ModelFiles& files, const ModelSpec& spec) {
  if (spec.output.labels.empty() && !files.labels.empty()) {
    return Error{Errc::invalid, fmt::format("{} names no labels, but {} was given; add labels = \"labels.txt\" to [output]",
                                            files.spec_source, files.labels.string())};
  }
  if (!spec.output.labels.empty() && files.labels.empty()) {
    return Error{Errc::invalid,
                 fmt::format("{} names the labels {}, but no such file was given", files.spec_source, spec.output.labels)};
  }
  if (files.labels.empty()) return {};
  const auto labels = read_whole_file(files.labels, kLabelsBytesMax);
  return labels ? Status{} : Status(annotate(labels.error(), "the labels of " + files.spec_source));
}

/// Reads and checks the graph; a rewritten one is put into the scratch folder.
Status prepare_graph(PreparedModel& model) {
  const fs::path source = model.files.onnx;
  auto bytes = read_whole_file(source, kOnnxBytesMax);
  if (!bytes) return bytes.error();
  auto checked = models::check_graph(*bytes, source.string());
  if (!checked) return Error{checked.error().code, printable(checked.error().detail)};
  if (!checked->report.usable()) return refusal(checked->report, source.string());
  for (const auto& finding : checked->report.findings) model.notes.push_back(printable(to_string(finding)));
  model.graph = std::move(checked->report);
  if (checked->onnx.empty()) return {};
  model.files.onnx = model.scratch->path() / "model.onnx";
  return write_whole_file(model.files.onnx, checked->onnx);
}

Status check_loads(const PreparedModel& model, const std::string& source) {
  const fs::path spec_file = model.scratch->path() / "spec.toml";
  if (Status written = write_whole_file(spec_file, model.files.spec_toml); !written) return written;
  ExecutorCheck check;
  check.onnx = model.files.onnx;
  check.spec = spec_file;
  check.labels = model.files.labels;
  const auto report = check_in_executor(check);
  if (!report) return annotate(report.error(), source);
  if ((*report)["ok"].get<bool>()) return {};
  return Error{Errc::invalid, fmt::format("{} cannot be used with this spec: {}", source, problems_of(*report))};
}

}  // namespace

Result<std::unique_ptr<ScratchFolder>> ScratchFolder::make() {
  std::error_code error;
  const fs::path base = fs::temp_directory_path(error);
  std::string pattern = ((error ? fs::path("/tmp") : base) / "idunno-model-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr) {
    return Error{Errc::full,
                 fmt::format("making a folder {}: {}; set TMPDIR to a folder with space", pattern, std::strerror(errno))};
  }
  return std::unique_ptr<ScratchFolder>(new ScratchFolder(pattern));
}

ScratchFolder::~ScratchFolder() {
  std::error_code error;
  fs::remove_all(path_, error);
}

Result<Bytes> read_whole_file(const fs::path& file, std::uint64_t bytes_max) {
  std::error_code error;
  const auto status = fs::status(file, error);
  if (!fs::exists(status)) return Error{Errc::not_found, fmt::format("no file {}", file.string())};
  if (!fs::is_regular_file(status)) return Error{Errc::invalid, fmt::format("{} is not a file", file.string())};
  const auto size = fs::file_size(file, error);
  if (error) return Error{Errc::internal, fmt::format("reading {}: {}", file.string(), error.message())};
  if (size > bytes_max)
    return Error{Errc::too_large, fmt::format("{} has {} bytes; at most {} are allowed", file.string(), size, bytes_max)};
  std::ifstream in(file, std::ios::binary);
  Bytes bytes(size, '\0');
  if (!in || !in.read(bytes.data(), static_cast<std::streamsize>(size))) {
    return Error{Errc::forbidden, fmt::format("{} cannot be read; are you allowed to?", file.string())};
  }
  return bytes;
}

Status write_whole_file(const fs::path& file, ByteView bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out)
    return Error{Errc::full, fmt::format("writing {} ({} bytes) failed: {}", file.string(), bytes.size(), std::strerror(errno))};
  return {};
}

Status check_model_name(const std::string& name) {
  static constexpr const char* kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  const bool good = !name.empty() && name.size() <= kNameMax && name.find_first_not_of(kAllowed) == std::string::npos &&
                    name.find_first_not_of('.') != std::string::npos;
  if (good) return {};
  return Error{Errc::invalid,
               fmt::format("'{}' is no model name: 1 to {} of letters, digits, '.', '_' and '-'", printable(name), kNameMax)};
}

Result<ModelReference> parse_model_reference(const std::string& text) {
  ModelReference reference{text, 0};
  if (const auto colon = text.rfind(':'); colon != std::string::npos) {
    const std::string version = text.substr(colon + 1);
    const std::uint64_t number = numbered(version, 'v');
    if (number == 0 || number > UINT32_MAX)
      return Error{Errc::invalid, fmt::format("'{}' in '{}' is no version number", version, text)};
    reference = {text.substr(0, colon), static_cast<std::uint32_t>(number)};
  }
  if (Status good = check_model_name(reference.name); !good) return good.error();
  return reference;
}

Result<PreparedModel> prepare_model(ModelFiles files) {
  if (Status good = check_model_name(files.name); !good) return good.error();
  // A missing model file is the first thing to say, before what is wrong with its spec.
  std::error_code error;
  if (!files.onnx.empty() && !fs::exists(files.onnx, error))
    return Error{Errc::not_found, fmt::format("no file {}", files.onnx.string())};
  if (files.spec_toml.size() > kSpecBytesMax) return Error{Errc::too_large, fmt::format("{} is over 64 KiB", files.spec_source)};
  const auto spec = parse_model_spec(files.spec_toml, files.spec_source);
  if (!spec) return spec.error();
  if (spec->nothing != files.onnx.empty()) {
    return Error{Errc::invalid,
                 fmt::format("{}: [engine] kind = \"nothing\" is for models without an ONNX file only", files.spec_source)};
  }
  if (Status labels = check_labels(files, *spec); !labels) return labels.error();
  PreparedModel model;
  model.files = std::move(files);
  if (spec->nothing) return model;
  auto scratch = ScratchFolder::make();
  if (!scratch) return scratch.error();
  model.scratch = std::move(*scratch);
  const std::string source = model.files.onnx.string();
  if (Status graph = prepare_graph(model); !graph) return graph.error();
  if (Status loads = check_loads(model, source); !loads) return loads.error();
  return model;
}

namespace {

struct Stored {
  FileVersion onnx;
  FileVersion labels;
};

/// Uploads the files in one call, so that they become visible together.
Result<Stored> upload(Session& session, const PreparedModel& model, const std::string& folder,
                      const std::function<void(std::uint64_t)>& progress) {
  std::vector<SdfsClient::PutItem> items;
  const fs::path spec_file = model.scratch->path() / "spec.toml";
  items.push_back({model.files.onnx.string(), folder + "/model.onnx"});
  items.push_back({spec_file.string(), folder + "/spec.toml"});
  if (!model.files.labels.empty()) items.push_back({model.files.labels.string(), folder + "/labels.txt"});
  if (Status placement = session.sdfs().refresh_placement(); !placement) return placement.error();
  const auto put = session.sdfs().put(items, [&](const TransferProgress& now) {
    if (progress) progress(now.bytes_done);
  });
  if (!put) return put.error();
  Stored stored;
  for (const auto& file : *put) {
    if (file.path == items.front().sdfs_path) stored.onnx = file;
    if (items.size() == 3 && file.path == items.back().sdfs_path) stored.labels = file;
  }
  if (stored.onnx.path.empty()) return Error{Errc::internal, "SDFS did not name the stored model file"};
  return stored;
}

/// Best effort: the error that led here is the one to show.
void remove_folder(Session& session, const std::string& folder) {
  FsRemoveRequest request;
  request.paths = {folder};
  request.recursive = true;
  (void)session.metadata().call_and_wait(request);
}

}  // namespace

Result<std::uint32_t> store_model(Session& session, const PreparedModel& model,
                                  const std::function<void(std::uint64_t)>& progress) {
  const std::string folder = fmt::format("/models/{}/{}", model.files.name, unique_name());
  ModelAddRequest request;
  request.model.name = model.files.name;
  request.model.spec_toml = model.files.spec_toml;
  request.model.origin = model.files.origin;
  request.model.parameters = model.graph.parameters;
  const bool has_files = !model.files.onnx.empty();
  if (has_files) {
    const auto stored = upload(session, model, folder, progress);
    if (!stored) {
      remove_folder(session, folder);
      return annotate(stored.error(), "storing the files of model " + model.files.name);
    }
    request.model.onnx_path = stored->onnx.path;
    request.model.onnx_version = stored->onnx.version;
    request.model.labels_path = stored->labels.path;
    request.model.labels_version = stored->labels.version;
  }
  const auto added = session.metadata().call_and_wait(request);
  if (added) return added->version;
  // A lost answer may hide a registration that did happen: then the files are in use and have to stay.
  const bool refused = added.error().code != Errc::timeout && added.error().code != Errc::unavailable;
  if (has_files && refused) remove_folder(session, folder);
  return annotate(added.error(), "registering model " + model.files.name);
}

Result<std::uint32_t> add_model(Session& session, const std::string& name, const std::string& onnx_path,
                                const std::string& spec_toml, const std::string& labels_path, const std::string& origin) {
  const auto prepared = prepare_model({name, onnx_path, spec_toml, "the spec of " + name, labels_path, origin});
  if (!prepared) return prepared.error();
  return store_model(session, *prepared);
}

Result<ModelVersion> find_model(Session& session, const ModelReference& reference) {
  ModelListRequest request;
  request.name = reference.name;
  request.all_versions = true;
  const auto reply = session.metadata().call_and_wait(request);
  if (!reply && reply.error().code != Errc::not_found) return reply.error();
  std::string versions;
  if (reply) {
    for (const auto& model : reply->models) {
      if (model.name != reference.name) continue;
      if (reference.version == 0 || model.version == reference.version) return model;
      versions += (versions.empty() ? "" : ", ") + std::to_string(model.version);
    }
  }
  if (versions.empty())
    return Error{Errc::not_found, fmt::format("no model '{}'; `idunno model list` shows what is there", reference.name)};
  return Error{Errc::not_found,
               fmt::format("model '{}' has no version {}; it has {}", reference.name, reference.version, versions)};
}

}  // namespace idunno::cli

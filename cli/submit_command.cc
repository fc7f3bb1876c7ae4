#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "bus/hash.h"
#include "bus/units.h"
#include "cli/jobs.h"
#include "cli/names.h"
#include "cli/reports.h"
#include "cli/roles.h"
#include "storage/sdfs/datasets.h"

namespace idunno::cli {

namespace {

constexpr char kManifests[] = "/jobs/manifests/";

Error usage(const std::string& what) { return Error{Errc::invalid, what}; }

Result<JobSpec> parse_options(const SubmitOptions& options) {
  JobSpec spec;
  spec.model = options.model;
  if (const auto colon = options.model.rfind(':'); colon != std::string::npos) {
    const std::string version = options.model.substr(colon + 1);
    const std::uint64_t number = numbered(version, 'v');
    if (number == 0 || number > UINT32_MAX)
      return usage(fmt::format("--model {}: '{}' is no version number", options.model, version));
    spec.model = options.model.substr(0, colon);
    spec.model_version = static_cast<std::uint32_t>(number);
  }
  auto batch = parse_count(options.batch);
  if (!batch) return usage("--batch: " + batch.error().detail);
  if (*batch == 0 || *batch > UINT32_MAX) return usage(fmt::format("--batch {}: a batch has at least one query", options.batch));
  spec.batch = static_cast<std::uint32_t>(*batch);

  auto weight = parse_weight(options.weight);
  if (!weight) return weight.error();
  spec.weight_milli = *weight;
  if (!options.rate.empty()) {
    auto limit = parse_rate_limit(options.rate);
    if (!limit) return limit.error();
    spec.rate_limit_milli = *limit;
  }
  auto nodes = parse_node_limits(options.nodes);
  if (!nodes) return nodes.error();
  spec.nodes_min = nodes->least;
  spec.nodes_max = nodes->most;
  if (options.follow && options.repeat != 1) return usage("--follow and --repeat: a job can do one of them");
  spec.repeat = options.repeat;
  spec.follow = options.follow;
  spec.urgent = options.urgent;
  if (options.data.empty() || options.data.front() != '/') {
    return usage(fmt::format("--data {}: an SDFS path begins with '/'; `idunno fs put -r DIR /data/NAME` stores local files",
                             options.data));
  }
  spec.data_path = options.data;
  spec.name = options.name.empty() ? spec.model : options.name;
  spec.priority = options.priority;
  spec.top = options.top;
  return spec;
}

Status check_model(Session& session, const JobSpec& spec) {
  ModelListRequest request;
  request.name = spec.model;
  request.all_versions = true;
  auto models = session.metadata().call_and_wait(request);
  if (!models && models.error().code != Errc::not_found) return models.error();
  bool found = false;
  std::string versions;
  if (models) {
    for (const ModelVersion& model : models->models) {
      if (model.name != spec.model) continue;
      found = found || spec.model_version == 0 || model.version == spec.model_version;
      versions += (versions.empty() ? "" : ", ") + std::to_string(model.version);
    }
  }
  if (found) return {};
  if (!versions.empty()) {
    return Error{Errc::not_found,
                 fmt::format("model '{}' has no version {}; it has {}", spec.model, spec.model_version, versions)};
  }
  return Error{Errc::not_found,
               fmt::format("no model '{}'; `idunno model list` shows what is there, `idunno model add` or `model init` adds one",
                           spec.model)};
}

/// The same text gives the same id, so that a submit that is said again is done once.
RequestId request_id(Session& session, const std::string& text) {
  if (text.empty()) return session.rpc().fresh_request_id();
  const Hash128 hash = hash128("submit " + text);
  return RequestId{hash.hi == 0 ? 1 : hash.hi, hash.lo};
}

/// A folder that does not exist yet is as good as an empty one.
Status check_folder(Session& session, const std::string& path) {
  FsStatRequest request;
  request.path = path;
  request.max_blocks = 0;
  auto what = session.metadata().call_and_wait(request);
  if (!what && what.error().code == Errc::not_found) return {};
  if (!what) return what.error();
  if (what->is_folder) return {};
  return Error{Errc::invalid, fmt::format("--follow: {} is a file; a folder can be followed", path)};
}

/// Asks for the job; its manifest goes when there will be none.
Result<JobId> submit_spec(Session& session, const JobSpec& spec, const std::string& id) {
  const auto forget_manifest = [&] {
    if (!spec.manifest_path.empty()) (void)session.metadata().call_and_wait(FsRemoveRequest{{spec.manifest_path}, false});
  };
  auto reply = session.metadata().call_and_wait(SubmitRequest{spec}, request_id(session, id));
  if (!reply) {
    // After a timeout the job may be there; then its manifest must stay.
    if (reply.error().code != Errc::timeout && reply.error().code != Errc::no_coordinator) forget_manifest();
    return reply.error();
  }
  if (!id.empty()) {
    auto report = job_report(session, reply->job);
    if (report && report->spec.manifest_path != spec.manifest_path) forget_manifest();
  }
  return reply->job;
}

}  // namespace

Result<NodeLimits> parse_node_limits(const std::string& text) {
  NodeLimits limits;
  if (text.empty() || text == "any") return limits;
  const auto wrong = [&](const std::string& why) {
    return usage(fmt::format("--nodes {}: {}; 2..4, 2.., ..4, 3 or any are possible", text, why));
  };
  const auto number = [](const std::string& digits) -> std::optional<std::uint32_t> {
    if (digits.empty()) return 0U;
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
    return value;
  };
  const std::size_t dots = text.find("..");
  const auto least = number(text.substr(0, dots));
  const auto most = dots == std::string::npos ? least : number(text.substr(dots + 2));
  if (!least || !most || text == "..") return wrong("is no range of numbers");
  if (*most != 0 && *least > *most) return wrong("the first number is the larger one");
  if (dots == std::string::npos && *most == 0) return wrong("a job needs a node");
  return NodeLimits{*least, *most};
}

std::string node_limits_text(const NodeLimits& limits) {
  if (limits.least == 0 && limits.most == 0) return "any";
  return fmt::format("{}..{}", limits.least == 0 ? "" : std::to_string(limits.least),
                     limits.most == 0 ? "" : std::to_string(limits.most));
}

Result<std::uint32_t> parse_repeat(const std::string& text) {
  if (text == "forever") return 0U;
  auto times = parse_count(text);
  if (!times) return usage("--repeat: " + times.error().detail);
  if (*times == 0 || *times > UINT32_MAX) return usage(fmt::format("--repeat {}: must be a number from 1 on, or forever", text));
  return static_cast<std::uint32_t>(*times);
}

Result<std::uint32_t> parse_weight(const std::string& text) {
  static constexpr double kMin = 0.001;
  static constexpr double kMax = 1000;
  char* end = nullptr;
  const double weight = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !(weight >= kMin && weight <= kMax))
    return usage(fmt::format("--weight {}: must be a number from {} to {}", text, kMin, kMax));
  return static_cast<std::uint32_t>(std::llround(weight * 1000));
}

Result<std::uint32_t> parse_rate_limit(const std::string& text) {
  if (text == "none") return 0U;
  auto rate = parse_rate(text);
  if (!rate) return usage("--rate: " + rate.error().detail);
  const double milli = *rate * 1000;
  if (!(milli >= 1 && milli <= UINT32_MAX))
    return usage(fmt::format("--rate {}: must be from 0.001/s to 4000000/s, or none", text));
  return static_cast<std::uint32_t>(std::llround(milli));
}

Result<JobId> submit_job(Session& session, const SubmitOptions& options) {
  auto parsed = parse_options(options);
  if (!parsed) return parsed.error();
  JobSpec spec = std::move(parsed).value();
  if (auto allowed = check_role(session, Role::submit); !allowed) return allowed.error();
  if (auto model = check_model(session, spec); !model) return model.error();

  if (spec.follow) {
    if (auto folder = check_folder(session, spec.data_path); !folder) return folder.error();
  }
  auto index = index_dataset(session.sdfs(), spec.data_path);
  if (!index && spec.follow && (index.error().code == Errc::not_found || index.error().code == Errc::invalid))
    return submit_spec(session, spec, options.id);  // nothing has come yet
  if (!index) return index.error();
  std::vector<Bytes> pieces = build_manifest(*index, spec.items_per_chunk);
  spec.item_kind = index->kind;
  spec.item_shape = index->item_shape;
  spec.queries = index->items.size();
  // The name is fresh even with --id: a job that runs already keeps the manifest it was submitted with.
  const RequestId fresh = session.rpc().fresh_request_id();
  spec.manifest_path = kManifests + to_hex(fresh.client, fresh.sequence);
  if (auto ready = session.sdfs().refresh_placement(); !ready) return ready.error();
  auto manifest = session.sdfs().put_pieces(spec.manifest_path, std::move(pieces));
  if (!manifest) return manifest.error();
  spec.manifest_version = manifest->version;

  return submit_spec(session, spec, options.id);
}

namespace {

void submit(App& app, SubmitOptions options, const std::string& repeat, bool wait) {
  auto times = parse_repeat(repeat);
  if (!times) return app.fail(times.error(), "submit");
  options.repeat = *times;
  Session* session = app.session();
  if (session == nullptr) return;
  auto job = submit_job(*session, options);
  if (!job) return app.fail(job.error(), "submit");
  if (app.globals.format == Format::json || app.globals.format == Format::jsonl) {
    print_object(app.globals, "idunno.submit.v1", Json{{"id", to_string(*job)}});
  } else {
    fmt::print("{}\n", to_string(*job));
  }
  std::fflush(stdout);
  if (wait) (void)wait_and_tell(app, *session, *job, "submit");
}

}  // namespace

void add_submit_command(CLI::App& root, App& app) {
  auto options = std::make_shared<SubmitOptions>();
  auto wait = std::make_shared<bool>(false);
  auto repeat = std::make_shared<std::string>("1");
  CLI::App* command =
      root.add_subcommand("submit", "start a job: every query of a data set through a model; prints the job's id");
  command->add_option("--model", options->model, "model, or model:version (default: the newest version)")
      ->required()
      ->type_name("M[:V]");
  command->add_option("--data", options->data, "SDFS folder of images, or a tar, IDX or CSV file")
      ->required()
      ->type_name("/PATH");
  command->add_option("--batch", options->batch, "queries in one batch; fixed for the job (default 1)")->type_name("N");
  command->add_option("--name", options->name, "name of the job (default: the model's)")->type_name("NAME");
  command->add_option("--weight", options->weight, "share of the rate compared with other jobs (default 1)")->type_name("W");
  command->add_option("--priority", options->priority, "higher goes first (default 0)")->type_name("P");
  command->add_option("--rate", options->rate, "at most so many queries a second, 100/s")->type_name("N/s");
  command->add_option("--nodes", options->nodes, "at least MIN and at most MAX nodes at a time: 2..4, 2.., ..4 (default any)")
      ->type_name("MIN..MAX");
  command->add_option("--repeat", *repeat, "times the whole data set, or forever: until `job stop` (default 1)")
      ->type_name("N|forever");
  command->add_flag("--follow", options->follow, "images that come to the folder become queries as they land, until `job stop`");
  command->add_option("--id", options->id, "a key of your own: the same key again gives the same job, not a second one")
      ->type_name("KEY");
  command->add_option("--top", options->top, "labels in a result row (default: as the model says)")
      ->check(CLI::Range(1U, 1000U))
      ->type_name("K");
  command->add_flag("--wait", *wait,
                    "wait for the end, with a progress bar; exit code 0 done, 6 failed, 7 stopped, 8 query errors");
  command->callback([&app, options, repeat, wait] { submit(app, *options, *repeat, *wait); });
  command->footer(
      "Example:\n  idunno submit --model resnet18 --data /data/photos --batch 16 --wait\n"
      "  idunno submit --model resnet18 --data /incoming --follow");
}

}  // namespace idunno::cli

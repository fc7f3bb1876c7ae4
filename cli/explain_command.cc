#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "bus/clock.h"
#include "bus/names.h"
#include "bus/units.h"
#include "cli/batch_life.h"
#include "cli/jobs.h"
#include "cli/log_reader.h"
#include "cli/names.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

constexpr char kDoing[] = "job explain";
constexpr Duration kNodeTimeout = std::chrono::seconds(3);
constexpr Duration kCoordinatorTimeout = std::chrono::seconds(5);  ///< without one the nodes and logs still tell much
constexpr std::size_t kBarWidth = 24;

struct Options {
  std::string job;
  std::string batch;
};

struct Computing {
  NodeId node;
  RunningBatch batch;
};

/// All that could be found out.
struct Story {
  JobId job;
  std::int64_t batch = -1;
  std::optional<JobReport> report;
  std::string phase;
  std::vector<Computing> computing;
  NodeId coordinator;
  std::string waits;
  std::vector<BatchStep> steps;
  bool forgotten = false;
  std::vector<NodeId> silent;
};

/// "b17", "17", "j3/b17"
Result<std::int64_t> parse_batch_of(JobId job, std::string text) {
  const Error wrong{Errc::invalid, fmt::format("'{}' is no batch of {}; write it as b17", text, to_string(job))};
  if (const auto slash = text.find('/'); slash != std::string::npos) {
    if (numbered(text.substr(0, slash), 'j') != job.value) return wrong;
    text.erase(0, slash + 1);
  }
  if (text.starts_with("b")) text.erase(0, 1);
  const auto number = parse_count(text);
  if (!number || *number > ~BatchIndex{0}) return wrong;
  return static_cast<std::int64_t>(*number);
}

void ask_nodes(Session& session, Story& story) {
  std::size_t open = 0;
  for (const NodeConfig& node : session.config().nodes) {
    RpcClient::CallOptions options;
    options.timeout = kNodeTimeout;
    ++open;
    session.rpc().call<BatchLivesRequest>(node.id, Service::rpc, {story.job, story.batch}, {}, options,
                                          [&story, &open, id = node.id](Result<RpcReply<BatchLivesReply>> reply, NodeId) {
                                            --open;
                                            if (!reply) {
                                              story.silent.push_back(id);
                                              return;
                                            }
                                            const BatchLivesReply& lives = reply->body;
                                            if (lives.coordinator) {
                                              story.coordinator = id;
                                              story.waits = lives.waits;
                                            }
                                            story.forgotten = story.forgotten || lives.forgotten;
                                            story.steps.insert(story.steps.end(), lives.steps.begin(), lives.steps.end());
                                          });
  }
  // Each call ends by its own timeout.
  (void)session.loop().run_until([&open] { return open == 0; }, kNever);
}

Status read_logs(Session& session, Story& story) {
  LogSearchRequest what;
  what.pattern = "event=(batch_|query_quarantined|trial_passed)";
  what.job = story.job;
  what.batch = story.batch;
  std::vector<NodeId> nodes;
  for (const NodeConfig& node : session.config().nodes) nodes.push_back(node.id);
  LogReader reader(session, what, nodes, kNodeTimeout);
  std::vector<BatchStep> logged;
  const Status read = reader.read([&](const MergedLine& line) {
    if (logged.size() >= kBatchStepsMax) return;
    if (auto step = step_of(line)) logged.push_back(std::move(*step));
  });
  story.steps = whole_life(std::move(story.steps), logged);
  return read;
}

/// The coordinator knows the job; without one the rest is told all the same.
Status ask_coordinator(Session& session, Story& story) {
  MetadataClient::CallOptions options;
  options.timeout = kCoordinatorTimeout;
  std::optional<Result<JobReportsReply>> reports;
  std::optional<Result<StatusReply>> status;
  JobReportsRequest request;
  request.jobs.push_back(story.job);
  session.metadata().call<JobReportsRequest>(
      request, [&](Result<JobReportsReply> reply) { reports = std::move(reply); }, options);
  session.metadata().call<StatusRequest>(
      {}, [&](Result<StatusReply> reply) { status = std::move(reply); }, options);
  (void)session.loop().run_until([&] { return reports && status; }, kNever);
  if (!*reports) return reports->error();
  if (reports->value().jobs.empty()) {
    return Error{Errc::not_found, "there is no " + to_string(story.job) + "; `idunno job list` shows all"};
  }
  story.report = reports->value().jobs.front();
  if (*status) {
    story.phase = status->value().phase;
    for (const NodeReport& node : status->value().nodes) {
      for (const RunningBatch& batch : node.running_batches) {
        if (batch.lease.job == story.job) story.computing.push_back({node.id, batch});
      }
    }
  }
  return {};
}

Json story_json(const Story& story) {
  Json json;
  json["id"] = to_string(story.job);
  if (story.report) {
    const JobReport& job = *story.report;
    json["state"] = to_string(job.state);
    json["kind"] = to_string(job.spec.kind);
    json["done"] = job.done;
    json["total"] = job.total == 0 ? Json(nullptr) : Json(job.total);
    json["rate_qps"] = from_milli(job.rate_milli_qps);
    json["leased_batches"] = job.leased;
    json["nodes"] = Json::array();
    for (const NodeId node : job.nodes) json["nodes"].push_back(to_string(node));
  }
  json["phase"] = story.phase.empty() ? Json(nullptr) : Json(story.phase);
  json["coordinator"] = story.coordinator ? Json(to_string(story.coordinator)) : Json(nullptr);
  json["waits"] = story.waits.empty() ? Json(nullptr) : Json(story.waits);
  json["computing"] = Json::array();
  for (const Computing& now : story.computing) {
    Json entry;
    entry["node"] = to_string(now.node);
    entry["batch"] = now.batch.lease.batch;
    entry["attempt"] = now.batch.lease.attempt;
    entry["elapsed_ms"] = now.batch.elapsed_ms;
    json["computing"].push_back(std::move(entry));
  }
  json["batch"] = story.batch < 0 ? Json(nullptr) : Json(story.batch);
  json["summary"] = story.batch < 0 ? Json(nullptr) : Json(life_text(story.steps));
  json["steps"] = Json::array();
  for (const BatchStep& step : story.steps) json["steps"].push_back(step_json(step));
  json["silent_nodes"] = Json::array();
  for (const NodeId node : story.silent) json["silent_nodes"].push_back(to_string(node));
  return json;
}

void say(const std::string& name, const std::string& text) {
  std::fputs(printable(fmt::format("{:<10} {}", name, text)).c_str(), stdout);
  std::fputs("\n", stdout);
}

void print_job(const Story& story) {
  const JobReport& job = *story.report;
  say("job", fmt::format("{}  {}", to_string(story.job), job.spec.name));
  std::string state = to_string(job.state);
  if (!story.phase.empty()) state += fmt::format("  ({} job; the cluster's phase is {})", to_string(job.spec.kind), story.phase);
  say("state", state);
  const std::string of = job.total == 0 ? "" : fmt::format(" of {}", job.total);
  say("progress", fmt::format("{}{} queries, {:.1f}/s over the last 10 s, {} batches out at {} nodes", job.done, of,
                              from_milli(job.rate_milli_qps), job.leased, job.nodes.size()));
  if (story.coordinator) {
    say("waits", story.waits.empty() ? "no: nothing holds it up" : story.waits);
  } else {
    say("waits", "not known: no coordinator answers about it now");
  }
  static constexpr std::size_t kShownMax = 8;
  std::size_t shown = 0;
  for (const Computing& now : story.computing) {
    if (++shown > kShownMax) {
      say("", fmt::format("and {} more", story.computing.size() - kShownMax));
      break;
    }
    say(shown == 1 ? "computing" : "",
        fmt::format("{} computes {} for {} now", to_string(now.node), batch_name(story.job, now.batch.lease.batch),
                    format_duration(std::chrono::milliseconds(now.batch.elapsed_ms))));
  }
}

void print_steps(const Story& story) {
  if (story.steps.empty()) return;
  const std::vector<std::string> bars = life_bars(story.steps, story.batch < 0 ? 0 : kBarWidth);
  std::size_t node_width = 4;
  for (const BatchStep& step : story.steps) node_width = std::max(node_width, to_string(step.node).size());
  const std::string bar_title = bars.empty() ? "" : fmt::format("  {:<{}}", "WHEN", kBarWidth);
  std::fputs(fmt::format("\n{:<12}  {:<{}}  {:<7}  {:<9}  {:>9}{}  {}\n", "TIME (UTC)", "NODE", node_width, "ATTEMPT", "STEP",
                         "TOOK", bar_title, "WHY")
                 .c_str(),
             stdout);
  for (std::size_t i = 0; i < story.steps.size(); ++i) {
    const BatchStep& step = story.steps[i];
    const std::string took = step.took_us == 0 ? "" : format_duration(std::chrono::microseconds(step.took_us));
    const std::string at = rfc3339(step.at_ms);
    std::string line =
        fmt::format("{:<12}  {:<{}}  {:<7}  {:<9}  {:>9}{}  {}", at.size() > 12 ? at.substr(11, 12) : at, to_string(step.node),
                    node_width, step.attempt + 1, step.what, took, bars.empty() ? "" : "  " + bars[i], step.text);
    while (!line.empty() && line.back() == ' ') line.pop_back();
    std::fputs((printable(line) + "\n").c_str(), stdout);
  }
}

void explain(App& app, const Options& options) {
  Session* session = app.session();
  if (session == nullptr) return;
  Story story;
  story.job = JobId{numbered(options.job, 'j')};
  if (!story.job) {
    auto found = resolve_job(*session, options.job);
    if (!found) return app.fail(found.error(), kDoing);
    story.job = *found;
  }
  if (!options.batch.empty()) {
    const auto batch = parse_batch_of(story.job, options.batch);
    if (!batch) return app.fail(batch.error(), kDoing);
    story.batch = *batch;
  }
  const Status known = ask_coordinator(*session, story);
  // Of a batch the nodes and their logs know also without a coordinator; of a job they do not know enough.
  if (!known && (story.batch < 0 || exit_code_of(known.error().code) != kNoCoordinator)) {
    if (known.error().code != Errc::timeout || story.batch < 0) return app.fail(known.error(), kDoing);
  }
  if (story.report && story.batch >= 0 && story.report->total > 0 && story.report->spec.batch > 0 && !story.report->spec.follow &&
      static_cast<std::uint64_t>(story.batch) * story.report->spec.batch >= story.report->total) {
    return app.fail(Error{Errc::not_found, fmt::format("{} has no batch {}: {} queries in batches of {}", to_string(story.job),
                                                       story.batch, story.report->total, story.report->spec.batch)},
                    kDoing);
  }
  ask_nodes(*session, story);
  std::ranges::stable_sort(story.steps, {}, &BatchStep::at_ms);
  if (story.batch >= 0) {
    if (Status read = read_logs(*session, story); !read) app.note("the logs could not be searched: " + read.error().detail);
  }
  if (!known) app.note("no coordinator answers: " + known.error().detail);
  if (!story.silent.empty()) {
    std::string names;
    for (const NodeId node : story.silent) names += (names.empty() ? "" : ", ") + to_string(node);
    app.note("not asked, no answer: " + names + (story.batch >= 0 ? " (what others keep of their logs was read)" : ""));
  }
  if (app.globals.format != Format::table) return print_object(app.globals, "idunno.job_explain.v1", story_json(story));
  if (story.report) print_job(story);
  if (story.batch >= 0) {
    std::fputs("\n", stdout);
    say(batch_name(story.job, static_cast<BatchIndex>(story.batch)), life_text(story.steps));
  }
  print_steps(story);
}

}  // namespace

void add_explain_command(CLI::App& job, App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = job.add_subcommand("explain", "why a job waits, who computes what, and the life of one batch");
  command->add_option("job", options->job, "id or name")->required()->type_name("J");
  command->add_option("--batch", options->batch, "the life of this batch: leased, fetched, started, inferred, stored, committed")
      ->type_name("B");
  command->callback([&app, options] { explain(app, *options); });
  command->footer("Example:\n  idunno job explain j12\n  idunno job explain j12 --batch b47");
}

}  // namespace idunno::cli

#include <fmt/core.h>

#include <functional>

#include "cli/job_results_commands.h"
#include "cli/jobs.h"
#include "cli/reports.h"
#include "cli/text.h"

namespace idunno::cli {

namespace {

std::string done_text(const JobReport& job) {
  return total_of(job) == 0 ? std::to_string(job.done) : fmt::format("{}/{}", job.done, total_of(job));
}

void list(App& app) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto reports = session->metadata().call_and_wait(JobReportsRequest{});
  if (!reports) return app.fail(reports.error(), "job list");
  Listing listing("idunno.jobs.v1", "jobs",
                  {{"id", "JOB"},
                   {"name", "NAME"},
                   {"model", "MODEL"},
                   {"state", "STATE"},
                   {"total", ""},
                   {"done", "DONE", true},
                   {"errors", "ERRORS", true},
                   {"rate_qps", "RATE/s", true},
                   {"eta_s", "ETA", true},
                   {"submitted_at", "SUBMITTED"},
                   {"reason", "REASON"}});
  for (const JobReport& job : reports->jobs) {
    const Json json = job_detail_json(job);
    listing.add({{json["id"], ""},
                 {json["name"], ""},
                 {json["model"], fmt::format("{}:{}", job.spec.model, job.spec.model_version)},
                 {json["state"], ""},
                 {json["total"], ""},
                 {json["done"], done_text(job)},
                 {json["errors"], ""},
                 {json["rate_qps"], fmt::format("{:.1f}", from_milli(job.rate_milli_qps))},
                 {json["eta_s"], is_over(job.state) ? "-" : eta_text(eta_seconds(job))},
                 {json["submitted_at"], ""},
                 {json["reason"], job.reason.empty() ? " " : job.reason}});
  }
  listing.print(app.globals);
}

/// What several commands take: jobs by id or name; calls `act` for each, and stops at the first that fails.
void for_each_job(App& app, const std::vector<std::string>& names, const std::string& doing,
                  const std::function<bool(Session&, JobId)>& act) {
  Session* session = app.session();
  if (session == nullptr) return;
  for (const std::string& name : names) {
    auto id = resolve_job(*session, name);
    if (!id) return app.fail(id.error(), doing);
    if (!act(*session, *id)) return;
  }
}

void show(App& app, const std::string& name) {
  for_each_job(app, {name}, "job show", [&](Session& session, JobId id) {
    auto report = job_report(session, id);
    if (!report) {
      app.fail(report.error(), "job show");
      return false;
    }
    print_object(app.globals, "idunno.job.v1", job_detail_json(*report));
    return true;
  });
}

void wait(App& app, const std::string& name) {
  for_each_job(app, {name}, "job wait", [&](Session& session, JobId id) {
    const auto report = wait_and_tell(app, session, id, "job wait");
    if (report && app.globals.format != Format::table) print_object(app.globals, "idunno.job.v1", job_detail_json(*report));
    return true;
  });
}

void control(App& app, const std::vector<std::string>& names, JobAction action, const std::string& verb) {
  Listing listing("idunno.job_control.v1", "jobs", {{"id", "JOB"}, {"state", "STATE"}});
  const std::string doing = "job " + verb;
  for_each_job(app, names, doing, [&](Session& session, JobId id) {
    auto reply = session.metadata().call_and_wait(JobControlRequest{id, action});
    if (!reply) {
      app.fail(reply.error(), doing + " " + to_string(id));
      return false;
    }
    listing.add({{to_string(id), ""}, {action == JobAction::remove ? "removed" : to_string(reply->state), ""}});
    return true;
  });
  if (app.exit_code == kDone) listing.print(app.globals);
}

struct SetOptions {
  std::string job;
  std::string weight;
  std::string rate;
  std::string nodes;
  std::optional<std::int32_t> priority;
};

void set(App& app, const SetOptions& options) {
  static constexpr char kDoing[] = "job set";
  if (options.weight.empty() && options.rate.empty() && options.nodes.empty() && !options.priority) {
    return app.usage("job set: nothing to set; give --weight, --rate, --priority or --nodes", "see `idunno job set --help`");
  }
  auto limits = parse_node_limits(options.nodes);
  if (!limits) return app.fail(limits.error(), kDoing);
  JobSetRequest request;
  if (!options.weight.empty()) {
    auto weight = parse_weight(options.weight);
    if (!weight) return app.fail(weight.error(), kDoing);
    request.weight_milli = *weight;
  }
  if (!options.rate.empty()) {
    auto limit = parse_rate_limit(options.rate);
    if (!limit) return app.fail(limit.error(), kDoing);
    request.rate_limit_milli = *limit;
  }
  for_each_job(app, {options.job}, kDoing, [&](Session& session, JobId id) {
    auto before = job_report(session, id);
    if (!before) {
      app.fail(before.error(), kDoing);
      return false;
    }
    request.job = id;
    if (options.weight.empty()) request.weight_milli = before->spec.weight_milli;
    if (options.rate.empty()) request.rate_limit_milli = before->spec.rate_limit_milli;
    request.priority = options.priority.value_or(before->spec.priority);
    if (options.nodes.empty()) limits = NodeLimits{before->spec.nodes_min, before->spec.nodes_max};
    request.nodes_min = limits->least;
    request.nodes_max = limits->most;
    auto reply = session.metadata().call_and_wait(request);
    if (!reply) {
      app.fail(reply.error(), fmt::format("{} {}", kDoing, to_string(id)));
      return false;
    }
    Json out = Json::object();
    out["id"] = to_string(id);
    out["weight"] = from_milli(request.weight_milli);
    out["rate_limit_qps"] = request.rate_limit_milli == 0 ? Json(nullptr) : Json(from_milli(request.rate_limit_milli));
    out["priority"] = request.priority;
    out["nodes_min"] = request.nodes_min;
    out["nodes_max"] = request.nodes_max == 0 ? Json(nullptr) : Json(request.nodes_max);
    print_object(app.globals, "idunno.job_set.v1", out);
    return true;
  });
}

}  // namespace

void add_job_commands(CLI::App& root, App& app) {
  CLI::App* job = root.add_subcommand("job", "jobs: look, wait, stop, read results");
  job->require_subcommand(1);
  job->footer("Example:\n  idunno job list\n  idunno job results j12 -O rows.csv\n  idunno job verify j12");

  CLI::App* list_command = job->add_subcommand("list", "all jobs");
  list_command->callback([&app] { list(app); });
  list_command->footer("Example:\n  idunno job list --json | jq -r '.jobs[].id'");

  const auto one_job = [&](const char* name, const char* what, const char* example, auto act) {
    auto text = std::make_shared<std::string>();
    CLI::App* command = job->add_subcommand(name, what);
    command->add_option("job", *text, "id or name")->required()->type_name("J");
    command->callback([&app, text, act] { act(app, *text); });
    command->footer(std::string("Example:\n  ") + example);
  };
  one_job("show", "everything about a job", "idunno job show j12", show);
  one_job("wait", "wait for the end; exit code 0 done, 6 failed, 7 stopped, 8 query errors, 5 --timeout passed",
          "idunno job wait j12 --timeout 10m", wait);

  const auto control_command = [&](const char* name, const char* what, JobAction action) {
    auto texts = std::make_shared<std::vector<std::string>>();
    CLI::App* command = job->add_subcommand(name, what);
    command->add_option("job", *texts, "ids or names")->required()->type_name("J...");
    const std::string verb = name;
    command->callback([&app, texts, action, verb] { control(app, *texts, action, verb); });
    command->footer(fmt::format("Example:\n  idunno job {} j12", verb));
  };
  control_command("stop", "end a job before its time; what is done stays readable", JobAction::stop);
  control_command("pause", "start no more batches until resumed", JobAction::pause);
  control_command("resume", "go on with a paused job", JobAction::resume);
  control_command("remove", "forget a finished job and delete its results", JobAction::remove);

  auto options = std::make_shared<SetOptions>();
  CLI::App* set_command = job->add_subcommand("set", "change weight, rate limit, priority or node limits while it runs");
  set_command->add_option("job", options->job, "id or name")->required()->type_name("J");
  set_command->add_option("--weight", options->weight, "share of the rate compared with other jobs")->type_name("W");
  set_command->add_option("--rate", options->rate, "at most so many queries a second, 100/s; none = no limit")->type_name("N/s");
  set_command->add_option("--priority", options->priority, "higher goes first")->type_name("P");
  set_command
      ->add_option("--nodes", options->nodes, "at least MIN and at most MAX nodes at a time: 2..4, 2.., ..4; any = no limit")
      ->type_name("MIN..MAX");
  set_command->callback([&app, options] { set(app, *options); });
  set_command->footer("Example:\n  idunno job set j12 --weight 2 --rate 100/s --nodes 2..4");

  add_job_results_commands(*job, app);
  add_explain_command(*job, app);
}

}  // namespace idunno::cli

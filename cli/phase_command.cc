/// `idunno phase`: whether the cluster trains, infers, or neither.

#include <fmt/core.h>

#include <algorithm>

#include "bus/clock.h"
#include "bus/names.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

void print_phase(App& app, const StatusReply& status, std::size_t waiting) {
  Json out = Json::object();
  out["phase"] = status.phase;
  out["number"] = status.phase_number;
  out["since"] = status.phase_since_ms == 0 ? Json(nullptr) : Json(rfc3339(status.phase_since_ms));
  out["jobs_waiting"] = waiting;
  app.mark_stale(out);
  print_object(app.globals, "idunno.phase.v1", out);
}

/// What `status` says of it, and how many jobs wait for another one.
void show(App& app, const std::string& doing) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto status = session->metadata().call_and_wait(StatusRequest{});
  if (!status) return app.fail(status.error(), doing);
  auto reports = session->metadata().call_and_wait(JobReportsRequest{});
  if (!reports) return app.fail(reports.error(), doing);
  const auto waiting = std::count_if(reports->jobs.begin(), reports->jobs.end(),
                                     [](const JobReport& job) { return job.state == JobState::queued; });
  print_phase(app, *status, static_cast<std::size_t>(waiting));
  app.note_stale();
}

void change(App& app, Phase phase, const std::string& doing) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto reply = session->metadata().call_and_wait(PhaseRequest{phase});
  if (!reply) return app.fail(reply.error(), doing);
  show(app, doing);
}

}  // namespace

void add_phase_command(CLI::App& root, App& app) {
  CLI::App* phase = root.add_subcommand("phase", "whether the cluster trains, infers, or neither; jobs of another kind wait");
  phase->require_subcommand(0, 1);
  phase->footer("Example:\n  idunno phase\n  idunno phase stop\n  idunno phase start inference");
  phase->callback([&app, phase] {
    if (phase->get_subcommands().empty()) show(app, "phase status");
  });
  CLI::App* status = phase->add_subcommand("status", "the phase, its number, and since when");
  add_stale_flag(*status, app);
  status->callback([&app] { show(app, "phase status"); });
  status->footer("Example:\n  idunno phase status --json | jq -r .phase");

  CLI::App* start = phase->add_subcommand("start", "begin a phase; exit code 9 while another one is on");
  auto wanted = std::make_shared<std::string>();
  start->add_option("phase", *wanted, "training or inference")
      ->required()
      ->check(CLI::IsMember({"training", "inference"}))
      ->type_name("training|inference");
  start->callback(
      [&app, wanted] { change(app, *wanted == "training" ? Phase::training : Phase::inference, "phase start " + *wanted); });
  start->footer("Example:\n  idunno phase start training");

  CLI::App* stop =
      phase->add_subcommand("stop", "end the phase: no job gets work until one is started; what is half done is done again");
  stop->callback([&app] { change(app, Phase::none, "phase stop"); });
  stop->footer("Example:\n  idunno phase stop && idunno phase start training");
}

}  // namespace idunno::cli

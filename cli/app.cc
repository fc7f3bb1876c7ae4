#include "cli/app.h"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "cli/names.h"

namespace idunno::cli {

ExitCode exit_code_of(Errc code) {
  switch (code) {
    case Errc::invalid:
    case Errc::too_large:
      return kUsage;
    case Errc::not_found:
      return kNotFound;
    case Errc::no_coordinator:
    case Errc::unavailable:
    case Errc::not_leader:
    case Errc::stale_epoch:
      return kNoCoordinator;
    case Errc::timeout:
      return kTimedOut;
    case Errc::conflict:
      return kNotNow;
    case Errc::forbidden:
      return kNotAllowed;
    case Errc::damaged:
      return kDamaged;
    case Errc::internal:
    case Errc::full:
    case Errc::cancelled:
      return kFailed;
  }
  return kFailed;
}

bool stdout_is_terminal() { return isatty(STDOUT_FILENO) == 1; }
bool stderr_is_terminal() { return isatty(STDERR_FILENO) == 1; }

bool colours() {
  const char* no_color = std::getenv("NO_COLOR");
  return stdout_is_terminal() && (no_color == nullptr || *no_color == '\0');
}

namespace {

bool nobody_answered(Errc code) {
  return code == Errc::no_coordinator || code == Errc::unavailable || code == Errc::not_leader || code == Errc::stale_epoch;
}

/// One line on stderr; what came from elsewhere must not smuggle in line breaks or terminal commands.
void say(const std::string& line) {
  std::fflush(stdout);
  std::fputs(("idunno: " + printable(line) + "\n").c_str(), stderr);
}

}  // namespace

Session* App::session() {
  if (session_) return session_.get();
  auto opened = Session::open(globals);
  if (!opened) {
    fail(opened.error(), "");
    return nullptr;
  }
  session_ = std::move(opened).value();
  return session_.get();
}

void App::fail(const Error& error, const std::string& doing, const std::string& next) {
  exit_code = exit_code_of(error.code);
  std::string why = error.detail.empty() ? "failed" : error.detail;
  std::string hint = next;
  if (session_ && nobody_answered(error.code)) {
    if (why.find("tcp://") == std::string::npos) why += " (tried " + addresses_of(session_->config()) + ")";
    if (hint.empty()) hint = "is the cluster up? `idunno up` starts a local one; --config names another, --timeout waits longer";
  }
  if (session_ && error.code == Errc::forbidden && hint.empty()) {
    const bool named = why.find("has the role") != std::string::npos;
    hint =
        (named ? ""
               : fmt::format("the key in use is '{}' with role {}; ", session_->keys().name, to_string(session_->keys().role))) +
        "name another with --key, or see `idunno keys list`";
  }
  const bool said = doing.empty() || why.compare(0, doing.size() + 2, doing + ": ") == 0;
  say(said ? why : doing + ": " + why);
  if (!hint.empty()) say(hint);
}

void App::usage(const std::string& what, const std::string& next) {
  exit_code = kUsage;
  say(what);
  if (!next.empty()) say(next);
}

void App::note(const std::string& line) const {
  if (globals.quiet) return;
  std::fflush(stdout);
  std::fputs((printable(line) + "\n").c_str(), stderr);
}

void App::note_stale() const {
  if (session_ && session_->metadata().stale_answers() > 0)
    note("idunno: possibly old: answered by a node that does not lead (--stale)");
}

void App::mark_stale(Json& output) const {
  if (!globals.stale) return;
  output["stale"] = session_ && session_->metadata().stale_answers() > 0;
  note_stale();
}

void add_stale_flag(CLI::App& command, App& app) {
  command.add_flag("--stale", app.globals.stale,
                   "any node that keeps the job log may answer, without asking the coordinator: possibly old, and marked so");
}

}  // namespace idunno::cli

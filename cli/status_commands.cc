/// `idunno status` and `idunno member`.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "bus/clock.h"
#include "bus/swim_messages.h"
#include "bus/units.h"
#include "cli/reports.h"

namespace idunno::cli {

namespace {

/// After so long without a coordinator `status` shows what a single node knows, unless --timeout says otherwise.
constexpr Duration kCoordinatorLimit = std::chrono::seconds(5);
constexpr Duration kMemberLimit = std::chrono::seconds(2);  ///< of one node's answer

// ---- status ---------------------------------------------------------------------------------------------------------

std::string names_of(const std::vector<NodeId>& nodes) {
  std::string text;
  for (const NodeId node : nodes) text += (text.empty() ? "" : " ") + to_string(node);
  return text.empty() ? "none" : text;
}

std::string standby_text(const StatusReply& status) {
  if (status.standby) return to_string(status.standby);
  return status.voters.size() > 1 ? "none has caught up" : "none: with one voter there is no failover";
}

std::string status_text(const StatusReply& status) {
  std::string out;
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("{:<12} {}\n", name, value); };
  unsigned alive = 0;
  for (const NodeReport& node : status.nodes) alive += node.state == NodeState::alive ? 1 : 0;
  std::string health = healthy(status) ? "healthy" : "NOT HEALTHY";
  if (colours()) health = (healthy(status) ? "\x1b[32m" : "\x1b[31m") + health + "\x1b[0m";
  line("health", fmt::format("{}, {} of {} nodes alive", health, alive, status.nodes.size()));
  line("coordinator", status.coordinator ? to_string(status.coordinator) : "none");
  line("standby", standby_text(status));
  line("voters", names_of(status.voters) + (status.learners.empty() ? "" : "; spare: " + names_of(status.learners)));
  line("epoch", fmt::format("{}, log index {}", status.epoch.value, status.log_index));
  line("phase", fmt::format("{}, number {}", status.phase, status.phase_number) +
                    (status.phase_since_ms == 0 ? "" : ", since " + rfc3339(status.phase_since_ms)));
  line("jobs", fmt::format("{} running", status.jobs_running));
  line("sdfs", fmt::format("{} files, {} blocks, {}; {} under-replicated", status.files, status.blocks,
                           format_size(status.logical_bytes), status.under_replicated_blocks));
  if (status.refused_keys > 0 || status.refused_messages > 0) {
    line("refused", fmt::format("{} connections with keys that are not admitted, {} messages, at {}", status.refused_keys,
                                status.refused_messages, to_string(status.answered_by)));
  }
  for (const std::string& alarm : status.alarms) line("ALARM", alarm);
  return out + "\n";
}

void print_status(const App& app, const StatusReply& reply, std::optional<bool> stale) {
  if (app.globals.format == Format::json || app.globals.format == Format::jsonl) {
    Json json = status_json(reply);
    if (stale) json["stale"] = *stale;
    return print_object(app.globals, "idunno.status.v1", json);
  }
  if (app.globals.format == Format::table) std::fputs(status_text(reply).c_str(), stdout);
  nodes_listing(reply, "idunno.status.v1").print(app.globals);
}

void status(App& app) {
  Session* session = app.session();
  if (session == nullptr) return;
  MetadataClient& metadata = session->metadata();
  MetadataClient::CallOptions options;
  if (!app.globals.timeout_given) options.timeout = std::min(app.globals.timeout, kCoordinatorLimit);
  auto reply = metadata.call_and_wait(StatusRequest{}, options);
  if (reply) {
    std::optional<bool> stale;
    if (app.globals.stale) stale = metadata.stale_answers() > 0;
    print_status(app, *reply, stale);
    return app.note_stale();
  }
  if (exit_code_of(reply.error().code) != kNoCoordinator && reply.error().code != Errc::timeout)
    return app.fail(reply.error(), "status");
  // Nobody leads: what one node that keeps the log knows is better than nothing.
  options.stale = true;
  options.timeout = std::min(app.globals.timeout, kCoordinatorLimit);
  auto known = metadata.call_and_wait(StatusRequest{}, options);
  if (known) {
    // Whoever it takes for the coordinator does not answer.
    known->coordinator = {};
    known->standby = {};
    print_status(app, *known, true);
    app.note("no coordinator: this is what " + to_string(known->answered_by) + " knows, possibly old");
  }
  app.fail(reply.error(), "status");
  app.exit_code = kNoCoordinator;
}

// ---- members --------------------------------------------------------------------------------------------------------

/// One node's answer, whoever leads.
template <class Req>
Result<typename Req::Reply> ask_node(Session& session, NodeId node, const Req& request) {
  using Answer = Result<RpcReply<typename Req::Reply>>;
  auto answer = std::make_shared<std::optional<Answer>>();
  RpcClient::CallOptions options;
  options.timeout = kMemberLimit;
  session.rpc().call(node, Service::rpc, request, {}, options,
                     std::function<void(Answer, NodeId)>([answer](Answer got, NodeId) { *answer = std::move(got); }));
  (void)session.loop().run_until([&] { return answer->has_value(); }, monotonic_now() + 2 * kMemberLimit);
  if (!answer->has_value()) return Error{Errc::timeout, "no answer from " + to_string(node)};
  if (!**answer) return (*answer)->error();
  return std::move((*answer)->value().body);
}

/// The node that is named, else the first that answers.
template <class Req>
Result<typename Req::Reply> ask_members(Session& session, const std::string& from, const Req& request) {
  if (!from.empty()) {
    auto node = parse_node(from, session.config());
    if (!node) return node.error();
    return ask_node(session, *node, request);
  }
  Result<typename Req::Reply> last = Error{Errc::unavailable, "there are no nodes"};
  for (const NodeConfig& node : session.config().nodes) {
    last = ask_node(session, node.id, request);
    if (last || exit_code_of(last.error().code) == kNotAllowed) return last;
  }
  return last;
}

void member_list(App& app, const std::string& from) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto reply = ask_members(*session, from, MemberListRequest{});
  if (!reply) return app.fail(reply.error(), "member list");
  Listing listing("idunno.members.v1", "members",
                  {{"id", "NODE"},
                   {"state", "STATE"},
                   {"since", "SINCE"},
                   {"incarnation", "INCARNATION", true},
                   {"refutations", "REFUTED", true},
                   {"address", "ADDRESS"}});
  for (const MemberEntry& member : reply->members) {
    const NodeConfig* node = session->config().node(member.id);
    listing.add({{to_string(member.id), ""},
                 {to_string(member.state), ""},
                 {member.since_ms == 0 ? Json(nullptr) : Json(rfc3339(member.since_ms)), ""},
                 {member.incarnation.value, ""},
                 {member.refutations, ""},
                 {node == nullptr ? Json(nullptr) : Json(fmt::format("{}:{}", node->host, node->base_port)), ""}});
  }
  listing.extra["from"] = to_string(reply->answered_by);
  listing.extra["awareness"] = reply->awareness;
  listing.footer = "as " + to_string(reply->answered_by) + " sees it";
  if (reply->awareness > 0) listing.footer += fmt::format(", which is slow itself (awareness {})", reply->awareness);
  listing.print(app.globals);
}

void member_history(App& app, const std::string& from, std::uint32_t last) {
  Session* session = app.session();
  if (session == nullptr) return;
  auto reply = ask_members(*session, from, MemberHistoryRequest{last});
  if (!reply) return app.fail(reply.error(), "member history");
  Listing listing("idunno.member_history.v1", "events",
                  {{"at", "TIME"},
                   {"id", "NODE"},
                   {"before", "BEFORE"},
                   {"state", "STATE"},
                   {"incarnation", "INCARNATION", true},
                   {"why", "WHY"}});
  for (const MemberEvent& event : reply->events) {
    listing.add({{rfc3339(event.at_ms), ""},
                 {to_string(event.node), ""},
                 {to_string(event.from), ""},
                 {to_string(event.to), ""},
                 {event.incarnation.value, ""},
                 {event.why, ""}});
  }
  listing.extra["from"] = to_string(reply->answered_by);
  listing.footer = "as " + to_string(reply->answered_by) + " saw it";
  listing.print(app.globals);
}

}  // namespace

void add_status_commands(CLI::App& root, App& app) {
  CLI::App* status_command = root.add_subcommand("status", "health, coordinator, nodes, jobs, storage");
  add_stale_flag(*status_command, app);
  status_command->callback([&app] { status(app); });
  status_command->footer("Example:\n  idunno status --json | jq .healthy");

  CLI::App* member = root.add_subcommand("member", "membership: who is alive, suspected, dead, and since when");
  member->require_subcommand(0, 1);
  member->footer("Example:\n  idunno member\n  idunno member list --from n3");
  auto from = std::make_shared<std::string>();
  const auto add_from = [from](CLI::App* command) {
    command->add_option("--from", *from, "as this node sees it (default: the first that answers)")->type_name("N");
  };
  member->callback([&app, member, from] {
    if (member->get_subcommands().empty()) member_list(app, *from);
  });
  CLI::App* list = member->add_subcommand("list", "all members as one node sees them");
  add_from(list);
  list->callback([&app, from] { member_list(app, *from); });
  list->footer("Example:\n  idunno member list --from n3");
  auto last = std::make_shared<std::uint32_t>(0);
  CLI::App* history =
      member->add_subcommand("history", "who joined, left, was suspected, died and came back, as one node saw it");
  add_from(history);
  history->add_option("-n,--last", *last, "only the last N changes")->check(CLI::Range(1U, ~0U))->type_name("N");
  history->callback([&app, from, last] { member_history(app, *from, *last); });
  history->footer("Example:\n  idunno member history --from n3 --last 20");
}

}  // namespace idunno::cli

#include "cli/experiments/result.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <set>

#include "bus/clock.h"
#include "bus/units.h"
#include "cli/failover_rounds.h"
#include "cli/model_store.h"

namespace idunno::cli {

namespace {

constexpr char kSchema[] = "idunno.experiment.v1";
constexpr std::uint64_t kResultBytesMax = 64U << 20U;
constexpr std::size_t kCasesInLongTable = 2;

double seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }

Json case_json(const CaseResult& one) {
  Json out = Json::object();
  out["name"] = one.about.name;
  out["nodes"] = one.about.nodes;
  out["slots"] = one.about.slots;
  out["policy"] = one.about.policy.empty() ? Json(nullptr) : Json(one.about.policy);
  out["duration_s"] = seconds(one.about.duration);
  if (one.about.load > 0) out["load"] = one.about.load;
  if (!one.about.group.empty()) out["group"] = one.about.group;
  out["jobs"] = Json::array();
  for (const ExpJob& job : one.about.jobs) {
    out["jobs"].push_back(
        {{"name", job.name}, {"model", job.model}, {"batch", job.batch}, {"weight", job.weight}, {"at_s", seconds(job.at)}});
  }
  out["actions"] = Json::array();
  for (const ExpAction& action : one.about.actions)
    out["actions"].push_back({{"name", action.name}, {"at_s", seconds(action.at)}, {"who", action.who}});
  std::map<std::string, std::vector<double>> values;
  out["rounds"] = Json::array();
  for (const RoundResult& round : one.rounds) {
    Json figures = Json::object();
    for (const auto& [name, value] : round.figures) {
      figures[name] = value;
      values[name].push_back(value);
    }
    out["rounds"].push_back({{"figures", figures}, {"notes", round.notes}});
  }
  std::vector<std::string> names;
  for (const auto& [name, list] : values) names.push_back(name);
  out["figures"] = Json::object();
  for (const std::string& name : in_table_order(names)) {
    const Summary summary = summary_of(values[name]);
    out["figures"][name] = {{"what", figure_text(name).what},
                            {"rounds", one.rounds.size()},
                            {"measured", summary.count},
                            {"mean", summary.mean},
                            {"sd", summary.sd},
                            {"min", summary.min},
                            {"max", summary.max}};
  }
  return out;
}

/// Every case a limit holds for, judged; a figure that some round lacks is missed.
Json wanted_json(const Experiment& experiment, const Json& cases) {
  Json out = Json::array();
  for (const ExpWanted& wanted : experiment.wanted) {
    for (const Json& one : cases) {
      const auto name = one["name"].get<std::string>();
      if (!wanted.cases.empty() && std::find(wanted.cases.begin(), wanted.cases.end(), name) == wanted.cases.end()) continue;
      Json row = {{"case", name}, {"figure", wanted.figure}, {"of", wanted.of}};
      for (const auto& [end, limit] : wanted.limit) row[end] = limit;
      if (!wanted.text.empty()) row["text"] = wanted.text;
      const Json& figures = one["figures"];
      row["value"] = nullptr;
      row["met"] = false;
      if (figures.contains(wanted.figure)) {
        const Json& figure = figures[wanted.figure];
        const auto value = figure[wanted.of].get<double>();
        row["value"] = value;
        bool met = figure["measured"] == figure["rounds"];
        const auto min = wanted.limit.find("min");
        const auto max = wanted.limit.find("max");
        met = met && (min == wanted.limit.end() || value >= min->second) && (max == wanted.limit.end() || value <= max->second);
        row["met"] = met;
      }
      out.push_back(std::move(row));
    }
  }
  return out;
}

std::string limit_text(const Json& wanted) {
  std::string out;
  if (wanted.contains("min")) out += "at least " + number_text(wanted["min"].get<double>());
  if (wanted.contains("max"))
    out += (out.empty() ? "" : ", ") + std::string("at most ") + number_text(wanted["max"].get<double>());
  return out;
}

/// What stands beside a figure of a system: its own words.
std::string beside(const Json& result, const std::string& system, const std::string& figure) {
  for (const Json& one : result["beside"]) {
    if (one["system"] == system && one["figure"] == figure) return one["text"].get<std::string>();
  }
  return "";
}

std::vector<std::string> systems_beside(const Json& result) {
  std::set<std::string> systems;
  for (const Json& one : result["beside"]) systems.insert(one["system"].get<std::string>());
  return {systems.begin(), systems.end()};
}

Listing long_listing(const Json& result) {
  const bool one_case = result["cases"].size() < 2;
  std::vector<Column> columns{{"case", one_case ? "" : "CASE"}, {"figure", "FIGURE"}, {"what", "WHAT"},     {"rounds", "N", true},
                              {"mean", "MEAN", true},           {"sd", "SD", true},   {"min", "MIN", true}, {"max", "MAX", true}};
  const std::vector<std::string> systems = systems_beside(result);
  for (const std::string& system : systems) {
    std::string name = "system_";
    for (const char c : system) name += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    columns.push_back({name, system});
  }
  columns.push_back({"wanted", "WANTED"});
  columns.push_back({"met", "MET"});
  Listing listing(kSchema, "rows", columns);
  for (const Json& one : result["cases"]) {
    for (const auto& [name, figure] : one["figures"].items()) {
      if (!figure_text(name).shown) continue;
      const auto cell = [&](const char* of) -> Listing::Cell { return {figure[of], number_text(figure[of].get<double>())}; };
      std::string rounds = std::to_string(figure["measured"].get<std::size_t>());
      if (figure["measured"] != figure["rounds"]) rounds += fmt::format(" of {}", figure["rounds"].get<std::size_t>());
      std::vector<Listing::Cell> row{{one["name"], ""}, {name, ""}, {figure["what"], ""}, {figure["measured"], rounds},
                                     cell("mean"),      cell("sd"), cell("min"),          cell("max")};
      for (const std::string& system : systems) {
        const std::string text = beside(result, system, name);
        row.push_back({text.empty() ? Json(nullptr) : Json(text), text});
      }
      Listing::Cell wanted{nullptr, ""};
      Listing::Cell met{nullptr, ""};
      for (const Json& limit : result["wanted"]) {
        if (limit["case"] != one["name"] || limit["figure"] != name) continue;
        wanted = {limit_text(limit), (limit["of"] == "mean" ? "" : limit["of"].get<std::string>() + " ") + limit_text(limit)};
        met = {limit["met"], limit["met"].get<bool>() ? "yes" : "NO"};
      }
      row.push_back(wanted);
      row.push_back(met);
      listing.add(std::move(row));
    }
  }
  return listing;
}

/// Names of the shown figures of all cases, in order.
std::vector<std::string> shown_figures(const Json& result) {
  std::set<std::string> names;
  for (const Json& one : result["cases"]) {
    for (const auto& [name, figure] : one["figures"].items()) {
      if (figure_text(name).shown) names.insert(name);
    }
  }
  return in_table_order({names.begin(), names.end()});
}

Listing wide_listing(const Json& result) {
  const std::vector<std::string> names = shown_figures(result);
  std::vector<Column> columns{{"case", "CASE"}, {"rounds", "N", true}};
  for (const std::string& name : names) columns.push_back({name, name, true});
  Listing listing(kSchema, "rows", columns);
  for (const Json& one : result["cases"]) {
    std::vector<Listing::Cell> row{{one["name"], ""}, {one["rounds"].size(), ""}};
    for (const std::string& name : names) {
      if (!one["figures"].contains(name)) {
        row.push_back({nullptr, "-"});
        continue;
      }
      const Json& figure = one["figures"][name];
      row.push_back({figure["mean"], spread_text(figure)});
    }
    listing.add(std::move(row));
  }
  for (const std::string& name : names) {
    std::string line;
    for (const std::string& system : systems_beside(result)) {
      const std::string text = beside(result, system, name);
      if (!text.empty()) line += fmt::format("{}{} {}", line.empty() ? "" : "; ", system, text);
    }
    listing.footer += fmt::format("{}: {}{}\n", name, figure_text(name).what, line.empty() ? "" : " (beside: " + line + ")");
  }
  return listing;
}

}  // namespace

std::string spread_text(const Json& figure) {
  if (figure.at("measured").get<std::size_t>() == 0) return "-";
  const std::string mean = number_text(figure.at("mean").get<double>());
  return figure.at("measured").get<std::size_t>() < 2 ? mean : mean + " ± " + number_text(figure.at("sd").get<double>());
}

std::string engine_note(const Experiment& experiment, const ExpPlan& plan) {
  std::set<std::string> services;
  for (const ExpCase& one : plan.cases) {
    for (const ExpJob& job : one.jobs) {
      const ExpModel* model = experiment.model(job.model);
      if (model != nullptr && model->nothing()) services.insert(format_duration(model->service));
    }
  }
  if (services.empty()) return "";
  std::string list;
  for (const std::string& service : services) list += (list.empty() ? "" : ", ") + service;
  return fmt::format("engine of known service time ({} a query), no real inference", list);
}

Json result_json(const Experiment& experiment, const ExpPlan& plan, const RunResult& result, const Systems& systems,
                 std::uint64_t seed, const std::string& command, const Json& machine) {
  Json out = Json::object();
  out["schema"] = kSchema;
  out["name"] = experiment.name;
  out["title"] = experiment.title;
  out["text"] = experiment.text;
  out["measure"] = to_string(experiment.measure);
  out["engine"] = engine_note(experiment, plan);
  out["quick"] = plan.quick;
  out["repeat"] = plan.repeat;
  out["seed"] = seed;
  out["command"] = command;
  out["started"] = rfc3339(result.started);
  out["finished"] = rfc3339(result.finished);
  out["complete"] = result.status.ok();
  out["error"] = result.status.ok() ? Json(nullptr) : Json(result.status.error().detail);
  out["machine"] = machine;
  out["cases"] = Json::array();
  for (const CaseResult& one : result.cases) {
    if (!one.rounds.empty()) out["cases"].push_back(case_json(one));
  }
  out["systems"] = Json::object();
  out["beside"] = Json::array();
  for (const SystemFigure& figure : systems.figures) {
    if (figure.experiment != experiment.name) continue;
    out["systems"][figure.system] = systems.names.at(figure.system);
    out["beside"].push_back({{"system", figure.system},
                             {"figure", figure.figure},
                             {"mean", figure.mean},
                             {"sd", figure.sd > 0 ? Json(figure.sd) : Json(nullptr)},
                             {"text", figure.text}});
  }
  out["wanted"] = wanted_json(experiment, out["cases"]);
  out["plots"] = Json::array();
  return out;
}

Listing result_listing(const Json& result) {
  Listing listing = result["cases"].size() > kCasesInLongTable ? wide_listing(result) : long_listing(result);
  for (const auto& [name, value] : result.items()) {
    if (name != "schema") listing.extra[name] = value;
  }
  for (const auto& [system, name] : result["systems"].items())
    listing.footer += fmt::format("{}: {}\n", system, name.get<std::string>());
  return listing;
}

std::size_t wanted_missed(const Json& result) {
  return static_cast<std::size_t>(std::count_if(result["wanted"].begin(), result["wanted"].end(),
                                                [](const Json& wanted) { return !wanted["met"].get<bool>(); }));
}

std::vector<std::string> wanted_lines(const Json& result, bool missed_only) {
  std::vector<std::string> lines;
  for (const Json& wanted : result["wanted"]) {
    if (missed_only && wanted["met"].get<bool>()) continue;
    const auto name = wanted["case"].get<std::string>();
    const std::string value = wanted["value"].is_null() ? "not measured" : number_text(wanted["value"].get<double>());
    lines.push_back(fmt::format("{}{} {} {}, wanted {}{}", name.empty() ? "" : name + ": ", wanted["of"].get<std::string>(),
                                wanted["figure"].get<std::string>(), value, limit_text(wanted),
                                wanted["met"].get<bool>() ? "" : " (missed)"));
  }
  return lines;
}

Result<Json> read_result(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "result.json";
  auto text = read_whole_file(file, kResultBytesMax);
  if (!text) return text.error();
  Json result = Json::parse(*text, nullptr, false);
  if (!result.is_object() || result.value("schema", "") != kSchema)
    return Error{Errc::damaged, fmt::format("{} is no result of an experiment", file.string())};
  for (const char* name : {"cases", "wanted", "beside", "plots"}) {
    if (!result.contains(name) || !result[name].is_array())
      return Error{Errc::damaged, fmt::format("{} lacks \"{}\"", file.string(), name)};
  }
  return result;
}

}  // namespace idunno::cli

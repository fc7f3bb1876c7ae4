#include "cli/experiments/experiment.h"

#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "bus/schedule_policy.h"
#include "bus/strict_toml.h"
#include "bus/units.h"
#include "cli/local_cluster.h"
#include "cli/model_store.h"
#include "cli/models/architectures.h"

namespace idunno::cli {

namespace {

constexpr std::pair<const char*, Measure> kMeasures[] = {{"second-job", Measure::second_job}, {"failure", Measure::failure},
                                                         {"script", Measure::script},         {"fairness", Measure::fairness},
                                                         {"curve", Measure::curve},           {"scaling", Measure::scaling}};
constexpr std::pair<const char*, ExpAction::What> kWhat[] = {{"kill", ExpAction::What::kill},
                                                             {"pause", ExpAction::What::pause},
                                                             {"resume", ExpAction::What::resume},
                                                             {"start", ExpAction::What::start}};
constexpr std::int64_t kHour = 3'600'000'000;
constexpr std::int64_t kRepeatMax = 1000;
constexpr std::uint64_t kFileBytesMax = 1U << 20U;

/// The value of a name in a list of names; tells the reader which there are.
template <class Value, std::size_t N>
void get_word(TomlTable& table, const char* key, const std::pair<const char*, Value> (&words)[N], Value& value) {
  std::string text;
  table.get(key, text);
  if (!table.has(key)) return;
  std::string known;
  for (const auto& [word, meaning] : words) {
    if (text == word) {
      value = meaning;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(word);
  }
  table.fail(key, fmt::format("'{}' must be one of {}", text, known));
}

void get_duration(TomlTable& table, const char* key, Duration& value, std::int64_t min = 0) {
  std::int64_t us = value.count();
  table.get_duration(key, us, min, 24 * kHour);
  value = Duration(us);
}

template <class Number>
void get_number(TomlTable& table, const char* key, Number& value, std::int64_t min, std::int64_t max) {
  auto number = static_cast<std::int64_t>(value);
  table.get(key, number, min, max);
  value = static_cast<Number>(number);
}

ExpModel read_model(TomlTable& table) {
  ExpModel model;
  table.get("name", model.name);
  table.get("init", model.init);
  get_number(table, "seed", model.seed, 0, INT64_MAX);
  get_duration(table, "service", model.service);
  if (model.name.empty()) model.name = model.init;
  if (model.init.empty() != table.has("service")) {
    table.fail("name",
               "a model has either init = \"resnet18\" or the like, or service = \"20ms\" for an engine that computes nothing");
  }
  if (auto name = check_model_name(model.name); !name) table.fail("name", name.error().detail);
  if (!model.init.empty()) {
    if (auto known = models::find_architecture(model.init); !known) table.fail("init", known.error().detail);
  }
  return model;
}

ExpJob read_job(TomlTable& table) {
  ExpJob job;
  table.require("model");
  table.get("model", job.model);
  job.name = job.model;
  table.get("name", job.name);
  get_number(table, "batch", job.batch, 1, 65536);
  table.get("weight", job.weight, 0.001, 1000);
  std::string rate;
  table.get("rate", rate);
  if (!rate.empty()) {
    auto parsed = parse_rate(rate);
    if (!parsed) table.fail("rate", parsed.error().detail);
    if (parsed) job.rate_qps = *parsed;
  }
  get_duration(table, "at", job.at);
  return job;
}

ExpAction read_action(TomlTable& table) {
  ExpAction action;
  table.require("do");
  table.require("at");
  get_word(table, "do", kWhat, action.what);
  get_duration(table, "at", action.at, 1);
  table.get("who", action.who);
  table.get("name", action.name);
  const bool back = action.what == ExpAction::What::resume || action.what == ExpAction::What::start;
  if (action.who.empty()) {
    if (back) action.who = {"all"};
    if (!back) table.fail("do", "who? worker, coordinator, standby or n3, as a list");
  }
  for (const std::string& who : action.who) {
    const bool node = who.size() > 1 && who[0] == 'n' && who.find_first_not_of("0123456789", 1) == std::string::npos;
    const bool role = who == "worker" || who == "coordinator" || who == "standby";
    if (!node && !(role && !back) && !(who == "all" && back)) {
      table.fail("who",
                 fmt::format("'{}' must be {}", who, back ? "all or a node, n3" : "worker, coordinator, standby or a node, n3"));
    }
  }
  if (action.name.empty()) {
    for (const std::string& who : action.who) action.name += (action.name.empty() ? "" : "+") + who;
  }
  return action;
}

/// The keys that a case and [cluster] and [run] have in common.
void read_case(TomlTable& table, ExpCase& into) {
  get_number(table, "nodes", into.nodes, 1, kLocalNodesMax);
  get_number(table, "slots", into.slots, 1, 64);
  table.get("policy", into.policy);
  if (!into.policy.empty() && !parse_schedule_policy(into.policy)) {
    std::string known;
    for (const auto& [policy, name] : kSchedulePolicies) known += (known.empty() ? "" : ", ") + std::string(name);
    table.fail("policy", fmt::format("'{}' must be one of {}", into.policy, known));
  }
  table.get("tuning", into.tuning);
}

void read_script(TomlTable& table, ExpCase& into) {
  const auto jobs = table.tables("job");
  if (!jobs.empty()) into.jobs.clear();
  for (TomlTable job : jobs) into.jobs.push_back(read_job(job));
  const auto actions = table.tables("action");
  if (!actions.empty()) into.actions.clear();
  for (TomlTable action : actions) into.actions.push_back(read_action(action));
  std::stable_sort(into.actions.begin(), into.actions.end(),
                   [](const ExpAction& one, const ExpAction& other) { return one.at < other.at; });
}

void read_quick(TomlTable& table, ExpQuick& quick) {
  get_number(table, "nodes", quick.nodes, 0, kLocalNodesMax);
  table.get("scale", quick.scale, 0.001, 1);
  get_number(table, "repeat", quick.repeat, 1, kRepeatMax);
  get_number(table, "images", quick.images, 0, 1'000'000);
  table.get("cases", quick.cases);
  table.get("workers", quick.workers, 1, kLocalNodesMax);
  table.get("batches", quick.batches, 1, 65536);
  table.get("loads", quick.loads);
}

ExpWanted read_wanted(TomlTable& table) {
  ExpWanted wanted;
  table.require("figure");
  table.get("figure", wanted.figure);
  table.get("of", wanted.of);
  table.get("cases", wanted.cases);
  table.get("text", wanted.text);
  for (const char* end : {"min", "max"}) {
    double value = 0;
    table.get(end, value, -1e12, 1e12);
    if (table.has(end)) wanted.limit[end] = value;
  }
  if (wanted.limit.empty()) table.fail("figure", "say min, max or both");
  if (wanted.of != "mean" && wanted.of != "min" && wanted.of != "max") table.fail("of", "must be mean, min or max");
  return wanted;
}

/// What the tables say one by one is right; whether they fit together is seen here.
Status check(const Experiment& experiment, const std::string& source_name) {
  const auto wrong = [&](const std::string& what) { return Error{Errc::invalid, source_name + ": " + what}; };
  if (auto name = check_model_name(experiment.name); !name) return wrong("name: " + name.error().detail);
  if (experiment.models.empty()) return wrong("no [[model]]: at least one is needed");
  std::vector<const ExpCase*> cases;
  for (const ExpCase& one : experiment.cases) cases.push_back(&one);
  if (cases.empty()) cases.push_back(&experiment.base);
  std::set<std::string> names;
  for (const ExpCase* one : cases) {
    const std::string where = one->name.empty() ? "" : "case '" + one->name + "': ";
    if (!names.insert(one->name).second) return wrong(fmt::format("two cases are called '{}'", one->name));
    if (one->jobs.empty()) return wrong(where + "no [[job]]: at least one is needed");
    bool nothing = false;
    bool real = false;
    std::set<std::string> jobs;
    for (const ExpJob& job : one->jobs) {
      const ExpModel* model = experiment.model(job.model);
      if (model == nullptr)
        return wrong(fmt::format("{}job '{}': there is no [[model]] called '{}'", where, job.name, job.model));
      (model->nothing() ? nothing : real) = true;
      if (!jobs.insert(job.name).second) return wrong(fmt::format("{}two jobs are called '{}'", where, job.name));
    }
    if (nothing && real) return wrong(where + "models of pictures and engines that compute nothing have no data in common");
    if (std::none_of(one->jobs.begin(), one->jobs.end(), [](const ExpJob& job) { return job.at == Duration::zero(); }))
      return wrong(where + "one job must be there from the beginning (at = \"0s\")");
  }
  if (experiment.measure == Measure::second_job) {
    for (const ExpCase* one : cases) {
      if (one->jobs.size() != 2) return wrong("measure = \"second-job\" takes two jobs");
    }
  }
  if (experiment.measure == Measure::curve && (experiment.batches.empty() || experiment.loads.empty()))
    return wrong("measure = \"curve\" needs [sweep] batches and loads");
  if (experiment.measure == Measure::scaling && experiment.workers.empty())
    return wrong("measure = \"scaling\" needs [sweep] workers");
  for (const double load : experiment.loads) {
    if (!(load > 0 && load <= 2)) return wrong(fmt::format("[sweep] loads: {} must be more than 0 and at most 2", load));
  }
  return {};
}

}  // namespace

const char* to_string(Measure measure) {
  for (const auto& [word, meaning] : kMeasures) {
    if (meaning == measure) return word;
  }
  return "?";
}

const ExpModel* Experiment::model(const std::string& wanted_name) const {
  const auto found = std::find_if(models.begin(), models.end(), [&](const ExpModel& one) { return one.name == wanted_name; });
  return found == models.end() ? nullptr : &*found;
}

Result<Experiment> Experiment::parse(const std::string& toml, const std::string& source_name) {
  auto document = TomlTable::parse(toml, source_name);
  if (!document) return document.error();
  TomlTable& top = *document;
  Experiment experiment;
  experiment.source = toml;
  for (const char* key : {"name", "title", "measure"}) top.require(key);
  top.get("name", experiment.name);
  top.get("title", experiment.title);
  top.get("text", experiment.text);
  get_word(top, "measure", kMeasures, experiment.measure);
  if (auto cluster = top.table("cluster")) read_case(*cluster, experiment.base);
  for (TomlTable model : top.tables("model")) experiment.models.push_back(read_model(model));
  if (auto data = top.table("data")) {
    std::string path;
    data->get("path", path);
    experiment.data.path = path;
    get_number(*data, "images", experiment.data.images, 1, 1'000'000);
    get_number(*data, "side", experiment.data.side, 8, 4096);
    get_number(*data, "seed", experiment.data.seed, 0, INT64_MAX);
  }
  if (auto run = top.table("run")) {
    get_duration(*run, "duration", experiment.base.duration, 1000);
    get_duration(*run, "settle", experiment.settle);
    get_number(*run, "repeat", experiment.repeat, 1, kRepeatMax);
  }
  read_script(top, experiment.base);
  if (auto sweep = top.table("sweep")) {
    sweep->get("workers", experiment.workers, 1, kLocalNodesMax);
    sweep->get("batches", experiment.batches, 1, 65536);
    sweep->get("loads", experiment.loads);
  }
  for (TomlTable table : top.tables("case")) {
    ExpCase one = experiment.base;
    table.require("name");
    table.get("name", one.name);
    read_case(table, one);
    get_duration(table, "duration", one.duration, 1000);
    read_script(table, one);
    experiment.cases.push_back(std::move(one));
  }
  if (auto quick = top.table("quick")) read_quick(*quick, experiment.quick);
  for (TomlTable table : top.tables("wanted")) experiment.wanted.push_back(read_wanted(table));
  if (auto read = top.finish(); !read) return read.error();
  if (auto fits = check(experiment, source_name); !fits) return fits.error();
  return experiment;
}

Result<Experiment> Experiment::load(const std::filesystem::path& file) {
  auto text = read_whole_file(file, kFileBytesMax);
  if (!text) return text.error();
  return parse(*text, file.string());
}

Result<Systems> Systems::parse(const std::string& toml, const std::string& source_name) {
  auto document = TomlTable::parse(toml, source_name);
  if (!document) return document.error();
  Systems systems;
  for (TomlTable table : document->tables("system")) {
    std::string id;
    std::string name;
    table.require("id");
    table.get("id", id);
    table.get("name", name);
    systems.names[id] = name;
  }
  for (TomlTable table : document->tables("figure")) {
    SystemFigure figure;
    for (const char* key : {"system", "experiment", "figure", "mean", "text"}) table.require(key);
    table.get("system", figure.system);
    table.get("experiment", figure.experiment);
    table.get("figure", figure.figure);
    table.get("mean", figure.mean, 0, 1e12);
    table.get("sd", figure.sd, 0, 1e12);
    table.get("text", figure.text);
    if (systems.names.count(figure.system) == 0) table.fail("system", "no [[system]] has this id");
    systems.figures.push_back(std::move(figure));
  }
  if (auto read = document->finish(); !read) return read.error();
  return systems;
}

Result<Systems> Systems::load(const std::filesystem::path& file) {
  auto text = read_whole_file(file, kFileBytesMax);
  if (!text) return text.error();
  return parse(*text, file.string());
}

}  // namespace idunno::cli

#include "cli/experiments/report.h"

#include <fmt/core.h>

#include <algorithm>
#include <regex>

#include "bus/units.h"
#include "cli/experiments/figures.h"
#include "cli/experiments/result.h"
#include "cli/model_store.h"

namespace idunno::cli {

namespace fs = std::filesystem;

namespace {

constexpr std::uint64_t kSvgBytesMax = 16U << 20U;
constexpr std::size_t kLongTableCases = 2;

constexpr char kStyle[] = R"css(
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2330; --soft: #5b6472; --line: #d5dae2; --tint: #f3f5f8; --good: #0a7d4f; --bad: #b3261e; --accent: #0072b2; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --ink: #e3e7ee; --soft: #9aa4b2; --line: #2c3440; --tint: #1a2029; --good: #4cc38a; --bad: #ff8a80; --accent: #56b4e9; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0.5rem 0; }
h2 { font-size: 1.3rem; margin: 3rem 0 0.3rem; padding-top: 1rem; border-top: 1px solid var(--line); }
p { max-width: 46rem; margin: 0.5rem 0; }
.soft, figcaption { color: var(--soft); font-size: 0.9rem; }
a { color: var(--accent); }
code { font: 0.88em/1.4 ui-monospace, monospace; background: var(--tint); padding: 0.1em 0.35em; border-radius: 3px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 0.7rem 0.3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
td.n, th.n { text-align: right; white-space: nowrap; }
td code { white-space: nowrap; }
td.w { min-width: 15rem; }
.yes { color: var(--good); } .no { color: var(--bad); font-weight: 600; }
figure { margin: 1.5rem 0; overflow-x: auto; }
svg { display: block; width: 100%; height: auto; min-width: 38rem; max-width: 56rem; color: var(--ink); }
nav ul { columns: 18rem; padding-left: 1.2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1rem; font-size: 0.92rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
)css";

std::string text_of(const Json& value) {
  if (value.is_null()) return "-";
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return number_text(value.get<double>());
  return value.dump();
}

std::string cell(const std::string& text, const char* kind = "") {
  return fmt::format("<td{}>{}</td>", *kind == '\0' ? "" : fmt::format(" class=\"{}\"", kind), html_escaped(text));
}
std::string heading(const std::string& text, bool number = false) {
  return fmt::format("<th{}>{}</th>", number ? " class=\"n\"" : "", html_escaped(text));
}

std::vector<std::string> systems_of(const Json& result) {
  std::vector<std::string> systems;
  for (const Json& one : result.at("beside")) {
    const auto system = one.at("system").get<std::string>();
    if (std::find(systems.begin(), systems.end(), system) == systems.end()) systems.push_back(system);
  }
  std::sort(systems.begin(), systems.end());
  return systems;
}

std::string beside(const Json& result, const std::string& system, const std::string& figure) {
  for (const Json& one : result.at("beside")) {
    if (one.at("system") == system && one.at("figure") == figure) return one.at("text").get<std::string>();
  }
  return "";
}

std::string long_table(const Json& result) {
  const bool cases = result.at("cases").size() > 1;
  const std::vector<std::string> systems = systems_of(result);
  std::string out = "<table><thead><tr>" + (cases ? heading("Case") : "") + heading("Figure") + heading("") + heading("n", true) +
                    heading("mean", true) + heading("sd", true) + heading("min", true) + heading("max", true);
  for (const std::string& system : systems) out += heading("System " + system);
  out += "</tr></thead><tbody>";
  for (const Json& one : result.at("cases")) {
    for (const auto& [name, figure] : one.at("figures").items()) {
      if (!figure_text(name).shown) continue;
      out += "<tr>" + (cases ? cell(text_of(one.at("name"))) : "") + "<td><code>" + html_escaped(name) + "</code></td>" +
             cell(text_of(figure.at("what")), "w");
      for (const char* of : {"measured", "mean", "sd", "min", "max"}) out += cell(text_of(figure.at(of)), "n");
      for (const std::string& system : systems) out += cell(beside(result, system, name));
      out += "</tr>";
    }
  }
  return out + "</tbody></table>";
}

std::string wide_table(const Json& result) {
  std::vector<std::string> names;
  for (const Json& one : result.at("cases")) {
    for (const auto& [name, figure] : one.at("figures").items()) {
      if (figure_text(name).shown && std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  names = in_table_order(names);
  std::string out = "<table><thead><tr>" + heading("Case") + heading("n", true);
  for (const std::string& name : names) out += heading(name, true);
  out += "</tr></thead><tbody>";
  for (const Json& one : result.at("cases")) {
    out += "<tr>" + cell(text_of(one.at("name"))) + cell(std::to_string(one.at("rounds").size()), "n");
    for (const std::string& name : names)
      out += cell(one.at("figures").contains(name) ? spread_text(one.at("figures").at(name)) : "-", "n");
    out += "</tr>";
  }
  out += "</tbody></table><p class=\"soft\">";
  for (const std::string& name : names)
    out += fmt::format("<code>{}</code> {}. ", html_escaped(name), html_escaped(figure_text(name).what));
  return out + "</p>";
}

std::string wanted_list(const Json& result) {
  if (result.at("wanted").empty()) return "";
  std::string out = "<p>Wanted:</p><div class=\"scroll\"><table><tbody>";
  for (const Json& wanted : result.at("wanted")) {
    const bool met = wanted.at("met").get<bool>();
    std::string limit;
    if (wanted.contains("min")) limit += "at least " + text_of(wanted.at("min"));
    if (wanted.contains("max")) limit += (limit.empty() ? "" : ", ") + std::string("at most ") + text_of(wanted.at("max"));
    out += "<tr>" + cell(text_of(wanted.at("case"))) + cell(text_of(wanted.at("of")) + " " + text_of(wanted.at("figure"))) +
           cell(wanted.contains("text") ? text_of(wanted.at("text")) : "") + cell(limit) +
           cell(text_of(wanted.at("value")), "n") + cell(met ? "met" : "missed", met ? "yes" : "no") + "</tr>";
  }
  return out + "</tbody></table></div>";
}

std::string machine_list(const Json& machine) {
  std::string out = "<dl>";
  for (const auto& [name, value] : machine.items()) {
    std::string text = text_of(value);
    if (name == "memory_bytes" && value.is_number()) text = format_size(value.get<std::uint64_t>());
    std::string title = name == "memory_bytes" ? "memory" : name;
    std::replace(title.begin(), title.end(), '_', ' ');
    out += "<dt>" + html_escaped(title) + "</dt><dd>" + html_escaped(text) + "</dd>";
  }
  return out + "</dl>";
}

/// The machine without what changes from run to run.
Json described(const Json& result) {
  Json machine = result.contains("machine") ? result.at("machine") : Json::object();
  machine.erase("load_before");
  return machine;
}

std::string section(const ReportedRun& run, const Json& machine, std::size_t number) {
  const Json& result = run.result;
  const std::string id = "e" + std::to_string(number);
  std::string out = fmt::format("<section id=\"{}\"><h2>{}</h2>", id, html_escaped(text_of(result.at("title"))));
  out += "<p>" + html_escaped(text_of(result.at("text"))) + "</p>";
  const std::string engine = result.value("engine", "");
  if (!engine.empty()) out += "<p><strong>With an " + html_escaped(engine) + ".</strong></p>";
  out += fmt::format("<p class=\"soft\"><code>{}</code> · {} to {}{} · {} round{} · seed {} · raw data in <code>{}</code></p>",
                     html_escaped(text_of(result.at("command"))), html_escaped(text_of(result.at("started"))),
                     html_escaped(text_of(result.at("finished"))),
                     result.value("quick", false) ? " · <strong>quick form</strong>" : "", result.value("repeat", 1),
                     result.value("repeat", 1) == 1 ? "" : "s", result.value("seed", 1), html_escaped(run.folder));
  if (!result.value("complete", true))
    out += "<p class=\"no\">This run ended early: " + html_escaped(text_of(result.at("error"))) + "</p>";
  out += "<div class=\"scroll\">" + (result.at("cases").size() > kLongTableCases ? wide_table(result) : long_table(result)) +
         "</div>";
  if (result.contains("systems") && !result.at("systems").empty()) {
    out += "<p class=\"soft\">";
    for (const auto& [system, name] : result.at("systems").items())
      out += "System " + html_escaped(system) + ": " + html_escaped(text_of(name)) + ". ";
    out += "</p>";
  }
  out += wanted_list(result);
  std::size_t picture = 0;
  for (const Json& plot : result.at("plots")) {
    const auto svg = run.svgs.find(plot.value("file", ""));
    if (svg == run.svgs.end()) continue;
    out += fmt::format("<figure>{}<figcaption>{}</figcaption></figure>",
                       inline_svg(svg->second, fmt::format("{}p{}-", id, ++picture)), html_escaped(plot.value("title", "")));
  }
  for (const Json& one : result.at("cases")) {
    for (const Json& round : one.at("rounds")) {
      for (const Json& note : round.at("notes")) out += "<p class=\"soft\">" + html_escaped(text_of(note)) + "</p>";
    }
  }
  if (described(result) != machine) out += "<details><summary>Machine</summary>" + machine_list(described(result)) + "</details>";
  return out + "</section>";
}

}  // namespace

std::string html_escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string inline_svg(const std::string& svg, const std::string& id_prefix) {
  const std::size_t begin = svg.find("<svg");
  const std::size_t end = svg.rfind("</svg>");
  if (begin == std::string::npos || end == std::string::npos || end < begin) return "";
  std::string out = svg.substr(begin, end + 6 - begin);
  // A result folder may come from somebody else: a picture has no business with scripts.
  static const std::regex kScript("<script[^]*?</script>|<script[^>]*/>|\\son[a-z]+\\s*=\\s*(\"[^\"]*\"|'[^']*')");
  out = std::regex_replace(out, kScript, "");
  static const std::regex kBackground("<rect x=\"0\" y=\"0\"[^>]*fill=\"(#ffffff|white|rgb\\(255, *255, *255\\))\"[^>]*/>");
  out = std::regex_replace(out, kBackground, "");
  // Groups set their own `color`, which would be what currentColor means in them.
  static const std::regex kColour("\\bcolor=(['\"])black\\1");
  out = std::regex_replace(out, kColour, "color=\"inherit\"");
  static const std::regex kBlack("(fill|stroke)\\s*=\\s*(['\"])(black|rgb\\( *0, *0, *0\\)|#000000)\\2");
  out = std::regex_replace(out, kBlack, "$1=\"currentColor\"");
  static const std::regex kId("\\bid=(['\"])([^'\"]*)\\1");
  out = std::regex_replace(out, kId, "id=\"" + id_prefix + "$2\"");
  static const std::regex kReference("(xlink:href=|href=)(['\"])#([^'\"]*)\\2");
  out = std::regex_replace(out, kReference, "$1\"#" + id_prefix + "$3\"");
  static const std::regex kUrl("url\\(#");
  return std::regex_replace(out, kUrl, "url(#" + id_prefix);
}

Result<ReportedRun> read_run(const fs::path& folder) {
  auto result = read_result(folder);
  if (!result) return result.error();
  ReportedRun run;
  run.folder = folder.lexically_normal().string();
  for (const Json& plot : (*result)["plots"]) {
    const std::string file = plot.value("file", "");
    if (file.empty() || file.find('/') != std::string::npos) continue;
    auto svg = read_whole_file(folder / file, kSvgBytesMax);
    if (svg) run.svgs[file] = *svg;
  }
  run.result = std::move(*result);
  return run;
}

std::vector<fs::path> latest_runs(const fs::path& root) {
  std::error_code error;
  // Of one experiment: complete before broken, whole before quick, late before early.
  std::map<std::string, std::pair<std::tuple<bool, bool, std::string>, fs::path>> best;
  const auto look_at = [&](const fs::path& folder) {
    if (!fs::exists(folder / "result.json", error)) return;
    auto result = read_result(folder);
    if (!result) return;
    const auto rank =
        std::make_tuple(result->value("complete", false), !result->value("quick", false), result->value("started", ""));
    auto& known = best[result->value("name", "")];
    if (known.second.empty() || rank > known.first) known = {rank, folder};
  };
  look_at(root);
  for (fs::directory_iterator it(root, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error)) look_at(it->path());
  }
  std::vector<fs::path> folders;
  for (const auto& [name, found] : best) folders.push_back(found.second);
  return folders;
}

namespace {

std::string page(const std::vector<ReportedRun>& runs, const std::string& made_at) {
  const Json machine = runs.empty() ? Json::object() : described(runs.front().result);
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, "
      "initial-scale=1\"><title>IDunno: experiments</title><style>";
  out += kStyle;
  out += "</style></head><body><main><h1>IDunno: experiments</h1>";
  out += fmt::format(
      "<p class=\"soft\">Made {} from {} runs. Every figure is measured from the cluster's event stream; the raw data lie "
      "in the folders named below.</p>",
      html_escaped(made_at), runs.size());
  out += "<nav><ul>";
  for (std::size_t i = 0; i < runs.size(); ++i)
    out += fmt::format("<li><a href=\"#e{}\">{}</a></li>", i + 1, html_escaped(text_of(runs[i].result.at("title"))));
  out += "</ul></nav><h2>The machine</h2>" + machine_list(machine);
  for (std::size_t i = 0; i < runs.size(); ++i) out += section(runs[i], machine, i + 1);
  return out + "</main></body></html>\n";
}

}  // namespace

Result<std::string> report_html(const std::vector<ReportedRun>& runs, const std::string& made_at) {
  try {
    return page(runs, made_at);
  } catch (const Json::exception& error) {
    return Error{Errc::damaged, fmt::format("a result.json is not as `idunno exp run` writes it: {}", error.what())};
  }
}

}  // namespace idunno::cli

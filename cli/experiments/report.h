#pragma once
/// The report of `idunno exp report`: one HTML file with everything inside, for reading without a network. Pure but for reading
/// the results.

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "cli/app.h"

namespace idunno::cli {

/// A result with the SVG files that belong to it, by file name.
struct ReportedRun {
  std::string folder;  ///< for people
  Json result;
  std::map<std::string, std::string> svgs;
};
/// The folder's result and pictures; pictures that are not there are left out.
[[nodiscard]] Result<ReportedRun> read_run(const std::filesystem::path& folder);
/// Folders of results below `root`: of each experiment the latest complete run; whole forms go before quick ones.
[[nodiscard]] std::vector<std::filesystem::path> latest_runs(const std::filesystem::path& root);

/// damaged when a result lacks what is needed.
[[nodiscard]] Result<std::string> report_html(const std::vector<ReportedRun>& runs, const std::string& made_at);

/// `<`, `>`, `&` and quotes as entities.
[[nodiscard]] std::string html_escaped(const std::string& text);
/// An SVG file of gnuplot as a part of a page: no prologue, no background, black as the page's text colour, and ids of its own.
[[nodiscard]] std::string inline_svg(const std::string& svg, const std::string& id_prefix);

}  // namespace idunno::cli

#pragma once
/// The files of the dashboard (cli/dash/), built into the program.

#include <string>
#include <string_view>
#include <vector>

namespace idunno::cli {

struct DashAsset {
  std::string path;       ///< "/dash.js"
  std::string_view body;  ///< static
  std::string tag;        ///< changes with the body
};

[[nodiscard]] const std::vector<DashAsset>& dash_assets();

}  // namespace idunno::cli

#pragma once
/// The table of metrics in nodes/runtime/README.md.

#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace idunno::testing {

inline std::string text_of(const std::string& file) {
  std::ifstream in(std::string(IDUNNO_SOURCE_DIR) + "/" + file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Name to type.
inline std::map<std::string, std::string> documented_metrics() {
  std::map<std::string, std::string> metrics;
  std::istringstream in(text_of("nodes/runtime/README.md"));
  const std::regex row(R"(\| `([a-z][a-z0-9_]*)` \| (gauge|counter|summary) \|.*)");
  std::smatch match;
  for (std::string line; std::getline(in, line);) {
    if (std::regex_match(line, match, row)) metrics[match[1]] = match[2];
  }
  return metrics;
}

}  // namespace idunno::testing

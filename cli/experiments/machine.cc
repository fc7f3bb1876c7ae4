#include "cli/experiments/machine.h"

#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "cli/experiments/commit.h"

namespace idunno::cli {

namespace {

/// The value of the first line "key : value" of a file of /proc or /etc.
std::string value_in(const char* file, const std::string& key, char separator) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const std::size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    std::string value = line.substr(at + 1);
    const std::size_t first = value.find_first_not_of(" \t\"");
    const std::size_t last = value.find_last_not_of(" \t\"");
    return first == std::string::npos ? "" : value.substr(first, last - first + 1);
  }
  return "";
}

}  // namespace

Json machine_json() {
  Json out = Json::object();
  const std::string model = value_in("/proc/cpuinfo", "model name", ':');
  out["cpu"] = model.empty() ? "unknown" : model;
  out["cores"] = std::thread::hardware_concurrency();
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGE_SIZE);
  out["memory_bytes"] = pages > 0 && page > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page) : 0;
  utsname system{};
  if (uname(&system) == 0) out["kernel"] = std::string(system.sysname) + " " + system.release + " " + system.machine;
  out["system"] = value_in("/etc/os-release", "PRETTY_NAME", '=');
  out["idunno"] = IDUNNO_VERSION;
  out["commit"] = IDUNNO_COMMIT;
  out["compiler"] = std::string("C++ compiler ") + __VERSION__;
  // Somebody else's work on the same cores shows in every figure.
  double load[1] = {0};
  out["load_before"] = getloadavg(load, 1) == 1 ? Json(load[0]) : Json(nullptr);
  return out;
}

}  // namespace idunno::cli

#include "cli/names.h"

#include <fmt/core.h>

#include <charconv>

#include "cli/app.h"

namespace idunno::cli {

std::uint64_t numbered(std::string_view text, char prefix) {
  if (!text.empty() && text.front() == prefix) text.remove_prefix(1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return 0;
  return number;
}

std::string printable(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20U || byte == 0x7FU) c = '?';
  }
  return out;
}

std::string addresses_of(const ClusterConfig& config) {
  static constexpr std::size_t kShownMax = 8;
  std::string out;
  for (std::size_t i = 0; i < config.nodes.size() && i < kShownMax; ++i) {
    const NodeConfig& node = config.nodes[i];
    out += fmt::format("{}{} {}:{}", out.empty() ? "" : ", ", to_string(node.id), node.host, node.base_port);
  }
  if (config.nodes.size() > kShownMax) out += fmt::format(" and {} more", config.nodes.size() - kShownMax);
  return out;
}

Result<NodeId> parse_node(const std::string& text, const ClusterConfig& config) {
  const std::uint64_t number = numbered(text, 'n');
  if (number == 0 || number > UINT32_MAX) {
    return Error{Errc::invalid, fmt::format("'{}' is not a node; nodes are called n1, n2, ...", text)};
  }
  const NodeId id{static_cast<std::uint32_t>(number)};
  if (config.node(id) == nullptr) {
    return Error{Errc::not_found,
                 fmt::format("no node {} in {}; it has {}", to_string(id), config.file.string(), addresses_of(config))};
  }
  return id;
}

namespace {

std::string names_of(const std::vector<std::pair<JobId, std::string>>& jobs) {
  static constexpr std::size_t kShownMax = 6;
  std::string out;
  for (std::size_t i = 0; i < jobs.size() && i < kShownMax; ++i) {
    const auto& [id, name] = jobs[jobs.size() - 1 - i];
    out += fmt::format("{}{} ({})", out.empty() ? "" : ", ", to_string(id), name);
  }
  return jobs.size() > kShownMax ? out + ", ..." : out;
}

}  // namespace

Result<JobId> match_job(const std::string& text, const std::vector<std::pair<JobId, std::string>>& jobs) {
  if (const std::uint64_t number = numbered(text, 'j'); number != 0) return JobId{number};
  if (text.empty()) return Error{Errc::invalid, "an empty job name; jobs are called j1, j2, ... or by their name"};
  std::vector<std::pair<JobId, std::string>> same;
  std::vector<std::pair<JobId, std::string>> begins;
  for (const auto& job : jobs) {
    if (job.second == text) same.push_back(job);
    if (job.second.compare(0, text.size(), text) == 0) begins.push_back(job);
  }
  const auto& found = same.empty() ? begins : same;
  if (found.size() == 1) return found.front().first;
  if (found.empty()) {
    if (jobs.empty()) return Error{Errc::not_found, fmt::format("no job '{}': there are no jobs", text)};
    return Error{Errc::not_found, fmt::format("no job '{}'; there are {}", text, names_of(jobs))};
  }
  return Error{Errc::invalid, fmt::format("'{}' means more than one job: {}; use the id", text, names_of(found))};
}

Result<JobId> resolve_job(Session& session, const std::string& text) {
  if (const std::uint64_t number = numbered(text, 'j'); number != 0) return JobId{number};
  auto reports = session.metadata().call_and_wait(JobReportsRequest{});
  if (!reports) return reports.error();
  std::vector<std::pair<JobId, std::string>> jobs;
  jobs.reserve(reports->jobs.size());
  for (const JobReport& report : reports->jobs) jobs.emplace_back(report.id, report.spec.name);
  return match_job(text, jobs);
}

}  // namespace idunno::cli

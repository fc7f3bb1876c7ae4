#include "storage/sdfs/stats_history.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace idunno {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kTimeDigits = 17;
constexpr std::string_view kSuffix = ".jsonl";

Json to_json(const HistoryJob& job) {
  const LatencySummary& l = job.latency;
  return {{"id", job.id},
          {"name", job.name},
          {"model", job.model},
          {"state", job.state},
          {"done", job.done},
          {"errors", job.errors},
          {"rate_milli_qps", job.rate_milli_qps},
          {"weight_milli", job.weight_milli},
          {"nodes", job.nodes},
          {"count", l.count},
          {"mean_us", l.mean_us},
          {"sd_us", l.sd_us},
          {"median_us", l.median_us},
          {"p90_us", l.p90_us},
          {"p95_us", l.p95_us},
          {"p99_us", l.p99_us}};
}

Json to_json(const HistoryNode& node) {
  return {{"id", node.id},
          {"state", node.state},
          {"cpu_milli", node.cpu_milli},
          {"running", node.running},
          {"rss_bytes", node.rss_bytes},
          {"block_bytes", node.block_bytes},
          {"free_bytes", node.free_bytes}};
}

/// A field of another type than expected makes the whole line damaged, through `ok`.
template <class T>
T field(const Json& object, const char* name, bool& ok) {
  const auto found = object.find(name);
  if (found == object.end()) return T{};
  if constexpr (std::is_same_v<T, std::string>) {
    ok = ok && found->is_string();
  } else {
    ok = ok && found->is_number_unsigned();
  }
  return ok ? found->template get<T>() : T{};
}

HistoryJob job_of(const Json& object, bool& ok) {
  HistoryJob job;
  job.id = field<std::string>(object, "id", ok);
  job.name = field<std::string>(object, "name", ok);
  job.model = field<std::string>(object, "model", ok);
  job.state = field<std::string>(object, "state", ok);
  job.done = field<std::uint64_t>(object, "done", ok);
  job.errors = field<std::uint64_t>(object, "errors", ok);
  job.rate_milli_qps = field<std::uint64_t>(object, "rate_milli_qps", ok);
  job.weight_milli = field<std::uint32_t>(object, "weight_milli", ok);
  job.nodes = field<std::uint32_t>(object, "nodes", ok);
  job.latency.count = field<std::uint64_t>(object, "count", ok);
  job.latency.mean_us = field<std::uint64_t>(object, "mean_us", ok);
  job.latency.sd_us = field<std::uint64_t>(object, "sd_us", ok);
  job.latency.median_us = field<std::uint64_t>(object, "median_us", ok);
  job.latency.p90_us = field<std::uint64_t>(object, "p90_us", ok);
  job.latency.p95_us = field<std::uint64_t>(object, "p95_us", ok);
  job.latency.p99_us = field<std::uint64_t>(object, "p99_us", ok);
  return job;
}

HistoryNode node_of(const Json& object, bool& ok) {
  HistoryNode node;
  node.id = field<std::string>(object, "id", ok);
  node.state = field<std::string>(object, "state", ok);
  node.cpu_milli = field<std::uint32_t>(object, "cpu_milli", ok);
  node.running = field<std::uint32_t>(object, "running", ok);
  node.rss_bytes = field<std::uint64_t>(object, "rss_bytes", ok);
  node.block_bytes = field<std::uint64_t>(object, "block_bytes", ok);
  node.free_bytes = field<std::uint64_t>(object, "free_bytes", ok);
  return node;
}

template <class T, class Read>
void read_list(const Json& object, const char* name, std::size_t max, std::vector<T>& out, bool& ok, Read read) {
  const auto list = object.find(name);
  if (list == object.end()) return;
  ok = ok && list->is_array() && list->size() <= max;
  if (!ok) return;
  for (const Json& item : *list) {
    ok = ok && item.is_object();
    if (!ok) return;
    out.push_back(read(item, ok));
  }
}

}  // namespace

std::string history_line(const HistorySample& sample) {
  Json line{{"at_ms", sample.at_ms}, {"coordinator", sample.coordinator}, {"max_min_milli", sample.max_min_milli}};
  line["jobs"] = Json::array();
  for (const HistoryJob& job : sample.jobs) line["jobs"].push_back(to_json(job));
  line["nodes"] = Json::array();
  for (const HistoryNode& node : sample.nodes) line["nodes"].push_back(to_json(node));
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Result<HistorySample> parse_history_line(std::string_view line) {
  const Error damaged{Errc::damaged, "a line of the history is not a sample"};
  if (line.size() > kHistoryLineBytesMax) return damaged;
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object()) return damaged;
  bool ok = object.contains("at_ms");
  HistorySample sample;
  sample.at_ms = field<WallMs>(object, "at_ms", ok);
  sample.coordinator = field<std::string>(object, "coordinator", ok);
  sample.max_min_milli = field<std::uint64_t>(object, "max_min_milli", ok);
  read_list(object, "jobs", kHistoryJobsMax, sample.jobs, ok, job_of);
  read_list(object, "nodes", kHistoryNodesMax, sample.nodes, ok, node_of);
  if (!ok) return damaged;
  return sample;
}

std::string history_path(WallMs begins, Epoch epoch) {
  return fmt::format("{}/{:0{}}-e{}{}", kHistoryFolder, begins, kTimeDigits, epoch.value, kSuffix);
}

std::optional<WallMs> history_begin(std::string_view path) {
  const std::string folder = std::string(kHistoryFolder) + "/";
  if (!path.starts_with(folder) || !path.ends_with(kSuffix)) return std::nullopt;
  path.remove_prefix(folder.size());
  if (path.size() < kTimeDigits + kSuffix.size() || path.substr(kTimeDigits, 2) != "-e") return std::nullopt;
  WallMs begins = 0;
  const auto [end, error] = std::from_chars(path.data(), path.data() + kTimeDigits, begins);
  if (error != std::errc{} || end != path.data() + kTimeDigits) return std::nullopt;
  return begins;
}

}  // namespace idunno

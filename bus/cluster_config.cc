#include "bus/cluster_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "bus/hash.h"
#include "bus/strict_toml.h"

namespace idunno {
namespace {

constexpr std::uint16_t kPortMin = 1;
constexpr std::uint16_t kPortMax = 65535 - kPortsPerNode + 1;
constexpr std::size_t kNodesMax = 1024;
constexpr std::size_t kClusterIdMax = 64;
constexpr std::int64_t kMillisecond = 1000;
constexpr std::int64_t kSecond = 1000 * kMillisecond;
constexpr std::int64_t kHour = 3600 * kSecond;
constexpr std::uint64_t kMiB = 1ULL << 20U;
constexpr std::uint64_t kGiB = 1ULL << 30U;

void get(TomlTable& table, const char* key, std::uint32_t& value, std::uint32_t min, std::uint32_t max) {
  std::int64_t number = value;
  table.get(key, number, min, max);
  value = static_cast<std::uint32_t>(number);
}

void get(TomlTable& table, const char* key, Duration& value, std::int64_t min, std::int64_t max) {
  std::int64_t microseconds = value.count();
  table.get_duration(key, microseconds, min, max);
  value = Duration(microseconds);
}

void read_tuning(TomlTable& table, Tuning& tuning) {
  get(table, "replication", tuning.replication, 1, static_cast<std::uint32_t>(kReplicasMax));
  get(table, "slots", tuning.slots, 0, 1024);
  table.get_size("executor_memory", tuning.executor_memory_bytes, 64 * kMiB, 1024 * kGiB);
  table.get_size("block_cache", tuning.block_cache_bytes, kMiB, 1024 * kGiB);
  table.get_size("input_cache", tuning.input_cache_bytes, kMiB, 1024 * kGiB);
  get(table, "prefetch_models", tuning.prefetch_models, 0, kPrefetchModelsMax);
  table.get_size("disk_reserve", tuning.disk_reserve_bytes, 0, 1024 * kGiB);
  get(table, "heartbeat_interval", tuning.heartbeat_interval, 10 * kMillisecond, 60 * kSecond);
  get(table, "dead_after", tuning.dead_after, 50 * kMillisecond, 600 * kSecond);
  get(table, "batch_timeout", tuning.batch_timeout, 100 * kMillisecond, 24 * kHour);
  get(table, "lease_horizon", tuning.lease_horizon, 10 * kMillisecond, 600 * kSecond);
  get(table, "attempts_max", tuning.attempts_max, 1, 100);
  table.get_size("log_file_size", tuning.log_file_bytes, 64U << 10U, kGiB);
  get(table, "log_files", tuning.log_files, 1, 1000);
  get(table, "log_file_age", tuning.log_file_age, kSecond, 24 * 366 * kHour);
  table.get_size("log_tail", tuning.log_tail_bytes, 256U << 10U, kGiB);
  get(table, "versions_max", tuning.versions_max, 1, 1024);
  get(table, "log_heartbeat", tuning.log_heartbeat, kMillisecond, 10 * kSecond);
  get(table, "election_timeout_min", tuning.election_timeout_min, 5 * kMillisecond, 60 * kSecond);
  get(table, "election_timeout_max", tuning.election_timeout_max, 5 * kMillisecond, 120 * kSecond);
  get(table, "voter_replace_after", tuning.voter_replace_after, kSecond, 24 * kHour);
  get(table, "probe_interval", tuning.probe_interval, 10 * kMillisecond, 60 * kSecond);
  table.get_size("scrub_rate", tuning.scrub_bytes_per_s, 0, 1024 * kGiB);
  if (tuning.election_timeout_min < 3 * tuning.log_heartbeat) {
    table.fail(
        "election_timeout_min",
        "\"election_timeout_min\" must be at least three times \"log_heartbeat\", or a late heartbeat deposes a coordinator");
  }
  if (tuning.election_timeout_max < tuning.election_timeout_min + tuning.log_heartbeat) {
    table.fail(
        "election_timeout_max",
        "\"election_timeout_max\" must exceed \"election_timeout_min\" by \"log_heartbeat\" at least, or candidates collide");
  }
  if (tuning.dead_after < 2 * tuning.heartbeat_interval) {
    table.fail("dead_after", "\"dead_after\" must be at least twice \"heartbeat_interval\", or one late heartbeat kills a node");
  }
}

void read_scheduler(TomlTable& table, Tuning& tuning) {
  std::string policy(to_string(tuning.policy));
  table.get("policy", policy);
  get(table, "split_period", tuning.split_period, 100 * kMillisecond, 24 * kHour);
  get(table, "reload_lag", tuning.reload_lag, 0, 600 * kSecond);
  if (const auto known = parse_schedule_policy(policy)) {
    tuning.policy = *known;
    return;
  }
  std::vector<std::string> names;
  for (const auto& [known, name] : kSchedulePolicies) names.emplace_back(name);
  const std::string nearest = nearest_word(policy, names);
  table.fail("policy", fmt::format("\"policy\" is \"{}\", expected {}{}", policy, fmt::join(names, ", "),
                                   nearest.empty() ? "" : fmt::format("; did you mean \"{}\"?", nearest)));
}

std::filesystem::path absolute_from(const std::filesystem::path& folder, const std::string& text) {
  return (folder / text).lexically_normal();  // an absolute text replaces the folder
}

NodeConfig read_node(TomlTable& table, const std::filesystem::path& folder) {
  NodeConfig node;
  for (const char* key : {"id", "host", "port", "data_dir"}) table.require(key);
  std::int64_t id = 0;
  std::int64_t port = kPortMin;
  std::string data_dir;
  table.get("id", id, 1, std::numeric_limits<std::uint32_t>::max());
  table.get("host", node.host);
  table.get("bind", node.bind);
  table.get("port", port, kPortMin, kPortMax);
  table.get("data_dir", data_dir);
  if (node.host.empty() || node.host == "0.0.0.0" || node.host == "*") {
    table.fail("host", fmt::format("\"host\" in [[node]] is \"{}\": it must be an address that the other machines can connect to",
                                   node.host));
  }
  if (data_dir.empty()) table.fail("data_dir", "\"data_dir\" in [[node]] is empty");
  node.id.value = static_cast<std::uint32_t>(id);
  node.base_port = static_cast<std::uint16_t>(port);
  node.data_dir = absolute_from(folder, data_dir);
  return node;
}

/// A second node on the same ports or in the same folder would destroy the first one's data.
void check_overlap(TomlTable& table, const NodeConfig& node, const std::vector<NodeConfig>& others) {
  for (const NodeConfig& other : others) {
    if (other.id == node.id) table.fail("id", fmt::format("two nodes have the id {}", node.id.value));
    if (other.host != node.host) continue;
    if (std::abs(int{other.base_port} - int{node.base_port}) < kPortsPerNode) {
      table.fail("port", fmt::format("{} and {} on {} share ports: each node uses {} ports from \"port\" on", to_string(other.id),
                                     to_string(node.id), node.host, kPortsPerNode));
    }
    if (other.data_dir == node.data_dir) {
      table.fail("data_dir", fmt::format("{} and {} on {} share the folder {}", to_string(other.id), to_string(node.id),
                                         node.host, node.data_dir.string()));
    }
  }
}

/// listen = "off", or the port that all nodes have, each on its own machine.
void read_metrics(TomlTable& table, const std::vector<NodeConfig>& nodes, MetricsConfig& metrics) {
  std::string listen = "on";
  table.get("listen", listen);
  if (listen == "on" || listen == "off") {
    metrics.on = listen == "on";
    return;
  }
  const bool number = !listen.empty() && listen.size() <= 5 && listen.find_first_not_of("0123456789") == std::string::npos;
  const unsigned long port = number ? std::stoul(listen) : 0;
  if (port < kPortMin || port > 65535) {
    return table.fail("listen", fmt::format("\"listen\" in [metrics] is \"{}\", expected \"on\" (the last of each node's ports), "
                                            "\"off\" or a port such as \"9464\"",
                                            listen));
  }
  metrics.port = static_cast<std::uint16_t>(port);
  std::set<std::string> hosts;
  for (const NodeConfig& node : nodes) {
    if (port >= node.base_port && port < node.base_port + unsigned{kMetricsPort}) {
      table.fail("listen", fmt::format("port {} of \"listen\" in [metrics] is one of {}'s", port, to_string(node.id)));
    }
    if (!hosts.insert(node.host).second) {
      table.fail("listen", fmt::format("several nodes are on {}, so \"listen\" in [metrics] cannot be one port for all; leave it "
                                       "out, then each has its own",
                                       node.host));
    }
  }
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

/// Exact texts: the largest unit that loses nothing.
std::string exact(Duration duration) {
  const std::int64_t us = duration.count();
  if (us != 0 && us % kHour == 0) return fmt::format("\"{}h\"", us / kHour);
  if (us != 0 && us % kSecond == 0) return fmt::format("\"{}s\"", us / kSecond);
  if (us % kMillisecond == 0) return fmt::format("\"{}ms\"", us / kMillisecond);
  return fmt::format("\"{}us\"", us);
}
std::string exact(std::uint64_t bytes) {
  if (bytes != 0 && bytes % kGiB == 0) return fmt::format("\"{}G\"", bytes / kGiB);
  if (bytes != 0 && bytes % kMiB == 0) return fmt::format("\"{}M\"", bytes / kMiB);
  if (bytes != 0 && bytes % 1024 == 0) return fmt::format("\"{}K\"", bytes / 1024);
  return fmt::format("\"{}\"", bytes);
}

}  // namespace

Result<ClusterConfig> ClusterConfig::load(const std::filesystem::path& file) {
  auto document = TomlTable::parse_file(file);
  if (!document) return annotate(document.error(), "the cluster's configuration");
  ClusterConfig config;
  std::error_code ec;
  config.file = std::filesystem::absolute(file, ec).lexically_normal();
  const std::filesystem::path folder = config.file.parent_path();

  document->require("cluster");
  if (auto cluster = document->table("cluster")) {
    std::string keys = "keys";
    cluster->require("id");
    cluster->get("id", config.id);
    cluster->get("keys", keys);
    if (config.id.empty() || config.id.size() > kClusterIdMax) {
      cluster->fail("id", fmt::format("\"id\" in [cluster] must have 1 to {} characters", kClusterIdMax));
    }
    config.keys_dir = absolute_from(folder, keys);
  }
  document->require("node");
  for (TomlTable& table : document->tables("node")) {
    NodeConfig node = read_node(table, folder);
    check_overlap(table, node, config.nodes);
    if (config.nodes.size() == kNodesMax) table.fail("id", fmt::format("more than {} nodes", kNodesMax));
    config.nodes.push_back(std::move(node));
    if (config.nodes.size() > kNodesMax) break;
  }
  if (auto tuning = document->table("tuning")) read_tuning(*tuning, config.tuning);
  if (auto metrics = document->table("metrics")) read_metrics(*metrics, config.nodes, config.metrics);
  if (auto scheduler = document->table("scheduler")) read_scheduler(*scheduler, config.tuning);
  if (config.nodes.empty()) document->fail("node", "there is no [[node]]");
  if (const Status status = document->finish(); !status) return status.error();
  std::sort(config.nodes.begin(), config.nodes.end(), [](const NodeConfig& a, const NodeConfig& b) { return a.id < b.id; });
  return config;
}

std::string ClusterConfig::to_toml() const {
  std::string text = fmt::format("[cluster]\nid = {}\nkeys = {}\n", quoted(id), quoted(keys_dir.string()));
  for (const NodeConfig& node : nodes) {
    text += fmt::format("\n[[node]]\nid = {}\nhost = {}\n", node.id.value, quoted(node.host));
    if (!node.bind.empty()) text += fmt::format("bind = {}\n", quoted(node.bind));
    text += fmt::format("port = {}\ndata_dir = {}\n", node.base_port, quoted(node.data_dir.string()));
  }
  text += "\n[tuning]\n";
  text += fmt::format("replication = {}\nslots = {}\n", tuning.replication, tuning.slots);
  text += fmt::format("executor_memory = {}\nblock_cache = {}\n", exact(tuning.executor_memory_bytes),
                      exact(tuning.block_cache_bytes));
  text += fmt::format("input_cache = {}\ndisk_reserve = {}\n", exact(tuning.input_cache_bytes), exact(tuning.disk_reserve_bytes));
  text += fmt::format("prefetch_models = {}\n", tuning.prefetch_models);
  text += fmt::format("heartbeat_interval = {}\ndead_after = {}\n", exact(tuning.heartbeat_interval), exact(tuning.dead_after));
  text += fmt::format("batch_timeout = {}\nlease_horizon = {}\n", exact(tuning.batch_timeout), exact(tuning.lease_horizon));
  text += fmt::format("attempts_max = {}\nlog_file_size = {}\n", tuning.attempts_max, exact(tuning.log_file_bytes));
  text += fmt::format("log_files = {}\nversions_max = {}\n", tuning.log_files, tuning.versions_max);
  text += fmt::format("log_file_age = {}\nlog_tail = {}\n", exact(tuning.log_file_age), exact(tuning.log_tail_bytes));
  text += fmt::format("log_heartbeat = {}\nelection_timeout_min = {}\n", exact(tuning.log_heartbeat),
                      exact(tuning.election_timeout_min));
  text += fmt::format("election_timeout_max = {}\nvoter_replace_after = {}\n", exact(tuning.election_timeout_max),
                      exact(tuning.voter_replace_after));
  text += fmt::format("probe_interval = {}\nscrub_rate = {}\n", exact(tuning.probe_interval), exact(tuning.scrub_bytes_per_s));
  text += fmt::format("\n[metrics]\nlisten = \"{}\"\n", !metrics.on         ? "off"
                                                        : metrics.port == 0 ? "on"
                                                                            : std::to_string(metrics.port));
  text += fmt::format("\n[scheduler]\npolicy = \"{}\"\n", to_string(tuning.policy));
  text += fmt::format("split_period = {}\nreload_lag = {}\n", exact(tuning.split_period), exact(tuning.reload_lag));
  return text;
}

Status ClusterConfig::set_tuning(const std::string& assignment) {
  const auto equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  const bool plain = !key.empty() && key.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos;
  if (equals == std::string::npos || !plain) {
    return Error{Errc::invalid, fmt::format("\"{}\" is not of the form KEY=VALUE, like disk_reserve=16M", assignment)};
  }
  // Counts are numbers in a file, sizes and durations are texts.
  const std::string value = assignment.substr(equals + 1);
  const bool number = !value.empty() && value.size() < 19 && value.find_first_not_of("0123456789") == std::string::npos;
  auto table = TomlTable::parse(fmt::format("{} = {}\n", key, number ? value : quoted(value)), assignment);
  if (!table) return table.error();
  Tuning changed = tuning;
  read_tuning(*table, changed);
  read_scheduler(*table, changed);  // its keys have other names
  if (const Status status = table->finish(); !status) return status;
  tuning = changed;
  return {};
}

const NodeConfig* ClusterConfig::node(NodeId wanted) const {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [&](const NodeConfig& node) { return node.id == wanted; });
  return found == nodes.end() ? nullptr : &*found;
}

std::string ClusterConfig::metrics_address(const NodeConfig& node) const {
  if (!metrics.on) return "";
  return fmt::format("{}:{}", node.bind.empty() ? node.host : node.bind,
                     metrics.port != 0 ? metrics.port : node.base_port + kMetricsPort);
}

std::vector<NodeId> ClusterConfig::log_nodes() const {
  std::vector<NodeId> ids;
  for (const NodeConfig& node : nodes) {
    if (ids.size() < kLogNodesInConfigMax) ids.push_back(node.id);
  }
  return ids;
}

std::uint64_t ClusterConfig::cluster_hash() const { return hash64(id); }

Result<AddressBook> address_book(const ClusterConfig& config, const AdmittedKeys& admitted) {
  AddressBook book;
  for (const NodeConfig& node : config.nodes) {
    const AdmittedKey* key = admitted.by_name(to_string(node.id));
    if (key == nullptr || key->role != Role::node) {
      return Error{Errc::not_found,
                   fmt::format("there is no key \"{}\" with the role node in {}: make one with `idunno keys gen {} --role node`",
                               to_string(node.id), (config.keys_dir / "admitted.toml").string(), to_string(node.id))};
    }
    book[node.id] = PeerAddress{node.host, node.base_port, key->public_key};
  }
  return book;
}

}  // namespace idunno

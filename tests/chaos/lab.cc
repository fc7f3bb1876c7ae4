#include "tests/chaos/lab.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>
#include <thread>

extern char** environ;  // NOLINT(readability-redundant-declaration)

namespace idunno::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kBasePort = 7400;
constexpr int kTags = 200;

/// A process in a session of its own, its output appended to `output`.
pid_t spawn_shell(const std::string& line, const fs::path& output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  std::string exec = "exec " + line;
  std::string sh = "/bin/sh";
  std::string flag = "-c";
  std::vector<char*> argv{sh.data(), flag.data(), exec.data(), nullptr};
  pid_t child = 0;
  if (posix_spawn(&child, argv[0], &actions, &attributes, argv.data(), environ) != 0) child = 0;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  return child;
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> found;
  std::ifstream in("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  for (pid_t child = 0; in >> child;) found.push_back(child);
  // Children belong to the thread that started them.
  std::error_code error;
  for (const auto& task : fs::directory_iterator("/proc/" + std::to_string(parent) + "/task", error)) {
    std::ifstream more(task.path() / "children");
    for (pid_t child = 0; more >> child;) {
      if (std::find(found.begin(), found.end(), child) == found.end()) found.push_back(child);
    }
  }
  return found;
}

std::vector<fs::path> files_below(const fs::path& folder, const std::string& ending) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    const bool fits = name.size() >= ending.size() && name.compare(name.size() - ending.size(), ending.size(), ending) == 0;
    if (entry.is_regular_file() && fits && entry.file_size() > 0) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::string fake_clock_library() {
  for (const char* folder : {"/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime"}) {
    const fs::path file = fs::path(folder) / "libfaketimeMT.so.1";
    if (fs::exists(file)) return file.string();
  }
  return {};
}

}  // namespace

bool shell(const std::string& line) { return run_program({"/bin/sh", "-c", line}, std::chrono::seconds(30)).exit_code == 0; }

bool Lab::permitted() {
  static const bool yes = geteuid() == 0 && shell("ip netns add idunno-probe") && shell("ip netns del idunno-probe") &&
                          shell("ip link add idunno-pb type bridge") && shell("ip link del idunno-pb") &&
                          shell("iptables -S >/dev/null");
  return yes;
}

Lab::Lab(const Options& options) : options_(options), tag_(1 + static_cast<int>(getpid()) % kTags) {
  write_config();
  make_network();
  expect(0, {"keys", "gen"});
  for (int node = 1; node <= options_.nodes; ++node) {
    fs::create_directories(data_dir(node));
    if (options_.tmpfs_mib > 0) {
      EXPECT_TRUE(shell("mount -t tmpfs -o size=" + std::to_string(options_.tmpfs_mib) + "m tmpfs " + data_dir(node).string()));
    }
    if (options_.fake_clock) jump_clock(node, 0);
  }
}

Lab::~Lab() {
  calm();
  for (int node = 1; node <= options_.nodes; ++node) mend_disk(node);
  if (::testing::Test::HasFailure()) {
    for (int node = 1; node <= options_.nodes; ++node) {
      const std::string log = node_log(node);
      constexpr std::size_t kShown = 3000;
      std::fprintf(stderr, "---- end of n%d's log ----\n%s\n", node,
                   log.substr(log.size() > kShown ? log.size() - kShown : 0).c_str());
    }
  }
  std::vector<int> all;
  for (const auto& [node, pid] : pids_) all.push_back(node);
  kill(all);
  for (int node = 1; node <= options_.nodes; ++node) {
    if (options_.tmpfs_mib > 0) shell("umount -l " + data_dir(node).string());
    shell("ip link del idv" + std::to_string(tag_) + "-" + std::to_string(node));  // else it goes some time after its namespace
    shell("ip netns del " + netns(node));
  }
  shell("ip link del idb" + std::to_string(tag_));
}

// ---- making it --------------------------------------------------------------------------------------------------------

std::string Lab::address(int node) const { return "10.213." + std::to_string(tag_) + "." + std::to_string(node); }
std::string Lab::bridge_address() const { return "10.213." + std::to_string(tag_) + ".254"; }
int Lab::port() const { return kBasePort; }
std::string Lab::netns(int node) const { return "idn" + std::to_string(tag_) + "-" + std::to_string(node); }
fs::path Lab::data_dir(int node) const { return temp_.path() / ("n" + std::to_string(node)); }

void Lab::write_config() const {
  std::ofstream out(config_file());
  out << "[cluster]\nid = \"lab-" << tag_ << "\"\nkeys = \"keys\"\n\n";
  for (int node = 1; node <= options_.nodes; ++node) {
    out << "[[node]]\nid = " << node << "\nhost = \"" << address(node) << "\"\nport = " << kBasePort << "\ndata_dir = \"n" << node
        << "\"\n\n";
  }
  out << "[tuning]\nslots = 1\n";
  for (const std::string& line : options_.tuning) out << line << '\n';
}

void Lab::make_network() const {
  const std::string bridge = "idb" + std::to_string(tag_);
  shell("ip link del " + bridge + " 2>/dev/null");
  EXPECT_TRUE(shell("ip link add " + bridge + " type bridge && ip addr add " + bridge_address() + "/24 dev " + bridge +
                    " && ip link set " + bridge + " up"));
  for (int node = 1; node <= options_.nodes; ++node) {
    const std::string ns = netns(node);
    const std::string veth = "idv" + std::to_string(tag_) + "-" + std::to_string(node);
    shell("ip netns del " + ns + " 2>/dev/null; ip link del " + veth + " 2>/dev/null");
    EXPECT_TRUE(shell("ip netns add " + ns + " && ip link add " + veth + " type veth peer name eth0 netns " + ns +
                      " && ip link set " + veth + " master " + bridge + " up && ip -n " + ns + " addr add " + address(node) +
                      "/24 dev eth0 && ip -n " + ns + " link set eth0 up && ip -n " + ns + " link set lo up"));
  }
}

bool Lab::up() {
  for (int node = 1; node <= options_.nodes; ++node) start(node);
  return eventually([&] { return healthy(); });
}

void Lab::start(int node) {
  if (running(node)) return;
  ended_.erase(node);
  std::string line = "ip netns exec " + netns(node);
  if (options_.fake_clock) {
    // The monotonic clock stays true: only what people see jumps, as when an administrator or NTP sets the time.
    line += " env LD_PRELOAD=" + fake_clock_library() + " FAKETIME_DONT_FAKE_MONOTONIC=1 FAKETIME_CACHE_DURATION=1" +
            " FAKETIME_TIMESTAMP_FILE=" + (temp_.path() / ("clock-" + std::to_string(node))).string();
  }
  line += " " + (bin_dir() / "idunnod").string() + " --config " + config_file().string() + " --node " + std::to_string(node);
  pids_[node] = spawn_shell(line, temp_.path() / ("n" + std::to_string(node) + ".out"));
  EXPECT_GT(pids_[node], 0);
}

bool Lab::running(int node) {
  const auto found = pids_.find(node);
  if (found == pids_.end()) return false;
  int status = 0;
  if (waitpid(found->second, &status, WNOHANG) == 0) return true;
  ended_[node] = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  pids_.erase(found);
  return false;
}

int Lab::exit_code(int node) {
  if (running(node)) return -1;
  const auto found = ended_.find(node);
  return found == ended_.end() ? -1 : found->second;
}

void Lab::signal(int node, int number) {
  const auto found = pids_.find(node);
  if (found == pids_.end()) return;
  const std::vector<pid_t> executors = children_of(found->second);
  ::kill(found->second, number);
  for (const pid_t executor : executors) ::kill(executor, number);
}

void Lab::kill(const std::vector<int>& nodes) {
  std::vector<pid_t> pids;
  for (const int node : nodes) {
    const auto found = pids_.find(node);
    if (found == pids_.end()) continue;
    for (const pid_t child : children_of(found->second)) pids.push_back(child);
    pids.push_back(found->second);
  }
  for (const pid_t pid : pids) ::kill(pid, SIGKILL);
  for (const int node : nodes) {
    const auto found = pids_.find(node);
    if (found == pids_.end()) continue;
    int status = 0;
    waitpid(found->second, &status, 0);
    pids_.erase(found);
  }
}

// ---- the network ------------------------------------------------------------------------------------------------------

void Lab::in_ns(int node, const std::string& command) const {
  EXPECT_TRUE(shell("ip netns exec " + netns(node) + " " + command)) << command;
}

void Lab::cut_one_way(int from, int to) { in_ns(to, "iptables -A INPUT -s " + address(from) + " -j DROP"); }

void Lab::cut(int a, int b) {
  cut_one_way(a, b);
  cut_one_way(b, a);
}

void Lab::isolate(int node) { isolate(std::vector<int>{node}); }

void Lab::isolate(const std::vector<int>& group) {
  const std::set<int> inside(group.begin(), group.end());
  for (const int node : inside) {
    for (int other = 1; other <= options_.nodes; ++other) {
      if (!inside.contains(other)) cut(node, other);
    }
  }
}

void Lab::lose_packets(int node, int percent) {
  const std::string probability = "0." + std::string(percent < 10 ? "0" : "") + std::to_string(percent);
  in_ns(node, "iptables -A INPUT -s 10.213." + std::to_string(tag_) + ".0/25 -m statistic --mode random --probability " +
                  probability + " -j DROP");
}

void Lab::heal() {
  for (int node = 1; node <= options_.nodes; ++node) in_ns(node, "iptables -F");
}

// ---- disks ------------------------------------------------------------------------------------------------------------

void Lab::trace(int node, const std::string& injection) {
  mend_disk(node);
  const auto found = pids_.find(node);
  ASSERT_NE(found, pids_.end());
  const fs::path output = temp_.path() / ("strace-" + std::to_string(node));
  tracers_[node] = spawn_shell("strace -f -qq -p " + std::to_string(found->second) +
                                   " -e trace=fsync,fdatasync -e inject=fsync,fdatasync:" + injection + " -o /dev/null",
                               output);
  // Attached when the kernel says so.
  EXPECT_TRUE(eventually([&] {
    std::ifstream status("/proc/" + std::to_string(found->second) + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("TracerPid:", 0) == 0) return line.find_first_of("123456789") != std::string::npos;
    }
    return true;  // it has ended already
  }));
}

void Lab::slow_disk(int node, int milliseconds) { trace(node, "delay_exit=" + std::to_string(milliseconds * 1000)); }
void Lab::failing_disk(int node) { trace(node, "error=EIO"); }

void Lab::mend_disk(int node) {
  const auto found = tracers_.find(node);
  if (found == tracers_.end()) return;
  ::kill(found->second, SIGTERM);  // strace detaches; the traced process goes on
  int status = 0;
  waitpid(found->second, &status, 0);
  tracers_.erase(found);
}

void Lab::fill_disk(int node) {
  const auto space = fs::space(data_dir(node));
  constexpr std::uintmax_t kLeft = 64U << 10U;
  const std::uintmax_t bytes = space.available > kLeft ? space.available - kLeft : 0;
  EXPECT_TRUE(shell("fallocate -l " + std::to_string(bytes) + " " + (data_dir(node) / "filler").string()));
}

void Lab::free_disk(int node) { fs::remove(data_dir(node) / "filler"); }

void Lab::wipe(int node) {
  EXPECT_FALSE(running(node));
  for (const auto& entry : fs::directory_iterator(data_dir(node))) fs::remove_all(entry.path());
}

int Lab::flip_bits(int node, const std::string& folder, const std::string& ending, int count, unsigned seed) {
  std::vector<fs::path> files = files_below(data_dir(node) / folder, ending);
  std::mt19937 random(seed);
  std::shuffle(files.begin(), files.end(), random);
  int flipped = 0;
  for (const fs::path& file : files) {
    if (flipped == count) break;
    const std::uintmax_t at = random() % fs::file_size(file);
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(static_cast<std::streamoff>(at));
    const int old = bytes.get();
    bytes.seekp(static_cast<std::streamoff>(at));
    bytes.put(static_cast<char>(old ^ (1 << (random() % 8))));
    ++flipped;
  }
  return flipped;
}

bool Lab::cut_log(int node, const std::string& folder, std::uintmax_t bytes) {
  const std::vector<fs::path> logs = files_below(data_dir(node) / folder, ".log");
  if (logs.empty()) return false;
  const std::uintmax_t size = fs::file_size(logs.back());
  fs::resize_file(logs.back(), size > bytes ? size - bytes : 0);
  return true;
}

// ---- time and processors ----------------------------------------------------------------------------------------------

void Lab::jump_clock(int node, int seconds) {
  const fs::path file = temp_.path() / ("clock-" + std::to_string(node));
  const fs::path fresh = file.string() + ".new";
  std::ofstream(fresh) << (seconds >= 0 ? "+" : "") << seconds << "\n";
  fs::rename(fresh, file);
}

void Lab::burn(int processes) {
  for (int i = 0; i < processes; ++i) {
    burners_.push_back(spawn_shell("sh -c 'while :; do :; done'", temp_.path() / "burn"));
  }
}

void Lab::calm() {
  for (const pid_t pid : burners_) {
    ::kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
  }
  burners_.clear();
}

// ---- the user's side --------------------------------------------------------------------------------------------------

CommandResult Lab::idunno(std::vector<std::string> arguments, std::chrono::seconds limit) const {
  std::vector<std::string> all{(bin_dir() / "idunno").string(), "--config", config_file().string()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all, limit);
}

CommandResult Lab::expect(int exit_code, std::vector<std::string> arguments, std::chrono::seconds limit) const {
  std::string line;
  for (const std::string& argument : arguments) line += " " + argument;
  CommandResult result = idunno(std::move(arguments), limit);
  EXPECT_EQ(result.exit_code, exit_code) << "idunno" << line << "\nstdout: " << result.out.substr(0, 2000)
                                         << "\nstderr: " << result.err;
  return result;
}

std::string Lab::submit(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), "submit");
  std::string id = expect(0, std::move(arguments)).out;
  while (!id.empty() && (id.back() == '\n' || id.back() == ' ')) id.pop_back();
  return id;
}

nlohmann::json Lab::job(const std::string& id) const { return idunno({"job", "show", id, "--json"}).json(); }
nlohmann::json Lab::status() const { return idunno({"status", "--json"}).json(); }

bool Lab::healthy() const {
  const nlohmann::json now = status();
  return now.is_object() && now.value("healthy", false);
}

int Lab::coordinator() const {
  const nlohmann::json now = status();
  if (!now.is_object() || !now["coordinator"].is_string()) return 0;
  return std::stoi(now["coordinator"].get<std::string>().substr(1));
}

std::string Lab::node_state(int node) const {
  const nlohmann::json now = status();
  if (!now.is_object()) return {};
  for (const auto& entry : now["nodes"]) {
    if (entry.value("id", "") == "n" + std::to_string(node)) return entry.value("state", "");
  }
  return {};
}

std::string Lab::finish(const std::string& id) const {
  expect(0, {"job", "wait", id, "--timeout", "300s"}, std::chrono::seconds(310));
  expect(0, {"job", "verify", id});
  return job(id).value("result_digest", "");
}

fs::path Lab::make_images(const std::string& name, int count, int side, int seed) const {
  const auto folder = temp_.path() / name;
  expect(0, {"bench", "make-images", folder.string(), "--count", std::to_string(count), "--size", std::to_string(side), "--seed",
             std::to_string(seed)});
  return folder;
}

std::string Lab::node_log(int node) const {
  std::ostringstream text;
  for (const auto& file : {temp_.path() / ("n" + std::to_string(node) + ".out"), data_dir(node) / "log" / "idunnod.log"}) {
    const std::ifstream in(file);
    if (in) text << in.rdbuf();
    text.clear();
  }
  return text.str();
}

std::size_t Lab::times_in_log(int node, const std::string& text) const {
  const std::string log = node_log(node);
  std::size_t times = 0;
  for (std::size_t at = log.find(text); at != std::string::npos; at = log.find(text, at + 1)) ++times;
  return times;
}

}  // namespace idunno::testing
